//! Training on few examples: the encoder first learns to lay texts of a label together, from groups of them in one batch;
//! then a head is fitted on what it makes of them.
//!
//! With 8 examples a label none can be spared. What is to be kept from training (how sure the model may be, what is out
//! of scope) is therefore learned from a training of its own, on four fifths, that judges the fifth that it has not
//! seen; the model itself is then trained on everything.
//!
//! Texts without labels help where there are some ([`unlabelled`]).

mod texts;
mod unlabelled;

use self::{texts::Texts, unlabelled::Pool};
use super::run::{on_threads, path, serving, tokenizer, vectors, watched};
use super::tuned::Tuning;
use super::{Material, Product, TrainOptions, Trained, base_model, embed, encoder_named, finish, heavy};
use crate::clock::SystemClock;
use indicatif::ProgressBar;
use std::{collections::BTreeMap, path::Path};
use understudy_adapt::{
    encoder::{HeadShape, Level, Network, NetworkOptions, Scope},
    finetune::{Data, Run},
    head::{FittedHead, HeadParams, Labelled, PathStep, Unseen},
};
use understudy_core::{Clock, Result};
use understudy_dataset::Cleaned;
use understudy_model::{
    artifact::{Body, Unlabelled},
    head::Head,
};

/// What the trainings leave.
struct Contrasted {
    fitted: FittedHead,
    unseen: Unseen,
    unlabelled: Option<Unlabelled>,
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
    let Contrasted { fitted, unseen, unlabelled, files } = learned;

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
        let (body, method) = (Body::Encoder, "fewshot");
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

fn learn(
    material: &Material,
    options: &TrainOptions,
    folder: &Path,
    checkpoint: &Path,
    bar: &ProgressBar,
) -> Result<Contrasted> {
    let trainer = Trainer { material, options, folder, bar };
    let encoder = trainer.network()?;
    let tokenizer = tokenizer(folder, options)?;
    let classes = &material.split.classes;
    bar.set_message("reading the texts once");
    let (whole, pool) = on_threads(options.threads, || {
        let mut whole = Texts::new(material, &tokenizer, &encoder)?;
        whole.add_names(classes, &tokenizer, &encoder)?;
        Ok((whole, Pool::new(material, options, &tokenizer, &encoder)?))
    })?;
    let (rest, judged) = whole.apart(|place| place.fold == 0);

    bar.set_message("a fifth kept aside");
    let (network, _) = trainer.contrasted(&rest, None)?;
    let of_judged = on_threads(options.threads, || vectors(&network, &judged.examples))?;
    let head = trainer.head(&rest, &network, pool.as_ref())?;
    if let Some(pool) = &pool {
        let alone = trainer.head(&rest, &network, None)?;
        pool.say(&alone, &head, &of_judged, &judged.labels)?;
    }
    let (aside, unseen) = FittedHead::beside_encoder(
        classes.clone(),
        (head.weights().to_vec(), head.bias().to_vec()),
        &of_judged,
        &judged.labels,
        (Vec::new(), 0),
        (rest.labels.len(), 0),
    )?;
    let (network, path) = trainer.contrasted(&whole, Some(checkpoint))?;
    bar.set_message("fitting the head");
    let head = trainer.head(&whole, &network, pool.as_ref())?;
    let head = Head::new(classes.clone(), head.weights().to_vec(), head.bias().to_vec(), aside.head.temperature())?;
    let (n_train, n_calibrate) = (material.split.learn.len(), judged.labels.len());
    let fitted = FittedHead { head, c: 0.0, path, n_train, n_stop: 0, n_calibrate };
    Ok(Contrasted { fitted, unseen, unlabelled: pool.map(|pool| pool.record), files: network.encoder_files()? })
}

/// What all steps need.
struct Trainer<'a> {
    material: &'a Material,
    options: &'a TrainOptions,
    folder: &'a Path,
    bar: &'a ProgressBar,
}

impl Trainer<'_> {
    /// The encoder before it learns anything.
    fn network(&self) -> Result<Network> {
        let head = HeadShape { outputs: self.material.split.classes.len(), hidden: None, level: Level::UnitVector };
        let scope = Scope::Full { words: false, frozen_layers: 0 };
        Network::load(self.folder, &NetworkOptions { scope, head, seed: self.options.seed })
    }

    /// Trains the encoder so that texts of a label lie together.
    fn contrasted(&self, texts: &Texts, checkpoint: Option<&Path>) -> Result<(Network, Vec<PathStep>)> {
        let mut tuning = self.options.tuning.clone().unwrap_or_else(|| Tuning::for_method(self.options.method));
        // There are two such trainings, and one limit of time.
        tuning.params.seconds /= 2.0;
        let params = tuning.params.check()?;
        let network = self.network()?;
        let data = Data { train: &texts.examples, held_out: &[] };
        let fit = |run: Run<'_>| params.fit(network, data, self.options.seed, run);
        let fitted = watched(self.bar, (self.options.threads, self.options.device), checkpoint, fit)?;
        let path = path(&fitted.history);
        Ok((fitted.network, path))
    }

    /// A head on what the network makes of the examples, and of texts without labels where there are some.
    fn head(&self, texts: &Texts, network: &Network, pool: Option<&Pool>) -> Result<Head> {
        let classes = &self.material.split.classes;
        on_threads(self.options.threads, || {
            let (embeddings, labels, places) = match pool {
                None => (vectors(network, &texts.examples)?, texts.labels.clone(), texts.places.clone()),
                Some(pool) => pool.joined(texts, network, classes.len())?,
            };
            let labelled = Labelled { embeddings: &embeddings, labels: &labels, places: &places, classes };
            Ok(HeadParams::default().check()?.fit(labelled)?.head)
        })
    }
}
