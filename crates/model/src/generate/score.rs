//! The scores that a served model gives to given tokens: what training compares its own with before it hands a model over.

use super::{GeneratorOptions, backend, new_context};
use llama_cpp_2::{
    llama_batch::LlamaBatch,
    model::{LlamaLoraAdapter, LlamaModel, params::LlamaModelParams},
    token::LlamaToken,
};
use std::path::Path;
use understudy_core::{Error, Result};

/// A model, with or without an adapter, that scores tokens as the [`Generator`](super::Generator) would.
#[derive(Debug)]
pub struct Scorer {
    // Dropped before the model it belongs to.
    adapter: Option<LlamaLoraAdapter>,
    model: LlamaModel,
    options: GeneratorOptions,
}

impl Scorer {
    /// Loads a GGUF file, and an adapter of it.
    ///
    /// # Errors
    /// `NotFound` when a file is missing, `Data` when llama.cpp cannot read one or the adapter is of another model.
    pub fn load(path: &Path, adapter: Option<&Path>, threads: usize) -> Result<Self> {
        let (model, adapter) = load_with_adapter(path, adapter)?;
        let options =
            GeneratorOptions { threads: threads.max(1), max_sequences: 1, ..GeneratorOptions::new("scorer".into()) };
        Ok(Self { adapter, model, options })
    }

    /// The scores (logits) before each token from `from` on, in rows of the vocabulary.
    ///
    /// # Errors
    /// `Invalid` when `from` is 0 or beyond the tokens, or a token is not the model's; `Internal` when memory does not
    /// suffice.
    pub fn logits(&mut self, tokens: &[u32], from: usize) -> Result<Vec<f32>> {
        let vocabulary = u32::try_from(self.model.n_vocab()).unwrap_or(0);
        if from == 0 || from >= tokens.len() || tokens.iter().any(|token| *token >= vocabulary) {
            return Err(Error::invalid("score tokens: there must be some before the first, all of the model's own"));
        }
        let failed = |e: &dyn std::fmt::Display| Error::internal(format!("score tokens: {e}"));
        let mut options = self.options.clone();
        options.context_tokens = u32::try_from(tokens.len().next_multiple_of(64)).unwrap_or(u32::MAX);
        let mut context = new_context(&self.model, &options).map_err(|e| failed(&e))?;
        if let Some(adapter) = &mut self.adapter {
            context.lora_adapter_set(adapter, 1.0).map_err(|e| failed(&e))?;
        }
        let step = options.max_batch as usize;
        let mut batch = LlamaBatch::new(step, 1);
        let mut rows = Vec::new();
        let seen = &tokens[..tokens.len() - 1];
        for (block, part) in seen.chunks(step).enumerate() {
            batch.clear();
            let mut wanted = Vec::new();
            for (i, token) in part.iter().enumerate() {
                let place = block * step + i;
                let scored = place + 1 >= from;
                if scored {
                    wanted.push(i);
                }
                let (token, place) = (i32::try_from(*token).unwrap_or(0), i32::try_from(place).unwrap_or(0));
                batch.add(LlamaToken(token), place, &[0], scored).map_err(|e| failed(&e))?;
            }
            context.decode(&mut batch).map_err(|e| failed(&e))?;
            for i in wanted {
                rows.extend_from_slice(context.get_logits_ith(i32::try_from(i).unwrap_or(0)));
            }
        }
        Ok(rows)
    }
}

/// Loads a model and an adapter of it.
pub(super) fn load_with_adapter(path: &Path, adapter: Option<&Path>) -> Result<(LlamaModel, Option<LlamaLoraAdapter>)> {
    for file in [Some(path), adapter].into_iter().flatten() {
        if !file.is_file() {
            return Err(Error::not_found(format!("load model {}: there is no such file", file.display())));
        }
    }
    let mut model = LlamaModel::load_from_file(backend(), path, &LlamaModelParams::default()).map_err(|e| {
        Error::data(format!(
            "load model {}: llama.cpp cannot read it ({e}); it may be damaged, or newer than this build",
            path.display()
        ))
    })?;
    let adapter = match adapter {
        None => None,
        Some(file) => Some(model.lora_adapter_init(file).map_err(|e| {
            Error::data(format!(
                "load adapter {}: llama.cpp cannot put it on {} ({e}); it may be damaged, or of another base",
                file.display(),
                path.display()
            ))
        })?),
    };
    Ok((model, adapter))
}
