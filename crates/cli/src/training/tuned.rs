//! Training the encoder itself: all of its layers, or low-rank adapters on them.
//!
//! The head starts as the logistic regression on what the encoder makes of the texts before training. Then both are
//! trained together. One part of the examples (a tenth, by content) is kept from all of this: on it the temperature is
//! fitted, with the encoder in the number type that will serve, so that confidences are those of the model that answers.

use super::run::{on_threads, path, serving, tokenizer, vectors, watched};
use super::taught::{Taught, distinct, words_of};
use super::{Material, Method, Product, TrainOptions, Trained, base_model, embed, encoder_named, finish, heavy};
use crate::clock::SystemClock;
use indicatif::ProgressBar;
use std::{collections::BTreeMap, path::Path};
use understudy_adapt::{
    encoder::{
        Example as Ids, HeadShape, Level, LoraParams, Network, NetworkOptions, Objective, Scope, SecondHead, Target,
    },
    finetune::{Data, FinetuneParams, Finetuned, Run},
    head::{FittedHead, HeadParams, Labelled, PathStep},
    matrix::Matrix,
    split::{Place, Use},
};
use understudy_core::{Clock, Error, Result};
use understudy_dataset::{Cleaned, Example};
use understudy_model::artifact::Body;

/// Most words of reasons that the second task knows.
const MOST_WORDS: usize = 2000;

/// How an encoder is trained.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tuning {
    /// How long, how fast.
    pub(crate) params: FinetuneParams,
    /// Adapters, for [`Method::Lora`].
    pub(crate) lora: LoraParams,
}

impl Tuning {
    /// What does well on the sets of the benchmarks: adapters bear, and need, higher rates than the weights themselves.
    pub(crate) fn for_method(method: Method) -> Self {
        if method == Method::Fewshot {
            let params = FinetuneParams {
                objective: Objective::Contrast { temperature: 0.1, together: 4 },
                epochs: 12,
                batch: 64,
                // A batch is compared as a whole.
                pass_tokens: usize::MAX,
                rate: 1e-4,
                layer_decay: 0.9,
                patience: 0,
                ..FinetuneParams::default()
            };
            return Self { params, lora: LoraParams::default() };
        }
        let rate = if method == Method::Lora { 1e-3 } else { 1.5e-4 };
        let params = FinetuneParams {
            epochs: 5,
            rate,
            head_rate: 1e-3,
            layer_decay: 0.9,
            patience: 0,
            ..FinetuneParams::default()
        };
        Self { params, lora: LoraParams::default() }
    }
}

/// What training the network leaves.
struct TunedEncoder {
    weights: Vec<f32>,
    bias: Vec<f32>,
    files: BTreeMap<String, Vec<u8>>,
    path: Vec<PathStep>,
    step: usize,
    n_train: usize,
    n_stop: usize,
}

