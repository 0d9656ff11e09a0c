//! Training a generative model's adapter: rows → tokens as they are served → adapter → what serves is compared with what
//! was trained → artifact.
//!
//! The comparison comes before the artifact is written. llama.cpp loads the adapter on the base at 16 bits and says, for
//! answers that training did not see, how likely it finds each token: where that differs from the trained network by more
//! than a thousandth of a nat on average, something is wrong between the two, and there is no artifact. Then it loads the
//! base as it is installed; what quantising it costs is recorded.

use super::run::{checkpoint_path, on_threads, watched};
use super::{heavy, installed_hash};
use crate::{clock::SystemClock, compose::cores};
use indicatif::ProgressBar;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_adapt::{
    artifact::Existing,
    device::Device,
    finetune::{Data, Record, Run},
    llama::{
        Agreement, Batch, Example, LlamaLora, LlamaNetwork, LlamaParams, NewAdapted, NewWeights, Pass, Weights, fit,
        write,
    },
};
use understudy_core::{Clock, Error, Message, ModelName, Result, Role, Seed, TaskName, Timestamp, hash::sha256_hex};
use understudy_dataset::{Learned, Part, Row, Shares, part_of, rows_hash};
use understudy_model::{
    adapted::{ADAPTER, Adapted, AdaptedManifest, Kind, Served},
    artifact::{BaseModel, FORMAT, Metric},
    generate::{ChatTokens, FileType, Importance, Scorer, file_type, quantise},
    installed,
};
use understudy_pilot::metrics::Metric as Measured;

/// Largest mean divergence, in nats a token, between the trained network and llama.cpp at 16 bits.
pub(crate) const F16_LIMIT: f64 = 1e-3;
/// The same with the installed base: what quantising the base may cost before the adapter does not fit it any more.
const INSTALLED_LIMIT: f64 = 0.1;
/// What comes before a text when the reasons for its answer are asked for: in training only.
const EXPLAIN: &str = "Explain the answer to this:\n\n";
/// Held-out answers whose tokens are compared.
pub(crate) const COMPARED: usize = 48;

/// How to train.
#[derive(Debug, Clone)]
pub(crate) struct GenerativeOptions {
    /// Catalogue name of the base.
    pub(crate) base: String,
    /// Where models are installed.
    pub(crate) models_dir: PathBuf,
    /// Name of the new model.
    pub(crate) name: ModelName,
    /// The task it is for.
    pub(crate) task: Option<TaskName>,
    /// The adapter's shape.
    pub(crate) lora: LlamaLora,
    /// How it is trained.
    pub(crate) params: LlamaParams,
    /// Instructions for rows that have none.
    pub(crate) system: Option<String>,
    /// The field with the reasons for the answer, a second task, and how much an answer's reasons count beside it.
    pub(crate) rationale: Option<(String, f64)>,
    /// Tokens of prompt and answer; longer rows are left out.
    pub(crate) max_tokens: usize,
    /// Share of the rows that only measure.
    pub(crate) test_share: f64,
    /// Seed of everything.
    pub(crate) seed: Seed,
    /// Threads; 0 uses all.
    pub(crate) threads: usize,
    /// Where passes are computed.
    pub(crate) device: Device,
    /// What to do with another artifact in the folder.
    pub(crate) existing: Existing,
    /// Now.
    pub(crate) created: Timestamp,
}

/// A trained model, written, and how it came about.
pub(crate) struct TrainedGenerative {
    /// The artifact as it reads back.
    pub(crate) artifact: Adapted,
    /// Each epoch.
    pub(crate) history: Vec<Record>,
    /// Mean loss of each step.
    pub(crate) losses: Vec<f64>,
    /// Examples learned from, each epoch anew.
    pub(crate) samples: u64,
    /// Time of the steps.
    pub(crate) training: Duration,
    /// Time of everything.
    pub(crate) total: Duration,
    /// Rows that were too long.
    pub(crate) too_long: usize,
    /// Rows that repeated another.
    pub(crate) duplicates: usize,
    /// Rows that training learned the reasons of.
    pub(crate) explained: usize,
    /// Agreement at 16 bits, and of the installed base.
    pub(crate) agreement: [Agreement; 2],
}

