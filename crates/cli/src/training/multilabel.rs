//! Training a labeller: an encoder whose head decides on each label by itself, from texts that list those that apply.

use super::outputs::{self, Made, TrainedNetwork, check, embedded};
use super::run::{on_threads, tokenizer, vectors};
use super::tuned::Tuning;
use super::{ArtifactKind, Method, TrainOptions, base_model, encoder_named, heavy};
use crate::clock::SystemClock;
use indicatif::ProgressBar;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};
use understudy_adapt::{
    encoder::{Example as Ids, Network, Objective, Target},
    finetune::{Data, FinetuneParams},
    head::HeadParams,
    multilabel::{self, Calibrated, Sets},
    split,
};
use understudy_core::{Clock, Error, Result, Seed, hash::sha256_hex};
use understudy_dataset::{Row, text_hash};
use understudy_model::{
    artifact::{Artifact, Metric},
    encoder::Encoder,
    head::Head,
    labeller::Decision,
    tokens::Tokenizer,
};

/// A trained labeller, written, and how it came about.
#[derive(Debug)]
pub(crate) struct Trained {
    pub(crate) artifact: Artifact,
    /// Texts after cleaning.
    pub(crate) texts: usize,
    /// Texts that repeated another.
    pub(crate) duplicates: usize,
    /// Labels that no text to learn from has; they are not learned.
    pub(crate) unlearned: Vec<String>,
    pub(crate) took: Duration,
}

impl Tuning {
    /// As for one label a text, under the sum of the labels' own losses.
    pub(crate) fn for_labels(method: Method) -> Self {
        let Self { params, lora } = Self::for_method(method);
        let params = FinetuneParams { objective: Objective::Labels { weights: Vec::new() }, ..params };
        Self { params, lora }
    }
}

/// Trains a labeller on rows that list labels and writes the artifact to `dir`. `bar` counts the steps.
///
/// # Errors
/// `NotFound` when the base model is not installed, `Data` when the rows cannot be learnt from, whatever writing the
/// artifact reports.
pub(crate) async fn train(rows: Vec<Row>, options: TrainOptions, dir: &Path, bar: &ProgressBar) -> Result<Trained> {
    check(&options, "lists of labels")?;
    let (dir, bar) = (dir.to_owned(), bar.clone());
    heavy("train the labeller", move || fit(rows, options, &dir, &bar)).await
}

fn fit(rows: Vec<Row>, options: TrainOptions, dir: &Path, bar: &ProgressBar) -> Result<Trained> {
    let clock = SystemClock::new();
    let before = rows.len();
    let material = Divided::new(rows, &options)?;
    let installed = encoder_named(&options)?;
    let base = base_model(&installed);
    let tuning = options.tuning.clone().unwrap_or_else(|| Tuning::for_labels(options.method));
    let (mut network, options) = outputs::network(material.labels.len(), &tuning, options)?;
    let [train, stop] = material.examples(
        &tokenizer(installed.dir(), &options)?,
        tuning.params.patience > 0 && options.method != Method::Head,
        options.seed,
    )?;
    bar.set_message("reading the texts once");
    on_threads(options.threads, || start_head(&mut network, &train))?;

    let told = format!("labels {} {}", material.data_hash, base.hash);
    let data = Data { train: &train.examples, held_out: &stop.examples };
    let trained = TrainedNetwork::train(network, data, tuning, &told, (&options, dir, bar))?;

    // From here on the encoder is the one that will serve.
    bar.set_message("calibrating");
    let encoder = trained.encoder(&options)?;
    let (weights, bias) = trained.network.head();
    let (weights, bias) = (weights.to_vec(), bias.to_vec());
    let head = Head::new(material.labels.clone(), weights.clone(), bias.clone(), 1.0)?;
    let Calibrated { temperature, thresholds } = on_threads(options.threads, || material.calibrated(&head, &encoder))?;
    let head = Head::new(material.labels.clone(), weights, bias, temperature)?;
    let decision = Decision::new(head.clone(), thresholds.clone())?;
    let metrics = on_threads(options.threads, || material.measured(&decision, &encoder, options.seed))?;
    let made = Made {
        kind: ArtifactKind::Labeller,
        base,
        what: "labels",
        pooling: encoder.pooling().into(),
        thresholds,
        margin: None,
        metrics,
        data_hash: material.data_hash.clone(),
        learned: super::learned(material.texts.iter().map(String::as_str), &material.test),
    };
    let counts = (train.examples.len(), stop.examples.len(), material.calibrate.len());
    let artifact = trained.write(made, head, counts, (&options, dir))?;
    let texts = material.texts.len();
    let duplicates = before - texts;
    Ok(Trained { artifact, texts, duplicates, unlearned: material.unlearned, took: clock.monotonic() })
}

/// Fits one regression a label on what the encoder makes of the texts before training.
fn start_head(network: &mut Network, train: &Examples) -> Result<()> {
    let embeddings = vectors(network, &train.examples)?;
    // One division is enough: the encoder's training goes on from here, or the calibration judges it.
    let params = HeadParams { cross_fit_below: 0, ..HeadParams::default() }.check()?;
    let sets = Sets { embeddings: &embeddings, applies: &train.applies, places: &train.places };
    let (weights, bias) = multilabel::heads(&params, sets, network.outputs())?;
    network.set_head(&weights, &bias)
}

