//! What `artifact.json` says.

use crate::artifact::{FORMAT, NEWEST};
use crate::encoder::EncoderOptions;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Component, Path},
};
use understudy_core::{Error, ModelName, Result, Seed, TaskName, Timestamp};

/// What kind of model an artifact holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A linear head that gives a text a label.
    Classifier,
    /// A linear head that tags words; its labels are tags ([`crate::tags`]), and its answers JSON objects.
    Extractor,
    /// A linear head that decides on each label by itself; its answers are JSON lists of those that apply.
    Labeller,
    /// A linear head with one output; its answers are numbers.
    Regressor,
}

impl Kind {
    /// The version of the format that first knew it, and texts in so many windows: what its artifacts are written in.
    #[must_use]
    pub fn format(self, windows: u32) -> u32 {
        match self {
            Self::Classifier | Self::Extractor if windows == 1 => FORMAT,
            _ => NEWEST,
        }
    }
}

/// What turns a text into the vector that the head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The installed base, as it is.
    #[default]
    Base,
    /// An encoder of the artifact's own, trained from the base: `config.json`, `model.safetensors`, `tokenizer.json` …
    Encoder,
    /// No encoder: words and pieces of words, listed in the artifact (`words.safetensors`).
    Words,
    /// No encoder: a table with a vector for each token, in the artifact in model2vec's layout.
    Static,
}

/// When a text belongs to none of the labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutOfScope {
    /// What is answered then. It may be one of the head's labels.
    pub label: String,
    /// It is answered when no other label's probability reaches this, in [0, 1].
    pub threshold: f64,
}

impl OutOfScope {
    /// What is answered, given each label's probability, and the probability that it is right.
    #[must_use]
    pub fn apply<'a>(&'a self, labels: &'a [String], probabilities: &[f64]) -> (&'a str, f64) {
        let inside = labels.iter().zip(probabilities).filter(|(label, _)| **label != self.label);
        let best = inside.max_by(|(_, a), (_, b)| a.total_cmp(b));
        match best {
            Some((label, p)) if *p >= self.threshold => (label, *p),
            best => (&self.label, 1.0 - best.map_or(0.0, |(_, p)| *p)),
        }
    }
}

/// Number type in which the encoder computes. The head was fitted on its output, so it is part of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 8-bit integers with scales.
    Int8,
}

/// How token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Mean over all tokens that are not padding.
    Mean,
    /// The first token's vector.
    Cls,
}

impl From<Dtype> for understudy_kernels::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Int8 => Self::Int8,
        }
    }
}

impl From<understudy_kernels::Pooling> for Pooling {
    fn from(pooling: understudy_kernels::Pooling) -> Self {
        match pooling {
            understudy_kernels::Pooling::Mean => Self::Mean,
            understudy_kernels::Pooling::Cls => Self::Cls,
        }
    }
}

impl From<Pooling> for understudy_kernels::Pooling {
    fn from(pooling: Pooling) -> Self {
        match pooling {
            Pooling::Mean => Self::Mean,
            Pooling::Cls => Self::Cls,
        }
    }
}

/// The installed model that training started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseModel {
    /// Catalogue name.
    pub name: ModelName,
    /// SHA-256 over its files, as the catalogue computes it.
    pub hash: String,
}

/// A measured number with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Point estimate.
    pub estimate: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Items it was measured on.
    pub n: u64,
}

/// What compressing a model did to it, on items that taught it nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    /// What was done: `int8`, `int4`, `layers 3` …
    pub method: String,
    /// How many were compared on the same items before this one was picked: the more, the more its figures flatter it.
    #[serde(default = "one")]
    pub candidates: u32,
    /// Bytes of the encoder's weights before.
    pub bytes_before: u64,
    /// Bytes of the encoder's weights now.
    pub bytes: u64,
    /// Accuracy of what it was made from.
    pub accuracy_before: Metric,
    /// Its own accuracy on the same items.
    pub accuracy: Metric,
    /// Accuracy before minus accuracy now (Newcombe's interval for paired proportions).
    pub loss: Metric,
    /// Mean divergence KL(before ‖ now) of the probabilities of the labels, in nats (bootstrap interval).
    pub kl: Metric,
    /// Share of the items that are answered otherwise (Wilson's interval).
    pub flips: Metric,
}

/// Most windows that a text may be read in.
pub const MOST_WINDOWS: u32 = 64;

