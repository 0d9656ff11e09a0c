//! Prompts that have no clear answer: both models unsure, the models split, or in agreement against the label.

use super::{Row, normal};
use crate::metrics::Metric;
use serde::Serialize;
use std::collections::BTreeMap;

/// Why a prompt counts as ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The confidence of both models is in the lowest fifth of each.
    BothUnsure,
    /// Of three or more recorded models, no answer has more than half.
    ModelsSplit,
    /// Both models give the same answer, and the label is another: an unclear prompt, or a wrong label.
    AgreedAgainstLabel,
}

/// One kind of ambiguity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ambiguous {
    /// The kind.
    pub reason: Reason,
    /// Share of the rows for which it could be told.
    pub share: Metric,
    /// The small model's errors among these prompts.
    pub errors: Option<Metric>,
    /// Its errors elsewhere.
    pub errors_elsewhere: Option<Metric>,
    /// Some of the rows.
    pub ids: Vec<String>,
}

/// Whether a row is of a kind; `None` where that cannot be told.
type Tell<'a> = Box<dyn Fn(usize) -> Option<bool> + 'a>;

/// Every kind that the records allow to tell.
pub(super) fn find(rows: &[Row<'_>], examples: usize) -> Vec<Ambiguous> {
    let unsure = lowest_fifths(rows);
    let kinds: [(Reason, Tell<'_>); 3] = [
        (Reason::BothUnsure, Box::new(|i| unsure.as_ref().and_then(|unsure| unsure[i]))),
        (Reason::ModelsSplit, Box::new(|i| split(&rows[i]))),
        (Reason::AgreedAgainstLabel, Box::new(|i| agreed_against_label(&rows[i]))),
    ];
    kinds.iter().filter_map(|(reason, holds)| summed(rows, *reason, holds, examples)).collect()
}

fn summed(
    rows: &[Row<'_>],
    reason: Reason,
    holds: &dyn Fn(usize) -> Option<bool>,
    examples: usize,
) -> Option<Ambiguous> {
    let told: Vec<(usize, bool)> = (0..rows.len()).filter_map(|i| Some((i, holds(i)?))).collect();
    let side = |wanted: bool| -> Vec<usize> { told.iter().filter(|(_, h)| *h == wanted).map(|(i, _)| *i).collect() };
    let (inside, outside) = (side(true), side(false));
    let errors = |rows_of: &[usize]| {
        Metric::wilson(rows_of.iter().filter(|&&i| rows[i].wrong).count() as u64, rows_of.len() as u64)
    };
    Some(Ambiguous {
        reason,
        share: Metric::wilson(inside.len() as u64, told.len() as u64)?,
        errors: errors(&inside),
        errors_elsewhere: errors(&outside),
        ids: inside.iter().take(examples).map(|&i| rows[i].outcome.id.clone()).collect(),
    })
}

/// For each row whether both scores are in their lowest fifth; `None` where a score is not known.
fn lowest_fifths(rows: &[Row<'_>]) -> Option<Vec<Option<bool>>> {
    let scores: Vec<Option<(f64, f64)>> =
        rows.iter().map(|row| Some((row.small.score()?, row.large?.score()?))).collect();
    let fifth = |of: fn((f64, f64)) -> f64| {
        let mut known: Vec<f64> = scores.iter().flatten().map(|pair| of(*pair)).collect();
        known.sort_by(f64::total_cmp);
        known.get(known.len() / 5).copied()
    };
    let (small, large) = (fifth(|pair| pair.0)?, fifth(|pair| pair.1)?);
    Some(scores.iter().map(|pair| pair.map(|(s, l)| s < small && l < large)).collect())
}

/// Whether the models' answers have no majority; `None` with fewer than three.
fn split(row: &Row<'_>) -> Option<bool> {
    let mut votes: BTreeMap<String, usize> = BTreeMap::new();
    let answers: Vec<&str> = row.outcome.models.values().filter_map(|a| a.answer.as_deref()).collect();
    answers.iter().for_each(|answer| *votes.entry(normal(answer)).or_default() += 1);
    let most = votes.values().max()?;
    (answers.len() > 2).then(|| 2 * most <= answers.len())
}

fn agreed_against_label(row: &Row<'_>) -> Option<bool> {
    let small = normal(row.small.answer.as_deref()?);
    let large = normal(row.large?.answer.as_deref()?);
    let label = normal(row.outcome.label.as_deref()?);
    Some(small == large && small != label)
}
