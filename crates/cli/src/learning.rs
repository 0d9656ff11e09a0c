//! Learning from a task's recorded traffic: train a small model, and certify it on traffic that it has not seen.
//!
//! Rows are divided request by request, not text by text. A text that comes again in traffic may be on both sides, as it
//! may come again tomorrow: the calibration rows are then exactly as the traffic to come, which is what the certificate
//! assumes. The side is a function of the text and of how often it came before, so it never changes, and the same
//! traffic gives the same model and the same certificate. A model that was made elsewhere, from a file, knows no sides: what it
//! learned from certifies nothing.
//!
//! Under a certificate the large model is asked where the small one is unsure, and seldom where it is sure. Such rows may
//! train, since a model that learns from an odd selection is only a worse one; they never certify. What certifies are
//! requests that the large model got whatever the small one would have said.

use crate::{
    compose::Composer,
    config::{Config, ConfiguredTask},
    deployed::{Deployed, Origin},
    pairs::{Pair, Pairs},
    training::{self, TrainOptions, Trained},
};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use understudy_core::{
    Backend, Error, LossKind, ModelName, Request, Result, Seed, TaskName, TaskSpec, Timestamp, TraceId,
    hash::unit_interval,
};
use understudy_dataset::{Example, text_hash};
use understudy_model::{artifact::Artifact, classifier::Classifier};
use understudy_pilot::{Grid, Item, Report, Terms, certify};
use understudy_route::{Reason, gate::FittedGate};
use understudy_store::{ArtifactRecord, LearningRow, Route, Source, Store};

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
        let rows = store.learning_rows(task).await?.into_iter();
        let mut rows: Vec<(String, LearningRow)> =
            rows.map(|row| (row_name(&row.input_hash, row.occurrence), row)).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let (train, certify) = rows.into_iter().partition(|(name, _)| trains(name));
        Ok(Self { train, certify })
    }
}

/// The name of a request in its task's traffic: its text and how many came before with the same one.
pub(crate) fn row_name(input_hash: &str, occurrence: u32) -> String {
    format!("{input_hash}-{}", occurrence + 1)
}

/// Whether the request of this name trains; the others are kept for the certificate.
pub(crate) fn trains(name: &str) -> bool {
    unit_interval(name) < TRAIN_SHARE
}

/// Trains a small model for a task from its recorded traffic, registers it and makes it the task's small model.
pub(crate) async fn train_from_traffic(
    store: &Store,
    spec: &TaskSpec,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    if let Some((label, _)) = options.out_of_scope.as_ref().filter(|(label, _)| !spec.labels.contains(label)) {
        // Whoever serves the task refuses a model that says what the task does not know.
        return Err(Error::invalid(format!(
            "train from task `{}`: its labels have no `{label}`; add it to them, or take one of {}",
            spec.name,
            spec.labels.join(", ")
        ))
        .with_param("out-of-scope"));
    }
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
    let trained = training::train(examples, options, dir, bar).await?;
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
    /// Held-out answers of the large model that were left out, because a certificate decided which requests it got.
    pub(crate) selected: usize,
    /// Held-out requests that were left out, because the model had learned from a file that has them.
    pub(crate) learned: usize,
}

