//! From rows as they were collected to rows that can train: redacted, without duplicates, contradictions, copies of
//! evaluation sets and classes too small to learn, divided by content. Everything that goes is listed with its reason.
//! Reads and writes no file. Caller: `adapt data`.

mod classes;
mod copies;

use crate::{
    Dataset, Row, Shares,
    clean::Conflict,
    doubts::{self, Doubts},
    leakage::leakage,
    redact::{self, Entity},
    split::{Part, part_of},
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use understudy_core::{Error, Result, Seed};

pub use classes::ClassCount;

/// Share of doubted labels from which the doubt falls on the classifier that has it.
const MOST_DOUBTED: f64 = 0.3;

/// What to do with rows that should not train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Say so and stop.
    Refuse,
    /// Leave them out, and list them.
    Drop,
}

/// What to do about labels that are probably wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelErrors {
    /// Do not look.
    Skip,
    /// List the candidates; the rows stay.
    List,
    /// Leave the candidates out.
    Drop,
}

/// Whether personal data is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redaction {
    /// By typed placeholders.
    Replace,
    /// Texts stay as they are.
    Keep,
}

/// How to prepare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preparation {
    /// Personal data.
    pub redaction: Redaction,
    /// Label errors.
    pub label_errors: LabelErrors,
    /// Rows that are in an evaluation set, or nearly.
    pub contaminated: Unfit,
    /// Rows that a class needs.
    pub least_per_class: usize,
    /// Classes with fewer.
    pub small_classes: Unfit,
    /// Shares of the parts.
    pub shares: Shares,
    /// Seed of the division and of the search for label errors.
    pub seed: Seed,
}

/// Why a row was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It has neither label nor answer.
    Unlabelled,
    /// An earlier row has the same text and label.
    Duplicate,
    /// Most rows of this text have another label.
    Outvoted,
    /// Rows of this text have different labels and none has most.
    Contradiction,
    /// An earlier row with the same label has nearly the same text.
    NearDuplicate,
    /// An evaluation set holds it, or nearly.
    Contaminated,
    /// Its label is probably wrong.
    LabelError,
    /// Its class has too few rows.
    SmallClass,
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The row.
    pub id: String,
    /// Its line in the file.
    pub line: usize,
    /// Why.
    pub reason: Reason,
    /// The other row, the file or the label that is the cause.
    pub because: String,
}

/// Rows that can train.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prepared {
    /// Rows to learn from.
    pub train: Vec<Row>,
    /// Rows to set thresholds and temperatures with.
    pub calibrate: Vec<Row>,
    /// Rows to measure with.
    pub test: Vec<Row>,
    /// Rows without label or answer: what could be labelled next.
    pub unlabelled: Vec<Row>,
    /// Everything that was left out, in the order of the steps.
    pub removed: Vec<Removed>,
    /// Texts with several labels.
    pub contradictions: Vec<Conflict>,
    /// Pairs of rows with nearly the same text and different labels, by id; both stay, in the same part.
    pub near_contradictions: Vec<(String, String)>,
    /// Doubtful labels, where they were looked for.
    pub doubts: Option<Doubts>,
    /// What was replaced, and how often.
    pub redacted: BTreeMap<Entity, usize>,
    /// Rows of each class in each part; empty where rows have answers and no labels.
    pub classes: Vec<ClassCount>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Prepared {
    /// The parts in their order.
    #[must_use]
    pub fn parts(&self) -> [(Part, &[Row]); 3] {
        [(Part::Train, &self.train), (Part::Calibrate, &self.calibrate), (Part::Test, &self.test)]
    }

    /// Rows left out for each reason.
    #[must_use]
    pub fn removed_by_reason(&self) -> BTreeMap<Reason, usize> {
        let mut counts = BTreeMap::new();
        self.removed.iter().for_each(|removed| *counts.entry(removed.reason).or_default() += 1);
        counts
    }
}

