//! Evidence about the mean of bounded values that may be looked at for ever, by constant bets of many strengths at once.
//!
//! Each gambler stakes a fixed share of the ruinous stake on "the mean is above m" at every value, which multiplies the
//! capital by 1 + λ(x − m). While the mean given the past is at most m the average capital W does not grow, so
//! P(W ever reaches 1/α) ≤ α (Ville). With many strengths W follows the best of them up to a small cost, whatever the
//! spread of the values (T. Cover, *Universal portfolios*, 1991; I. Waudby-Smith and A. Ramdas 2024, section 5.3).
//! Unlike [`crate::hedged`] the capital does not depend on the order of the values.

/// Strengths: shares of the ruinous stake, each 1.5 times the one before, up to 0.95.
const STRENGTHS: usize = 16;
const RATIO: f64 = 1.5;
const STRONGEST: f64 = 0.95;

/// A running test of "the mean, given the past, is at most `mean`", for values of at least `low`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    mean: f64,
    stakes: [f64; STRENGTHS],
    capital: [f64; STRENGTHS],
    seen: u64,
    peak: f64,
}

impl Mixture {
    /// A test against `mean` of values in [`low`, ∞).
    ///
    /// # Panics
    /// When `mean` ≤ `low`.
    #[must_use]
    pub fn against(mean: f64, low: f64) -> Self {
        assert!(mean > low, "the mean that is bet against lies above the smallest value");
        let mut stakes = [STRONGEST / (mean - low); STRENGTHS];
        for i in 1..STRENGTHS {
            stakes[i] = stakes[i - 1] / RATIO;
        }
        Self { mean, stakes, capital: [0.0; STRENGTHS], seen: 0, peak: 0.0 }
    }

    /// Takes one value.
    ///
    /// # Panics
    /// When the value lies so far below `low` that a gambler would be ruined.
    pub fn push(&mut self, value: f64) {
        for (capital, stake) in self.capital.iter_mut().zip(self.stakes) {
            let gain = stake * (value - self.mean);
            assert!(gain > -1.0, "the value lies below the smallest one allowed");
            *capital += gain.ln_1p();
        }
        self.seen += 1;
        self.peak = self.peak.max(self.ln_evidence());
    }

    /// Values so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Natural logarithm of the average capital.
    #[must_use]
    pub fn ln_evidence(&self) -> f64 {
        let most = self.capital.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + (self.capital.iter().map(|capital| (capital - most).exp()).sum::<f64>() / STRENGTHS as f64).ln()
    }

    /// Whether the claim is rejected at `alpha`: the capital has reached 1/α at some time.
    #[must_use]
    pub fn rejects(&self, alpha: f64) -> bool {
        self.peak >= -alpha.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::draws;

    fn rejections(mean: f64, shift: f64) -> usize {
        let found = (0..500_u64).filter(|&run| {
            let mut test = Mixture::against(mean, -1.0);
            draws(run, 1500).any(|u| {
                test.push(if u < 0.1 {
                    1.0
                } else if u < 0.2 - shift {
                    -1.0
                } else {
                    0.0
                });
                test.rejects(0.05)
            })
        });
        found.count()
    }

    #[test]
    fn a_true_claim_is_seldom_rejected_and_a_false_one_mostly() {
        let (null, other) = (rejections(0.0, 0.0), rejections(0.0, 0.06));
        println!("of 500: {null} rejections of a mean of 0, {other} of a mean of 0.06");
        assert!(null <= 25 && other >= 450);
    }

    #[test]
    fn the_average_capital_stays_at_one() {
        fn average(test: &Mixture, left: u32) -> f64 {
            if left == 0 {
                return test.ln_evidence().exp();
            }
            let after = |value: f64| {
                let mut next = test.clone();
                next.push(value);
                average(&next, left - 1)
            };
            // Mean 0.2 of the values −1, 0, 1.
            0.3 * after(-1.0) + 0.2 * after(0.0) + 0.5 * after(1.0)
        }
        let mean = average(&Mixture::against(0.2, -1.0), 8);
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
    }
}