/// Texts as the network sees them.
#[derive(Default)]
struct Examples {
    examples: Vec<Ids>,
    applies: Vec<Vec<usize>>,
    places: Vec<split::Place>,
}

/// Texts with their labels, each text once, and what becomes of each.
struct Divided {
    texts: Vec<String>,
    /// Positions of the labels that apply to each text.
    applies: Vec<Vec<usize>>,
    labels: Vec<String>,
    unlearned: Vec<String>,
    learn: Vec<usize>,
    calibrate: Vec<usize>,
    test: Vec<usize>,
    data_hash: String,
}

impl Divided {
    fn new(rows: Vec<Row>, options: &TrainOptions) -> Result<Self> {
        let (mut seen, mut texts, mut lists) = (BTreeSet::new(), Vec::new(), Vec::new());
        for row in rows {
            let labels = row.labels.or_else(|| row.label.map(|label| vec![label])).ok_or_else(|| {
                Error::data(format!("train on line {}: it has no list of labels; an empty one is []", row.line))
            })?;
            if seen.insert(text_hash(&row.text)) {
                texts.push(row.text);
                lists.push(labels);
            }
        }
        let shown: Vec<&str> = texts.iter().map(String::as_str).collect();
        let [learn, calibrate, test] = split::divide(&shown, options.test_share, options.seed);
        let all: BTreeSet<&String> = lists.iter().flatten().collect();
        let learned: BTreeSet<&String> = learn.iter().flat_map(|&i| &lists[i]).collect();
        let unlearned = all.difference(&learned).map(|label| (*label).clone()).collect();
        let labels: Vec<String> = learned.into_iter().cloned().collect();
        if labels.len() < 2 {
            return Err(Error::data(format!(
                "train on lists of labels: {} texts to learn from have {} label(s) in all; at least two are needed",
                learn.len(),
                labels.len()
            )));
        }
        let position = |label: &String| labels.binary_search(label).ok();
        let applies = lists.iter().map(|list| list.iter().filter_map(position).collect()).collect();
        let mut lines: Vec<String> =
            texts.iter().zip(&lists).map(|pair| format!("{}\n", serde_json::json!(pair))).collect();
        lines.sort_unstable();
        let data_hash = sha256_hex(lines.concat().as_bytes());
        Ok(Self { applies, labels, unlearned, learn, calibrate, test, data_hash, texts })
    }

    /// What the network learns from, and, where training may stop early, a tenth of it that says when.
    fn examples(&self, tokenizer: &Tokenizer, stops: bool, seed: Seed) -> Result<[Examples; 2]> {
        let mut parts: [Examples; 2] = Default::default();
        let texts: Vec<&str> = self.learn.iter().map(|&i| self.texts[i].as_str()).collect();
        for ((&i, text), place) in self.learn.iter().zip(&texts).zip(split::places(&texts, seed)) {
            let mut targets = vec![0.0; self.labels.len()];
            self.applies[i].iter().for_each(|&label| targets[label] = 1.0);
            let held = stops && place.fold == 0 && place.held_out_for == split::Use::Stop;
            let part = &mut parts[usize::from(held)];
            let windows = tokenizer.tokenize(text)?.into_windows();
            part.examples.push(Ids::new(windows, Target::Labels(targets)));
            part.applies.push(self.applies[i].clone());
            part.places.push(place);
        }
        if parts[0].examples.is_empty() {
            return Err(Error::data(format!("train on {} texts: too few to divide", self.texts.len())));
        }
        Ok(parts)
    }

    /// Some of the texts.
    fn of<'t>(&'t self, chosen: &'t [usize]) -> impl Iterator<Item = &'t str> {
        chosen.iter().map(|&i| self.texts[i].as_str())
    }

    /// Temperature and thresholds from texts that training has not seen.
    fn calibrated(&self, head: &Head, encoder: &Encoder) -> Result<Calibrated> {
        let mut scores = Vec::with_capacity(self.calibrate.len());
        embedded(self.of(&self.calibrate), encoder, |vector| {
            scores.push(head.scores(vector)?);
            Ok(())
        })?;
        let applies: Vec<Vec<usize>> = self.calibrate.iter().map(|&i| self.applies[i].clone()).collect();
        Ok(multilabel::calibrate(&scores, &applies, self.labels.len()))
    }

    /// The figures on the texts that only measure.
    fn measured(&self, decision: &Decision, encoder: &Encoder, seed: Seed) -> Result<BTreeMap<String, Metric>> {
        let mut given = Vec::with_capacity(self.test.len());
        embedded(self.of(&self.test), encoder, |vector| {
            given.push(decision.decide(vector)?.chosen);
            Ok(())
        })?;
        let expected: Vec<Vec<usize>> = self.test.iter().map(|&i| self.applies[i].clone()).collect();
        Ok(multilabel::measure(&expected, &given, self.labels.len(), seed))
    }
}