/// Prepares a data set. `against` are evaluation sets that it must not touch; `step` hears what is being done.
///
/// # Errors
/// `Data` when nothing has a label or an answer, there is only one class, labels are no classes, classes are too small
/// or evaluation sets are touched and the preparation refuses that.
pub fn prepare(data: Dataset, against: &[Dataset], how: &Preparation, step: &dyn Fn(&'static str)) -> Result<Prepared> {
    let name = data.name;
    let mut rows = data.rows;
    let mut prepared = Prepared::default();
    if how.redaction == Redaction::Replace {
        step("redacting");
        rows.iter_mut().for_each(|row| redact_row(row, &mut prepared.redacted));
    }
    let labelled = rows.iter().any(|row| row.label.is_some());
    let total = rows.len();
    let (mut rows, unlabelled): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| if labelled { row.label.is_some() } else { row.gold().is_some() });
    prepared.removed.extend(unlabelled.iter().map(|row| removed(row, Reason::Unlabelled, String::new())));
    prepared.unlabelled = unlabelled;
    if rows.is_empty() {
        return Err(Error::data(format!(
            "prepare {name}: none of its {total} rows has a label or an answer; --label or --reference names the field"
        )));
    }
    if labelled {
        classes::check_labels(&name, &rows, &mut prepared.warnings)?;
    }
    step("looking for duplicates");
    copies::exact(&mut rows, &mut prepared);
    step("looking for near duplicates");
    let anchors = copies::near(&mut rows, &mut prepared);
    if !against.is_empty() {
        step("comparing with evaluation sets");
        decontaminate(&name, &mut rows, against, how, &mut prepared)?;
    }
    if labelled && how.label_errors != LabelErrors::Skip {
        step("looking for wrong labels");
        prepared.doubts = doubts::find(&rows, how.seed);
        if let (LabelErrors::Drop, Some(found)) = (how.label_errors, &prepared.doubts) {
            if found.share.estimate > MOST_DOUBTED {
                return Err(Error::data(format!(
                    "prepare {name}: {} of {} labels are doubted, by a classifier on words that agrees with only {:.0} % of \
                     all: its doubts say nothing here; prepare without --drop-label-errors and look at them",
                    found.candidates.len(),
                    found.n,
                    100.0 * found.agreement.estimate
                )));
            }
            let doubted: BTreeMap<&str, &str> =
                found.candidates.iter().map(|d| (d.id.as_str(), d.suggested.as_str())).collect();
            let why = |row: &Row| doubted.get(row.id.as_str()).map(|s| (*s).to_owned());
            remove(&mut rows, Reason::LabelError, why, &mut prepared.removed);
        }
    }
    if labelled {
        classes::enough(&name, &mut rows, how, &mut prepared.removed)?;
    }
    if rows.is_empty() {
        return Err(Error::data(format!("prepare {name}: none of its {total} rows is left; see what was left out")));
    }
    step("dividing");
    for row in rows {
        let hash = anchors.get(&row.id).cloned().unwrap_or_else(|| row.content_hash());
        match part_of(&hash, how.shares, how.seed) {
            Part::Train => prepared.train.push(row),
            Part::Calibrate => prepared.calibrate.push(row),
            Part::Test => prepared.test.push(row),
        }
    }
    if labelled {
        prepared.classes = classes::count(&prepared);
        classes::warn(&mut prepared);
    }
    Ok(prepared)
}

/// Replaces personal data wherever a row has text; unread fields go.
fn redact_row(row: &mut Row, counts: &mut BTreeMap<Entity, usize>) {
    let mut clean = |text: &mut String| {
        let (new, found) = redact::redact(text);
        if !found.is_empty() {
            found.into_iter().for_each(|(entity, n)| *counts.entry(entity).or_default() += n);
            *text = new.into_owned();
        }
    };
    clean(&mut row.text);
    row.system.iter_mut().for_each(&mut clean);
    row.references.iter_mut().for_each(&mut clean);
    row.messages.iter_mut().for_each(|message| clean(&mut message.text));
    row.group.iter_mut().chain(&mut row.source).for_each(&mut clean);
    row.extra.clear();
    // An id that names a person is replaced by one that follows from the content.
    if !redact::find(&row.id).is_empty() && row.id.bytes().any(|byte| !byte.is_ascii_digit()) {
        row.id = format!("{}-{}", &row.content_hash()[..16], row.line);
    }
}

fn removed(row: &Row, reason: Reason, because: String) -> Removed {
    Removed { id: row.id.clone(), line: row.line, reason, because }
}

/// Leaves out the rows for which `why` gives a cause.
fn remove(rows: &mut Vec<Row>, reason: Reason, why: impl Fn(&Row) -> Option<String>, list: &mut Vec<Removed>) {
    rows.retain(|row| match why(row) {
        Some(because) => {
            list.push(removed(row, reason, because));
            false
        }
        None => true,
    });
}

fn decontaminate(
    name: &str,
    rows: &mut Vec<Row>,
    against: &[Dataset],
    how: &Preparation,
    prepared: &mut Prepared,
) -> Result<()> {
    let mut touched: BTreeMap<String, String> = BTreeMap::new();
    let (mut exact, mut near) = (0, 0);
    for set in against {
        let mut theirs = set.rows.clone();
        if how.redaction == Redaction::Replace {
            // A redacted text is compared with a redacted one.
            theirs.iter_mut().for_each(|row| redact_row(row, &mut BTreeMap::new()));
        }
        let found = leakage(&theirs, rows);
        exact += found.exact.len();
        near += found.near.len();
        for leaked in found.exact.iter().chain(&found.near) {
            let because = format!("{}:{}", set.name, theirs[leaked.train].id);
            touched.entry(rows[leaked.test].id.clone()).or_insert(because);
        }
    }
    if how.contaminated == Unfit::Refuse
        && let Some((id, there)) = touched.first_key_value()
    {
        let sets: BTreeSet<&str> = against.iter().map(|set| set.name.as_str()).collect();
        return Err(Error::data(format!(
            "prepare {name}: {exact} of its rows are also in {} and {near} more nearly are (row `{id}` is {there}): a model \
             trained on them would be measured on what it has seen; --drop-contaminated leaves them out",
            sets.into_iter().collect::<Vec<_>>().join(", ")
        )));
    }
    remove(rows, Reason::Contaminated, |row| touched.get(&row.id).cloned(), &mut prepared.removed);
    Ok(())
}

#[cfg(test)]
mod tests;
