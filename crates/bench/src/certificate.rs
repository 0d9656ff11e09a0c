//! How often certificates are wrong, and how much they keep: resampled calibration sets of real recorded outcomes.

mod pairs;

use crate::recorded;
use clap::Args;
use pairs::{PAIRS, Pair};
use serde::Serialize;
use std::{
    io::{Write, stdout},
    path::PathBuf,
};
use understudy_core::{Error, LossKind, Per, Result, Seed};
use understudy_pilot::{Grid, Scored, Simulation, ceiling, simulate::Plan, simulate_scored};

/// Certifies resampled calibration sets of recorded outcomes and counts wrong certificates.
#[derive(Debug, Args)]
pub(crate) struct CertificateArgs {
    /// Folder with the recorded outcomes (*.jsonl.zst)
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Calibration sets drawn for each pair of models and each epsilon
    #[arg(long, default_value_t = 1000)]
    runs: u64,
    /// Allowed share of wrong certificates
    #[arg(long, default_value_t = 0.05)]
    delta: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Certify the loss among kept answers instead of the loss over all requests
    #[arg(long)]
    per_kept: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

const EPSILONS: [f64; 4] = [0.005, 0.01, 0.02, 0.05];

/// Calibration items in each run, whatever the size of the population. 1,500 are enough to certify 0.5 % at all (598);
/// 4,000 are what a task has after a few days, and what the share kept is compared at.
const CALIBRATION: [u64; 2] = [1500, 4000];

/// Share of the best fixed threshold's kept requests that a certificate should keep at 4,000 items.
const GOAL: f64 = 0.9;

#[derive(Debug, Serialize)]
struct Row {
    set: &'static str,
    small: &'static str,
    large: &'static str,
    signal: &'static str,
    loss: LossKind,
    epsilon: f64,
    n: u64,
    runs: u64,
    violations: u64,
    violations_low: f64,
    violations_high: f64,
    certified: u64,
    kept: f64,
    kept_low: f64,
    kept_high: f64,
    kept_best_fixed: f64,
    /// Kept over the best fixed threshold's; `null` where that keeps nothing.
    ratio: Option<f64>,
    /// The most that any valid procedure could keep on average, for graded losses that counting could; `null` per kept.
    kept_ceiling: Option<f64>,
    population: usize,
}

/// Runs the bench; with `--json` the last line is one object.
pub(crate) fn run(args: &CertificateArgs) -> Result<()> {
    let folder = recorded::folder(args.data.as_deref());
    println!(
        "{} calibration sets of each size, drawn with replacement from each population; delta {} %; wrong certificates \
         with 95 % interval; shares kept in %: ours, by the best fixed threshold, their ratio, and the ratio that no \
         valid procedure exceeds\n",
        args.runs,
        100.0 * args.delta
    );
    println!(
        "{:<24} {:<26} {:<27} {:<9} {:>5} {:>5} {:>5} {:>5} {:>11} {:>6} {:>6} {:>6} {:>7}",
        "set",
        "small",
        "large",
        "signal",
        "items",
        "eps %",
        "n",
        "wrong",
        "95 % int.",
        "kept",
        "best",
        "ratio",
        "ceiling"
    );
    let mut rows = Vec::new();
    for pair in PAIRS {
        let set = recorded::read(&folder, pair.set)?;
        let (population, loss) = pair.items(&set.outcomes, args.seed)?;
        for epsilon in EPSILONS {
            for n in CALIBRATION {
                rows.push(simulate_pair(pair, &population, loss, epsilon, n, args)?);
            }
        }
    }
    let failing = summary(&rows, args);
    if args.json {
        let text = serde_json::to_string(&serde_json::json!({ "rows": rows }))
            .map_err(|e| Error::internal(format!("write JSON: {e}")))?;
        println!("{text}");
    }
    if failing > 0 {
        return Err(Error::internal(format!("keep the promise of the certificate in {failing} rows: see the table")));
    }
    Ok(())
}

fn simulate_pair(
    pair: &Pair,
    population: &[Scored],
    loss: LossKind,
    epsilon: f64,
    n: u64,
    args: &CertificateArgs,
) -> Result<Row> {
    let Pair { set, small, large, signal } = *pair;
    let seed = Seed(args.seed).derive(&format!("{set} {small} {large} {epsilon}"));
    let plan = Plan { n, runs: args.runs, epsilon, delta: args.delta, seed };
    let per = if args.per_kept { Per::Kept } else { Per::Request };
    let Simulation { violations, violation_share, certified, kept, kept_best_fixed, .. } =
        simulate_scored(population, loss, per, &plan, &Grid::default())?;
    let (kept, kept_low, kept_high) = (kept.estimate, kept.low, kept.high);
    let kept_ceiling =
        if loss != LossKind::Difference && per == Per::Request { Some(ceiling(population, &plan)?) } else { None };
    let of_best = |share: f64| (kept_best_fixed > 0.0).then(|| share / kept_best_fixed);
    let row = Row {
        set,
        small,
        large,
        signal: signal.name(),
        loss,
        epsilon,
        n,
        runs: args.runs,
        violations,
        violations_low: violation_share.low,
        violations_high: violation_share.high,
        certified,
        kept,
        kept_low,
        kept_high,
        kept_best_fixed,
        ratio: of_best(kept),
        kept_ceiling,
        population: population.len(),
    };
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}", 100.0 * share));
    println!(
        "{set:<24} {small:<26} {large:<27} {:<9} {:>5} {:>5} {n:>5} {violations:>5} {:>11} {:>6} {:>6} {:>6} {:>7}",
        row.signal,
        row.population,
        100.0 * epsilon,
        format!("{:.1}-{:.1} %", 100.0 * row.violations_low, 100.0 * row.violations_high),
        percent(Some(kept)),
        percent(Some(kept_best_fixed)),
        percent(row.ratio),
        percent(kept_ceiling.and_then(of_best)),
    );
    stdout().flush().map_err(|e| Error::internal(format!("write the table: {e}")))?;
    Ok(row)
}

