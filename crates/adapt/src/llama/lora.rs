//! Low-rank adapters (Hu et al., arXiv 2106.09685) of generative models.

use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result};

/// A linear layer that gets an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LlamaTarget {
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// The projection after attention.
    Output,
    /// Gates of the feed-forward part.
    Gate,
    /// What the gates let through.
    Up,
    /// The way back.
    Down,
}

impl LlamaTarget {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// The layer's name in GGUF and in Hugging Face's layout.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Query => ("attn_q", "self_attn.q_proj"),
            Self::Key => ("attn_k", "self_attn.k_proj"),
            Self::Value => ("attn_v", "self_attn.v_proj"),
            Self::Output => ("attn_output", "self_attn.o_proj"),
            Self::Gate => ("ffn_gate", "mlp.gate_proj"),
            Self::Up => ("ffn_up", "mlp.up_proj"),
            Self::Down => ("ffn_down", "mlp.down_proj"),
        }
    }
}

/// How to adapt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlamaLora {
    /// Rows of A.
    pub rank: usize,
    /// The adapter counts α / rank times.
    pub alpha: f64,
    /// What is adapted.
    pub targets: Vec<LlamaTarget>,
}

impl Default for LlamaLora {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, targets: LlamaTarget::ALL.to_vec() }
    }
}

impl LlamaLora {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &str, what: &str| {
            Err(Error::invalid(format!("use LoRA parameter `{field}`: {what}")).with_param(field))
        };
        if self.rank == 0 || self.rank > 1024 {
            return wrong("rank", "it must be 1 to 1024");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return wrong("alpha", "it must be a positive number");
        }
        let mut targets = self.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() || targets.len() < self.targets.len() {
            return wrong("targets", "it must name at least one layer, and each once");
        }
        Ok(())
    }

    /// What the adapter's product is multiplied with.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a factor of the order of 1")]
    pub fn scale(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }
}
