//! How good a head is on examples it has not seen: accuracy, macro-F1, expected calibration error, each with a 95 %
//! interval and n.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use std::collections::BTreeMap;
use understudy_core::Seed;
use understudy_model::artifact::Metric;
use understudy_stats::{Bound, binomial, bootstrap};

/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;
/// Items below which resampling says little of a calibration error.
const FEW: usize = 30;
/// Bins of equal width for the calibration error (Guo et al. 2017 use 15).
const BINS: usize = 15;

/// One prediction and the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// Position of what was answered.
    pub predicted: usize,
    /// Position of what is right.
    pub label: usize,
    /// The probability that was given to the answer.
    pub confidence: f64,
}

/// Measures judged answers to unseen examples among `classes`: `accuracy`, `macro_f1`, `ece`, and with the position of the
/// class for what is out of scope also `in_scope_accuracy` and `out_of_scope_recall`. Empty without examples. The intervals
/// of macro-F1 and calibration error are percentiles of the bootstrap over items, at least as wide as the accuracy's where
/// the bootstrap knows too little; the others are exact.
#[must_use]
pub fn measure_judged(
    items: &[Judged],
    classes: usize,
    outside: Option<usize>,
    seed: Seed,
) -> BTreeMap<String, Metric> {
    if items.is_empty() {
        return BTreeMap::new();
    }
    let all = |items: &[Judged]| [accuracy(items), macro_f1(items, classes), calibration_error(items)];
    let estimates = all(items);
    let mut rng = ChaCha12Rng::seed_from_u64(seed.derive("metrics").0);
    let mut draws: [Vec<f64>; 3] = Default::default();
    let mut resample = items.to_vec();
    for _ in 0..RESAMPLES {
        for slot in &mut resample {
            *slot = items[rng.random_range(0..items.len())];
        }
        for (draws, value) in draws.iter_mut().zip(all(&resample)) {
            draws.push(value);
        }
    }
    let percentiles = |(estimate, mut draws): (f64, Vec<f64>)| {
        draws.sort_unstable_by(f64::total_cmp);
        let (low, high) = (draws[RESAMPLES / 40], draws[RESAMPLES - 1 - RESAMPLES / 40]);
        // Resampling adds calibration error of its own, so its percentiles can lie above the estimate.
        Bound { estimate, low: low.min(estimate), high: high.max(estimate), level: 0.95 }
    };
    let right = items.iter().filter(|item| item.predicted == item.label).count() as u64;
    let share = binomial::interval(right, items.len() as u64, 0.95);
    let mut bounds = estimates.into_iter().zip(draws).map(percentiles);
    let mut measured = BTreeMap::new();
    let names = [("accuracy", usize::MAX), ("macro_f1", usize::MAX), ("ece", FEW)];
    for ((name, few), bound) in names.into_iter().zip(&mut bounds) {
        let bound = if items.len() < few { bootstrap::no_surer_than(share, bound) } else { bound };
        let Bound { estimate, low, high, .. } = if name == "accuracy" { share } else { bound };
        measured.insert(name.to_owned(), Metric { estimate, low, high, n: items.len() as u64 });
    }
    for (name, within) in [("in_scope_accuracy", false), ("out_of_scope_recall", true)] {
        let Some(outside) = outside else { break };
        let of = || items.iter().filter(|item| (item.label == outside) == within);
        let (right, n) = (of().filter(|item| item.predicted == item.label).count() as u64, of().count() as u64);
        if n > 0 {
            let bound = binomial::interval(right, n, 0.95);
            let metric = Metric { estimate: bound.estimate, low: bound.low, high: bound.high, n };
            measured.insert(name.to_owned(), metric);
        }
    }
    measured
}

fn accuracy(items: &[Judged]) -> f64 {
    items.iter().filter(|item| item.predicted == item.label).count() as f64 / items.len() as f64
}

