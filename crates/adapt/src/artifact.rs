//! Writes the artifact that `model` reads: all of it or nothing, and never over another model by accident.

use crate::{
    card::{CARD, card},
    head::FittedHead,
};
use safetensors::tensor::{Dtype as TensorType, TensorView};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
};
use understudy_core::{Error, ModelName, Result, Seed, TaskName, Timestamp, hash::sha256_hex};
use understudy_dataset::Cleaned;
use understudy_model::artifact::{
    Artifact, BaseModel, Body, Compression, Dtype, HEAD, Kind, MANIFEST, Manifest, Metric, OutOfScope, Pooling,
    Unlabelled,
};

/// What a fitted head does not know about itself.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// Name by which the model will be asked for.
    pub name: ModelName,
    /// What it holds.
    pub kind: Kind,
    /// The task it is for.
    pub task: Option<TaskName>,
    /// The model that training started from.
    pub base: BaseModel,
    /// What is below the head. One of the artifact's own needs its `files`.
    pub body: Body,
    /// How it was trained: `head`, `lora`, `full` …
    pub method: String,
    /// Further files of the folder by their path below it: the artifact's own encoder, a model card …
    pub files: BTreeMap<String, Vec<u8>>,
    /// When a text belongs to none of the labels.
    pub out_of_scope: Option<OutOfScope>,
    /// Of a labeller: the probability from which on each label is given.
    pub thresholds: Vec<f64>,
    /// Of a regressor: half the width of the interval around its answers.
    pub margin: Option<f64>,
    /// Number type of the encoder that made the embeddings.
    pub dtype: Dtype,
    /// Tokens after which texts were cut, or windows ended.
    pub max_tokens: u32,
    /// Most windows of a text.
    pub windows: u32,
    /// How token vectors became one vector.
    pub pooling: Pooling,
    /// Quality on examples that training did not see.
    pub metrics: BTreeMap<String, Metric>,
    /// [`Cleaned::data_hash`].
    pub data_hash: String,
    /// Seed of splits and of training.
    pub seed: Seed,
    /// Hash of the artifact it was trained further from.
    pub parent: Option<String>,
    /// What compressing it lost, where it was compressed.
    pub compression: Option<Compression>,
    /// Texts without labels that it learned from too.
    pub unlabelled: Option<Unlabelled>,
    /// SHA-256 over what a teacher said beside the labels.
    pub taught: Option<String>,
    /// The device that it was trained on, where that was no CPU ([`crate::device::Device::noted`]).
    pub device: Option<String>,
    /// Now.
    pub created: Timestamp,
}

/// What to do when the folder already holds an artifact with another hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// Writes the artifact to `dir` and reads it back. An artifact of the same hash is left as it is.
///
/// The files are written beside `dir`, synced, and moved in one step: whatever happens, `dir` holds a whole artifact
/// or what it held before.
///
/// # Errors
/// `Invalid` when `dir` holds another artifact (and `existing` is [`Existing::Keep`]) or anything else; `Data` when
/// writing fails.
pub fn write(dir: &Path, fitted: &FittedHead, mut provenance: Provenance, existing: Existing) -> Result<Artifact> {
    let files = std::mem::take(&mut provenance.files);
    let (manifest, head) = encode(fitted, provenance, &files)?;
    let new = Artifact::from_bytes(dir, &manifest, &head)?;
    let failed = |e: std::io::Error| Error::data(format!("write artifact {}: {e}", dir.display()));
    let occupied = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(failed(e)),
    };
    if occupied {
        match (Artifact::read(dir), existing) {
            (Ok(old), _) if old.hash() == new.hash() => return Ok(old),
            (Ok(old), Existing::Keep) => {
                return Err(Error::invalid(format!(
                    "write artifact {}: it holds another one (`{}`, {}); choose another folder or pass --force",
                    dir.display(),
                    old.manifest().name,
                    &old.hash()[..16]
                )));
            }
            (Err(_), _) if !dir.join(MANIFEST).exists() => {
                return Err(Error::invalid(format!(
                    "write artifact {}: the folder is not empty and holds no artifact; choose another one",
                    dir.display()
                )));
            }
            (Err(e), Existing::Keep) => return Err(e.context("keep the artifact there (--force replaces it)")),
            (_, Existing::Replace) => {}
        }
    }
    let card = card(new.manifest(), new.hash()).into_bytes();
    let own = [(HEAD, &head), (MANIFEST, &manifest), (CARD, &card)];
    let all = own.into_iter().chain(files.iter().map(|(file, bytes)| (file.as_str(), bytes)));
    put_folder(dir, occupied, all.map(|(file, bytes)| (file, bytes.as_slice())))?;
    Artifact::read(dir)
}

