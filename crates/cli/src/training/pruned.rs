//! Pruning as a composition: measure what matters, take the rest out, and train what remains to follow what it was made
//! from, in its answers and in the states of its layers.

use super::compress::{Answers, Compressed, Rows, Subject, staged};
use super::run::{checkpoint_path, on_threads, path, watched};
use super::tuned::calibrates;
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::{Path, PathBuf};
use understudy_adapt::{
    compare::Change,
    device::Device,
    encoder::{
        Example as Ids, Guide, GuideParams, HeadShape, Level, Network, NetworkOptions, Objective, Scope, Target,
    },
    finetune::{Data, FinetuneParams, Run},
    head::FittedHead,
    matrix::Matrix,
    prune::{self, Kept, Size},
};
use understudy_core::{Error, Result, Seed};
use understudy_dataset::Example;
use understudy_model::{
    artifact::Dtype,
    encoder::{Encoder, EncoderOptions, Scratch, Tokens, config::Config},
    head::Head,
    tokens::Tokenizer,
};

/// Examples on which is measured what matters.
const SAMPLE: usize = 1024;
/// Examples that pass through the network together while that is measured.
const PASS: usize = 32;

/// How to prune.
#[derive(Debug, Clone)]
pub(crate) struct PruneOptions {
    pub(crate) size: Size,
    pub(crate) params: FinetuneParams,
    pub(crate) guide: GuideParams,
    /// Number type that serves; `None` for that of the model.
    pub(crate) dtype: Option<Dtype>,
    /// Rows that only judge; `None` takes a share of the others.
    pub(crate) test: Option<Vec<Example>>,
    pub(crate) test_share: f64,
    pub(crate) seed: Seed,
    pub(crate) threads: usize,
    pub(crate) models_dir: PathBuf,
}

impl PruneOptions {
    /// How what remains is trained. Nothing is dropped on the way: the teacher's answers are what keeps it from
    /// overfitting.
    pub(crate) fn recovery() -> FinetuneParams {
        FinetuneParams {
            objective: Objective::Classes { smoothing: 0.0, weights: Vec::new() },
            epochs: 8,
            rate: 2e-4,
            head_rate: 5e-4,
            layer_decay: 1.0,
            dropout: 0.0,
            head_dropout: 0.0,
            patience: 0,
            ..FinetuneParams::default()
        }
    }
}

/// One stage as it was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stage {
    pub(crate) stage: &'static str,
    pub(crate) mb: f64,
    pub(crate) texts_per_s: f64,
    pub(crate) change: Change,
}

/// A pruned model, before it is written, and how it came about.
pub(crate) struct Pruned {
    pub(crate) subject: Subject,
    pub(crate) compressed: Compressed,
    pub(crate) stages: Vec<Stage>,
    pub(crate) kept: Kept,
    /// Loss after each layer that went.
    pub(crate) layer_losses: Vec<f64>,
    pub(crate) checkpoint: PathBuf,
}

/// Prunes an artifact's encoder. `bar` counts the steps of the recovery.
///
/// # Errors
/// As [`Subject::open`]; `Invalid` when the size makes no sense for the encoder.
pub(crate) fn prune(
    model: &Path,
    examples: Vec<Example>,
    options: &PruneOptions,
    out: &Path,
    bar: &ProgressBar,
) -> Result<Pruned> {
    let rows = match &options.test {
        Some(test) => Rows::Apart(test.clone()),
        None => Rows::Divide { test_share: options.test_share },
    };
    let subject = Subject::open(model, &options.models_dir, examples, rows)?;
    options.size.check(&Config::load(&subject.folder)?)?;
    let dtype = options.dtype.unwrap_or(subject.artifact.manifest().dtype);
    let head = subject.artifact.head().clone();
    let (train, calibrate) = divided(&subject)?;

    bar.set_message("measuring what matters");
    let objective = &options.params.objective;
    let sample = &train[..train.len().min(SAMPLE)];
    let mut teacher = network(&subject.folder, &head)?;
    let most = options.size.layers.unwrap_or(teacher.layers());
    let (layers, layer_losses) =
        on_threads(options.threads, || Ok(prune::layers(&mut teacher, most, sample, objective)))?;
    let whole = Kept { layers: layers.clone(), heads: Vec::new(), units: Vec::new() };
    let shorter = staged(&prune::files(&subject.folder, &whole)?)?;
    let importance =
        on_threads(options.threads, || Ok(network(shorter.path(), &head)?.importance(sample, objective, PASS)))?;
    let narrowed = prune::narrowed(&importance, options.size);
    let smaller = staged(&prune::files(shorter.path(), &narrowed)?)?;
    let kept = Kept { layers, ..narrowed };

    let student = network(smaller.path(), &head)?;
    let params = options.params.clone().check()?;
    let checkpoint = checkpoint_path(out, &told(&subject, options));
    let guide = Guide::new(teacher, followed(&kept.layers, &subject.folder)?, options.guide)?;
    let data = Data { train: &train, held_out: &[] };
    let fit = |run: Run<'_>| params.follow(student, &guide, data, options.seed, run);
    let fitted = watched(bar, (options.threads, Device::Cpu), Some(&checkpoint), fit)?;
    let files = fitted.network.encoder_files()?;
    let recovered = staged(&files)?;
    let (weights, bias) = fitted.network.head();
    let path = path(&fitted.history);
    let last = path.len().saturating_sub(1);
    let fitted = FittedHead::beside_encoder(
        head.labels().to_vec(),
        (weights.to_vec(), bias.to_vec()),
        &embedded(&subject, recovered.path(), dtype, &calibrate)?,
        &subject.labels(&calibrate),
        (path, last),
        (train.len(), 0),
    )?
    .0;

    let models =
        [(&*subject.folder, dtype, &head), (smaller.path(), dtype, &head), (recovered.path(), dtype, &fitted.head)];
    let answers = subject.answers(&models)?;
    let mut stages = Vec::new();
    for ((stage, (folder, ..)), of) in ["before", "pruned", "recovered"].into_iter().zip(models).zip(&answers) {
        let change = subject.change(&answers[0], of, options.seed);
        stages.push(Stage { stage, mb: Subject::bytes(folder)? as f64 / 1e6, texts_per_s: of.per_second(), change });
    }
    let Some(Answers { of, .. }) = answers.into_iter().next_back() else {
        return Err(Error::internal("measure the pruned encoder: it gave no answers"));
    };
    let change = stages[2].change.clone();
    let compressed = Compressed {
        method: described(options.size),
        files,
        head: Some(fitted),
        dtype,
        change,
        answers: of,
        bytes_before: Subject::bytes(&subject.folder)?,
        candidates: 1,
    };
    Ok(Pruned { subject, compressed, stages, kept, layer_losses, checkpoint })
}

