//! Evidence that may be looked at after every observation: betting against "the mean is at most m".
//!
//! Each bet multiplies its wealth by 1 + λ(x − m) with λ fixed before x is seen. While the mean of x given the past is
//! at most m, no bet gains on average, so the whole wealth W is a nonnegative supermartingale that starts at 1, and
//! P(W ever reaches 1/α) ≤ α (Ville, 1939; Waudby-Smith & Ramdas, *Estimating means of bounded random variables by
//! betting*, 2024). The wealth is spread over a few strengths of the alternative and over starting times, so that a
//! change after a long good period is found without first earning back what that period cost.

/// Odds by which an alternative exceeds the mean that is bet against.
const ODDS: [f64; 6] = [1.15, 1.3, 1.6, 2.2, 3.5, 8.0];

/// Observations between two starting times.
const STRIDE: u64 = 50;

/// Share of the wealth that is in play from the first observation on; the rest waits for later starting times, of
/// which the b-th gets 1/(b(b + 1)).
const AT_ONCE: f64 = 0.5;

/// A running test of "the mean, given the past, is at most `mean`", for observations x ≥ 0.
///
/// Equal sequences give equal states: to restore one, push the recorded observations again.
#[derive(Debug, Clone, PartialEq)]
pub struct Bets {
    mean: f64,
    /// Log wealth of each strength, over its starting times so far.
    in_play: [f64; ODDS.len()],
    /// Wealth of each strength that waits for later starting times.
    waiting: f64,
    seen: u64,
    peak: f64,
}

impl Bets {
    /// A test against `mean`.
    ///
    /// # Panics
    /// When `mean` is outside (0, 1).
    #[must_use]
    pub fn against(mean: f64) -> Self {
        assert!(mean > 0.0 && mean < 1.0, "the mean that is bet against lies in (0, 1)");
        Self { mean, in_play: [f64::NEG_INFINITY; ODDS.len()], waiting: 1.0, seen: 0, peak: 0.0 }
    }

    /// The mean that is bet against.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Observations so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes one observation.
    ///
    /// `x` is an unbiased view of a quantity in [0, 1]: the quantity itself, or, when it is looked at only with
    /// probability p, 1/p times the quantity when looked at and 0 otherwise. `rate` is that probability (1 when always
    /// looked at) and scales the stakes. It must have been fixed before this observation: from the past, never from
    /// the request at hand. Were it larger for requests that look bad, the bets would be larger exactly where losses
    /// are expected, and the guarantee would be gone.
    ///
    /// # Panics
    /// When `x` is negative or not finite, or `rate` is outside [0, 1].
    pub fn push(&mut self, x: f64, rate: f64) {
        assert!(x >= 0.0 && x.is_finite() && (0.0..=1.0).contains(&rate), "x ≥ 0 and a rate in [0, 1]");
        if self.seen.is_multiple_of(STRIDE) {
            let block = (self.seen / STRIDE) as f64;
            let start = if self.seen == 0 { AT_ONCE } else { (1.0 - AT_ONCE) / (block * (block + 1.0)) };
            // Rounding may not make the parts exceed the whole.
            let start = start.min(self.waiting);
            self.waiting -= start;
            for wealth in &mut self.in_play {
                *wealth = ln_add(*wealth, start.ln());
            }
        }
        for (wealth, odds) in self.in_play.iter_mut().zip(ODDS) {
            // The likelihood ratio of two Bernoulli laws whose odds differ by `odds`, written as a bet. It stays
            // positive for every x ≥ 0.
            let stake = rate * (odds - 1.0) / (1.0 + (odds - 1.0) * rate * self.mean);
            *wealth += (stake * (x - self.mean)).ln_1p();
        }
        self.seen += 1;
        self.peak = self.peak.max(self.ln_evidence());
    }

    /// Natural logarithm of the wealth now.
    #[must_use]
    pub fn ln_evidence(&self) -> f64 {
        let in_play = self.in_play.iter().copied().fold(f64::NEG_INFINITY, ln_add) - (ODDS.len() as f64).ln();
        ln_add(in_play, self.waiting.ln())
    }

