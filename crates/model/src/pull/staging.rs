//! The place where a pull collects its files before they appear in the models directory: one area per source, kept
//! between runs so that a pull goes on where it was cut off, behind a lock so that two pulls of one model take turns.

use super::{Failure, OnProgress, Progress};
use crate::{
    catalogue::{Kind, Source},
    installed::{self, Checked, Installed, InstalledFile, PARTIAL, io_error},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
    time::Duration,
};
use understudy_core::{Error, Result, Timestamp, hash};

/// The locked staging folder of one model. Dropping it gives up the lock.
pub(super) struct Staging {
    models_dir: PathBuf,
    name: String,
    _lock: fs::File,
}

impl Staging {
    /// Creates the folders and takes the model's lock, waiting for another pull of the same model to end.
    pub(super) async fn open(models_dir: &Path, name: &str, on_progress: OnProgress<'_>) -> Result<Self> {
        installed::check_name(name)?;
        let partial = models_dir.join(PARTIAL);
        fs::create_dir_all(&partial).map_err(|e| io_error("create", &partial, &e))?;
        let path = partial.join(format!("{name}.lock"));
        let lock = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| io_error("open", &path, &e))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) => {
                    if !told {
                        on_progress(Progress::Note(&format!("another process is pulling {name}; waiting for it")));
                        told = true;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(fs::TryLockError::Error(e)) => return Err(io_error("lock", &path, &e)),
            }
        }
        Ok(Self { models_dir: models_dir.to_owned(), name: name.to_owned(), _lock: lock })
    }

    fn root(&self) -> PathBuf {
        self.models_dir.join(PARTIAL).join(&self.name)
    }

    /// The area for files from `source`.
    pub(super) fn area(&self, source: &Source) -> Result<Area> {
        let text = serde_json::to_string(source).map_err(|e| Error::internal(format!("name a staging folder: {e}")))?;
        Area::open(self.root().join(&hash::sha256_hex(text.as_bytes())[..12]))
    }

    /// An empty manifest for this model.
    pub(super) fn manifest(&self, kind: Kind, source: String, now: Timestamp) -> Installed {
        Installed::new(&self.name, kind, source, now, self.models_dir.join(&self.name))
    }

    /// Moves the finished files to their place, in one step, and clears the staging folder.
    pub(super) fn install(&self, finished: Finished, on_progress: OnProgress<'_>) -> Result<Installed> {
        let Finished { files, installed } = finished;
        installed.write(&files)?;
        let target = installed.dir();
        let old = self.root().join("old");
        if old.exists() {
            fs::remove_dir_all(&old).map_err(|e| io_error("delete", &old, &e))?;
        }
        if target.exists() {
            fs::rename(target, &old).map_err(|e| io_error("replace", target, &e))?;
        }
        if let Err(e) = fs::rename(&files, target) {
            // The model that was there goes back to its place.
            if old.exists() {
                fs::rename(&old, target).map_err(|e| io_error("restore", target, &e))?;
            }
            return Err(io_error("install", target, &e));
        }
        sync_dir(&self.models_dir)?;
        fs::remove_dir_all(self.root()).map_err(|e| io_error("delete", &self.root(), &e))?;
        on_progress(Progress::Note(&format!("{} installed from {}", installed.name, installed.source)));
        Ok(installed)
    }
}

/// A complete set of files, not yet in its place.
pub(super) struct Finished {
    files: PathBuf,
    installed: Installed,
}

/// What is known about a file between two runs.
#[derive(Debug, Default, Serialize, Deserialize)]
struct FileState {
    /// The server's validator for the partial file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// The file, once it is complete and checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<InstalledFile>,
}

/// Files from one source: `files/` as they will be installed, `work/` for packages and slices, `state.json`.
pub(super) struct Area {
    root: PathBuf,
    state: BTreeMap<String, FileState>,
}

impl Area {
    fn open(root: PathBuf) -> Result<Self> {
        for folder in ["files", "work"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(|e| io_error("create", &folder, &e))?;
        }
        // A state that cannot be read costs a fresh download, no more.
        let state = fs::read(root.join("state.json"));
        let state = state.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Ok(Self { root, state })
    }

