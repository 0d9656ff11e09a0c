//! A trained model as a folder: `artifact.json` says what it is and where it comes from, `head.safetensors` holds the
//! head's numbers. This is the read side; `adapt` writes what is read here.
//!
//! What is below the head is either an installed model that training left alone (its files are not part of the folder:
//! the manifest names it and its hash) or the artifact's own, in the folder, in the layout that Hugging Face's libraries
//! read; the manifest lists those files with their hashes.

mod manifest;

pub use manifest::{
    BaseModel, Body, Compression, Dtype, Kind, MOST_WINDOWS, Manifest, Metric, OutOfScope, Pooling, Unlabelled,
};

use crate::{
    encoder::{TOKENIZER, config, weights},
    head::Head,
    installed::hash_file,
    table, words,
};
use manifest::read_manifest;
use safetensors::{Dtype as TensorType, SafeTensors, tensor::TensorView};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result, hash::sha256_hex};

/// Version of the folder's format that most artifacts are written in.
pub const FORMAT: u32 = 2;
/// The newest version, which only kinds need that version 2 did not know ([`Kind::format`]); all up to it are read.
pub const NEWEST: u32 = 3;
/// File name of the manifest.
pub const MANIFEST: &str = "artifact.json";
/// File name of the head's tensors.
pub const HEAD: &str = "head.safetensors";
/// Longest manifest, in bytes: room for tens of thousands of labels.
const MANIFEST_MAX: u64 = 8 << 20;
/// Longest tensor file, in bytes.
const HEAD_MAX: u64 = 1 << 30;

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
    /// expected form, written by a newer release, does not fit the other, or decides answers and is not in the manifest.
    pub fn read(dir: &Path) -> Result<Self> {
        if crate::adapted::Adapted::is_at(dir) {
            return Err(Error::invalid(format!(
                "use artifact {}: it is a generative model's adapter and classifies nothing",
                dir.display()
            )));
        }
        let (manifest, head) = (read_file(dir, MANIFEST, MANIFEST_MAX)?, read_file(dir, HEAD, HEAD_MAX)?);
        let artifact = Self::from_bytes(dir, &manifest, &head)?;
        artifact.check_listed()?;
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

    /// Refuses a folder where a file that answers come from is not listed: neither hash nor certificate would cover it.
    fn check_listed(&self) -> Result<()> {
        let (needed, optional): (&[&str], &[&str]) = match self.manifest.body {
            Body::Base => (&[], &[]),
            Body::Encoder => (&[config::FILE, weights::FILE, TOKENIZER], &[config::POOLING, config::LIMITS]),
            Body::Words => (&[words::FILE], &[]),
            Body::Static => (&[table::VECTORS, table::TOKENIZER], &[table::PAIRS]),
        };
        let there = optional.iter().filter(|file| self.dir.join(file).exists());
        match needed.iter().chain(there).find(|file| !self.manifest.files.contains_key(**file)) {
            Some(file) => Err(Error::data(format!(
                "read artifact {}: {MANIFEST} does not list {file}, which answers come from; copy the folder again or \
                 train anew",
                self.dir.display()
            ))),
            None => Ok(()),
        }
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
mod tests;
