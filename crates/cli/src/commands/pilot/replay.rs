//! `understudy pilot replay`: recorded outcomes through a router or a gate, and what comes of it at every threshold.

mod policy;
mod scores;
mod show;

use crate::{
    clock::SystemClock,
    commands::Context,
    compose::{self, Composer},
    terminal,
};
use clap::Args;
use scores::{Data, Method};
use std::{path::PathBuf, sync::Arc};
use understudy_core::{Clock, Error, LossKind, Outcome, Result, Seed, hash::sha256_hex};
use understudy_model::encoder::Dtype;
use understudy_pilot::{
    Grid, Item, Report, Terms, items,
    replay::{self, Options, Replay},
};

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Recorded outcomes, one JSON object a line; `.zst` is unpacked
    #[arg(long, value_name = "FILE")]
    outcomes: PathBuf,
    /// Outcomes to train the router or gate on [default: cross-fit within --outcomes]
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,
    /// The small model's name in the outcomes
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "models",
        default_value = "",
        hide_default_value = true
    )]
    small: String,
    /// The large model's name in the outcomes
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "models",
        default_value = "",
        hide_default_value = true
    )]
    large: String,
    /// Instead of a pair: any number of models, of which each request gets the one of the greatest predicted quality
    /// minus price and time
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with_all = ["small", "large", "gate", "train", "save"])]
    models: Vec<String>,
    /// With --models: quality given up for one USD saved on a request
    #[arg(long, default_value_t = 0.0, value_name = "L", requires = "models")]
    lambda: f64,
    /// With --models: quality given up for one second saved on a request
    #[arg(long, default_value_t = 0.0, value_name = "M", requires = "models")]
    mu: f64,
    /// Route before anything is generated: auto, length, group, tfidf, static, knn, linear or stack
    #[arg(long, value_name = "KIND", conflicts_with = "gate")]
    router: Option<String>,
    /// Judge the small model's answer: auto, raw, logistic or boosted
    #[arg(long, value_name = "KIND")]
    gate: Option<String>,
    /// Installed encoder whose embeddings routers may use; knn, linear and stack use `minilm` if none is named
    #[arg(long, value_name = "NAME")]
    embedder: Option<String>,
    /// Largest allowed expected loss per request
    #[arg(long, default_value_t = 0.02, value_name = "E")]
    epsilon: f64,
    /// Probability with which the certificate may be wrong
    #[arg(long, default_value_t = 0.05, value_name = "D")]
    delta: f64,
    /// Write the router, trained on all training rows, to this file: `[task.NAME] router = "FILE"` serves it
    #[arg(long, value_name = "FILE", requires = "router")]
    save: Option<PathBuf>,
    /// Resamples behind the intervals
    #[arg(long, default_value_t = 500, value_name = "N")]
    resamples: usize,
    /// Seed of folds and resamples
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What is shown and printed.
struct Shown {
    method: Method,
    replay: Replay,
    /// Trivial routers on the same rows, by name.
    baselines: Vec<(String, Replay)>,
    report: Report,
    /// Sentences about what was fitted and chosen.
    notes: Vec<String>,
    decision_us: [f64; 2],
}

/// Runs `understudy pilot replay`.
pub(super) async fn run(args: ReplayArgs, context: &Context) -> Result<()> {
    if !args.models.is_empty() {
        return policy::run(&args, context).await;
    }
    let (outcomes, skipped) = read(&args.outcomes, &args)?;
    let train = args.train.as_ref().map(|file| read(file, &args)).transpose()?;
    let method = Method::of(&args, &outcomes)?;
    let embedder = method.embedder(args.embedder.as_deref());
    let embed = async |outcomes: &[Outcome]| match &embedder {
        Some(name) => embed(name, outcomes, context).await,
        None => Ok(Vec::new()),
    };
    let test_vectors = embed(&outcomes).await?;
    let train_vectors = match &train {
        Some((train, _)) => embed(train).await?,
        None => Vec::new(),
    };
    let data = Data {
        test: &outcomes,
        test_vectors: &test_vectors,
        train: train.as_ref().map(|(train, _)| train.as_slice()),
        train_vectors: &train_vectors,
        small: &args.small,
        large: &args.large,
        seed: Seed(args.seed),
    };
    let bar = terminal::progress(0, "fitting and replaying");
    let shown = replayed(&method, &data, &args, skipped);
    bar.finish_and_clear();
    let shown = shown?;
    show::show(&shown, &args);
    if let Some(file) = &args.save {
        let limit = show::limit_at(&shown.replay, args.epsilon);
        let trained = scores::train_router(&method, &data, limit, embedder)?;
        scores::write(file, &trained.to_json())?;
        terminal::say(format_args!("\nrouter `{}` written to {}", trained.kind, file.display()));
    }
    if context.json { terminal::json(&show::object(&shown)) } else { Ok(()) }
}

