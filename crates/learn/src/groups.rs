//! Means of groups, shrunk towards the mean of all: what a small group says about itself is mostly noise.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Shrunken means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// Mean of all rows: what is said of a group that was never seen.
    pub overall: f64,
    /// Rows that the overall mean counts as, in each group.
    pub prior_rows: f64,
    /// The shrunken mean of each group.
    pub means: BTreeMap<String, f64>,
}

impl Groups {
    /// Fits by empirical Bayes: the variance between groups is what their means vary by beyond the noise of their rows
    /// (method of moments of one-way analysis of variance; Searle, Casella & McCulloch, *Variance Components*, 1992,
    /// section 3.6), and the prior counts as many rows as noise exceeds it. Rows without a group count only overall.
    ///
    /// # Panics
    /// When there are no values, or not one group or `None` for each.
    #[must_use]
    pub fn fit(groups: &[Option<&str>], values: &[f64]) -> Self {
        assert!(!values.is_empty() && groups.len() == values.len(), "a group or none for each value");
        let overall = values.iter().sum::<f64>() / values.len() as f64;
        let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (group, value) in groups.iter().zip(values) {
            if let Some(group) = group {
                let (count, sum) = sums.entry(group).or_default();
                *count += 1.0;
                *sum += value;
            }
        }
        let mean = |group: &str| sums.get(group).map(|(count, sum)| sum / count);
        let n: f64 = sums.values().map(|(count, _)| count).sum();
        let k = sums.len() as f64;
        let grand = sums.values().map(|(_, sum)| sum).sum::<f64>() / n;
        let within: f64 =
            groups.iter().zip(values).filter_map(|(g, v)| Some((v - mean((*g)?)?).powi(2))).sum::<f64>() / (n - k);
        let between: f64 = sums.values().map(|(count, sum)| count * (sum / count - grand).powi(2)).sum::<f64>();
        let size = n - sums.values().map(|(count, _)| count * count).sum::<f64>() / n;
        let variance = (between - (k - 1.0) * within) / size;
        // One group, or one row in each: nothing separates groups from noise.
        let usable = k > 1.0 && n > k && variance > 0.0;
        let prior_rows = if usable { within / variance } else { n.max(1.0) };
        let means = sums
            .into_iter()
            .map(|(group, (count, sum))| (group.to_owned(), (sum + prior_rows * overall) / (count + prior_rows)))
            .collect();
        Self { overall, prior_rows, means }
    }

    /// The mean of a group; the overall one for an unknown group.
    #[must_use]
    pub fn mean(&self, group: Option<&str>) -> f64 {
        group.and_then(|group| self.means.get(group)).copied().unwrap_or(self.overall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sizes[i]` rows around `i % 3`, alternating by ± `noise`.
    fn rows(sizes: &[usize], noise: f64) -> (Vec<String>, Vec<f64>) {
        sizes
            .iter()
            .enumerate()
            .flat_map(|(i, &size)| {
                (0..size).map(move |j| (i.to_string(), (i % 3) as f64 + if j % 2 == 0 { noise } else { -noise }))
            })
            .unzip()
    }

    fn fit(sizes: &[usize], noise: f64) -> Groups {
        let (groups, values) = rows(sizes, noise);
        let groups: Vec<Option<&str>> = groups.iter().map(|g| Some(g.as_str())).collect();
        Groups::fit(&groups, &values)
    }

    #[test]
    fn noise_shrinks_and_size_resists() {
        let quiet = fit(&[40, 40, 40, 40, 40, 40], 0.01);
        assert!((quiet.mean(Some("2")) - 2.0).abs() < 0.01, "{quiet:?}");
        let loud = fit(&[4, 400, 4, 400, 4, 400], 4.0);
        assert!(loud.prior_rows > quiet.prior_rows);
        assert!((loud.mean(Some("2")) - loud.overall).abs() < (2.0 - loud.overall).abs());
        assert!((loud.mean(Some("5")) - 2.0).abs() < (loud.mean(Some("2")) - 2.0).abs());
        assert!((loud.mean(Some("unknown")) - loud.overall).abs() < 1e-12);
        assert!((loud.mean(None) - loud.overall).abs() < 1e-12);
    }

    #[test]
    fn where_groups_say_nothing_the_means_stay_finite() {
        for (sizes, noise) in [(&[5][..], 1.0), (&[1, 1, 1], 0.0), (&[2, 2], 0.0)] {
            let fitted = fit(sizes, noise);
            assert!(fitted.means.values().all(|mean| mean.is_finite()), "{fitted:?}");
        }
        let none = Groups::fit(&[None, None], &[1.0, 2.0]);
        assert!((none.mean(Some("a")) - 1.5).abs() < 1e-12 && none.prior_rows.is_finite());
    }
}
