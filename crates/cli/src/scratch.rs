//! Long work in temporary folders that Ctrl-C may end at any moment: the process ends at once, the folders (gigabytes, for
//! a large model) go, and what is being put in its place is put there whole or not at all.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tempfile::TempDir;
use understudy_core::{Error, ErrorKind, Result};

/// Temporary folders that exist; `None` once the work was ended.
static FOLDERS: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));
/// Held while something is put in its place.
static PLACING: Mutex<()> = Mutex::new(());

fn folders() -> MutexGuard<'static, Option<BTreeSet<PathBuf>>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary folder that goes when it is dropped, or when the work is interrupted.
#[derive(Debug)]
pub(crate) struct Temporary(TempDir);

impl Temporary {
    /// Makes one.
    ///
    /// # Errors
    /// `Data` when it cannot be made, `Cancelled` when the work was interrupted.
    pub(crate) fn folder() -> Result<Self> {
        let mut folders = folders();
        let Some(folders) = folders.as_mut() else {
            return Err(Error::new(ErrorKind::Cancelled, "make a temporary folder: the work was interrupted"));
        };
        let made = tempfile::tempdir().map_err(|e| Error::data(format!("make a temporary folder: {e}")))?;
        folders.insert(made.path().to_owned());
        Ok(Self(made))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(folders) = folders().as_mut() {
            folders.remove(self.path());
        }
    }
}

/// Puts something in its place: an interruption waits for the end of it.
pub(crate) fn place<T>(put: impl FnOnce() -> Result<T>) -> Result<T> {
    let _placing = PLACING.lock().unwrap_or_else(PoisonError::into_inner);
    put()
}

/// Work that takes long, on a thread of its own; `what` completes "failed to". Ctrl-C ends it.
///
/// # Errors
/// Those of the work; `Cancelled` when it was interrupted.
pub(crate) async fn work<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::select! {
        done = tokio::task::spawn_blocking(work) => done.map_err(|e| Error::internal(format!("{what}: {e}")))?,
        _ = tokio::signal::ctrl_c() => {
            // Whatever is being put in its place is there after this, and nothing more will be: the guard is kept.
            std::mem::forget(PLACING.lock().unwrap_or_else(PoisonError::into_inner));
            for folder in folders().take().unwrap_or_default() {
                // The operating system clears what cannot be removed.
                drop(std::fs::remove_dir_all(folder));
            }
            Err(Error::new(ErrorKind::Cancelled, format!("{what}: it was interrupted")))
        }
    }
}
