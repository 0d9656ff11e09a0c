//! How to fine-tune.

use crate::finetune::Schedule;
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result};

/// How to fine-tune a generative model, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlamaParams {
    /// Most passes over the data.
    pub epochs: usize,
    /// Examples of one step of the optimiser.
    pub batch: usize,
    /// Most tokens that pass through the network together: a batch with more is accumulated over several passes. Memory
    /// grows with it: about 0.7 MB for each token of SmolLM2-135M.
    pub pass_tokens: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Share of all steps over which the rate rises from zero.
    pub warmup: f64,
    /// How the rate falls after that.
    pub schedule: Schedule,
    /// The gradient is shortened to this norm; 0 for never.
    pub clip: f64,
    /// Epochs without a better one on the held-out part after which training ends; 0 for never.
    pub patience: usize,
    /// Seconds after which training ends, the rate having fallen by then; 0 for no limit. With a limit the result
    /// depends on the machine's speed.
    pub seconds: f64,
}

impl Default for LlamaParams {
    fn default() -> Self {
        Self {
            epochs: 2,
            batch: 16,
            pass_tokens: 512,
            rate: 1e-3,
            weight_decay: 0.0,
            warmup: 0.06,
            schedule: Schedule::Cosine,
            clip: 1.0,
            patience: 0,
            seconds: 0.0,
        }
    }
}

impl LlamaParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(self) -> Result<CheckedLlamaParams> {
        let at_least_zero = |x: f64| x.is_finite() && x >= 0.0;
        let checks = [
            ("epochs", self.epochs > 0, "it must be at least 1"),
            ("batch", self.batch > 0, "it must be at least 1"),
            ("pass_tokens", self.pass_tokens > 0, "it must be at least 1"),
            ("rate", self.rate.is_finite() && self.rate > 0.0, "it must be a positive number"),
            ("weight_decay", at_least_zero(self.weight_decay), "it must not be negative"),
            ("warmup", (0.0..1.0).contains(&self.warmup), "it must be in [0, 1)"),
            ("clip", at_least_zero(self.clip), "it must not be negative"),
            ("seconds", at_least_zero(self.seconds), "it must not be negative"),
        ];
        for (field, fine, what) in checks {
            if !fine {
                return Err(Error::invalid(format!("use training parameter `{field}`: {what}")).with_param(field));
            }
        }
        Ok(CheckedLlamaParams(self))
    }
}

/// Parameters that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedLlamaParams(pub(crate) LlamaParams);

impl CheckedLlamaParams {
    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &LlamaParams {
        &self.0
    }
}