/// Writes files to a new folder beside `dir`, syncs them, and moves it to `dir` in one step. With `occupied` it takes
/// the place of what is there.
pub(crate) fn put_folder<'a>(
    dir: &Path,
    occupied: bool,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<()> {
    put_folder_of(dir, occupied, files.into_iter().map(|(file, bytes)| (file, Content::Bytes(bytes))))
}

/// What a file of a folder holds.
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    /// What another file holds.
    Copy(&'a Path),
}

/// The same with files that are too large for memory.
pub(crate) fn put_folder_of<'a>(
    dir: &Path,
    occupied: bool,
    files: impl IntoIterator<Item = (&'a str, Content<'a>)>,
) -> Result<()> {
    let failed = |e: std::io::Error| Error::data(format!("write artifact {}: {e}", dir.display()));
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed)?;
    let new_dir = tempfile::Builder::new().prefix(".artifact-").tempdir_in(parent).map_err(failed)?;
    for (file, content) in files {
        let path = new_dir.path().join(file);
        // A file in a folder of its own (`1_Pooling/config.json`): the folder's name must be durable too.
        if let Some(folder) = path.parent().filter(|folder| *folder != new_dir.path()) {
            fs::create_dir_all(folder).map_err(failed)?;
            readable_by_others(folder).map_err(failed)?;
            sync_dir(folder).map_err(failed)?;
        }
        let mut file = File::create(path).map_err(failed)?;
        let written = match content {
            Content::Bytes(bytes) => file.write_all(bytes),
            Content::Copy(from) => File::open(from).and_then(|mut from| std::io::copy(&mut from, &mut file)).map(drop),
        };
        written.and_then(|()| file.sync_all()).map_err(failed)?;
    }
    readable_by_others(new_dir.path()).map_err(failed)?;
    sync_dir(new_dir.path()).map_err(failed)?;
    let aside = if occupied {
        // A folder cannot replace one that is not empty: the old one steps aside first.
        let aside = tempfile::Builder::new().prefix(".artifact-old-").tempdir_in(parent).map_err(failed)?;
        fs::rename(dir, aside.path().join("old")).map_err(failed)?;
        Some(aside)
    } else {
        None
    };
    if let Err(e) = fs::rename(new_dir.path(), dir) {
        if let Some(aside) = &aside {
            fs::rename(aside.path().join("old"), dir).map_err(failed)?;
        }
        return Err(failed(e));
    }
    // It has moved away; nothing is left to delete.
    let _ = new_dir.keep();
    sync_dir(parent).map_err(failed)
}

fn encode(
    fitted: &FittedHead,
    provenance: Provenance,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let head = &fitted.head;
    let manifest = Manifest {
        format: provenance.kind.format(provenance.windows),
        name: provenance.name,
        kind: provenance.kind,
        task: provenance.task,
        base: provenance.base,
        body: provenance.body,
        method: provenance.method,
        files: files.iter().map(|(file, bytes)| (file.clone(), sha256_hex(bytes))).collect(),
        out_of_scope: provenance.out_of_scope,
        dtype: provenance.dtype,
        max_tokens: provenance.max_tokens,
        windows: provenance.windows,
        pooling: provenance.pooling,
        labels: head.labels().to_vec(),
        temperature: head.temperature(),
        thresholds: provenance.thresholds,
        margin: provenance.margin,
        metrics: provenance.metrics,
        data_hash: provenance.data_hash,
        n_train: fitted.n_train as u64,
        n_stop: fitted.n_stop as u64,
        n_calibrate: fitted.n_calibrate as u64,
        seed: provenance.seed,
        parent: provenance.parent,
        compression: provenance.compression,
        unlabelled: provenance.unlabelled,
        taught: provenance.taught,
        device: provenance.device,
        created: provenance.created,
    };
    let mut json = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    json.push(b'\n');
    let bytes = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (weights, bias) = (bytes(head.weights()), bytes(head.bias()));
    let classes = head.labels().len();
    let view = |shape: Vec<usize>, bytes| {
        TensorView::new(TensorType::F32, shape, bytes).map_err(|e| Error::internal(format!("encode head: {e}")))
    };
    let tensors =
        [("weights", view(vec![classes, head.dimensions()], &weights)?), ("bias", view(vec![classes], &bias)?)];
    let head = safetensors::serialize(tensors, None).map_err(|e| Error::internal(format!("encode head: {e}")))?;
    Ok((json, head))
}

