//! Training a labeller: an encoder whose head decides on each label by itself, from texts that list those that apply.

use super::run::{checkpoint_path, on_threads, path, serving, tokenizer, vectors, watched};
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
    artifact::{self, Provenance},
    encoder::{Example as Ids, HeadShape, Level, Network, NetworkOptions, Objective, Scope, Target},
    finetune::{Data, FinetuneParams, Run},
    head::{FittedHead, HeadParams, PathStep},
    multilabel::{self, Calibrated, Sets},
    split,
};
use understudy_core::{Clock, Error, Result, Seed, hash::sha256_hex};
use understudy_dataset::{Row, text_hash};
use understudy_model::{
    artifact::{Artifact, Body, Metric},
    encoder::{Encoder, Scratch},
    head::Head,
    labeller::Decision,
    tokens::Tokenizer,
};

/// Texts that are embedded together.
const PASS: usize = 32;

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
    if !matches!(options.method, Method::Lora | Method::Full | Method::Head) {
        let what = "train on lists of labels: take --method head, lora or full; the others learn one label a text";
        return Err(Error::invalid(what).with_param("method"));
    }
    if options.out_of_scope.is_some() {
        let what = "train on lists of labels: a text that no label applies to gets the empty list; --out-of-scope is \
                    for one label a text";
        return Err(Error::invalid(what).with_param("out-of-scope"));
    }
    let (dir, bar) = (dir.to_owned(), bar.clone());
    heavy("train the labeller", move || fit(rows, options, &dir, &bar)).await
}

fn fit(rows: Vec<Row>, options: TrainOptions, dir: &Path, bar: &ProgressBar) -> Result<Trained> {
    let clock = SystemClock::new();
    let before = rows.len();
    let material = Divided::new(rows, &options)?;
    let installed = encoder_named(&options)?;
    let (base, folder) = (base_model(&installed), installed.dir());
    let tuning = options.tuning.clone().unwrap_or_else(|| Tuning::for_labels(options.method));
    let mut network = network(folder, &tuning, material.labels.len(), &options)?;
    let most = network.max_tokens().min(options.max_tokens as usize);
    let options = TrainOptions { max_tokens: u32::try_from(most).unwrap_or(u32::MAX), ..options };
    let [train, stop] = material.examples(
        &tokenizer(folder, &options)?,
        tuning.params.patience > 0 && options.method != Method::Head,
        options.seed,
    )?;
    bar.set_message("reading the texts once");
    on_threads(options.threads, || start_head(&mut network, &train))?;

    let mut learned = Learned { files: BTreeMap::new(), path: Vec::new(), kept: 0 };
    let mut checkpoint = None;
    if options.method != Method::Head {
        let TrainOptions { method, seed, test_share, windows, .. } = &options;
        let told = format!(
            "labels {} {} {tuning:?} {most} {windows} {method:?} {} {test_share}",
            material.data_hash, base.hash, seed.0
        );
        let at = checkpoint_path(dir, &told);
        let params = tuning.params.check()?;
        let data = Data { train: &train.examples, held_out: &stop.examples };
        let fit = |run: Run<'_>| params.fit(network, data, options.seed, run);
        let fitted = watched(bar, options.threads, Some(&at), fit)?;
        learned.files = fitted.network.encoder_files()?;
        learned.kept = fitted.history.iter().position(|r| r.step == fitted.kept_step).unwrap_or_default();
        learned.path = path(&fitted.history);
        network = fitted.network;
        checkpoint = Some(at);
    }

    // From here on the encoder is the one that will serve.
    bar.set_message("calibrating");
    let encoder = match options.method {
        Method::Head => Encoder::load(folder, &options.reading())?,
        _ => serving(&learned.files, &options)?,
    };
    let (weights, bias) = network.head();
    let head = Head::new(material.labels.clone(), weights.to_vec(), bias.to_vec(), 1.0)?;
    let Calibrated { temperature, thresholds } = on_threads(options.threads, || material.calibrated(&head, &encoder))?;
    let head = Head::new(material.labels.clone(), weights.to_vec(), bias.to_vec(), temperature)?;
    let decision = Decision::new(head.clone(), thresholds.clone())?;
    let metrics = on_threads(options.threads, || material.measured(&decision, &encoder, options.seed))?;
    let fitted = FittedHead {
        head,
        c: learned.path.get(learned.kept).map_or(0.0, |step| step.c),
        path: learned.path,
        n_train: train.examples.len(),
        n_stop: stop.examples.len(),
        n_calibrate: material.calibrate.len(),
    };
    let (body, method) = match options.method {
        Method::Head => (Body::Base, "labels, head"),
        Method::Lora => (Body::Encoder, "labels, lora"),
        _ => (Body::Encoder, "labels, full"),
    };
    let provenance = Provenance {
        name: options.name.clone(),
        kind: ArtifactKind::Labeller,
        task: options.task.clone(),
        base,
        body,
        method: method.into(),
        files: learned.files,
        out_of_scope: None,
        thresholds,
        dtype: options.dtype,
        max_tokens: options.max_tokens,
        windows: options.windows,
        pooling: encoder.pooling().into(),
        metrics,
        data_hash: material.data_hash,
        seed: options.seed,
        parent: options.parent.clone(),
        compression: None,
        unlabelled: None,
        created: options.created,
    };
    let artifact = artifact::write(dir, &fitted, provenance, options.existing)?;
    if let Some(checkpoint) = checkpoint {
        // The model is safe; the state of its training is not needed any more. A file left behind does no harm.
        drop(std::fs::remove_file(checkpoint));
    }
    let texts = material.texts.len();
    let duplicates = before - texts;
    Ok(Trained { artifact, texts, duplicates, unlearned: material.unlearned, took: clock.monotonic() })
}

