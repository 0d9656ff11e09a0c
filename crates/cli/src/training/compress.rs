//! What compressing has in common, whatever is done: a trained classifier with its encoder, rows that judge what it
//! became, and the artifact that says what was lost.

use super::{base_of, heavy};
use crate::clock::SystemClock;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_adapt::{
    artifact::{self, Existing, Provenance},
    compare::{Answered, Change, compare},
    head::FittedHead,
    metrics::{self, Judged},
    split::{self, Place},
};
use understudy_core::{Clock, Error, ModelName, Result, Seed, Timestamp};
use understudy_dataset::{Cleaned, Example, Learned, clean, text_hash};
use understudy_model::{
    artifact::{Artifact, Body, Compression, Dtype, Kind, Pooling},
    encoder::{Encoder, EncoderOptions, Scratch, Tokens, weights},
    head::{Head, likeliest},
};

/// Texts between two turns of models that are timed beside each other.
const TURN: usize = 128;

/// A trained classifier that is to be made smaller.
pub(crate) struct Subject {
    pub(crate) artifact: Artifact,
    /// The folder of its encoder.
    pub(crate) folder: PathBuf,
    /// The rows, cleaned.
    pub(crate) cleaned: Cleaned,
    /// What it learned from.
    before: Learned,
    /// Rows that were to judge, and do not because it learned from them.
    left_out: usize,
    /// Rows that only judge.
    pub(crate) test: Vec<usize>,
    /// The others. Empty when all rows judge.
    pub(crate) learn: Vec<usize>,
    /// Their parts in a training, in the same order.
    pub(crate) places: Vec<Place>,
}

/// Which rows judge; in any case only those that the model did not learn from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rows {
    /// All.
    Judge,
    /// All, and the others may be learned from; where the model knows none of them, a share judges.
    Divide {
        /// The share.
        test_share: f64,
    },
    /// These; the others may be learned from.
    Apart(Vec<Example>),
}

impl Subject {
    /// Opens an artifact beside labelled rows.
    ///
    /// # Errors
    /// Whatever keeps the artifact from being read; `Invalid` when it has no encoder; `Data` when no row has a label
    /// that it knows.
    pub(crate) fn open(model: &Path, models_dir: &Path, examples: Vec<Example>, rows: Rows) -> Result<Self> {
        let artifact = Artifact::read(model)?;
        let manifest = artifact.manifest();
        if manifest.kind != Kind::Classifier {
            let what = format!("compress {}: only models that give one label are compressed so far", model.display());
            return Err(Error::invalid(what).with_param("model"));
        }
        let folder = match manifest.body {
            Body::Encoder => artifact.dir().to_owned(),
            Body::Base => base_of(&artifact, models_dir)?,
            Body::Words | Body::Static => {
                let what = format!("compress {}: it has no encoder, and is small already", model.display());
                return Err(Error::invalid(what).with_param("model"));
            }
        };
        let mut cleaned = clean(examples);
        if !cleaned.examples.iter().any(|example| artifact.labels().any(|label| label == example.label)) {
            return Err(Error::data(format!(
                "judge {} on these rows: none has a label that it knows; is it the right data, and the right label field?",
                model.display()
            )));
        }
        let before = Learned::of_artifact(artifact.dir())?;
        let is_new = |example: &Example| !before.has(&text_hash(&example.text));
        let mut left_out = 0;
        let (learn, places, test) = match rows {
            Rows::Judge => {
                let test: Vec<usize> = (0..cleaned.examples.len()).filter(|&i| is_new(&cleaned.examples[i])).collect();
                left_out = cleaned.examples.len() - test.len();
                (Vec::new(), Vec::new(), test)
            }
            Rows::Divide { test_share } => {
                let split = split::split_further(&cleaned.examples, &before, test_share, manifest.seed)?;
                (split.learn, split.places, split.test)
            }
            Rows::Apart(test) => {
                let mut test = clean(test).examples;
                left_out = test.len();
                test.retain(is_new);
                left_out -= test.len();
                let judging = Learned::of(test.iter().map(|example| text_hash(&example.text)));
                cleaned.examples.retain(|example| !judging.has(&text_hash(&example.text)));
                let split = split::split(&cleaned.examples, 0.0, manifest.seed)?;
                let from = cleaned.examples.len();
                cleaned.examples.extend(test);
                (split.learn, split.places, (from..cleaned.examples.len()).collect())
            }
        };
        if test.is_empty() {
            return Err(Error::data(format!(
                "judge {}: no row is left that its training did not see; give other rows",
                model.display()
            )));
        }
        Ok(Self { artifact, folder, cleaned, before, left_out, test, learn, places })
    }

