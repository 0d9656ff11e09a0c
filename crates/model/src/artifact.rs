//! A trained model as a folder: `artifact.json` says what it is and where it comes from, `head.safetensors` holds the
//! numbers. This is the read side; `adapt` writes what is read here. The base model's files are not part of it: the
//! manifest names them and their hash.

use crate::head::Head;
use safetensors::{Dtype as TensorType, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use understudy_core::{Error, ModelName, Result, Seed, TaskName, Timestamp, hash::sha256_hex};

/// Version of the folder's format that this release reads and writes.
pub const FORMAT: u32 = 1;
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
    /// A linear head over a frozen encoder.
    Classifier,
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

/// The frozen model below the head.
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

/// What `artifact.json` says. Fields that this release does not know are ignored, but count in the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, [`FORMAT`].
    pub format: u32,
    /// Name by which the model is asked for.
    pub name: ModelName,
    /// What it holds.
    pub kind: Kind,
    /// The task it was trained for, when it was trained for one.
    pub task: Option<TaskName>,
    /// The frozen model below the head.
    pub base: BaseModel,
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
    /// When it was written. Not part of the hash.
    pub created: Timestamp,
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
        let (manifest, head) = (read_file(dir, MANIFEST, MANIFEST_MAX)?, read_file(dir, HEAD, HEAD_MAX)?);
        Self::from_bytes(dir, &manifest, &head)
    }

    /// Checks an artifact in memory; `dir` is for messages and [`Artifact::dir`].
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
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) if format > u64::from(FORMAT) => {
            return Err(Error::data(format!(
                "format version {format} is newer than {FORMAT}, which this release reads; update understudy"
            )));
        }
        _ => return Err(Error::data(format!("field `format` is not {FORMAT}"))),
    }
    let manifest = Manifest::deserialize(&value).map_err(not_json)?;
    if manifest.max_tokens < 3 {
        return Err(Error::data(format!("max_tokens {} leaves no room for text", manifest.max_tokens)));
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
    fn faults_name_the_file_and_what_is_wrong() {
        let good = tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0]);
        let with = |field: &str, value: serde_json::Value| {
            let mut m = manifest();
            m[field] = value;
            m
        };
        for (m, head, says) in [
            (with("format", 2.into()), &good, "artifact.json: format version 2 is newer"),
            (with("format", "x".into()), &good, "`format` is not 1"),
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
