//! What Understudy remembers: traces, artifacts, deployments, certificates, feedback. One SQLite file.
//!
//! It keeps and finds; it decides nothing, and it stores texts as it is given them (the text policy is the caller's).
//! Writes go through one thread that commits whatever is waiting in one transaction; the future of a write resolves
//! after that commit. Reads run on their own connections and never wait for a writer. Several processes may use one
//! file.

mod audit;
mod certificates;
mod fault;
mod learning;
mod query;
mod registry;
mod row;
mod schema;
#[cfg(test)]
mod tests;
pub mod trace;
mod writer;

pub use audit::{Audit, AuditRow, AuditSequence, Feedback};
pub use certificates::{CertificateState, Withdrawal};
pub use learning::{DecisionRow, LearningRow, PairRow, Source};
pub use query::{Order, RouteStats, TraceFilter, TraceStats};
pub use registry::{ArtifactRecord, Deployment};
pub use schema::Durability;
pub use trace::{Call, Ending, Route, Trace};

use rusqlite::Connection;
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot, watch};
use understudy_core::{Error, ErrorKind, Result};
use writer::{Job, Queued, Writer};

/// Read connections that are kept open between calls.
const IDLE_READERS: usize = 4;

/// How a store works.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// What a power cut may take.
    pub durability: Durability,
    /// Writes that may wait; one more is refused with `Overloaded`.
    pub queue_capacity: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { durability: Durability::Power, queue_capacity: 65_536 }
    }
}

/// The records of one installation. Cheap to clone; the file closes when the last clone is dropped, after everything
/// that was handed over is written.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    jobs: Option<mpsc::Sender<Queued>>,
    writer: Option<JoinHandle<()>>,
    readers: Mutex<Vec<Connection>>,
    audits: watch::Sender<u64>,
}

impl Store {
    /// Opens the file at `path`, creates it where there is none, and brings an older one to this release's schema.
    ///
    /// # Errors
    /// `Invalid` when the directory is missing or not writable; `Data` when the file is not a store, is damaged, or
    /// was written by a newer release; `Unavailable` when another process holds its lock for long.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self> {
        let connection = schema::open_writer(path, options.durability)?;
        let (jobs, receiver) = mpsc::channel(options.queue_capacity.max(1));
        let audits = watch::Sender::new(0);
        let writer = Writer { connection, path: path.to_owned(), jobs: receiver, audits: audits.clone() };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(|| writer.run())
            .map_err(|e| Error::unavailable(format!("open store {}: start its writer: {e}", path.display())))?;
        let shared =
            Shared { path: path.to_owned(), jobs: Some(jobs), writer: Some(thread), readers: Mutex::default(), audits };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens a store that must be there already: for commands that only look.
    ///
    /// # Errors
    /// `NotFound` when there is no file, else as [`Store::open`].
    pub fn open_existing(path: &Path, options: StoreOptions) -> Result<Self> {
        if path.exists() {
            return Self::open(path, options);
        }
        Err(Error::not_found(format!(
            "open store {}: there is no such file; `understudy serve` makes it",
            path.display()
        )))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Stores a trace. The future resolves once the row is committed.
    ///
    /// The trace is handed over by the call itself: it is written even if the future is dropped.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full; `Unavailable`, with the remedy, when the disk refuses; `Internal` when a
    /// row with this id exists. In every case nothing is stored, and later rows are tried afresh.
    pub fn record(&self, trace: Trace) -> impl Future<Output = Result<()>> + Send + use<> {
        self.enqueue(Job::Record(Box::new(trace.into())))
    }

    /// Told whenever audits were attached, by this process: the value counts them.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.audits.subscribe()
    }

    /// Grows whenever a deployment or a certificate changes, in whatever process. Cheap to poll.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn generation(&self) -> Result<u64> {
        self.read("read the store's generation", |connection| {
            let sql = "SELECT value FROM meta WHERE key = 'generation'";
            connection.prepare_cached(sql)?.query_row([], |row| Ok(row::count(row, 0)?.unwrap_or(0)))
        })
        .await
    }

    /// Reads the whole file and checks its structure. Slow on a large one.
    ///
    /// # Errors
    /// `Data` naming the first fault.
    pub async fn check(&self) -> Result<()> {
        let found: String = self
            .read("check the store", |connection| {
                connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            })
            .await?;
        if found == "ok" {
            return Ok(());
        }
        Err(Error::data(format!("check store {}: {found}; restore it from a backup", self.path().display())))
    }

    /// Queues a job for the writer.
    fn enqueue(&self, job: Job) -> impl Future<Output = Result<()>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.shared.jobs.as_ref().expect("taken only when the last handle is dropped");
        let queued = jobs.try_send(Queued { job, reply }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Error::new(
                ErrorKind::Overloaded,
                "write to the store: the disk does not keep up and the queue is full; try again in a second",
            )
            .with_retry_after(1),
            mpsc::error::TrySendError::Closed(_) => ended(),
        });
        async move {
            queued?;
            answer.await.unwrap_or_else(|_| Err(ended()))
        }
    }

    /// Runs a query on a read connection, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.read(what, query))
            .await
            .map_err(|e| Error::internal(format!("{what}: {e}")))?
    }
}

impl Shared {
    fn read<T>(&self, what: &str, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| schema::open_reader(&self.path), Ok)?;
        let found = query(&connection).map_err(|e| fault::using(what, &self.path, &e))?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        Ok(found)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The writer ends when its queue is closed and empty.
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn ended() -> Error {
    Error::internal("write to the store: its writer has ended; restart the process and look at its log")
}
