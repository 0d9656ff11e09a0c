//! A fair coin watched while it is thrown: exact two-sided tests that may stop at any throw.
//!
//! Two models on the same examples differ only where exactly one is right; when both are equally good each such example
//! is a fair coin (McNemar). [`Walk`] spends the error α over the planned examples by a function fixed beforehand
//! (K. K. G. Lan and D. L. DeMets, *Discrete sequential boundaries for clinical trials*, Biometrika 70, 1983) and
//! computes the limits from the exact distribution of the coin among the paths that have not stopped, so the error is at
//! most α whatever the number of throws. [`BetaMixture`] bets with every bias at once and needs no plan: its evidence
//! may be looked at for ever (H. Robbins, *Statistical methods related to the law of the iterated logarithm*, 1970).

use statrs::function::{beta::ln_beta, erf::erfc};

/// How much of α may be spent by the time a share of the plan is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spending {
    /// Little at first: nearly the fixed test at the end (O'Brien and Fleming).
    OBrienFleming,
    /// Evenly on the scale of the limits (Pocock).
    Pocock,
    /// α·tᵖ (Kim and DeMets).
    Power(f64),
}

impl Spending {
    /// The part of `alpha` that may be spent when the share `done` of the plan is over.
    #[must_use]
    pub fn spent(self, alpha: f64, done: f64) -> f64 {
        let done = done.clamp(0.0, 1.0);
        match self {
            _ if done <= 0.0 => 0.0,
            Self::OBrienFleming => {
                let z = crate::normal_quantile(1.0 - alpha / 4.0) / done.sqrt();
                (2.0 * erfc(z / std::f64::consts::SQRT_2)).min(alpha)
            }
            Self::Pocock => alpha * ((std::f64::consts::E - 1.0) * done).ln_1p(),
            Self::Power(power) => alpha * done.powf(power),
        }
    }
}

/// A two-sided test of "the coin is fair" that is looked at after every example of a plan.
#[derive(Debug, Clone)]
pub struct Walk {
    alpha: f64,
    spending: Spending,
    planned: u64,
    seen: u64,
    throws: u64,
    /// Heads minus tails.
    position: i64,
    /// Probability, for a fair coin, of standing at each absolute position without having stopped. Those of the other
    /// parity are 0.
    surviving: Vec<f64>,
    spent: f64,
    /// The smallest absolute position that stops, so far.
    limit: usize,
    rejected: bool,
}

impl Walk {
    /// A test at `alpha` over `planned` examples.
    ///
    /// # Panics
    /// When `alpha` is outside (0, 1) or nothing is planned.
    #[must_use]
    pub fn new(alpha: f64, spending: Spending, planned: u64) -> Self {
        assert!(alpha > 0.0 && alpha < 1.0 && planned > 0, "alpha lies in (0, 1) and examples are planned");
        let surviving = vec![1.0];
        Self {
            alpha,
            spending,
            planned,
            seen: 0,
            throws: 0,
            position: 0,
            surviving,
            spent: 0.0,
            limit: usize::MAX,
            rejected: false,
        }
    }

    /// Takes the next example: heads, tails, or `None` when both models did alike. Examples beyond the plan are not
    /// taken. Returns whether the coin has been found unfair by now.
    pub fn push(&mut self, heads: Option<bool>) -> bool {
        if self.seen == self.planned || self.rejected {
            return self.rejected;
        }
        self.seen += 1;
        if let Some(heads) = heads {
            self.throws += 1;
            self.position += if heads { 1 } else { -1 };
            self.throw();
        }
        self.stop();
        self.rejected = usize::try_from(self.position.unsigned_abs()).is_ok_and(|at| at >= self.limit);
        self.rejected
    }

    /// One throw of the fair coin, on absolute positions: from 0 always to 1, else half up and half down.
    fn throw(&mut self) {
        let before = std::mem::take(&mut self.surviving);
        let mut after = vec![0.0; before.len() + 1];
        for (at, &mass) in before.iter().enumerate() {
            if at == 0 {
                after[1] += mass;
            } else {
                after[at + 1] += 0.5 * mass;
                after[at - 1] += 0.5 * mass;
            }
        }
        self.surviving = after;
        // Positions at or beyond the limit of the last look are decided anew in `stop`.
        self.limit = usize::MAX;
    }

    /// Stops the outermost positions as far as the error spent by now allows.
    fn stop(&mut self) {
        let allowed = self.spending.spent(self.alpha, self.seen as f64 / self.planned as f64);
        while let Some(&mass) = self.surviving.last() {
            if self.spent + mass > allowed {
                break;
            }
            self.spent += mass;
            self.surviving.pop();
            self.limit = self.surviving.len();
        }
    }

    /// Heads minus tails, and throws.
    #[must_use]
    pub fn standing(&self) -> (i64, u64) {
        (self.position, self.throws)
    }

