//! Encoders that can be trained: the BERT family's forward and backward pass by hand, over the kernels that also serve.
//!
//! A [`Network`] is an encoder read from a Hugging Face folder, a head, and optionally LoRA adapters. All its numbers
//! lie in one list of named [`Parameter`]s; those that are frozen have no gradient and no optimiser state, and nothing
//! is computed for them. Batches are laid end to end without padding. It knows no optimiser ([`crate::finetune`] does)
//! and no text: token ids come in.

mod backward;
mod batch;
mod body;
#[cfg(feature = "candle")]
mod elsewhere;
mod forward;
mod gates;
mod guide;
mod learn;
mod lora;
mod network;
mod objective;
mod options;
mod parameters;
mod readout;
mod save;
mod second;

pub use batch::{Batch, Example, Target};
#[cfg(test)]
pub(crate) use forward::Layers;
pub use forward::Pass;
pub use gates::Importance;
pub use guide::{Guide, GuideParams, Guided};
pub use lora::{LoraParams, LoraTarget};
pub use network::Network;
pub use objective::Objective;
pub use options::{HeadShape, NetworkOptions, Noise, Scope};
pub use parameters::{Gradients, Kind, Parameter};
pub use readout::Level;
pub(crate) use save::folder_files;
pub use second::SecondHead;

#[cfg(test)]
mod tests;

#[cfg(test)]
#[cfg(feature = "candle")]
mod elsewhere_tests;
