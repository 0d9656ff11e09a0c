//! Writes a fine-tuned generative model as the folder that `model::adapted` reads.

use crate::artifact::{Content, Existing, There, put_folder, there};
use crate::card::CARD;
use crate::llama::card::card;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result, hash::sha256_hex};
use understudy_dataset::Learned;
use understudy_model::adapted::{ADAPTER, Adapted, AdaptedManifest, MODEL};
use understudy_model::artifact::MANIFEST;
use understudy_model::installed::hash_file;

/// What serves.
#[derive(Debug)]
pub enum Weights {
    /// An adapter: for llama.cpp, and the same for PEFT, by name below `adapter/`.
    Adapter {
        /// The GGUF file.
        gguf: Vec<u8>,
        /// PEFT's files.
        peft: BTreeMap<String, Vec<u8>>,
    },
    /// Whole weights: a GGUF file that is copied.
    Model(PathBuf),
}

/// What a new artifact is made of.
#[derive(Debug)]
pub struct NewAdapted {
    /// What it is and where it comes from; `files` is filled in.
    pub manifest: AdaptedManifest,
    /// What serves.
    pub weights: Weights,
    /// What it learned from, as far as that is known.
    pub learned: Learned,
}

/// Writes the artifact to `dir`, its card beside it, and reads it back. An artifact of the same hash is left as it is.
/// What may happen to `dir` is as of [`crate::artifact::write`].
///
/// # Errors
/// `Invalid` when `dir` holds another artifact (and `existing` is [`Existing::Keep`]) or anything else; `Data` when
/// writing fails.
pub fn write(dir: &Path, new: NewAdapted, existing: Existing) -> Result<Adapted> {
    let NewAdapted { mut manifest, weights, learned } = new;
    let mut files: BTreeMap<String, Vec<u8>> = [(Learned::FILE.to_owned(), learned.to_bytes())].into();
    let model = match weights {
        Weights::Adapter { gguf, peft } => {
            files.extend(peft.into_iter().map(|(name, bytes)| (format!("adapter/{name}"), bytes)));
            files.insert(ADAPTER.to_owned(), gguf);
            None
        }
        Weights::Model(path) => Some(path),
    };
    manifest.files = files.iter().map(|(file, bytes)| (file.clone(), sha256_hex(bytes))).collect();
    if let Some(path) = &model {
        manifest.files.insert(MODEL.to_owned(), hash_file(path)?);
    }
    let mut json = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| Error::internal(format!("write artifact {}: {e}", dir.display())))?;
    json.push(b'\n');

    let same =
        |old: &Adapted| *old.manifest() == AdaptedManifest { created: old.manifest().created, ..manifest.clone() };
    let occupied = match there(dir, existing, Adapted::read, same, |old| (&old.manifest().name, old.hash()))? {
        There::Same(old) => return Ok(old),
        There::Other => true,
        There::Nothing => false,
    };
    let card = card(&manifest, &Adapted::hash_of(&json)?);
    let own = [(MANIFEST, Content::Bytes(json.as_slice())), (CARD, Content::Bytes(card.as_bytes()))];
    let small = files.iter().map(|(file, bytes)| (file.as_str(), Content::Bytes(bytes)));
    let large = model.as_deref().map(|path| (MODEL, Content::Copy(path)));
    put_folder(dir, occupied, own.into_iter().chain(small).chain(large))?;
    Adapted::read(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use understudy_core::{Seed, Timestamp};
    use understudy_model::adapted::{Kind, Served};
    use understudy_model::artifact::{BaseModel, FORMAT};

    fn new(adapter: &[u8]) -> NewAdapted {
        let manifest = AdaptedManifest {
            format: FORMAT,
            kind: Kind::Generative,
            name: "slots".into(),
            task: None,
            base: BaseModel { name: "smollm2".into(), hash: "ab".into() },
            method: "lora".into(),
            system: None,
            files: BTreeMap::new(),
            metrics: BTreeMap::new(),
            served: Served { f16_mean_kl: 1e-5, installed_mean_kl: 1e-3, installed_flips: 0.0, n: 9 },
            data_hash: "cd".into(),
            taught: None,
            n_train: 5,
            n_test: 1,
            max_tokens: 64,
            seed: Seed(1),
            parent: None,
            quantised: None,
            device: None,
            created: Timestamp(3),
        };
        let peft = [("adapter_config.json".to_owned(), b"{}".to_vec())].into();
        NewAdapted { manifest, weights: Weights::Adapter { gguf: adapter.to_vec(), peft }, learned: Learned::default() }
    }

    #[test]
    fn what_is_written_reads_back_and_is_replaced_only_when_told_to() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("models/slots");
        let first = write(&dir, new(b"one"), Existing::Keep).unwrap();
        assert_eq!(fs::read(dir.join("adapter/adapter_config.json")).unwrap(), b"{}");
        assert_eq!(fs::read(dir.join(ADAPTER)).unwrap(), b"one");
        assert!(fs::read_to_string(dir.join(CARD)).unwrap().contains(first.hash()), "the card says which one it is of");
        assert_eq!(write(&dir, new(b"one"), Existing::Keep).unwrap().hash(), first.hash());
        assert!(write(&dir, new(b"two"), Existing::Keep).unwrap_err().to_string().contains("--force"));
        let second = write(&dir, new(b"two"), Existing::Replace).unwrap();
        assert_ne!(second.hash(), first.hash());
        let whole = tmp.path().join("whole.gguf");
        fs::write(&whole, b"weights").unwrap();
        let model = NewAdapted { weights: Weights::Model(whole), ..new(b"") };
        let third = write(&dir, model, Existing::Replace).unwrap();
        assert_eq!(third.serves(), understudy_model::adapted::Serves::Model(dir.join(MODEL)));
        assert!(!dir.join(ADAPTER).exists() && fs::read(dir.join(MODEL)).unwrap() == b"weights");
        assert!(write(tmp.path(), new(b"one"), Existing::Replace).is_err(), "a folder of other things stays");
        assert!(understudy_model::artifact::Artifact::read(&dir).unwrap_err().to_string().contains("generative"));
    }
}
