//! Learning from a task's recorded traffic: train a small model, and certify it on traffic that it has not seen.
//!
//! Rows are divided request by request, not text by text. A text that comes again in traffic may be on both sides, as it
//! may come again tomorrow: the calibration rows are then exactly as the traffic to come, which is what the certificate
//! assumes. The side is a function of the text and of how often it came before, so it never changes, and the same
//! traffic gives the same model and the same certificate.

use crate::{
    compose::Composer,
    training::{self, TrainOptions, Trained},
};
use indicatif::ProgressBar;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};
use understudy_core::{
    Backend, Error, LossKind, ModelName, Request, Result, Seed, TaskName, TaskSpec, Timestamp, TraceId,
    hash::unit_interval,
};
use understudy_dataset::Example;
use understudy_model::artifact::Artifact;
use understudy_pilot::{Grid, Item, Report, Terms, certify};
use understudy_store::{ArtifactRecord, LearningRow, Source, Store};

/// Share of a task's rows that train; the others are kept for the certificate.
pub(crate) const TRAIN_SHARE: f64 = 0.5;

/// A task's rows, divided: those that train, and those that are kept for the certificate. Each row has a name that does
/// not depend on when and under which id it was recorded.
struct Sides {
    train: Vec<(String, LearningRow)>,
    certify: Vec<(String, LearningRow)>,
}

impl Sides {
    async fn of(store: &Store, task: &TaskName) -> Result<Self> {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut rows: Vec<(String, LearningRow)> = store
            .learning_rows(task)
            .await?
            .into_iter()
            .map(|row| {
                let before = seen.entry(row.input_hash.clone()).or_insert(0);
                *before += 1;
                (format!("{}-{before}", row.input_hash), row)
            })
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let (train, certify) = rows.into_iter().partition(|(name, _)| unit_interval(name) < TRAIN_SHARE);
        Ok(Self { train, certify })
    }
}

/// Trains a head for a task from its recorded traffic, registers it and makes it the task's small model.
pub(crate) async fn train_from_traffic(
    store: &Store,
    spec: &TaskSpec,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    let Sides { train, certify } = Sides::of(store, &spec.name).await?;
    let recorded = train.len() + certify.len();
    let examples: Vec<Example> = train
        .into_iter()
        .filter(|(_, row)| spec.labels.contains(&row.label))
        .map(|(id, row)| Example { id, text: row.input, label: row.label })
        .collect();
    if examples.is_empty() {
        return Err(Error::invalid(format!(
            "train from task `{}`: none of its {recorded} recorded requests has a text and one of the task's labels; let \
             it observe for longer",
            spec.name
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
    let rows: Vec<(String, LearningRow)> = Sides::of(store, &spec.name)
        .await?
        .certify
        .into_iter()
        .filter(|(_, row)| row.large_label.is_some() && row.large.as_ref() == Some(&large))
        .collect();
    if rows.is_empty() {
        return Err(Error::invalid(format!(
            "certify task `{}`: no recorded answers of `{large}` are set aside for it; let the task observe for longer",
            spec.name
        )));
    }
    bar.set_length(rows.len() as u64);
    let items = judge(&artifact, &rows, composer, models_dir, bar).await?;
    let gold = rows.iter().all(|(_, row)| row.source == Source::Gold);
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
    rows: &[(String, LearningRow)],
    composer: &Composer,
    models_dir: &Path,
    bar: &ProgressBar,
) -> Result<Vec<Item>> {
    use futures_util::{StreamExt, TryStreamExt, stream};
    let classifier = composer.classifier(artifact, models_dir, 0)?;
    let gold = rows.iter().all(|(_, row)| row.source == Source::Gold);
    stream::iter(rows)
        .map(|(id, row)| {
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
                Ok::<_, Error>(Item { id: id.clone(), confidence, loss_if_kept: loss })
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
