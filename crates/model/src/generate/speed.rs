//! How fast a model file reads and writes, measured the way it is served: prompts in batches, answers token by token.

use super::{GeneratorOptions, Scorer, new_context};
use llama_cpp_2::{llama_batch::LlamaBatch, token::LlamaToken};
use std::time::Duration;
use understudy_core::{Clock, Error, Result};

/// How fast a model is.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Speed {
    /// Tokens of a prompt read in a second.
    pub prompt_tokens_per_s: f64,
    /// Tokens of one answer written in a second.
    pub tokens_per_s: f64,
}

/// Lets a model read a prompt and write `written` tokens after it, `rounds` times; the fastest round counts, as others on
/// the machine can only slow it down. The prompt's tokens are also what is "written": the time does not depend on them.
///
/// # Errors
/// `Invalid` when there are no tokens to read or to write; `Internal` when memory does not suffice.
pub fn speed(scorer: &Scorer, prompt: &[u32], written: usize, rounds: usize, clock: &dyn Clock) -> Result<Speed> {
    if prompt.is_empty() || written == 0 || rounds == 0 {
        return Err(Error::invalid("measure a model's speed: there must be tokens to read and to write"));
    }
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("measure a model's speed: {e}"));
    let tokens = prompt.len() + written;
    let options = GeneratorOptions {
        context_tokens: u32::try_from(tokens.next_multiple_of(64)).unwrap_or(u32::MAX),
        ..scorer.options().clone()
    };
    let step = options.max_batch as usize;
    let mut batch = LlamaBatch::new(step, 1);
    let (mut reading, mut writing) = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        let mut context = new_context(scorer.model(), &options).map_err(|e| failed(&e))?;
        let mut decode = |batch: &mut LlamaBatch, from: usize, part: &[u32]| -> Result<()> {
            batch.clear();
            for (i, token) in part.iter().enumerate() {
                let (token, place) = (i32::try_from(*token).unwrap_or(0), i32::try_from(from + i).unwrap_or(0));
                batch.add(LlamaToken(token), place, &[0], i + 1 == part.len()).map_err(|e| failed(&e))?;
            }
            context.decode(batch).map_err(|e| failed(&e))?;
            // Reading a score waits for the computation.
            let _ = context.get_logits_ith(i32::try_from(part.len() - 1).unwrap_or(0))[0];
            Ok(())
        };
        let began = clock.monotonic();
        for (block, part) in prompt.chunks(step).enumerate() {
            decode(&mut batch, block * step, part)?;
        }
        let read = clock.monotonic();
        for i in 0..written {
            decode(&mut batch, prompt.len() + i, &prompt[i % prompt.len()..][..1])?;
        }
        reading = reading.min(read.saturating_sub(began));
        writing = writing.min(clock.monotonic().saturating_sub(read));
    }
    let rate = |n: usize, took: Duration| n as f64 / took.as_secs_f64().max(1e-9);
    Ok(Speed { prompt_tokens_per_s: rate(prompt.len(), reading), tokens_per_s: rate(written, writing) })
}
