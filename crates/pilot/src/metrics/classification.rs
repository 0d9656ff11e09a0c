//! Labels against labels: confusion matrix and what follows from it, in scikit-learn's conventions (a quotient 0/0 of
//! precision, recall or F1 counts as 0; averages run over every label that occurs as truth or as prediction).

pub mod ranking;

use super::Metric;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use understudy_core::Seed;

pub use ranking::{Operating, Roc, average_precision, recall_at_fpr, roc_auc, roc_curve};

/// The prediction to count where a model gave none that could be read: wrong, and a row of its own in the tables.
pub const NO_ANSWER: &str = "(no answer)";

/// How often each label was predicted for each true label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Every label that occurs, in the order of its characters.
    pub labels: Vec<String>,
    /// `counts[truth][predicted]`.
    pub counts: Vec<Vec<u64>>,
}

/// One label's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// The label.
    pub label: String,
    /// Of the items given this label, the share that has it.
    pub precision: f64,
    /// Of the items that have this label, the share given it.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Items that have this label.
    pub support: u64,
    /// Wilson interval of the recall; `None` without support.
    pub recall_interval: Option<(f64, f64)>,
}

impl Confusion {
    /// Counts pairs of truth and prediction.
    ///
    /// # Panics
    /// When the slices differ in length.
    #[must_use]
    pub fn new<S: AsRef<str>, P: AsRef<str>>(truth: &[S], predicted: &[P]) -> Self {
        assert_eq!(truth.len(), predicted.len(), "one prediction for each truth");
        let (labels, pairs) = indexed(truth, predicted);
        let counts = counted(labels.len(), pairs.iter().copied());
        Self { labels, counts }
    }

    /// Items.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Items on the diagonal.
    #[must_use]
    pub fn right(&self) -> u64 {
        (0..self.labels.len()).map(|i| self.counts[i][i]).sum()
    }

    /// Precision, recall, F1 and support of each label, in the order of [`Confusion::labels`].
    #[must_use]
    pub fn classes(&self) -> Vec<ClassScore> {
        let of = |(i, label): (usize, &String)| {
            let (hit, support, predicted) = self.class(i);
            let wilson = Metric::wilson(hit, support);
            ClassScore {
                label: label.clone(),
                precision: ratio(hit, predicted),
                recall: ratio(hit, support),
                f1: ratio(2 * hit, support + predicted),
                support,
                recall_interval: wilson.map(|w| (w.low, w.high)),
            }
        };
        self.labels.iter().enumerate().map(of).collect()
    }

    /// (items right, items that have label i, items given label i).
    fn class(&self, i: usize) -> (u64, u64, u64) {
        (self.counts[i][i], self.counts[i].iter().sum(), self.counts.iter().map(|row| row[i]).sum())
    }

    /// Share right; NaN without items.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.right() as f64 / self.n() as f64
    }

    /// Mean F1 over the labels that occur (as truth or prediction); NaN without items.
    #[must_use]
    pub fn macro_f1(&self) -> f64 {
        let occurring = (0..self.labels.len()).map(|i| self.class(i)).filter(|&(_, s, p)| s + p > 0);
        let (sum, count) = occurring
            .fold((0.0, 0_u64), |(sum, count), (hit, s, p)| (sum + 2.0 * hit as f64 / (s + p) as f64, count + 1));
        sum / count as f64
    }

    /// F1 averaged with the labels' supports as weights; NaN without items.
    #[must_use]
    pub fn weighted_f1(&self) -> f64 {
        let weighted = |i| {
            let (hit, support, predicted) = self.class(i);
            support as f64 * ratio(2 * hit, support + predicted)
        };
        (0..self.labels.len()).map(weighted).sum::<f64>() / self.n() as f64
    }

    /// Mean recall over the labels that occur as truth; NaN without items.
    #[must_use]
    pub fn balanced_accuracy(&self) -> f64 {
        let recalls: Vec<f64> = (0..self.labels.len())
            .map(|i| self.class(i))
            .filter(|&(_, support, _)| support > 0)
            .map(|(hit, support, _)| hit as f64 / support as f64)
            .collect();
        recalls.iter().sum::<f64>() / recalls.len() as f64
    }

    /// Cohen's kappa: agreement beyond chance. NaN where chance alone explains everything (one label on both sides).
    #[must_use]
    pub fn kappa(&self) -> f64 {
        let n = self.n() as f64;
        let by_chance = |i| {
            let (_, support, predicted) = self.class(i);
            support as f64 * predicted as f64 / n
        };
        let expected: f64 = (0..self.labels.len()).map(by_chance).sum();
        let (missed, missed_by_chance) = (n - self.right() as f64, n - expected);
        if missed_by_chance > 0.0 { 1.0 - missed / missed_by_chance } else { f64::NAN }
    }
}

