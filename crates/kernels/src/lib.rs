//! Tensor maths for small transformer encoders: matrix products on prepacked weights (f32 and int8), attention, layer
//! normalisation, GELU, pooling.
//!
//! The one crate that names the `rten-*` crates; everything it offers is plain slices and `Vec`s, row-major. It picks
//! the instruction set (AVX-512, AVX2, NEON, WASM, scalar) when a kernel runs, contains no unsafe code, knows no model
//! and starts no thread: a kernel runs on the thread that calls it, so that N threads do N times the work. Called by
//! `model` (forward) and `adapt`.
//!
//! Every kernel has a naive reference beside it in its tests, and the tests print the largest difference.

#![cfg_attr(test, expect(clippy::cast_possible_truncation, reason = "the naive references compute in f64"))]

mod activation;
mod attention;
mod gemm;
mod int8;
mod linear;
mod norm;
mod pool;
#[cfg(test)]
mod testing;
pub mod train;

pub use activation::{gelu, softmax_rows, tanh};
pub use attention::{Attention, AttentionScratch, RelativeBias};
pub use int8::instruction_set;
pub use linear::{Activation, Dtype, Linear, LinearScratch};
pub use norm::LayerNorm;
pub use pool::{Pooling, l2_normalize, pool};
