//! Confident learning: labels that a classifier which has not seen them contradicts with confidence (C. Northcutt,
//! L. Jiang, I. Chuang, *JAIR* 70, 2021). Gives the same candidates as cleanlab's
//! `find_label_issues(filter_by="confident_learning")`.

/// A label that is probably wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Which row.
    pub row: usize,
    /// The label it probably has.
    pub suggested: usize,
    /// Probability of the given label: the smaller, the surer the error.
    pub self_confidence: f64,
}

/// Smallest threshold, cleanlab's: a label that no row is given any chance of is not confidently found everywhere.
const LOWEST: f64 = 2e-6;
/// cleanlab's slack when a probability is held against a threshold.
const SLACK: f64 = 1e-6;

/// Mean probability of each label over the rows that have it: what it takes to be confident. A label without rows has
/// none that can be reached.
///
/// # Panics
/// When the slices differ in length or a label has no probability.
#[must_use]
pub fn thresholds(labels: &[usize], probabilities: &[Vec<f64>]) -> Vec<f64> {
    assert_eq!(labels.len(), probabilities.len(), "a distribution for each label");
    let classes = probabilities.first().map_or(0, Vec::len);
    let mut sums = vec![(0.0, 0_u32); classes];
    for (&label, row) in labels.iter().zip(probabilities) {
        sums[label].0 += row[label];
        sums[label].1 += 1;
    }
    sums.into_iter().map(|(sum, n)| if n == 0 { f64::INFINITY } else { (sum / f64::from(n)).max(LOWEST) }).collect()
}

/// Rows confidently counted under another label than their own, likeliest errors first.
///
/// Each row is a distribution over the labels by a model that was not fitted on that row.
///
/// # Panics
/// As [`thresholds`].
#[must_use]
pub fn candidates(labels: &[usize], probabilities: &[Vec<f64>]) -> Vec<Candidate> {
    let thresholds = thresholds(labels, probabilities);
    let suggested = |row: &[f64]| -> Option<usize> {
        let mut confident = (0..row.len()).filter(|&k| row[k] >= thresholds[k] - SLACK);
        let first = confident.next()?;
        // With several that pass, the likeliest counts: the collision of the paper's section 3.1.
        Some(if confident.next().is_some() { most_likely(row) } else { first })
    };
    let mut found: Vec<Candidate> = labels
        .iter()
        .zip(probabilities)
        .enumerate()
        .filter_map(|(i, (&label, row))| {
            let suggested = suggested(row).filter(|&k| k != label && most_likely(row) != label)?;
            Some(Candidate { row: i, suggested, self_confidence: row[label] })
        })
        .collect();
    found.sort_by(|a, b| a.self_confidence.total_cmp(&b.self_confidence));
    found
}

/// The first of the largest.
fn most_likely(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_label_is_found_and_a_doubtful_row_is_not() {
        let sure = |k: usize| (0..3).map(|i| if i == k { 0.9 } else { 0.05 }).collect::<Vec<f64>>();
        let mut labels: Vec<usize> = (0..30).map(|i| i % 3).collect();
        let mut probabilities: Vec<Vec<f64>> = labels.iter().map(|&k| sure(k)).collect();
        labels[4] = 2;
        probabilities[7] = vec![0.34, 0.33, 0.33];
        let found = candidates(&labels, &probabilities);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].row, found[0].suggested), (4, 1));
        assert!(candidates(&[], &[]).is_empty());
    }
}