    /// What a table of its judges is headed with: how many there are, and how many more there were.
    pub(crate) fn judges(&self) -> String {
        let n = self.test.len();
        match self.left_out {
            0 => format!("n = {n}"),
            more => format!("n = {n} ({more} more were left out: the model learned from them)"),
        }
    }

    /// Bytes of an encoder's weights.
    pub(crate) fn bytes(folder: &Path) -> Result<u64> {
        let file = folder.join(weights::FILE);
        let metadata = std::fs::metadata(&file);
        Ok(metadata.map_err(|e| Error::data(format!("read {}: {e}", file.display())))?.len())
    }

    /// Positions of the right labels of the rows that judge; of labels that the model does not know, one beyond all.
    pub(crate) fn labels(&self, of: &[usize]) -> Vec<usize> {
        let known: Vec<&str> = self.artifact.labels().collect();
        let position = |&i: &usize| known.iter().position(|label| *label == self.cleaned.examples[i].label);
        of.iter().map(|i| position(i).unwrap_or(known.len())).collect()
    }

    /// Lets several encoders, each with its head, answer the rows that judge, in turns on one core.
    ///
    /// # Errors
    /// What loading, tokenising and classifying fail with.
    pub(crate) fn answers(&self, models: &[(&Path, Dtype, &Head)]) -> Result<Vec<Answers>> {
        let manifest = self.artifact.manifest();
        let load = |(folder, dtype, _): &(&Path, Dtype, &Head)| {
            Encoder::load(folder, &EncoderOptions { dtype: (*dtype).into(), ..manifest.reading() })
        };
        let encoders = models.iter().map(load).collect::<Result<Vec<_>>>()?;
        let mut answers: Vec<Answers> = encoders.iter().map(|_| Answers::default()).collect();
        let mut scratches: Vec<Scratch> = encoders.iter().map(|_| Scratch::default()).collect();
        for rows in self.test.chunks(TURN) {
            let turns = encoders.iter().zip(models).zip(&mut scratches).zip(&mut answers);
            for (((encoder, (.., head)), scratch), answers) in turns {
                let clock = SystemClock::new();
                let texts = rows.iter().map(|&i| encoder.tokenize(&self.cleaned.examples[i].text));
                let texts = texts.collect::<Result<Vec<Tokens>>>()?;
                let vectors = encoder.embed(&texts, scratch);
                answers.took += clock.monotonic();
                for vector in vectors {
                    answers.of.push(self.answered(head, &vector)?);
                }
            }
        }
        Ok(answers)
    }

    fn answered(&self, head: &Head, vector: &[f32]) -> Result<Answered> {
        let probabilities = head.predict(vector)?.probabilities;
        let answer = match &self.artifact.manifest().out_of_scope {
            None => likeliest(&probabilities),
            Some(rule) => {
                let (answer, _) = rule.apply(head.labels(), &probabilities);
                self.artifact.labels().position(|label| label == answer).expect("the rule answers with its labels")
            }
        };
        Ok(Answered { probabilities, answer })
    }

    /// What changed between two encoders' answers.
    pub(crate) fn change(&self, before: &Answers, after: &Answers, seed: Seed) -> Change {
        let labels = self.labels(&self.test);
        compare(&before.of, &after.of, &labels, seed).expect("an opened subject has rows that judge")
    }
}

/// One encoder's answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    pub(crate) of: Vec<Answered>,
    /// Time of tokenising and embedding, on one core.
    pub(crate) took: Duration,
}

