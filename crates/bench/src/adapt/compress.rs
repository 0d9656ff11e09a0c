//! Compression: what 8 bits and half the layers cost on three sets. MiniLM is fine-tuned, quantised and pruned by the real
//! binary; the test sets are looked at once, by `adapt quantize`, which compares on the same rows. Once for each seed.

use super::AdaptArgs;
use super::kept::{self, Kept};
use super::students::{read, rows, write};
use crate::process;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use understudy_core::{Error, Result};
use understudy_dataset::Example;

/// What was measured; losses in points of accuracy.
#[derive(Debug, Serialize)]
pub(super) struct Compressed {
    /// Largest loss of int8 against f32 over the sets, in the mean of the seeds.
    int8_loss: f64,
    /// The same of three of six layers against all, both in int8.
    pruned_loss: f64,
    means: Vec<Means>,
    compressed: Vec<Set>,
}

/// A set's losses in the mean of the seeds, with 95 % intervals (Student's t) where there are several.
#[derive(Debug, Serialize)]
struct Means {
    set: &'static str,
    seeds: usize,
    int8_loss: f64,
    int8_interval: Option<[f64; 2]>,
    pruned_loss: f64,
    pruned_interval: Option<[f64; 2]>,
}

/// One seed on one set; intervals of paired proportions.
#[derive(Debug, Serialize, Deserialize)]
struct Set {
    set: String,
    seed: u64,
    n_train: usize,
    n: u64,
    /// What `adapt quantize` says about each candidate.
    candidates: Value,
    int8_loss: f64,
    int8_interval: [f64; 2],
    accuracy: f64,
    pruned_accuracy: f64,
    pruned_loss: f64,
    pruned_interval: [f64; 2],
}

/// Trains, quantises, prunes and measures; `None` when the data sets are not there.
pub(super) fn measure(args: &AdaptArgs, data: &Path, models: &Path) -> Result<Option<Compressed>> {
    let data = data.join("classification");
    if !data.join("banking77/train.jsonl").exists() || !data.join("clinc150/small.jsonl").exists() {
        return Ok(None);
    }
    // The small training set; its test rows are those of the full one.
    let (small, full) = (data.join("clinc150/small.jsonl"), data.join("clinc150/full.jsonl.zst"));
    let sets = [
        ("banking77", read(&data.join("banking77/train.jsonl"))?, read(&data.join("banking77/test.jsonl"))?),
        ("clinc150", rows(&small, |split| split == "train")?, rows(&full, |split| split == "test")?),
        ("trec", read(&data.join("trec/train.jsonl"))?, read(&data.join("trec/test.jsonl"))?),
    ];
    let kept = Kept::read(args.keep.as_deref())?;
    println!(
        "{:<10} {:>5} {:>6} {:>6} {:>9} {:>10} {:>9} {:>12}",
        "set", "seed", "train", "n", "accuracy", "int8 loss", "3 layers", "pruned loss"
    );
    let (mut compressed, mut means) = (Vec::new(), Vec::new());
    for (set, train, test) in &sets {
        if !args.sets.is_empty() && !args.sets.iter().any(|wanted| wanted == set) {
            continue;
        }
        let mut seeds = Vec::new();
        for seed in args.seeds() {
            let key = kept::key(&format!("compress {set} {seed} {}", args.epochs), train.iter().chain(test));
            let of = kept.or_measure(&key, || one((set, seed), train, test, models, args.epochs))?;
            println!(
                "{:<10} {:>5} {:>6} {:>6} {:>8.2}% {:>10.2} {:>8.2}% {:>12.2}",
                of.set, of.seed, of.n_train, of.n, of.accuracy, of.int8_loss, of.pruned_accuracy, of.pruned_loss
            );
            seeds.push(of);
        }
        means.push(Means::of(set, &seeds));
        compressed.append(&mut seeds);
    }
    let most = |of: fn(&Means) -> f64| means.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
    let (int8_loss, pruned_loss) = (most(|s| s.int8_loss), most(|s| s.pruned_loss));
    println!("largest mean loss: int8 {int8_loss:.2}, three layers {pruned_loss:.2} points");
    Ok(Some(Compressed { int8_loss, pruned_loss, means, compressed }))
}

