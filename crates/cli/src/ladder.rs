//! The ladder of `adapt auto`: one model after the other from the cheapest kind to the dearest, each trained within a
//! time budget, judged on rows that trained nothing, certified and put on one frontier.
//!
//! All rungs are certified on the same rows, and the choice among them looks at the outcome. So each is tested at its
//! part of δ (δ divided by the number of rungs): then all certificates hold together with probability 1 − δ, and the one
//! that is picked with them. Finished rungs are remembered in `ladder.json`.

mod choice;
mod measure;

use crate::{
    clock::SystemClock,
    compose::Composer,
    terminal,
    training::{
        self, Method, TrainOptions,
        distil::{self, DistilOptions},
        tuned::Tuning,
    },
};
use measure::{judge, memory_mb};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_adapt::table::TableParams;
use understudy_core::{
    Clock, Error, ModelName, Result,
    hash::{sha256_hex, unit_interval},
};
use understudy_dataset::{Cleaned, Example, clean, text_hash};
use understudy_model::{artifact::Artifact, installed};
use understudy_pilot::metrics::Metric;

/// File that remembers finished rungs.
const STATE: &str = "ladder.json";
/// Fewest examples that a rung is trained on.
const LEAST_EXAMPLES: usize = 100;
/// Part of a budget that embedding may take; fitting needs the rest.
const FOR_EMBEDDING: f64 = 0.6;

/// Part of a budget that training an encoder may take.
const FOR_TRAINING: f64 = 0.8;

/// A kind of model, on an installed encoder where it needs one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rung {
    /// A linear model of words.
    Words,
    /// Static embeddings distilled from the encoder.
    Static(String),
    /// A head on the frozen encoder.
    Head(String),
    /// Adapters on the encoder.
    Lora(String),
    /// The encoder trained whole.
    Full(String),
}

impl Rung {
    /// The encoder that it stands on.
    fn base(&self) -> Option<&str> {
        match self {
            Self::Words => None,
            Self::Static(base) | Self::Head(base) | Self::Lora(base) | Self::Full(base) => Some(base),
        }
    }

    /// Its folder and name in tables.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Words => "words".to_owned(),
            Self::Static(base) => format!("static-{base}"),
            Self::Head(base) => format!("head-{base}"),
            Self::Lora(base) => format!("lora-{base}"),
            Self::Full(base) => format!("full-{base}"),
        }
    }
}

/// How to climb.
#[derive(Debug, Clone)]
pub(crate) struct LadderOptions {
    /// As for training; base, method and name are each rung's own.
    pub(crate) train: TrainOptions,
    /// From cheap to dear.
    pub(crate) rungs: Vec<Rung>,
    /// Time for each rung.
    pub(crate) budget: Duration,
    /// Share of the texts that only certify.
    pub(crate) certify_share: f64,
    pub(crate) epsilon: f64,
    pub(crate) delta: f64,
    /// Share of the requests that a cheaper model may keep less than the best.
    pub(crate) slack: f64,
}

/// What came of a rung.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Climbed {
    pub(crate) rung: String,
    /// What its training depended on; another value and it is trained again.
    trained_for: String,
    /// What its judgement depended on.
    judged_for: String,
    pub(crate) artifact: PathBuf,
    pub(crate) hash: String,
    /// Time to train, and examples that there was time for.
    pub(crate) seconds: f64,
    pub(crate) examples: usize,
    pub(crate) accuracy: Option<Figure>,
    /// Share of the requests it may answer.
    pub(crate) kept: f64,
    /// Smallest confidence that is kept.
    pub(crate) threshold: Option<f64>,
    /// Upper bound of its loss.
    pub(crate) bound: Option<f64>,
    /// Why it may answer nothing.
    pub(crate) refusal: Option<String>,
    /// One text after the other on one core.
    pub(crate) us_per_text: f64,
    /// Weights that it loads.
    pub(crate) memory_mb: f64,
    /// No other rung keeps as much, as fast, in as little memory.
    #[serde(default)]
    pub(crate) on_frontier: bool,
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) estimate: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) n: u64,
}

impl From<Metric> for Figure {
    fn from(m: Metric) -> Self {
        Self { estimate: m.estimate, low: m.low, high: m.high, n: m.n }
    }
}

