//! Where a small model goes wrong, on recorded outcomes: confusions, answers outside the labels, prompts on which even
//! the models disagree, slices with more errors than the rest, labels that are probably wrong themselves.
//!
//! Refuses IO and the clock. Callers: `understudy pilot errors` and the report.

pub mod ambiguous;
pub mod clusters;
pub mod labels;
pub mod slices;

use crate::{items::RIGHT, metrics::Metric};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use understudy_core::{Error, Outcome, RecordedAnswer, Result, Seed};

/// What to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The model whose errors are looked at.
    pub small: String,
    /// The model beside it.
    pub large: Option<String>,
    /// The allowed labels; empty takes the gold labels that occur.
    pub labels: Vec<String>,
    /// Expected share of false alarms among the slices reported as worse.
    pub false_discovery: f64,
    /// Examples in each list.
    pub examples: usize,
    /// Seed of the clusters.
    pub seed: Seed,
}

/// A true label and the wrong answer given for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confused {
    /// The gold label.
    pub label: String,
    /// What the model answered.
    pub answer: String,
    /// How often.
    pub count: u64,
    /// Share of the label's rows.
    pub share: Metric,
    /// How often the large model made the same mistake; `None` without one.
    pub large: Option<u64>,
}

/// An answer that is no label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Invented {
    /// The answer.
    pub answer: String,
    /// How often the small model gave it.
    pub count: u64,
    /// Some of the rows.
    pub ids: Vec<String>,
}

/// One row on which the small model is wrong, with both answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The row.
    pub id: String,
    /// Its prompt, cut.
    pub prompt: String,
    /// Gold label, where there is one.
    pub label: Option<String>,
    /// The small model's answer.
    pub small: Option<String>,
    /// How sure it was.
    pub small_score: Option<f64>,
    /// The large model's answer.
    pub large: Option<String>,
    /// Whether that one is right.
    pub large_right: Option<bool>,
}

/// Everything found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The model looked at.
    pub small: String,
    /// The one beside it.
    pub large: Option<String>,
    /// Share of rows on which the small model is wrong.
    pub errors: Metric,
    /// The same for the large one, over the rows that it answered too.
    pub errors_large: Option<Metric>,
    /// Most frequent first.
    pub confusions: Vec<Confused>,
    /// Share of the small model's answers that are no label; `None` without labels.
    pub invented_share: Option<Metric>,
    /// Most frequent first.
    pub invented: Vec<Invented>,
    /// Prompts without a clear answer.
    pub ambiguous: Vec<ambiguous::Ambiguous>,
    /// Slices, those with the surest excess of errors first.
    pub slices: Vec<slices::Slice>,
    /// Labels that are probably wrong; `None` where there are too few models or labels to tell.
    pub label_errors: Option<labels::LabelErrors>,
    /// Rows that the large model gets right and the small one does not, those it was surest about first; without a
    /// large model, all its errors.
    pub examples: Vec<Example>,
}

/// One row as the parts of the report see it.
pub(crate) struct Row<'a> {
    pub(crate) outcome: &'a Outcome,
    pub(crate) small: &'a RecordedAnswer,
    pub(crate) large: Option<&'a RecordedAnswer>,
    pub(crate) wrong: bool,
    pub(crate) large_wrong: Option<bool>,
}

/// Looks.
///
/// # Errors
/// `NotFound` when a model is not in the outcomes; `Data` when the small model has neither qualities nor, beside labels,
/// answers.
pub fn report(outcomes: &[Outcome], options: &Options) -> Result<Report> {
    let rows = rows(outcomes, &options.small, options.large.as_deref())?;
    let wrong = rows.iter().filter(|row| row.wrong).count() as u64;
    let large: Vec<bool> = rows.iter().filter_map(|row| row.large_wrong).collect();
    let allowed = allowed_labels(&rows, &options.labels);
    let answered = rows.iter().filter(|row| row.small.answer.is_some()).count() as u64;
    let all_invented = invented(&rows, &allowed, options.examples);
    let outside = all_invented.iter().map(|i| i.count).sum();
    Ok(Report {
        small: options.small.clone(),
        large: options.large.clone(),
        errors: Metric::share(wrong, rows.len() as u64).ok_or_else(|| unusable(&options.small))?,
        errors_large: Metric::share(large.iter().filter(|w| **w).count() as u64, large.len() as u64),
        confusions: confusions(&rows),
        invented_share: if allowed.is_empty() { None } else { Metric::share(outside, answered) },
        invented: all_invented,
        ambiguous: ambiguous::find(&rows, options.examples),
        slices: slices::find(&rows, options.false_discovery, options.seed),
        label_errors: labels::find(outcomes, options.examples),
        examples: examples(&rows, options.examples),
    })
}

fn unusable(model: &str) -> Error {
    let what = format!("look at the errors of `{model}`: no row has a quality of it, or a label and its answer");
    Error::data(format!("{what}; record one of the two"))
}

