//! A trained model as a folder: `artifact.json` says what it is and where it comes from, `head.safetensors` holds the
//! head's numbers. This is the read side; `adapt` writes what is read here.
//!
//! What is below the head is either an installed model that training left alone (its files are not part of the folder:
//! the manifest names it and its hash) or the artifact's own, in the folder, in the layout that Hugging Face's libraries
//! read; the manifest lists those files with their hashes.

use crate::{head::Head, installed::hash_file};
use safetensors::{Dtype as TensorType, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};
use understudy_core::{Error, ModelName, Result, Seed, TaskName, Timestamp, hash::sha256_hex};

/// Version of the folder's format that this release writes. It reads all up to this one.
pub const FORMAT: u32 = 2;
/// File name of the manifest.
pub const MANIFEST: &str = "artifact.json";
/// File name of the head's tensors.
pub const HEAD: &str = "head.safetensors";
/// Longest manifest, in bytes: room for tens of thousands of labels.
const MANIFEST_MAX: u64 = 8 << 20;
/// Longest tensor file, in bytes.
const HEAD_MAX: u64 = 1 << 30;

/// What kind of model an artifact holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A linear head that gives a text a label.
    Classifier,
    /// A linear head that tags words; its labels are tags ([`crate::tags`]), and its answers JSON objects.
    Extractor,
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

/// What `artifact.json` says. Fields that this release does not know are ignored, but count in the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, at most [`FORMAT`].
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
    /// Tokens after which a text is cut.
    pub max_tokens: u32,
    /// How token vectors become one vector.
    pub pooling: Pooling,
    /// Labels in the order of the head's rows.
    pub labels: Vec<String>,
    /// Divisor of the logits, fitted on items of its own.
    pub temperature: f64,
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
    /// When it was written. Not part of the hash.
    pub created: Timestamp,
}

fn head_method() -> String {
    "head".to_owned()
}

/// A checked artifact.
#[derive(Debug, Clone)]
pub struct Artifact {
    dir: PathBuf,
    manifest: Manifest,
    head: Head,
    hash: String,
}

impl Artifact {
    /// Reads and checks the folder.
    ///
    /// # Errors
    /// `NotFound` when a file is missing. `Data`, naming the file and the fault, when one is too long, not of the
    /// expected form, written by a newer release, or does not fit the other.
    pub fn read(dir: &Path) -> Result<Self> {
        if crate::adapted::Adapted::is_at(dir) {
            return Err(Error::invalid(format!(
                "use artifact {}: it is a generative model's adapter and classifies nothing",
                dir.display()
            )));
        }
        let (manifest, head) = (read_file(dir, MANIFEST, MANIFEST_MAX)?, read_file(dir, HEAD, HEAD_MAX)?);
        let artifact = Self::from_bytes(dir, &manifest, &head)?;
        for (file, expected) in &artifact.manifest.files {
            let found =
                hash_file(&dir.join(file)).map_err(|e| e.context(format!("read artifact {}", dir.display())))?;
            if found != *expected {
                return Err(Error::data(format!(
                    "read artifact {}: {file} is not the file that was trained (its hash differs from the manifest's); \
                     copy the folder again or train anew",
                    dir.display()
                )));
            }
        }
        Ok(artifact)
    }

    /// Checks manifest and head in memory, and none of the other files; `dir` is for messages and [`Artifact::dir`].
    ///
    /// # Errors
    /// As [`Artifact::read`].
    pub fn from_bytes(dir: &Path, manifest: &[u8], head: &[u8]) -> Result<Self> {
        let at = |file: &str| format!("read artifact {}: {file}", dir.display());
        let (manifest, canonical) = read_manifest(manifest).map_err(|e| e.context(at(MANIFEST)))?;
        let hash = sha256_hex(&[sha256_hex(canonical.as_bytes()), sha256_hex(head)].concat().into_bytes());
        let head = read_head(&manifest, head).map_err(|e| e.context(at(HEAD)))?;
        Ok(Self { dir: dir.to_owned(), manifest, head, hash })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is and where it comes from.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Everything it can answer: the head's labels, and the one for texts out of scope.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let head = self.head.labels();
        let beyond = self.manifest.out_of_scope.as_ref().map(|o| &o.label).filter(|label| !head.contains(label));
        head.iter().chain(beyond).map(String::as_str)
    }

    /// The classification head.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// SHA-256 over manifest (without `created`) and tensors: the same data, seed and base give the same hash, and
    /// any change gives another. Certificates are bound to it.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

fn read_file(dir: &Path, file: &str, max: u64) -> Result<Vec<u8>> {
    let path = dir.join(file);
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("read artifact {}: it has no {file}", dir.display())),
        _ => Error::data(format!("read {}: {e}", path.display())),
    };
    let mut bytes = Vec::new();
    File::open(&path).map_err(failed)?.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(Error::data(format!("read {}: it is longer than {max} bytes", path.display())));
    }
    Ok(bytes)
}