/// What training the network leaves beside its numbers.
struct Learned {
    files: BTreeMap<String, Vec<u8>>,
    path: Vec<PathStep>,
    kept: usize,
}

/// The encoder with a head that has an output for each label.
fn network(folder: &Path, tuning: &Tuning, outputs: usize, options: &TrainOptions) -> Result<Network> {
    let scope = match options.method {
        Method::Lora => Scope::Lora(tuning.lora.clone()),
        Method::Head => Scope::Head,
        _ => Scope::Full { words: false, frozen_layers: 0 },
    };
    let head = HeadShape { outputs, hidden: None, level: Level::UnitVector };
    Network::load(folder, &NetworkOptions { scope, head, seed: options.seed })
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
        if !(0.0..=0.9).contains(&options.test_share) {
            return Err(Error::invalid(format!("train: a test share of {} is not in [0, 0.9]", options.test_share)));
        }
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

    /// What the serving encoder makes of some texts, handed to `each`.
    fn embedded(&self, of: &[usize], encoder: &Encoder, mut each: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let mut scratch = Scratch::default();
        for part in of.chunks(PASS) {
            let tokens = part.iter().map(|&i| encoder.tokenize(&self.texts[i])).collect::<Result<Vec<_>>>()?;
            encoder.embed(&tokens, &mut scratch).iter().try_for_each(|vector| each(vector))?;
        }
        Ok(())
    }

    /// Temperature and thresholds from texts that training has not seen.
    fn calibrated(&self, head: &Head, encoder: &Encoder) -> Result<Calibrated> {
        let mut scores = Vec::with_capacity(self.calibrate.len());
        self.embedded(&self.calibrate, encoder, |vector| {
            scores.push(head.scores(vector)?);
            Ok(())
        })?;
        let applies: Vec<Vec<usize>> = self.calibrate.iter().map(|&i| self.applies[i].clone()).collect();
        Ok(multilabel::calibrate(&scores, &applies, self.labels.len()))
    }

    /// The figures on the texts that only measure.
    fn measured(&self, decision: &Decision, encoder: &Encoder, seed: Seed) -> Result<BTreeMap<String, Metric>> {
        let mut given = Vec::with_capacity(self.test.len());
        self.embedded(&self.test, encoder, |vector| {
            given.push(decision.decide(vector)?.chosen);
            Ok(())
        })?;
        let expected: Vec<Vec<usize>> = self.test.iter().map(|&i| self.applies[i].clone()).collect();
        Ok(multilabel::measure(&expected, &given, self.labels.len(), seed))
    }
}
