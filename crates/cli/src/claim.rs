//! One process at a time makes a model in a folder. The lock is the operating system's and ends with the process, however
//! that ends; the file that it is on lies beside the folder and goes when the work is done.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result};

/// The right to write a folder. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Takes the right to write `dir`.
    ///
    /// # Errors
    /// `Unavailable` when another process has it; `Data` when the file beside the folder cannot be written.
    pub(crate) fn on(dir: &Path) -> Result<Self> {
        let name = dir.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
        let path = dir.with_file_name(format!(".{name}.lock"));
        let failed = |e: std::io::Error| Error::data(format!("lock {}: {e}", path.display()));
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        loop {
            let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::unavailable(format!(
                        "make a model in {}: another process is at work there; wait for its end, or choose another --out",
                        dir.display()
                    )));
                }
                // A file system without locks: go on as if alone.
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // Whoever had it before may have removed the file between our opening and locking it: then it locks nothing.
            if is_at(&lock, &path) {
                return Ok(Self { path, _lock: lock });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if cfg!(unix) {
            // Still locked: nobody else can have taken it. A file left behind does no harm.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |found: std::io::Result<fs::Metadata>| found.map(|m| (m.dev(), m.ino())).ok();
    place(file.metadata()).is_some_and(|own| place(fs::metadata(path)) == Some(own))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_core::ErrorKind;

    #[test]
    fn a_folder_is_one_processs_until_it_gives_it_up_and_what_a_killed_one_left_locks_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("models/triage");
        // A lock file without a process behind it, as a killed one leaves it.
        fs::create_dir_all(tmp.path().join("models")).unwrap();
        fs::write(tmp.path().join("models/.triage.lock"), b"").unwrap();
        let first = Claim::on(&dir).unwrap();
        let second = Claim::on(&dir).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::Unavailable);
        assert!(second.message().contains("another process"), "{second}");
        let beside = Claim::on(&tmp.path().join("models/other")).unwrap();
        drop((first, beside));
        drop(Claim::on(&dir).unwrap());
        assert_eq!(fs::read_dir(tmp.path().join("models")).unwrap().count(), 0);
    }
}
