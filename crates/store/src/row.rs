//! A trace as a row and back.

use crate::{
    fault::unreadable,
    trace::{Call, Ending, Route, Trace},
    writer::{Fault, Group},
};
use rusqlite::{Connection, OptionalExtension, named_params};
use understudy_core::{Confidence, Error, Money, TaskName, Timestamp, TraceId, task::Mode};

/// The columns that [`read`] expects, in its order.
pub(crate) const COLUMNS: &str = "id, at, api, asked, task, mode, route, reason, certificate, threshold, \
     audit_probability, audited, agreed, gold, streamed, ending, status, error, queue_us, first_byte_us, total_us, \
     input, request, input_hash, small_call, large_call, audit_call, confidence";

const INSERT: &str = "INSERT INTO trace (id, at, api, asked, task, mode, route, reason, small, small_hash, confidence, \
     large, certificate, threshold, audit_probability, audited, agreed, gold, streamed, ending, status, error, \
     queue_us, first_byte_us, total_us, input, request, input_hash, small_call, large_call, audit_call, input_tokens, \
     output_tokens, cost_nanos, audit_seq, evidence) VALUES (:id, :at, :api, :asked, :task, :mode, :route, :reason, \
     :small, :small_hash, :confidence, :large, :certificate, :threshold, :audit_probability, :audited, :agreed, :gold, \
     :streamed, :ending, :status, :error, :queue_us, :first_byte_us, :total_us, :input, :request, :input_hash, \
     :small_call, :large_call, :audit_call, :input_tokens, :output_tokens, :cost_nanos, :audit_seq, :evidence)";

/// A trace ready to be inserted: its JSON is made on the caller's thread, not on the writer's.
pub(crate) struct Row {
    trace: Trace,
    small_call: Option<String>,
    large_call: Option<String>,
    audit_call: Option<String>,
}

impl From<Trace> for Row {
    fn from(trace: Trace) -> Self {
        let [small_call, large_call, audit_call] =
            [&trace.small, &trace.large, &trace.audit].map(|call| call.as_ref().map(call_json));
        Self { trace, small_call, large_call, audit_call }
    }
}

/// A call as JSON.
pub(crate) fn call_json(call: &Call) -> String {
    serde_json::to_string(call).expect("a call is plain data")
}

/// SQLite's integers are signed; a count that does not fit is not a count.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What follows from the calls of a trace, and changes when an audit arrives.
pub(crate) struct Derived {
    small: Option<String>,
    small_hash: Option<String>,
    confidence: Option<f64>,
    large: Option<String>,
    input_tokens: i64,
    output_tokens: i64,
    cost_nanos: Option<i64>,
}

impl Derived {
    fn of(trace: &Trace) -> Self {
        let (small, large) = (trace.small_part(), trace.large_part());
        let calls = || [&trace.small, &trace.large, &trace.audit].into_iter().flatten();
        Self {
            small: small.map(|call| call.model.to_string()),
            small_hash: small.and_then(|call| call.artifact.clone()),
            confidence: small.and_then(|call| call.confidence).map(Confidence::get),
            large: large.map(|call| call.model.to_string()),
            input_tokens: int(calls().map(|call| call.usage.input_tokens).sum()),
            output_tokens: int(calls().map(|call| call.usage.output_tokens).sum()),
            cost_nanos: trace.cost().map(Money::nanos),
        }
    }
}

