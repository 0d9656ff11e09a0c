//! Training a regressor: an encoder whose head answers with a number, from texts with numbers.

use super::outputs::{self, Made, TrainedNetwork, check, embedded};
use super::run::{on_threads, tokenizer, vectors};
use super::tuned::Tuning;
use super::{ArtifactKind, Method, TrainOptions, base_model, encoder_named, heavy};
use crate::clock::SystemClock;
use indicatif::ProgressBar;
use std::{collections::BTreeSet, path::Path, time::Duration};
use understudy_adapt::{
    encoder::{Example as Ids, Network, Objective, Target},
    finetune::{Data, FinetuneParams},
    regression::{HELD, Scale, measure, start},
    split,
};
use understudy_core::{Clock, Error, Result, hash::sha256_hex};
use understudy_dataset::{Row, text_hash};
use understudy_model::{artifact::Artifact, encoder::Encoder, head::Head, regressor::value, tokens::Tokenizer};
use understudy_stats::values::conformal_margin;

/// A trained regressor, written, and how it came about.
#[derive(Debug)]
pub(crate) struct Trained {
    pub(crate) artifact: Artifact,
    /// Texts after cleaning.
    pub(crate) texts: usize,
    /// Texts that repeated another.
    pub(crate) duplicates: usize,
    /// Mean and deviation of the numbers that were learned.
    pub(crate) scale: Scale,
    pub(crate) took: Duration,
}

impl Tuning {
    /// As for one label a text, under the squared error.
    pub(crate) fn for_numbers(method: Method) -> Self {
        let Self { params, lora } = Self::for_method(method);
        Self { params: FinetuneParams { objective: Objective::Values, ..params }, lora }
    }
}

/// Trains a regressor on rows whose right answer is a number, called `name`, and writes the artifact to `dir`. `bar` counts
/// the steps.
///
/// # Errors
/// `NotFound` when the base model is not installed, `Data` when the rows cannot be learnt from, whatever writing the
/// artifact reports.
pub(crate) async fn train(
    rows: Vec<Row>,
    name: String,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    check(&options, "numbers")?;
    let (dir, bar) = (dir.to_owned(), bar.clone());
    heavy("train the regressor", move || fit(rows, name, options, &dir, &bar)).await
}

fn fit(rows: Vec<Row>, name: String, options: TrainOptions, dir: &Path, bar: &ProgressBar) -> Result<Trained> {
    let clock = SystemClock::new();
    let before = rows.len();
    let material = Divided::new(rows, &options)?;
    let installed = encoder_named(&options)?;
    let base = base_model(&installed);
    let tuning = options.tuning.clone().unwrap_or_else(|| Tuning::for_numbers(options.method));
    let (mut network, options) = outputs::network(1, &tuning, options)?;
    let stops = tuning.params.patience > 0 && options.method != Method::Head;
    let [train, stop] = material.examples(&tokenizer(installed.dir(), &options)?, stops, &options)?;
    bar.set_message("reading the texts once");
    on_threads(options.threads, || start_head(&mut network, &train))?;
    let told = format!("numbers {} {}", material.data_hash, base.hash);
    let data = Data { train: &train.examples, held_out: &stop.examples };
    let trained = TrainedNetwork::train(network, data, tuning, &told, (&options, dir, bar))?;

    // From here on the encoder is the one that will serve.
    bar.set_message("calibrating");
    let encoder = trained.encoder(&options)?;
    let (weights, bias) = trained.network.head();
    let (weights, bias) = material.scale.outside(weights, bias.first().copied().unwrap_or_default());
    let head = Head::new(vec![name], weights, vec![bias], 1.0)?;
    let predicted = |of: &[usize]| on_threads(options.threads, || material.predicted(of, &head, &encoder));
    let numbers = |of: &[usize]| of.iter().map(|&i| material.numbers[i]).collect::<Vec<f64>>();
    let errors: Vec<f64> = predicted(&material.calibrate)?
        .iter()
        .zip(numbers(&material.calibrate))
        .map(|(given, right)| (given - right).abs())
        .collect();
    let margin = conformal_margin(&errors, HELD);
    let metrics = measure(&numbers(&material.test), &predicted(&material.test)?, margin, options.seed);
    let made = Made {
        kind: ArtifactKind::Regressor,
        base,
        what: "numbers",
        pooling: encoder.pooling().into(),
        thresholds: Vec::new(),
        margin,
        metrics,
        data_hash: material.data_hash.clone(),
        learned: super::learned(material.texts.iter().map(String::as_str), &material.test),
    };
    let counts = (train.examples.len(), stop.examples.len(), material.calibrate.len());
    let artifact = trained.write(made, head, counts, (&options, dir))?;
    let texts = material.texts.len();
    Ok(Trained { artifact, texts, duplicates: before - texts, scale: material.scale, took: clock.monotonic() })
}

