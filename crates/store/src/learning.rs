//! Traces as material for learning: a text and the label it should have.

use crate::{Call, Route, Store, row, trace::Trace};
use rusqlite::Connection;
use std::collections::HashMap;
use understudy_core::{Confidence, Result, TaskName, Timestamp, TraceId};

/// Where a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Feedback: a person or the application knows.
    Gold,
    /// The large model said so.
    Large,
}

/// One labelled text.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningRow {
    /// The request it comes from.
    pub id: TraceId,
    /// The text.
    pub input: String,
    /// SHA-256 of the text as it was before any redaction: the base of splits.
    pub input_hash: String,
    /// How many requests of the task with this text came before.
    pub occurrence: u32,
    /// The label it should have: gold where there is one, else the large model's.
    pub label: String,
    /// Where the label comes from.
    pub source: Source,
    /// When the request arrived.
    pub at: Timestamp,
    /// The way the request took.
    pub route: Route,
    /// Why it took it: `route`'s phrase.
    pub reason: String,
    /// The large model's label, where it is known.
    pub large_label: Option<String>,
    /// The large model, where it answered.
    pub large: Option<understudy_core::ModelName>,
    /// The small model's label, where it was asked.
    pub small_label: Option<String>,
    /// Its confidence.
    pub small_confidence: Option<Confidence>,
    /// Content hash of the small model's artifact.
    pub small_hash: Option<String>,
}

/// One request that the small model answered, whether its answer was the reply or not: material for estimates of
/// another threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRow {
    /// Content hash of the small model's artifact.
    pub small_hash: Option<String>,
    /// Content hash of the fitted gate that gave the confidence.
    pub gate: Option<String>,
    /// Its confidence.
    pub confidence: Option<Confidence>,
    /// Whether its answer was the reply.
    pub kept: bool,
    /// The probability with which a kept answer was to be audited; `None` for one that was not kept.
    pub audit_probability: Option<f64>,
    /// Whether the draw said so.
    pub audited: bool,
    /// Whether keeping the answer is a loss: regret where gold is known, else disagreement. `None` where the large
    /// model was not asked.
    pub lost: Option<bool>,
}

impl DecisionRow {
    fn of(trace: Trace) -> Option<Self> {
        let small = trace.small_part().filter(|call| call.error.is_none())?;
        let large = trace.large_part().filter(|call| call.error.is_none());
        let lost = large.and_then(|large| match (&small.label, &large.label, &trace.gold) {
            (own, Some(large), Some(gold)) => Some(own.as_ref() != Some(gold) && large == gold),
            (own, Some(large), None) => Some(own.as_ref() != Some(large)),
            // A label against an answer without one is a difference, as it is for audits; without any, texts are.
            (Some(_), None, _) => Some(true),
            (None, None, _) => Some(small.text.as_deref()?.trim() != large.text.as_deref()?.trim()),
        });
        Some(Self {
            small_hash: small.artifact.clone(),
            gate: small.gate.clone(),
            confidence: small.confidence,
            kept: trace.route == crate::Route::Local,
            audit_probability: trace.audit_probability,
            audited: trace.audited,
            lost,
        })
    }
}

impl LearningRow {
    fn of(trace: Trace, occurrence: u32) -> Option<Self> {
        let label = |call: Option<&crate::Call>| call.filter(|call| call.error.is_none()).and_then(|c| c.label.clone());
        let (small_label, large_label) = (label(trace.small_part()), label(trace.large_part()));
        let (label, source) = match (trace.gold.clone(), large_label.clone()) {
            (Some(gold), _) => (gold, Source::Gold),
            (None, Some(large)) => (large, Source::Large),
            (None, None) => return None,
        };
        let small = trace.small_part();
        Some(Self {
            id: trace.id,
            label,
            source,
            at: trace.at,
            route: trace.route,
            large_label,
            large: trace.large_part().map(|call| call.model.clone()),
            small_label,
            small_confidence: small.and_then(|call| call.confidence),
            small_hash: small.and_then(|call| call.artifact.clone()),
            reason: trace.reason,
            input_hash: trace.input_hash,
            occurrence,
            input: trace.input?,
        })
    }
}