impl Row {
    /// Inserts the row; a second row of the same id is refused.
    pub(crate) fn insert(self, connection: &Connection, group: &mut Group) -> Result<(), Fault> {
        let Self { trace, small_call, large_call, audit_call } = self;
        let derived = Derived::of(&trace);
        // Evidence about a certificate are the requests on which its gate decided.
        let evidence = trace.certificate.is_some() && matches!(trace.route, Route::Local | Route::Escalated);
        // An escalated request has the large model's answer already; only a kept one waits for it.
        let awaited = trace.audited && trace.route == Route::Local && trace.audit.is_none();
        let is_final = evidence && !awaited;
        let id = trace.id.to_string();
        let insert = |audit_seq: Option<i64>| {
            connection.prepare_cached(INSERT)?.execute(named_params! {
                ":id": id,
                ":at": trace.at.0,
                ":api": trace.api,
                ":asked": trace.asked.as_str(),
                ":task": trace.task.as_ref().map(TaskName::as_str),
                ":mode": trace.mode.map(Mode::as_str),
                ":route": trace.route.as_str(),
                ":reason": trace.reason,
                ":small": derived.small,
                ":small_hash": derived.small_hash,
                ":confidence": derived.confidence,
                ":large": derived.large,
                ":certificate": trace.certificate,
                ":threshold": trace.threshold.map(Confidence::get),
                ":audit_probability": trace.audit_probability,
                ":audited": trace.audited,
                ":agreed": trace.agreed,
                ":gold": trace.gold,
                ":streamed": trace.streamed,
                ":ending": trace.ending.as_str(),
                ":status": trace.status,
                ":error": trace.error,
                ":queue_us": int(trace.queue_us),
                ":first_byte_us": trace.first_byte_us.map(int),
                ":total_us": int(trace.total_us),
                ":input": trace.input,
                ":request": trace.request,
                ":input_hash": trace.input_hash,
                ":small_call": small_call,
                ":large_call": large_call,
                ":audit_call": audit_call,
                ":input_tokens": derived.input_tokens,
                ":output_tokens": derived.output_tokens,
                ":cost_nanos": derived.cost_nanos,
                ":audit_seq": audit_seq,
                ":evidence": evidence,
            })
        };
        match insert(is_final.then(|| group.next_audit_seq())) {
            Ok(_) => Ok(()),
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                Err(Error::internal(format!("record trace {id}: a row with this id exists already ({e})")).into())
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Writes the audit, and everything that depends on it, into the row.
pub(crate) fn update_audit(connection: &Connection, trace: &Trace, audit_seq: Option<i64>) -> rusqlite::Result<()> {
    let derived = Derived::of(trace);
    let sql = "UPDATE trace SET audit_call = :audit, agreed = :agreed, small = :small, small_hash = :small_hash, \
         confidence = :confidence, large = :large, input_tokens = :input_tokens, output_tokens = :output_tokens, \
         cost_nanos = :cost_nanos, audit_seq = :audit_seq WHERE id = :id";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":audit": trace.audit.as_ref().map(call_json),
        ":agreed": trace.agreed,
        ":small": derived.small,
        ":small_hash": derived.small_hash,
        ":confidence": derived.confidence,
        ":large": derived.large,
        ":input_tokens": derived.input_tokens,
        ":output_tokens": derived.output_tokens,
        ":cost_nanos": derived.cost_nanos,
        ":audit_seq": audit_seq,
        ":id": trace.id.to_string(),
    })?;
    Ok(())
}

/// The row of `id`.
pub(crate) fn find(connection: &Connection, id: TraceId) -> rusqlite::Result<Option<Trace>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM trace WHERE id = ?1"))?
        .query_row([id.to_string()], read)
        .optional()
}

/// Reads a row that selects [`COLUMNS`].
pub(crate) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Trace> {
    let confidence = probability(row, 27)?;
    let mut trace = Trace {
        id: trace_id(row, 0)?,
        at: Timestamp(row.get(1)?),
        api: row.get(2)?,
        asked: row.get_ref(3)?.as_str()?.into(),
        task: row.get_ref(4)?.as_str_or_null()?.map(TaskName::from),
        mode: named(row, 5, mode)?,
        route: named(row, 6, Route::parse)?.ok_or_else(|| unreadable(6, "no route"))?,
        reason: row.get(7)?,
        certificate: row.get(8)?,
        threshold: probability(row, 9)?,
        audit_probability: row.get(10)?,
        audited: row.get(11)?,
        agreed: row.get(12)?,
        gold: row.get(13)?,
        streamed: row.get(14)?,
        ending: named(row, 15, Ending::parse)?.ok_or_else(|| unreadable(15, "no ending"))?,
        status: row.get(16)?,
        error: row.get(17)?,
        queue_us: count(row, 18)?.unwrap_or(0),
        first_byte_us: count(row, 19)?,
        total_us: count(row, 20)?.unwrap_or(0),
        input: row.get(21)?,
        request: row.get(22)?,
        input_hash: row.get(23)?,
        small: call(row, 24)?,
        large: call(row, 25)?,
        audit: call(row, 26)?,
    };
    // The column has the exact bits; decimal text may be off in the last one.
    let small = match (&mut trace.small, &trace.large, &mut trace.audit) {
        (Some(small), _, _) => Some(small),
        (None, Some(_), Some(audit)) => Some(audit),
        _ => None,
    };
    if let Some(small) = small {
        small.confidence = confidence;
    }
    Ok(trace)
}

/// Reads a trace id.
pub(crate) fn trace_id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<TraceId> {
    TraceId::parse(row.get_ref(column)?.as_str()?).map_err(|e| unreadable(column, e))
}

/// Reads a call.
pub(crate) fn call(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Call>> {
    let json = row.get_ref(column)?.as_str_or_null()?;
    json.map(|json| serde_json::from_str(json).map_err(|e| unreadable(column, e))).transpose()
}

/// Reads a confidence.
pub(crate) fn probability(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Confidence>> {
    row.get::<_, Option<f64>>(column)?.map(|p| Confidence::new(p).map_err(|e| unreadable(column, e))).transpose()
}

/// Reads a count.
pub(crate) fn count(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|n| u64::try_from(n).unwrap_or(0)))
}

/// Reads an enum by its name.
pub(crate) fn named<T>(
    row: &rusqlite::Row<'_>,
    column: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let name = row.get_ref(column)?.as_str_or_null()?;
    name.map(|name| parse(name).ok_or_else(|| unreadable(column, format!("unknown name `{name}`")))).transpose()
}

fn mode(name: &str) -> Option<Mode> {
    [Mode::Observe, Mode::Shadow, Mode::Live].into_iter().find(|mode| mode.as_str() == name)
}
