//! What lies on the disk: one folder per model below the models directory, with a manifest (`installed.json`) that
//! says where every file came from and how it was checked. Written by [`crate::pull`], read by whoever loads a model.
//!
//! Layout: `<models_dir>/<name>/…` holds installed models only; unfinished downloads live in `<models_dir>/.partial`.

use crate::catalogue::{Catalogue, Kind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result, Timestamp, hash};

/// Name of the manifest in a model's folder.
pub const MANIFEST: &str = "installed.json";
/// Folder below the models directory that holds unfinished downloads and locks.
pub(crate) const PARTIAL: &str = ".partial";

/// How a file's content was checked when it was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// Against the SHA-256 in the catalogue, or the one given with the command.
    Pinned,
    /// Against the SHA-256 that the hub states for the file.
    Hub,
    /// Not at all: nobody states a hash. The one recorded here is what arrived first.
    FirstUse,
    /// Made on this machine from a checked file.
    Derived,
}

/// One installed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledFile {
    /// Path relative to the folder, with forward slashes.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 in lowercase hex.
    pub sha256: String,
    /// How it was checked.
    pub checked: Checked,
    /// For a file that was made on this machine: the SHA-256 of the checked file that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
}

/// A folder of many small files, recorded as one: a data set from a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// SHA-256 of the archive they came from.
    pub archive_sha256: String,
}

/// An installed model or data set: the manifest and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Version of this format.
    pub format: u32,
    /// Its name, which is its folder's name.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Where it came from, as `understudy show` prints it.
    pub source: String,
    /// When, in milliseconds since 1970.
    pub installed_at: Timestamp,
    /// Its files.
    pub files: Vec<InstalledFile>,
    /// For a data set from a package, the folder as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
    #[serde(skip)]
    dir: PathBuf,
}

/// How closely [`Installed::verify`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every file is there and has its length: quick.
    Lengths,
    /// … and its content has the recorded hash: reads everything.
    Hashes,
}

impl Installed {
    /// A manifest for what lies in `dir`.
    #[must_use]
    pub(crate) fn new(name: &str, kind: Kind, source: String, installed_at: Timestamp, dir: PathBuf) -> Self {
        let name = name.to_owned();
        Self { format: 1, name, kind, source, installed_at, files: Vec::new(), tree: None, dir }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum::<u64>() + self.tree.as_ref().map_or(0, |t| t.bytes)
    }

    /// The GGUF file to run: the one made at import where there is one.
    ///
    /// # Errors
    /// `Invalid` when this is not a generative model.
    pub fn gguf(&self) -> Result<PathBuf> {
        let ggufs = || self.files.iter().filter(|f| f.path.ends_with(".gguf"));
        let chosen = ggufs().find(|f| f.checked == Checked::Derived).or_else(|| ggufs().next());
        let file = chosen.ok_or_else(|| {
            Error::invalid(format!("run `{}`: it is a {}, not a generative model", self.name, self.kind))
        })?;
        Ok(self.dir.join(&file.path))
    }

    /// Checks that the files are what was installed.
    ///
    /// # Errors
    /// `Data` with the first file that is missing or differs.
    pub fn verify(&self, depth: Depth) -> Result<()> {
        let remedy = format!("`understudy pull {} --force` installs it again", self.name);
        for file in &self.files {
            let path = self.dir.join(&file.path);
            let bad = |what: &str| Error::data(format!("use {}: {what}; {remedy}", path.display()));
            let found = fs::metadata(&path).map_err(|_| bad("the file is missing"))?.len();
            if found != file.size {
                return Err(bad(&format!("it has {found} bytes instead of {}", file.size)));
            }
            if depth == Depth::Hashes && hash_file(&path)? != file.sha256 {
                return Err(bad("its content has changed since it was installed"));
            }
        }
        if let Some(tree) = &self.tree {
            let (files, bytes) = count_tree(&self.dir).map_err(|e| io_error("read", &self.dir, &e))?;
            if (files, bytes) != (tree.files, tree.bytes) {
                return Err(Error::data(format!(
                    "use {}: {files} files with {bytes} bytes instead of {} with {}; {remedy}",
                    self.dir.display(),
                    tree.files,
                    tree.bytes
                )));
            }
        }
        Ok(())
    }

    /// Writes the manifest into `dir`, durably.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::internal(format!("write a manifest: {e}")))?;
        let written = fs::File::create(&path).and_then(|mut file| {
            io::Write::write_all(&mut file, &text)?;
            file.sync_all()
        });
        written.map_err(|e| io_error("write", &path, &e))
    }
}

/// The installed model `name` (a name, or an alias from the catalogue).
///
/// # Errors
/// `NotFound` when it is not installed (the message gives the command), `Invalid` for a name that is a path, `Data`
/// when its manifest cannot be read.
pub fn load(models_dir: &Path, name: &str) -> Result<Installed> {
    find(models_dir, name)?.ok_or_else(|| {
        let name = canonical(name);
        Error::not_found(format!("load model `{name}`: it is not installed; run `understudy pull {name}`"))
    })
}

