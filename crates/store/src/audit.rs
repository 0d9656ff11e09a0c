//! What arrives after a trace: audits, feedback, and the sequence of evidence about a certificate.

use crate::{
    Store,
    row::{self, call, count, named, trace_id},
    trace::{Call, Route},
    writer::Job,
};
use rusqlite::{Connection, OptionalExtension, named_params};
use std::future::Future;
use understudy_core::{Error, LossKind, Result, Timestamp, TraceId};

/// The other model's answer to an audited or shadowed request.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// The call; one that failed has its error label, and closes the audit without a verdict.
    pub call: Call,
    /// Whether small and large gave the same answer, when both are known.
    pub agreed: Option<bool>,
}

/// What a person or the application says about an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The right label.
    pub gold: Option<String>,
    /// Whether the answer was right. When it was and no gold label is given, the answer's label becomes gold.
    pub correct: Option<bool>,
    /// Free text.
    pub comment: Option<String>,
    /// When it arrived.
    pub at: Timestamp,
}

/// A request on which a certificate's gate decided, in its final state.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    /// Place in the sequence; the cursor of the next call.
    pub seq: u64,
    /// The request.
    pub id: TraceId,
    /// Whether the small model's answer was kept.
    pub kept: bool,
    /// Whether it was audited.
    pub audited: bool,
    /// The probability with which it was to be audited.
    pub audit_probability: Option<f64>,
    /// Whether the kept answer was a loss, by the certificate's kind of loss: `None` without an audit, or when the
    /// audit gave no verdict. A regret is known only with a gold label; until one is there, a disagreement, which is
    /// never fewer, stands for it.
    pub loss: Option<bool>,
}

/// New evidence about a certificate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuditSequence {
    /// In the order in which rows became final.
    pub rows: Vec<AuditRow>,
    /// Audited requests whose audit has not arrived.
    pub pending: u64,
}

