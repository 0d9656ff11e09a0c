//! Stopping early when two models are compared: how often are identical models called different, and how many calls
//! does it save on recorded outcomes beside the fixed test at the end?

use crate::recorded;
use clap::Args;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::path::PathBuf;
use understudy_core::{Error, Result, Seed};
use understudy_pilot::sequential::{Comparison, Decision, Design, FUTILE, Question, SPENDING, Step, Values};
use understudy_stats::{
    Bound, binomial, paired,
    walk::{BetaMixture, Spending, Walk},
};

const ALPHA: f64 = 0.05;

/// Compares models with sequential stopping.
#[derive(Debug, Args)]
pub(crate) struct SequentialArgs {
    /// Folder with the recorded outcomes (*.jsonl.zst)
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Simulated pilots of two identical models, for each kind
    #[arg(long, default_value_t = 10_000)]
    pilots: u64,
    /// Random orders, and resampled pilots, for each pair of models
    #[arg(long, default_value_t = 4)]
    orders: u64,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// A way to stop.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// What `pilot` does.
    Pilot,
    /// The exact walk with another spending and futility.
    Walk(Spending, f64),
    /// Betting on every bias, no plan.
    Beta,
    /// Betting mixtures for graded answers, with a plan.
    Graded,
}

const WAYS: [(&str, Way); 10] = [
    ("pilot", Way::Pilot),
    ("walk, no futility", Way::Walk(SPENDING, 0.0)),
    ("walk, O'Brien-Fleming", Way::Walk(Spending::OBrienFleming, FUTILE)),
    ("walk, Pocock", Way::Walk(Spending::Pocock, FUTILE)),
    ("walk, alpha t^1.5", Way::Walk(Spending::Power(1.5), FUTILE)),
    ("walk, alpha t^3", Way::Walk(Spending::Power(3.0), FUTILE)),
    ("walk, futility 10 %", Way::Walk(SPENDING, 0.1)),
    ("walk, futility 20 %", Way::Walk(SPENDING, 0.2)),
    ("beta mixture", Way::Beta),
    ("betting, graded", Way::Graded),
];

/// Outcome of one pilot: direction found (candidate better), and examples used.
type Outcome = (Option<bool>, u64);

fn run_one(way: Way, signs: &[i8]) -> Result<Outcome> {
    let n = signs.len() as u64;
    let heads = |sign: i8| (sign != 0).then_some(sign > 0);
    match way {
        Way::Pilot | Way::Graded => {
            let values = if matches!(way, Way::Graded) { Values::Graded } else { Values::RightOrWrong };
            let design = Design { question: Question::Difference, values, alpha: ALPHA, planned: Some(n) };
            let mut comparison = Comparison::new(design)?;
            for &sign in signs {
                if let Step::Decided(decision) = comparison.observe(f64::from(sign)) {
                    let found = match decision {
                        Decision::Better => Some(true),
                        Decision::Worse => Some(false),
                        _ => None,
                    };
                    return Ok((found, comparison.seen()));
                }
            }
            Ok((None, n))
        }
        Way::Walk(spending, futile) => {
            let mut walk = Walk::new(ALPHA, spending, n);
            for &sign in signs {
                if walk.push(heads(sign)) {
                    return Ok((Some(walk.standing().0 > 0), walk.seen()));
                }
                if sign != 0 && walk.standing().1 >= 10 && walk.predicted_power() < futile {
                    return Ok((None, walk.seen()));
                }
            }
            Ok((None, n))
        }
        Way::Beta => {
            let mut bets = BetaMixture::default();
            let mut sum = 0_i64;
            for (i, &sign) in signs.iter().enumerate() {
                if let Some(heads) = heads(sign) {
                    bets.push(heads);
                    sum += i64::from(sign);
                    if bets.ln_evidence() >= -ALPHA.ln() {
                        return Ok((Some(sum > 0), i as u64 + 1));
                    }
                }
            }
            Ok((None, n))
        }
    }
}

/// McNemar's exact test on all examples.
fn fixed(signs: &[i8]) -> Option<bool> {
    let (up, down) = (count(signs, 1), count(signs, -1));
    (paired::mcnemar(down, up) <= ALPHA).then_some(up > down)
}

fn count(signs: &[i8], sign: i8) -> u64 {
    signs.iter().filter(|&&s| s == sign).count() as u64
}

#[derive(Debug, Serialize)]
struct Null {
    kind: &'static str,
    way: &'static str,
    pilots: u64,
    examples: usize,
    different: u64,
    share: f64,
    low: f64,
    high: f64,
}