/// Certifies a task's small model on the recorded traffic that did not train it, and stores the certificate. A
/// classifier answers that traffic again; a generative model is judged by the answers it gave in shadow.
pub(crate) async fn certify_from_traffic(
    store: &Store,
    task: &ConfiguredTask,
    config: &Config,
    composer: &Composer,
    now: Timestamp,
    bar: &ProgressBar,
) -> Result<Certification> {
    let spec = &task.spec;
    let Some(large) = spec.large.clone() else {
        return Err(Error::invalid(format!(
            "certify task `{}` from its traffic: it is local-only, so no large model ever answered; certify it on \
             recorded outcomes with gold labels (--outcomes)",
            spec.name
        )));
    };
    let Some(deployed) = Deployed::of(task, config, store).await? else {
        return Err(Error::invalid(format!(
            "certify task `{}`: it has no small model; `understudy adapt finetune --task {}` makes one",
            spec.name, spec.name
        )));
    };
    let judged = match &deployed.origin {
        Origin::Artifact(artifact) => {
            let classifier = composer.classifier(artifact, &config.models_dir, 0)?;
            let (mut rows, selected) = held_out(Sides::of(store, &spec.name).await?, &spec.name, &large)?;
            let of_this_traffic = store.artifact(artifact.hash()).await.ok().and_then(|known| known.task);
            // What was trained on the task's traffic saw the other side only.
            let learned = match of_this_traffic.as_ref() == Some(&spec.name) {
                true => 0,
                false => leave_out_learned(&mut rows, |(_, row)| &row.input, &deployed, config, &spec.name)?,
            };
            bar.set_length(rows.len() as u64);
            let gold = rows.iter().all(|(_, row)| row.source == Source::Gold);
            let items = judge(&classifier, deployed.gate.as_deref(), spec, &rows, gold, bar).await?;
            Judged { items, gold, selected, learned }
        }
        Origin::Named(_) => judged_in_shadow(store, spec, &deployed, config).await?,
    };
    let Judged { items, gold, selected, learned } = judged;
    let terms = Terms {
        task: spec.name.clone(),
        small: deployed.name(),
        small_hash: deployed.identity(),
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
    Ok(Certification { report, items, terms, selected, learned })
}

/// Rows that did not train, with the large model's label, and how many more there were that a certificate had selected.
///
/// # Errors
/// `Invalid` when none is left.
fn held_out(sides: Sides, task: &TaskName, large: &ModelName) -> Result<(Vec<(String, LearningRow)>, usize)> {
    let answered = |row: &LearningRow| row.large_label.is_some() && row.large.as_ref() == Some(large);
    let rows = sides.certify.into_iter().filter(|(_, row)| answered(row));
    let (rows, selected): (Vec<_>, Vec<_>) = rows.partition(|(_, row)| is_unselected(row));
    if rows.is_empty() && selected.is_empty() {
        return Err(Error::invalid(format!(
            "certify task `{task}`: no recorded answers of `{large}` are set aside for it; let the task observe for longer"
        )));
    }
    if rows.is_empty() {
        return Err(Error::invalid(format!(
            "certify task `{task}`: all {} answers of `{large}` that are set aside were recorded under a certificate, which \
             selected them by what the small model said; let the task run in mode \"shadow\" for a while",
            selected.len()
        )));
    }
    Ok((rows, selected.len()))
}

/// Held-out requests with what the small model said, as a certificate counts them.
struct Judged {
    items: Vec<Item>,
    /// Whether all of them have gold.
    gold: bool,
    /// How many were left out because a certificate had selected them, and because the model learned from them.
    selected: usize,
    learned: usize,
}

/// Leaves out the rows that a model learned from which was not trained from this traffic, and says how many.
///
/// # Errors
/// `Invalid` when none is left; as [`Deployed::learned`].
fn leave_out_learned<T>(
    rows: &mut Vec<T>,
    input: impl Fn(&T) -> &str,
    deployed: &Deployed,
    config: &Config,
    task: &TaskName,
) -> Result<usize> {
    let (before, learned) = (rows.len(), deployed.learned(config)?);
    rows.retain(|row| !learned.has(&text_hash(input(row))));
    if rows.is_empty() && before > 0 {
        return Err(Error::invalid(format!(
            "certify task `{task}`: `{}` learned from all {before} requests that are set aside; train it with `understudy \
             adapt finetune --task {task}`, which keeps them apart, or let the task observe for longer",
            deployed.name()
        )));
    }
    Ok(before - rows.len())
}

/// Whether the large model was asked whatever the small one would have said: only such rows are as the traffic to come.
fn is_unselected(row: &LearningRow) -> bool {
    const REASONS: [Reason; 4] = [Reason::Observe, Reason::Shadow, Reason::NoSmallModel, Reason::NoCertificate];
    row.route == Route::Large && REASONS.iter().any(|reason| reason.as_str() == row.reason)
}

/// Items from the answers that a model of the configuration gave in shadow, judged by the task's gate.
async fn judged_in_shadow(store: &Store, spec: &TaskSpec, deployed: &Deployed, config: &Config) -> Result<Judged> {
    let (name, task) = (deployed.name(), &spec.name);
    let Some(gate) = &deployed.gate else {
        return Err(Error::invalid(format!(
            "certify task `{task}`: `{name}` gives no confidence by which answers could be kept; fit a gate (`understudy \
             pilot replay --task {task} --gate auto --save-gate FILE`) and set gate = \"FILE\" in [task.{task}]"
        )));
    };
    let rows: Vec<_> = Pairs::of(store, spec, deployed).await?.certify;
    let (mut rows, selected): (Vec<_>, Vec<_>) = rows.into_iter().partition(Pair::is_shadowed);
    let learned = leave_out_learned(&mut rows, Pair::input, deployed, config, task)?;
    let gold = rows.iter().all(Pair::has_gold);
    let items: Vec<Item> = rows.iter().filter_map(|pair| pair.item(gate, gold, config.store.texts)).collect();
    if items.is_empty() {
        return Err(Error::invalid(format!(
            "certify task `{task}`: no answers that `{name}` gave in shadow are set aside for it{}; let the task run in \
             mode \"shadow\" for longer",
            if rows.is_empty() { "" } else { " and were judged by this gate (their texts were not kept as they were)" }
        )));
    }
    Ok(Judged { items, gold, selected: selected.len(), learned })
}

/// Lets a classifier answer rows whose label is known.
async fn judge(
    classifier: &Classifier,
    gate: Option<&FittedGate>,
    spec: &TaskSpec,
    rows: &[(String, LearningRow)],
    gold: bool,
    bar: &ProgressBar,
) -> Result<Vec<Item>> {
    use futures_util::{StreamExt, TryStreamExt, stream};
    stream::iter(rows)
        .map(|(id, row)| async move {
            let mut request = Request::new(TraceId::from_parts(0, 0), ModelName::from("auto"), Vec::new());
            request.input = Some(row.input.clone());
            let answer = classifier.answer(&request).await?;
            bar.inc(1);
            let confidence = match gate {
                Some(gate) => gate.judge_answer(spec, &request, &answer),
                None => answer.confidence,
            };
            let (small, large) = (answer.label, row.large_label.as_ref());
            let loss = match gold {
                true => small.as_ref() != Some(&row.label) && large == Some(&row.label),
                false => small.as_ref() != large,
            };
            Ok::<_, Error>(Item { id: id.clone(), confidence: confidence.map(|c| c.get()), loss_if_kept: loss })
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

#[cfg(test)]
mod tests;