    /// Where packages are unpacked.
    pub(super) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Forgets the packages where one was refused or damaged: the next pull fetches them anew.
    pub(super) fn unpacked<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(result, Err(Failure::Source(_))) {
            let work = self.work();
            fs::remove_dir_all(&work).map_err(|e| io_error("delete", &work, &e))?;
            fs::create_dir_all(&work).map_err(|e| io_error("create", &work, &e))?;
        }
        result
    }

    /// The folder that will become the model's.
    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Where a file of the model goes, its folder made.
    pub(super) fn target(&self, path: &str) -> Result<PathBuf> {
        let target = safe_join(&self.files(), path)?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| io_error("create", parent, &e))?;
        }
        Ok(target)
    }

    /// The file, when an earlier run completed it and it is still as it was.
    pub(super) fn done(&self, path: &str, pinned: Option<&str>) -> Option<InstalledFile> {
        let done = self.state.get(path)?.done.clone()?;
        let target = safe_join(&self.files(), path).ok()?;
        let same = installed::hash_file(&target).is_ok_and(|sha256| sha256 == done.sha256);
        (same && pinned.is_none_or(|pinned| pinned == done.sha256)).then_some(done)
    }

    /// Records that a file is complete.
    pub(super) fn set_done(&mut self, file: &InstalledFile) -> Result<()> {
        self.state.insert(file.path.clone(), FileState { etag: None, done: Some(file.clone()) });
        self.save()
    }

    /// The validator of a partial file.
    pub(super) fn etag(&self, path: &str) -> Option<&str> {
        self.state.get(path)?.etag.as_deref()
    }

    /// Records the validator of a file whose download starts.
    pub(super) fn set_etag(&mut self, path: &str, etag: Option<String>) -> Result<()> {
        self.state.insert(path.to_owned(), FileState { etag, done: None });
        self.save()
    }

    fn save(&self) -> Result<()> {
        let path = self.root.join("state.json");
        let text = serde_json::to_vec(&self.state).map_err(|e| Error::internal(format!("write a state: {e}")))?;
        fs::write(&path, text).map_err(|e| io_error("write", &path, &e))
    }

    /// Drops what does not belong to the model (files of an older list) and makes the rest durable.
    pub(super) fn finish(self, installed: Installed) -> Result<Finished> {
        let files = self.files();
        if installed.tree.is_none() {
            let wanted: Vec<_> = installed.files.iter().map(|f| files.join(&f.path)).collect();
            prune(&files, &wanted)?;
        }
        sync_dir(&files)?;
        Ok(Finished { files, installed })
    }
}

/// The manifest's line for a file at `path` that was made here, beside `from` and from it.
pub(super) fn derived(from: &InstalledFile, path: &Path) -> Result<InstalledFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = from.path.rsplit_once('/').map_or_else(|| name.to_string(), |(folder, _)| format!("{folder}/{name}"));
    let size = fs::metadata(path).map_err(|e| io_error("read", path, &e))?.len();
    let sha256 = installed::hash_file(path)?;
    Ok(InstalledFile { path: beside, size, sha256, checked: Checked::Derived, made_from: Some(from.sha256.clone()) })
}

/// `dir/path` for a path from outside: plain names separated by `/`, so that nothing is written outside `dir`.
pub(super) fn safe_join(dir: &Path, path: &str) -> Result<PathBuf> {
    let plain = !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    if plain {
        Ok(dir.join(path))
    } else {
        Err(Error::data(format!("unpack `{path}`: the path leads out of the model's folder; it was refused")))
    }
}

fn prune(dir: &Path, wanted: &[PathBuf]) -> Result<()> {
    for item in fs::read_dir(dir).map_err(|e| io_error("read", dir, &e))? {
        let path = item.map_err(|e| io_error("read", dir, &e))?.path();
        if path.is_dir() {
            prune(&path, wanted)?;
            // Fails, as it should, when the folder still holds a wanted file.
            let _ = fs::remove_dir(&path);
        } else if !wanted.contains(&path) {
            fs::remove_file(&path).map_err(|e| io_error("delete", &path, &e))?;
        }
    }
    Ok(())
}

/// Makes renames in a folder durable. Windows has no such call and needs none.
fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        fs::File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io_error("sync", dir, &e))?;
    }
    Ok(())
}