/// Mean of the F1 scores of the labels that occur, as predicted or as truth.
fn macro_f1(items: &[Judged], classes: usize) -> f64 {
    let mut counts = vec![(0usize, 0usize, 0usize); classes];
    for item in items {
        counts[item.predicted].1 += 1;
        counts[item.label].2 += 1;
        if item.predicted == item.label {
            counts[item.label].0 += 1;
        }
    }
    let scores: Vec<f64> = counts
        .iter()
        .filter(|(_, predicted, actual)| predicted + actual > 0)
        .map(|(right, predicted, actual)| 2.0 * *right as f64 / (predicted + actual) as f64)
        .collect();
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// Mean over items of |confidence − accuracy| within bins of confidence.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a confidence is in [0, 1]")]
fn calibration_error(items: &[Judged]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for item in items {
        let (confidence, right) = &mut bins[((item.confidence * BINS as f64) as usize).min(BINS - 1)];
        *confidence += item.confidence;
        *right += f64::from(u8::from(item.predicted == item.label));
    }
    bins.iter().map(|(confidence, right)| (confidence - right).abs()).sum::<f64>() / items.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(predicted: usize, label: usize, confidence: f64) -> Judged {
        Judged { predicted, label, confidence }
    }

    #[test]
    fn the_metrics_agree_with_values_worked_by_hand() {
        let items = [item(0, 0, 0.9), item(0, 1, 0.9), item(1, 1, 0.6), item(1, 1, 0.6)];
        assert!((accuracy(&items) - 0.75).abs() < 1e-12);
        // F1: label 0 = 2·1/(2+1), label 1 = 2·2/(2+3), label 2 does not occur.
        assert!((macro_f1(&items, 3) - f64::midpoint(2.0 / 3.0, 4.0 / 5.0)).abs() < 1e-12);
        // Bins: |1.8 − 1| and |1.2 − 2|, over 4 items.
        assert!((calibration_error(&items) - 0.4).abs() < 1e-12);
    }

    #[test]
    fn what_is_out_of_scope_is_measured_apart() {
        let items = [item(0, 0, 0.9), item(2, 1, 0.9), item(2, 2, 0.6), item(0, 2, 0.6), item(1, 1, 0.6)];
        let measured = measure_judged(&items, 3, Some(2), Seed(1));
        let of = |name: &str| (measured[name].estimate, measured[name].n);
        assert_eq!(of("in_scope_accuracy"), (2.0 / 3.0, 3));
        assert_eq!(of("out_of_scope_recall"), (0.5, 2));
        assert!(!measure_judged(&items, 3, None, Seed(1)).contains_key("out_of_scope_recall"));
    }

    #[test]
    fn few_items_and_items_all_alike_have_intervals_with_width() {
        for label in [0, 1] {
            let measured = measure_judged(&[item(0, label, 0.7)], 2, None, Seed(1));
            for (name, m) in &measured {
                assert!(m.high - m.low > 0.9 && m.low <= m.estimate && m.estimate <= m.high, "{name}: {m:?}");
            }
            assert_eq!(measured.len(), 3);
        }
        let all_right = measure_judged(&[item(0, 0, 0.9); 100], 2, None, Seed(1));
        assert!(all_right["accuracy"].low < 0.97 && all_right["macro_f1"].low < 0.97, "{all_right:?}");
    }

    #[test]
    fn the_interval_holds_the_estimate_and_the_same_seed_gives_the_same_one() {
        let one = |i: u8| {
            let sure = 1.0 / (1.0 + (-(f64::from(i) - 99.5).abs() / 50.0).exp());
            item(usize::from(i < 100), usize::from(i.is_multiple_of(7) || i < 100), sure)
        };
        let items: Vec<Judged> = (0..200).map(one).collect();
        let measured = measure_judged(&items, 2, None, Seed(3));
        assert_eq!(measured, measure_judged(&items, 2, None, Seed(3)));
        assert_eq!(measured.len(), 3);
        for metric in measured.values() {
            assert!(metric.low <= metric.estimate && metric.estimate <= metric.high && metric.n == 200);
            assert!(metric.high - metric.low < 0.2);
        }
    }
}
