//! Training a head on a frozen encoder: seconds.

use super::base::{base_model, encoder_named};
use super::{Material, Product, TrainOptions, Trained, finish, heavy};
use crate::{clock::SystemClock, compose::cores};
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use std::{collections::BTreeMap, path::Path};
use understudy_adapt::{head::Labelled, matrix::Matrix};
use understudy_core::{Clock, Embedder, Error, Result};
use understudy_dataset::{Cleaned, Example};
use understudy_model::{
    artifact::Body,
    encoder::Encoder,
    service::{EncoderService, ServiceOptions},
};

/// Texts that are handed to the encoder together.
const BATCH: usize = 64;
/// Batches under way.
const BATCHES: usize = 4;

/// Trains a head on a frozen encoder.
///
/// # Errors
/// As [`super::train`].
pub(crate) async fn train(
    examples: Vec<Example>,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    let clock = SystemClock::new();
    let params = options.params.clone().check()?;
    let material = Material::new(examples, &options)?;
    let installed = encoder_named(&options)?;
    let encoder = Encoder::load(installed.dir(), &options.reading())?;
    let pooling = encoder.pooling().into();
    let max_tokens = u32::try_from(encoder.max_tokens()).unwrap_or(u32::MAX);
    bar.set_length(material.cleaned.examples.len() as u64);
    let embeddings = embed(encoder, &material.cleaned, options.threads, bar).await?;
    let embedding = clock.monotonic();
    let base = base_model(&installed);
    let dir = dir.to_owned();
    heavy("fit head", move || {
        let labels = material.labels(&material.split.learn);
        let data = Labelled {
            embeddings: &embeddings.select(&material.split.learn),
            labels: &labels,
            places: &material.split.places,
            classes: &material.split.classes,
        };
        let shares = material.shares(&material.split.learn, &options.taught);
        let (fitted, unseen) = params.fit_to_shares(data, &shares)?;
        let probabilities = |&i: &usize| Ok(fitted.head.predict(embeddings.row(i))?.probabilities);
        let probabilities = material.split.test.iter().map(probabilities).collect::<Result<Vec<_>>>()?;
        let product = Product {
            fitted,
            unseen,
            base,
            body: Body::Base,
            method: "head",
            unlabelled: None,
            files: BTreeMap::new(),
            dtype: options.dtype,
            max_tokens,
            windows: options.windows,
            pooling,
        };
        let fitting = clock.monotonic().saturating_sub(embedding);
        finish(material, options, product, &probabilities, &dir, (embedding, fitting))
    })
    .await
}

/// Texts a second that the options' encoder embeds, from a sample.
pub(crate) async fn embeddings_per_s(sample: &[Example], options: &TrainOptions) -> Result<f64> {
    let installed = encoder_named(options)?;
    let encoder = Encoder::load(installed.dir(), &options.reading())?;
    let sample = Cleaned { examples: sample.to_vec(), duplicates: 0, conflicts: Vec::new() };
    let clock = SystemClock::new();
    embed(encoder, &sample, options.threads, &ProgressBar::hidden()).await?;
    Ok(sample.examples.len() as f64 / clock.monotonic().as_secs_f64().max(1e-6))
}

/// What the encoder makes of each example, in their order.
pub(super) async fn embed(encoder: Encoder, data: &Cleaned, threads: usize, bar: &ProgressBar) -> Result<Matrix> {
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