fn ratio(k: u64, n: u64) -> f64 {
    if n == 0 { 0.0 } else { k as f64 / n as f64 }
}

/// All labels in order, and the pairs as indices into them.
fn indexed<S: AsRef<str>, P: AsRef<str>>(truth: &[S], predicted: &[P]) -> (Vec<String>, Vec<(usize, usize)>) {
    let labels: BTreeSet<&str> = truth.iter().map(AsRef::as_ref).chain(predicted.iter().map(AsRef::as_ref)).collect();
    let index: BTreeMap<&str, usize> = labels.iter().enumerate().map(|(i, label)| (*label, i)).collect();
    let pairs = truth.iter().zip(predicted).map(|(t, p)| (index[t.as_ref()], index[p.as_ref()])).collect();
    (labels.into_iter().map(str::to_owned).collect(), pairs)
}

fn counted(labels: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; labels]; labels];
    for (truth, predicted) in pairs {
        counts[truth][predicted] += 1;
    }
    counts
}

/// Everything that labels alone can tell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Share right, with its exact interval.
    pub accuracy: Metric,
    /// Mean F1 over labels (percentile bootstrap).
    pub macro_f1: Metric,
    /// F1 weighted by support (percentile bootstrap).
    pub weighted_f1: Metric,
    /// Mean recall (percentile bootstrap).
    pub balanced_accuracy: Metric,
    /// Cohen's kappa (percentile bootstrap); `None` where one label is all there is.
    pub kappa: Option<Metric>,
    /// Each label's figures.
    pub classes: Vec<ClassScore>,
    /// The matrix.
    pub confusion: Confusion,
}

/// Scores predictions; `None` without items.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn report<S: AsRef<str>, P: AsRef<str>>(truth: &[S], predicted: &[P], seed: Seed) -> Option<Report> {
    assert_eq!(truth.len(), predicted.len(), "one prediction for each truth");
    let (labels, pairs) = indexed(truth, predicted);
    // Dense matrices of many labels would be cleared for every draw: each draw keeps the margins and the diagonal only.
    let resampled = |name: &str, figure: fn(&Margins) -> f64| {
        let mut margins = Margins::new(labels.len());
        Metric::resampled(pairs.len(), seed.derive(name), |indices| {
            margins.count(indices.iter().map(|&i| pairs[i]));
            figure(&margins)
        })
        .map(|m| m.within(if name == "kappa" { -1.0 } else { 0.0 }, 1.0))
    };
    let confusion = Confusion { counts: counted(labels.len(), pairs.iter().copied()), labels: labels.clone() };
    Some(Report {
        accuracy: Metric::share(confusion.right(), confusion.n())?,
        macro_f1: resampled("macro_f1", Margins::macro_f1)?,
        weighted_f1: resampled("weighted_f1", Margins::weighted_f1)?,
        balanced_accuracy: resampled("balanced_accuracy", Margins::balanced_accuracy)?,
        kappa: resampled("kappa", Margins::kappa),
        classes: confusion.classes(),
        confusion,
    })
}

/// Per label: (right, truth, predicted). All averages are functions of these.
struct Margins(Vec<(u64, u64, u64)>);

impl Margins {
    fn new(labels: usize) -> Self {
        Self(vec![(0, 0, 0); labels])
    }

    fn count(&mut self, pairs: impl Iterator<Item = (usize, usize)>) {
        self.0.fill((0, 0, 0));
        for (truth, predicted) in pairs {
            self.0[truth].1 += 1;
            self.0[predicted].2 += 1;
            self.0[truth].0 += u64::from(truth == predicted);
        }
    }

    fn mean(&self, counts: impl Fn(&(u64, u64, u64)) -> bool, value: impl Fn(&(u64, u64, u64)) -> f64) -> f64 {
        let used = self.0.iter().filter(|c| counts(c));
        let (sum, count) = used.fold((0.0, 0_u64), |(sum, count), c| (sum + value(c), count + 1));
        sum / count as f64
    }

