//! `understudy pilot replay`: recorded outcomes through a router or a gate, and what comes of it at every threshold.

mod page;
mod policy;
mod scores;
mod show;

use crate::{
    clock::SystemClock,
    commands::Context,
    compose::{self, Composer},
    deployed::Deployed,
    pairs::{Pair, Pairs},
    report::ReportArg,
    terminal,
};
use clap::Args;
use scores::{Data, Method};
use std::{path::PathBuf, sync::Arc};
use understudy_core::{Clock, Error, LossKind, Outcome, Result, Seed, hash::sha256_hex};
use understudy_model::service::EncoderService;
use understudy_pilot::{
    Grid, Loss, Report, Rule, Scored, Terms, certify_scored,
    gate::{self, Helpers},
    replay::{self, Options, Replay},
    scored_from_outcomes,
};
use understudy_route::router::Reading;
use understudy_store::{Store, StoreOptions};

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Recorded outcomes, one JSON object a line; `.zst` is unpacked
    #[arg(long, value_name = "FILE", required_unless_present = "task")]
    outcomes: Option<PathBuf>,
    /// A task of the configuration instead: its recorded requests that both models answered. One half trains, the other
    /// is replayed
    #[arg(long, value_name = "NAME", conflicts_with_all = ["outcomes", "train", "small", "large", "models"])]
    task: Option<String>,
    /// With --task: another store than the configuration's
    #[arg(long, value_name = "FILE", requires = "task")]
    store: Option<PathBuf>,
    /// Outcomes to train the router or gate on [default: cross-fit within --outcomes]
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,
    /// The small model's name in the outcomes
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present_any = ["models", "task"],
        default_value = "",
        hide_default_value = true
    )]
    small: String,
    /// The large model's name in the outcomes
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present_any = ["models", "task"],
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
    #[arg(long, alias = "save-router", value_name = "FILE", requires = "router")]
    save: Option<PathBuf>,
    /// Write the gate, fitted to all training rows and to the small model's own answers alone, to this file:
    /// `[task.NAME] gate = "FILE"` serves it
    #[arg(long, value_name = "FILE", requires = "gate")]
    save_gate: Option<PathBuf>,
    /// Resamples behind the intervals
    #[arg(long, default_value_t = 500, value_name = "N")]
    resamples: usize,
    /// Seed of folds and resamples
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    report: ReportArg,
}

/// What is shown and printed.
struct Shown {
    method: Method,
    replay: Replay,
    /// Trivial routers on the same rows, by name.
    baselines: Vec<(String, Replay)>,
    /// `None` where rows have weights.
    report: Option<Report>,
    /// Sentences about what was fitted and chosen.
    notes: Vec<String>,
    decision_us: [f64; 2],
}

/// Runs `understudy pilot replay`.
pub(super) async fn run(mut args: ReplayArgs, context: &Context) -> Result<()> {
    args.report.check()?;
    if !args.models.is_empty() {
        if args.report.is_wanted() {
            return Err(Error::invalid("write the report: it shows a pair; name --small and --large, not --models"));
        }
        return policy::run(&args, context).await;
    }
    let Material { outcomes, train, selected, notes } = Material::of(&mut args, context).await?;
    let method = Method::of(&args, &outcomes)?;
    let embedder = method.embedder(args.embedder.as_deref());
    let encoder = embedder.as_deref().map(|name| routing_encoder(name, context)).transpose()?;
    let embed = async |outcomes: &[Outcome]| match &encoder {
        Some(encoder) => embed(encoder, outcomes).await,
        None => Ok(Vec::new()),
    };
    let test_vectors = embed(&outcomes).await?;
    let train_vectors = match &train {
        Some(train) => embed(train).await?,
        None => Vec::new(),
    };
    let data = Data {
        test: &outcomes,
        test_vectors: &test_vectors,
        train: train.as_deref(),
        train_vectors: &train_vectors,
        encoder: encoder.as_ref().map(|service| service.encoder()),
        small: &args.small,
        large: &args.large,
        seed: Seed(args.seed),
        selected,
        // What is saved is what is measured: the gateway asks no other model.
        helpers: if args.save_gate.is_some() { Helpers::Named(Vec::new()) } else { Helpers::Auto },
    };
    let bar = terminal::progress(0, "fitting and replaying");
    let shown = replayed(&method, &data, &args, notes);
    bar.finish_and_clear();
    let shown = shown?;
    show::show(&shown, &args);
    if let Some(file) = &args.save {
        let limit = show::limit_at(&shown.replay, args.epsilon);
        let trained = scores::train_router(&method, &data, limit, embedder)?;
        scores::write(file, &trained.to_json())?;
        terminal::say(format_args!("\nrouter `{}` written to {}", trained.kind, file.display()));
    }
    let mut hash = None;
    if let Some(file) = &args.save_gate {
        let gate = scores::fit_gate(&method, &data)?;
        scores::write(file, gate.to_json().as_bytes())?;
        terminal::say(format_args!("\ngate {} written to {}", &gate.hash()[..16], file.display()));
        hash = Some(gate.hash().to_owned());
    }
    let mut object = show::object(&shown);
    object["gate_hash"] = hash.into();
    args.report.write(|| page::page(&shown, &args), &object)?;
    crate::commands::finish(context, &object)
}

