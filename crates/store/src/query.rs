//! Finding traces and adding them up.

use crate::{
    Store, audit,
    row::{self, count, named},
    trace::{Ending, Route, Trace},
};
use rusqlite::types::Value;
use std::collections::BTreeMap;
use understudy_core::{Confidence, ModelName, Money, Result, TaskName, Timestamp, TraceId};

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Latest arrival first.
    #[default]
    NewestFirst,
    /// Earliest arrival first.
    OldestFirst,
}

/// Which traces to list: every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TraceFilter {
    /// Of this task.
    pub task: Option<TaskName>,
    /// That took this way.
    pub route: Option<Route>,
    /// That ended like this.
    pub ending: Option<Ending>,
    /// In which this model took part, or for which the client asked.
    pub model: Option<ModelName>,
    /// That arrived at this time or later.
    pub since: Option<Timestamp>,
    /// That arrived before this time.
    pub until: Option<Timestamp>,
    /// Whose small model was at least this certain.
    pub min_confidence: Option<Confidence>,
    /// Whose small model was at most this certain.
    pub max_confidence: Option<Confidence>,
    /// That were drawn for an audit, or were not.
    pub audited: Option<bool>,
    /// In which small and large agreed, or did not.
    pub agreed: Option<bool>,
    /// Only those that ended in an error.
    pub errors_only: bool,
    /// Whose texts contain this (case matters only beyond ASCII).
    pub text: Option<String>,
    /// At most this many; `None`: all.
    pub limit: Option<u32>,
    /// That come after this trace in the order: the last one of the page before.
    pub after: Option<TraceId>,
    /// The order.
    pub order: Order,
}

/// What one route did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteStats {
    /// Requests.
    pub requests: u64,
    /// Sum of the known costs, audits included.
    pub cost: Money,
    /// Requests of unknown cost: `cost` is without them.
    pub unknown_cost: u64,
    /// Input tokens of all calls.
    pub input_tokens: u64,
    /// Output tokens of all calls.
    pub output_tokens: u64,
    /// Requests that did not end with a whole answer.
    pub failed: u64,
    /// Total times in microseconds, ascending: quantiles are the caller's.
    pub total_us: Vec<u64>,
}

/// Sums over the traces of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceStats {
    /// By the way they took.
    pub routes: BTreeMap<Route, RouteStats>,
    /// By their ending.
    pub endings: BTreeMap<Ending, u64>,
    /// Requests drawn for an audit.
    pub audited: u64,
    /// Requests in which small and large agreed.
    pub agreed: u64,
    /// Requests in which they did not.
    pub disagreed: u64,
}

impl TraceStats {
    /// All requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.routes.values().map(|route| route.requests).sum()
    }

    /// Sum of the known costs.
    #[must_use]
    pub fn cost(&self) -> Money {
        self.routes.values().map(|route| route.cost).sum()
    }

    /// Requests of unknown cost.
    #[must_use]
    pub fn unknown_cost(&self) -> u64 {
        self.routes.values().map(|route| route.unknown_cost).sum()
    }
}

impl Store {
    /// The traces that match `filter`.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn traces(&self, filter: &TraceFilter) -> Result<Vec<Trace>> {
        let (sql, values) = select(filter);
        self.read("list traces", move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_map(rusqlite::params_from_iter(values), row::read)?.collect()
        })
        .await
    }

    /// One trace.
    ///
    /// # Errors
    /// `NotFound` without such a trace; `Unavailable` or `Data` when the file cannot be read.
    pub async fn trace(&self, id: TraceId) -> Result<Trace> {
        let found = self.read("read a trace", move |connection| row::find(connection, id)).await?;
        found.ok_or_else(|| audit::missing(id))
    }

    /// Sums over the traces of `task` (`None`: of all) that arrived at `since` or later.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn stats(&self, task: Option<&TaskName>, since: Option<Timestamp>) -> Result<TraceStats> {
        let filter = TraceFilter { task: task.cloned(), since, ..TraceFilter::default() };
        self.read("add up traces", move |connection| {
            let (conditions, values) = conditions(&filter);
            let sql = format!(
                "SELECT route, ending, cost_nanos, input_tokens, output_tokens, audited, agreed, total_us \
                 FROM trace WHERE {conditions}"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(rusqlite::params_from_iter(values))?;
            let mut stats = TraceStats::default();
            while let Some(row) = rows.next()? {
                add(&mut stats, row)?;
            }
            stats.routes.values_mut().for_each(|route| route.total_us.sort_unstable());
            Ok(stats)
        })
        .await
    }
}

