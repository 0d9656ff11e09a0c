//! Traces as material for learning: a text and the label it should have.

use crate::{Store, row, trace::Trace};
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
    /// The label it should have: gold where there is one, else the large model's.
    pub label: String,
    /// Where the label comes from.
    pub source: Source,
    /// When the request arrived.
    pub at: Timestamp,
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
        let label = |call: Option<&crate::Call>| call.filter(|call| call.error.is_none()).and_then(|c| c.label.clone());
        let small = trace.small_part()?;
        let own = label(Some(small))?;
        let lost = label(trace.large_part()).map(|large| match &trace.gold {
            Some(gold) => own != *gold && large == *gold,
            None => own != large,
        });
        Some(Self {
            small_hash: small.artifact.clone(),
            confidence: small.confidence,
            kept: trace.route == crate::Route::Local,
            audit_probability: trace.audit_probability,
            audited: trace.audited,
            lost,
        })
    }
}

impl LearningRow {
    fn of(trace: Trace) -> Option<Self> {
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
            large_label,
            large: trace.large_part().map(|call| call.model.clone()),
            small_label,
            small_confidence: small.and_then(|call| call.confidence),
            small_hash: small.and_then(|call| call.artifact.clone()),
            input_hash: trace.input_hash,
            input: trace.input?,
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
        self.read("read learning rows", move |connection| {
            // The messages are not needed, and they are most of a row.
            let columns = row::COLUMNS.replace(" request,", " NULL,");
            let sql = format!("SELECT {columns} FROM trace WHERE task = ?1 AND input IS NOT NULL ORDER BY at, id");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([task], |row| row::read(row).map(LearningRow::of))?;
            rows.filter_map(rusqlite::Result::transpose).collect()
        })
        .await
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
