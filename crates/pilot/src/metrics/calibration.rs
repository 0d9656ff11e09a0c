//! How far confidences are from frequencies, in the shape that reports print. The sums for one confidence per answer
//! live in `stats::calibration`; here are intervals, and the measures of whole distributions over labels.

use super::Metric;
use serde::Serialize;
use understudy_core::Seed;
use understudy_stats::calibration;

/// Bins of the reliability diagram and of the calibration error.
pub const BINS: usize = 15;

/// One bin of the reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Mean confidence of the answers in it.
    pub confidence: f64,
    /// Share of them that is right, with Wilson's interval and their number.
    pub accuracy: Metric,
}

/// Calibration of the confidence in given answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Expected calibration error over [`BINS`] bins of equal count. Biased upwards for small samples; its interval is
    /// a bootstrap's.
    pub ece: Metric,
    /// The same over bins of equal width (C. Guo et al., 2017), for comparison with published figures.
    pub ece_equal_width: Metric,
    /// Mean squared distance of confidence and outcome.
    pub brier: Metric,
    /// Mean −ln of the probability given to what happened; certainty is cut at 2.2e-16, as scikit-learn cuts it.
    pub log_loss: Metric,
    /// The reliability diagram, from unsure to sure.
    pub bins: Vec<Bin>,
}

/// Measures; `None` without answers.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn report(confidence: &[f64], right: &[bool], seed: Seed) -> Option<Report> {
    assert_eq!(confidence.len(), right.len(), "one outcome for each confidence");
    let outcome = |ok: bool| f64::from(u8::from(ok));
    let squares: Vec<f64> = confidence.iter().zip(right).map(|(p, &ok)| (p - outcome(ok)).powi(2)).collect();
    let logs: Vec<f64> =
        confidence.iter().zip(right).map(|(&p, &ok)| -clipped(if ok { p } else { 1.0 - p }).ln()).collect();
    let (mut drawn, mut drawn_right) = (Vec::new(), Vec::new());
    let mut resampled = |name: &str, figure: fn(&[f64], &[bool], usize) -> f64| {
        Metric::resampled(right.len(), seed.derive(name), |indices| {
            drawn.clear();
            drawn.extend(indices.iter().map(|&i| confidence[i]));
            drawn_right.clear();
            drawn_right.extend(indices.iter().map(|&i| right[i]));
            figure(&drawn, &drawn_right, BINS)
        })
        .map(|m| m.within(0.0, 1.0))
    };
    let ece = resampled("ece", calibration::expected_error)?;
    let ece_equal_width = resampled("ece_equal_width", equal_width_error)?;
    let bins = calibration::reliability(confidence, right, BINS.min(right.len())).into_iter().filter_map(|bin| {
        #[expect(clippy::cast_possible_truncation, reason = "a share of a count")]
        let hits = (bin.accuracy * bin.count as f64).round() as u64;
        Some(Bin { confidence: bin.confidence, accuracy: Metric::wilson(hits, bin.count)? })
    });
    Some(Report {
        ece,
        ece_equal_width,
        brier: Metric::mean(&squares, seed.derive("brier"))?.within(0.0, 1.0),
        log_loss: Metric::mean(&logs, seed.derive("log_loss"))?,
        bins: bins.collect(),
    })
}

/// Expected calibration error over bins of equal width, (lower, upper], weighted by count.
///
/// # Panics
/// When the slices differ in length or are empty, or `bins` is 0.
#[must_use]
pub fn equal_width_error(confidence: &[f64], right: &[bool], bins: usize) -> f64 {
    assert!(confidence.len() == right.len() && !right.is_empty() && bins > 0, "one outcome for each confidence");
    let mut sums = vec![0.0; bins];
    for (&p, &ok) in confidence.iter().zip(right) {
        #[expect(clippy::cast_possible_truncation, reason = "clamped to the number of bins")]
        let bin = ((p * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        sums[bin] += f64::from(u8::from(ok)) - p;
    }
    sums.iter().map(|sum| sum.abs()).sum::<f64>() / right.len() as f64
}

/// Mean −ln of the probability of the true label; each row is a distribution over the labels. NaN without rows.
///
/// # Panics
/// When the slices differ in length or a label has no probability.
#[must_use]
pub fn log_loss(probabilities: &[Vec<f64>], truth: &[usize]) -> f64 {
    assert_eq!(probabilities.len(), truth.len(), "one truth for each row");
    let loss = |(row, &label): (&Vec<f64>, &usize)| -clipped(row[label]).ln();
    probabilities.iter().zip(truth).map(loss).sum::<f64>() / truth.len() as f64
}

/// Mean squared distance between a distribution over labels and the truth, summed over the labels: 0 to 2. NaN without
/// rows.
///
/// # Panics
/// As [`log_loss`].
#[must_use]
pub fn brier(probabilities: &[Vec<f64>], truth: &[usize]) -> f64 {
    assert_eq!(probabilities.len(), truth.len(), "one truth for each row");
    let square = |(row, &label): (&Vec<f64>, &usize)| {
        assert!(label < row.len(), "every label has a probability");
        let hit = |i: usize| f64::from(u8::from(i == label));
        row.iter().enumerate().map(|(i, p)| (p - hit(i)).powi(2)).sum::<f64>()
    };
    probabilities.iter().zip(truth).map(square).sum::<f64>() / truth.len() as f64
}

fn clipped(p: f64) -> f64 {
    p.clamp(f64::EPSILON, 1.0 - f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequency_told_as_confidence_is_calibrated_and_certainty_in_error_is_not() {
        let right: Vec<bool> = (0..400).map(|i| i % 4 != 0).collect();
        let told = report(&[0.75; 400], &right, Seed(1)).expect("answers");
        assert!(told.ece_equal_width.estimate < 1e-12 && (told.brier.estimate - 0.1875).abs() < 1e-12);
        assert_eq!(told.bins.iter().map(|b| b.accuracy.n).sum::<u64>(), 400);
        let sure = report(&[1.0; 400], &right, Seed(1)).expect("answers");
        assert!((sure.ece.estimate - 0.25).abs() < 1e-12 && (sure.log_loss.estimate - 0.25 * 36.04).abs() < 0.01);
        assert!(report(&[], &[], Seed(1)).is_none());
    }
}