/// One request that both models answered: a reply and its audit, both steps of an escalation, or a reply and its shadow.
#[derive(Debug, Clone, PartialEq)]
pub struct PairRow {
    /// The request.
    pub id: TraceId,
    /// The text.
    pub input: String,
    /// SHA-256 of the text as it was before any redaction.
    pub input_hash: String,
    /// How many requests of the task with this text came before.
    pub occurrence: u32,
    /// The small model's part.
    pub small: Call,
    /// The large model's part.
    pub large: Call,
    /// The right label, from feedback.
    pub gold: Option<String>,
    /// The way the request took.
    pub route: Route,
    /// The probability, fixed before the request, with which both were asked given what the small model answered:
    /// that of the audit for a kept answer, else 1. Above 0.
    pub probability: f64,
}

impl PairRow {
    fn of(mut trace: Trace, occurrence: u32) -> Option<Self> {
        let probability = match trace.route {
            Route::Local => trace.audit_probability.filter(|p| trace.audited && *p > 0.0)?,
            _ => 1.0,
        };
        let (small, large) = match (trace.small.take(), trace.large.take()) {
            (Some(small), Some(large)) => (small, large),
            (Some(small), None) => (small, trace.audit.take()?),
            (None, Some(large)) => (trace.audit.take()?, large),
            (None, None) => return None,
        };
        (small.error.is_none() && large.error.is_none()).then_some(())?;
        Some(Self {
            id: trace.id,
            input: trace.input?,
            input_hash: trace.input_hash,
            occurrence,
            small,
            large,
            gold: trace.gold,
            route: trace.route,
            probability,
        })
    }
}

impl Store {
    /// Every text of `task` whose label is known, oldest first. Requests whose text was dropped by policy are left
    /// out; equal texts are not merged.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn learning_rows(&self, task: &TaskName) -> Result<Vec<LearningRow>> {
        let task = task.to_string();
        self.read("read learning rows", move |connection| numbered(connection, &task, LearningRow::of)).await
    }

    /// Every request of `task` that both models answered and whose text was kept, oldest first.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn pair_rows(&self, task: &TaskName) -> Result<Vec<PairRow>> {
        let task = task.to_string();
        self.read("read answers of both models", move |connection| numbered(connection, &task, PairRow::of)).await
    }

    /// Every request of `task` that the small model answered, oldest first.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn decisions(&self, task: &TaskName) -> Result<Vec<DecisionRow>> {
        let task = task.to_string();
        self.read("read decisions", move |connection| {
            let columns = row::COLUMNS.replace(" request,", " NULL,");
            let sql = format!("SELECT {columns} FROM trace WHERE task = ?1 ORDER BY at, id");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([task], |row| row::read(row).map(DecisionRow::of))?;
            rows.filter_map(rusqlite::Result::transpose).collect()
        })
        .await
    }
}

/// Rows of a task whose text is known, oldest first, each with the number of earlier ones of the same text. All of them
/// are counted, whatever is then made of them: a row's number never changes.
fn numbered<T>(
    connection: &Connection,
    task: &str,
    make: impl Fn(Trace, u32) -> Option<T>,
) -> rusqlite::Result<Vec<T>> {
    // The messages are not needed, and they are most of a row.
    let columns = row::COLUMNS.replace(" request,", " NULL,");
    let sql = format!("SELECT {columns} FROM trace WHERE task = ?1 AND input IS NOT NULL ORDER BY at, id");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut seen: HashMap<String, u32> = HashMap::new();
    let rows = statement.query_map([task], row::read)?;
    rows.filter_map(|trace| {
        let trace = match trace {
            Ok(trace) => trace,
            Err(error) => return Some(Err(error)),
        };
        let before = seen.entry(trace.input_hash.clone()).or_insert(0);
        let occurrence = *before;
        *before += 1;
        make(trace, occurrence).map(Ok)
    })
    .collect()
}
