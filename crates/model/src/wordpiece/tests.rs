use super::*;
use proptest::prelude::*;
use std::{io::Read, path::PathBuf};

/// A small vocabulary of the kind; MiniLM's own where it is installed.
fn small() -> Value {
    let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "the", "a", "##b", "##c", "ab", "abc", "##abc",
        ",", ".", "'", "!", "-", "#", "[", "]", "don", "t", "é", "##e", "e", "1", "##2", "日", "##本", "ß", "##s", "s",
    ];
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let special = |id: usize| {
        serde_json::json!({"id": id, "content": words[id], "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false})
    };
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": (0..4).map(special).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 10, "vocab": vocab}
    })
}

fn pieces(file: &Value) -> Pieces {
    Pieces::from_bytes(file.to_string().as_bytes()).unwrap()
}

fn both(pieces: &Pieces, text: &str) -> (Vec<u32>, Vec<u32>) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    pieces.ids(text, &mut ours).unwrap();
    pieces.whole(text, &mut theirs).unwrap();
    (ours, theirs)
}

#[test]
fn tokens_equal_those_of_the_crate_on_the_corners() {
    let mut cased = small();
    cased["normalizer"]["lowercase"] = false.into();
    for file in [small(), cased] {
        let pieces = pieces(&file);
        assert!(pieces.is_fast());
        for text in [
            "",
            " ",
            "unaffable",
            "UNAFFABLE the,the",
            "abcabc ab.c",
            "a\u{0}b a\u{7f}c a\u{b}b\u{c}c",
            "a\tb\nc\rd",
            "don't",
            "don’t Don’T",
            "aaaaaaaaaab",
            "aaaaaaaaaa",
            "[SEP]",
            "a [UNK] b",
            "[ SEP]",
            "日本 日本a",
            "É é e\u{301}",
            "a\u{a0}b",
            "ß SS",
            "\u{fffd}a",
            "1 12 1-2",
            "a\u{200b}b",
            "\u{1f600}",
            "İ i̇",
            "ab\u{85}c",
            "##abc # #",
            "x",
        ] {
            let (ours, theirs) = both(&pieces, text);
            assert_eq!(ours, theirs, "{text:?}");
        }
    }
}

#[test]
fn files_of_another_kind_are_left_to_the_crate() {
    let change = |path: &str, value: Value| {
        let mut file = small();
        *file.pointer_mut(path).unwrap() = value;
        pieces(&file)
    };
    for (path, value) in [
        ("/normalizer/clean_text", Value::from(false)),
        ("/normalizer", Value::Null),
        ("/pre_tokenizer", serde_json::json!({"type": "Whitespace"})),
        ("/model/continuing_subword_prefix", Value::from("@@")),
        ("/added_tokens/3/lstrip", Value::from(true)),
    ] {
        let pieces = change(path, value);
        assert!(!pieces.is_fast(), "{path}");
        let (ours, theirs) = both(&pieces, "Unaffable the, abc");
        assert_eq!(ours, theirs);
    }
}

proptest! {
    #[test]
    fn tokens_equal_those_of_the_crate_on_any_text(text in "\\PC{0,40}", ascii in "[ -~\\t\\n\\x00-\\x1f]{0,60}", near in "[a-cA-Cun,' éÉ日本ß\\[\\]SEP#]{0,40}") {
        let pieces = pieces(&small());
        for text in [text.as_str(), &ascii, &near, &format!("{near}{ascii}{text}")] {
            let (ours, theirs) = both(&pieces, text);
            prop_assert_eq!(ours, theirs, "{:?}", text);
        }
    }
}

/// Every text of the classification data sets, with MiniLM's own vocabulary.
#[test]
fn tokens_equal_those_of_the_crate_on_real_texts() {
    #[expect(clippy::disallowed_methods, reason = "tests find the data folder by the environment")]
    let data = std::env::var("UNDERSTUDY_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").to_owned());
    #[expect(clippy::disallowed_methods, reason = "tests find installed models as the command line does")]
    let home = std::env::var("HOME").unwrap_or_default();
    let tokenizer = Path::new(&home).join(".understudy/models/minilm/tokenizer.json");
    let data = Path::new(&data).join("classification");
    if !tokenizer.exists() || !data.exists() {
        println!("skipped: needs an installed minilm and the classification data");
        return;
    }
    let pieces = Pieces::load(&tokenizer).unwrap();
    assert!(pieces.is_fast());
    let files = std::fs::read_dir(data).unwrap().flat_map(|set| std::fs::read_dir(set.unwrap().path()).unwrap());
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut texts = 0;
    for file in files {
        let mut raw = Vec::new();
        match file.extension().and_then(|e| e.to_str()) {
            Some("zst") => {
                zstd::Decoder::new(std::fs::File::open(&file).unwrap()).unwrap().read_to_end(&mut raw).unwrap();
            }
            Some("jsonl") => raw = std::fs::read(&file).unwrap(),
            _ => continue,
        }
        // Every fourth row keeps the test short; the seams between rows do not matter.
        for line in raw.split(|b| *b == b'\n').filter(|line| !line.is_empty()).step_by(4) {
            let row: Value = serde_json::from_slice(line).unwrap();
            for text in row.as_object().unwrap().values().filter_map(Value::as_str) {
                let head: String = text.chars().take(400).collect();
                let (ours, theirs) = both(&pieces, &head);
                assert_eq!(ours, theirs, "{}: {head:?}", file.display());
                texts += 1;
            }
        }
    }
    assert!(texts > 10_000, "{texts}");
}

#[test]
fn ids_with_gaps_leave_room_for_the_largest() {
    let mut file = small();
    file["model"]["vocab"]["##s"] = 99.into();
    let pieces = pieces(&file);
    let (ours, theirs) = both(&pieces, "ßs");
    assert_eq!((&ours, ours.iter().max()), (&theirs, Some(&99)));
    assert_eq!(pieces.vocabulary(), 100);
}
