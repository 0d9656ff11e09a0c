//! Kernels for training: products in all three directions, layer and RMS norm, GELU, SwiGLU, rotary positions, attention
//! (to both sides and causal), dropout, losses and the optimiser, forward and backward, on plain row-major slices.
//!
//! Unlike the kernels that serve, these spread over the threads of the rayon pool they are called in. Work is cut into
//! blocks whose size depends on the data alone, and partial sums are added in the order of the blocks, so that the
//! result is the same to the last bit with any number of threads. Called by `adapt`.

mod activation;
mod adamw;
mod attention;
mod causal;
mod contrast;
mod dropout;
mod embedding;
mod loss;
mod norm;
mod panels;
mod product;
mod rms;
mod rotary;
mod sums;
mod swiglu;

pub use activation::{gelu_backward, gelu_forward, tanh_backward};
pub use adamw::{AdamW, Moments, sum_of_squares};
pub use attention::{AttentionGrad, AttentionTrain};
pub use causal::CausalAttention;
pub use contrast::supervised_contrast;
pub use dropout::Dropout;
pub use embedding::{gather_rows, scatter_add_rows};
pub use loss::{
    Loss, binary_cross_entropy, cross_entropy, cross_entropy_to_shares, kl_to_teacher, shares_weight, squared_error,
};
pub use norm::{NormBackward, NormForward};
pub use product::{Mat, Output, Packed, ProductOptions, Right, product};
pub use rms::{rms_backward, rms_forward, scale_columns};
pub use rotary::{Direction, Rotary};
pub use sums::{add_column_sums, add_scaled, axpy};
pub use swiglu::{swiglu_backward, swiglu_forward};

/// Rows that one thread works on at a time. A constant, so that sums over rows are always added in the same order.
pub(crate) const ROWS: usize = 64;
