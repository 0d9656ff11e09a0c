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

    /// For a figure between `least` and `most`: where resampling found no spread, because all items are alike, the ends
    /// lie where they would if the items that n of the same kind may have missed (the exact limit of a share of 0 in
    /// n) were all at `least` or all at `most`. For a share of 0 or n in n that is the exact interval.
    #[must_use]
    pub fn within(self, least: f64, most: f64) -> Self {
        if self.high - self.low > 1e-12 * (most - least) || !(least..=most).contains(&self.estimate) {
            return self;
        }
        let missed = binomial::upper(0, self.n, f64::midpoint(1.0, LEVEL));
        let towards = |end: f64| self.estimate + (end - self.estimate) * missed;
        Self { low: towards(least), high: towards(most), ..self }
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
    fn items_that_are_all_alike_leave_open_what_their_number_leaves_open() {
        let of = |value: f64, n: usize| Metric::mean(&vec![value; n], Seed(1)).expect("items").within(0.0, 1.0);
        let share = Metric::share(20, 20).expect("items");
        assert!((of(1.0, 20).low - share.low).abs() < 1e-12 && (of(1.0, 20).high - 1.0).abs() < 1e-15);
        assert!((of(0.0, 20).high - (1.0 - share.low)).abs() < 1e-12 && of(0.0, 20).low.abs() < 1e-15);
        let half = of(0.5, 20);
        assert!(half.low < 0.45 && half.high > 0.55 && of(0.5, 2000).low > 0.498);
        // Others keep what the resamples say.
        let spread = Metric::mean(&[0.2, 0.9, 0.4, 0.7], Seed(1)).expect("items");
        assert_eq!(spread.within(0.0, 1.0), spread);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_no_items_give_none() {
        let scores: Vec<f64> = (0..50).map(|i| f64::from(i % 7) / 7.0).collect();
        assert_eq!(Metric::mean(&scores, Seed(4)), Metric::mean(&scores, Seed(4)));
        assert_ne!(Metric::mean(&scores, Seed(4)), Metric::mean(&scores, Seed(5)));
        assert!(Metric::mean(&[], Seed(1)).is_none() && Metric::share(0, 0).is_none());
        assert!(Metric::resampled(0, Seed(1), |_| 1.0).is_none());
    }
}
