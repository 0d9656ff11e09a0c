//! The scores that a served model gives to given tokens: what training compares its own with before it hands a model over.

use super::{GeneratorOptions, backend, new_context};
use llama_cpp_2::{
    context::LlamaContext,
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
        let (model, mut adapters) = load_with_adapters(path, adapter.as_slice())?;
        let options =
            GeneratorOptions { threads: threads.max(1), max_sequences: 1, ..GeneratorOptions::new("scorer".into()) };
        Ok(Self { adapter: adapters.pop(), model, options })
    }

    pub(super) fn model(&self) -> &LlamaModel {
        &self.model
    }

    pub(super) fn options(&self) -> &GeneratorOptions {
        &self.options
    }

    /// Tokens that the model knows.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        usize::try_from(self.model.n_vocab()).unwrap_or(0)
    }

    /// The likeliest answer after a prompt, token by token, with the token that ends it where it comes within `most`.
    ///
    /// # Errors
    /// As [`Scorer::logits`].
    pub fn greedy(&mut self, prompt: &[u32], most: usize) -> Result<Vec<u32>> {
        let failed = |e: &dyn std::fmt::Display| Error::internal(format!("answer: {e}"));
        if prompt.is_empty() || prompt.iter().any(|token| *token as usize >= self.vocabulary()) {
            return Err(Error::invalid("answer: the prompt is empty, or has tokens that are not the model's"));
        }
        let Self { adapter, model, options } = self;
        let mut context = context(model, options, adapter.as_mut(), prompt.len() + most)?;
        let step = options.max_batch as usize;
        let mut batch = LlamaBatch::new(step, 1);
        let (mut answer, mut next, mut place) = (Vec::new(), prompt.to_vec(), 0);
        while answer.len() < most {
            for part in next.chunks(step) {
                batch.clear();
                for (i, token) in part.iter().enumerate() {
                    let token = i32::try_from(*token).unwrap_or(0);
                    batch.add(LlamaToken(token), place, &[0], i + 1 == part.len()).map_err(|e| failed(&e))?;
                    place += 1;
                }
                context.decode(&mut batch).map_err(|e| failed(&e))?;
            }
            let last = i32::try_from((next.len() - 1) % step).unwrap_or(0);
            let logits = context.get_logits_ith(last);
            let best = (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
            let best = u32::try_from(best).unwrap_or(0);
            answer.push(best);
            next = vec![best];
            if model.vocab().is_eog(LlamaToken(i32::try_from(best).unwrap_or(0))) {
                break;
            }
        }
        Ok(answer)
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
        let Self { adapter, model, options } = self;
        let mut context = context(model, options, adapter.as_mut(), tokens.len())?;
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

/// A context for so many tokens, with the adapter.
fn context<'m>(
    model: &'m LlamaModel,
    options: &GeneratorOptions,
    adapter: Option<&mut LlamaLoraAdapter>,
    tokens: usize,
) -> Result<LlamaContext<'m>> {
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("score tokens: {e}"));
    let context_tokens = u32::try_from(tokens.next_multiple_of(64)).unwrap_or(u32::MAX);
    let mut context =
        new_context(model, &GeneratorOptions { context_tokens, ..options.clone() }).map_err(|e| failed(&e))?;
    if let Some(adapter) = adapter {
        context.lora_adapter_set(adapter, 1.0).map_err(|e| failed(&e))?;
    }
    Ok(context)
}

/// Loads a model and adapters of it, in their order.
pub(super) fn load_with_adapters(path: &Path, adapters: &[&Path]) -> Result<(LlamaModel, Vec<LlamaLoraAdapter>)> {
    for file in std::iter::once(&path).chain(adapters) {
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
    let adapters = adapters.iter().map(|file| {
        model.lora_adapter_init(file).map_err(|e| {
            Error::data(format!(
                "load adapter {}: llama.cpp cannot put it on {} ({e}); it may be damaged, or of another base",
                file.display(),
                path.display()
            ))
        })
    });
    let adapters = adapters.collect::<Result<_>>()?;
    Ok((model, adapters))
}