/// As [`super::train`]; `bar` counts the steps.
pub(super) async fn train(
    examples: Vec<Example>,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    let clock = SystemClock::new();
    let mut material = Material::new(examples, &options)?;
    let stops = options.tuning.as_ref().is_some_and(|tuning| tuning.params.patience > 0);
    every_label_trains(&mut material, |place| !(calibrates(place) || stops && place.fold == 0));
    let installed = encoder_named(&options)?;
    let base = base_model(&installed);
    let checkpoint = options.checkpoint(dir, &material, &base.hash);
    let (folder, told, at) = (installed.dir().to_owned(), bar.clone(), checkpoint.clone());
    let (learned, material, options) = heavy("train the encoder", move || {
        let learned = learn(&material, &options, &folder, &at, &told)?;
        Ok((learned, material, options))
    })
    .await?;
    let fitting = clock.monotonic();

    // From here on the encoder is the one that will serve.
    let encoder = serving(&learned.files, &options)?;
    let (pooling, max_tokens) = (encoder.pooling().into(), u32::try_from(encoder.max_tokens()).unwrap_or(u32::MAX));
    let learn = &material.split.learn;
    let calibrate: Vec<usize> =
        learn.iter().zip(&material.split.places).filter(|(_, p)| calibrates(p)).map(|(&i, _)| i).collect();
    let seen: Vec<usize> = calibrate.iter().chain(&material.split.test).copied().collect();
    let texts = Cleaned {
        examples: seen.iter().map(|&i| material.cleaned.examples[i].clone()).collect(),
        duplicates: 0,
        conflicts: Vec::new(),
    };
    let embeddings = if seen.is_empty() {
        Matrix::new(encoder.dimensions(), Vec::new())?
    } else {
        embed(encoder, &texts, options.threads, &ProgressBar::hidden()).await?
    };
    let embedding = clock.monotonic().saturating_sub(fitting);
    let dir = dir.to_owned();
    let trained = heavy("fit head", move || {
        let TunedEncoder { weights, bias, files, path, step, n_train, n_stop } = learned;
        let (fitted, unseen) = FittedHead::beside_encoder(
            material.split.classes.clone(),
            (weights, bias),
            &embeddings.select(&(0..calibrate.len()).collect::<Vec<_>>()),
            &material.labels(&calibrate),
            (path, step),
            (n_train, n_stop),
        )?;
        let test = calibrate.len()..embeddings.rows();
        let probabilities = test.map(|row| Ok(fitted.head.predict(embeddings.row(row))?.probabilities));
        let probabilities = probabilities.collect::<Result<Vec<_>>>()?;
        let method = match (options.method, options.taught.has_reasons()) {
            (Method::Lora, false) => "lora",
            (Method::Lora, true) => "lora, with rationales",
            (_, false) => "full",
            (_, true) => "full, with rationales",
        };
        let (body, unlabelled) = (Body::Encoder, None);
        let TrainOptions { dtype, windows, .. } = options;
        let product =
            Product { fitted, unseen, base, body, method, unlabelled, files, dtype, max_tokens, windows, pooling };
        finish(material, options, product, &probabilities, &dir, (embedding, fitting))
    })
    .await?;
    // The model is safe; the state of its training is not needed any more. A file left behind does no harm.
    drop(std::fs::remove_file(checkpoint));
    Ok(trained)
}

/// Kept from training: the part whose only use is calibration.
pub(super) fn calibrates(place: &Place) -> bool {
    place.fold == 0 && place.held_out_for == Use::Calibrate
}

/// Gives each label of which no example would train one that does: the head has its row, and would answer by chance.
fn every_label_trains(material: &mut Material, trains: impl Fn(&Place) -> bool) {
    let labels = material.labels(&material.split.learn);
    let mut trained = vec![false; material.split.classes.len()];
    for (label, place) in labels.iter().zip(&material.split.places) {
        trained[*label] |= trains(place);
    }
    for (label, place) in labels.iter().zip(&mut material.split.places) {
        if !trained[*label] {
            place.fold = 1;
            trained[*label] = true;
        }
    }
}

fn learn(
    material: &Material,
    options: &TrainOptions,
    folder: &Path,
    checkpoint: &Path,
    bar: &ProgressBar,
) -> Result<TunedEncoder> {
    let tuning = options.tuning.clone().unwrap_or_else(|| Tuning::for_method(options.method));
    let params = tuning.params.check()?;
    let head = HeadShape { outputs: material.split.classes.len(), hidden: None, level: Level::UnitVector };
    let scope = match options.method {
        Method::Lora => Scope::Lora(tuning.lora),
        _ => Scope::Full { words: false, frozen_layers: 0 },
    };
    let mut network = Network::load(folder, &NetworkOptions { scope, head, seed: options.seed })?;
    let tokenizer = tokenizer(folder, options)?;
    let (split, labels) = (&material.split, material.labels(&material.split.learn));
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    let mut learned = Learn::default();
    let stops = params.params().patience > 0;
    for ((&i, place), &label) in split.learn.iter().zip(&split.places).zip(&labels) {
        if calibrates(place) {
            continue;
        }
        let text = &material.cleaned.examples[i].text;
        let windows = tokenizer.tokenize(text)?.into_windows();
        if stops && place.fold == 0 {
            // What judges is right or wrong.
            held_out.push(Ids::new(windows, Target::Class(label)));
            continue;
        }
        let shares = options.taught.shares(text, &split.classes);
        train.push(Ids::new(windows, shares.clone().map_or(Target::Class(label), Target::Shares)));
        learned.labels.push(label);
        learned.shares.push(shares);
        learned.places.push(*place);
        learned.texts.push(text);
    }
    if train.is_empty() {
        return Err(Error::data(format!(
            "train an encoder on {} examples: too few; a frozen one with a head (--method head) needs less",
            split.learn.len()
        )));
    }
    if options.taught.has_reasons() {
        second_task(&mut network, &mut train, &learned, &options.taught)?;
    }
    bar.set_message("reading the texts once");
    let start = || start_head(&mut network, &train, &learned, &split.classes);
    on_threads(options.threads, start)?;
    let data = Data { train: &train, held_out: &held_out };
    let fit = |run: Run<'_>| params.fit(network, data, options.seed, run);
    let Finetuned { network, history, kept_step, .. } =
        watched(bar, (options.threads, options.device), Some(checkpoint), fit)?;
    let mut files = network.encoder_files()?;
    if options.method == Method::Lora {
        files.extend(adapter_files(&network, &options.base)?);
    }
    let (weights, bias) = network.head();
    let path = path(&history);
    let step = history.iter().position(|r| r.step == kept_step).unwrap_or(path.len().saturating_sub(1));
    let (weights, bias) = (weights.to_vec(), bias.to_vec());
    Ok(TunedEncoder { weights, bias, files, path, step, n_train: train.len(), n_stop: held_out.len() })
}