/// Rows as token ids, divided.
struct Material {
    train: Vec<Example>,
    stop: Vec<Example>,
    test: Vec<Example>,
    too_long: usize,
    duplicates: usize,
    explained: usize,
    data_hash: String,
    /// SHA-256 over the reasons.
    taught: Option<String>,
    /// Rows that had a part in training.
    learned: Learned,
    /// The instructions, when all rows have the same.
    system: Option<String>,
}

/// Trains an adapter on `rows` and writes the artifact to `dir`.
///
/// # Errors
/// `NotFound` when the base is not installed; `Invalid` and `Data` when rows or parameters cannot be used; `Internal` when
/// llama.cpp says something else than what was trained.
pub(crate) async fn train(
    rows: Vec<Row>,
    options: GenerativeOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<TrainedGenerative> {
    let (dir, bar) = (dir.to_owned(), bar.clone());
    heavy("train the model", move || run(&rows, &options, &dir, &bar)).await
}

fn run(rows: &[Row], options: &GenerativeOptions, dir: &Path, bar: &ProgressBar) -> Result<TrainedGenerative> {
    let clock = SystemClock::new();
    let began = clock.monotonic();
    let installed = installed::load(&options.models_dir, &options.base)?;
    let gguf = installed.gguf()?;
    bar.set_message("reading model and texts");
    let material = material(rows, &ChatTokens::load(&gguf)?, options)?;
    let mut params = options.params.clone();
    if material.explained > 0 {
        // A step sees as many rows as without reasons, each of which is two examples.
        params.batch *= 2;
    }
    let params = params.check()?;
    let network =
        LlamaNetwork::new(Weights::from_gguf(&gguf)?, options.lora.clone(), options.seed, options.max_tokens)?;
    let checkpoint = checkpoint_path(dir, &told(&material, options, &installed_hash(&installed)?));
    let data = Data { train: &material.train, held_out: &material.stop };
    let learn = |run: Run<'_>| fit(&params, network, data, options.seed, run);
    let trained = watched(bar, (options.threads, options.device), Some(&checkpoint), learn)?;
    bar.set_message("measuring");
    let metrics = on_threads(options.threads, || measure(&trained.network, &material.test, options.seed))?;
    let adapter = trained.network.gguf_adapter(options.name.as_str())?;
    bar.set_message("comparing what serves");
    let compare = || compare(&trained.network, &gguf, &adapter, &material, cores(options.threads));
    let agreement = on_threads(options.threads, compare)?;
    agreement[0].check(F16_LIMIT, "llama.cpp at 16 bits")?;
    agreement[1].check(INSTALLED_LIMIT, "llama.cpp on the installed base")?;
    let manifest = AdaptedManifest {
        format: FORMAT,
        kind: Kind::Generative,
        name: options.name.clone(),
        task: options.task.clone(),
        base: BaseModel { name: ModelName::new(installed.name.clone()), hash: installed_hash(&installed)? },
        method: format!(
            "lora, rank {}, alpha {}{}",
            options.lora.rank,
            options.lora.alpha,
            if material.explained > 0 { ", with rationales" } else { "" }
        ),
        system: material.system.clone(),
        files: BTreeMap::new(),
        metrics,
        served: Served {
            f16_mean_kl: agreement[0].mean_kl,
            installed_mean_kl: agreement[1].mean_kl,
            installed_flips: agreement[1].flips,
            n: agreement[0].n,
        },
        data_hash: material.data_hash.clone(),
        taught: material.taught.clone(),
        // A row with its reasons is two examples.
        n_train: (material.train.len() - material.explained) as u64,
        n_test: material.test.len() as u64,
        max_tokens: u32::try_from(options.max_tokens).unwrap_or(u32::MAX),
        seed: options.seed,
        parent: None,
        quantised: None,
        device: options.device.noted(),
        created: options.created,
    };
    let peft = trained.network.peft_files(&options.base)?;
    let weights = NewWeights::Adapter { gguf: adapter, peft };
    let artifact = write(dir, NewAdapted { manifest, weights, learned: material.learned.clone() }, options.existing)?;
    // The model is safe; the state of its training is not needed any more. A file left behind does no harm.
    drop(std::fs::remove_file(checkpoint));
    Ok(TrainedGenerative {
        artifact,
        history: trained.history,
        losses: trained.losses,
        samples: trained.samples,
        training: trained.elapsed,
        total: clock.monotonic().saturating_sub(began),
        too_long: material.too_long,
        duplicates: material.duplicates,
        explained: material.explained,
        agreement,
    })
}

/// The conversation before a row's answer.
pub(crate) fn conversation(row: &Row, system: Option<&str>) -> Vec<Message> {
    let mut messages = row.messages.clone();
    if messages.is_empty() {
        messages.push(Message { role: Role::User, text: row.text.clone() });
    }
    if let Some(text) = row.system.as_deref().or(system)
        && messages[0].role != Role::System
    {
        messages.insert(0, Message { role: Role::System, text: text.to_owned() });
    }
    messages
}

fn material(rows: &[Row], tokens: &ChatTokens, options: &GenerativeOptions) -> Result<Material> {
    let shares = Shares::new(if options.params.patience > 0 { 0.1 } else { 0.0 }, options.test_share)?;
    let mut material = Material {
        train: Vec::new(),
        stop: Vec::new(),
        test: Vec::new(),
        too_long: 0,
        duplicates: 0,
        explained: 0,
        data_hash: rows_hash(rows),
        taught: None,
        learned: Learned::default(),
        system: None,
    };
    let (mut seen, mut systems, mut reasons) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut learned = Vec::new();
    for row in rows {
        let answer = row.gold().filter(|answer| !answer.trim().is_empty()).ok_or_else(|| {
            Error::data(format!("train on line {}: it has no answer; --answer names its field", row.line))
        })?;
        let content = row.content_hash();
        if !seen.insert(format!("{content} {}", sha256_hex(answer.as_bytes()))) {
            material.duplicates += 1;
            continue;
        }
        let messages = conversation(row, options.system.as_deref());
        systems.insert(messages.first().filter(|m| m.role == Role::System).map(|m| m.text.clone()));
        let prompt = tokens.prompt(&messages).map_err(|e| e.context(format!("train on line {}", row.line)))?;
        let start = prompt.len();
        let example = Example::new(prompt.into_iter().chain(tokens.answer(answer)).collect(), start);
        if example.tokens.len() > options.max_tokens {
            material.too_long += 1;
            continue;
        }
        let part = part_of(&content, shares, options.seed);
        if part != Part::Test {
            learned.extend(row.hashes());
        }
        match part {
            Part::Train => match (&options.rationale, why(row, options)) {
                (None, _) => material.train.push(example),
                (Some(_), None) => material.train.push(example.counting(1.0)),
                (Some((_, weight)), Some(why)) => {
                    material.train.push(example.counting(1.0));
                    reasons.push(why);
                    let prompt = tokens.prompt(&asking_why(messages))?;
                    let start = prompt.len();
                    let all = prompt.into_iter().chain(tokens.answer(why)).collect();
                    let example = Example::new(all, start).counting(*weight);
                    if example.tokens.len() <= options.max_tokens {
                        material.explained += 1;
                        material.train.push(example);
                    }
                }
            },
            Part::Calibrate => material.stop.push(example),
            Part::Test => material.test.push(example),
        }
    }
    if material.train.is_empty() {
        return Err(Error::data(format!(
            "train on {} rows: none is left to learn from ({} have more than {} tokens; --max-tokens allows more)",
            rows.len(),
            material.too_long,
            options.max_tokens
        )));
    }
    if let Some((field, weight)) = &options.rationale {
        if material.explained == 0 {
            let what = format!("train on {} rows: none to learn from has a `{field}` that is short enough", rows.len());
            return Err(Error::invalid(what).with_param("rationale"));
        }
        material.taught = Some(sha256_hex(format!("{weight} {}", reasons.join("\0")).as_bytes()));
    }
    material.learned = Learned::of(learned);
    if systems.len() == 1 {
        material.system = systems.into_iter().next().flatten();
    }
    Ok(material)
}

/// The reasons for a row's answer.
fn why<'r>(row: &'r Row, options: &GenerativeOptions) -> Option<&'r str> {
    let (field, _) = options.rationale.as_ref()?;
    row.extra.get(field)?.as_str().map(str::trim).filter(|why| !why.is_empty())
}

