//! What a trained rung is worth: its answers to rows that trained nothing, the certificate, its time and its memory.

use super::{Climbed, Figure, LadderOptions};
use crate::{clock::SystemClock, compose::Composer, terminal};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{fs, path::PathBuf};
use understudy_core::{Backend, Clock, LossKind, ModelName, Request, Result, TaskName, TraceId};
use understudy_dataset::{Example, Learned};
use understudy_model::{
    artifact::{Artifact, Body, Dtype, HEAD},
    classifier::Classifier,
    installed,
};
use understudy_pilot::{Grid, Item, Terms, Verdict, certify, metrics::Metric};

/// Texts whose time is taken, one after the other.
const TIMED: usize = 200;
/// Tries for each.
const TRIES: usize = 5;

/// Lets a trained rung answer the rows, measures and certifies it.
pub(super) async fn judge(
    mut climbed: Climbed,
    rows: &[Example],
    options: &LadderOptions,
    composer: &Composer,
    judged_for: String,
) -> Result<Climbed> {
    let artifact = Artifact::read(&climbed.artifact)?;
    let classifier = composer.classifier(&artifact, &options.train.models_dir, options.train.threads)?;
    let bar = terminal::progress(rows.len() as u64, &format!("{} answers", climbed.rung));
    let answers: Vec<(Item, bool)> = stream::iter(rows)
        .map(|row| answer(&classifier, row))
        .buffered(64)
        .inspect(|_| bar.inc(1))
        .try_collect()
        .await?;
    bar.finish_and_clear();
    let right = answers.iter().filter(|(_, right)| *right).count() as u64;
    let items: Vec<Item> = answers.into_iter().map(|(item, _)| item).collect();
    climbed.accuracy = Metric::share(right, items.len() as u64).map(Figure::from);
    climbed.us_per_text = one_by_one(&artifact, rows, options, composer).await?;
    let terms = Terms {
        task: options.train.task.clone().unwrap_or_else(|| TaskName::from("ladder")),
        small: ModelName::new(climbed.rung.clone()),
        small_hash: climbed.hash.clone(),
        large: ModelName::from("labels"),
        epsilon: options.epsilon,
        delta: options.delta / options.rungs.len() as f64,
        loss: LossKind::Disagreement,
        issued: options.train.created,
    };
    (climbed.kept, climbed.threshold, climbed.bound, climbed.refusal) =
        match certify(&items, &terms, &Grid::default())?.verdict {
            Verdict::Certified(c) => (c.kept, Some(c.threshold.get()), Some(c.bound), None),
            Verdict::NotCertified(refusal) => (0.0, None, None, Some(refusal.reason)),
        };
    climbed.judged_for = judged_for;
    Ok(climbed)
}

fn request(text: &str) -> Request {
    let mut request = Request::new(TraceId::from_parts(0, 0), ModelName::from("auto"), Vec::new());
    request.input = Some(text.to_owned());
    request
}

async fn answer(classifier: &Classifier, row: &Example) -> Result<(Item, bool)> {
    let answer = classifier.answer(&request(&row.text)).await?;
    let right = answer.label.as_ref() == Some(&row.label);
    let item = Item { id: row.id.clone(), confidence: answer.confidence.map(|c| c.get()), loss_if_kept: !right };
    Ok((item, right))
}

/// Microseconds for a text, one after the other, one thread. Each text counts with its fastest try: what else the machine
/// does is not the model's time.
async fn one_by_one(
    artifact: &Artifact,
    rows: &[Example],
    options: &LadderOptions,
    composer: &Composer,
) -> Result<f64> {
    let classifier = composer.classifier(artifact, &options.train.models_dir, 1)?;
    let texts: Vec<&Example> = rows.iter().step_by(rows.len().div_ceil(TIMED)).collect();
    let clock = SystemClock::new();
    let mut total = 0.0;
    for row in &texts {
        let mut fastest = f64::INFINITY;
        for _ in 0..TRIES {
            let begun = clock.monotonic();
            answer(&classifier, row).await?;
            fastest = fastest.min(clock.monotonic().saturating_sub(begun).as_secs_f64());
        }
        total += fastest;
    }
    Ok(total * 1e6 / texts.len() as f64)
}

/// Megabytes of the weights that a model loads, as stored; int8 encoders take about a quarter of theirs in memory.
pub(super) fn memory_mb(artifact: &Artifact, options: &LadderOptions) -> Result<f64> {
    let size = |path: PathBuf| fs::metadata(&path).map_or(0, |about| about.len()) as f64;
    let manifest = artifact.manifest();
    let own = size(artifact.dir().join(HEAD))
        + manifest
            .files
            .keys()
            .filter(|file| *file != Learned::FILE)
            .map(|file| size(artifact.dir().join(file)))
            .sum::<f64>();
    let in_memory = if manifest.dtype == Dtype::Int8 { 4.0 } else { 1.0 };
    let base = match manifest.body {
        Body::Base => {
            let installed = installed::load(&options.train.models_dir, manifest.base.name.as_str())?;
            size(installed.dir().join("model.safetensors")) / in_memory
        }
        // Counted as part of the folder: what is not held in memory comes off again.
        Body::Encoder => size(artifact.dir().join("model.safetensors")) * (1.0 / in_memory - 1.0),
        Body::Words | Body::Static => 0.0,
    };
    Ok((own + base) / 1e6)
}
