//! What changed between a model and one that was made from it: the accuracy of both on the same items, how far the
//! probabilities moved, how many answers are others.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use understudy_core::Seed;
use understudy_model::artifact::Metric;
use understudy_stats::{Bound, binomial, bootstrap, paired};

/// Level of the intervals.
const LEVEL: f64 = 0.95;
/// What a probability counts at least, where its logarithm is taken.
const FLOOR: f64 = 1e-12;

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Probability of each label.
    pub probabilities: Vec<f64>,
    /// Position of what was answered; beyond the labels for the one that stands for all others.
    pub answer: usize,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Accuracy of the first.
    pub accuracy_before: Metric,
    /// Accuracy of the second.
    pub accuracy: Metric,
    /// Accuracy of the first minus that of the second (Newcombe's interval for paired proportions).
    pub loss: Metric,
    /// Mean divergence KL(first ‖ second) of the probabilities, in nats (BCa bootstrap over items).
    pub kl: Metric,
    /// Share of the items that are answered otherwise (Wilson's interval).
    pub flips: Metric,
}

/// Compares two models' answers to the same items; `None` without items.
///
/// # Panics
/// When the lists differ in length.
#[must_use]
pub fn compare(before: &[Answered], after: &[Answered], labels: &[usize], seed: Seed) -> Option<Change> {
    assert!(before.len() == after.len() && after.len() == labels.len(), "an answer of both to each item");
    if labels.is_empty() {
        return None;
    }
    let n = labels.len() as u64;
    let count = |of: &dyn Fn(&Answered, &Answered, usize) -> bool| -> u64 {
        let items = before.iter().zip(after).zip(labels);
        items.filter(|((a, b), label)| of(a, b, **label)).count() as u64
    };
    let both = count(&|a, b, label| a.answer == label && b.answer == label);
    let only_before = count(&|a, b, label| a.answer == label && b.answer != label);
    let only_after = count(&|a, b, label| a.answer != label && b.answer == label);
    let flips = count(&|a, b, _| a.answer != b.answer);
    let metric = |bound: Bound| Metric { estimate: bound.estimate, low: bound.low, high: bound.high, n };
    let divergences: Vec<f64> =
        before.iter().zip(after).map(|(a, b)| divergence(&a.probabilities, &b.probabilities)).collect();
    let mut rng = ChaCha12Rng::seed_from_u64(seed.derive("divergence").0);
    Some(Change {
        accuracy_before: metric(binomial::wilson(both + only_before, n, LEVEL)),
        accuracy: metric(binomial::wilson(both + only_after, n, LEVEL)),
        loss: metric(paired::difference(both, only_after, only_before, n, LEVEL)),
        kl: metric(bootstrap::bca_mean(&divergences, bootstrap::RESAMPLES, LEVEL, &mut rng)),
        flips: metric(binomial::wilson(flips, n, LEVEL)),
    })
}

/// KL(p ‖ q) in nats.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let terms = p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q.max(FLOOR)).ln());
    terms.sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(p: &[f64]) -> Answered {
        let answer = if p[0] >= p[1] { 0 } else { 1 };
        Answered { probabilities: p.to_vec(), answer }
    }

    #[test]
    fn a_model_against_itself_loses_nothing() {
        let answers = vec![answered(&[0.9, 0.1]); 50];
        let change = compare(&answers, &answers, &[0; 50], Seed(1)).unwrap();
        assert_eq!((change.loss.estimate, change.kl.estimate, change.flips.estimate), (0.0, 0.0, 0.0));
        assert!(change.loss.low <= 0.0 && change.loss.high >= 0.0 && change.flips.high > 0.0);
        assert!(compare(&[], &[], &[], Seed(1)).is_none());
    }

    #[test]
    fn the_loss_is_positive_when_the_second_is_worse_and_flips_count_both_ways() {
        let (yes, no) = (answered(&[0.8, 0.2]), answered(&[0.2, 0.8]));
        let before = [vec![yes.clone(); 90], vec![no.clone(); 10]].concat();
        let after = [vec![no.clone(); 8], vec![yes.clone(); 82], vec![yes; 2], vec![no; 8]].concat();
        let change = compare(&before, &after, &[0; 100], Seed(1)).unwrap();
        assert!((change.loss.estimate - 0.06).abs() < 1e-12 && change.loss.low < 0.06 && change.loss.high > 0.06);
        assert!((change.flips.estimate - 0.10).abs() < 1e-12);
        // Ten items moved by 0.6 · ln 4.
        assert!((change.kl.estimate - 0.1 * 0.6 * 4f64.ln()).abs() < 1e-12);
    }
}