/// A conversation whose last turn asks for the reasons: another task by how it begins.
fn asking_why(mut messages: Vec<Message>) -> Vec<Message> {
    if let Some(last) = messages.last_mut() {
        last.text.insert_str(0, EXPLAIN);
    }
    messages
}

/// What tells this training from others.
fn told(material: &Material, options: &GenerativeOptions, base: &str) -> String {
    let GenerativeOptions { lora, params, system, max_tokens, test_share, seed, device, .. } = options;
    let (data, taught) = (&material.data_hash, material.taught.as_deref().unwrap_or_default());
    format!("{data} {taught} {base} {lora:?} {params:?} {system:?} {max_tokens} {test_share} {} {device}", seed.0)
}

/// Loss and right tokens of answers that training did not see, a mean over answers.
pub(crate) fn measure(network: &LlamaNetwork, test: &[Example], seed: Seed) -> Result<BTreeMap<String, Metric>> {
    let (mut losses, mut right, mut pass) = (Vec::new(), Vec::new(), Pass::default());
    for example in test {
        let (loss, hits) = network.loss(&Batch::new([example]), &mut pass);
        losses.push(loss.sum / loss.weight.max(1.0));
        right.push(hits as f64 / loss.weight.max(1.0));
    }
    let mut metrics = BTreeMap::new();
    for (name, scores) in [("loss", losses), ("token_accuracy", right)] {
        let Some(Measured { estimate, low, high, n }) = Measured::mean(&scores, seed.derive(name)) else { continue };
        if !estimate.is_finite() {
            return Err(Error::internal("measure the trained model: its loss is not finite"));
        }
        // Of one answer nothing is known but itself: a share lies between none and all, and a loss has no bound to give.
        let (low, high) = match name {
            "token_accuracy" if !(low.is_finite() && high.is_finite()) => (0.0, 1.0),
            _ if low.is_finite() && high.is_finite() => (low.min(estimate), high.max(estimate)),
            _ => continue,
        };
        metrics.insert(name.to_owned(), Metric { estimate, low, high, n });
    }
    Ok(metrics)
}

/// What llama.cpp says with the adapter: on the base at 16 bits, and on the base as it is installed.
fn compare(
    network: &LlamaNetwork,
    gguf: &Path,
    adapter: &[u8],
    material: &Material,
    threads: usize,
) -> Result<[Agreement; 2]> {
    let failed = |e: std::io::Error| Error::data(format!("make a temporary folder: {e}"));
    let scratch = tempfile::tempdir().map_err(failed)?;
    let (adapter_file, half) = (scratch.path().join(ADAPTER), scratch.path().join("half.gguf"));
    std::fs::write(&adapter_file, adapter).map_err(failed)?;
    let held_out = if material.test.is_empty() { &material.train } else { &material.test };
    let examples = &held_out[..held_out.len().min(COMPARED)];
    let with = |base: &Path| {
        let mut scorer = Scorer::load(base, Some(&adapter_file), threads)?;
        Agreement::measure(network, examples, |example| scorer.logits(&example.tokens, example.answer))
    };
    let installed = with(gguf)?;
    if matches!(file_type(gguf)?, Some(FileType::F16 | FileType::F32)) {
        return Ok([installed, installed]);
    }
    quantise(gguf, &half, FileType::F16, &Importance::new())?;
    Ok([with(&half)?, installed])
}