/// The encoder of a folder with the head, all of its layers trained.
fn network(folder: &Path, head: &Head) -> Result<Network> {
    let shape = HeadShape { outputs: head.labels().len(), hidden: None, level: Level::UnitVector };
    let scope = Scope::Full { words: false, frozen_layers: 0 };
    let mut network = Network::load(folder, &NetworkOptions { scope, head: shape, seed: Seed(0) })?;
    network.set_head(head.weights(), head.bias())?;
    Ok(network)
}

/// Examples to learn from, and rows that only calibrate: those that training kept for that too. Rows of labels that the
/// head does not know are left out.
fn divided(subject: &Subject) -> Result<(Vec<Ids>, Vec<usize>)> {
    let manifest = subject.artifact.manifest();
    let reading = manifest.reading();
    let tokenizer = Tokenizer::load(&subject.folder.join("tokenizer.json"), reading.max_tokens)?;
    let tokenizer = tokenizer.with_windows(reading.windows);
    let known = subject.artifact.head().labels();
    let (mut train, mut calibrate) = (Vec::new(), Vec::new());
    for (&i, place) in subject.learn.iter().zip(&subject.places) {
        let example = &subject.cleaned.examples[i];
        let Some(class) = known.iter().position(|label| *label == example.label) else { continue };
        if calibrates(place) {
            calibrate.push(i);
        } else {
            let windows = tokenizer.tokenize(&example.text)?.into_windows();
            train.push(Ids::new(windows, Target::Class(class)));
        }
    }
    if train.is_empty() {
        return Err(Error::data("prune: there are no rows to recover with; give more of them"));
    }
    Ok((train, calibrate))
}

/// Which layer of the teacher each layer that is kept follows: the last one before the next that is kept, because that
/// is whose states the next one was trained to read.
fn followed(kept: &[usize], folder: &Path) -> Result<Vec<usize>> {
    let last = Config::load(folder)?.layers - 1;
    Ok((0..kept.len()).map(|i| kept.get(i + 1).map_or(last, |next| next - 1)).collect())
}

fn embedded(subject: &Subject, folder: &Path, dtype: Dtype, of: &[usize]) -> Result<Matrix> {
    let reading = subject.artifact.manifest().reading();
    let encoder = Encoder::load(folder, &EncoderOptions { dtype: dtype.into(), ..reading })?;
    if of.is_empty() {
        return Matrix::new(encoder.dimensions(), Vec::new());
    }
    let texts = of.iter().map(|&i| encoder.tokenize(&subject.cleaned.examples[i].text));
    Matrix::from_rows(&encoder.embed(&texts.collect::<Result<Vec<Tokens>>>()?, &mut Scratch::default()))
}

/// What was done, in words.
fn described(size: Size) -> String {
    let parts = [("layers", size.layers), ("heads", size.heads), ("ffn", size.units)];
    let parts: Vec<String> = parts.into_iter().filter_map(|(name, n)| Some(format!("{name} {}", n?))).collect();
    parts.join(", ")
}

/// What tells this training from others.
fn told(subject: &Subject, options: &PruneOptions) -> String {
    let PruneOptions { size, params, guide, test_share, seed, .. } = options;
    let (model, data) = (subject.artifact.hash(), subject.cleaned.data_hash());
    format!("{model} {data} {size:?} {params:?} {guide:?} {test_share} {}", seed.0)
}