/// Prints what the rows add up to; returns how many break the promise.
fn summary(rows: &[Row], args: &CertificateArgs) -> usize {
    let failing = rows.iter().filter(|row| row.violations_low > args.delta).count();
    let worst = rows.iter().map(|row| row.violations).max().unwrap_or(0);
    let (all, runs) = (rows.iter().map(|row| row.violations).sum::<u64>(), rows.len() as u64 * args.runs);
    println!(
        "\n{} rows: {failing} with more violations than delta (by the lower end of the interval); worst row {worst} of \
         {}; over all {all} of {runs} = {:.2} %",
        rows.len(),
        args.runs,
        100.0 * all as f64 / runs.max(1) as f64
    );
    let large = |row: &&Row| row.n == CALIBRATION[1] && row.ratio.is_some();
    let reached = rows.iter().filter(large).filter(|row| row.ratio >= Some(GOAL)).count();
    let possible = rows
        .iter()
        .filter(large)
        .filter(|row| row.kept_ceiling.is_none_or(|c| c >= GOAL * row.kept_best_fixed))
        .count();
    println!(
        "n = {}: {reached} of {} rows keep {} % or more of the best fixed threshold's share; in {} of them no valid \
         procedure can",
        CALIBRATION[1],
        rows.iter().filter(large).count(),
        100.0 * GOAL,
        rows.iter().filter(large).count() - possible
    );
    let (mut ours, mut most) = (0.0, 0.0);
    for row in rows.iter().filter(large) {
        if let Some(ceiling) = row.kept_ceiling {
            ours += row.kept;
            most += ceiling;
        }
    }
    println!(
        "over all of them ours keep {:.1} % of what a valid procedure could keep at most",
        100.0 * ours / most.max(1e-9)
    );
    failing
}