/// All rungs, and which one to take.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ladder {
    pub(crate) rungs: Vec<Climbed>,
    /// The rung that wins, if any is certified.
    pub(crate) pick: Option<String>,
    pub(crate) n_train: usize,
    pub(crate) n_certify: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    rungs: Vec<Climbed>,
    /// Rungs whose training was begun here: their folders are ours to replace.
    #[serde(default)]
    begun: BTreeSet<String>,
}

/// Climbs all rungs; `dir` has a folder for each and the state.
///
/// # Errors
/// `Data` when the examples cannot be learnt from or the state cannot be read; whatever training or certifying reports.
pub(crate) async fn climb(examples: Vec<Example>, options: &LadderOptions, dir: &Path) -> Result<Ladder> {
    let cleaned = clean(examples);
    let seed = options.train.seed.derive("ladder").0;
    let side = |e: &Example| unit_interval(&format!("{seed}:{}", text_hash(&e.text)));
    let (mut certify_rows, train_rows): (Vec<Example>, Vec<Example>) =
        cleaned.examples.iter().cloned().partition(|e| side(e) < options.certify_share);
    certify_rows.sort_by_cached_key(|e| text_hash(&e.text));
    if certify_rows.is_empty() || train_rows.is_empty() {
        return Err(Error::data("climb the ladder: there are too few examples to divide; give more"));
    }
    fs::create_dir_all(dir).map_err(|e| Error::data(format!("write {}: {e}", dir.display())))?;
    let mut state = State::read(&dir.join(STATE))?;
    for rung in &mut state.rungs {
        // Wherever the ladder is seen from, or was moved to.
        rung.artifact = dir.join(&rung.rung);
    }
    for name in options.rungs.iter().map(Rung::name).filter(|name| !state.begun.contains(name)) {
        let place = dir.join(&name);
        if fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::invalid(format!(
                "climb the ladder: {} is there, and not from this ladder; choose another --out",
                place.display()
            ))
            .with_param("out"));
        }
    }
    let composer = Composer::new(std::sync::Arc::new(SystemClock::new()), options.train.seed)?;
    let mut rungs = Vec::new();
    for rung in &options.rungs {
        let name = rung.name();
        let (trained_for, judged_for) = keys(&cleaned, rung, options)?;
        let known = state.rungs.iter().position(|r| r.rung == name && r.trained_for == trained_for);
        let known = known
            .map(|at| state.rungs.swap_remove(at))
            .filter(|r| Artifact::read(&r.artifact).is_ok_and(|artifact| artifact.hash() == r.hash));
        let climbed = match known {
            Some(known) if known.judged_for == judged_for => {
                terminal::note(format_args!("  {name}: done before"));
                known
            }
            known => {
                let trained = match known {
                    Some(known) => {
                        terminal::note(format_args!("  {name}: trained before"));
                        known
                    }
                    None => {
                        state.begun.insert(name.clone());
                        state.with(&rungs).write(&dir.join(STATE))?;
                        train(rung, &train_rows, options, dir, trained_for).await?
                    }
                };
                judge(trained, &certify_rows, options, &composer, judged_for).await?
            }
        };
        rungs.push(climbed);
        // After every rung, so that nothing is lost when this is stopped.
        state.with(&rungs).write(&dir.join(STATE))?;
    }
    choice::mark_frontier(&mut rungs);
    let pick = choice::pick(&rungs, options.slack).map(|r| r.rung.clone());
    Ok(Ladder { rungs, pick, n_train: train_rows.len(), n_certify: certify_rows.len() })
}

impl State {
    fn read(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::data(format!("read {}: {e}; delete it to begin anew", path.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::data(format!("read {}: {e}", path.display()))),
        }
    }

    /// With these rungs in place of what it knows of them; those of other runs stay remembered.
    fn with(&self, rungs: &[Climbed]) -> Self {
        let all = rungs.iter().chain(self.rungs.iter().filter(|r| rungs.iter().all(|new| new.rung != r.rung)));
        Self { rungs: all.cloned().collect(), begun: self.begun.clone() }
    }

    fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::internal(format!("write the ladder: {e}")))?;
        understudy_pilot::report::write_file(path, &json)
    }
}