/// The rows that the small model answered and of which it is known whether it was right.
fn rows<'a>(outcomes: &'a [Outcome], small: &str, large: Option<&str>) -> Result<Vec<Row<'a>>> {
    for model in std::iter::once(small).chain(large) {
        if !outcomes.iter().any(|o| o.models.contains_key(model)) {
            let known: BTreeSet<&str> = outcomes.iter().flat_map(|o| o.models.keys().map(String::as_str)).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::not_found(format!("find model `{model}` in the outcomes: they have {known}")));
        }
    }
    let row = |outcome: &'a Outcome| {
        let small = outcome.models.get(small)?;
        let large = large.and_then(|name| outcome.models.get(name));
        Some(Row {
            outcome,
            small,
            large,
            wrong: wrong(outcome, small)?,
            large_wrong: large.and_then(|answer| wrong(outcome, answer)),
        })
    };
    let rows: Vec<Row<'a>> = outcomes.iter().filter_map(row).collect();
    if rows.is_empty() { Err(unusable(small)) } else { Ok(rows) }
}

/// Whether an answer is wrong: by its quality, else by the label.
fn wrong(outcome: &Outcome, answer: &RecordedAnswer) -> Option<bool> {
    let by_label = || Some(normal(answer.answer.as_deref()?) != normal(outcome.label.as_deref()?));
    answer.quality.map(|quality| quality < RIGHT).or_else(by_label)
}

/// The form in which answers and labels are compared.
pub(crate) fn normal(text: &str) -> String {
    text.trim().to_lowercase()
}

fn allowed_labels(rows: &[Row<'_>], given: &[String]) -> BTreeSet<String> {
    let gold = rows.iter().filter_map(|row| row.outcome.label.as_deref());
    if given.is_empty() { gold.map(normal).collect() } else { given.iter().map(|label| normal(label)).collect() }
}

/// Label and answer of one model on every row where it is wrong and both are known.
fn mistakes<'a>(
    rows: &'a [Row<'_>],
    of: impl Fn(&'a Row<'_>) -> Option<(&'a RecordedAnswer, bool)>,
) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        if let (Some((answer, true)), Some(label)) = (of(row), row.outcome.label.as_deref())
            && let Some(answer) = answer.answer.as_deref()
        {
            *counts.entry((normal(label), normal(answer))).or_default() += 1;
        }
    }
    counts
}

fn confusions(rows: &[Row<'_>]) -> Vec<Confused> {
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    rows.iter().filter_map(|r| r.outcome.label.as_deref()).for_each(|l| *totals.entry(normal(l)).or_default() += 1);
    let large = mistakes(rows, |row| Some((row.large?, row.large_wrong?)));
    let has_large = rows.iter().any(|row| row.large.is_some());
    let mut found: Vec<Confused> = mistakes(rows, |row| Some((row.small, row.wrong)))
        .into_iter()
        .filter_map(|((label, answer), count)| {
            let share = Metric::wilson(count, totals[&label])?;
            let large = has_large.then(|| large.get(&(label.clone(), answer.clone())).copied().unwrap_or(0));
            Some(Confused { label, answer, count, share, large })
        })
        .collect();
    found.sort_by_key(|confused| std::cmp::Reverse(confused.count));
    found
}

fn invented(rows: &[Row<'_>], allowed: &BTreeSet<String>, examples: usize) -> Vec<Invented> {
    let mut found: BTreeMap<String, (u64, Vec<String>)> = BTreeMap::new();
    if allowed.is_empty() {
        return Vec::new();
    }
    for row in rows {
        let Some(answer) = row.small.answer.as_deref().map(normal) else { continue };
        if !allowed.contains(&answer) {
            let (count, ids) = found.entry(answer).or_default();
            *count += 1;
            if ids.len() < examples {
                ids.push(row.outcome.id.clone());
            }
        }
    }
    let mut found: Vec<Invented> =
        found.into_iter().map(|(answer, (count, ids))| Invented { answer, count, ids }).collect();
    found.sort_by_key(|invented| std::cmp::Reverse(invented.count));
    found
}

fn examples(rows: &[Row<'_>], most: usize) -> Vec<Example> {
    let has_large = rows.iter().any(|row| row.large_wrong.is_some());
    let mut errors: Vec<&Row<'_>> =
        rows.iter().filter(|row| row.wrong && (!has_large || row.large_wrong == Some(false))).collect();
    errors.sort_by(|a, b| b.small.score().unwrap_or(0.0).total_cmp(&a.small.score().unwrap_or(0.0)));
    errors.into_iter().take(most).map(example).collect()
}

fn example(row: &Row<'_>) -> Example {
    let text = |answer: &RecordedAnswer| answer.answer.as_deref().or(answer.text.as_deref()).map(|t| cut(t, 200));
    Example {
        id: row.outcome.id.clone(),
        prompt: cut(&row.outcome.prompt, 400),
        label: row.outcome.label.clone(),
        small: text(row.small),
        small_score: row.small.score(),
        large: row.large.and_then(text),
        large_right: row.large_wrong.map(|wrong| !wrong),
    }
}

/// The first `most` characters, with an ellipsis where more follow.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
