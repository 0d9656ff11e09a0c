//! SQLite's errors in the terms of who has to act on them.

use rusqlite::ErrorCode;
use std::path::Path;
use understudy_core::Error;

/// A failure to open the file.
pub(crate) fn opening(path: &Path, error: &rusqlite::Error) -> Error {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::data(format!(
            "open store {shown}: the file is not a SQLite database; move it away or choose another path for the store"
        )),
        Some(ErrorCode::DatabaseCorrupt) => corrupt(path, error),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Error::invalid(format!(
            "open store {shown}: {error}; make the file and its directory readable and writable, \
             or choose another path for the store"
        )),
        _ => using("open store", path, error),
    }
}

/// A failure of `what` on an open file.
pub(crate) fn using(what: &str, path: &Path, error: &rusqlite::Error) -> Error {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::unavailable(format!(
            "{what}: no space is left for {shown}; free disk space or move the store, work goes on as soon as there is \
             room"
        )),
        Some(ErrorCode::SystemIoFailure) => {
            Error::unavailable(format!("{what}: {shown}: {error}; check the disk and the free space"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::unavailable(format!(
            "{what}: another process holds the lock on {shown}; end it, or try again when it is done"
        )),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => corrupt(path, error),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Error::unavailable(format!("{what}: {shown}: {error}; make the file and its directory writable"))
        }
        _ => match error {
            rusqlite::Error::FromSqlConversionFailure(..) => {
                Error::data(format!("{what}: {shown}: {error}; restore the file from a backup"))
            }
            _ => Error::internal(format!("{what}: {shown}: {error}")),
        },
    }
}

fn corrupt(path: &Path, error: &rusqlite::Error) -> Error {
    Error::data(format!(
        "open store {}: the file is damaged ({error}); restore it from a backup, or move it away to start afresh",
        path.display()
    ))
}

/// Wraps a value in the database that cannot be read back.
pub(crate) fn unreadable(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
}
