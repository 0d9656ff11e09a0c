//! How close `advise forecast` comes to what a replay costs: forecasts from some requests, held against 10,000 other
//! requests that go through `route::Cascade` one by one, with their audits drawn. Cost, and latency at the median and
//! the 95th percentile.
//!
//! Four ways of knowing: rows drawn independently from the same traffic; disjoint halves of the recording, so that no
//! request is on both sides; a few rows of the trace itself with the large model's bill known; and the whole trace seen
//! in shadow mode.

use clap::Args;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};
use understudy_advise::{
    Observed,
    forecast::{self, Interval, Policy, Target},
};
use understudy_core::{Answer, Confidence, Error, Money, Result, Seed, Usage, outcome};
use understudy_route::{Cascade, Gate, Plan, Step, Tier};
use understudy_stats::binomial;

#[derive(Debug, Args)]
pub(crate) struct ForecastArgs {
    /// Folder with the recorded outcomes (*.jsonl.zst)
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Forecasts of each kind for each pair of models and each threshold
    #[arg(long, default_value_t = 100)]
    runs: u64,
    /// Requests replayed
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Recorded sets with confidences, costs and latencies, and pairs of a cheaper and a dearer model in them.
const PAIRS: &[(&str, &str, &str)] = &[
    ("cascades_mmlu_test", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_mmlu_test", "gpt-4o-mini", "gpt-4o"),
    ("cascades_mmlu_test", "llama3.1-70b", "llama3.1-405b"),
    ("cascades_mmlu_train", "gpt-4o-mini", "gpt-4o"),
    ("cascades_medmcqa_train", "gpt-4o-mini", "gpt-4o"),
    ("cascades_triviaqa_train", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_truthfulqa_train", "gpt-4o-mini", "gpt-4o"),
    ("cascades_gsm8k_train", "llama3.1-8b", "llama3.1-405b"),
];

/// Shares of the traffic that the thresholds keep.
const KEPT: [f64; 2] = [0.5, 0.8];
/// Share of kept answers that are audited.
const AUDIT: f64 = 0.01;
/// The bar.
const BAR: f64 = 0.02;

/// What is known when the forecast is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// So many requests of the same traffic, drawn independently of the trace.
    Rows(usize),
    /// One half of the recording; the trace is drawn from the other.
    OtherHalf,
    /// So many requests of the trace, and what the large model cost on all of it.
    Bill(usize),
    /// Every request of the trace, in shadow mode.
    Shadow,
}

const KNOWN: [Known; 9] = [
    Known::Rows(300),
    Known::Rows(1_000),
    Known::Rows(3_000),
    Known::Rows(10_000),
    Known::Rows(30_000),
    Known::OtherHalf,
    Known::Bill(1_000),
    Known::Bill(3_000),
    Known::Shadow,
];

impl Known {
    fn name(self) -> String {
        match self {
            Self::Rows(n) => format!("{n} other requests"),
            Self::OtherHalf => "disjoint half".to_owned(),
            Self::Bill(n) => format!("{n} of them, bill known"),
            Self::Shadow => "all of them, in shadow".to_owned(),
        }
    }
}

/// What a trace really cost and how fast it was.
struct Replayed {
    cost: Money,
    p50: f64,
    p95: f64,
}

/// Relative errors of the forecasts of one kind.
#[derive(Debug, Default)]
struct Errors {
    cost: Vec<f64>,
    p50: Vec<f64>,
    p95: Vec<f64>,
    held: u64,
}

#[derive(Debug, Serialize)]
struct Summary {
    known: String,
    set: Option<&'static str>,
    small: Option<&'static str>,
    large: Option<&'static str>,
    runs: u64,
    cost_error_mean: f64,
    cost_error_p95: f64,
    cost_within_2_percent: f64,
    cost_within_2_percent_low: f64,
    cost_within_2_percent_high: f64,
    interval_holds: f64,
    p50_error_mean: f64,
    p50_within_2_percent: f64,
    p95_error_mean: f64,
    p95_within_2_percent: f64,
}

pub(crate) fn run(args: &ForecastArgs) -> Result<()> {
    let mut folder =
        args.data.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    if folder.join("outcomes/recorded").is_dir() {
        folder = folder.join("outcomes/recorded");
    }
    println!(
        "{} requests replayed, {} forecasts of each kind for each of {} pairs and {} thresholds; errors are relative\n",
        args.requests,
        args.runs,
        PAIRS.len(),
        KEPT.len()
    );
    let mut all: Vec<Errors> = KNOWN.iter().map(|_| Errors::default()).collect();
    let mut rows = Vec::new();
    for &(set, small, large) in PAIRS {
        let population = read(&folder, set, small, large)?;
        let errors = pair(&population, args, &format!("{set} {small} {large}"))?;
        for ((known, errors), all) in KNOWN.iter().zip(errors).zip(&mut all) {
            rows.push(Summary { set: Some(set), small: Some(small), large: Some(large), ..errors.summary(*known) });
            all.extend(errors);
        }
    }
    let overall: Vec<Summary> = KNOWN.iter().zip(&all).map(|(known, errors)| errors.summary(*known)).collect();
    print(&overall, &rows);
    if args.json {
        println!("{}", serde_json::json!({ "requests": args.requests, "overall": overall, "rows": rows }));
    }
    Ok(())
}

fn print(overall: &[Summary], rows: &[Summary]) {
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    println!(
        "{:<28} {:>7} {:>10} {:>10} {:>22} {:>9} {:>10} {:>10}",
        "known", "runs", "cost mean", "cost p95", "cost within 2 %", "interval", "p50 in 2 %", "p95 in 2 %"
    );
    let line = |name: &str, s: &Summary| {
        let within = format!(
            "{} [{:.1}, {:.1}]",
            percent(s.cost_within_2_percent),
            100.0 * s.cost_within_2_percent_low,
            100.0 * s.cost_within_2_percent_high
        );
        println!(
            "{name:<28} {:>7} {:>10} {:>10} {within:>22} {:>9} {:>10} {:>10}",
            s.runs,
            percent(s.cost_error_mean),
            percent(s.cost_error_p95),
            percent(s.interval_holds),
            percent(s.p50_within_2_percent),
            percent(s.p95_within_2_percent)
        );
    };
    for summary in overall {
        line(&summary.known, summary);
    }
    for known in [Known::Rows(10_000), Known::OtherHalf, Known::Shadow] {
        println!("\n{}, by set and pair", known.name());
        for row in rows.iter().filter(|row| row.known == known.name()) {
            let name = row.set.unwrap_or_default().trim_start_matches("cascades_");
            line(&format!("{name} {}", row.small.unwrap_or_default()), row);
        }
    }
}

/// All forecasts for one pair.
fn pair(population: &[Observed], args: &ForecastArgs, name: &str) -> Result<Vec<Errors>> {
    let mut confidences: Vec<f64> = population.iter().filter_map(|row| row.confidence).collect();
    confidences.sort_by(|a, b| b.total_cmp(a));
    let mut errors: Vec<Errors> = KNOWN.iter().map(|_| Errors::default()).collect();
    for kept in KEPT {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let threshold = confidences[((kept * confidences.len() as f64) as usize).min(confidences.len() - 1)];
        let policy = Policy { threshold, audit: AUDIT };
        for run in 0..args.runs {
            let seed = Seed(args.seed).derive(&format!("{name} {kept} {run}"));
            let mut rng = ChaCha8Rng::seed_from_u64(seed.0);
            let trace = draw(population, args.requests, &mut rng);
            let replayed = replay(&trace, policy, &mut rng);
            for (known, errors) in KNOWN.iter().zip(&mut errors) {
                match known {
                    Known::Rows(n) => {
                        let rows = draw(population, *n, &mut rng);
                        errors.add(&rows, policy, Target::Next(trace.len() as u64), &replayed)?;
                    }
                    Known::OtherHalf => {
                        let mut order: Vec<Observed> = population.to_vec();
                        order.shuffle(&mut rng);
                        let (ours, theirs) = order.split_at(order.len() / 2);
                        let trace = draw(theirs, args.requests, &mut rng);
                        let replayed = replay(&trace, policy, &mut rng);
                        errors.add(ours, policy, Target::Next(trace.len() as u64), &replayed)?;
                    }
                    Known::Bill(n) => {
                        let large_total = trace.iter().filter_map(|row| row.large.map(|(cost, _)| cost)).sum();
                        let target = Target::Billed { requests: trace.len() as u64, large_total };
                        // The trace is in random order: its beginning is a random part of it.
                        errors.add(&trace[..(*n).min(trace.len())], policy, target, &replayed)?;
                    }
                    Known::Shadow => {
                        let large_total = trace.iter().filter_map(|row| row.large.map(|(cost, _)| cost)).sum();
                        let target = Target::Billed { requests: trace.len() as u64, large_total };
                        errors.add(&trace, policy, target, &replayed)?;
                    }
                }
            }
        }
    }
    Ok(errors)
}

fn draw(population: &[Observed], n: usize, rng: &mut ChaCha8Rng) -> Vec<Observed> {
    (0..n).map(|_| population[rng.random_range(0..population.len())]).collect()
}

/// Sends every request through the cascade that serves, and adds up what it cost.
fn replay(trace: &[Observed], policy: Policy, rng: &mut ChaCha8Rng) -> Replayed {
    let gate = Gate::AtLeast(Confidence::new(policy.threshold.clamp(0.0, 1.0)).expect("clamped into [0, 1]"));
    let mut answer = Answer::text("small".into(), "", Usage::default());
    let large_answer = Answer::text("large".into(), "", Usage::default());
    let (mut cost, mut times) = (Money::ZERO, Vec::with_capacity(trace.len()));
    for row in trace {
        let (large_cost, large_ms) = row.large.map_or((Money::ZERO, 0.0), |(cost, ms)| (cost, ms.unwrap_or(0.0)));
        let plan = Plan::SmallFirst { gate: gate.clone(), audit_probability: policy.audit, large_obstacle: None };
        let (mut cascade, mut step) = Cascade::start(plan, rng.random());
        let mut ms = 0.0;
        loop {
            step = match step {
                Step::Ask(Tier::Small) => {
                    cost = cost + row.small_cost;
                    ms += row.small_ms.unwrap_or(0.0);
                    answer.confidence = row.confidence.and_then(|c| Confidence::new(c).ok());
                    cascade.on(Ok(&answer))
                }
                Step::Ask(Tier::Large) => {
                    cost = cost + large_cost;
                    ms += large_ms;
                    cascade.on(Ok(&large_answer))
                }
                Step::Reply { after, .. } => {
                    if after == Some(Tier::Large) {
                        cost = cost + large_cost;
                    }
                    break;
                }
                Step::Fail(_) => break,
            };
        }
        times.push(ms);
    }
    times.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the trace")]
    let at = |q: f64| times[((q * times.len() as f64).ceil() as usize).clamp(1, times.len()) - 1];
    Replayed { cost, p50: at(0.5), p95: at(0.95) }
}

impl Errors {
    fn add(&mut self, rows: &[Observed], policy: Policy, target: Target, replayed: &Replayed) -> Result<()> {
        let out = forecast::forecast(rows, policy, target)?;
        let truth = replayed.cost.usd();
        let relative = |estimate: f64, truth: f64| (estimate / truth - 1.0).abs();
        let time = |interval: Option<Interval>, truth| interval.map_or(f64::NAN, |i| relative(i.estimate, truth));
        self.cost.push(relative(out.total_usd.estimate, truth));
        self.p50.push(time(out.latency_ms_p50, replayed.p50));
        self.p95.push(time(out.latency_ms_p95, replayed.p95));
        let within =
            out.total_usd.low.is_some_and(|low| low <= truth) && out.total_usd.high.is_some_and(|high| truth <= high);
        self.held += u64::from(within);
        Ok(())
    }

    fn extend(&mut self, other: Self) {
        self.cost.extend(other.cost);
        self.p50.extend(other.p50);
        self.p95.extend(other.p95);
        self.held += other.held;
    }

    fn summary(&self, known: Known) -> Summary {
        let n = self.cost.len() as u64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let within = |values: &[f64]| values.iter().filter(|error| **error <= BAR).count() as u64;
        let share = |values: &[f64]| within(values) as f64 / values.len() as f64;
        let mut sorted = self.cost.clone();
        sorted.sort_by(f64::total_cmp);
        let cost = binomial::wilson(within(&self.cost), n, 0.95);
        Summary {
            known: known.name(),
            set: None,
            small: None,
            large: None,
            runs: n,
            cost_error_mean: mean(&self.cost),
            cost_error_p95: sorted[(sorted.len() * 19 / 20).min(sorted.len() - 1)],
            cost_within_2_percent: cost.estimate,
            cost_within_2_percent_low: cost.low,
            cost_within_2_percent_high: cost.high,
            interval_holds: self.held as f64 / n as f64,
            p50_error_mean: mean(&self.p50),
            p50_within_2_percent: share(&self.p50),
            p95_error_mean: mean(&self.p95),
            p95_within_2_percent: share(&self.p95),
        }
    }
}

/// The requests that both models answered with a known confidence, cost and time.
fn read(folder: &Path, set: &str, small: &str, large: &str) -> Result<Vec<Observed>> {
    let file = folder.join(format!("{set}.jsonl.zst"));
    let name = file.display().to_string();
    let failed = |e: std::io::Error| {
        Error::not_found(format!("read {name}: {e}; give the folder of the recorded outcomes with --data"))
    };
    let decoder = zstd::Decoder::new(File::open(&file).map_err(failed)?).map_err(failed)?;
    let outcomes = outcome::read(&name, BufReader::new(decoder))?;
    let rows: Vec<Observed> = outcomes
        .iter()
        .filter_map(|outcome| {
            let (s, l) = (outcome.models.get(small)?, outcome.models.get(large)?);
            Some(Observed {
                confidence: s.score(),
                small_cost: Money::from_usd(s.cost_usd?).ok()?,
                small_ms: Some(s.latency_ms?),
                large: Some((Money::from_usd(l.cost_usd?).ok()?, Some(l.latency_ms?))),
                probability: 1.0,
            })
        })
        .collect();
    if rows.len() < 10 {
        return Err(Error::data(format!("read {name}: `{small}` and `{large}` have no costs and times there")));
    }
    Ok(rows)
}
