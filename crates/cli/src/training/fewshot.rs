//! Training on few examples: the encoder first learns to lay texts of a label together, from groups of them in one batch;
//! then a head is fitted on what it makes of them.
//!
//! With 8 examples a label none can be spared. What is to be kept from training (how sure the model may be, what is out
//! of scope) is therefore learned from a training of its own, on four fifths, that judges the fifth that it has not
//! seen; the model itself is then trained on everything.

use super::run::{path, serving, vectors, watched};
use super::tuned::Tuning;
use super::{Material, Product, TrainOptions, Trained, base_model, embed, encoder_named, finish, heavy};
use crate::{
    clock::SystemClock,
    terminal::{note, percent},
};
use indicatif::ProgressBar;
use std::{collections::BTreeMap, path::Path};
use understudy_adapt::{
    encoder::{Example as Ids, HeadShape, Level, Network, NetworkOptions, Scope, Target},
    finetune::{Data, Run},
    head::{FittedHead, HeadParams, Labelled, PathStep, Unseen},
    split::{FOLDS, Place, Use},
};
use understudy_core::{Clock, Result};
use understudy_dataset::Cleaned;
use understudy_model::{artifact::Body, head::Head, tokens::Tokenizer};

/// What the names of labels have to put right, of what chance leaves open, to count as examples.
const NAMES_SAY: f64 = 0.25;

/// What the trainings leave.
struct Learned {
    fitted: FittedHead,
    unseen: Unseen,
    files: BTreeMap<String, Vec<u8>>,
}

/// As [`super::train`]; `bar` counts the steps.
pub(super) async fn train(
    examples: Vec<understudy_dataset::Example>,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    let clock = SystemClock::new();
    let material = Material::new(examples, &options)?;
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
    let Learned { fitted, unseen, files } = learned;

    // From here on the encoder is the one that will serve.
    let encoder = serving(&files, &options)?;
    let (pooling, max_tokens) = (encoder.pooling().into(), u32::try_from(encoder.max_tokens()).unwrap_or(u32::MAX));
    let test = &material.split.test;
    let texts = Cleaned {
        examples: test.iter().map(|&i| material.cleaned.examples[i].clone()).collect(),
        duplicates: 0,
        conflicts: Vec::new(),
    };
    let mut probabilities = Vec::new();
    if !test.is_empty() {
        let embeddings = embed(encoder, &texts, options.threads, &ProgressBar::hidden()).await?;
        for row in 0..embeddings.rows() {
            probabilities.push(fitted.head.predict(embeddings.row(row))?.probabilities);
        }
    }
    let embedding = clock.monotonic().saturating_sub(fitting);
    let dir = dir.to_owned();
    let trained = heavy("write the model", move || {
        let (body, dtype) = (Body::Encoder, options.dtype);
        let product = Product { fitted, unseen, base, body, method: "fewshot", files, dtype, max_tokens, pooling };
        finish(material, options, product, &probabilities, &dir, (embedding, fitting))
    })
    .await?;
    // The model is safe; the state of its training is not needed any more. A file left behind does no harm.
    drop(std::fs::remove_file(checkpoint));
    Ok(trained)
}

fn learn(
    material: &Material,
    options: &TrainOptions,
    folder: &Path,
    checkpoint: &Path,
    bar: &ProgressBar,
) -> Result<Learned> {
    let most = options.max_tokens as usize;
    let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"), most)?;
    let (split, labels) = (&material.split, material.labels(&material.split.learn));
    let mut examples = Vec::with_capacity(labels.len());
    for (&i, &label) in split.learn.iter().zip(&labels) {
        let ids = tokenizer.tokenize(&material.cleaned.examples[i].text)?.ids().to_vec();
        examples.push(Ids { windows: vec![ids], target: Target::Class(label) });
    }
    let n_train = labels.len();
    let mut whole = Texts { examples, labels, places: split.places.clone() };
    whole.add_names(material, options, folder, &tokenizer)?;
    let (rest, judged) = whole.apart(|place| place.fold == 0);

    bar.set_message("a fifth kept aside");
    let (network, _) = contrasted(&rest, material, options, folder, None, bar)?;
    let head = rest.head(&network, material)?;
    let seen = (rest.labels.len(), 0);
    let numbers = (head.weights().to_vec(), head.bias().to_vec());
    let classes = material.split.classes.clone();
    let (aside, unseen) = FittedHead::beside_encoder(
        classes.clone(),
        numbers,
        &vectors(&network, &judged.examples)?,
        &judged.labels,
        (Vec::new(), 0),
        seen,
    )?;
    let (network, path) = contrasted(&whole, material, options, folder, Some(checkpoint), bar)?;
    let head = whole.head(&network, material)?;
    let head = Head::new(classes, head.weights().to_vec(), head.bias().to_vec(), aside.head.temperature())?;
    let fitted = FittedHead { head, c: 0.0, path, n_train, n_stop: 0, n_calibrate: judged.labels.len() };
    Ok(Learned { fitted, unseen, files: network.encoder_files()? })
}