#[derive(Debug, Default, Clone, Serialize)]
struct Savings {
    way: &'static str,
    pairs: u64,
    runs: u64,
    /// Mean share of the examples that were not asked, over all runs.
    saved: f64,
    /// The same where the fixed test on all rows finds a difference, and where it does not.
    saved_different: f64,
    saved_undecided: f64,
    /// The same, sets weighted equally.
    saved_sets: f64,
    /// Of the runs in which the fixed test finds a difference: the same one found.
    found: f64,
    /// Of the others: one found nevertheless.
    extra: f64,
    /// Runs with the opposite direction.
    opposite: u64,
    /// Pilots drawn with replacement, so that the truth is known: power and share with the wrong direction.
    power_fixed: f64,
    power: f64,
    wrong_fixed: f64,
    wrong: f64,
    saved_resampled: f64,
}

/// Runs the bench; with `--json` the last line is one object.
pub(crate) fn run(args: &SequentialArgs) -> Result<()> {
    let sets = recorded::all(args.data.as_deref())?;
    let pairs: Vec<(usize, Vec<i8>)> =
        sets.iter().enumerate().flat_map(|(i, set)| signs(set).map(move |s| (i, s))).collect();
    let nulls = identical(&pairs, args)?;
    let savings = savings(&pairs, sets.len(), args)?;
    let failing = nulls.iter().any(|null| null.way == "pilot" && null.low > 0.055);
    if args.json {
        let value = serde_json::json!({ "alpha": ALPHA, "identical": nulls, "savings": savings });
        println!("{value}");
    }
    if failing { Err(Error::internal("keep the error of sequential stopping: see the table")) } else { Ok(()) }
}

/// Signs of the differences in every pair of models, second minus first, right meaning a quality of at least ½.
fn signs(set: &recorded::Set) -> impl Iterator<Item = Vec<i8>> + '_ {
    let names = set.models();
    let pairs = (0..names.len()).flat_map(move |a| (a + 1..names.len()).map(move |b| (a, b)));
    let names = set.models();
    pairs.filter_map(move |(a, b)| {
        let right = |o: &understudy_core::Outcome, name: &str| Some(o.models.get(name)?.quality? >= 0.5);
        let sign = |o: &understudy_core::Outcome| {
            let (a, b) = (right(o, &names[a])?, right(o, &names[b])?);
            Some(i8::from(b) - i8::from(a))
        };
        let signs: Vec<i8> = set.outcomes.iter().filter_map(sign).collect();
        (signs.len() >= 50).then_some(signs)
    })
}

/// Identical models: recorded pairs whose answers are swapped by a fair coin on each example, and independent models of
/// equal accuracy. Looked at after every example.
fn identical(pairs: &[(usize, Vec<i8>)], args: &SequentialArgs) -> Result<Vec<Null>> {
    const EXAMPLES: usize = 500;
    println!("identical models, {} pilots of {EXAMPLES} examples, looked at after each; called different", args.pilots);
    let mut rows = Vec::new();
    for kind in ["swapped", "independent"] {
        for (name, way) in WAYS {
            let mut different = 0;
            for pilot in 0..args.pilots {
                let mut rng = ChaCha8Rng::seed_from_u64(Seed(args.seed).derive(&format!("{kind} {pilot}")).0);
                let signs: Vec<i8> = if kind == "swapped" {
                    let (_, signs) = &pairs[rng.random_range(0..pairs.len())];
                    let draw = |_| signs[rng.random_range(0..signs.len())] * if rng.random::<bool>() { 1 } else { -1 };
                    (0..EXAMPLES).map(draw).collect()
                } else {
                    let accuracy = 0.3 + 0.65 * rng.random::<f64>();
                    let mut right = |_: usize| i8::from(rng.random::<f64>() < accuracy);
                    (0..EXAMPLES).map(|i| right(i) - right(i)).collect()
                };
                different += u64::from(run_one(way, &signs)?.0.is_some());
            }
            let Bound { estimate, low, high, .. } = binomial::interval(different, args.pilots, 0.95);
            println!("  {kind:<12} {name:<24} {:>6.2} %  [{:.2}, {:.2}]", 100.0 * estimate, 100.0 * low, 100.0 * high);
            rows.push(Null {
                kind,
                way: name,
                pilots: args.pilots,
                examples: EXAMPLES,
                different,
                share: estimate,
                low,
                high,
            });
        }
    }
    Ok(rows)
}