impl Answers {
    /// Texts a second on one core.
    pub(crate) fn per_second(&self) -> f64 {
        self.of.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// A compressed model, before it is written.
pub(crate) struct Compressed {
    /// What was done.
    pub(crate) method: String,
    /// Its encoder's files.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Its head, where that changed too.
    pub(crate) head: Option<FittedHead>,
    pub(crate) dtype: Dtype,
    pub(crate) change: Change,
    /// Its answers to the rows that judge.
    pub(crate) answers: Vec<Answered>,
    pub(crate) bytes_before: u64,
    /// How many were compared on the rows that judge before this one was picked.
    pub(crate) candidates: u32,
}

/// How to write it.
#[derive(Debug, Clone)]
pub(crate) struct Writing {
    pub(crate) name: ModelName,
    pub(crate) existing: Existing,
    pub(crate) created: Timestamp,
}

/// Writes the artifact of a compressed model.
///
/// # Errors
/// As [`artifact::write`].
pub(crate) async fn write(subject: Subject, compressed: Compressed, writing: Writing, dir: &Path) -> Result<Artifact> {
    let dir = dir.to_owned();
    heavy("write the artifact", move || {
        let manifest = subject.artifact.manifest();
        let classes = subject.artifact.labels().count() + 1;
        let confidence = |a: &Answered| a.probabilities.get(a.answer).copied().unwrap_or_else(|| outside(a));
        let judged: Vec<Judged> = compressed
            .answers
            .iter()
            .zip(subject.labels(&subject.test))
            .map(|(a, label)| Judged { predicted: a.answer, label, confidence: confidence(a) })
            .collect();
        let rule = manifest.out_of_scope.clone();
        let told = rule.as_ref().and_then(|rule| subject.artifact.labels().position(|label| label == rule.label));
        let Change { accuracy_before, accuracy, loss, kl, flips } = compressed.change;
        let bytes = compressed.files.get(weights::FILE).map_or(0, |bytes| bytes.len() as u64);
        let learned = subject.learn.iter().map(|&i| text_hash(&subject.cleaned.examples[i].text));
        let mut files = compressed.files;
        files.insert(Learned::FILE.to_owned(), Learned::of(learned).and(subject.before.clone()).to_bytes());
        let compression = Compression {
            method: compressed.method.clone(),
            candidates: compressed.candidates,
            bytes_before: compressed.bytes_before,
            bytes,
            accuracy_before,
            accuracy,
            loss,
            kl,
            flips,
        };
        let provenance = Provenance {
            name: writing.name,
            kind: manifest.kind,
            task: manifest.task.clone(),
            base: manifest.base.clone(),
            body: Body::Encoder,
            method: format!("{} → {}", manifest.method, compressed.method),
            files,
            out_of_scope: rule,
            thresholds: Vec::new(),
            margin: None,
            dtype: compressed.dtype,
            max_tokens: manifest.max_tokens,
            windows: manifest.windows,
            pooling: Pooling::clone(&manifest.pooling),
            metrics: metrics::measure_judged(&judged, classes, told, manifest.seed),
            data_hash: manifest.data_hash.clone(),
            seed: manifest.seed,
            parent: Some(subject.artifact.hash().to_owned()),
            compression: Some(compression),
            unlabelled: manifest.unlabelled.clone(),
            taught: manifest.taught.clone(),
            device: manifest.device.clone(),
            created: writing.created,
        };
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let fitted = compressed.head.unwrap_or_else(|| FittedHead {
            head: subject.artifact.head().clone(),
            c: 0.0,
            path: Vec::new(),
            n_train: size(manifest.n_train),
            n_stop: size(manifest.n_stop),
            n_calibrate: size(manifest.n_calibrate),
        });
        artifact::write(&dir, &fitted, provenance, writing.existing)
    })
    .await
}

/// The confidence of an answer that stands for none of the labels.
fn outside(answered: &Answered) -> f64 {
    1.0 - answered.probabilities.iter().copied().fold(0.0, f64::max)
}

/// Writes files to a temporary folder.
pub(crate) fn staged(files: &BTreeMap<String, Vec<u8>>) -> Result<tempfile::TempDir> {
    let staging = tempfile::tempdir().map_err(|e| Error::data(format!("make a temporary folder: {e}")))?;
    for (file, bytes) in files {
        let path = staging.path().join(file);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, bytes));
        written.map_err(|e| Error::data(format!("write {}: {e}", path.display())))?;
    }
    Ok(staging)
}