    fn macro_f1(&self) -> f64 {
        self.mean(|&(_, s, p)| s + p > 0, |&(hit, s, p)| ratio(2 * hit, s + p))
    }

    fn weighted_f1(&self) -> f64 {
        let n: u64 = self.0.iter().map(|c| c.1).sum();
        self.0.iter().map(|&(hit, s, p)| s as f64 * ratio(2 * hit, s + p)).sum::<f64>() / n as f64
    }

    fn balanced_accuracy(&self) -> f64 {
        self.mean(|&(_, s, _)| s > 0, |&(hit, s, _)| ratio(hit, s))
    }

    fn kappa(&self) -> f64 {
        let n = self.0.iter().map(|c| c.1).sum::<u64>() as f64;
        let right = self.0.iter().map(|c| c.0).sum::<u64>() as f64;
        let expected: f64 = self.0.iter().map(|&(_, s, p)| s as f64 * p as f64 / n).sum();
        if n - expected > 0.0 { 1.0 - (n - right) / (n - expected) } else { f64::NAN }
    }
}

/// How a classifier treats what is outside its labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scope {
    /// Share right among the items whose truth is inside.
    pub in_scope_accuracy: Option<Metric>,
    /// Share called outside among the items that are outside.
    pub out_of_scope_recall: Option<Metric>,
    /// Of the items called outside, the share that is.
    pub out_of_scope_precision: Option<Metric>,
}

/// In-scope accuracy and out-of-scope recall as Larson et al. (2019, CLINC150) define them.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn scope<S: AsRef<str>, P: AsRef<str>>(truth: &[S], predicted: &[P], outside: &str) -> Scope {
    assert_eq!(truth.len(), predicted.len(), "one prediction for each truth");
    let pairs = || truth.iter().map(AsRef::as_ref).zip(predicted.iter().map(AsRef::as_ref));
    let count = |holds: &dyn Fn(&str, &str) -> bool| pairs().filter(|&(t, p)| holds(t, p)).count() as u64;
    let both = count(&|t, p| t == outside && p == outside);
    Scope {
        in_scope_accuracy: Metric::share(count(&|t, p| t != outside && t == p), count(&|t, _| t != outside)),
        out_of_scope_recall: Metric::share(both, count(&|t, _| t == outside)),
        out_of_scope_precision: Metric::share(both, count(&|_, p| p == outside)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_agrees_with_the_matrix_and_holds_its_estimates() {
        let truth = ["a", "a", "b", "b", "b", "c"];
        let predicted = ["a", "b", "b", "b", "d", "c"];
        let matrix = Confusion::new(&truth, &predicted);
        assert_eq!(matrix.labels, ["a", "b", "c", "d"]);
        let report = report(&truth, &predicted, Seed(1)).expect("six items");
        for (metric, value) in [
            (report.accuracy, matrix.accuracy()),
            (report.macro_f1, matrix.macro_f1()),
            (report.weighted_f1, matrix.weighted_f1()),
            (report.balanced_accuracy, matrix.balanced_accuracy()),
            (report.kappa.expect("several labels"), matrix.kappa()),
        ] {
            assert!((metric.estimate - value).abs() < 1e-15 && metric.low <= value && value <= metric.high);
        }
        // F1: a 2/3, b 2/3, c 1, d 0.
        assert!((matrix.macro_f1() - (2.0 / 3.0 + 2.0 / 3.0 + 1.0) / 4.0).abs() < 1e-15);
        assert!(super::report::<&str, &str>(&[], &[], Seed(1)).is_none());
        assert!(Confusion::new(&["x"; 3], &["x"; 3]).kappa().is_nan());
    }

    #[test]
    fn scope_separates_what_is_inside_from_what_is_not() {
        let truth = ["a", "b", "oos", "oos"];
        let predicted = ["a", "oos", "oos", "a"];
        let scope = scope(&truth, &predicted, "oos");
        let estimates = [scope.in_scope_accuracy, scope.out_of_scope_recall, scope.out_of_scope_precision];
        assert!(estimates.iter().all(|m| m.is_some_and(|m| (m.estimate - 0.5).abs() < 1e-15 && m.n == 2)));
    }
}
