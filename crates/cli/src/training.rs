//! Training as a composition: examples → clean → embed → fit → measure → artifact. Used by `adapt finetune`, by
//! learning from traffic and by the demo.

use crate::{clock::SystemClock, compose::cores};
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_adapt::{
    artifact::{self, Existing, Provenance},
    head::{FittedHead, HeadParams, Labelled, PathStep},
    matrix::Matrix,
    metrics,
    split::{self, Split},
};
use understudy_core::{Clock, Embedder, Error, ModelName, Result, Seed, TaskName, Timestamp, hash::sha256_hex};
use understudy_dataset::{Cleaned, Conflict, Example, clean};
use understudy_model::{
    artifact::{Artifact, BaseModel, Body, Dtype, Metric},
    catalogue::Kind,
    encoder::{Encoder, EncoderOptions},
    installed::{self, Checked, Installed},
    service::{EncoderService, ServiceOptions},
};

/// Texts that are handed to the encoder together.
const BATCH: usize = 64;
/// Batches under way.
const BATCHES: usize = 4;

/// How to train a head.
#[derive(Debug, Clone)]
pub(crate) struct TrainOptions {
    /// Catalogue name of the encoder.
    pub(crate) base: String,
    /// Where models are installed.
    pub(crate) models_dir: PathBuf,
    /// Name of the new model.
    pub(crate) name: ModelName,
    /// The task it is for.
    pub(crate) task: Option<TaskName>,
    /// Number type of the encoder.
    pub(crate) dtype: Dtype,
    /// Tokens after which texts are cut.
    pub(crate) max_tokens: u32,
    /// Share of the examples that only measure.
    pub(crate) test_share: f64,
    /// How to fit.
    pub(crate) params: HeadParams,
    /// Seed of splits and intervals.
    pub(crate) seed: Seed,
    /// Threads of the encoder; 0 uses all.
    pub(crate) threads: usize,
    /// What to do with another artifact in the folder.
    pub(crate) existing: Existing,
    /// Hash of the artifact that the new one follows.
    pub(crate) parent: Option<String>,
    /// Now.
    pub(crate) created: Timestamp,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            base: "minilm".into(),
            models_dir: PathBuf::new(),
            name: "classifier".into(),
            task: None,
            dtype: Dtype::Int8,
            max_tokens: 256,
            test_share: 0.1,
            params: HeadParams::default(),
            seed: Seed(0),
            threads: 0,
            existing: Existing::Keep,
            parent: None,
            created: Timestamp(0),
        }
    }
}

/// A trained model, written, and how it came about.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The artifact as it reads back.
    pub(crate) artifact: Artifact,
    /// Examples after cleaning.
    pub(crate) examples: usize,
    /// Examples that repeated another.
    pub(crate) duplicates: usize,
    /// Texts with several labels.
    pub(crate) conflicts: Vec<Conflict>,
    /// The regularisation path.
    pub(crate) path: Vec<PathStep>,
    /// Time to embed.
    pub(crate) embedding: Duration,
    /// Time to fit and measure.
    pub(crate) fitting: Duration,
}