/// What `artifact.json` says. Fields that this release does not know are ignored, but count in the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, at most [`NEWEST`].
    pub format: u32,
    /// Name by which the model is asked for.
    pub name: ModelName,
    /// What it holds.
    pub kind: Kind,
    /// The task it was trained for, when it was trained for one.
    pub task: Option<TaskName>,
    /// The model that training started from.
    pub base: BaseModel,
    /// What is below the head.
    #[serde(default)]
    pub body: Body,
    /// How it was trained: `head`, `lora`, `full` … For people and reports.
    #[serde(default = "head_method")]
    pub method: String,
    /// SHA-256 of each further file of the folder that the model is made of, by its path below the folder.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// When a text belongs to none of the labels; `None` when it always belongs to one.
    #[serde(default)]
    pub out_of_scope: Option<OutOfScope>,
    /// Number type of the encoder.
    pub dtype: Dtype,
    /// Tokens after which a text is cut, or a window ends.
    pub max_tokens: u32,
    /// Most windows of `max_tokens` in which a longer text is read; 1: it is cut.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub windows: u32,
    /// How token vectors become one vector.
    pub pooling: Pooling,
    /// Labels in the order of the head's rows.
    pub labels: Vec<String>,
    /// Divisor of the logits, fitted on items of its own.
    pub temperature: f64,
    /// Of a labeller: the probability from which on each label is given, in [0, 1].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<f64>,
    /// Of a regressor: its answers plus and minus this hold the right number of nine texts in ten, if texts keep coming as
    /// those that it was calibrated on; `None` where there were too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Quality on items that training did not see, by name: `accuracy`, `macro_f1`, `ece`.
    pub metrics: BTreeMap<String, Metric>,
    /// SHA-256 over the training examples.
    pub data_hash: String,
    /// Items the weights were fitted on.
    pub n_train: u64,
    /// Items that chose the regularisation and when to stop.
    pub n_stop: u64,
    /// Items the temperature was fitted on.
    pub n_calibrate: u64,
    /// Seed of splits and of training.
    pub seed: Seed,
    /// Hash of the artifact it was trained further from.
    pub parent: Option<String>,
    /// What compressing it lost; `None` when it is as it was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Texts without labels that it learned from too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<Unlabelled>,
    /// SHA-256 over what a teacher said beside the labels, where it learned from that too: how likely each label is, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taught: Option<String>,
    /// The device that it was trained on, where that was no CPU: another run there may round otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// When it was written. Not part of the hash.
    pub created: Timestamp,
}

impl Manifest {
    /// How its encoder reads texts.
    #[must_use]
    pub fn reading(&self) -> EncoderOptions {
        EncoderOptions {
            dtype: self.dtype.into(),
            max_tokens: self.max_tokens as usize,
            windows: self.windows as usize,
            pooling: None,
        }
    }
}

/// Texts without labels that training made use of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlabelled {
    /// How many.
    pub texts: u64,
    /// SHA-256 over their hashes, sorted.
    pub hash: String,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(windows: &u32) -> bool {
    *windows == 1
}

fn head_method() -> String {
    "head".to_owned()
}

/// The manifest and its canonical text for the hash: keys sorted, no `created`.
pub(super) fn read_manifest(bytes: &[u8]) -> Result<(Manifest, String)> {
    let not_json = |e: serde_json::Error| Error::data(e.to_string());
    let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(not_json)?;
    // The version goes first: a newer manifest may lack fields that this release needs.
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    match format {
        Some(format) if (1..=u64::from(NEWEST)).contains(&format) => {}
        Some(format) if format > u64::from(NEWEST) => {
            return Err(Error::data(format!(
                "format version {format} is newer than {NEWEST}, which this release reads; update understudy"
            )));
        }
        _ => return Err(Error::data(format!("field `format` is not a version from 1 to {NEWEST}"))),
    }
    let manifest = Manifest::deserialize(&value).map_err(not_json)?;
    if manifest.max_tokens < 3 {
        return Err(Error::data(format!("max_tokens {} leaves no room for text", manifest.max_tokens)));
    }
    if manifest.windows == 0 || manifest.windows > MOST_WINDOWS {
        return Err(Error::data(format!("windows {} is not from 1 to {MOST_WINDOWS}", manifest.windows)));
    }
    let below = |file: &str| Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(file) = manifest.files.keys().find(|file| file.is_empty() || !below(file)) {
        return Err(Error::data(format!("file `{file}` is not in the folder")));
    }
    if let Some(scope) = manifest.out_of_scope.as_ref().filter(|scope| !(0.0..=1.0).contains(&scope.threshold)) {
        return Err(Error::data(format!("out_of_scope threshold {} is not in [0, 1]", scope.threshold)));
    }
    let labels = manifest.labels.len();
    if (manifest.kind == Kind::Regressor) != (labels == 1) {
        return Err(Error::data(format!(
            "{labels} labels do not fit the kind: one for a regressor, two and more for others"
        )));
    }
    if manifest.margin.is_some_and(|margin| !(margin.is_finite() && margin >= 0.0)) {
        return Err(Error::data("`margin` is not a number of at least 0"));
    }
    let thresholds = if manifest.kind == Kind::Labeller { manifest.labels.len() } else { 0 };
    if manifest.thresholds.len() != thresholds || !manifest.thresholds.iter().all(|t| (0.0..=1.0).contains(t)) {
        return Err(Error::data(format!("`thresholds` are not {thresholds} numbers in [0, 1]")));
    }
    let in_order = |m: &Metric| m.low <= m.estimate && m.estimate <= m.high;
    if let Some((name, _)) = manifest.metrics.iter().find(|(_, m)| !in_order(m)) {
        return Err(Error::data(format!("metric `{name}` lies outside its interval")));
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("created");
    }
    value.sort_all_objects();
    Ok((manifest, value.to_string()))
}
