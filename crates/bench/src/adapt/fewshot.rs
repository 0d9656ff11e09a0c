//! Few examples: Banking77 with 8 texts a label, drawn anew for each seed, judged on the whole test set; beside it a head on
//! the frozen encoder, plain fine-tuning, and few-shot training that also has the texts of the training file without their
//! labels. Trained by the real binary.

use super::AdaptArgs;
use super::kept::{self, Kept};
use super::students::{read, write};
use crate::process;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};
use understudy_core::{Error, Result};
use understudy_dataset::Example;

/// Texts of a label.
const SHOTS: usize = 8;
/// What is compared: a column, the method, and whether it gets the texts without labels.
const METHODS: [(&str, &str, bool); 4] =
    [("head", "head", false), ("full", "full", false), ("fewshot", "fewshot", false), ("unlabelled", "fewshot", true)];

/// What was measured, accuracies in per cent.
#[derive(Debug, Serialize)]
pub(super) struct FewShot {
    /// Mean over the seeds of few-shot training on the examples alone.
    banking77_8shot: f64,
    /// 95 % interval of the mean (Student's t); none with one seed.
    banking77_8shot_interval: Option<[f64; 2]>,
    /// The same with texts without labels beside them.
    banking77_8shot_unlabelled: f64,
    banking77_8shot_unlabelled_interval: Option<[f64; 2]>,
    fewshot: Vec<Draw>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Draw {
    seed: u64,
    n: usize,
    /// By method.
    accuracy: BTreeMap<String, f64>,
}

/// Trains and measures; `None` when the data set is not there.
pub(super) fn measure(args: &AdaptArgs, data: &Path, models: &Path) -> Result<Option<FewShot>> {
    let data = data.join("classification/banking77");
    if !data.join("train.jsonl").exists() {
        return Ok(None);
    }
    let (train, test) = (read(&data.join("train.jsonl"))?, read(&data.join("test.jsonl"))?);
    let tmp = tempfile::tempdir().map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let judged = tmp.path().join("test.jsonl");
    write(&test, &judged)?;
    let judged = judged.display().to_string();
    let texts = tmp.path().join("texts.jsonl");
    write(&train, &texts)?;
    let kept = Kept::read(args.keep.as_deref())?;
    let mut fewshot = Vec::new();
    println!("{:>4} {:>6} {}", "seed", "n", METHODS.map(|(name, ..)| format!("{name:>11}")).concat());
    for seed in args.seeds() {
        let draw = kept.or_measure(&kept::key(&format!("fewshot {seed}"), train.iter().chain(&test)), || {
            let file = tmp.path().join(format!("{seed}.jsonl"));
            write(&drawn(&train, seed), &file)?;
            let ground = Ground { tmp: tmp.path(), models, judged: &judged, seed };
            let accuracy = METHODS.map(|(name, method, with)| {
                Ok((name.to_owned(), ground.one((name, method), &file, with.then_some(texts.as_path()))?))
            });
            Ok(Draw { seed, n: test.len(), accuracy: accuracy.into_iter().collect::<Result<_>>()? })
        })?;
        let of = |name: &str| draw.accuracy.get(name).copied().unwrap_or_default();
        println!("{seed:>4} {:>6} {}", draw.n, METHODS.map(|(name, ..)| format!("{:>10.2}%", of(name))).concat());
        fewshot.push(draw);
    }
    let mean = |name: &str| {
        let all: Vec<f64> = fewshot.iter().filter_map(|draw| draw.accuracy.get(name).copied()).collect();
        let mean = understudy_stats::mean::mean(&all, 0.95);
        (mean.estimate, (all.len() > 1).then_some([mean.low, mean.high]))
    };
    let (alone, with) = (mean("fewshot"), mean("unlabelled"));
    Ok(Some(FewShot {
        banking77_8shot: alone.0,
        banking77_8shot_interval: alone.1,
        banking77_8shot_unlabelled: with.0,
        banking77_8shot_unlabelled_interval: with.1,
        fewshot,
    }))
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

/// Where one draw is trained and judged.
struct Ground<'a> {
    tmp: &'a Path,
    models: &'a Path,
    /// The test file.
    judged: &'a str,
    seed: u64,
}

impl Ground<'_> {
    /// Accuracy of a method in per cent.
    fn one(&self, (name, method): (&str, &str), file: &Path, texts: Option<&Path>) -> Result<f64> {
        let path = |path: &Path| path.display().to_string();
        let (data, models) = (path(file), path(self.models));
        let dir = path(&self.tmp.join(format!("{name}-{}", self.seed)));
        let (seed, texts) = (self.seed.to_string(), texts.map(path));
        let start = ["--models-dir", &models, "adapt", "finetune", "--method", method, "--test-share", "0"];
        let mut args = [&start[..], &["--seed", &seed, "--data", &data, "--out", &dir]].concat();
        if let Some(texts) = &texts {
            args.extend(["--unlabelled", texts]);
        }
        // Five passes over six hundred texts are no fine-tuning.
        if method == "full" {
            args.extend(["--epochs", "20"]);
        }
        process::run(self.tmp, &args)?;
        let judged = super::quality::judge(&dir, self.judged, &[], &models, self.tmp)?;
        Ok(100.0 * super::compress::number(&judged, "accuracy")?)
    }
}
