//! Metrics of answers: pure functions from what was expected and what was answered to figures, each with n and an
//! interval. Equal to scikit-learn, rouge-score and sacrebleu (`tests/test_metrics_reference.py` compares them).
//!
//! Refuses IO and the clock. Callers: `pilot run`, the reports, the benches.

pub mod calibration;
pub mod classification;
pub mod facts;
pub mod fields;
pub mod judge;
pub mod speed;
pub mod text;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use understudy_core::Seed;
use understudy_stats::{Bound, binomial, bootstrap};

/// Level of every interval here.
pub const LEVEL: f64 = 0.95;

/// A figure, its 95 % interval and the number of items behind it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metric {
    /// The figure.
    pub estimate: f64,
    /// Lower end of the interval; −∞ (null in JSON) where the sample is too small to bound it.
    pub low: f64,
    /// Upper end, likewise.
    pub high: f64,
    /// Items.
    pub n: u64,
}

impl Metric {
    /// A bound and the items behind it.
    #[must_use]
    pub fn new(bound: Bound, n: u64) -> Self {
        Self { estimate: bound.estimate, low: bound.low, high: bound.high, n }
    }

    /// A share of k in n with its exact (Clopper–Pearson) interval; `None` when n is 0.
    #[must_use]
    pub fn share(k: u64, n: u64) -> Option<Self> {
        (n > 0).then(|| Self::new(binomial::interval(k, n, LEVEL), n))
    }

    /// A share of k in n with Wilson's interval, for the many small shares of a table; `None` when n is 0.
    #[must_use]
    pub fn wilson(k: u64, n: u64) -> Option<Self> {
        (n > 0).then(|| Self::new(binomial::wilson(k, n, LEVEL), n))
    }

    /// The mean of per-item scores with a BCa bootstrap interval; `None` without items.
    #[must_use]
    pub fn mean(scores: &[f64], seed: Seed) -> Option<Self> {
        let mut rng = ChaCha12Rng::seed_from_u64(seed.0);
        let n = scores.len() as u64;
        (n > 0).then(|| Self::new(bootstrap::bca_mean(scores, bootstrap::RESAMPLES, LEVEL, &mut rng), n))
    }

    /// A statistic of drawn item indices with a percentile bootstrap interval; `None` without items or where the
    /// statistic is not defined (NaN) on all of them.
    #[must_use]
    pub fn resampled(n: usize, seed: Seed, statistic: impl FnMut(&[usize]) -> f64) -> Option<Self> {
        if n == 0 {
            return None;
        }
        let mut rng = ChaCha12Rng::seed_from_u64(seed.0);
        // A statistic costs a pass over the items: fewer draws where they are many, because the interval is short then.
        let resamples = if n > 20_000 { 400 } else { 1000 };
        bootstrap::percentile(n, resamples, LEVEL, &mut rng, statistic).map(|bound| Self::new(bound, n as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_interval_and_no_items_give_none() {
        let scores: Vec<f64> = (0..50).map(|i| f64::from(i % 7) / 7.0).collect();
        assert_eq!(Metric::mean(&scores, Seed(4)), Metric::mean(&scores, Seed(4)));
        assert_ne!(Metric::mean(&scores, Seed(4)), Metric::mean(&scores, Seed(5)));
        assert!(Metric::mean(&[], Seed(1)).is_none() && Metric::share(0, 0).is_none());
        assert!(Metric::resampled(0, Seed(1), |_| 1.0).is_none());
    }
}
