//! The qualities of a model and its baseline on the same rows, and what they show: shared by runs, comparisons and
//! step-downs.
//!
//! Right or wrong answers are counted: McNemar's exact test, Tango's score test for a margin. Claims about the mean of
//! graded qualities are bet on, which is valid for any distribution and any number of rows; a t-test on 150 rows that all
//! agree would be certain of what it cannot know. Against a t-test on well-behaved differences betting needs about 1.5
//! times as many rows (`cargo xtask bench power`).

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;
use understudy_core::Seed;
use understudy_stats::{Bound, hedged::Claim, hedged::two_sided, paired};

/// Pairs of qualities in [0, 1], one for each row that both models answered.
pub(crate) struct Pairs {
    /// Model minus baseline, in the order of the rows.
    differences: Vec<f64>,
    /// The same in an order drawn by the seed, fixed before anything is looked at: bets depend on the order.
    drawn: Vec<f64>,
    /// Rows that only the model, and only the baseline, got right, where all are right or wrong.
    counts: Option<(u64, u64)>,
}

impl Pairs {
    /// (model, baseline) a row.
    pub(crate) fn new(pairs: &[(f64, f64)], seed: Seed) -> Self {
        let differences: Vec<f64> = pairs.iter().map(|(model, baseline)| model - baseline).collect();
        let mut drawn = differences.clone();
        drawn.shuffle(&mut ChaCha12Rng::seed_from_u64(seed.derive("order").0));
        let counted = pairs.iter().all(|(m, b)| is_binary(*m) && is_binary(*b));
        let count = |sign: f64| differences.iter().filter(|d| **d * sign > 0.5).count() as u64;
        let counts = counted.then(|| (count(1.0), count(-1.0)));
        Self { differences, drawn, counts }
    }

    /// Rows.
    pub(crate) fn n(&self) -> u64 {
        self.differences.len() as u64
    }

    /// Model minus baseline, in the order of the rows.
    pub(crate) fn differences(&self) -> &[f64] {
        &self.differences
    }

    /// Rows that only the model, and only the baseline, got right; `None` for graded qualities.
    pub(crate) fn counts(&self) -> Option<(u64, u64)> {
        self.counts
    }

    /// Two-sided p-value of McNemar's exact test; `None` for graded qualities.
    pub(crate) fn mcnemar(&self) -> Option<f64> {
        self.counts.map(|(model, baseline)| paired::mcnemar(baseline, model))
    }

    /// One-sided p-value against "worse than the baseline by `margin` or more". `alpha`, the level at which it will be
    /// judged, tunes bets; the p-value is valid whatever it is.
    pub(crate) fn p_not_inferior(&self, margin: f64, alpha: f64) -> f64 {
        match self.counts {
            Some((model, baseline)) => paired::not_worse(baseline, model, self.n(), margin),
            None => self.bet(-1.0, margin, alpha),
        }
    }

    /// One-sided p-value against "worse than the baseline by `margin` or less".
    pub(crate) fn p_inferior(&self, margin: f64, alpha: f64) -> f64 {
        match self.counts {
            Some((model, baseline)) => paired::worse(baseline, model, self.n(), margin),
            None => self.bet(1.0, -margin, alpha),
        }
    }

    /// Two-sided p-value of equal means.
    pub(crate) fn p_unequal(&self, alpha: f64) -> f64 {
        let bets = || self.bet(-1.0, 0.0, alpha / 2.0).min(self.bet(1.0, 0.0, alpha / 2.0));
        self.mcnemar().unwrap_or_else(|| (2.0 * bets()).min(1.0))
    }

    /// The mean difference with an interval: Tango's score interval, which agrees with the tests, or a betting one.
    pub(crate) fn interval(&self, level: f64) -> Bound {
        match self.counts {
            Some((model, baseline)) => paired::score_difference(baseline, model, self.n(), level),
            None => two_sided(&self.drawn, -1.0, 1.0, level),
        }
    }

    /// p-value against "the mean of `sign` times the differences is at least `at_least`": one over the largest capital.
    fn bet(&self, sign: f64, at_least: f64, alpha: f64) -> f64 {
        if !self.drawn.iter().all(|d| d.abs() <= 1.0) {
            return 1.0;
        }
        let values = self.drawn.iter().map(|d| sign * d);
        (-Claim { low: -1.0, high: 1.0, at_least }.ln_evidence(values, alpha)).exp()
    }
}

/// Whether a quality is right or wrong, and nothing between.
pub(crate) fn is_binary(quality: f64) -> bool {
    quality.abs() < 1e-12 || (quality - 1.0).abs() < 1e-12
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn a_graded_loss_at_the_margin_passes_no_more_often_than_the_level() {
        // One answer in 25 loses half its quality, the others nothing: a t-test lets more than a tenth of these pass.
        let (runs, n, margin) = (500_u64, 120, 0.02);
        let (mut passed, mut by_t) = (0, 0);
        for run in 0..runs {
            let mut rng = ChaCha12Rng::seed_from_u64(run);
            let pairs: Vec<(f64, f64)> =
                (0..n).map(|_| (if rng.random::<f64>() < 0.04 { 0.3 } else { 0.8 }, 0.8)).collect();
            let pairs = Pairs::new(&pairs, Seed(run));
            passed += u64::from(pairs.p_not_inferior(margin, 0.05) <= 0.05);
            by_t += u64::from(paired::t_test_above(pairs.differences(), -margin) <= 0.05);
        }
        println!("of {runs} losses at the margin passed: {passed} by betting, {by_t} by a t-test (25 allowed)");
        assert!(passed <= 25 && by_t > 40);
    }

    #[test]
    fn rows_that_all_agree_show_no_more_than_their_number() {
        let equal = |n: usize| Pairs::new(&vec![(0.7, 0.7); n], Seed(1));
        assert!(equal(5).p_not_inferior(0.02, 0.05) > 0.5 && equal(400).p_not_inferior(0.02, 0.05) <= 0.05);
        let interval = equal(50).interval(0.95);
        assert!(interval.low < -0.02 && interval.high > 0.02, "{interval:?}");
        assert!(equal(400).p_unequal(0.05) > 0.99);
    }

    #[test]
    fn differences_that_matter_are_found_in_either_direction() {
        let pairs = |shift: f64| {
            let mut rng = ChaCha12Rng::seed_from_u64(5);
            let pair = |_| {
                let base = rng.random_range(0.3..0.7);
                (base + shift + rng.random_range(-0.1..0.1), base)
            };
            Pairs::new(&(0..400).map(pair).collect::<Vec<_>>(), Seed(1))
        };
        assert!(pairs(0.0).p_not_inferior(0.02, 0.05) <= 0.05 && pairs(0.0).p_unequal(0.05) > 0.05);
        assert!(pairs(-0.06).p_inferior(0.02, 0.05) <= 0.05 && pairs(-0.06).p_not_inferior(0.02, 0.05) > 0.5);
        assert!(pairs(0.05).p_unequal(0.05) <= 0.05 && pairs(0.05).interval(0.95).low > 0.0);
        let broken = Pairs::new(&[(f64::NAN, 0.5), (0.9, 0.5)], Seed(1));
        assert!(broken.p_not_inferior(0.02, 0.05) > 0.99 && broken.p_unequal(0.05) > 0.99);
    }
}