/// What is replayed.
struct Material {
    outcomes: Vec<Outcome>,
    train: Option<Vec<Outcome>>,
    /// Whether it depended on the small model's answer which requests were recorded, and how surely.
    selected: bool,
    notes: Vec<String>,
}

impl Material {
    /// From files, or from a task's traffic, whose models' names then go into the arguments.
    async fn of(args: &mut ReplayArgs, context: &Context) -> Result<Self> {
        if let Some(task) = args.task.clone() {
            return Self::traffic(&task, args, context).await;
        }
        let file =
            args.outcomes.clone().ok_or_else(|| Error::invalid("replay: give --outcomes FILE or --task NAME"))?;
        let (outcomes, skipped) = read(&file, args)?;
        let train = args.train.as_ref().map(|file| read(file, args)).transpose()?;
        let mut notes = Vec::new();
        if skipped > 0 {
            notes.push(format!("{skipped} rows without a quality for both models were left out"));
        }
        let selected = outcomes.iter().any(|outcome| outcome.weight.is_some());
        Ok(Self { outcomes, train: train.map(|(train, _)| train), selected, notes })
    }

    async fn traffic(name: &str, args: &mut ReplayArgs, context: &Context) -> Result<Self> {
        let config = context.config()?;
        let Some(task) = config.tasks.iter().find(|task| task.spec.name.as_str() == name) else {
            let file = context.config_path.display();
            return Err(Error::not_found(format!("replay task `{name}`: {file} has no [task.{name}]")));
        };
        let options = StoreOptions { durability: config.store.durability, ..StoreOptions::default() };
        let store = Store::open_existing(args.store.as_ref().unwrap_or(&config.store.path), options)?;
        let deployed = Deployed::of(task, &config, &store).await?;
        let (Some(deployed), Some(large)) = (deployed, &task.spec.large) else {
            return Err(Error::invalid(format!("replay task `{name}`: it needs a small and a large model")));
        };
        let pairs = Pairs::of(&store, &task.spec, &deployed).await?;
        (args.small, args.large) = (pairs.small.clone(), large.to_string());
        let all = || pairs.train.iter().chain(&pairs.certify);
        let gold = all().filter(|pair| pair.has_gold()).count();
        let audits = all().filter(|pair| pair.outcome.weight.is_some()).count();
        let mut notes = vec![format!(
            "{} recorded requests of task `{name}` that both models answered: {} train, {} are replayed; {gold} with \
             feedback, for the others the large model's answer counts as right",
            all().count(),
            pairs.train.len(),
            pairs.certify.len()
        )];
        if audits > 0 {
            notes.push(format!("{audits} of them are audits; each counts as one over the probability of its audit"));
        }
        let selected = !pairs.certify.iter().all(Pair::is_shadowed);
        let outcomes = |pairs: Vec<Pair>| pairs.into_iter().map(|pair| pair.outcome).collect::<Vec<_>>();
        let (train, certify) = (outcomes(pairs.train), outcomes(pairs.certify));
        if train.is_empty() || certify.is_empty() {
            let n = train.len() + certify.len();
            return Err(Error::invalid(format!("replay task `{name}`: {n} requests are too few to divide")));
        }
        Ok(Self { outcomes: certify, train: Some(train), selected, notes })
    }
}