/// Examples as the network sees them.
struct Texts {
    examples: Vec<Ids>,
    labels: Vec<usize>,
    places: Vec<Place>,
}

impl Texts {
    /// Adds the labels' names as one more example of each, where the encoder as it is finds texts near the names of their
    /// labels. `card_arrival` says as much as a text does; `c17` says nothing.
    fn add_names(
        &mut self,
        material: &Material,
        options: &TrainOptions,
        folder: &Path,
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        let classes = &material.split.classes;
        let mut names = Vec::with_capacity(classes.len());
        for (label, class) in classes.iter().enumerate() {
            let ids = tokenizer.tokenize(&readable(class))?.ids().to_vec();
            names.push(Ids { windows: vec![ids], target: Target::Class(label) });
        }
        let head = HeadShape { outputs: classes.len(), hidden: None, level: Level::UnitVector };
        let scope = Scope::Full { words: false, frozen_layers: 0 };
        let network = Network::load(folder, &NetworkOptions { scope, head, seed: options.seed })?;
        let (of_names, of_texts) = (vectors(&network, &names)?, vectors(&network, &self.examples)?);
        let nearest = |text: &[f32]| {
            let likeness = |name: usize| of_names.row(name).iter().zip(text).map(|(a, b)| a * b).sum::<f32>();
            (0..classes.len()).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)))
        };
        let hits = (0..of_texts.rows()).filter(|&i| nearest(of_texts.row(i)) == Some(self.labels[i])).count();
        let (share, chance) = (hits as f64 / of_texts.rows().max(1) as f64, 1.0 / classes.len().max(1) as f64);
        if share - chance < NAMES_SAY * (1.0 - chance) {
            return Ok(());
        }
        let right = percent(share);
        note(format_args!("  the names of the labels count as examples: they alone put {right} of the texts right"));
        for (label, name) in names.into_iter().enumerate() {
            self.examples.push(name);
            self.labels.push(label);
            // Names help to learn; what the model is judged by are texts.
            self.places.push(Place { fold: 1 + label % (FOLDS - 1), held_out_for: Use::Stop });
        }
        Ok(())
    }

    /// Those that `aside` does not choose, and those that it does.
    fn apart(&self, aside: impl Fn(&Place) -> bool) -> (Self, Self) {
        let pick = |of: bool| {
            let chosen: Vec<usize> = (0..self.labels.len()).filter(|&i| aside(&self.places[i]) == of).collect();
            Self {
                examples: chosen.iter().map(|&i| self.examples[i].clone()).collect(),
                labels: chosen.iter().map(|&i| self.labels[i]).collect(),
                places: chosen.iter().map(|&i| self.places[i]).collect(),
            }
        };
        (pick(false), pick(true))
    }

    /// A head on what the network makes of them.
    fn head(&self, network: &Network, material: &Material) -> Result<Head> {
        let embeddings = vectors(network, &self.examples)?;
        let labelled = Labelled {
            embeddings: &embeddings,
            labels: &self.labels,
            places: &self.places,
            classes: &material.split.classes,
        };
        Ok(HeadParams::default().check()?.fit(labelled)?.head)
    }
}

/// Trains the encoder so that texts of a label lie together.
fn contrasted(
    texts: &Texts,
    material: &Material,
    options: &TrainOptions,
    folder: &Path,
    checkpoint: Option<&Path>,
    bar: &ProgressBar,
) -> Result<(Network, Vec<PathStep>)> {
    let tuning = options.tuning.clone().unwrap_or_else(|| Tuning::for_method(options.method));
    let params = tuning.params.check()?;
    let head = HeadShape { outputs: material.split.classes.len(), hidden: None, level: Level::UnitVector };
    let scope = Scope::Full { words: false, frozen_layers: 0 };
    let network = Network::load(folder, &NetworkOptions { scope, head, seed: options.seed })?;
    let data = Data { train: &texts.examples, held_out: &[] };
    let fit = |run: Run<'_>| params.fit(network, data, options.seed, run);
    let fitted = watched(bar, options.threads, checkpoint, fit)?;
    let path = path(&fitted.history);
    Ok((fitted.network, path))
}

/// A label as words: `card_arrival`, `Refund-notShowing` become `card arrival`, `refund not showing`.
fn readable(label: &str) -> String {
    let mut text = String::with_capacity(label.len() + 4);
    let mut before = ' ';
    for c in label.chars() {
        if !c.is_alphanumeric() {
            text.push(' ');
        } else {
            if c.is_uppercase() && before.is_lowercase() {
                text.push(' ');
            }
            text.extend(c.to_lowercase());
        }
        before = c;
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_words() {
        for (label, words) in [
            ("card_arrival", "card arrival"),
            ("Refund-notShowing", "refund not showing"),
            ("reverted_card_payment?", "reverted card payment"),
            ("HUM:desc", "hum desc"),
            ("ÄnderungAdresse", "änderung adresse"),
            ("??", ""),
        ] {
            assert_eq!(readable(label), words);
        }
    }
}