/// Like [`load`], with `None` when the model is not installed.
///
/// # Errors
/// `Invalid` for a name that is a path, `Data` when its manifest cannot be read.
pub fn find(models_dir: &Path, name: &str) -> Result<Option<Installed>> {
    let name = canonical(name);
    check_name(name)?;
    read(models_dir.join(name))
}

/// Every installed model, by name.
///
/// # Errors
/// `Data` when a manifest cannot be read, `Internal` when the directory cannot be.
pub fn all(models_dir: &Path) -> Result<Vec<Installed>> {
    let folders = match fs::read_dir(models_dir) {
        Ok(folders) => folders,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_error("read", models_dir, &e)),
    };
    let mut found = Vec::new();
    for folder in folders {
        let folder = folder.map_err(|e| io_error("read", models_dir, &e))?;
        if !folder.file_name().to_string_lossy().starts_with('.') {
            found.extend(read(folder.path())?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Deletes an installed model and whatever an unfinished pull of it left. Returns the bytes freed.
///
/// # Errors
/// `NotFound` when there is nothing to delete, `Invalid` for a name that is a path.
pub fn remove(models_dir: &Path, name: &str) -> Result<u64> {
    let name = canonical(name);
    check_name(name)?;
    let mut freed = None;
    // The manifest goes first: a removal that is cut off leaves no folder that looks installed.
    let folder = models_dir.join(name);
    if folder.join(MANIFEST).is_file() {
        let (_, bytes) = count_tree(&folder).map_err(|e| io_error("read", &folder, &e))?;
        fs::remove_file(folder.join(MANIFEST)).map_err(|e| io_error("delete", &folder, &e))?;
        fs::remove_dir_all(&folder).map_err(|e| io_error("delete", &folder, &e))?;
        freed = Some(bytes);
    }
    let partial = models_dir.join(PARTIAL).join(name);
    if partial.is_dir() {
        let (_, bytes) = count_tree(&partial).map_err(|e| io_error("read", &partial, &e))?;
        fs::remove_dir_all(&partial).map_err(|e| io_error("delete", &partial, &e))?;
        freed = Some(freed.unwrap_or(0) + bytes);
    }
    freed.ok_or_else(|| Error::not_found(format!("remove model `{name}`: it is not installed")))
}

/// The catalogue's name for `name`, or `name` itself.
pub(crate) fn canonical(name: &str) -> &str {
    Catalogue::embedded().find(name).map_or(name, |entry| entry.name.as_str())
}

/// A model's name is one plain folder name: nothing here ever touches a path that a user wrote.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(plain) {
        let rule = "a model's name has letters, digits, `-`, `_` and `.` only, and is no path";
        return Err(Error::invalid(format!("use model name `{name}`: {rule}")).with_param("name"));
    }
    Ok(())
}

fn read(dir: PathBuf) -> Result<Option<Installed>> {
    let path = dir.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(io_error("read", &path, &e)),
    };
    let installed: Installed = serde_json::from_slice(&text)
        .map_err(|e| Error::data(format!("read {}: {e}; delete the folder and pull again", path.display())))?;
    Ok(Some(Installed { dir, ..installed }))
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// `NotFound` or `Data` when it cannot be read.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    hash_into(&mut hasher, path)?;
    Ok(hash::hex(&hasher.finalize()))
}

/// Feeds a file to `hasher`; returns its length.
pub(crate) fn hash_into(hasher: &mut Sha256, path: &Path) -> Result<u64> {
    let mut file = fs::File::open(path).map_err(|e| io_error("read", path, &e))?;
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        match io::Read::read(&mut file, &mut buffer).map_err(|e| io_error("read", path, &e))? {
            0 => return Ok(length),
            n => {
                hasher.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
}

/// Files and bytes below `dir`, the manifest left out.
pub(crate) fn count_tree(dir: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for item in fs::read_dir(dir)? {
        let item = item?;
        let kind = item.file_type()?;
        if kind.is_dir() {
            let (f, b) = count_tree(&item.path())?;
            (files, bytes) = (files + f, bytes + b);
        } else if item.file_name() != MANIFEST {
            (files, bytes) = (files + 1, bytes + item.metadata()?.len());
        }
    }
    Ok((files, bytes))
}

/// An error of the file system in words that say what to do.
pub(crate) fn io_error(verb: &str, path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
            understudy_core::ErrorKind::Unavailable,
            format!("{verb} {path}: the disk is full; free some space or choose another place with UNDERSTUDY_MODELS"),
        ),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::new(
            understudy_core::ErrorKind::Denied,
            format!("{verb} {path}: {error}; choose a folder of your own with UNDERSTUDY_MODELS"),
        ),
        io::ErrorKind::NotFound => Error::not_found(format!("{verb} {path}: {error}")),
        _ => Error::internal(format!("{verb} {path}: {error}")),
    }
}
