//! A fine-tuned generative model as a folder: `artifact.json` says what it is and where it comes from. What serves is either
//! `adapter.gguf`, which llama.cpp puts on the installed base (`adapter/` has the same for PEFT), or `model.gguf`: whole
//! weights, merged, quantised or brought from elsewhere, that need no base. This is the read side; `adapt` writes what is
//! read here.

use crate::artifact::{BaseModel, FORMAT, MANIFEST, Metric};
use crate::installed::hash_file;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};
use understudy_core::{Error, ModelName, Result, Seed, TaskName, Timestamp, hash::sha256_hex};

/// File name of the adapter that serves.
pub const ADAPTER: &str = "adapter.gguf";
/// File name of whole weights that serve.
pub const MODEL: &str = "model.gguf";
/// Longest manifest, in bytes.
const MANIFEST_MAX: u64 = 8 << 20;

/// The kind by which the manifest is told from a classifier's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A generative model: an adapter, or whole weights.
    Generative,
}

/// What llama.cpp loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serves {
    /// An adapter of the installed base.
    Adapter(PathBuf),
    /// Whole weights.
    Model(PathBuf),
}

/// How far what serves is from what was trained: on answers that training did not see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// Mean divergence in nats a token of the base at 16 bits with the adapter from the trained model.
    pub f16_mean_kl: f64,
    /// The same of the installed base, which may be quantised, with the adapter.
    pub installed_mean_kl: f64,
    /// Share of tokens where the installed base's likeliest token is another one.
    pub installed_flips: f64,
    /// Tokens compared.
    pub n: u64,
}

/// What quantising a generative model did to it, on rows that taught it nothing. *Before* is the same model at 16 bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quantised {
    /// llama.cpp's name of the type: `Q4_K_M` …
    pub to: String,
    /// How many were compared on the same items before this one was picked: the more, the more its figures flatter it.
    #[serde(default = "one")]
    pub candidates: u32,
    /// Rows whose activations weighed the columns of its matrices; 0 when all weighed alike.
    pub importance_rows: u64,
    /// Bytes of the file at 16 bits.
    pub bytes_before: u64,
    /// Bytes of the file now.
    pub bytes: u64,
    /// What was lost, by name: `perplexity_before`, `perplexity`, `accuracy_before`, `accuracy`, `loss`, `kl`, `flips`,
    /// `token_flips`.
    pub figures: BTreeMap<String, Metric>,
}

fn one() -> u32 {
    1
}

/// What `artifact.json` says. Fields that this release does not know are ignored, but count in the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptedManifest {
    /// Version of the format.
    pub format: u32,
    /// Always generative.
    pub kind: Kind,
    /// Name by which the model is asked for.
    pub name: ModelName,
    /// The task it was trained for, when it was trained for one.
    pub task: Option<TaskName>,
    /// The installed model that it was trained on, or that its tokeniser was compared with. An adapter needs it to serve.
    pub base: BaseModel,
    /// How it was trained. For people and reports.
    pub method: String,
    /// The instructions that the examples came with, when all had the same: requests should have them too.
    pub system: Option<String>,
    /// SHA-256 of each file of the folder, by its path below it.
    pub files: BTreeMap<String, String>,
    /// Quality on answers that training did not see, by name: `loss`, `token_accuracy`.
    pub metrics: BTreeMap<String, Metric>,
    /// How well what serves agrees with what was trained.
    pub served: Served,
    /// SHA-256 over the training rows.
    pub data_hash: String,
    /// SHA-256 over the reasons that were learned beside the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taught: Option<String>,
    /// Rows learned from.
    pub n_train: u64,
    /// Rows that only measured.
    pub n_test: u64,
    /// Most tokens of prompt and answer.
    pub max_tokens: u32,
    /// Seed of splits and of training.
    pub seed: Seed,
    /// Hash of the artifact it was made from or trained further from.
    pub parent: Option<String>,
    /// What quantising it lost; `None` when nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantised: Option<Quantised>,
    /// The device that it was trained on, where that was no CPU: another run there may round otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// When it was written. Not part of the hash.
    pub created: Timestamp,
}

/// A checked artifact.
#[derive(Debug, Clone)]
pub struct Adapted {
    dir: PathBuf,
    manifest: AdaptedManifest,
    hash: String,
}

