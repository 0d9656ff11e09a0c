//! Writes the artifact that `model` reads: all of it or nothing, and never over another model by accident.

use crate::{
    card::{CARD, card},
    head::FittedHead,
};
use safetensors::tensor::{Dtype as TensorType, TensorView};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
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

/// Refuses a folder that no artifact is written to: one that is not empty and holds none. To be asked before training;
/// whether an artifact that is there is another one is known only afterwards, by [`write()`].
///
/// # Errors
/// `Invalid` when there is such a folder, `Data` when it cannot be read.
pub fn check_place(dir: &Path) -> Result<()> {
    occupied(dir).map(drop)
}

/// Whether the folder holds an artifact, in whatever state.
fn occupied(dir: &Path) -> Result<bool> {
    let full = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(Error::data(format!("write artifact {}: {e}", dir.display()))),
    };
    if full && !dir.join(MANIFEST).exists() {
        return Err(Error::invalid(format!(
            "write artifact {}: the folder is not empty and holds no artifact; choose another one",
            dir.display()
        )));
    }
    Ok(full)
}

/// What is where an artifact is to be written.
pub(crate) enum There<A> {
    /// Nothing.
    Nothing,
    /// The same artifact.
    Same(A),
    /// Another one, which may be replaced.
    Other,
}

/// Looks at what is in the way of an artifact. `read` reads one of its kind, `same` says whether that is it, and `about`
/// gives its name and hash.
///
/// # Errors
/// As [`write()`].
pub(crate) fn there<A>(
    dir: &Path,
    existing: Existing,
    read: impl FnOnce(&Path) -> Result<A>,
    same: impl FnOnce(&A) -> bool,
    about: impl FnOnce(&A) -> (&ModelName, &str),
) -> Result<There<A>> {
    if !occupied(dir)? {
        return Ok(There::Nothing);
    }
    let old = match read(dir) {
        Ok(old) if same(&old) => return Ok(There::Same(old)),
        old => old,
    };
    if existing == Existing::Replace {
        return Ok(There::Other);
    }
    let what = match &old {
        Ok(old) => {
            let (name, hash) = about(old);
            format!("another one (`{name}`, {})", &hash[..16])
        }
        Err(e) => format!("one that is damaged or of another kind ({e})"),
    };
    Err(Error::invalid(format!(
        "write artifact {}: it holds {what}; choose another folder or pass --force",
        dir.display()
    )))
}

/// Writes the artifact to `dir` and reads it back. An artifact of the same hash is left as it is.
///
/// The files are written beside `dir`, synced, and moved there: whatever fails, `dir` holds a whole artifact or what it
/// held before. Where one takes the place of another, Linux exchanges them in one step; elsewhere a process that is killed
/// between two renames leaves `dir` missing, and the old one beside it in `.artifact-old-…/old`.
///
/// # Errors
/// `Invalid` when `dir` holds another artifact (and `existing` is [`Existing::Keep`]) or anything else; `Data` when
/// writing fails.
pub fn write(dir: &Path, fitted: &FittedHead, mut provenance: Provenance, existing: Existing) -> Result<Artifact> {
    let files = std::mem::take(&mut provenance.files);
    let (manifest, head) = encode(fitted, provenance, &files)?;
    let new = Artifact::from_bytes(dir, &manifest, &head)?;
    let same = |old: &Artifact| old.hash() == new.hash();
    let occupied = match there(dir, existing, Artifact::read, same, |old| (&old.manifest().name, old.hash()))? {
        There::Same(old) => return Ok(old),
        There::Other => true,
        There::Nothing => false,
    };
    let card = card(new.manifest(), new.hash()).into_bytes();
    let own = [(HEAD, &head), (MANIFEST, &manifest), (CARD, &card)];
    let all = own.into_iter().chain(files.iter().map(|(file, bytes)| (file.as_str(), bytes)));
    put_folder(dir, occupied, all.map(|(file, bytes)| (file, Content::Bytes(bytes))))?;
    Artifact::read(dir)
}