/// Trains a head on `examples` and writes the artifact to `dir`. `bar` counts the texts that are embedded.
///
/// # Errors
/// `NotFound` when the base model is not installed, `Data` when the examples cannot be learnt from, whatever writing
/// the artifact reports.
pub(crate) async fn train_head(
    examples: Vec<Example>,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    let clock = SystemClock::new();
    let params = options.params.clone().check()?;
    let cleaned = clean(examples);
    let split = split::split(&cleaned.examples, options.test_share, options.seed)?;
    let installed = installed::load(&options.models_dir, &options.base)?;
    if installed.kind != Kind::Encoder {
        return Err(Error::invalid(format!("train on `{}`: it is not an encoder", options.base)).with_param("base"));
    }
    let encoder =
        EncoderOptions { dtype: options.dtype.into(), max_tokens: options.max_tokens as usize, pooling: None };
    let encoder = Encoder::load(installed.dir(), &encoder)?;
    let pooling = encoder.pooling().into();
    let max_tokens = u32::try_from(encoder.max_tokens()).unwrap_or(u32::MAX);
    bar.set_length(cleaned.examples.len() as u64);
    let embeddings = embed(encoder, &cleaned, options.threads, bar).await?;
    let embedding = clock.monotonic();
    let seed = options.seed;
    let fit = move || {
        let (fitted, metrics) = fit(&params, &embeddings, &cleaned, &split, seed)?;
        Ok::<_, Error>((fitted, metrics, cleaned))
    };
    let fitted = tokio::task::spawn_blocking(fit).await;
    let (fitted, metrics, cleaned) = fitted.map_err(|e| Error::internal(format!("fit head: {e}")))??;
    let provenance = Provenance {
        name: options.name,
        task: options.task,
        base: base_model(&installed),
        body: Body::Base,
        method: "head".into(),
        files: BTreeMap::new(),
        out_of_scope: None,
        dtype: options.dtype,
        max_tokens,
        pooling,
        metrics,
        data_hash: cleaned.data_hash(),
        seed,
        parent: options.parent,
        created: options.created,
    };
    let artifact = artifact::write(dir, &fitted, provenance, options.existing)?;
    Ok(Trained {
        artifact,
        examples: cleaned.examples.len(),
        duplicates: cleaned.duplicates,
        conflicts: cleaned.conflicts,
        path: fitted.path,
        embedding,
        fitting: clock.monotonic().saturating_sub(embedding),
    })
}

/// Name and content of an installed encoder. Files that were made here from the others do not count.
pub(crate) fn base_model(installed: &Installed) -> BaseModel {
    let files = installed.files.iter().filter(|file| file.checked != Checked::Derived);
    let mut lines: Vec<String> = files.map(|file| format!("{} {}\n", file.sha256, file.path)).collect();
    lines.sort_unstable();
    BaseModel { name: ModelName::new(installed.name.clone()), hash: sha256_hex(lines.concat().as_bytes()) }
}

/// Content hash of an installed generative model: of the file that is run.
pub(crate) fn installed_hash(installed: &Installed) -> Result<String> {
    let path = installed.gguf()?;
    let file = installed.files.iter().find(|file| installed.dir().join(&file.path) == path);
    Ok(file.map(|file| file.sha256.clone()).expect("the file is one of the installed ones"))
}

async fn embed(encoder: Encoder, data: &Cleaned, threads: usize, bar: &ProgressBar) -> Result<Matrix> {
    let options = ServiceOptions { threads: cores(threads), ..ServiceOptions::default() };
    let service = EncoderService::start(encoder, options);
    // Neighbours of like length make full batches; the longest go first, so that the end is not waiting for one.
    let mut order: Vec<usize> = (0..data.examples.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(data.examples[i].text.len()));
    let batches: Vec<Vec<(usize, Vec<f32>)>> = stream::iter(order.chunks(BATCH))
        .map(|batch| {
            let texts = batch.iter().map(|&i| data.examples[i].text.clone()).collect();
            let service = &service;
            async move {
                let embeddings = service.embed(texts).await?;
                bar.inc(batch.len() as u64);
                Ok::<_, Error>(batch.iter().copied().zip(embeddings.vectors).collect())
            }
        })
        .buffered(BATCHES)
        .try_collect()
        .await?;
    let mut rows = vec![Vec::new(); data.examples.len()];
    for (index, vector) in batches.into_iter().flatten() {
        rows[index] = vector;
    }
    Matrix::from_rows(&rows)
}

fn fit(
    params: &understudy_adapt::head::CheckedHeadParams,
    embeddings: &Matrix,
    data: &Cleaned,
    split: &Split,
    seed: Seed,
) -> Result<(FittedHead, BTreeMap<String, Metric>)> {
    let label =
        |&i: &usize| split.classes.binary_search(&data.examples[i].label).expect("the split lists every label, sorted");
    let labels: Vec<usize> = split.learn.iter().map(label).collect();
    let fitted = params.fit(Labelled {
        embeddings: &embeddings.select(&split.learn),
        labels: &labels,
        places: &split.places,
        classes: &split.classes,
    })?;
    let labels: Vec<usize> = split.test.iter().map(label).collect();
    let metrics = metrics::measure(&fitted.head, &embeddings.select(&split.test), &labels, seed)?;
    Ok((fitted, metrics))
}
