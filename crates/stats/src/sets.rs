//! Sets of labels against sets of labels: how much of what applies is found, and how much of what is said applies.

use crate::{Bound, binomial, bootstrap};
use rand::Rng;

/// Draws of the bootstrap.
const RESAMPLES: usize = 1000;
/// Items below which resampling says little.
const FEW: usize = 30;

/// Figures over all items.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// F1 over all pairs of an item and a label.
    pub micro_f1: Bound,
    /// Mean over the labels that occur, as truth or as answer, of each one's F1.
    pub macro_f1: Bound,
    /// Of the labels given, the share that applies.
    pub precision: Bound,
    /// Of the labels that apply, the share that was given.
    pub recall: Bound,
    /// Share of items whose set is right as a whole.
    pub exact: Bound,
}

/// How often a label was given, applied, and both.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    right: u64,
    given: u64,
    expected: u64,
}

impl Counts {
    fn add(&mut self, expected: bool, given: bool) {
        self.right += u64::from(expected && given);
        self.given += u64::from(given);
        self.expected += u64::from(expected);
    }

    fn f1(self) -> f64 {
        share(2 * self.right, self.given + self.expected)
    }
}

/// k / n; of nothing, everything is right.
fn share(k: u64, n: u64) -> f64 {
    if n == 0 { 1.0 } else { k as f64 / n as f64 }
}

/// F1 of one item's set: 1 when both are empty.
#[must_use]
pub fn f1(expected: &[usize], given: &[usize]) -> f64 {
    let right = expected.iter().filter(|label| given.contains(label)).count() as u64;
    share(2 * right, (expected.len() + given.len()) as u64)
}

/// Measures sets of positions below `labels`, each without repetition. `None` without items. Intervals at 95 % are
/// bootstrapped over items (exact for the share of whole sets), and no narrower than that share's where items are few.
///
/// # Panics
/// When the lists differ in length or a position is too large.
pub fn report(expected: &[Vec<usize>], given: &[Vec<usize>], labels: usize, rng: &mut impl Rng) -> Option<Report> {
    assert_eq!(expected.len(), given.len(), "an answer to each item");
    let n = expected.len();
    if n == 0 {
        return None;
    }
    let marks: Vec<Vec<(usize, bool, bool)>> = expected
        .iter()
        .zip(given)
        .map(|(expected, given)| {
            let missed = given.iter().filter(|label| !expected.contains(label)).map(|&label| (label, false, true));
            expected.iter().map(|label| (*label, true, given.contains(label))).chain(missed).collect()
        })
        .collect();
    let counted = |drawn: &[usize]| {
        let (mut all, mut each) = (Counts::default(), vec![Counts::default(); labels]);
        for (label, expected, given) in drawn.iter().flat_map(|&i| &marks[i]) {
            all.add(*expected, *given);
            each[*label].add(*expected, *given);
        }
        (all, each)
    };
    let exact = marks.iter().filter(|marks| marks.iter().all(|(_, e, g)| e == g)).count() as u64;
    let exact = binomial::interval(exact, n as u64, 0.95);
    let mut bound = |statistic: &dyn Fn(Counts, &[Counts]) -> f64| {
        let of = |drawn: &[usize]| {
            let (all, each) = counted(drawn);
            statistic(all, &each)
        };
        let bound = bootstrap::percentile(n, RESAMPLES, 0.95, rng, of)?;
        Some(if n < FEW { bootstrap::no_surer_than(exact, bound) } else { bound })
    };
    Some(Report {
        micro_f1: bound(&|all, _| all.f1())?,
        macro_f1: bound(&|_, each| {
            let scores: Vec<f64> = each.iter().filter(|c| c.given + c.expected > 0).map(|c| c.f1()).collect();
            if scores.is_empty() { 1.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
        })?,
        precision: bound(&|all, _| share(all.right, all.given))?,
        recall: bound(&|all, _| share(all.right, all.expected))?,
        exact,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn figures_agree_with_values_worked_by_hand() {
        let expected = [vec![0, 1], vec![1], vec![], vec![2]];
        let given = [vec![0], vec![1, 2], vec![], vec![2]];
        let report = report(&expected, &given, 4, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        // Right 3, given 4, expected 4; per label 1, 2/3, 2/3; the fourth never occurs.
        assert!((report.micro_f1.estimate - 0.75).abs() < 1e-12);
        assert!((report.macro_f1.estimate - 7.0 / 9.0).abs() < 1e-12);
        assert!((report.precision.estimate - 0.75).abs() < 1e-12 && (report.recall.estimate - 0.75).abs() < 1e-12);
        assert!((report.exact.estimate - 0.5).abs() < 1e-12);
        assert!(report.micro_f1.low < 0.4 && report.micro_f1.high > 0.9, "four items say little: {report:?}");
        assert!((f1(&[0, 1], &[0]) - 2.0 / 3.0).abs() < 1e-12 && (f1(&[], &[]) - 1.0).abs() < 1e-12);
        assert_eq!(super::report(&[], &[], 4, &mut ChaCha8Rng::seed_from_u64(1)), None);
    }

    #[test]
    fn many_items_that_are_all_right_have_no_doubt_but_that_of_their_number() {
        let sets: Vec<Vec<usize>> = (0..10).map(|i| vec![i % 3]).collect();
        let report = report(&sets, &sets, 3, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert!((report.micro_f1.estimate - 1.0).abs() < 1e-12 && report.micro_f1.low < 0.75);
    }
}
