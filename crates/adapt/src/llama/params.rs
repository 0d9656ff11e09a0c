//! How to fine-tune.

use crate::finetune::{Pace, Schedule, at_least_zero, positive};
use serde::{Deserialize, Serialize};
use understudy_core::Result;

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
        self.pace().check(&[
            ("rate", positive(self.rate), "it must be a positive number"),
            ("weight_decay", at_least_zero(self.weight_decay), "it must not be negative"),
            ("clip", at_least_zero(self.clip), "it must not be negative"),
        ])?;
        Ok(CheckedLlamaParams(self))
    }

    pub(crate) fn pace(&self) -> Pace {
        let Self { epochs, batch, pass_tokens, warmup, schedule, patience, seconds, .. } = *self;
        Pace { epochs, batch, pass_tokens, warmup, schedule, patience, seconds }
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