/// Fits a ridge regression on what the encoder makes of the texts before training.
fn start_head(network: &mut Network, train: &Examples) -> Result<()> {
    let (weights, bias) = start(&vectors(network, &train.examples)?, &train.targets, &train.places)?;
    network.set_head(&weights, &[bias])
}

/// Texts as the network sees them.
#[derive(Default)]
struct Examples {
    examples: Vec<Ids>,
    targets: Vec<f32>,
    places: Vec<split::Place>,
}

/// Texts with their numbers, each text once, and what becomes of each.
struct Divided {
    texts: Vec<String>,
    numbers: Vec<f64>,
    scale: Scale,
    learn: Vec<usize>,
    calibrate: Vec<usize>,
    test: Vec<usize>,
    data_hash: String,
}

impl Divided {
    fn new(rows: Vec<Row>, options: &TrainOptions) -> Result<Self> {
        let (mut seen, mut texts, mut numbers) = (BTreeSet::new(), Vec::new(), Vec::new());
        for row in rows {
            let gold = row.gold().unwrap_or_default().trim();
            let number = gold.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| {
                Error::data(format!("train on numbers: line {}: `{gold}` is none (--label names the field)", row.line))
            })?;
            if seen.insert(text_hash(&row.text)) {
                texts.push(row.text);
                numbers.push(number);
            }
        }
        let shown: Vec<&str> = texts.iter().map(String::as_str).collect();
        let [learn, calibrate, test] = split::divide(&shown, options.test_share, options.seed);
        let learned: Vec<f64> = learn.iter().map(|&i| numbers[i]).collect();
        if learned.is_empty() {
            return Err(Error::data(format!("train on numbers: {} texts are too few to divide", texts.len())));
        }
        let scale = Scale::of(&learned)?;
        let mut lines: Vec<String> =
            texts.iter().zip(&numbers).map(|pair| format!("{}\n", serde_json::json!(pair))).collect();
        lines.sort_unstable();
        let data_hash = sha256_hex(lines.concat().as_bytes());
        Ok(Self { texts, numbers, scale, learn, calibrate, test, data_hash })
    }

    /// What the network learns from, and, where training may stop early, a tenth of it that says when.
    fn examples(&self, tokenizer: &Tokenizer, stops: bool, options: &TrainOptions) -> Result<[Examples; 2]> {
        let mut parts: [Examples; 2] = Default::default();
        let texts: Vec<&str> = self.learn.iter().map(|&i| self.texts[i].as_str()).collect();
        for ((&i, text), place) in self.learn.iter().zip(&texts).zip(split::places(&texts, options.seed)) {
            let target = self.scale.inside(self.numbers[i]);
            let part = &mut parts[usize::from(stops && place.fold == 0 && place.held_out_for == split::Use::Stop)];
            part.examples.push(Ids::new(tokenizer.tokenize(text)?.into_windows(), Target::Values(vec![target])));
            part.targets.push(target);
            part.places.push(place);
        }
        if parts[0].examples.is_empty() {
            return Err(Error::data(format!("train on numbers: {} texts are too few to divide", self.texts.len())));
        }
        Ok(parts)
    }

    /// The numbers for some of the texts.
    fn predicted(&self, of: &[usize], head: &Head, encoder: &Encoder) -> Result<Vec<f64>> {
        let mut predicted = Vec::with_capacity(of.len());
        embedded(of.iter().map(|&i| self.texts[i].as_str()), encoder, |vector| {
            predicted.push(value(head, vector)?);
            Ok(())
        })?;
        Ok(predicted)
    }
}
