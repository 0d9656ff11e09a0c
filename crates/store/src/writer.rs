//! The one writer: a thread that puts whatever is waiting into one transaction and answers every caller after the
//! commit. A single fsync is so shared by all requests that arrived during the last one (group commit).

use crate::{fault, row::Row};
use rusqlite::{CachedStatement, Connection, ErrorCode, TransactionBehavior};
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot, watch};
use understudy_core::{Error, Result};

/// Most jobs in one transaction: bounds how long the first of them waits for the last.
const GROUP: usize = 512;

/// Why one job of a group was not done.
pub(crate) enum Fault {
    /// The job itself is at fault; the others of its group are not concerned.
    Refused(Error),
    /// The database failed.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

type Change = Box<dyn FnOnce(&Connection, &mut Group) -> Result<(), Fault> + Send>;

/// Work for the writer.
pub(crate) enum Job {
    /// A new trace row.
    Record(Box<Row>),
    /// Anything else; runs in a savepoint, so that a refusal leaves nothing behind.
    Change(Change),
}

impl Job {
    /// A change that is not a new trace row.
    pub(crate) fn change(change: impl FnOnce(&Connection, &mut Group) -> Result<(), Fault> + Send + 'static) -> Self {
        Self::Change(Box::new(change))
    }
}

/// A job and where its result goes.
pub(crate) struct Queued {
    pub(crate) job: Job,
    pub(crate) reply: oneshot::Sender<Result<()>>,
}

/// What the jobs of one transaction share.
pub(crate) struct Group {
    last_audit_seq: i64,
    attached: u64,
}

impl Group {
    /// The next place in the sequence of evidence.
    pub(crate) fn next_audit_seq(&mut self) -> i64 {
        self.last_audit_seq += 1;
        self.last_audit_seq
    }

    /// Notes that an audit was attached.
    pub(crate) fn note_audit(&mut self) {
        self.attached += 1;
    }
}

/// Everything the thread owns.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) jobs: mpsc::Receiver<Queued>,
    pub(crate) audits: watch::Sender<u64>,
}

impl Writer {
    /// Works until every handle of the store is gone and the queue is empty.
    pub(crate) fn run(mut self) {
        let mut waiting = Vec::with_capacity(GROUP);
        while self.jobs.blocking_recv_many(&mut waiting, GROUP) > 0 {
            let (jobs, replies): (Vec<_>, Vec<_>) = waiting.drain(..).map(|q| (q.job, q.reply)).unzip();
            match write(&mut self.connection, jobs) {
                Ok((verdicts, attached)) => {
                    if attached > 0 {
                        self.audits.send_modify(|count| *count += attached);
                    }
                    for (reply, verdict) in replies.into_iter().zip(verdicts) {
                        // A caller that went away does not mind.
                        let _ = reply.send(verdict);
                    }
                }
                Err(error) => {
                    let error = fault::using("write to the store", &self.path, &error);
                    tracing::error!(%error, rows = replies.len(), "a group of rows was not stored");
                    for reply in replies {
                        let _ = reply.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}

/// One transaction. `Err` means that nothing of the group is stored.
fn write(connection: &mut Connection, jobs: Vec<Job>) -> rusqlite::Result<(Vec<Result<()>>, u64)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = cached(&transaction, "SELECT value FROM meta WHERE key = 'audit_seq'")?
        .query_row([], |row| row.get::<_, i64>(0))?;
    let mut group = Group { last_audit_seq: before, attached: 0 };
    let mut verdicts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let done = match job {
            Job::Record(row) => row.insert(&transaction, &mut group),
            Job::Change(change) => in_savepoint(&transaction, &mut group, change),
        };
        verdicts.push(match done {
            Ok(()) => Ok(()),
            Err(Fault::Refused(error)) => Err(error),
            // SQLite undoes only the statement that broke a constraint.
            Err(Fault::Sqlite(e)) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Err(Error::internal(format!("write to the store: {e}")))
            }
            Err(Fault::Sqlite(e)) => return Err(e),
        });
    }
    if group.last_audit_seq != before {
        cached(&transaction, "UPDATE meta SET value = ?1 WHERE key = 'audit_seq'")?.execute([group.last_audit_seq])?;
    }
    transaction.commit()?;
    Ok((verdicts, group.attached))
}

fn in_savepoint(connection: &Connection, group: &mut Group, change: Change) -> Result<(), Fault> {
    connection.execute_batch("SAVEPOINT change")?;
    let done = change(connection, group);
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK TO change")?;
    }
    if !connection.is_autocommit() {
        connection.execute_batch("RELEASE change")?;
    }
    done
}

fn cached<'c>(connection: &'c Connection, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(sql)
}
