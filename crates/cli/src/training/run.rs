//! What every training of a network here has in common: its checkpoint beside the folder of the model, a bar that shows
//! the loss, threads, and the encoder as it will serve.

use super::{TrainOptions, compress::staged};
use crate::{clock::SystemClock, compose::cores};
use indicatif::ProgressBar;
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_adapt::{
    device::Device,
    encoder::{Batch, Example, Network, Pass},
    finetune::{Checkpoints, Ended, Finetuned, Progress, Record, Run},
    head::PathStep,
    matrix::Matrix,
};
use understudy_core::{Error, Result, hash::sha256_hex};
use understudy_model::{
    encoder::{Encoder, config::Config},
    tokens::Tokenizer,
};

/// Texts that pass through the network together when nothing is learned from them.
const PASS: usize = 32;
/// Time between two checkpoints.
const CHECKPOINT: Duration = Duration::from_secs(20);

/// Beside the folder of the model: the same data and settings (`told`) find it again, others have another name.
pub(super) fn checkpoint_path(dir: &Path, told: &str) -> PathBuf {
    let name = dir.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
    dir.with_file_name(format!(".{name}-{}.checkpoint", &sha256_hex(told.as_bytes())[..12]))
}

/// Runs a training that `bar` shows and that is kept in `checkpoint`.
///
/// # Errors
/// What `fit` fails with; `Internal` when it was stopped.
pub(super) fn watched<N>(
    bar: &ProgressBar,
    (threads, device): (usize, Device),
    checkpoint: Option<&Path>,
    fit: impl FnOnce(Run<'_>) -> Result<Finetuned<N>>,
) -> Result<Finetuned<N>> {
    let clock = SystemClock::new();
    let mut progress = |now: &Progress| {
        bar.set_length(now.steps);
        bar.set_position(now.step);
        let held =
            now.held_out.and_then(|held| held.accuracy).map_or_else(String::new, |a| format!(", {:.1} %", a * 100.0));
        bar.set_message(format!("epoch {}, loss {:.3}{held}", now.epoch + 1, now.loss));
        ControlFlow::Continue(())
    };
    let checkpoints = checkpoint.map(|path| Checkpoints { path, every: CHECKPOINT });
    let done = fit(Run { clock: &clock, threads: cores(threads), device, progress: &mut progress, checkpoints })?;
    if done.ended == Ended::Interrupted {
        return Err(Error::internal("train: it was stopped"));
    }
    Ok(done)
}

/// The loss after each epoch: on what was held out, where something was.
pub(super) fn path(history: &[Record]) -> Vec<PathStep> {
    let step = |r: &Record| PathStep { c: (r.epoch + 1) as f64, loss: r.held_out.map_or(r.loss, |held| held.loss) };
    history.iter().map(step).collect()
}

/// Runs work on threads of its own; 0 for as many as there are cores.
pub(super) fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cores(threads)).build();
    pool.map_err(|e| Error::internal(format!("start the threads: {e}")))?.install(work)
}

/// What the head reads of examples: a row each.
pub(super) fn vectors(network: &Network, examples: &[Example]) -> Result<Matrix> {
    let (mut pass, mut vectors) = (Pass::default(), Vec::new());
    for part in examples.chunks(PASS) {
        vectors.extend_from_slice(network.vectors_of(&Batch::new(part), &mut pass));
    }
    Matrix::new(network.width(), vectors)
}

/// The tokeniser of the encoder in `folder`, as it reads for training and when it serves.
pub(super) fn tokenizer(folder: &Path, options: &TrainOptions) -> Result<Tokenizer> {
    let most = (options.max_tokens as usize).min(Config::load(folder)?.max_tokens);
    Ok(Tokenizer::load(&folder.join("tokenizer.json"), most)?.with_windows(options.windows as usize))
}

/// The encoder that will serve: read from the files that are written, in its number type.
pub(super) fn serving(files: &BTreeMap<String, Vec<u8>>, options: &TrainOptions) -> Result<Encoder> {
    let staging = staged(files)?;
    Encoder::load(staging.path(), &options.reading())
}