/// Temporary folders are private; a model is not.
#[cfg(unix)]
fn readable_by_others(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Makes the names in a folder durable.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> std::io::Result<()> {
    Ok(())
}

impl Provenance {
    /// A name, a base model and data; everything else at its plainest. For tests and examples.
    #[must_use]
    pub fn plain(name: ModelName, base: BaseModel, data: &Cleaned, seed: Seed, created: Timestamp) -> Self {
        Self {
            name,
            kind: Kind::Classifier,
            task: None,
            base,
            body: Body::Base,
            method: "head".into(),
            files: BTreeMap::new(),
            out_of_scope: None,
            thresholds: Vec::new(),
            margin: None,
            dtype: Dtype::F32,
            max_tokens: 128,
            windows: 1,
            pooling: Pooling::Mean,
            metrics: BTreeMap::new(),
            data_hash: data.data_hash(),
            seed,
            parent: None,
            compression: None,
            unlabelled: None,
            taught: None,
            device: None,
            created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_dataset::{Example, clean};
    use understudy_model::head::Head;

    fn fitted(weight: f32) -> FittedHead {
        let head = Head::new(vec!["a".into(), "b".into()], vec![weight, 0.0, 0.1, -1.0], vec![0.5, -0.5], 1.1);
        FittedHead { head: head.unwrap(), c: 1.0, path: Vec::new(), n_train: 7, n_stop: 2, n_calibrate: 1 }
    }

    fn provenance(created: i64) -> Provenance {
        let example = |id: &str, label: &str| Example { id: id.into(), text: id.into(), label: label.into() };
        let data = clean(vec![example("1", "a"), example("2", "b")]);
        let base = BaseModel { name: "minilm".into(), hash: "ab".into() };
        Provenance::plain("triage".into(), base, &data, Seed(1), Timestamp(created))
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("models/triage");
        let fitted = fitted(1.0);
        let artifact = write(&dir, &fitted, provenance(5), Existing::Keep).unwrap();
        let read = Artifact::read(&dir).unwrap();
        assert_eq!(read.head(), &fitted.head);
        assert_eq!(read.hash(), artifact.hash());
        assert_eq!((read.manifest().n_train, read.manifest().created), (7, Timestamp(5)));
        assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn the_encoders_files_are_written_and_belong_to_the_hash() {
        let tmp = tempfile::tempdir().unwrap();
        let with = |bytes: &[u8]| {
            let files = [("1_Pooling/config.json".to_owned(), bytes.to_vec())].into();
            Provenance { body: Body::Encoder, method: "full".into(), files, ..provenance(5) }
        };
        let dir = tmp.path().join("triage");
        let first = write(&dir, &fitted(1.0), with(b"{}"), Existing::Keep).unwrap();
        assert_eq!(fs::read(dir.join("1_Pooling/config.json")).unwrap(), b"{}");
        assert_eq!(first.manifest().files.len(), 1);
        let other = write(&tmp.path().join("b"), &fitted(1.0), with(b"{ }"), Existing::Keep).unwrap();
        assert_ne!(first.hash(), other.hash());
    }

    #[test]
    fn another_artifact_is_replaced_only_when_told_to() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("triage");
        let first = write(&dir, &fitted(1.0), provenance(5), Existing::Keep).unwrap();
        let again = write(&dir, &fitted(1.0), provenance(9), Existing::Keep).unwrap();
        assert_eq!(again.manifest().created, Timestamp(5), "the same model is left as it is");
        let refused = write(&dir, &fitted(2.0), provenance(5), Existing::Keep).unwrap_err().to_string();
        assert!(refused.contains("--force") && refused.contains(&first.hash()[..16]), "{refused}");
        let second = write(&dir, &fitted(2.0), provenance(5), Existing::Replace).unwrap();
        assert_ne!(first.hash(), second.hash());
        assert_eq!(Artifact::read(&dir).unwrap().hash(), second.hash());
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_folder_that_holds_something_else_is_never_replaced() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("thesis.tex"), "precious").unwrap();
        let refused = write(tmp.path(), &fitted(1.0), provenance(5), Existing::Replace).unwrap_err().to_string();
        assert!(refused.contains("holds no artifact"), "{refused}");
        assert!(tmp.path().join("thesis.tex").exists());
    }
}
