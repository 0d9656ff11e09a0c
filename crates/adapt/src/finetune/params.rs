//! How to fine-tune.

use crate::encoder::Objective;
use crate::finetune::pace::{Pace, at_least_zero, positive, share};
use crate::finetune::schedule::Schedule;
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result};

/// How to fine-tune, unchecked. What is trained at all is the network's choice ([`crate::encoder::Scope`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FinetuneParams {
    /// What is minimised.
    pub objective: Objective,
    /// Most passes over the data.
    pub epochs: usize,
    /// Examples of one step of the optimiser.
    pub batch: usize,
    /// Most tokens that pass through the network together: a batch with more is accumulated over several passes.
    pub pass_tokens: usize,
    /// Highest learning rate of the top layer (and of adapters).
    pub rate: f64,
    /// Highest learning rate of the head.
    pub head_rate: f64,
    /// Each layer learns at this share of the rate of the one above it, in (0, 1].
    pub layer_decay: f64,
    /// Decoupled weight decay; norms and biases have none.
    pub weight_decay: f64,
    /// Share of all steps over which the rate rises from zero.
    pub warmup: f64,
    /// How the rate falls after that.
    pub schedule: Schedule,
    /// The gradient is shortened to this norm; 0 for never.
    pub clip: f64,
    /// Dropout in the encoder.
    pub dropout: f32,
    /// Dropout before the head.
    pub head_dropout: f32,
    /// Decay of an average over the weights of all steps, which is then what is evaluated and kept; 0 for none.
    pub average: f64,
    /// Evaluations on the held-out part without a better one after which training ends; 0 for never.
    pub patience: usize,
    /// Seconds after which training ends, the rate having fallen by then; 0 for no limit. With a limit the result
    /// depends on the machine's speed.
    pub seconds: f64,
}

impl Default for FinetuneParams {
    fn default() -> Self {
        Self {
            objective: Objective::Classes { smoothing: 0.1, weights: Vec::new() },
            epochs: 8,
            batch: 32,
            pass_tokens: 4096,
            rate: 2e-4,
            head_rate: 2e-3,
            layer_decay: 0.8,
            weight_decay: 0.01,
            warmup: 0.06,
            schedule: Schedule::Cosine,
            clip: 1.0,
            dropout: 0.1,
            head_dropout: 0.1,
            average: 0.0,
            patience: 3,
            seconds: 0.0,
        }
    }
}

impl FinetuneParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(self) -> Result<CheckedFinetuneParams> {
        self.pace().check(&[
            ("rate", positive(self.rate), "it must be a positive number"),
            ("head_rate", positive(self.head_rate), "it must be a positive number"),
            ("layer_decay", positive(self.layer_decay) && self.layer_decay <= 1.0, "it must be in (0, 1]"),
            ("weight_decay", at_least_zero(self.weight_decay), "it must not be negative"),
            ("clip", at_least_zero(self.clip), "it must not be negative"),
            ("dropout", share(self.dropout.into()), "it must be in [0, 1)"),
            ("head_dropout", share(self.head_dropout.into()), "it must be in [0, 1)"),
            ("average", share(self.average), "it must be in [0, 1)"),
        ])?;
        let wrong_objective = match &self.objective {
            Objective::Classes { smoothing, weights } => !share(*smoothing) || !weighted(weights),
            Objective::Teacher { temperature } => !positive(*temperature),
            Objective::Labels { weights } => !weighted(weights),
            Objective::Values => false,
            Objective::Contrast { temperature, together } => !positive(*temperature) || *together < 2,
        };
        if wrong_objective {
            let what = "smoothing must be in [0, 1), weights and temperature positive, groups of at least 2";
            return Err(Error::invalid(format!("use training parameter `objective`: {what}")).with_param("objective"));
        }
        Ok(CheckedFinetuneParams(self))
    }

    pub(crate) fn pace(&self) -> Pace {
        let Self { epochs, batch, pass_tokens, warmup, schedule, patience, seconds, .. } = *self;
        Pace { epochs, batch, pass_tokens, warmup, schedule, patience, seconds }
    }
}

fn weighted(weights: &[f32]) -> bool {
    weights.iter().all(|w| w.is_finite() && *w > 0.0)
}

/// Parameters that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedFinetuneParams(pub(crate) FinetuneParams);

impl CheckedFinetuneParams {
    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &FinetuneParams {
        &self.0
    }
}
