//! How a model is run, in our words and in llama.cpp's.

use super::engine::Limits;
use llama_cpp_2::{context::params::LlamaContextParams, model::LlamaModel};
use std::{num::NonZeroU32, path::PathBuf};
use understudy_core::{Error, ModelName, Result};

/// Whether the beginning of a prompt that another request already computed is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PrefixReuse {
    /// Finished prompts stay in the cache until their room is needed.
    #[default]
    On,
    /// Every prompt is computed from its first token.
    Off,
}

/// How a model is run.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorOptions {
    /// The name by which plans and clients ask for it.
    pub name: ModelName,
    /// Threads that compute; at least 1.
    pub threads: usize,
    /// Tokens that prompt and answer may have together, at most what the model was trained with. Memory for them is
    /// set aside for every concurrent answer: 47 MB each for 2,048 tokens of SmolLM2-135M.
    pub context_tokens: u32,
    /// Most answers that are written at the same time, 1 to 256; the others queue.
    pub max_sequences: u32,
    /// Most tokens that one step computes. Larger reads prompts faster; smaller makes running answers stutter less
    /// when a long prompt comes in.
    pub max_batch: u32,
    /// Most requests that wait; more are refused as `Overloaded`.
    pub max_waiting: usize,
    /// Longest answer when the request does not say.
    pub answer_tokens: u32,
    /// Softmax temperature when the request does not say. 0, greedy, is what certificates are measured with.
    pub temperature: f32,
    /// Whether computed beginnings are used again.
    pub prefix_reuse: PrefixReuse,
    /// A chat template (Jinja) in place of the model file's own.
    pub template: Option<String>,
    /// A low-rank adapter of the model (GGUF) that is put on all answers. The weights below stay the file's, which
    /// several generators map into memory together; loaded together they share cache and threads too.
    pub adapter: Option<PathBuf>,
}

/// What generators that share an engine have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineOptions {
    threads: usize,
    context_tokens: u32,
    max_sequences: u32,
    max_batch: u32,
    prefix_reuse: PrefixReuse,
}

impl GeneratorOptions {
    /// Defaults: all cores, 8 answers of 2,048 tokens, 512 tokens a step, greedy.
    #[must_use]
    pub fn new(name: ModelName) -> Self {
        Self {
            name,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            context_tokens: 2_048,
            max_sequences: 8,
            max_batch: 512,
            max_waiting: 256,
            answer_tokens: 512,
            temperature: 0.0,
            prefix_reuse: PrefixReuse::On,
            template: None,
            adapter: None,
        }
    }

    /// The part that must be alike for [`load_all`](super::Generator::load_all).
    #[must_use]
    pub fn engine(&self) -> EngineOptions {
        let Self { threads, context_tokens, max_sequences, max_batch, prefix_reuse, .. } = *self;
        EngineOptions { threads, context_tokens, max_sequences, max_batch, prefix_reuse }
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(format!("run model {}: {what}", self.name)));
        if self.threads == 0 || self.threads > 512 {
            return wrong("threads must be 1 to 512");
        }
        if self.max_sequences == 0 || self.max_sequences > 256 {
            return wrong("max_sequences must be 1 to 256");
        }
        if self.max_batch < self.max_sequences {
            return wrong("max_batch must be at least max_sequences");
        }
        if self.context_tokens < 16 || self.context_tokens > (1 << 24) / self.max_sequences {
            return wrong("context_tokens must be at least 16, and at most 16,777,216 over all max_sequences");
        }
        Ok(())
    }
}

pub(super) fn context_params(options: &GeneratorOptions) -> LlamaContextParams {
    let threads = i32::try_from(options.threads).expect("checked");
    LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(options.context_tokens * options.max_sequences))
        .with_n_batch(options.max_batch)
        .with_n_ubatch(options.max_batch.min(512))
        .with_n_seq_max(options.max_sequences)
        // A pool of cells for each answer: its attention then never passes over the others' cells, which in one
        // common pool grow with the number of answers.
        .with_kv_unified(false)
        .with_no_perf(true)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
}

pub(super) fn limits(options: &GeneratorOptions, model: &LlamaModel) -> Limits {
    Limits {
        sequences: options.max_sequences as usize,
        tokens: options.context_tokens as usize,
        batch: options.max_batch as usize,
        // A recurrent state cannot be cut at a token.
        reuse: options.prefix_reuse == PrefixReuse::On && !model.is_recurrent() && !model.is_hybrid(),
        ends: (0..)
            .zip(model.vocab().tokens())
            .filter(|(_, token)| model.vocab().is_eog(*token))
            .map(|(at, _)| at)
            .collect(),
    }
}