impl Adapted {
    /// True when the folder holds such an artifact (whatever its state): one of a classifier is none.
    #[must_use]
    pub fn is_at(dir: &Path) -> bool {
        let json = fs::read(dir.join(MANIFEST)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        json.is_some_and(|json: serde_json::Value| json["kind"] == "generative")
    }

    /// Reads and checks the folder.
    ///
    /// # Errors
    /// `NotFound` when a file is missing. `Data` when one is not what was written, or written by a newer release.
    pub fn read(dir: &Path) -> Result<Self> {
        let at = |what: String| Error::data(format!("read artifact {}: {what}", dir.display()));
        let path = dir.join(MANIFEST);
        let bytes = match fs::metadata(&path) {
            Ok(found) if found.len() <= MANIFEST_MAX => fs::read(&path).map_err(|e| at(e.to_string()))?,
            Ok(_) => return Err(at(format!("{MANIFEST} is longer than {MANIFEST_MAX} bytes"))),
            Err(_) => {
                return Err(Error::not_found(format!("read artifact {}: it has no {MANIFEST}", dir.display())));
            }
        };
        let (manifest, hash) = parse(&bytes).map_err(&at)?;
        for (file, expected) in &manifest.files {
            if hash_file(&dir.join(file)).map_err(|e| e.context(format!("read artifact {}", dir.display())))?
                != *expected
            {
                return Err(at(format!(
                    "{file} is not the file that was trained; copy the folder again or train anew"
                )));
            }
        }
        Ok(Self { dir: dir.to_owned(), manifest, hash })
    }

    /// The hash that an artifact with this manifest has.
    ///
    /// # Errors
    /// `Data` when the manifest is not sound.
    pub fn hash_of(manifest: &[u8]) -> Result<String> {
        parse(manifest).map(|(_, hash)| hash).map_err(|e| Error::data(format!("read a manifest: {e}")))
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is and where it comes from.
    #[must_use]
    pub fn manifest(&self) -> &AdaptedManifest {
        &self.manifest
    }

    /// What llama.cpp loads: whole weights where the folder has them.
    #[must_use]
    pub fn serves(&self) -> Serves {
        if self.manifest.files.contains_key(MODEL) {
            Serves::Model(self.dir.join(MODEL))
        } else {
            Serves::Adapter(self.dir.join(ADAPTER))
        }
    }

    /// SHA-256 over the manifest without `created`, which has the hashes of all files: the same data, seed and base give
    /// the same, and any change gives another. Certificates are bound to it.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// The manifest and its hash.
fn parse(bytes: &[u8]) -> std::result::Result<(AdaptedManifest, String), String> {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| format!("{MANIFEST}: {e}"))?;
    match value["format"].as_u64() {
        Some(format) if (1..=u64::from(FORMAT)).contains(&format) => {}
        Some(format) => return Err(format!("format version {format} is not known here; update understudy")),
        None => return Err(format!("{MANIFEST} has no format version")),
    }
    let manifest = AdaptedManifest::deserialize(&value).map_err(|e| format!("{MANIFEST}: {e}"))?;
    let below = |file: &str| Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(file) = manifest.files.keys().find(|file| file.is_empty() || !below(file)) {
        return Err(format!("file `{file}` is not in the folder"));
    }
    if ![ADAPTER, MODEL].iter().any(|file| manifest.files.contains_key(*file)) {
        return Err(format!("it names no {ADAPTER} and no {MODEL}"));
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("created");
    }
    value.sort_all_objects();
    Ok((manifest, sha256_hex(value.to_string().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(file: &str, hash: &str) -> serde_json::Value {
        serde_json::json!({
            "format": 2, "kind": "generative", "name": "slots", "task": null,
            "base": {"name": "smollm2", "hash": "ab"}, "method": "lora", "system": null,
            "files": {file: hash}, "metrics": {},
            "served": {"f16_mean_kl": 1e-5, "installed_mean_kl": 1e-3, "installed_flips": 0.0, "n": 100},
            "data_hash": "cd", "n_train": 10, "n_test": 2, "max_tokens": 256, "seed": 1, "parent": null, "created": 5,
        })
    }

    #[test]
    fn an_artifact_is_read_when_its_files_are_those_that_were_trained() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let write = |file: &str, bytes: &[u8]| fs::write(dir.path().join(file), bytes).expect("writable");
        write(ADAPTER, b"numbers");
        let mut json = manifest(ADAPTER, &sha256_hex(b"numbers"));
        write(MANIFEST, json.to_string().as_bytes());
        assert!(Adapted::is_at(dir.path()));
        let first = Adapted::read(dir.path()).expect("sound");
        json["created"] = 6.into();
        write(MANIFEST, json.to_string().as_bytes());
        assert_eq!(Adapted::read(dir.path()).expect("sound").hash(), first.hash());
        json["seed"] = 2.into();
        write(MANIFEST, json.to_string().as_bytes());
        assert_ne!(Adapted::read(dir.path()).expect("sound").hash(), first.hash());
        assert_eq!(Adapted::read(dir.path()).expect("sound").serves(), Serves::Adapter(dir.path().join(ADAPTER)));
        write(ADAPTER, b"other numbers");
        assert!(Adapted::read(dir.path()).expect_err("changed").to_string().contains("train anew"));
        write(MODEL, b"weights");
        write(MANIFEST, manifest(MODEL, &sha256_hex(b"weights")).to_string().as_bytes());
        assert_eq!(Adapted::read(dir.path()).expect("sound").serves(), Serves::Model(dir.path().join(MODEL)));
        write(MANIFEST, manifest("other.gguf", "").to_string().as_bytes());
        assert!(Adapted::read(dir.path()).expect_err("nothing serves").to_string().contains(MODEL));
        write(MANIFEST, manifest("../up", "").to_string().as_bytes());
        assert!(Adapted::read(dir.path()).expect_err("outside").to_string().contains("not in the folder"));
    }
}
