//! Constrained output: a JSON Schema or a GBNF grammar becomes a filter over tokens.
//!
//! Grammars come from clients, and llama.cpp's code for them trusts them with time, memory and stack, and ends the
//! process on states that it holds impossible. So what they would cost is found and limited before llama.cpp sees them
//! ([`rules`], [`schema`]), and a token is only ever accepted after it was found allowed.

mod rules;
mod schema;

use llama_cpp_2::{
    model::LlamaModel,
    sampling::LlamaSampler,
    token::{LlamaToken, data::LlamaTokenData, data_array::LlamaTokenDataArray},
};
use std::{sync::Arc, time::Duration};
use understudy_core::{Error, Result, request::OutputFormat};

/// Stack of the thread that compiles: llama.cpp recurses over rules and schemas, thousands deep within the limits.
const STACK_BYTES: usize = 64 << 20;

/// One token takes microseconds, with thousands of rules a few milliseconds.
const TOO_LONG: Duration = Duration::from_millis(500);

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
        // Texts to choose among are read, not written.
        if matches!(format, OutputFormat::Text | OutputFormat::OneOf(_)) {
            return Ok(None);
        }
        let grammar = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK_BYTES);
            let compiled = thread.spawn_scoped(scope, || sampler(model, format)).map_err(|e| {
                Error::internal(format!("compile the grammar: the system starts no thread for it ({e})"))
            })?;
            compiled.join().unwrap_or_else(|_| Err(Error::internal("compile the grammar: its thread ended")))
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
    /// `Internal` when the grammar did not allow it. `Invalid` when that took far too long: llama.cpp follows every way in
    /// which an answer can be read, and where each token makes twice as many of them, the next ones would take minutes, on
    /// the thread that all answers share.
    pub(super) fn accept(&mut self, token: usize) -> Result<()> {
        #[expect(clippy::disallowed_methods, reason = "no answer depends on it but one that would never end")]
        let begun = std::time::Instant::now();
        let accepted = self.grammar.try_accept(id(token));
        accepted.map_err(|_| Error::internal("continue the answer: the grammar has no continuation"))?;
        if begun.elapsed() > TOO_LONG {
            return Err(Error::invalid(
                "continue the answer: there are too many ways in which the grammar reads it; write rules that tell by \
                 their beginning which of them is meant",
            )
            .with_param("grammar"));
        }
        Ok(())
    }
}

/// The grammar that a format asks for, compiled.
fn sampler(model: &LlamaModel, format: &OutputFormat) -> Result<LlamaSampler> {
    let any = serde_json::json!({"type": "object"});
    let (text, param) = match format {
        OutputFormat::Grammar(text) => (text.clone(), "grammar"),
        OutputFormat::JsonSchema(schema) => (schema::grammar(schema)?, "response_format"),
        _ => (schema::grammar(&any)?, "response_format"),
    };
    rules::check(&text).map_err(|e| e.with_param(param))?;
    LlamaSampler::grammar(model, &text, "root").map_err(|_| {
        Error::invalid(
            "compile the grammar: llama.cpp refuses it; use tokens that the model has, and let nothing that may be empty \
             be repeated or come before the rule that it is in",
        )
        .with_param(param)
    })
}

fn id(token: usize) -> LlamaToken {
    LlamaToken(i32::try_from(token).expect("a vocabulary's size is an i32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_become_grammars_and_broken_ones_errors() {
        let good = serde_json::json!({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]});
        let grammar = schema::grammar(&good).expect("valid");
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
            assert!(schema::grammar(&bad).and_then(|g| rules::check(&g)).is_err(), "{bad}");
        }
    }
}
