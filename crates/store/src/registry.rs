//! Artifacts, and which of them is the small model of a task, now and at any time before.

use crate::{Store, fault::unreadable, writer::Job};
use rusqlite::{OptionalExtension, named_params};
use std::{future::Future, path::PathBuf};
use understudy_core::{Error, ModelName, Result, TaskName, Timestamp};

/// A small model that was made here.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactRecord {
    /// SHA-256 over its content.
    pub hash: String,
    /// Its name.
    pub name: ModelName,
    /// The task it was made for.
    pub task: Option<TaskName>,
    /// Where its files lie.
    pub path: PathBuf,
    /// The catalogue model it was made from.
    pub base: Option<String>,
    /// Hash of the artifact it was made from.
    pub parent: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// What was measured when it was made.
    pub metrics: serde_json::Value,
}

/// An artifact became the small model of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The task.
    pub task: TaskName,
    /// Hash of the artifact.
    pub artifact: String,
    /// Since when.
    pub at: Timestamp,
}

const ARTIFACT: &str = "SELECT hash, name, task, path, base, parent, created, metrics FROM artifact";

impl Store {
    /// Registers an artifact. The same content again replaces name, task, path and metrics.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn put_artifact(&self, artifact: ArtifactRecord) -> impl Future<Output = Result<()>> + Send + use<> {
        self.enqueue(Job::change(move |connection, _| {
            let sql = "INSERT INTO artifact (hash, name, task, path, base, parent, created, metrics) \
                 VALUES (:hash, :name, :task, :path, :base, :parent, :created, :metrics) \
                 ON CONFLICT (hash) DO UPDATE SET name = excluded.name, task = excluded.task, path = excluded.path, \
                 metrics = excluded.metrics";
            connection.prepare_cached(sql)?.execute(named_params! {
                ":hash": artifact.hash,
                ":name": artifact.name.as_str(),
                ":task": artifact.task.as_ref().map(TaskName::as_str),
                ":path": artifact.path.to_string_lossy(),
                ":base": artifact.base,
                ":parent": artifact.parent,
                ":created": artifact.created.0,
                ":metrics": artifact.metrics.to_string(),
            })?;
            Ok(())
        }))
    }

    /// The artifacts made for `task` (`None`: all), newest first.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn artifacts(&self, task: Option<&TaskName>) -> Result<Vec<ArtifactRecord>> {
        let task = task.map(ToString::to_string);
        self.read("list artifacts", move |connection| {
            let sql = format!("{ARTIFACT} WHERE ?1 IS NULL OR task = ?1 ORDER BY created DESC, rowid DESC");
            connection.prepare_cached(&sql)?.query_map([task], artifact)?.collect()
        })
        .await
    }

    /// The artifact with this content hash.
    ///
    /// # Errors
    /// `NotFound` without such an artifact; `Unavailable` or `Data` when the file cannot be read.
    pub async fn artifact(&self, hash: &str) -> Result<ArtifactRecord> {
        let wanted = hash.to_owned();
        let found = self
            .read("read an artifact", move |connection| {
                let sql = format!("{ARTIFACT} WHERE hash = ?1");
                connection.prepare_cached(&sql)?.query_row([wanted], artifact).optional()
            })
            .await?;
        found.ok_or_else(|| no_artifact(hash))
    }

    /// Makes an artifact the small model of a task. An older artifact again is a rollback: history only grows.
    ///
    /// # Errors
    /// `NotFound` when the artifact is not registered, else as [`Store::record`].
    pub fn deploy(
        &self,
        task: &TaskName,
        artifact: &str,
        at: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let (task, artifact) = (task.to_string(), artifact.to_owned());
        self.enqueue(Job::change(move |connection, _| {
            let known = connection.prepare_cached("SELECT 1 FROM artifact WHERE hash = ?1")?.exists([&artifact])?;
            if !known {
                return Err(no_artifact(&artifact).into());
            }
            let sql = "INSERT INTO deployment (task, artifact, at) VALUES (?1, ?2, ?3)";
            connection.prepare_cached(sql)?.execute((task, artifact, at.0))?;
            Ok(())
        }))
    }

    /// What is deployed for `task` now.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn deployment(&self, task: &TaskName) -> Result<Option<Deployment>> {
        self.deployment_at(task, Timestamp(i64::MAX)).await
    }

    /// What was deployed for `task` at `time`.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn deployment_at(&self, task: &TaskName, time: Timestamp) -> Result<Option<Deployment>> {
        let task = task.to_string();
        self.read("read a deployment", move |connection| {
            let sql = "SELECT task, artifact, at FROM deployment WHERE task = ?1 AND at <= ?2 \
                 ORDER BY at DESC, seq DESC LIMIT 1";
            connection.prepare_cached(sql)?.query_row((task, time.0), deployment).optional()
        })
        .await
    }

    /// Everything that was ever deployed for `task`, oldest first.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn deployments(&self, task: &TaskName) -> Result<Vec<Deployment>> {
        let task = task.to_string();
        self.read("list deployments", move |connection| {
            let sql = "SELECT task, artifact, at FROM deployment WHERE task = ?1 ORDER BY at, seq";
            connection.prepare_cached(sql)?.query_map([task], deployment)?.collect()
        })
        .await
    }
}

fn artifact(row: &rusqlite::Row<'_>) -> rusqlite::Result<ArtifactRecord> {
    let metrics = row.get_ref(7)?.as_str()?;
    Ok(ArtifactRecord {
        hash: row.get(0)?,
        name: row.get_ref(1)?.as_str()?.into(),
        task: row.get_ref(2)?.as_str_or_null()?.map(TaskName::from),
        path: row.get::<_, String>(3)?.into(),
        base: row.get(4)?,
        parent: row.get(5)?,
        created: Timestamp(row.get(6)?),
        metrics: serde_json::from_str(metrics).map_err(|e| unreadable(7, e))?,
    })
}

fn deployment(row: &rusqlite::Row<'_>) -> rusqlite::Result<Deployment> {
    Ok(Deployment { task: row.get_ref(0)?.as_str()?.into(), artifact: row.get(1)?, at: Timestamp(row.get(2)?) })
}

fn no_artifact(hash: &str) -> Error {
    Error::not_found(format!("find artifact {hash}: it is not registered; `understudy list` shows those that are"))
}
