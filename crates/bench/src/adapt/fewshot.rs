//! Few examples: Banking77 with 8 texts a label, drawn anew for each seed, judged on the whole test set; beside it a head on
//! the frozen encoder and plain fine-tuning on the same texts. Trained by the real binary.

use super::students::{read, write};
use crate::process;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};
use understudy_core::{Error, Result};
use understudy_dataset::Example;

/// Texts of a label.
const SHOTS: usize = 8;
/// What is compared.
const METHODS: [&str; 3] = ["head", "full", "fewshot"];

/// What was measured, accuracies in per cent.
#[derive(Debug, Serialize)]
pub(super) struct FewShot {
    /// Mean over the seeds.
    banking77_8shot: f64,
    /// 95 % interval of the mean (Student's t); none with one seed.
    banking77_8shot_interval: Option<[f64; 2]>,
    fewshot: Vec<Draw>,
}

#[derive(Debug, Serialize)]
struct Draw {
    seed: u64,
    n: usize,
    /// By method.
    accuracy: BTreeMap<&'static str, f64>,
}

/// Trains and measures; `None` when the data set is not there.
pub(super) fn measure(data: &Path, models: &Path, seeds: u64) -> Result<Option<FewShot>> {
    let data = data.join("classification/banking77");
    if !data.join("train.jsonl").exists() {
        return Ok(None);
    }
    let (train, test) = (read(&data.join("train.jsonl"))?, read(&data.join("test.jsonl"))?);
    let tmp = tempfile::tempdir().map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let judged = tmp.path().join("test.jsonl");
    write(&test, &judged)?;
    let judged = judged.display().to_string();
    let mut fewshot = Vec::new();
    println!("{:>4} {:>6} {:>9} {:>9} {:>9}", "seed", "n", METHODS[0], METHODS[1], METHODS[2]);
    for seed in 1..=seeds {
        let file = tmp.path().join(format!("{seed}.jsonl"));
        write(&drawn(&train, seed), &file)?;
        let mut accuracy = BTreeMap::new();
        for method in METHODS {
            accuracy.insert(method, one(method, &file, &judged, tmp.path(), models, seed)?);
        }
        let of = |method: &str| accuracy.get(method).copied().unwrap_or_default();
        println!(
            "{seed:>4} {:>6} {:>8.2}% {:>8.2}% {:>8.2}%",
            test.len(),
            of(METHODS[0]),
            of(METHODS[1]),
            of(METHODS[2])
        );
        fewshot.push(Draw { seed, n: test.len(), accuracy });
    }
    let all: Vec<f64> = fewshot.iter().filter_map(|draw| draw.accuracy.get("fewshot").copied()).collect();
    let mean = understudy_stats::mean::mean(&all, 0.95);
    let interval = (all.len() > 1).then_some([mean.low, mean.high]);
    Ok(Some(FewShot { banking77_8shot: mean.estimate, banking77_8shot_interval: interval, fewshot }))
}

/// Some texts of each label.
fn drawn(train: &[Example], seed: u64) -> Vec<Example> {
    let mut by_label: BTreeMap<&str, Vec<&Example>> = BTreeMap::new();
    train.iter().for_each(|example| by_label.entry(&example.label).or_default().push(example));
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut drawn = Vec::new();
    for mut of in by_label.into_values() {
        of.shuffle(&mut rng);
        drawn.extend(of.into_iter().take(SHOTS).cloned());
    }
    drawn
}

fn one(method: &str, file: &Path, test: &str, tmp: &Path, models: &Path, seed: u64) -> Result<f64> {
    let out = tmp.join(format!("{method}-{seed}"));
    let path = |path: &Path| path.display().to_string();
    let (data, dir, models_dir, seed) = (path(file), path(&out), path(models), seed.to_string());
    let start = ["--models-dir", &models_dir, "adapt", "finetune", "--method", method, "--test-share", "0"];
    let more = ["--seed", &seed, "--data", &data, "--out", &dir];
    // Five passes over six hundred texts are no fine-tuning.
    let longer = if method == "full" { &["--epochs", "20"][..] } else { &[] };
    process::run(tmp, &[&start[..], &more, longer].concat())?;
    Ok(100.0 * super::compress::number(&super::quality::judge(&dir, test, &[], &models_dir, tmp)?, "accuracy")?)
}
