//! Classes: whether labels are some, whether each has enough rows, and where they went.

use super::{Preparation, Prepared, Reason, Removed, Unfit, remove};
use crate::Row;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Error, Result};

/// Rows of a class in each part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// The class.
    pub label: String,
    /// Rows to learn from.
    pub train: usize,
    /// Rows to calibrate with.
    pub calibrate: usize,
    /// Rows to measure with.
    pub test: usize,
}

impl ClassCount {
    /// Rows in all parts.
    #[must_use]
    pub fn total(&self) -> usize {
        self.train + self.calibrate + self.test
    }
}

/// Classes that an error names.
const NAMED: usize = 8;

fn counts(rows: &[Row]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    rows.iter().filter_map(|row| row.label.as_deref()).for_each(|label| *counts.entry(label).or_default() += 1);
    counts
}

/// Refuses labels that are no classes: measured numbers, free text.
pub(super) fn check_labels(name: &str, rows: &[Row], warnings: &mut Vec<String>) -> Result<()> {
    let counts = counts(rows);
    let (k, n) = (counts.len(), rows.len());
    let numbers: Vec<f64> = counts.keys().map_while(|label| label.parse().ok()).collect();
    let all_numbers = numbers.len() == k;
    let fractions = numbers.iter().any(|number: &f64| number.fract().abs() > 0.0);
    if all_numbers && (fractions && k > 20 || k > 2 && 5 * k > n.max(50)) {
        return Err(Error::data(format!(
            "prepare {name}: the labels are numbers with {k} different values in {n} rows, which is a measure and no class; \
             write bands (`low`, `high`) in their place, or name another field with --label"
        )));
    }
    if !all_numbers && k > 20 && 2 * k > n {
        return Err(Error::data(format!(
            "prepare {name}: {k} different labels in {n} rows are free text, not classes; name the field of classes with \
             --label, or this one with --reference to keep its texts as answers"
        )));
    }
    if all_numbers && k > 1 {
        let what = "the labels are numbers and are taken as names of classes; words would help models that read them";
        warnings.push(what.to_owned());
    }
    Ok(())
}

/// Refuses or leaves out classes with too few rows, and refuses fewer than two classes.
pub(super) fn enough(name: &str, rows: &mut Vec<Row>, how: &Preparation, list: &mut Vec<Removed>) -> Result<()> {
    let small: BTreeMap<String, usize> = counts(rows)
        .into_iter()
        .filter(|(_, n)| *n < how.least_per_class)
        .map(|(label, n)| (label.to_owned(), n))
        .collect();
    if how.small_classes == Unfit::Refuse && !small.is_empty() {
        let shown: Vec<String> = small.iter().take(NAMED).map(|(label, n)| format!("`{label}` ({n})")).collect();
        let more = small.len().saturating_sub(NAMED);
        return Err(Error::data(format!(
            "prepare {name}: {} classes have fewer than {} rows after cleaning: {}{}; collect more, merge them, leave them \
             out with --drop-small-classes, or lower --least-per-class",
            small.len(),
            how.least_per_class,
            shown.join(", "),
            if more > 0 { format!(" and {more} more") } else { String::new() }
        )));
    }
    let why = |row: &Row| small.get(row.label.as_deref()?).map(|n| format!("{n} rows"));
    remove(rows, Reason::SmallClass, why, list);
    let left = counts(rows);
    if left.len() < 2 {
        let which = left.keys().next().map_or("none".to_owned(), |label| format!("only `{label}`"));
        return Err(Error::data(format!(
            "prepare {name}: a classifier needs at least two classes, and {which} is left of {} rows",
            rows.len()
        )));
    }
    Ok(())
}

/// Rows of each class in each part, the largest class first.
pub(super) fn count(prepared: &Prepared) -> Vec<ClassCount> {
    let mut classes: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for (at, (_, rows)) in prepared.parts().into_iter().enumerate() {
        rows.iter().filter_map(|row| row.label.as_deref()).for_each(|label| classes.entry(label).or_default()[at] += 1);
    }
    let mut counts: Vec<ClassCount> = classes
        .into_iter()
        .map(|(label, [train, calibrate, test])| ClassCount { label: label.to_owned(), train, calibrate, test })
        .collect();
    counts.sort_by(|a, b| b.total().cmp(&a.total()).then_with(|| a.label.cmp(&b.label)));
    counts
}

/// Says where classes are out of balance or missing from a part.
pub(super) fn warn(prepared: &mut Prepared) {
    let none = prepared.classes.iter().filter(|class| class.train == 0).map(|class| format!("`{}`", class.label));
    let none: Vec<String> = none.collect();
    if !none.is_empty() {
        let what = format!("no row to learn from in class {}; collect more or change --seed", none.join(", "));
        prepared.warnings.push(what);
    }
    if let (Some(most), Some(least)) = (prepared.classes.first(), prepared.classes.last())
        && most.total() > 20 * least.total()
    {
        let (a, b) = (most.total(), least.total());
        let what = format!(
            "classes are out of balance: `{}` has {a} rows, `{}` {b}; weigh classes when training",
            most.label, least.label
        );
        prepared.warnings.push(what);
    }
}
