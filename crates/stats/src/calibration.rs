//! How far confidences are from frequencies: Brier score, expected calibration error, reliability bins.

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Predictions in the bin.
    pub count: u64,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them that were right.
    pub accuracy: f64,
}

/// `bins` bins of equal count (equal width leaves most bins of a good classifier empty), from unsure to sure. Ties may
/// fall into two bins; they are split in the order given.
///
/// # Panics
/// When the slices differ in length, are empty, or `bins` is 0.
#[must_use]
pub fn reliability(confidence: &[f64], right: &[bool], bins: usize) -> Vec<Bin> {
    assert!(confidence.len() == right.len() && !right.is_empty() && bins > 0, "one outcome for each confidence");
    let mut order: Vec<usize> = (0..right.len()).collect();
    order.sort_by(|&a, &b| confidence[a].total_cmp(&confidence[b]));
    let edge = |i: usize| i * order.len() / bins;
    (0..bins)
        .map(|i| &order[edge(i)..edge(i + 1)])
        .filter(|members| !members.is_empty())
        .map(|members| {
            let count = members.len() as f64;
            Bin {
                count: members.len() as u64,
                confidence: members.iter().map(|&i| confidence[i]).sum::<f64>() / count,
                accuracy: members.iter().filter(|&&i| right[i]).count() as f64 / count,
            }
        })
        .collect()
}

/// Expected calibration error over [`reliability`] bins: mean |accuracy − confidence|, weighted by count. Biased
/// upwards for small samples: compare only at equal n and bins (Nixon et al., 2019).
///
/// # Panics
/// As [`reliability`].
#[must_use]
pub fn expected_error(confidence: &[f64], right: &[bool], bins: usize) -> f64 {
    let total = right.len() as f64;
    reliability(confidence, right, bins)
        .iter()
        .map(|b| b.count as f64 / total * (b.accuracy - b.confidence).abs())
        .sum()
}

/// Brier score of the confidence in the given answer: mean (confidence − right)²; 0 is perfect.
///
/// # Panics
/// When the slices differ in length or are empty.
#[must_use]
pub fn brier(confidence: &[f64], right: &[bool]) -> f64 {
    assert!(confidence.len() == right.len() && !right.is_empty(), "one outcome for each confidence");
    let square = |(&p, &ok): (&f64, &bool)| (p - f64::from(u8::from(ok))).powi(2);
    confidence.iter().zip(right).map(square).sum::<f64>() / right.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequency_told_as_confidence_has_no_error() {
        let confidence = [0.75; 8];
        let right = [true, true, true, false, true, true, true, false];
        assert!(expected_error(&confidence, &right, 2) < 1e-15);
        assert!((brier(&confidence, &right) - 0.1875).abs() < 1e-15);
        assert!((expected_error(&[1.0; 8], &right, 2) - 0.25).abs() < 1e-15);
        assert_eq!(reliability(&confidence, &right, 3).iter().map(|b| b.count).sum::<u64>(), 8);
    }
}
