//! Scores of a binary question against the truth: ROC curve, areas, recall at a fixed rate of false alarms.

use super::Metric;
use serde::Serialize;
use understudy_core::Seed;

/// One threshold: positive is what scores at least that much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Operating {
    /// The threshold; ∞ at the start of the curve, where nothing is positive.
    pub threshold: f64,
    /// Share of the negatives called positive.
    pub false_positive_rate: f64,
    /// Share of the positives called positive: recall.
    pub true_positive_rate: f64,
}

/// Which points of the curve to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roc {
    /// One for every distinct score.
    All,
    /// Those where the curve bends, as scikit-learn's `drop_intermediate` leaves them.
    Corners,
}

/// (threshold, positives at or above it, negatives at or above it) for every distinct score, from the highest down.
fn cumulated(scores: &[f64], positive: &[bool]) -> Vec<(f64, u64, u64)> {
    assert_eq!(scores.len(), positive.len(), "one score for each truth");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut points: Vec<(f64, u64, u64)> = Vec::new();
    let (mut hits, mut alarms) = (0, 0);
    for (rank, &i) in order.iter().enumerate() {
        hits += u64::from(positive[i]);
        alarms += u64::from(!positive[i]);
        let last_of_its_score = order.get(rank + 1).is_none_or(|&next| scores[next] < scores[i]);
        if last_of_its_score {
            points.push((scores[i], hits, alarms));
        }
    }
    points
}

/// The ROC curve, from (0, 0) to (1, 1); `None` without both positives and negatives. Scores must be numbers.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn roc_curve(scores: &[f64], positive: &[bool], points: Roc) -> Option<Vec<Operating>> {
    let mut steps = cumulated(scores, positive);
    let &(_, positives, negatives) = steps.last()?;
    if positives == 0 || negatives == 0 {
        return None;
    }
    if points == Roc::Corners && steps.len() > 2 {
        let bends = |w: &[(f64, u64, u64)]| {
            let second = |f: fn(&(f64, u64, u64)) -> u64| f(&w[2]) + f(&w[0]) != 2 * f(&w[1]);
            second(|p| p.1) || second(|p| p.2)
        };
        let inner: Vec<_> = steps.windows(3).filter(|w| bends(w)).map(|w| w[1]).collect();
        steps = [&steps[..1], &inner, &steps[steps.len() - 1..]].concat();
    }
    let start = (f64::INFINITY, 0, 0);
    let point = |(threshold, hits, alarms)| Operating {
        threshold,
        false_positive_rate: alarms as f64 / negatives as f64,
        true_positive_rate: hits as f64 / positives as f64,
    };
    Some(std::iter::once(start).chain(steps).map(point).collect())
}

/// Area under the ROC curve: the chance that a positive outscores a negative, ties counting half. `None` without both.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn roc_auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let curve = roc_curve(scores, positive, Roc::All)?;
    let trapezoid = |w: &[Operating]| {
        let width = w[1].false_positive_rate - w[0].false_positive_rate;
        width * f64::midpoint(w[0].true_positive_rate, w[1].true_positive_rate)
    };
    Some(curve.windows(2).map(trapezoid).sum())
}

/// [`roc_auc`] with a percentile bootstrap interval.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn roc_auc_metric(scores: &[f64], positive: &[bool], seed: Seed) -> Option<Metric> {
    Metric::resampled(scores.len(), seed, |indices| {
        let s: Vec<f64> = indices.iter().map(|&i| scores[i]).collect();
        let p: Vec<bool> = indices.iter().map(|&i| positive[i]).collect();
        roc_auc(&s, &p).unwrap_or(f64::NAN)
    })
    .map(|m| m.within(0.0, 1.0))
}

/// Average precision: Σ (recallₙ − recallₙ₋₁) · precisionₙ over the thresholds. `None` without positives.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let steps = cumulated(scores, positive);
    let positives = steps.last()?.1;
    if positives == 0 {
        return None;
    }
    let mut before = 0;
    let term = |&(_, hits, alarms): &(f64, u64, u64)| {
        let gained = hits - before;
        before = hits;
        gained as f64 / positives as f64 * (hits as f64 / (hits + alarms) as f64)
    };
    Some(steps.iter().map(term).sum())
}

/// The point of most recall among those whose false-positive rate is at most `limit`, read off the curve without
/// interpolation: a threshold that can be used. `None` without both positives and negatives.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn recall_at_fpr(scores: &[f64], positive: &[bool], limit: f64) -> Option<(Operating, Metric)> {
    let curve = roc_curve(scores, positive, Roc::All)?;
    let point = *curve.iter().rev().find(|point| point.false_positive_rate <= limit)?;
    let positives = positive.iter().filter(|&&p| p).count() as u64;
    let hits = scores.iter().zip(positive).filter(|&(&s, &p)| p && s >= point.threshold).count() as u64;
    Some((point, Metric::share(hits, positives)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_corners_are_treated_as_scikit_learn_does() {
        let scores = [0.9, 0.8, 0.8, 0.4, 0.3, 0.2];
        let positive = [true, true, false, true, false, false];
        // Pairs won: 9 pairs, 0.9 beats 3, 0.8 beats 2 and ties 1, 0.4 beats 2.
        assert!((roc_auc(&scores, &positive).expect("both") - 7.5 / 9.0).abs() < 1e-15);
        let all = roc_curve(&scores, &positive, Roc::All).expect("both");
        let corners = roc_curve(&scores, &positive, Roc::Corners).expect("both");
        assert_eq!((all.len(), corners.len()), (6, 5));
        let (point, recall) = recall_at_fpr(&scores, &positive, 0.34).expect("both");
        assert!((point.threshold - 0.4).abs() < 1e-15 && (recall.estimate - 1.0).abs() < 1e-15 && recall.n == 3);
        let (none, _) = recall_at_fpr(&scores, &positive, 0.0).expect("both");
        assert!((none.true_positive_rate - 1.0 / 3.0).abs() < 1e-15);
        assert!(roc_auc(&[0.1, 0.2], &[true, true]).is_none() && average_precision(&[], &[]).is_none());
    }
}
