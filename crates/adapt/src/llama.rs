//! Fine-tunes generative models of the Llama family (Llama, SmolLM, Qwen2, Mistral) with low-rank adapters.
//!
//! Weights come from a GGUF file or from safetensors; they stay frozen, so that only activations and the adapters'
//! gradients are kept. The loss counts the answer's tokens alone. What comes out is an adapter, as PEFT and as llama.cpp
//! read it. Forward and backward are written by hand over `understudy_kernels::train`; like the encoders' training it is
//! a function of base, data, parameters and seed, whatever the number of threads and however often the run was killed.

mod agreement;
mod artifact;
mod batch;
mod card;
mod config;
mod dense;
#[cfg(feature = "candle")]
mod elsewhere;
mod fidelity;
mod gguf;
mod gguf_write;
mod importance;
mod learner;
mod lora;
mod merge;
mod network;
mod params;
mod pass;
mod peft;
mod save;
mod tokenizer;
mod weights;

pub use agreement::Agreement;
pub use artifact::{NewAdapted, Weights as NewWeights, write};
pub use batch::{Batch, Example};
pub use config::LlamaConfig;
pub use fidelity::{Fidelity, Reference};
pub use learner::fit;
pub use lora::{LlamaLora, LlamaTarget};
pub use merge::Numbers;
pub use network::LlamaNetwork;
pub use params::{CheckedLlamaParams, LlamaParams};
pub use pass::Pass;
pub use tokenizer::{same_tokens, same_tokens_as, tokenizer_files, write_tokenizer};
pub use weights::Weights;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod exchange_tests;

#[cfg(test)]
mod sharing_tests;
