//! Learning from a task's recorded traffic: train a small model, and certify it on traffic that it has not seen.
//!
//! Rows are divided by the hash of their trace id, request by request, not text by text. A text that comes again in
//! traffic may be on both sides, as it may come again tomorrow: the calibration rows are then exactly as the traffic
//! to come, which is what the certificate assumes.

use crate::{
    compose::Composer,
    training::{self, TrainOptions, Trained},
};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use understudy_adapt::dataset::Example;
use understudy_core::{
    Backend, Error, LossKind, ModelName, Request, Result, Seed, TaskName, TaskSpec, Timestamp, TraceId,
    hash::unit_interval,
};
use understudy_model::artifact::Artifact;
use understudy_pilot::{Grid, Item, Report, Terms, certify};
use understudy_store::{ArtifactRecord, LearningRow, Source, Store};

/// Share of a task's rows that train; the others are kept for the certificate.
pub(crate) const TRAIN_SHARE: f64 = 0.5;

/// What a row is used for. Fixed by its trace id: a row never changes sides.
fn trains(row: &LearningRow) -> bool {
    unit_interval(&format!("side {}", row.id)) < TRAIN_SHARE
}

/// Trains a head for a task from its recorded traffic, registers it and makes it the task's small model.
pub(crate) async fn train_from_traffic(
    store: &Store,
    spec: &TaskSpec,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    let rows = store.learning_rows(&spec.name).await?;
    let examples: Vec<Example> = rows
        .iter()
        .filter(|row| trains(row) && spec.labels.contains(&row.label))
        .map(|row| Example { id: row.id.to_string(), text: row.input.clone(), label: row.label.clone() })
        .collect();
    if examples.is_empty() {
        return Err(Error::invalid(format!(
            "train from task `{}`: {} of its {} recorded requests have a text and one of the task's labels; let it \
             observe for longer",
            spec.name,
            examples.len(),
            rows.len()
        )));
    }
    let now = options.created;
    let base = options.base.clone();
    let trained = training::train_head(examples, options, dir, bar).await?;
    register(store, &spec.name, &trained.artifact, &base, now).await?;
    Ok(trained)
}

/// Registers an artifact and makes it the small model of a task.
pub(crate) async fn register(
    store: &Store,
    task: &TaskName,
    artifact: &Artifact,
    base: &str,
    now: Timestamp,
) -> Result<()> {
    let manifest = artifact.manifest();
    let path =
        std::path::absolute(artifact.dir()).map_err(|e| Error::internal(format!("find the artifact's folder: {e}")))?;
    let metrics =
        serde_json::to_value(&manifest.metrics).map_err(|e| Error::internal(format!("write metrics: {e}")))?;
    store
        .put_artifact(ArtifactRecord {
            hash: artifact.hash().to_owned(),
            name: manifest.name.clone(),
            task: Some(task.clone()),
            path,
            base: Some(base.to_owned()),
            parent: manifest.parent.clone(),
            created: manifest.created,
            metrics,
        })
        .await?;
    store.deploy(task, artifact.hash(), now).await
}

/// What a certification looked at.
pub(crate) struct Certification {
    pub(crate) report: Report,
    /// The items, for plots of calibration: confidence and whether the small model was right (agreed).
    pub(crate) items: Vec<Item>,
    pub(crate) terms: Terms,
}

/// Certifies a task's small model on the recorded traffic that did not train it, and stores the certificate.
pub(crate) async fn certify_from_traffic(
    store: &Store,
    spec: &TaskSpec,
    composer: &Composer,
    models_dir: &Path,
    now: Timestamp,
    bar: &ProgressBar,
) -> Result<Certification> {
    let Some(large) = spec.large.clone() else {
        return Err(Error::invalid(format!(
            "certify task `{}` from its traffic: it is local-only, so no large model ever answered; certify it on \
             recorded outcomes with gold labels (--outcomes)",
            spec.name
        )));
    };
    let artifact = deployed(store, spec).await?;
    let rows: Vec<LearningRow> = store
        .learning_rows(&spec.name)
        .await?
        .into_iter()
        .filter(|row| !trains(row) && row.large_label.is_some() && row.large.as_ref() == Some(&large))
        .collect();
    if rows.is_empty() {
        return Err(Error::invalid(format!(
            "certify task `{}`: no recorded answers of `{large}` are set aside for it; let the task observe for longer",
            spec.name
        )));
    }
    bar.set_length(rows.len() as u64);
    let items = judge(&artifact, &rows, composer, models_dir, bar).await?;
    let gold = rows.iter().all(|row| row.source == Source::Gold);
    let terms = Terms {
        task: spec.name.clone(),
        small: artifact.manifest().name.clone(),
        small_hash: artifact.hash().to_owned(),
        large,
        epsilon: spec.epsilon,
        delta: spec.delta,
        loss: if gold { LossKind::Regret } else { LossKind::Disagreement },
        issued: now,
    };
    let report = certify(&items, &terms, &Grid::default())?;
    if let Some(certificate) = report.certificate() {
        store.put_certificate(certificate.clone()).await?;
    }
    Ok(Certification { report, items, terms })
}

/// The artifact that is a task's small model now.
pub(crate) async fn deployed(store: &Store, spec: &TaskSpec) -> Result<Artifact> {
    let Some(deployment) = store.deployment(&spec.name).await? else {
        return Err(Error::invalid(format!(
            "certify task `{}`: it has no small model; `understudy adapt finetune --task {}` makes one",
            spec.name, spec.name
        )));
    };
    Artifact::read(&store.artifact(&deployment.artifact).await?.path)
}

/// Lets the small model answer rows whose label is known.
async fn judge(
    artifact: &Artifact,
    rows: &[LearningRow],
    composer: &Composer,
    models_dir: &Path,
    bar: &ProgressBar,
) -> Result<Vec<Item>> {
    use futures_util::{StreamExt, TryStreamExt, stream};
    let classifier = composer.classifier(artifact, models_dir, 0)?;
    let gold = rows.iter().all(|row| row.source == Source::Gold);
    stream::iter(rows)
        .map(|row| {
            let classifier = &classifier;
            async move {
                let mut request = Request::new(TraceId::from_parts(0, 0), ModelName::from("auto"), Vec::new());
                request.input = Some(row.input.clone());
                let answer = classifier.answer(&request).await?;
                bar.inc(1);
                let (small, large) = (answer.label, row.large_label.as_ref());
                let loss = match gold {
                    true => small.as_ref() != Some(&row.label) && large == Some(&row.label),
                    false => small.as_ref() != large,
                };
                let confidence = answer.confidence.map(|c| c.get());
                Ok::<_, Error>(Item { id: row.id.to_string(), confidence, loss_if_kept: loss })
            }
        })
        .buffered(64)
        .try_collect()
        .await
}

/// Where a task's artifacts lie: beside the store.
pub(crate) fn artifact_dir(store: &Path, task: &TaskName, seed: Seed, now: Timestamp) -> PathBuf {
    let parent = store.parent().unwrap_or(Path::new(""));
    parent.join("artifacts").join(task.as_str()).join(format!("{}-{}", now.0, seed.0))
}
