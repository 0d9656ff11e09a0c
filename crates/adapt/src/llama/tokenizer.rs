//! Tokenisers between GGUF and Hugging Face's `tokenizer.json`: are two the same, and one written as the other.

use crate::llama::gguf::Gguf;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use understudy_core::{Error, Result};

/// Kinds of tokens in GGUF.
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// A tokeniser's tokens by id, and the order in which pieces are joined.
struct Tokens {
    by_id: BTreeMap<usize, String>,
    merges: Option<Vec<String>>,
}

fn of_gguf(path: &Path) -> Result<Tokens> {
    let mut file = Gguf::open(path)?;
    let tokens = file.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    let kinds = file.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    if tokens.is_empty() {
        return Err(Error::data(format!("read {}: it has no tokeniser", path.display())));
    }
    let used = |(id, _): &(usize, String)| kinds.get(*id).is_none_or(|kind| *kind != UNUSED);
    let by_id = tokens.into_iter().enumerate().filter(used).filter(|(_, token)| !token.starts_with("[PAD"));
    Ok(Tokens { by_id: by_id.collect(), merges: file.texts("tokenizer.ggml.merges")? })
}

fn of_json(bytes: &[u8]) -> Result<Tokens> {
    let wrong = |what: &str| Error::data(format!("read tokenizer.json: {what}"));
    let json: Value = serde_json::from_slice(bytes).map_err(|e| wrong(&e.to_string()))?;
    let vocabulary = json["model"]["vocab"].as_object().ok_or_else(|| wrong("only the kind BPE is supported"))?;
    let id = |value: &Value| value.as_u64().and_then(|id| usize::try_from(id).ok());
    let mut by_id: BTreeMap<usize, String> =
        vocabulary.iter().filter_map(|(token, at)| id(at).map(|at| (at, token.clone()))).collect();
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        if let (Some(at), Some(token)) = (id(&added["id"]), added["content"].as_str()) {
            by_id.insert(at, token.to_owned());
        }
    }
    let merge = |value: &Value| match value {
        Value::Array(pair) => Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        value => value.as_str().map(str::to_owned),
    };
    let merges = json["model"]["merges"].as_array().map(|merges| merges.iter().filter_map(merge).collect());
    Ok(Tokens { by_id, merges })
}

fn compare(base: &Tokens, other: &Tokens) -> Result<()> {
    let ids = base.by_id.keys().chain(other.by_id.keys()).copied().collect::<std::collections::BTreeSet<_>>();
    let differ = |id: &usize| {
        base.by_id.get(id) != other.by_id.get(id) && other.by_id.get(id).is_none_or(|token| !padding(token))
    };
    let different: Vec<usize> = ids.into_iter().filter(differ).collect();
    if let Some(first) = different.first() {
        let shown =
            |tokens: &Tokens| tokens.by_id.get(first).map_or("nothing".to_owned(), |token| format!("{token:?}"));
        return Err(Error::data(format!(
            "compare the tokenisers: {} tokens differ, the first is {first}: {} in the base, {} here; it is of another base, \
             or was given tokens of its own",
            different.len(),
            shown(base),
            shown(other)
        )));
    }
    match (&base.merges, &other.merges) {
        (Some(a), Some(b)) if a != b => Err(Error::data(
            "compare the tokenisers: the same tokens, but joined in another order; it is of another base",
        )),
        _ => Ok(()),
    }
}

/// Tokens that fill a table up.
fn padding(token: &str) -> bool {
    token.starts_with("[PAD") || token.starts_with("<unused")
}

/// Checks that a `tokenizer.json` is the tokeniser of a GGUF file: the same text for every id, joined in the same order.
///
/// # Errors
/// `Data`, with the first token that differs.
pub fn same_tokens(base: &Path, tokenizer_json: &[u8]) -> Result<()> {
    compare(&of_gguf(base)?, &of_json(tokenizer_json)?)
}

/// Checks that two GGUF files have the same tokeniser.
///
/// # Errors
/// As [`same_tokens`].
pub fn same_tokens_as(base: &Path, other: &Path) -> Result<()> {
    compare(&of_gguf(base)?, &of_gguf(other)?)
}

/// Writes [`tokenizer_files`] beside a model's other files.
///
/// # Errors
/// As [`tokenizer_files`]; `Data` too when writing fails.
pub fn write_tokenizer(gguf: &Path, folder: &Path) -> Result<()> {
    for (name, bytes) in tokenizer_files(gguf)? {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|e| Error::data(format!("write {}: {e}", path.display())))?;
    }
    Ok(())
}

