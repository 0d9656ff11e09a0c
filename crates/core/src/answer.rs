//! What a model answered: text, tokens, confidence.

use crate::id::ModelName;
use serde::{Deserialize, Serialize};

/// Calibrated probability that an answer is right, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confidence(f64);

impl Confidence {
    /// Wraps a probability.
    ///
    /// # Errors
    /// `Data` when `p` is outside [0, 1] or not a number.
    pub fn new(p: f64) -> crate::Result<Self> {
        if (0.0..=1.0).contains(&p) {
            Ok(Self(p))
        } else {
            Err(crate::Error::data(format!("use confidence {p}: it is not in [0, 1]")))
        }
    }

    /// The probability.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Tokens that one answer took, as the provider or the model's own tokeniser counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input_tokens: u64,
    /// The part of `input_tokens` that the provider read from its cache.
    pub cached_input_tokens: u64,
    /// All output tokens, reasoning tokens included.
    pub output_tokens: u64,
    /// True when nobody counted and the numbers are our estimate (a stream that broke off, say).
    pub estimated: bool,
}

impl Usage {
    /// A rough count for text that nobody tokenised: one token per four bytes, the rule of thumb for English.
    #[must_use]
    pub fn estimate(input_bytes: usize, output_bytes: usize) -> Self {
        Self {
            input_tokens: input_bytes.div_ceil(4) as u64,
            cached_input_tokens: 0,
            output_tokens: output_bytes.div_ceil(4) as u64,
            estimated: true,
        }
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was done, or met a stop sequence.
    Stop,
    /// It reached the token limit.
    Length,
    /// It calls tools.
    ToolCalls,
    /// The provider withheld the rest.
    ContentFilter,
    /// A reason of the provider's own.
    #[serde(untagged)]
    Other(String),
}

/// One generated token with its log-probability (natural logarithm) and the likeliest alternatives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token's bytes; a token may end inside a UTF-8 character.
    pub bytes: Vec<u8>,
    /// ln p, ≤ 0.
    pub logprob: f32,
    /// Alternatives, likeliest first: bytes and ln p.
    pub top: Vec<(Vec<u8>, f32)>,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The model that answered, by its own name for itself.
    pub model: ModelName,
    /// The text; empty when the answer is only tool calls.
    pub text: String,
    /// For a classifier, the label in the task's vocabulary.
    pub label: Option<String>,
    /// Calibrated P(right), where the model has one.
    pub confidence: Option<Confidence>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens in and out.
    pub usage: Usage,
    /// Per-token log-probabilities, when asked for and known.
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// The answer in the provider's own JSON, to be passed on unchanged.
    pub wire: Option<bytes::Bytes>,
}

impl Answer {
    /// A plain text answer that ended by itself.
    pub fn text(model: ModelName, text: impl Into<String>, usage: Usage) -> Self {
        Self {
            model,
            text: text.into(),
            label: None,
            confidence: None,
            finish: FinishReason::Stop,
            usage,
            logprobs: None,
            wire: None,
        }
    }
}
