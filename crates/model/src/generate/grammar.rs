//! Constrained output: a JSON Schema or a GBNF grammar becomes a filter over tokens.
//!
//! Grammars come from clients, and llama.cpp's grammar code recurses and ends the process on states that it holds
//! impossible. So size and nesting are limited before it sees a grammar, and a token is only ever accepted after it
//! was found allowed.

use llama_cpp_2::{
    model::LlamaModel,
    sampling::LlamaSampler,
    token::{LlamaToken, data::LlamaTokenData, data_array::LlamaTokenDataArray},
};
use std::sync::Arc;
use understudy_core::{Error, Result, request::OutputFormat};

/// Largest grammar in bytes, given or made from a schema.
const MAX_BYTES: usize = 256 * 1024;
/// Most rules of a grammar: llama.cpp looks for left recursion by recursion over the rules.
const MAX_RULES: usize = 2_000;
/// Deepest nesting of groups: llama.cpp's parser recurses over them.
const MAX_DEPTH: usize = 64;

/// Tokens that constrained output never contains although their text might fit the grammar: control tokens print as
/// nothing, so `<|im_start|>` inside a JSON string would be lost from the answer.
#[derive(Debug, Clone)]
pub(super) struct Forbidden(Arc<[bool]>);

impl Forbidden {
    /// Reads the vocabulary.
    pub(super) fn of(model: &LlamaModel) -> Self {
        let vocab = model.vocab();
        Self(vocab.tokens().map(|token| vocab.is_control(token) && !vocab.is_eog(token)).collect())
    }
}

/// A grammar and how far the answer has come in it.
#[derive(Debug)]
pub(super) struct Constraint {
    grammar: LlamaSampler,
    forbidden: Forbidden,
}

impl Constraint {
    /// Compiles what the request asks for; `None` for free text. Costs milliseconds: not for the engine's thread.
    ///
    /// # Errors
    /// `Invalid` when the schema or the grammar is broken, or too large.
    pub(super) fn compile(model: &LlamaModel, forbidden: &Forbidden, format: &OutputFormat) -> Result<Option<Self>> {
        let (text, param) = match format {
            // Texts to choose among are read, not written.
            OutputFormat::Text | OutputFormat::OneOf(_) => return Ok(None),
            OutputFormat::JsonObject => (from_schema(&serde_json::json!({"type": "object"}))?, "response_format"),
            OutputFormat::JsonSchema(schema) => (from_schema(schema)?, "response_format"),
            OutputFormat::Grammar(text) => (text.clone(), "grammar"),
        };
        check(&text).map_err(|e| e.with_param(param))?;
        let grammar = LlamaSampler::grammar(model, &text, "root").map_err(|_| {
            Error::invalid(
                "compile the grammar: llama.cpp refuses it; check the GBNF syntax, that every rule is defined, \
                 that one is called `root`, and that none is left-recursive",
            )
            .with_param(param)
        })?;
        Ok(Some(Self { grammar, forbidden: forbidden.clone() }))
    }

    /// Whether the answer may go on with this token.
    pub(super) fn allows(&mut self, token: usize) -> bool {
        if self.forbidden.0[token] {
            return false;
        }
        let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(id(token), 0.0, 0.0)], false);
        one.apply_sampler(&mut self.grammar);
        one.data[0].logit() > f32::NEG_INFINITY
    }

    /// The scores with −∞ for every token that may not follow.
    pub(super) fn mask(&mut self, scores: &[f32]) -> Vec<f32> {
        let candidates = scores
            .iter()
            .enumerate()
            .filter(|(token, _)| !self.forbidden.0[*token])
            .map(|(token, &score)| LlamaTokenData::new(id(token), score, 0.0))
            .collect();
        let mut candidates = LlamaTokenDataArray::new(candidates, false);
        candidates.apply_sampler(&mut self.grammar);
        let mut masked = vec![f32::NEG_INFINITY; scores.len()];
        for candidate in &candidates.data {
            if let Ok(token) = usize::try_from(candidate.id().0) {
                masked[token] = candidate.logit();
            }
        }
        masked
    }

    /// Advances by a token that [`Constraint::allows`].
    ///
    /// # Errors
    /// `Internal` when the grammar did not allow it.
    pub(super) fn accept(&mut self, token: usize) -> Result<()> {
        self.grammar
            .try_accept(id(token))
            .map_err(|_| Error::internal("continue the answer: the grammar has no continuation"))
    }
}

fn id(token: usize) -> LlamaToken {
    LlamaToken(i32::try_from(token).expect("a vocabulary's size is an i32"))
}