/// The manifest and its canonical text for the hash: keys sorted, no `created`.
fn read_manifest(bytes: &[u8]) -> Result<(Manifest, String)> {
    let not_json = |e: serde_json::Error| Error::data(e.to_string());
    let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(not_json)?;
    // The version goes first: a newer manifest may lack fields that this release needs.
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    match format {
        Some(format) if (1..=u64::from(FORMAT)).contains(&format) => {}
        Some(format) if format > u64::from(FORMAT) => {
            return Err(Error::data(format!(
                "format version {format} is newer than {FORMAT}, which this release reads; update understudy"
            )));
        }
        _ => return Err(Error::data(format!("field `format` is not a version from 1 to {FORMAT}"))),
    }
    let manifest = Manifest::deserialize(&value).map_err(not_json)?;
    if manifest.max_tokens < 3 {
        return Err(Error::data(format!("max_tokens {} leaves no room for text", manifest.max_tokens)));
    }
    let below = |file: &str| Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(file) = manifest.files.keys().find(|file| file.is_empty() || !below(file)) {
        return Err(Error::data(format!("file `{file}` is not in the folder")));
    }
    if let Some(scope) = manifest.out_of_scope.as_ref().filter(|scope| !(0.0..=1.0).contains(&scope.threshold)) {
        return Err(Error::data(format!("out_of_scope threshold {} is not in [0, 1]", scope.threshold)));
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

fn read_head(manifest: &Manifest, bytes: &[u8]) -> Result<Head> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| Error::data(e.to_string()))?;
    let tensor = |name: &str| tensors.tensor(name).map_err(|_| Error::data(format!("it has no tensor `{name}`")));
    let (weights, bias) = (tensor("weights")?, tensor("bias")?);
    let classes = manifest.labels.len();
    let shape = weights.shape();
    if shape.len() != 2 || shape[0] != classes {
        return Err(Error::data(format!("`weights` has shape {shape:?}, expected {classes} rows, one for each label")));
    }
    if bias.shape() != [classes] {
        return Err(Error::data(format!("`bias` has shape {:?}, expected [{classes}]", bias.shape())));
    }
    let (weights, bias) = (floats("weights", &weights)?, floats("bias", &bias)?);
    Head::new(manifest.labels.clone(), weights, bias, manifest.temperature)
}

