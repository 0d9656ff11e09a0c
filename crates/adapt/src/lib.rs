//! Makes a small model good at a task: reads examples, splits them by content, fits a head on frozen embeddings or
//! fine-tunes the encoder, calibrates it and writes the artifact that `model` reads. Generative models get adapters.
//!
//! Texts arrive as numbers (embeddings, token ids): this crate runs no tokeniser, serves nothing and reads no clock.

pub mod artifact;
pub mod bias;
pub mod card;
pub mod compare;
mod cross_fit;
pub mod device;
pub mod encoder;
pub mod entities;
pub mod finetune;
pub mod head;
pub mod llama;
mod logits;
mod lora;
pub mod matrix;
pub mod metrics;
pub mod multilabel;
pub mod online;
pub mod prune;
pub mod quantize;
pub mod recipe;
pub mod regression;
pub mod rejection;
mod softmax;
pub mod split;
pub mod spread;
pub mod table;
mod temperature;
mod tensors;
pub mod words;

#[cfg(test)]
mod tests;