/// What a file of a folder holds.
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    /// What another file holds.
    Copy(&'a Path),
    /// What is written piece by piece.
    Made(&'a dyn Fn(&mut dyn Write) -> io::Result<()>),
}

/// Writes files to a new folder beside `dir`, syncs them, and moves it to `dir`. With `occupied` it takes the place of what
/// is there.
pub(crate) fn put_folder<'a>(
    dir: &Path,
    occupied: bool,
    files: impl IntoIterator<Item = (&'a str, Content<'a>)>,
) -> Result<()> {
    let failed = failure(dir);
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed)?;
    let new_dir = tempfile::Builder::new().prefix(".artifact-").tempdir_in(parent).map_err(failed)?;
    let mut folders = BTreeSet::from([new_dir.path().to_owned()]);
    for (file, content) in files {
        let path = new_dir.path().join(file);
        // A file may be in a folder of its own (`1_Pooling/config.json`).
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
            folders.extend(folder.ancestors().take_while(|at| *at != new_dir.path()).map(PathBuf::from));
        }
        let mut file = File::create(path).map_err(failed)?;
        let written = match content {
            Content::Bytes(bytes) => file.write_all(bytes),
            Content::Copy(from) => File::open(from).and_then(|mut from| io::copy(&mut from, &mut file)).map(drop),
            Content::Made(write) => {
                let mut to = BufWriter::with_capacity(1 << 20, &file);
                write(&mut to).and_then(|()| to.flush())
            }
        };
        written.and_then(|()| file.sync_all()).map_err(failed)?;
    }
    // Names become durable with the folder that has them: the innermost first, when all files are there.
    for folder in folders.iter().rev() {
        readable_by_others(folder).and_then(|()| sync_dir(folder)).map_err(failed)?;
    }
    if occupied {
        replace(new_dir.path(), dir, parent)?;
    } else {
        fs::rename(new_dir.path(), dir).and_then(|()| sync_dir(parent)).map_err(failed)?;
    }
    // It has moved away; nothing is left to delete.
    let _ = new_dir.keep();
    Ok(())
}

/// Moves the folder `new` to where `dir` is; both are in `parent`. What was there is deleted once the new one is in place,
/// and not before.
fn replace(new: &Path, dir: &Path, parent: &Path) -> Result<()> {
    let failed = failure(dir);
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new, CWD, dir, RenameFlags::EXCHANGE).is_ok() {
            sync_dir(parent).map_err(failed)?;
            // This is the old one now.
            drop(fs::remove_dir_all(new));
            return Ok(());
        }
    }
    // A folder cannot replace one that is not empty: the old one steps aside first.
    let aside = tempfile::Builder::new().prefix(".artifact-old-").tempdir_in(parent).map_err(failed)?;
    let old = aside.path().join("old");
    fs::rename(dir, &old).map_err(failed)?;
    let aside = aside.keep();
    if let Err(e) = fs::rename(new, dir) {
        fs::rename(&old, dir)
            .map_err(|_| Error::data(format!("write {}: {e}; what it held is now {}", dir.display(), old.display())))?;
        drop(fs::remove_dir(aside));
        return Err(failed(e));
    }
    sync_dir(parent).map_err(failed)?;
    // What cannot be deleted is in nobody's way.
    drop(fs::remove_dir_all(aside));
    Ok(())
}

fn failure(dir: &Path) -> impl Fn(io::Error) -> Error + Copy {
    move |e| Error::data(format!("write {}: {e}", dir.display()))
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
fn readable_by_others(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes the names in a folder durable.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
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
            let files = ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"];
            let files = files.map(|file| (file.to_owned(), bytes.to_vec())).into();
            Provenance { body: Body::Encoder, method: "full".into(), files, ..provenance(5) }
        };
        let dir = tmp.path().join("triage");
        let first = write(&dir, &fitted(1.0), with(b"{}"), Existing::Keep).unwrap();
        assert_eq!(fs::read(dir.join("1_Pooling/config.json")).unwrap(), b"{}");
        assert_eq!(first.manifest().files.len(), 4);
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
        assert_eq!(check_place(tmp.path()).unwrap_err().to_string(), refused);
        assert!(tmp.path().join("thesis.tex").exists());
    }

    #[test]
    fn a_place_is_free_when_it_is_empty_or_holds_an_artifact_in_any_state() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("triage");
        check_place(&dir).unwrap();
        assert!(!dir.exists(), "nothing is made");
        write(&dir, &fitted(1.0), provenance(5), Existing::Keep).unwrap();
        fs::write(dir.join(HEAD), "damaged").unwrap();
        check_place(&dir).unwrap();
        let refused = write(&dir, &fitted(1.0), provenance(5), Existing::Keep).unwrap_err().to_string();
        assert!(refused.contains("damaged") && refused.contains("--force"), "{refused}");
        write(&dir, &fitted(1.0), provenance(5), Existing::Replace).unwrap();
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("triage");
        write(&dir, &fitted(1.0), provenance(5), Existing::Keep).unwrap();
        assert!(replace(&tmp.path().join("missing"), &dir, tmp.path()).is_err());
        let full = |_: &mut dyn Write| Err(io::Error::other("no space left"));
        let files = [("a/b", Content::Bytes(b"b")), ("model", Content::Made(&full))];
        assert!(put_folder(&dir, true, files).unwrap_err().to_string().contains("no space left"));
        assert_eq!(Artifact::read(&dir).unwrap().head(), &fitted(1.0).head);
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1, "nothing else is left behind");
    }
}