fn floats(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    if tensor.dtype() != TensorType::F32 {
        return Err(Error::data(format!("`{name}` is {:?}, expected F32", tensor.dtype())));
    }
    let (numbers, _) = tensor.data().as_chunks::<4>();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> serde_json::Value {
        serde_json::json!({
            "format": 1, "name": "triage", "kind": "classifier", "task": "triage",
            "base": {"name": "minilm", "hash": "ab"}, "dtype": "f32", "max_tokens": 128, "pooling": "mean",
            "labels": ["ham", "spam"], "temperature": 1.25,
            "metrics": {"accuracy": {"estimate": 0.9, "low": 0.8, "high": 0.95, "n": 100}},
            "data_hash": "cd", "n_train": 10, "n_stop": 5, "n_calibrate": 5, "seed": 1, "parent": null, "created": 7
        })
    }

    fn tensors(weights: &[f32], rows: usize, bias: &[f32]) -> Vec<u8> {
        let bytes = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (w, b) = (bytes(weights), bytes(bias));
        let w = TensorView::new(TensorType::F32, vec![rows, weights.len() / rows], &w).unwrap();
        let b = TensorView::new(TensorType::F32, vec![bias.len()], &b).unwrap();
        safetensors::serialize([("weights", w), ("bias", b)], None).unwrap()
    }

    fn read(manifest: &serde_json::Value, head: &[u8]) -> Result<Artifact> {
        Artifact::from_bytes(Path::new("a"), manifest.to_string().as_bytes(), head)
    }

    #[test]
    fn the_hash_ignores_when_it_was_written_and_sees_everything_else() {
        let head = tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0]);
        let hash = |edit: fn(&mut serde_json::Value)| {
            let mut m = manifest();
            edit(&mut m);
            read(&m, &head).unwrap().hash().to_owned()
        };
        let base = hash(|_| {});
        assert_eq!(base, hash(|m| m["created"] = 8.into()));
        assert_ne!(base, hash(|m| m["temperature"] = 1.5.into()));
        assert_ne!(base, hash(|m| m["from_the_future"] = 1.into()));
        let other = read(&manifest(), &tensors(&[1.0, 0.0, 0.0, 2.0], 2, &[0.0, 0.0])).unwrap();
        assert_ne!(base, other.hash());
    }

    #[test]
    fn texts_that_no_label_claims_are_out_of_scope() {
        let labels: Vec<String> = ["card", "cash", "other"].map(String::from).to_vec();
        let rule = |label: &str, threshold| OutOfScope { label: label.into(), threshold };
        assert_eq!(rule("none", 0.5).apply(&labels, &[0.6, 0.3, 0.1]), ("card", 0.6));
        assert_eq!(rule("none", 0.7).apply(&labels, &[0.6, 0.3, 0.1]), ("none", 0.4));
        // A label of the head's own never counts as a claim.
        assert_eq!(rule("other", 0.3).apply(&labels, &[0.3, 0.1, 0.6]), ("card", 0.3));
        assert_eq!(rule("other", 0.4).apply(&labels, &[0.25, 0.15, 0.6]), ("other", 0.75));
    }

    #[test]
    fn a_file_that_changed_or_is_missing_is_found() {
        let tmp = tempfile::tempdir().unwrap();
        let mut m = manifest();
        m["format"] = 2.into();
        m["body"] = "encoder".into();
        m["files"] = serde_json::json!({"config.json": sha256_hex(b"{}")});
        std::fs::write(tmp.path().join(MANIFEST), m.to_string()).unwrap();
        std::fs::write(tmp.path().join(HEAD), tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0])).unwrap();
        let missing = Artifact::read(tmp.path()).unwrap_err();
        assert!(missing.to_string().contains("config.json"), "{missing}");
        std::fs::write(tmp.path().join("config.json"), "{}").unwrap();
        assert_eq!(Artifact::read(tmp.path()).unwrap().manifest().body, Body::Encoder);
        std::fs::write(tmp.path().join("config.json"), "{ }").unwrap();
        let changed = Artifact::read(tmp.path()).unwrap_err().to_string();
        assert!(changed.contains("config.json is not the file that was trained"), "{changed}");
    }

    #[test]
    fn faults_name_the_file_and_what_is_wrong() {
        let good = tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0]);
        let with = |field: &str, value: serde_json::Value| {
            let mut m = manifest();
            m[field] = value;
            m
        };
        for (m, head, says) in [
            (with("format", 3.into()), &good, "artifact.json: format version 3 is newer"),
            (with("format", "x".into()), &good, "`format` is not a version from 1 to 2"),
            (with("files", serde_json::json!({"../x": "ab"})), &good, "file `../x` is not in the folder"),
            (with("files", serde_json::json!({"/etc/x": "ab"})), &good, "file `/etc/x` is not in the folder"),
            (with("body", "cloud".into()), &good, "unknown variant `cloud`"),
            (
                with("out_of_scope", serde_json::json!({"label": "none", "threshold": 1.5})),
                &good,
                "threshold 1.5 is not in [0, 1]",
            ),
            (with("labels", serde_json::json!(["ham"])), &good, "head.safetensors: `weights` has shape [2, 2]"),
            (with("temperature", (-1).into()), &good, "temperature -1"),
            (with("max_tokens", 2.into()), &good, "no room"),
            (with("dtype", "f16".into()), &good, "unknown variant `f16`"),
            (
                with("metrics", serde_json::json!({"f": {"estimate": 2.0, "low": 0.0, "high": 1.0, "n": 1}})),
                &good,
                "metric `f`",
            ),
            (manifest(), &tensors(&[1.0, f32::NAN], 2, &[0.0, 0.0]), "not a finite"),
            (manifest(), &tensors(&[1.0, 1.0], 2, &[0.0]), "`bias` has shape [1]"),
            (manifest(), &b"junk".to_vec(), "head.safetensors"),
        ] {
            let error = read(&m, head).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let missing = Artifact::read(Path::new("no/such/artifact")).unwrap_err();
        assert_eq!(missing.kind(), understudy_core::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_an_error_or_a_model_but_never_a_panic(
            edits in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
            truncate in 0..4,
        ) {
            let mut m = manifest().to_string().into_bytes();
            let mut head = tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0]);
            for (in_head, at, byte) in edits {
                let file = if in_head { &mut head } else { &mut m };
                let at = at.index(file.len());
                file[at] = byte;
            }
            if truncate == 0 {
                head.truncate(cut.index(head.len()));
            }
            if let Ok(artifact) = Artifact::from_bytes(Path::new("a"), &m, &head) {
                let x = vec![0.5; artifact.head().dimensions()];
                prop_assert!(artifact.head().predict(&x).is_ok());
            }
        }

        #[test]
        fn random_bytes_are_refused(m in proptest::collection::vec(any::<u8>(), 0..200), h in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Artifact::from_bytes(Path::new("a"), &m, &h).is_err());
            prop_assert!(Artifact::from_bytes(Path::new("a"), manifest().to_string().as_bytes(), &h).is_err());
        }
    }
}