/// A GBNF grammar of the JSON documents that validate against `schema`. llama.cpp's converter covers types, enums,
/// constants, objects (properties in the schema's order), arrays, unions, references inside the schema, anchored
/// patterns, lengths and integer ranges.
fn from_schema(schema: &serde_json::Value) -> Result<String> {
    let wrong = |why: &str| Error::invalid(format!("read the JSON schema: {why}")).with_param("response_format");
    if !schema.is_object() {
        return Err(wrong("give an object"));
    }
    let text = schema.to_string();
    if text.len() > MAX_BYTES {
        return Err(wrong(&format!("it has {} bytes, the limit is {MAX_BYTES}", text.len())));
    }
    llama_cpp_2::json_schema_to_grammar(&text).map_err(|_| {
        wrong("it is not valid, or uses something that no grammar can express (references to other documents, say)")
    })
}

/// Refuses what would make llama.cpp's recursive parser run out of stack.
fn check(grammar: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::invalid(format!("compile the grammar: {why}")));
    if grammar.len() > MAX_BYTES {
        return refuse(format!("it has {} bytes, the limit is {MAX_BYTES}", grammar.len()));
    }
    if grammar.contains('\0') {
        return refuse("it contains a zero byte".to_owned());
    }
    let rules = grammar.matches("::=").count();
    if rules > MAX_RULES {
        return refuse(format!("it has {rules} rules, the limit is {MAX_RULES}"));
    }
    let bare = bare(grammar);
    let depth = depth(&bare);
    if depth > MAX_DEPTH {
        return refuse(format!("its groups nest {depth} deep, the limit is {MAX_DEPTH}"));
    }
    // llama.cpp counts the optional repetitions as most − least, unsigned: {3,1} would fill all memory.
    for range in bare.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        if let Some((least, most)) = range.split_once(',')
            && let (Ok(least), Ok(most)) = (least.trim().parse::<u64>(), most.trim().parse::<u64>())
            && most < least
        {
            return refuse(format!("repetition {{{range}}} ends before it begins"));
        }
    }
    Ok(())
}

/// The grammar without literals, character classes and comments.
fn bare(grammar: &str) -> String {
    let mut bare = String::new();
    let mut chars = grammar.chars();
    let mut inside = None;
    while let Some(c) = chars.next() {
        match (inside, c) {
            (Some('"' | ']'), '\\') => {
                chars.next();
            }
            (Some(end), c) if c == end => inside = None,
            (Some(_), _) => {}
            (None, '"') => inside = Some('"'),
            (None, '[') => inside = Some(']'),
            (None, '#') => inside = Some('\n'),
            (None, c) => bare.push(c),
        }
    }
    bare
}

/// Deepest nesting of parentheses.
fn depth(bare: &str) -> usize {
    let (mut now, mut most) = (0usize, 0usize);
    for c in bare.chars() {
        match c {
            '(' => {
                now += 1;
                most = most.max(now);
            }
            ')' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_count_as_nesting() {
        assert_eq!(depth(&bare(r#"root ::= ("a" | ("b" [(((]) "((\"((" )) # ((((("#)), 2);
        assert_eq!(depth(&"(".repeat(100)), 100);
    }

    #[test]
    fn grammars_that_would_exhaust_the_parser_are_refused() {
        assert!(check("root ::= \"a\"").is_ok());
        assert!(check(&format!("root ::= {}\"a\"{}", "(".repeat(65), ")".repeat(65))).is_err());
        assert!(check(&"a ::= \"a\"\n".repeat(MAX_RULES + 1)).is_err());
        assert!(check(&"x".repeat(MAX_BYTES + 1)).is_err());
        assert!(check("root ::= \"\0\"").is_err());
        assert!(check("root ::= \"a\"{3,1}").is_err() && check("root ::= \"{3,1}\" \"a\"{ 1 , 3 }").is_ok());
    }

    #[test]
    fn schemas_become_grammars_and_broken_ones_errors() {
        let good = serde_json::json!({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]});
        let grammar = from_schema(&good).expect("valid");
        assert!(grammar.contains("root ::=") && grammar.contains("\\\"x\\\""), "{grammar}");
        for bad in [
            serde_json::json!("string"),
            serde_json::json!({"$ref": "#/definitions/missing"}),
            serde_json::json!({"type": "object", "properties": {"a": {"$ref": "https://example.com/s.json"}}}),
            serde_json::json!({"type": "string", "pattern": "^(a$"}),
            serde_json::json!({"type": "string", "minLength": 3, "maxLength": 1}),
            serde_json::json!({"type": "array", "items": {"type": "null"}, "minItems": 5, "maxItems": 2}),
            serde_json::json!({"type": "string", "pattern": "^a{3,1}$"}),
        ] {
            assert!(from_schema(&bad).and_then(|g| check(&g)).is_err(), "{bad}");
        }
    }
}
