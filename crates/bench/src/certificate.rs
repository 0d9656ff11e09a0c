//! How often certificates are wrong, and how much they keep: resampled calibration sets of real recorded outcomes.

use clap::Args;
use serde::Serialize;
use std::{
    fs::File,
    io::{BufReader, Write, stdout},
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result, Seed, outcome};
use understudy_pilot::{Grid, from_outcomes, simulate, simulate::Plan};

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
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Recorded sets with confidences, and pairs of a cheaper and a dearer model in them.
const PAIRS: &[(&str, &str, &str)] = &[
    ("cascades_mmlu_test", "llama3.2-3b", "llama3.1-405b"),
    ("cascades_mmlu_test", "llama3.1-8b", "llama3.1-70b"),
    ("cascades_mmlu_test", "llama3.1-70b", "llama3.1-405b"),
    ("cascades_mmlu_test", "gpt-4o-mini", "gpt-4o"),
    ("cascades_mmlu_test", "qwen2.5-32b-coder-instruct", "qwen2.5-72b-instruct"),
    ("cascades_mmlu_train", "gpt-4o-mini", "gpt-4o"),
    ("cascades_medmcqa_train", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_medmcqa_train", "gpt-4o-mini", "gpt-4o"),
    ("cascades_triviaqa_train", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_triviaqa_train", "llama3.2-3b", "llama3.1-70b"),
    ("cascades_truthfulqa_train", "gpt-4o-mini", "gpt-4o"),
    ("cascades_gsm8k_train", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_gsm8k_train", "gpt-4o-mini", "gpt-4o"),
    ("mot_gsm", "GPT4/cot1", "GPT4/greedy_cot1"),
    ("mot_gsm", "llama2_13B/pot1", "GPT4/cot1"),
    ("mot_tabmwp", "GPT4/pot1", "GPT4/cot2"),
    ("mot_asdiv", "GPT4/cot1", "GPT4/pot2"),
    ("mot_date", "GPT3/pot1", "GPT4/pot1"),
    ("mot_navigate", "GPT4/pot1", "GPT4/cot2"),
    ("mot_crepe", "llama2_13B/pot1_V2", "GPT4/cot2"),
];

const EPSILONS: [f64; 4] = [0.005, 0.01, 0.02, 0.05];

/// Calibration items in each run, whatever the size of the population: enough to certify 0.5 % at all (598).
const CALIBRATION: u64 = 1500;

#[derive(Debug, Serialize)]
struct Row {
    set: &'static str,
    small: &'static str,
    large: &'static str,
    epsilon: f64,
    n: u64,
    runs: u64,
    violations: u64,
    violations_low: f64,
    violations_high: f64,
    certified: u64,
    kept: f64,
    kept_best_fixed: f64,
    population: usize,
}

/// Runs the bench; with `--json` the last line is one object.
pub(crate) fn run(args: &CertificateArgs) -> Result<()> {
    let mut folder = args.data.clone().unwrap_or_else(default_data);
    if folder.join("outcomes/recorded").is_dir() {
        folder = folder.join("outcomes/recorded");
    }
    println!(
        "{} calibration sets of {CALIBRATION} items, drawn with replacement from each population; delta {} %\n",
        args.runs,
        100.0 * args.delta
    );
    println!(
        "{:<26} {:<27} {:<21} {:>6} {:>5} {:>10} {:>15} {:>7} {:>7}",
        "set", "small", "large", "items", "eps %", "violations", "95 % interval", "kept", "best"
    );
    let mut rows = Vec::new();
    for &(set, small, large) in PAIRS {
        rows.extend(simulate_pair(&folder, set, small, large, args)?);
    }
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
    folder: &Path,
    set: &'static str,
    small: &'static str,
    large: &'static str,
    args: &CertificateArgs,
) -> Result<Vec<Row>> {
    let file = folder.join(format!("{set}.jsonl.zst"));
    let name = file.display().to_string();
    let failed = |e: std::io::Error| {
        Error::not_found(format!("read {name}: {e}; give the folder of the recorded outcomes with --data"))
    };
    let decoder = zstd::Decoder::new(File::open(&file).map_err(failed)?).map_err(failed)?;
    let outcomes = outcome::read(&name, BufReader::new(decoder))?;
    let (population, _) = from_outcomes(&outcomes, small, large)?;
    let mut rows = Vec::new();
    for epsilon in EPSILONS {
        let seed = Seed(args.seed).derive(&format!("{set} {small} {large} {epsilon}"));
        let plan = Plan { n: CALIBRATION, runs: args.runs, epsilon, delta: args.delta, seed };
        let out = simulate(&population, &plan, &Grid::default())?;
        println!(
            "{set:<26} {small:<27} {large:<21} {:>6} {:>5} {:>10} {:>15} {:>6.1}% {:>6.1}%",
            population.len(),
            100.0 * epsilon,
            out.violations,
            format!("{:.1}-{:.1} %", 100.0 * out.violation_share.low, 100.0 * out.violation_share.high),
            100.0 * out.kept,
            100.0 * out.kept_best_fixed
        );
        stdout().flush().map_err(|e| Error::internal(format!("write the table: {e}")))?;
        rows.push(Row {
            set,
            small,
            large,
            epsilon,
            n: plan.n,
            runs: plan.runs,
            violations: out.violations,
            violations_low: out.violation_share.low,
            violations_high: out.violation_share.high,
            certified: out.certified,
            kept: out.kept,
            kept_best_fixed: out.kept_best_fixed,
            population: population.len(),
        });
    }
    Ok(rows)
}

/// The data folder beside the workspace.
fn default_data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data")
}
