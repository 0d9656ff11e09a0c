//! Makes a small model good at a task: reads examples, splits them by content, fits a head on frozen embeddings,
//! calibrates it and writes the artifact that `model` reads.
//!
//! Embeddings arrive as numbers: this crate runs no encoder, serves nothing and reads no clock.

pub mod artifact;
mod cross_fit;
pub mod head;
pub mod matrix;
pub mod metrics;
pub mod online;
pub mod rejection;
mod softmax;
pub mod split;
pub mod table;
mod temperature;
pub mod words;
