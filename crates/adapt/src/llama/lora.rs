//! Which layers of a generative model get low-rank adapters.

use crate::lora::Lora;
use serde::{Deserialize, Serialize};

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

/// How to adapt a generative model.
pub type LlamaLora = Lora<LlamaTarget>;

impl Default for LlamaLora {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, targets: LlamaTarget::ALL.to_vec() }
    }
}