fn add(stats: &mut TraceStats, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
    let route = named(row, 0, Route::parse)?.unwrap_or(Route::None);
    let ending = named(row, 1, Ending::parse)?.unwrap_or(Ending::Failed);
    let part = stats.routes.entry(route).or_default();
    part.requests += 1;
    match row.get::<_, Option<i64>>(2)? {
        Some(nanos) => part.cost = part.cost + Money::from_nanos(nanos),
        None => part.unknown_cost += 1,
    }
    part.input_tokens += count(row, 3)?.unwrap_or(0);
    part.output_tokens += count(row, 4)?.unwrap_or(0);
    part.failed += u64::from(ending != Ending::Answered);
    part.total_us.push(count(row, 7)?.unwrap_or(0));
    *stats.endings.entry(ending).or_default() += 1;
    stats.audited += u64::from(row.get::<_, bool>(5)?);
    match row.get::<_, Option<bool>>(6)? {
        Some(true) => stats.agreed += 1,
        Some(false) => stats.disagreed += 1,
        None => {}
    }
    Ok(())
}

fn select(filter: &TraceFilter) -> (String, Vec<Value>) {
    let (conditions, mut values) = conditions(filter);
    let mut sql = format!("SELECT {} FROM trace WHERE {conditions}", row::COLUMNS);
    let (compare, direction) = match filter.order {
        Order::NewestFirst => ("<", "DESC"),
        Order::OldestFirst => (">", "ASC"),
    };
    if let Some(after) = filter.after {
        values.push(after.to_string().into());
        sql += &format!(" AND (at, id) {compare} (SELECT at, id FROM trace WHERE id = ?{})", values.len());
    }
    sql += &format!(" ORDER BY at {direction}, id {direction}");
    if let Some(limit) = filter.limit {
        values.push(i64::from(limit).into());
        sql += &format!(" LIMIT ?{}", values.len());
    }
    (sql, values)
}

/// The conditions, and the values that they bind, in order.
fn conditions(filter: &TraceFilter) -> (String, Vec<Value>) {
    let mut sql = vec!["1".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    // `#` in a condition stands for the number of its value.
    let mut given = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            values.push(value);
            sql.push(condition.replace('#', &format!("?{}", values.len())));
        }
    };
    let name = |name: &str| Value::from(name.to_owned());
    given("task = #", filter.task.as_ref().map(|task| name(task.as_str())));
    given("route = #", filter.route.map(|route| name(route.as_str())));
    given("ending = #", filter.ending.map(|ending| name(ending.as_str())));
    given("# IN (asked, small, large)", filter.model.as_ref().map(|model| name(model.as_str())));
    given("at >= #", filter.since.map(|at| at.0.into()));
    given("at < #", filter.until.map(|at| at.0.into()));
    given("confidence >= #", filter.min_confidence.map(|p| p.get().into()));
    given("confidence <= #", filter.max_confidence.map(|p| p.get().into()));
    given("audited = #", filter.audited.map(|audited| i64::from(audited).into()));
    given("agreed = #", filter.agreed.map(|agreed| i64::from(agreed).into()));
    let contains = |text: &str| {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        Value::from(format!("%{escaped}%"))
    };
    given(
        "(input LIKE # ESCAPE '\\' OR request LIKE # ESCAPE '\\' OR small_call ->> 'text' LIKE # ESCAPE '\\' \
         OR large_call ->> 'text' LIKE # ESCAPE '\\')",
        filter.text.as_deref().map(contains),
    );
    if filter.errors_only {
        sql.push("error IS NOT NULL".into());
    }
    (sql.join(" AND "), values)
}
