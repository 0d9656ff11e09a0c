//! What to label next: does the annotation queue of `adapt data` need fewer labels than chance? Banking77, a classifier on
//! words, batches of labels bought from its training part, accuracy on its test part.

use clap::Args;
use rayon::prelude::*;
use serde_json::json;
use std::{collections::BTreeMap, path::PathBuf};
use understudy_core::{Error, Result, Seed};
use understudy_dataset::{Fields, queue, read};
use understudy_learn::{linear::Linear, sparse::Sparse, tfidf::Tfidf};

/// Places of words, and penalty: those of the queue.
const BITS: u32 = 14;
const L2: f64 = 1.0;

/// Buys labels by chance and by the queue.
#[derive(Debug, Args)]
pub(crate) struct LabelsArgs {
    /// Folder with the data
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: PathBuf,
    /// Labels bought at a time
    #[arg(long, default_value_t = 200)]
    batch: usize,
    /// Labels bought in all
    #[arg(long, default_value_t = 2000)]
    most: usize,
    /// Repetitions with other seeds
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// How the next labels are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Chance,
    Cover,
    Uncertain,
    Queue,
}

const WAYS: [(&str, Way); 4] =
    [("by chance", Way::Chance), ("cover", Way::Cover), ("most uncertain", Way::Uncertain), ("queue", Way::Queue)];

type Labelled = Vec<(String, String)>;

/// Runs the bench.
///
/// # Errors
/// When the data is missing.
pub(crate) fn run(args: &LabelsArgs) -> Result<()> {
    let part = |name: &str| -> Result<Labelled> {
        let file = args.data.join("classification/banking77").join(name);
        let rows = read(&file, &Fields::default())?.examples()?;
        Ok(rows.into_iter().map(|example| (example.text, example.label)).collect())
    };
    let (pool, test) = (part("train.jsonl")?, part("test.jsonl")?);
    if args.seeds < 2 || args.batch == 0 || args.most < 2 * args.batch {
        return Err(Error::invalid("measure the queue: two seeds and two batches are the least"));
    }
    println!("{} texts to choose from, {} to measure on, {} seeds", pool.len(), test.len(), args.seeds);
    let mut curves: BTreeMap<usize, Vec<Vec<f64>>> = BTreeMap::new();
    for seed in 0..args.seeds {
        for (at, (_, way)) in WAYS.iter().enumerate() {
            curves.entry(at).or_default().push(curve(&pool, &test, *way, args, Seed(seed)));
        }
    }
    let sizes: Vec<usize> = (1..=args.most / args.batch).map(|i| i * args.batch).collect();
    println!("{:<16} {}", "accuracy at", sizes.iter().map(|n| format!("{n:>6}")).collect::<String>());
    let mut rows = Vec::new();
    for (at, (name, _)) in WAYS.iter().enumerate() {
        let mean = |i: usize| curves[&at].iter().map(|curve| curve[i]).sum::<f64>() / args.seeds as f64;
        let means: Vec<f64> = (0..sizes.len()).map(mean).collect();
        println!("{name:<16} {}", means.iter().map(|a| format!("{:>6.1}", 100.0 * a)).collect::<String>());
        rows.push(json!({"way": name, "accuracy": means}));
    }
    let mut saved = Vec::new();
    println!(
        "\nlabels to the accuracy that chance reaches with `n`, as a share of `n` (mean, 95 % interval over seeds)"
    );
    for (at, (name, way)) in WAYS.iter().enumerate() {
        if *way == Way::Chance {
            continue;
        }
        for target in [args.most / 2, args.most] {
            let i = target / args.batch - 1;
            let shares: Vec<Option<f64>> = (0..curves[&at].len())
                .map(|s| reached(&curves[&at][s], curves[&0][s][i], args.batch).map(|n| n / target as f64))
                .collect();
            let found: Vec<f64> = shares.iter().flatten().copied().collect();
            if found.len() < shares.len() {
                println!(
                    "{name:<16} n = {target}: not reached by {} of {} seeds",
                    shares.len() - found.len(),
                    shares.len()
                );
                saved.push(json!({"way": name, "n": target, "share": null, "reached": found.len()}));
                continue;
            }
            let bound = mean(&found);
            println!("{name:<16} n = {target}: {:.3} [{:.3}, {:.3}]", bound.0, bound.1, bound.2);
            saved.push(json!({"way": name, "n": target, "share": bound.0, "low": bound.1, "high": bound.2}));
        }
    }
    if args.json {
        println!("{}", json!({"sizes": sizes, "curves": rows, "labels": saved, "seeds": args.seeds}));
    }
    Ok(())
}

