//! What the tensors of a layer are called, and which of them a distance between tokens reads.

use super::config::Architecture;

/// Tensor names of one architecture's layers.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// What precedes a layer's number.
    pub layer: &'static str,
    /// Queries, keys, values.
    pub qkv: [&'static str; 3],
    /// The projection after attention.
    pub attended: &'static str,
    /// The norm after it.
    pub attention_norm: &'static str,
    /// The wide half of the feed-forward part.
    pub inner: &'static str,
    /// The other half.
    pub outer: &'static str,
    /// The norm after it.
    pub output_norm: &'static str,
}

impl Architecture {
    /// The tensor names of its layers.
    #[must_use]
    pub const fn names(self) -> Names {
        let bert = Names {
            layer: "encoder.layer",
            qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
            attended: "attention.output.dense",
            attention_norm: "attention.output.LayerNorm",
            inner: "intermediate.dense",
            outer: "output.dense",
            output_norm: "output.LayerNorm",
        };
        match self {
            Self::Bert => bert,
            Self::Mpnet => Names {
                qkv: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
                attended: "attention.attn.o",
                attention_norm: "attention.LayerNorm",
                ..bert
            },
            Self::DistilBert => Names {
                layer: "transformer.layer",
                qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
                attended: "attention.out_lin",
                attention_norm: "sa_layer_norm",
                inner: "ffn.lin1",
                outer: "ffn.lin2",
                output_norm: "output_layer_norm",
            },
        }
    }
}

/// The bucket of a distance (key position − query position): half of the buckets for each direction, one for each small
/// distance, then logarithmically wider ones up to 128 (T5, arXiv 1910.10683, as MPNet uses it).
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "distances are below a few thousand; f32 as in the model's training code, so that buckets agree"
)]
#[must_use]
pub fn relative_bucket(distance: isize, buckets: usize) -> usize {
    const FARTHEST: f32 = 128.0;
    let half = buckets / 2;
    let direction = if distance > 0 { half } else { 0 };
    let distance = distance.unsigned_abs();
    let exact = half / 2;
    if distance < exact {
        return direction + distance;
    }
    let place = (distance as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln() * (half - exact) as f32;
    direction + (exact + place as usize).min(half - 1)
}
