//! Certified cascades of two and three models over resampled calibration sets.

use super::pairs::Set;
use serde_json::{Value, json};
use std::path::Path;
use understudy_core::{Outcome, Result, Seed};
use understudy_pilot::cascades::{Plan, Population, Terms, simulate};

/// Sets with prices, and the large models in them.
const SETS: [(&str, &str); 10] = [
    ("cascades_mmlu", "llama3.1-405b"),
    ("cascades_mmlu", "gpt-4o"),
    ("cascades_medmcqa", "llama3.1-405b"),
    ("cascades_medmcqa", "gpt-4o"),
    ("cascades_triviaqa", "llama3.1-405b"),
    ("cascades_triviaqa", "gpt-4o"),
    ("cascades_truthfulqa", "llama3.1-405b"),
    ("cascades_truthfulqa", "gpt-4o"),
    ("cascades_gsm8k", "llama3.1-405b"),
    ("cascades_gsm8k", "gpt-4o"),
];

/// Rows of each calibration set.
const CALIBRATION: [usize; 3] = [300, 600, 1200];

pub(super) fn run(data: &Path, runs: u64, seed: u64) -> Result<Value> {
    println!(
        "\nCheapest cascade of two or three models, epsilon 5 %, delta 5 %: {runs} calibration sets drawn with replacement\n\
         from each population and judged on all of it; naive: the cheapest that keeps 5 % on the calibration set\n"
    );
    println!(
        "{:<20} {:<14} {:>5} {:>5} {:>10} {:>14} {:>9} {:>6} {:>6} {:>13} {:>12} {:>10}",
        "set",
        "large",
        "rows",
        "n",
        "violations",
        "95 % interval",
        "certified",
        "loss",
        "saved",
        "naive wrong",
        "naive saved",
        "best saved"
    );
    let mut found = Vec::new();
    for (name, large) in SETS {
        let set = Set::read(data, name)?;
        let outcomes: Vec<Outcome> = set.train.into_iter().chain(set.test.unwrap_or_default()).collect();
        let population = Population::new(&outcomes, None, large)?;
        for n in CALIBRATION {
            let seed = Seed(seed).derive(&format!("{name} {large} {n}"));
            let plan = Plan { n, runs, terms: Terms { epsilon: 0.05, delta: 0.05, seed } };
            let out = simulate(&population, plan)?;
            let share = |count: u64| 100.0 * count as f64 / runs as f64;
            println!(
                "{name:<20} {large:<14} {:>5} {n:>5} {:>10} {:>14} {:>8.1}% {:>5.2}% {:>5.1}% {:>12.1}% {:>11.1}% {:>9.1}%",
                population.len(),
                out.violations,
                format!("{:.1}-{:.1} %", 100.0 * out.violation_share.low, 100.0 * out.violation_share.high),
                share(out.certified),
                100.0 * out.loss.map_or(0.0, |loss| loss.estimate),
                100.0 * out.saved.estimate,
                share(out.naive_violations),
                100.0 * out.naive_saved.estimate,
                100.0 * out.saved_best
            );
            found.push(json!({
                "set": name, "large": large, "population": population.len(), "n": n, "runs": runs,
                "violations": out.violations, "violations_low": out.violation_share.low,
                "violations_high": out.violation_share.high, "certified": out.certified, "loss": out.loss.map(|loss| loss.estimate),
                "saved": out.saved.estimate, "saved_low": out.saved.low, "saved_high": out.saved.high, "naive_violations": out.naive_violations, "naive_saved": out.naive_saved.estimate,
                "saved_best": out.saved_best,
            }));
        }
    }
    let worst = found.iter().filter_map(|row| row["violations"].as_u64()).max().unwrap_or(0);
    let failing = found.iter().filter(|row| row["violations_low"].as_f64().is_some_and(|low| low > 0.05)).count();
    println!("\n{} rows: {failing} with more violations than delta; worst {worst} of {runs}", found.len());
    Ok(json!({ "rows": found, "worst_violations": worst, "failing": failing }))
}