impl Means {
    fn of(set: &'static str, seeds: &[Set]) -> Self {
        let mean = |of: fn(&Set) -> f64| {
            let mean = understudy_stats::mean::mean(&seeds.iter().map(of).collect::<Vec<_>>(), 0.95);
            (mean.estimate, (seeds.len() > 1).then_some([mean.low, mean.high]))
        };
        let ((int8_loss, int8_interval), (pruned_loss, pruned_interval)) =
            (mean(|s| s.int8_loss), mean(|s| s.pruned_loss));
        Self { set, seeds: seeds.len(), int8_loss, int8_interval, pruned_loss, pruned_interval }
    }
}

fn one((set, seed): (&str, u64), train: &[Example], test: &[Example], models: &Path, epochs: usize) -> Result<Set> {
    let tmp = tempfile::tempdir().map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let tmp = tmp.path();
    let file = |name: &str| tmp.join(format!("{set}-{name}"));
    let (train_file, test_file) = (file("train.jsonl"), file("test.jsonl"));
    write(train, &train_file)?;
    write(test, &test_file)?;
    let path = |path: &PathBuf| path.display().to_string();
    let models = models.display().to_string();
    let (model, pruned, epochs) = (path(&file("model")), path(&file("pruned")), epochs.to_string());
    let (train_file, test_file) = (path(&train_file), path(&test_file));
    let run =
        |arguments: &[&str]| process::run(tmp, &[&["--models-dir", &models, "--json", "adapt"], arguments].concat());
    let finetune = ["finetune", "--method", "full", "--epochs", &epochs, "--data", &train_file, "--test-share", "0"];
    let number_of_seed = seed.to_string();
    run(&[&finetune[..], &["--seed", &number_of_seed, "--out", &model]].concat())?;
    let whole = last_line(&run(&["quantize", "--model", &model, "--data", &test_file])?)?;
    let prune = ["prune", "--model", &model, "--data", &train_file, "--test", &test_file, "--layers", "3"];
    let pruned = last_line(&run(&[&prune[..], &["--out", &pruned]].concat())?)?;
    let after = &pruned["compression"];
    let loss = &candidate(&whole, "int8")?["loss"];
    Ok(Set {
        set: set.to_owned(),
        seed,
        n_train: train.len(),
        n: whole["n"].as_u64().unwrap_or_default(),
        candidates: whole["candidates"].clone(),
        int8_loss: 100.0 * number(loss, "estimate")?,
        int8_interval: [100.0 * number(loss, "low")?, 100.0 * number(loss, "high")?],
        accuracy: 100.0 * number(&after["accuracy_before"], "estimate")?,
        pruned_accuracy: 100.0 * number(&after["accuracy"], "estimate")?,
        pruned_loss: 100.0 * number(&after["loss"], "estimate")?,
        pruned_interval: [100.0 * number(&after["loss"], "low")?, 100.0 * number(&after["loss"], "high")?],
    })
}

/// The object that a command printed last.
pub(super) fn last_line(printed: &str) -> Result<Value> {
    let line = printed.trim_end().lines().next_back().unwrap_or_default();
    serde_json::from_str(line).map_err(|e| Error::internal(format!("read what the command printed: {e}")))
}

/// A number of an object.
pub(super) fn number(object: &Value, name: &str) -> Result<f64> {
    object[name].as_f64().ok_or_else(|| Error::internal(format!("read what the command printed: it has no `{name}`")))
}

fn candidate<'a>(printed: &'a Value, name: &str) -> Result<&'a Value> {
    let all = printed["candidates"].as_array();
    let found = all.and_then(|all| all.iter().find(|candidate| candidate["candidate"] == name));
    found.ok_or_else(|| Error::internal(format!("read what the command printed: it has no candidate `{name}`")))
}