    /// Natural logarithm of the largest wealth so far: e to this power is the evidence, to one, against the claim.
    #[must_use]
    pub fn ln_peak(&self) -> f64 {
        self.peak
    }

    /// Whether the claim is rejected at `alpha`: the wealth has reached 1/α at some time. While the claim is true this
    /// ever happens with probability at most `alpha`, however often one looks.
    #[must_use]
    pub fn rejects(&self, alpha: f64) -> bool {
        self.peak >= -alpha.ln()
    }
}

/// ln(eᵃ + eᵇ).
fn ln_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binomial;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Shares of `runs` in which the claim "mean ≤ 2 %" is rejected at 5 % within `length` requests.
    fn rejections(runs: u64, length: u64, loss: f64, rate: f64) -> u64 {
        (0..runs)
            .filter(|&run| {
                let mut rng = ChaCha8Rng::seed_from_u64(run);
                let mut bets = Bets::against(0.02);
                (0..length).any(|_| {
                    let x = if rng.random::<f64>() < loss * rate { 1.0 / rate } else { 0.0 };
                    bets.push(x, rate);
                    bets.rejects(0.05)
                })
            })
            .count() as u64
    }

    #[test]
    fn a_mean_at_the_boundary_is_rejected_no_more_often_than_alpha() {
        for rate in [0.05, 0.1, 0.2, 1.0] {
            let hits = rejections(2000, 3000, 0.02, rate);
            let bound = binomial::interval(hits, 2000, 0.95);
            println!("rate {rate}: false rejections {:.4} [{:.4}, {:.4}]", bound.estimate, bound.low, bound.high);
            assert!(bound.low <= 0.05, "{bound:?}");
        }
    }

    #[test]
    fn a_larger_loss_is_found_and_more_often_with_more_audits() {
        for factor in [1.5, 2.0, 3.0] {
            let shares =
                [0.05, 0.1, 0.2, 0.5, 1.0].map(|rate| rejections(200, 5000, 0.02 * factor, rate) as f64 / 200.0);
            println!("loss {factor} x epsilon, audit rates 5, 10, 20, 50, 100 %, 5,000 requests: {shares:?}");
            assert!(shares[4] >= shares[2] && shares[2] >= shares[0] && shares[4] > 0.9);
        }
    }

    #[test]
    fn the_average_wealth_is_at_most_one_whatever_the_predictable_rate() {
        // Exact, over every path of 12 observations, with a rate that jumps after each success.
        fn average(bets: &Bets, left: u32, rate: f64) -> f64 {
            if left == 0 {
                return bets.ln_evidence().exp();
            }
            let hit = bets.mean() * rate;
            let (mut yes, mut no) = (bets.clone(), bets.clone());
            yes.push(1.0 / rate, rate);
            no.push(0.0, rate);
            hit * average(&yes, left - 1, (rate * 3.0).min(1.0)) + (1.0 - hit) * average(&no, left - 1, rate)
        }
        let wealth = average(&Bets::against(0.3), 12, 0.2);
        assert!((wealth - 1.0).abs() < 1e-12, "{wealth}");
    }

    #[test]
    fn a_change_after_a_long_good_period_is_found() {
        let mut bets = Bets::against(0.05);
        (0..20_000).for_each(|_| bets.push(0.0, 1.0));
        let found = (0..2_000_u32).find(|i| {
            bets.push(f64::from(u8::from(i % 4 == 0)), 1.0);
            bets.rejects(0.05)
        });
        println!("found after {found:?} requests of 25 % loss");
        assert!(found.is_some_and(|n| n < 200));
    }

    #[test]
    fn huge_evidence_stays_finite() {
        let mut bets = Bets::against(0.01);
        (0..100_000).for_each(|_| bets.push(1.0, 1.0));
        assert!(bets.ln_evidence().is_finite() && bets.ln_evidence() > 1e4);
    }
}