fn replayed(method: &Method, data: &Data<'_>, args: &ReplayArgs, mut notes: Vec<String>) -> Result<Shown> {
    let options = Options { stage: method.stage(), resamples: args.resamples, seed: data.seed };
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
    // Exact counts need rows that were recorded whatever the small model said.
    let report = if data.selected {
        notes.push(format!(
            "no certificate from live traffic, of which only escalated and audited requests have both answers: \
             `understudy pilot what-if --task {}` bounds the loss of other thresholds on it",
            data.test[0].task
        ));
        None
    } else {
        let Certifiable { items, loss, grid } = certifiable(method, data, scores.as_deref(), &mut notes)?;
        Some(certify_scored(&items, &Terms { loss, ..terms }, Rule::default(), &grid)?)
    };
    let decision_us = data.decision_us(method)?;
    Ok(Shown { method: method.clone(), replay, baselines, report, notes, decision_us })
}

/// What a certificate is made from.
struct Certifiable {
    items: Vec<Scored>,
    loss: LossKind,
    grid: Grid,
}

/// Items for a certificate: of rows that no fit has seen, by one and the same fit. Losses that are not all whole are
/// graded.
fn certifiable(
    method: &Method,
    data: &Data<'_>,
    scores: Option<&[f64]>,
    notes: &mut Vec<String>,
) -> Result<Certifiable> {
    let Some(scores) = scores else {
        let (items, loss) = scored_from_outcomes(data.test, data.small, data.large, Loss::Auto)?;
        return Ok(Certifiable { items, loss, grid: Grid::default() });
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
        let quality = |model: &str| outcome.models.get(model).and_then(|answer| answer.quality).unwrap_or_default();
        let loss = (quality(data.large) - quality(data.small)).max(0.0);
        Scored { id: outcome.id.clone(), confidence: confidence(score), loss }
    };
    let items: Vec<Scored> = places.into_iter().zip(scores).map(item).collect();
    let whole = items.iter().all(|item| item.loss <= 0.0 || item.loss >= 1.0);
    let loss = if whole { LossKind::Regret } else { LossKind::GradedRegret };
    // Even steps, fixed beforehand: predicted gains lie close together, where the default grid in log-odds is coarse.
    let grid = Grid::new((0..=STEPS).rev().map(|step| f64::from(step) / f64::from(STEPS)).collect())?;
    Ok(Certifiable { items, loss, grid })
}

/// Thresholds of a certificate over scores.
const STEPS: u32 = 4000;

/// A score, brought into [0, 1] so that a high one is a low confidence; none where a gate refused to judge, which is never
/// kept. Fixed for all data.
fn confidence(score: f64) -> Option<f64> {
    (score < gate::REFUSED).then(|| (0.5 - (2.0 * score).atan() / std::f64::consts::PI).clamp(0.0, 1.0))
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

/// An installed encoder as new routers read it.
fn routing_encoder(name: &str, context: &Context) -> Result<Arc<EncoderService>> {
    let composer = Composer::new(Arc::new(SystemClock::new()), Seed(0))?;
    composer.routing_encoder(&context.models_dir, name, Reading::NEW, 0)
}

/// Embeddings of the prompts.
async fn embed(service: &EncoderService, outcomes: &[Outcome]) -> Result<Vec<Vec<f32>>> {
    const BATCH: usize = 64;
    let bar = terminal::progress(outcomes.len() as u64, "embedding prompts");
    let mut vectors = Vec::with_capacity(outcomes.len());
    for batch in outcomes.chunks(BATCH) {
        let texts = batch.iter().map(|outcome| outcome.prompt.clone()).collect();
        let embedded = understudy_core::Embedder::embed(service, texts).await;
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