    /// Examples taken.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The chance, by what was seen, that the fixed test at the end of the plan would find the coin unfair: predictive
    /// power under a flat prior on the bias (D. J. Spiegelhalter, L. S. Freedman and P. R. Blackburn, *Controlled
    /// Clinical Trials* 7, 1986), by the normal law. 1 before the first throw.
    #[must_use]
    pub fn predicted_power(&self) -> f64 {
        if self.throws == 0 || self.seen == 0 {
            return 1.0;
        }
        let (throws, position) = (self.throws as f64, self.position as f64);
        let more = (self.planned - self.seen) as f64 * throws / self.seen as f64;
        let limit = crate::normal_quantile(1.0 - self.alpha / 2.0) * (throws + more).sqrt();
        if more <= 0.0 {
            return f64::from(u8::from(position.abs() >= limit));
        }
        let middle = position * (1.0 + more / throws);
        let spread = (more * (1.0 + more / throws) * 2.0).sqrt();
        0.5 * (erfc((limit - middle) / spread) + erfc((limit + middle) / spread))
    }
}

/// Evidence against a fair coin by betting on every bias at once, uniformly.
///
/// After h heads and t tails the capital is B(h + 1, t + 1) · 2^(h + t). Reaching 1/α at any time has probability at
/// most α for a fair coin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BetaMixture {
    heads: u64,
    tails: u64,
}

impl BetaMixture {
    /// Takes one throw.
    pub fn push(&mut self, heads: bool) {
        if heads {
            self.heads += 1;
        } else {
            self.tails += 1;
        }
    }

    /// Natural logarithm of the capital.
    #[must_use]
    pub fn ln_evidence(&self) -> f64 {
        let (heads, tails) = (self.heads as f64, self.tails as f64);
        ln_beta(heads + 1.0, tails + 1.0) + (heads + tails) * std::f64::consts::LN_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::draws;

    /// Probability that a fair coin is found unfair, by following every path.
    fn error(walk: &Walk, left: u32, examples: &[bool]) -> f64 {
        if left == 0 {
            return 0.0;
        }
        let after = |heads: Option<bool>| {
            let mut next = walk.clone();
            if next.push(heads) { 1.0 } else { error(&next, left - 1, &examples[1..]) }
        };
        if examples[0] { 0.5 * (after(Some(true)) + after(Some(false))) } else { after(None) }
    }

    #[test]
    fn the_error_over_every_path_is_at_most_alpha_and_nearly_all_of_it() {
        let examples: Vec<bool> = (0..18).map(|i| i % 5 != 3).collect();
        for spending in [Spending::OBrienFleming, Spending::Pocock, Spending::Power(1.5)] {
            let walk = Walk::new(0.1, spending, 18);
            let error = error(&walk, 18, &examples);
            println!("{spending:?}: error {error:.4} of 0.1");
            assert!(error <= 0.1 + 1e-12 && error > 0.05);
        }
    }

    #[test]
    fn a_clear_difference_stops_early_and_a_fair_coin_mostly_never() {
        let mut walk = Walk::new(0.05, Spending::Power(1.5), 1000);
        let stopped = (1..=1000).find(|_| walk.push(Some(true)));
        assert!(stopped.is_some_and(|n| n < 40), "{stopped:?}");
        let found = (0..400_u64).filter(|&run| {
            let mut walk = Walk::new(0.05, Spending::Pocock, 300);
            draws(run, 300).any(|u| walk.push(if u < 0.4 { Some(u < 0.2) } else { None }))
        });
        assert!(found.count() <= 32, "5 % of 400 is 20");
    }

    #[test]
    fn predicted_power_is_near_the_share_of_continuations_that_reject() {
        let mut walk = Walk::new(0.05, Spending::OBrienFleming, 400);
        for i in 0..100 {
            walk.push(if i % 2 == 0 { Some(i % 20 < 12) } else { None });
        }
        let (position, throws) = walk.standing();
        assert_eq!((position, throws), (10, 50));
        // Flat prior: heads have probability Beta(31, 21), roughly; 150 more throws.
        let runs = 4000_u64;
        let reject = (0..runs).filter(|&run| {
            let mut u = draws(run, 220);
            let bias = {
                // A Beta draw by order statistics: the 31st smallest of 51 uniforms.
                let mut first: Vec<f64> = u.by_ref().take(51).collect();
                first.sort_by(f64::total_cmp);
                first[30]
            };
            let sum: i64 = u.take(150).map(|v| if v < bias { 1 } else { -1 }).sum::<i64>() + position;
            sum.abs() as f64 >= 1.96 * 200.0_f64.sqrt()
        });
        let share = reject.count() as f64 / runs as f64;
        assert!((walk.predicted_power() - share).abs() < 0.05, "{} and {share}", walk.predicted_power());
    }

    #[test]
    fn the_beta_mixture_is_a_fair_bet() {
        fn average(bets: BetaMixture, left: u32) -> f64 {
            if left == 0 {
                return bets.ln_evidence().exp();
            }
            let (mut yes, mut no) = (bets, bets);
            yes.push(true);
            no.push(false);
            0.5 * (average(yes, left - 1) + average(no, left - 1))
        }
        assert!((average(BetaMixture::default(), 12) - 1.0).abs() < 1e-9);
    }
}