/// What training and judging a rung depend on.
fn keys(data: &Cleaned, rung: &Rung, options: &LadderOptions) -> Result<(String, String)> {
    let train = &options.train;
    let base = match rung.base() {
        Some(base) => training::base_model(&installed::load(&train.models_dir, base)?).hash,
        None => String::new(),
    };
    let trained = format!(
        "2 {} {rung:?} {base} {:?} {:?} {} {} {} {:?} {}",
        data.data_hash(),
        train.task,
        train.dtype,
        train.max_tokens,
        train.seed.0,
        options.certify_share,
        train.out_of_scope,
        options.budget.as_secs()
    );
    let judged = format!("1 {trained} {} {} {}", options.epsilon, options.delta, options.rungs.len());
    Ok((sha256_hex(trained.as_bytes()), sha256_hex(judged.as_bytes())))
}

/// Trains a rung on as many examples as there is time for.
async fn train(
    rung: &Rung,
    rows: &[Example],
    options: &LadderOptions,
    dir: &Path,
    trained_for: String,
) -> Result<Climbed> {
    let clock = SystemClock::new();
    let name = rung.name();
    let out = dir.join(&name);
    let mut train = options.train.clone();
    train.name = ModelName::new(name.clone());
    train.test_share = 0.0;
    train.existing = understudy_adapt::artifact::Existing::Replace;
    let bar = terminal::progress(0, &name);
    let rows = match rung {
        Rung::Words => rows.to_vec(),
        Rung::Static(base) | Rung::Head(base) => {
            train.base.clone_from(base);
            affordable(rows, &train, options.budget).await?
        }
        // Training ends when the time is up, so all examples take part.
        Rung::Lora(base) | Rung::Full(base) => {
            train.base.clone_from(base);
            rows.to_vec()
        }
    };
    let examples = rows.len();
    let trained = match rung {
        Rung::Words => training::train(rows, TrainOptions { method: Method::Words, ..train }, &out, &bar).await,
        Rung::Head(_) => training::train(rows, TrainOptions { method: Method::Head, ..train }, &out, &bar).await,
        Rung::Lora(_) => training::train(rows, tuned(Method::Lora, train, options.budget), &out, &bar).await,
        Rung::Full(_) => training::train(rows, tuned(Method::Full, train, options.budget), &out, &bar).await,
        Rung::Static(_) => {
            let options = DistilOptions { train, teacher: None, table: TableParams::default() };
            distil::to_static(rows, options, &out, &bar).await.map(|distilled| distilled.trained)
        }
    };
    bar.finish_and_clear();
    let artifact = trained?.artifact;
    Ok(Climbed {
        rung: name,
        trained_for,
        judged_for: String::new(),
        artifact: out,
        hash: artifact.hash().to_owned(),
        seconds: clock.monotonic().as_secs_f64(),
        examples,
        accuracy: None,
        kept: 0.0,
        threshold: None,
        bound: None,
        refusal: None,
        us_per_text: 0.0,
        memory_mb: memory_mb(&artifact, options)?,
        on_frontier: false,
    })
}

/// How an encoder is trained within the budget; a part of it is left for reading the texts before and after.
fn tuned(method: Method, train: TrainOptions, budget: Duration) -> TrainOptions {
    let mut tuning = Tuning::for_method(method);
    tuning.params.seconds = budget.as_secs_f64() * FOR_TRAINING;
    TrainOptions { method, tuning: Some(tuning), ..train }
}

/// As many examples as can be embedded in the budget, chosen by their texts alone.
async fn affordable(rows: &[Example], train: &TrainOptions, budget: Duration) -> Result<Vec<Example>> {
    let mut order: Vec<(String, &Example)> = rows.iter().map(|e| (text_hash(&e.text), e)).collect();
    order.sort_by(|a, b| a.0.cmp(&b.0));
    let sample: Vec<Example> = order.iter().take(64).map(|(_, e)| (*e).clone()).collect();
    let rate = training::head::embeddings_per_s(&sample, train).await?;
    let room = rate * budget.as_secs_f64() * FOR_EMBEDDING;
    if room >= rows.len() as f64 {
        return Ok(rows.to_vec());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, below the number of rows")]
    let room = room as usize;
    if room < LEAST_EXAMPLES {
        return Err(Error::invalid(format!(
            "train on `{}`: it embeds {rate:.0} texts a second here, so {} s are enough for {room} examples; raise \
             --budget or leave the rung out",
            train.base,
            budget.as_secs()
        )));
    }
    Ok(order.into_iter().take(room).map(|(_, e)| e.clone()).collect())
}