/// What is known of the texts that train, in their order.
#[derive(Default)]
struct Learn<'a> {
    texts: Vec<&'a str>,
    labels: Vec<usize>,
    shares: Vec<Option<Vec<f32>>>,
    places: Vec<Place>,
}

/// Adds the second task: to find which words the reasons for the label have. All words together count `reasons_weight`
/// times the label, the words of a reason that many times each.
fn second_task(network: &mut Network, train: &mut [Ids], learned: &Learn<'_>, taught: &Taught) -> Result<()> {
    let reasons: Vec<Option<&str>> = learned.texts.iter().map(|text| taught.reason(text)).collect();
    let n = reasons.iter().flatten().count();
    let words = words_of(reasons.iter().flatten().copied(), MOST_WORDS);
    let held: usize = words.iter().map(|(_, count)| count).sum();
    if held == 0 {
        return Err(Error::data(format!(
            "learn from reasons: no word is in two of the {n} that training sees, and in no more than half of them"
        )));
    }
    let shares = words.iter().map(|(_, count)| *count as f64 / n as f64).collect();
    network.add_second(&SecondHead { shares, weight: taught.reasons_weight * n as f64 / held as f64 })?;
    let columns: BTreeMap<&str, u32> = words.iter().map(|(word, _)| word.as_str()).zip(0..).collect();
    for (example, reason) in train.iter_mut().zip(reasons) {
        example.second = reason.map(|reason| {
            let mut held: Vec<u32> = distinct(reason).iter().filter_map(|w| columns.get(w.as_str()).copied()).collect();
            held.sort_unstable();
            held
        });
    }
    Ok(())
}

/// Fits the head on what the encoder makes of the texts before training.
fn start_head(network: &mut Network, train: &[Ids], learned: &Learn<'_>, classes: &[String]) -> Result<()> {
    let embeddings = vectors(network, train)?;
    let data = Labelled { embeddings: &embeddings, labels: &learned.labels, places: &learned.places, classes };
    let head = HeadParams::default().check()?.fit_to_shares(data, &learned.shares)?.0.head;
    network.set_head(head.weights(), head.bias())
}

/// The adapters as PEFT reads them, below `adapter/`.
fn adapter_files(network: &Network, base: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let failed = |e: std::io::Error| Error::data(format!("write adapter: {e}"));
    let staging = tempfile::tempdir().map_err(failed)?;
    network.save_adapters(staging.path(), base)?;
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(staging.path()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = std::fs::read(entry.path()).map_err(failed)?;
        files.insert(format!("adapter/{}", entry.file_name().to_string_lossy()), bytes);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_core::Seed;

    #[test]
    fn every_label_has_an_example_that_trains() {
        let example = |i: usize| Example { id: i.to_string(), text: format!("text {i}"), label: format!("l{}", i / 2) };
        let trains = |place: &Place| place.fold != 0;
        let untrained = |material: &Material| {
            let labels = material.labels(&material.split.learn);
            let trained: std::collections::BTreeSet<usize> = labels
                .into_iter()
                .zip(&material.split.places)
                .filter(|(_, p)| trains(p))
                .map(|(label, _)| label)
                .collect();
            material.split.classes.len() - trained.len()
        };
        let mut before = 0;
        for seed in 0..20 {
            let options = TrainOptions { test_share: 0.0, seed: Seed(seed), ..TrainOptions::default() };
            let mut material = Material::new((0..60).map(example).collect(), &options).expect("it can be divided");
            before += untrained(&material);
            every_label_trains(&mut material, trains);
            assert_eq!(untrained(&material), 0);
        }
        assert!(before > 0, "two examples are easily both kept");
    }
}
