//! The database file: opening it, recognising it, bringing it to this release's schema.

use crate::fault;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::{path::Path, time::Duration};
use understudy_core::{Error, Result};

/// Marks the file as ours (`PRAGMA application_id`): "USTY".
const APPLICATION_ID: i64 = 0x5553_5459;

/// One entry per schema version, oldest first. A released entry never changes; a new version appends one.
pub(crate) const MIGRATIONS: &[&str] = &[include_str!("schema/v1.sql")];

/// How long one process waits for another's write transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a power cut may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing that was acknowledged: every group of rows reaches the disk (fsync) before it is acknowledged.
    #[default]
    Power,
    /// The last rows, if the machine loses power; nothing, if only this process dies.
    Process,
}

/// Opens the file for writing, creating and migrating it as needed.
pub(crate) fn open_writer(path: &Path, durability: Durability) -> Result<Connection> {
    create_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| fault::opening(path, &e))?;
    prepare(&connection, durability).map_err(|e| fault::opening(path, &e))?;
    migrate(&mut connection, path, MIGRATIONS)?;
    Ok(connection)
}

/// Opens the file for reading only.
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| fault::opening(path, &e))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| fault::opening(path, &e))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn prepare(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    let synchronous = match durability {
        Durability::Power => "full",
        Durability::Process => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // A long reader can hold the log back; once it is gone, the file shrinks again.
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Traces can hold users' texts: only the owner may read a file that we create.
fn create_private(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|e| {
        let remedy = match e.kind() {
            std::io::ErrorKind::NotFound => "create its directory first, or choose another path for the store",
            std::io::ErrorKind::PermissionDenied => "make it writable, or choose another path for the store",
            _ => "choose another path for the store",
        };
        Error::invalid(format!("open store {}: {e}; {remedy}", path.display()))
    })
}

/// Runs the migrations that the file still lacks, all in one transaction.
pub(crate) fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<()> {
    let opening = |e: rusqlite::Error| fault::opening(path, &e);
    let known = i64::try_from(migrations.len()).expect("a short list");
    if version(connection).map_err(opening)? == known && application(connection).map_err(opening)? == APPLICATION_ID {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(opening)?;
    // Read again: another process may have migrated the file while this one waited for the lock.
    let found = version(&transaction).map_err(opening)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(opening)?;
    if application(&transaction).map_err(opening)? != APPLICATION_ID && (tables > 0 || found != 0) {
        return Err(Error::data(format!(
            "open store {}: it is a database of another program; choose another path for the store",
            path.display()
        )));
    }
    if found > known {
        return Err(Error::data(format!(
            "open store {}: it has schema version {found} and this release knows up to {known}; \
             run the release that wrote it, or a newer one",
            path.display()
        )));
    }
    let missing = migrations.get(usize::try_from(found).unwrap_or(0)..).unwrap_or_default();
    for sql in missing {
        transaction.execute_batch(sql).map_err(opening)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(opening)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(opening)?;
    transaction.commit().map_err(opening)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn application(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "application_id", |row| row.get(0))
}