/// `tokenizer.json` and `tokenizer_config.json` (with the chat template) for Hugging Face's libraries, by name.
///
/// # Errors
/// `Invalid` when the file's tokeniser is of a kind that is not known here; `Data` when reading fails.
pub fn tokenizer_files(gguf: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut file = Gguf::open(gguf)?;
    let kind = file.text("tokenizer.ggml.model")?.to_owned();
    let pre = file.text("tokenizer.ggml.pre").unwrap_or("default").to_owned();
    let splitting = splitting(&pre).filter(|_| kind == "gpt2").ok_or_else(|| {
        Error::invalid(format!(
            "write tokenizer.json: a tokeniser of the kind `{kind}`, `{pre}` is not known here; take the base's own from \
             where it was published"
        ))
    })?;
    let tokens = file.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    let kinds = file.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let merges = file.texts("tokenizer.ggml.merges")?.unwrap_or_default();
    let (mut vocabulary, mut added) = (Map::new(), Vec::new());
    for (id, token) in tokens.iter().enumerate() {
        let kind = kinds.get(id).copied().unwrap_or(1);
        if kind == UNUSED || token.starts_with("[PAD") {
            continue;
        }
        vocabulary.insert(token.clone(), json!(id));
        if [CONTROL, USER_DEFINED].contains(&kind) {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == CONTROL,
            }));
        }
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": splitting.normalizer, "pre_tokenizer": splitting.pre_tokenizer,
        "post_processor": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": splitting.ignore_merges, "vocab": vocabulary, "merges": merges,
        },
    });
    let mut config = Map::new();
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    for (name, key) in [("bos_token", "bos_token_id"), ("eos_token", "eos_token_id"), ("pad_token", "padding_token_id")]
    {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index; casts saturate")]
        let id = file.number(&format!("tokenizer.ggml.{key}")).ok().map(|id| id as usize);
        if let Some(token) = id.and_then(|id| tokens.get(id)) {
            config.insert(name.to_owned(), json!(token));
        }
    }
    if let Ok(template) = file.text("tokenizer.chat_template") {
        config.insert("chat_template".to_owned(), json!(template));
    }
    let file = |name: &str, value: &Value| (name.to_owned(), format!("{value:#}\n").into_bytes());
    Ok([file("tokenizer.json", &json), file("tokenizer_config.json", &Value::Object(config))].into())
}

/// How a text is cut before pieces are joined.
struct Splitting {
    normalizer: Value,
    pre_tokenizer: Value,
    ignore_merges: bool,
}

/// By llama.cpp's name of it (`tokenizer.ggml.pre`).
fn splitting(pre: &str) -> Option<Splitting> {
    let byte_level =
        |regex| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let split = |digits: &str| {
        let words = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        let split = json!({"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    };
    let plain = |pre_tokenizer| Splitting { normalizer: Value::Null, pre_tokenizer, ignore_merges: false };
    Some(match pre {
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            plain(json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]}))
        }
        "qwen2" => Splitting { normalizer: json!({"type": "NFC"}), ..plain(split(r"\p{N}")) },
        "llama-bpe" => Splitting { ignore_merges: true, ..plain(split(r"\p{N}{1,3}")) },
        "gpt-2" => plain(byte_level(true)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::tests::installed;
    use understudy_model::generate::ChatTokens;

    #[test]
    fn a_written_tokeniser_cuts_texts_as_llama_cpp_does() {
        let Some(gguf) = installed() else {
            println!("skipped: no model; `understudy pull smollm2` installs it");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(&gguf, folder.path()).unwrap();
        let json = std::fs::read(folder.path().join("tokenizer.json")).unwrap();
        same_tokens(&gguf, &json).unwrap();
        same_tokens_as(&gguf, &gguf).unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        let ours = ChatTokens::load(&gguf).unwrap();
        for text in [
            "Add Für Elise (1810) to my list,  please!\n\n\tThanks… 🎵",
            "{\"intent\": \"PlayMusic\", \"year\": 2017}",
            "I'll don't WE'VE x=3.14159 naïve 東京 Ελλάδα",
            "  leading and trailing  ",
        ] {
            let mut expected = ours.answer(text);
            expected.pop();
            assert_eq!(theirs.encode(text, false).unwrap().get_ids(), expected, "{text}");
        }
        // Another tokeniser is told apart.
        let changed = String::from_utf8(json).unwrap().replacen("\"Ġthe\"", "\"Ġthee\"", 1);
        assert!(same_tokens(&gguf, changed.as_bytes()).unwrap_err().to_string().contains("tokens differ"));
        assert!(same_tokens(&gguf, b"{}").is_err());
    }
}