impl Store {
    /// Adds the other model's answer to a trace.
    ///
    /// # Errors
    /// `NotFound` without such a trace; `Internal` when it has its audit already; else as [`Store::record`].
    pub fn attach_audit(&self, id: TraceId, audit: Audit) -> impl Future<Output = Result<()>> + Send + use<> {
        self.enqueue(Job::change(move |connection, group| {
            let mut trace = row::find(connection, id)?.ok_or_else(|| missing(id))?;
            if trace.audit.is_some() {
                return Err(Error::internal(format!("attach audit to trace {id}: it has one already")).into());
            }
            trace.agreed = audit.agreed.or(trace.agreed);
            trace.audit = Some(audit.call);
            let (evidence, seq): (bool, Option<i64>) = connection
                .prepare_cached("SELECT evidence, audit_seq FROM trace WHERE id = ?1")?
                .query_row([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            // A row that was final before (not drawn for an audit) keeps its place.
            let seq = seq.or_else(|| evidence.then(|| group.next_audit_seq()));
            row::update_audit(connection, &trace, seq)?;
            group.note_audit();
            Ok(())
        }))
    }

    /// Adds feedback to a trace. Later feedback replaces what it states.
    ///
    /// # Errors
    /// `NotFound` without such a trace, else as [`Store::record`].
    pub fn attach_feedback(&self, id: TraceId, feedback: Feedback) -> impl Future<Output = Result<()>> + Send + use<> {
        self.enqueue(Job::change(move |connection, _| {
            let trace = row::find(connection, id)?.ok_or_else(|| missing(id))?;
            let confirmed = || trace.reply().and_then(|call| call.label.clone());
            let gold = feedback.gold.or_else(|| if feedback.correct == Some(true) { confirmed() } else { None });
            let sql = "UPDATE trace SET gold = coalesce(:gold, gold), \
                 feedback_correct = coalesce(:correct, feedback_correct), \
                 feedback_comment = coalesce(:comment, feedback_comment), feedback_at = :at WHERE id = :id";
            connection.prepare_cached(sql)?.execute(named_params! {
                ":gold": gold,
                ":correct": feedback.correct,
                ":comment": feedback.comment,
                ":at": feedback.at.0,
                ":id": id.to_string(),
            })?;
            Ok(())
        }))
    }

    /// The feedback on a trace, if there is any.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn feedback(&self, id: TraceId) -> Result<Option<Feedback>> {
        self.read("read feedback", move |connection| {
            let sql = "SELECT gold, feedback_correct, feedback_comment, feedback_at FROM trace \
                 WHERE id = ?1 AND feedback_at IS NOT NULL";
            connection
                .prepare_cached(sql)?
                .query_row([id.to_string()], |row| {
                    Ok(Feedback {
                        gold: row.get(0)?,
                        correct: row.get(1)?,
                        comment: row.get(2)?,
                        at: Timestamp(row.get(3)?),
                    })
                })
                .optional()
        })
        .await
    }

    /// The evidence about a certificate that became final after place `after` (0: all of it): requests that took
    /// part in its gate's decision, each once, audited ones when their audit arrived. The order never changes.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn audit_sequence(&self, certificate: &str, after: u64) -> Result<AuditSequence> {
        let certificate = certificate.to_owned();
        self.read("read the audit sequence", move |connection| {
            // One read transaction: a row is either pending or in the sequence, never both or neither.
            let connection = connection.unchecked_transaction()?;
            let kind = loss_kind(&connection, &certificate)?;
            let sql = "SELECT audit_seq, id, route, audited, audit_probability, agreed, gold, \
                 CASE WHEN gold IS NULL THEN NULL ELSE small_call END, \
                 CASE WHEN gold IS NULL THEN NULL ELSE audit_call END \
                 FROM trace WHERE evidence = 1 AND certificate = ?1 AND audit_seq > ?2 ORDER BY audit_seq";
            let rows = connection
                .prepare_cached(sql)?
                .query_map((&certificate, row::int(after)), |row| audit_row(row, kind))?
                .collect::<rusqlite::Result<_>>()?;
            let sql = "SELECT count(*) FROM trace WHERE evidence = 1 AND certificate = ?1 AND audit_seq IS NULL";
            let pending =
                connection.prepare_cached(sql)?.query_row([&certificate], |row| Ok(count(row, 0)?.unwrap_or(0)))?;
            Ok(AuditSequence { rows, pending })
        })
        .await
    }
}

fn loss_kind(connection: &Connection, certificate: &str) -> rusqlite::Result<LossKind> {
    let kind: Option<String> = connection
        .prepare_cached("SELECT loss FROM certificate WHERE id = ?1")?
        .query_row([certificate], |row| row.get(0))
        .optional()?;
    Ok(if kind.as_deref() == Some("regret") { LossKind::Regret } else { LossKind::Disagreement })
}

fn audit_row(row: &rusqlite::Row<'_>, kind: LossKind) -> rusqlite::Result<AuditRow> {
    let kept = named(row, 2, Route::parse)? == Some(Route::Local);
    let audited: bool = row.get(3)?;
    let agreed: Option<bool> = row.get(5)?;
    let gold: Option<String> = row.get(6)?;
    let disagreed = agreed.map(|agreed| kept && !agreed);
    let loss = match (kind, gold) {
        (LossKind::Regret, Some(gold)) => {
            let label = |call: Option<Call>| call.and_then(|call| call.label);
            match (label(call(row, 7)?), label(call(row, 8)?)) {
                (Some(small), Some(large)) => Some(kept && small != gold && large == gold),
                _ => disagreed,
            }
        }
        _ => disagreed,
    };
    Ok(AuditRow {
        seq: count(row, 0)?.unwrap_or(0),
        id: trace_id(row, 1)?,
        kept,
        audited,
        audit_probability: row.get(4)?,
        loss: if audited { loss } else { None },
    })
}

pub(crate) fn missing(id: TraceId) -> Error {
    Error::not_found(format!("find trace {id}: there is no such trace; `understudy traces` lists them"))
}
