//! Banking77 with MiniLM, full fine-tuning: the head starts as the logistic regression on frozen embeddings, the settings
//! are fixed, the test set is looked at once, after the last step.

use super::AdaptArgs;
use serde::Serialize;
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use understudy_adapt::{
    encoder::{Batch, Example, HeadShape, Level, Network, NetworkOptions, Pass, Scope, Target},
    finetune::{Data, FinetuneParams, Progress, Run},
    head::{HeadParams, Labelled},
    matrix::Matrix,
    split::{Split, split},
};
use understudy_core::{Clock, Error, Result, Seed, Timestamp};
use understudy_dataset::{Fields, clean};
use understudy_model::tokens::Tokenizer;
use understudy_stats::binomial::wilson;

/// One seed's result.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    seed: u64,
    /// Per cent of the test set.
    pub(super) accuracy: f64,
    /// 95 % interval (Wilson).
    low: f64,
    high: f64,
    n: u64,
    /// Accuracy of the head alone, on frozen embeddings.
    frozen: f64,
    seconds: f64,
    samples_per_s: f64,
}

/// The settings of all seeds.
fn params() -> FinetuneParams {
    FinetuneParams {
        epochs: 5,
        rate: 1.5e-4,
        head_rate: 1e-3,
        layer_decay: 0.9,
        patience: 0,
        ..FinetuneParams::default()
    }
}

/// Fine-tunes once for each seed; nothing when the data set is not there.
pub(super) fn banking77(args: &AdaptArgs, base: &Path) -> Result<Vec<Outcome>> {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let folder = args.data.clone().unwrap_or_else(default).join("classification/banking77");
    if !folder.join("train.jsonl").exists() {
        println!("skipped: Banking77; no classification/banking77 in the data folder (give --data)");
        return Ok(Vec::new());
    }
    (1..=args.seeds).map(|seed| one(args, base, &folder, seed)).collect()
}

fn one(args: &AdaptArgs, base: &Path, folder: &Path, seed: u64) -> Result<Outcome> {
    let clock = Stopwatch(Instant::now());
    let read = |file: &str| understudy_dataset::read(&folder.join(file), &Fields::default())?.examples();
    let (train, test) = (clean(read("train.jsonl")?).examples, read("test.jsonl")?);
    let parts = split(&train, 0.0, Seed(seed))?;
    let tokenizer = Tokenizer::load(&base.join("tokenizer.json"), 128)?;
    let example = |row: &understudy_dataset::Example| -> Result<Example> {
        let class = parts.classes.binary_search(&row.label);
        let class =
            class.map_err(|_| Error::data(format!("read Banking77: label {} is not in the training set", row.label)));
        Ok(Example { windows: vec![tokenizer.tokenize(&row.text)?.ids().to_vec()], target: Target::Class(class?) })
    };
    let learn: Vec<Example> = parts.learn.iter().map(|&i| example(&train[i])).collect::<Result<_>>()?;
    let test: Vec<Example> = test.iter().map(example).collect::<Result<_>>()?;
    let head = HeadShape { outputs: parts.classes.len(), hidden: None, level: Level::UnitVector };
    let scope = Scope::Full { words: false, frozen_layers: 0 };
    let mut network = Network::load(base, &NetworkOptions { scope, head, seed: Seed(seed) })?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build();
    let pool = pool.map_err(|e| Error::internal(format!("start the threads: {e}")))?;
    pool.install(|| start_head(&mut network, &learn, &parts))?;
    let frozen = pool.install(|| accuracy(&network, &test)).0;

    let mut speed = 0.0;
    let mut progress = |progress: &Progress| {
        speed = progress.samples_per_s;
        ControlFlow::Continue(())
    };
    let run = Run { clock: &clock, threads: args.threads, progress: &mut progress, checkpoints: None };
    let params = params();
    println!("Banking77, full, seed {seed}: {params:?}");
    let fitted = params.check()?.fit(network, Data { train: &learn, held_out: &[], guide: None }, Seed(seed), run)?;
    let seconds = clock.0.elapsed().as_secs_f64();
    let (accuracy, right) = pool.install(|| accuracy(&fitted.network, &test));
    let interval = wilson(right, test.len() as u64, 0.95);
    println!(
        "  accuracy {accuracy:.2} % (95 % interval {:.2} … {:.2}, n = {}); frozen {frozen:.2} %; {seconds:.0} s, {speed:.0} samples/s",
        interval.low * 100.0,
        interval.high * 100.0,
        test.len()
    );
    Ok(Outcome {
        seed,
        accuracy,
        low: interval.low * 100.0,
        high: interval.high * 100.0,
        n: test.len() as u64,
        frozen,
        seconds,
        samples_per_s: speed,
    })
}

/// Fits a head on what the encoder makes of the examples before training.
fn start_head(network: &mut Network, learn: &[Example], parts: &Split) -> Result<()> {
    let mut pass = Pass::default();
    let mut vectors = Vec::new();
    for part in learn.chunks(32) {
        vectors.extend_from_slice(network.vectors_of(&Batch::new(part), &mut pass));
    }
    let embeddings = Matrix::new(network.width(), vectors)?;
    let labels: Vec<usize> = learn.iter().map(class).collect();
    let labelled =
        Labelled { embeddings: &embeddings, labels: &labels, places: &parts.places, classes: &parts.classes };
    let head = HeadParams::default().check()?.fit(labelled)?.head;
    network.set_head(head.weights(), head.bias())
}

fn class(example: &Example) -> usize {
    match &example.target {
        Target::Class(class) => *class,
        Target::Labels(_) | Target::Values(_) | Target::Tokens(_) => usize::MAX,
    }
}

/// Per cent and number of right answers.
fn accuracy(network: &Network, test: &[Example]) -> (f64, u64) {
    let mut pass = Pass::default();
    let mut right = 0;
    for part in test.chunks(32) {
        let outputs = network.outputs_of(&Batch::new(part), &mut pass);
        for (row, example) in outputs.chunks_exact(network.outputs()).zip(part) {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
            right += u64::from(best == Some(class(example)));
        }
    }
    (100.0 * right as f64 / test.len() as f64, right)
}

struct Stopwatch(Instant);

impl Clock for Stopwatch {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}
