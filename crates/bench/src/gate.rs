//! What fitted gates and certified cascades are worth on recorded outcomes: gates beside the best raw signal, and how
//! often the certificate of a chosen cascade is wrong.

mod cascades;
mod pairs;
mod scope;

use clap::Args;
use pairs::{PAIRS, Set};
use rayon::prelude::*;
use serde::Serialize;
use std::path::{Path, PathBuf};
use understudy_core::{Error, Result, Seed};
use understudy_pilot::gate::{Evaluation, Helpers, Pair, Params, across, apart};

/// Fits gates on recorded outcomes and certifies cascades over resampled calibration sets.
#[derive(Debug, Args)]
pub(crate) struct GateArgs {
    /// Data folder
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Run one part
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Calibration sets of each cascade search
    #[arg(long, default_value_t = 1000)]
    runs: u64,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Gates beside raw signals.
    Gates,
    /// Certified cascades.
    Cascades,
    /// Out-of-scope texts before a classifier.
    Scope,
}

/// Folds and repeats of the cross-fitting where a set has no test file: a large set needs no repeats.
fn crossing(n: usize) -> (usize, u64) {
    if n <= 1000 { (5, 4) } else { (3, 1) }
}

#[derive(Debug, Serialize)]
struct Row {
    set: &'static str,
    small: &'static str,
    large: &'static str,
    /// Whether other models' answers were looked at.
    helpers: Vec<String>,
    n: usize,
    quality_small: f64,
    quality_large: f64,
    best_raw: String,
    best_raw_apgr: f64,
    chosen_raw_apgr: f64,
    gate_apgr: f64,
    difference: f64,
    standard_error: f64,
    raw_signals: usize,
    committee: f64,
}

/// Runs the bench; with `--json` the last line is one object.
pub(crate) fn run(args: &GateArgs) -> Result<()> {
    let data = args.data.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let mut object = serde_json::Map::new();
    let wanted = |part: Part| args.only.is_none_or(|only| only == part);
    if wanted(Part::Gates) {
        object.insert("gates".into(), gates(&data, args.seed)?);
    }
    if wanted(Part::Cascades) {
        object.insert("cascades".into(), cascades::run(&data, args.runs, args.seed)?);
    }
    if wanted(Part::Scope) {
        object.insert("scope".into(), scope::run(&data, args.seed)?);
    }
    if args.json {
        println!("{}", serde_json::Value::Object(object));
    }
    Ok(())
}

fn gates(data: &Path, seed: u64) -> Result<serde_json::Value> {
    let mut rows = Vec::new();
    println!(
        "APGR from every threshold on rows that the gate was not fitted on; best raw: the best of all recorded signals,"
    );
    println!("known only afterwards; error: standard error of the difference over the rows\n");
    println!(
        "{:<19} {:<27} {:<27} {:>5} {:>7} {:<34} {:>6} {:>6} {:>7} {:>6} {:>5}",
        "set", "small", "large", "n", "helpers", "best raw signal", "APGR", "gate", "differ", "error", "kept"
    );
    let mut sets: Vec<&str> = PAIRS.iter().map(|pair| pair.0).collect();
    sets.dedup();
    for name in sets {
        let set = Set::read(data, name)?;
        let cases: Vec<(&'static str, &'static str, bool)> = PAIRS
            .iter()
            .filter(|pair| pair.0 == name)
            .flat_map(|pair| [(pair.1, pair.2, false), (pair.1, pair.2, true)])
            .collect();
        let found: Vec<Option<Row>> = cases.par_iter().map(|case| judge(&set, *case, seed)).collect::<Result<_>>()?;
        for row in found.into_iter().flatten() {
            println!(
                "{:<19} {:<27} {:<27} {:>5} {:>7} {:<34} {:>6.3} {:>6.3} {:>+7.3} {:>6.3} {:>4.0}%",
                row.set,
                row.small,
                row.large,
                row.n,
                row.helpers.len(),
                row.best_raw,
                row.best_raw_apgr,
                row.gate_apgr,
                row.difference,
                row.standard_error,
                100.0 * row.committee
            );
            rows.push(row);
        }
    }
    Ok(summary(&rows))
}

/// One pair; `None` where helpers were asked for and there are none.
fn judge(set: &Set, (small, large, helped): (&'static str, &'static str, bool), seed: u64) -> Result<Option<Row>> {
    let helpers = if helped { Helpers::Auto } else { Helpers::Named(Vec::new()) };
    let params = Params { helpers, seed: Seed(seed), ..Params::default() };
    let pair = Pair { small, large };
    let found: Evaluation = match &set.test {
        Some(test) => apart(&set.train, test, pair, &params)?,
        None => across(&set.train, pair, &params, crossing(set.train.len()))?,
    };
    if helped && found.helpers.is_empty() {
        return Ok(None);
    }
    let (best_raw, best) = found.best_raw();
    Ok(Some(Row {
        set: set.name,
        small,
        large,
        n: found.n,
        quality_small: found.quality_small,
        quality_large: found.quality_large,
        best_raw: best_raw.to_owned(),
        best_raw_apgr: best,
        chosen_raw_apgr: found.raw_chosen,
        gate_apgr: found.gate,
        difference: found.gate - best,
        standard_error: found.error,
        raw_signals: found.raw.len(),
        committee: found.committee,
        helpers: found.helpers,
    }))
}

fn summary(rows: &[Row]) -> serde_json::Value {
    println!();
    let mut parts = serde_json::Map::new();
    type Keep = fn(&Row) -> bool;
    let kinds: [(&str, &str, Keep); 3] = [
        ("own_answer_only", "the small model's own answer", |row| row.helpers.is_empty()),
        ("several_signals", "several signals (votes, texts, models)", |row| row.raw_signals > 1),
        ("several_models", "several models", |row| !row.helpers.is_empty()),
    ];
    for (key, what, keep) in kinds {
        let chosen: Vec<&Row> = rows.iter().filter(|row| keep(row)).collect();
        let n = chosen.len().max(1) as f64;
        let mean = |of: &dyn Fn(&Row) -> f64| chosen.iter().map(|row| of(row)).sum::<f64>() / n;
        let worst = chosen.iter().map(|row| row.difference).fold(f64::INFINITY, f64::min);
        let below = chosen.iter().filter(|row| row.difference < -0.005).count();
        let clearly = chosen.iter().filter(|row| row.difference < -0.005 - 2.0 * row.standard_error).count();
        let full = mean(&|row| row.difference);
        let chosen_raw = mean(&|row| row.gate_apgr - row.chosen_raw_apgr);
        println!(
            "{what}: {} rows; gate less best raw signal: mean {full:+.3}, worst {worst:+.3}, \
             {below} below -.005, {clearly} of them by more than two standard errors; gate less the raw signal that \
             training would choose: mean {chosen_raw:+.3}",
            chosen.len()
        );
        parts.insert(
            key.to_owned(),
            serde_json::json!({ "rows": chosen.len(), "mean": full, "worst": worst,
                "below": below, "clearly_below": clearly, "mean_against_chosen_raw": chosen_raw }),
        );
    }
    serde_json::json!({ "rows": rows, "summary": parts })
}

/// A failed read, with what to do.
fn missing(name: &str, error: &std::io::Error) -> Error {
    Error::not_found(format!("read {name}: {error}; give the data folder with --data or UNDERSTUDY_DATA"))
}
