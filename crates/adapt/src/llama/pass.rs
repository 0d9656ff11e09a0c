//! Buffers of one pass.

use crate::llama::dense::Thin;
use crate::llama::importance::Squares;

/// What one layer keeps for its backward pass.
#[derive(Default)]
pub(crate) struct LayerState {
    pub(crate) attention_rows: Vec<f32>,
    pub(crate) attention_scales: Vec<f32>,
    /// Queries and keys rotated.
    pub(crate) qkv: Vec<f32>,
    pub(crate) attended: Vec<f32>,
    pub(crate) feed_rows: Vec<f32>,
    pub(crate) feed_scales: Vec<f32>,
    pub(crate) gate_up: Vec<f32>,
}

/// Buffers that passes of any size share; they grow to the largest.
#[derive(Default)]
pub struct Pass {
    pub(crate) layers: Vec<LayerState>,
    /// The rows between layers; on the way back their gradient.
    pub(crate) stream: Vec<f32>,
    pub(crate) normed: Vec<f32>,
    pub(crate) wide: Vec<f32>,
    pub(crate) wide_grad: Vec<f32>,
    pub(crate) narrow: Vec<f32>,
    pub(crate) thin: Thin,
    pub(crate) picked: Vec<f32>,
    pub(crate) picked_rows: Vec<f32>,
    pub(crate) picked_scales: Vec<f32>,
    pub(crate) picked_normed: Vec<f32>,
    pub(crate) picked_grad: Vec<f32>,
    pub(crate) logits: Vec<f32>,
    pub(crate) logits_grad: Vec<f32>,
    /// What the linear layers read, where it is wanted.
    pub(crate) squares: Option<Squares>,
}