fn replayed(method: &Method, data: &Data<'_>, args: &ReplayArgs, skipped: usize) -> Result<Shown> {
    let options = Options { stage: method.stage(), resamples: args.resamples, seed: data.seed };
    let mut notes = Vec::new();
    if skipped > 0 {
        notes.push(format!("{skipped} rows without a quality for both models were left out"));
    }
    let scores = data.scores(method, &mut notes)?;
    let rows = |scores: &replay::Score<'_>| Ok(replay::rows(data.test, data.small, data.large, scores)?.0);
    let given = match &scores {
        Some(scores) => rows(&replay::Score::Given(scores))?,
        None => rows(&replay::Score::Recorded)?,
    };
    let replay = replay::replay(&given, options)?;
    let mut baselines = Vec::new();
    let quick = Options { resamples: args.resamples / 5, stage: replay::Stage::Before, ..options };
    for (name, scores) in data.baselines()? {
        baselines.push((name, replay::replay(&rows(&replay::Score::Given(&scores))?, quick)?));
    }
    let terms = Terms {
        task: data.test[0].task.as_str().into(),
        small: data.small.into(),
        // There is no artifact behind a recording; the name stands for the model.
        small_hash: sha256_hex(data.small.as_bytes()),
        large: data.large.into(),
        epsilon: args.epsilon,
        delta: args.delta,
        loss: LossKind::Regret,
        issued: SystemClock::new().now(),
    };
    let (items, grid) = certifiable(method, data, scores.as_deref(), &mut notes)?;
    let report = understudy_pilot::certify(&items, &terms, &grid)?;
    let decision_us = data.decision_us(method)?;
    Ok(Shown { method: method.clone(), replay, baselines, report, notes, decision_us })
}

/// Items for a certificate: of rows that no fit has seen, by one and the same fit.
fn certifiable(
    method: &Method,
    data: &Data<'_>,
    scores: Option<&[f64]>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Item>, Grid)> {
    let Some(scores) = scores else {
        return Ok((understudy_pilot::from_outcomes(data.test, data.small, data.large)?.0, Grid::default()));
    };
    let (places, scores): (Vec<usize>, Vec<f64>) = match data.train {
        Some(_) => (0..data.test.len()).zip(scores.iter().copied()).unzip(),
        None => {
            let (train, test) = replay::halves(data.test.len(), data.seed);
            notes.push(format!(
                "the certificate speaks about a fit to one half of the rows, certified on the other {}; give --train \
                 to certify on all rows",
                test.len()
            ));
            let scores = data.fold(method, &train, &test, &mut Vec::new())?;
            (test, scores)
        }
    };
    let item = |(place, score): (usize, f64)| {
        let outcome = &data.test[place];
        let quality = |model: &str| outcome.models.get(model).and_then(|answer| answer.quality);
        Item {
            id: outcome.id.clone(),
            confidence: Some(confidence(score)),
            loss_if_kept: quality(data.small) < Some(items::RIGHT) && quality(data.large) >= Some(items::RIGHT),
        }
    };
    // Even steps, fixed beforehand: predicted gains lie close together, where the default grid in log-odds is coarse.
    let grid = Grid::new((0..=STEPS).rev().map(|step| f64::from(step) / f64::from(STEPS)).collect())?;
    Ok((places.into_iter().zip(scores).map(item).collect(), grid))
}

/// Thresholds of a certificate over scores.
const STEPS: u32 = 4000;

/// A score, brought into [0, 1] so that a high one is a low confidence. Fixed for all data.
fn confidence(score: f64) -> f64 {
    (0.5 - (2.0 * score).atan() / std::f64::consts::PI).clamp(0.0, 1.0)
}

/// Outcomes in which both models have a quality, and how many others there were.
fn read(file: &std::path::Path, args: &ReplayArgs) -> Result<(Vec<Outcome>, usize)> {
    let mut outcomes = compose::read_outcomes(file)?;
    let all = outcomes.len();
    // Names the models there are when one is missing.
    replay::rows(&outcomes, &args.small, &args.large, &replay::Score::Given(&vec![0.0; all]))?;
    let judged = |outcome: &Outcome, model: &str| outcome.models.get(model).is_some_and(|a| a.quality.is_some());
    outcomes.retain(|outcome| judged(outcome, &args.small) && judged(outcome, &args.large));
    let skipped = all - outcomes.len();
    Ok((outcomes, skipped))
}

/// Embeddings of the prompts by an installed encoder.
async fn embed(name: &str, outcomes: &[Outcome], context: &Context) -> Result<Vec<Vec<f32>>> {
    const BATCH: usize = 64;
    let composer = Composer::new(Arc::new(SystemClock::new()), Seed(0))?;
    let installed = understudy_model::installed::load(&context.models_dir, name)?;
    let service = composer.encoder(&installed, Dtype::F32, scores::MAX_TOKENS, 0)?;
    let bar = terminal::progress(outcomes.len() as u64, "embedding prompts");
    let mut vectors = Vec::with_capacity(outcomes.len());
    for batch in outcomes.chunks(BATCH) {
        let texts = batch.iter().map(|outcome| outcome.prompt.clone()).collect();
        let embedded = understudy_core::Embedder::embed(service.as_ref(), texts).await;
        let embedded = embedded.inspect_err(|_| bar.finish_and_clear())?;
        bar.inc(batch.len() as u64);
        vectors.extend(embedded.vectors);
    }
    bar.finish_and_clear();
    if vectors.len() == outcomes.len() {
        Ok(vectors)
    } else {
        Err(Error::internal("embed the prompts: the encoder returned another number of vectors"))
    }
}
