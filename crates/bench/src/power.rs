//! What the tests behind "not inferior" cost and keep: betting beside a t-test on graded qualities, and the true level of
//! the score test on right and wrong answers, by enumeration.

use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Value, json};
use understudy_core::{Error, Result, Seed};
use understudy_stats::{binomial, hedged::Claim, normal_quantile, paired};

const ALPHA: f64 = 0.05;
const MARGIN: f64 = 0.02;
/// Standard deviation of well-behaved differences.
const SPREAD: f64 = 0.15;
/// Rows at which power is shown.
const ROWS: [usize; 7] = [100, 200, 300, 400, 500, 700, 1000];
/// Rows at which the level of the score test is enumerated.
const ENUMERATED: std::ops::RangeInclusive<u64> = 60..=420;
/// Chances of a row that only the model gets right, in each enumeration.
const GAINS: u32 = 60;

/// Measures the tests of non-inferiority.
#[derive(Debug, Args)]
pub(crate) struct PowerArgs {
    /// Simulated comparisons for each figure
    #[arg(long, default_value_t = 2000)]
    runs: u64,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Runs `bench power`.
pub(crate) fn run(args: &PowerArgs) -> Result<()> {
    if args.runs == 0 {
        return Err(Error::invalid("measure power: --runs must be at least 1"));
    }
    println!(
        "Graded qualities: equal models, differences normal with deviation {SPREAD}, margin {MARGIN}, level {ALPHA}\n\
         {:>6} {:>24} {:>24}   ({} runs, exact 95 % intervals)",
        "rows", "not inferior by bets, %", "by a t-test, %", args.runs
    );
    let mut well = Vec::new();
    for rows in ROWS {
        well.push(shares(args, "normal", rows, |rng| SPREAD * normal_quantile(rng.random_range(1e-12..1.0 - 1e-12))));
        print_shares(well.last().expect("just pushed"));
    }
    println!("\nThe same where 1 answer in 50 loses everything: the truth is at the margin, so {ALPHA} may pass");
    let lost = |rng: &mut ChaCha8Rng| if rng.random::<f64>() < MARGIN { -1.0 } else { 0.0 };
    let mut rare = Vec::new();
    for rows in [100, 200, 400] {
        rare.push(shares(args, "rare", rows, lost));
        print_shares(rare.last().expect("just pushed"));
    }
    println!("\nRight and wrong answers: largest true level of the score test at the margin, by enumeration");
    let mut levels = Vec::new();
    for (margin, alpha) in [(0.02, 0.05), (0.05, 0.05), (0.02, 0.025), (0.05, 0.025)] {
        let (level, n) = ENUMERATED
            .into_par_iter()
            .map(|n| (level(n, margin, alpha), n))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .expect("rows");
        println!("margin {margin}, meant {:.1} %: {:.2} % (at {n} rows)", 100.0 * alpha, 100.0 * level);
        levels.push(json!({ "margin": margin, "alpha": alpha, "level": level, "n": n }));
    }
    if args.json {
        println!("{}", json!({ "runs": args.runs, "normal": well, "rare": rare, "levels": levels }));
    }
    Ok(())
}

/// Shares of simulated comparisons that are called not inferior, by bets and by a t-test.
fn shares(args: &PowerArgs, name: &str, rows: usize, draw: impl Fn(&mut ChaCha8Rng) -> f64 + Sync) -> Value {
    let root = Seed(args.seed).derive(name).derive(&rows.to_string()).0;
    let passed = (0..args.runs).into_par_iter().map(|run| {
        let mut rng = ChaCha8Rng::seed_from_u64(root.wrapping_add(run));
        let differences: Vec<f64> = (0..rows).map(|_| draw(&mut rng).clamp(-1.0, 1.0)).collect();
        let claim = Claim { low: -1.0, high: 1.0, at_least: MARGIN };
        let bets = claim.refuted(differences.iter().map(|d| -d), ALPHA);
        let t = paired::t_test_above(&differences, -MARGIN) <= ALPHA;
        (u64::from(bets), u64::from(t))
    });
    let (bets, t) = passed.reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let bound = |k: u64| {
        let b = binomial::interval(k, args.runs, 0.95);
        json!({ "estimate": b.estimate, "low": b.low, "high": b.high })
    };
    json!({ "rows": rows, "bets": bound(bets), "t_test": bound(t) })
}

fn print_shares(shares: &Value) {
    let text = |of: &Value| {
        let at = |key: &str| 100.0 * of[key].as_f64().unwrap_or(f64::NAN);
        format!("{:.1} ({:.1} – {:.1})", at("estimate"), at("low"), at("high"))
    };
    println!(
        "{:>6} {:>24} {:>24}",
        shares["rows"].as_u64().unwrap_or(0),
        text(&shares["bets"]),
        text(&shares["t_test"])
    );
}

/// The largest chance that the test calls a model at the margin not inferior, over the chance of rows that only the model
/// gets right.
fn level(n: u64, margin: f64, alpha: f64) -> f64 {
    let mut passing: Vec<(f64, f64, f64)> = Vec::new();
    let mut factorials = vec![0.0; usize::try_from(n).expect("a few hundred") + 1];
    for i in 1..factorials.len() {
        factorials[i] = factorials[i - 1] + (i as f64).ln();
    }
    let ways = |losses: u64, gains: u64| {
        let at = |k: u64| factorials[usize::try_from(k).expect("at most n")];
        at(n) - at(losses) - at(gains) - at(n - losses - gains)
    };
    for losses in 0..=n {
        for gains in 0..=n - losses {
            if paired::not_worse(losses, gains, n, margin) <= alpha {
                passing.push((losses as f64, gains as f64, ways(losses, gains)));
            }
        }
    }
    let power = |gain: f64| -> f64 {
        let (loss, same) = (gain + margin, 1.0 - 2.0 * gain - margin);
        let ln = |count: f64, p: f64| if count > 0.0 { count * p.ln() } else { 0.0 };
        let chance = |(losses, gains, ways): &(f64, f64, f64)| {
            (ways + ln(*losses, loss) + ln(*gains, gain) + ln(n as f64 - losses - gains, same)).exp()
        };
        passing.iter().map(chance).sum()
    };
    // Denser near no gain at all, where the test is least exact.
    let gain = |i: u32| (1.0 - margin) / 2.0 * 0.98 * (f64::from(i) / f64::from(GAINS)).powi(3);
    (0..=GAINS).map(gain).map(power).fold(0.0, f64::max)
}