/// Accuracy after each batch. The first batch is drawn by chance in every way but `cover`, with the same seed.
fn curve(pool: &Labelled, test: &Labelled, way: Way, args: &LabelsArgs, seed: Seed) -> Vec<f64> {
    let mut bought: Vec<usize> = Vec::new();
    let mut left: Vec<usize> = (0..pool.len()).collect();
    let mut accuracies = Vec::new();
    while bought.len() + args.batch <= args.most {
        let texts: Vec<&str> = left.iter().map(|&at| pool[at].0.as_str()).collect();
        let labelled: Vec<(&str, &str)> = bought.iter().map(|&at| (pool[at].0.as_str(), pool[at].1.as_str())).collect();
        let known: Vec<&str> = labelled.iter().map(|(text, _)| *text).collect();
        let unsure = || queue::uncertainty_by_words(&labelled, &texts, seed).expect("the first batch has two labels");
        let picked: Vec<usize> = match way {
            Way::Cover => queue::by_cover(&texts, &known, args.batch, seed).iter().map(|pick| pick.at).collect(),
            _ if bought.is_empty() => queue::at_random(&texts, args.batch, seed),
            Way::Chance => queue::at_random(&texts, args.batch, seed),
            Way::Uncertain => {
                let unsure = unsure();
                let mut order: Vec<usize> = (0..texts.len()).collect();
                order.sort_by(|&a, &b| unsure[b].total_cmp(&unsure[a]).then(a.cmp(&b)));
                order.truncate(args.batch);
                order
            }
            Way::Queue => queue::by_uncertainty(&texts, &unsure(), args.batch).iter().map(|pick| pick.at).collect(),
        };
        let mut taken: Vec<usize> = picked.iter().map(|&at| left[at]).collect();
        taken.sort_unstable();
        left.retain(|at| taken.binary_search(at).is_err());
        bought.extend(taken);
        accuracies.push(accuracy(pool, &bought, test));
    }
    accuracies
}

fn accuracy(pool: &Labelled, bought: &[usize], test: &Labelled) -> f64 {
    let words = Tfidf::fit(pool.iter().map(|(text, _)| text.as_str()), BITS);
    let rows: Vec<Sparse> = bought.iter().map(|&at| words.vector(&pool[at].0)).collect();
    let mut names: Vec<&str> = bought.iter().map(|&at| pool[at].1.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let fit = |name: &&str| {
        let targets: Vec<f64> = bought.iter().map(|&at| f64::from(u8::from(pool[at].1 == *name))).collect();
        Linear::fit(&rows, words.width(), &targets, L2)
    };
    let fits: Vec<Linear> = names.par_iter().map(fit).collect();
    let right = |(text, label): &&(String, String)| {
        let row = words.vector(text);
        let scores: Vec<f64> = fits.iter().map(|fit| fit.predict(&row)).collect();
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        best.is_some_and(|best| names[best] == label)
    };
    test.par_iter().filter(right).count() as f64 / test.len() as f64
}

/// Labels at which a curve reaches an accuracy, between two batches by a straight line.
fn reached(curve: &[f64], accuracy: f64, batch: usize) -> Option<f64> {
    let at = curve.iter().position(|a| *a >= accuracy)?;
    let end = (at + 1) as f64 * batch as f64;
    if at == 0 {
        return Some(end);
    }
    let (before, after) = (curve[at - 1], curve[at]);
    Some(end - batch as f64 * (after - accuracy) / (after - before).max(1e-12))
}

/// Mean with its 95 % interval by Student's t.
fn mean(values: &[f64]) -> (f64, f64, f64) {
    const T: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // Beyond ten values the last is a little wide.
    let half = T[(values.len() - 2).min(T.len() - 1)] * (variance / n).sqrt();
    (mean, mean - half, mean + half)
}