fn savings(pairs: &[(usize, Vec<i8>)], sets: usize, args: &SequentialArgs) -> Result<Vec<Savings>> {
    println!(
        "\n{} pairs of models in {sets} sets, {} random orders and {} resampled pilots each, plan: all rows; % \n{:<24} \
         {:>6} {:>9} {:>9} {:>6} | {:>6} {:>6} {:>5} | {:>17} {:>11}",
        pairs.len(),
        args.orders,
        args.orders,
        "",
        "saved",
        "different",
        "undecided",
        "sets",
        "found",
        "extra",
        "opp.",
        "power fixed, ours",
        "wrong"
    );
    let mut rows = Vec::new();
    for (name, way) in WAYS {
        let row = saved_by(name, way, pairs, sets, args)?;
        println!(
            "{name:<24} {:>6.1} {:>9.1} {:>9.1} {:>6.1} | {:>6.1} {:>6.1} {:>5} | {:>8.1} {:>8.1} {:>5.2} {:>5.2}",
            100.0 * row.saved,
            100.0 * row.saved_different,
            100.0 * row.saved_undecided,
            100.0 * row.saved_sets,
            100.0 * row.found,
            100.0 * row.extra,
            row.opposite,
            100.0 * row.power_fixed,
            100.0 * row.power,
            100.0 * row.wrong_fixed,
            100.0 * row.wrong
        );
        rows.push(row);
    }
    Ok(rows)
}

/// A running mean.
#[derive(Debug, Clone, Copy, Default)]
struct Mean(f64, f64);

impl Mean {
    fn push(&mut self, value: f64) {
        self.0 += value;
        self.1 += 1.0;
    }

    fn get(self) -> f64 {
        if self.1 > 0.0 { self.0 / self.1 } else { 0.0 }
    }
}

fn saved_by(
    name: &'static str,
    way: Way,
    pairs: &[(usize, Vec<i8>)],
    sets: usize,
    args: &SequentialArgs,
) -> Result<Savings> {
    let mut by_set = vec![Mean::default(); sets];
    let [mut all, mut different, mut undecided, mut found, mut extra] = [Mean::default(); 5];
    let [mut power_fixed, mut power, mut wrong_fixed, mut wrong, mut resampled] = [Mean::default(); 5];
    let mut opposite = 0;
    let holds = |holds: bool| f64::from(u8::from(holds));
    for (index, (set, signs)) in pairs.iter().enumerate() {
        let n = signs.len() as f64;
        let whole = fixed(signs);
        let truth = count(signs, 1) > count(signs, -1);
        let equal = count(signs, 1) == count(signs, -1);
        for order in 0..args.orders {
            let mut rng = ChaCha8Rng::seed_from_u64(Seed(args.seed).derive(&format!("{index} {order}")).0);
            let mut shuffled = signs.clone();
            shuffled.shuffle(&mut rng);
            let (verdict, used) = run_one(way, &shuffled)?;
            let saved = 1.0 - used as f64 / n;
            all.push(saved);
            by_set[*set].push(saved);
            if whole.is_some() {
                different.push(saved);
                found.push(holds(verdict == whole));
            } else {
                undecided.push(saved);
                extra.push(holds(verdict.is_some()));
            }
            opposite += u64::from(whole.is_some() && verdict.is_some() && verdict != whole);
            if equal {
                continue;
            }
            let drawn: Vec<i8> = (0..signs.len()).map(|_| signs[rng.random_range(0..signs.len())]).collect();
            let (verdict, used) = run_one(way, &drawn)?;
            let end = fixed(&drawn);
            power_fixed.push(holds(end == Some(truth)));
            wrong_fixed.push(holds(end == Some(!truth)));
            power.push(holds(verdict == Some(truth)));
            wrong.push(holds(verdict == Some(!truth)));
            resampled.push(1.0 - used as f64 / n);
        }
    }
    let seen = by_set.iter().filter(|mean| mean.1 > 0.0);
    Ok(Savings {
        way: name,
        pairs: pairs.len() as u64,
        runs: pairs.len() as u64 * args.orders,
        saved: all.get(),
        saved_different: different.get(),
        saved_undecided: undecided.get(),
        saved_sets: seen.clone().map(|mean| mean.get()).sum::<f64>() / seen.count().max(1) as f64,
        found: found.get(),
        extra: extra.get(),
        opposite,
        power_fixed: power_fixed.get(),
        power: power.get(),
        wrong_fixed: wrong_fixed.get(),
        wrong: wrong.get(),
        saved_resampled: resampled.get(),
    })
}
