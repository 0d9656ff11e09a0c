//! Confidence bounds by hedged capital for the mean of values in [0, 1]: one gambler bets that the mean is above m,
//! another that it is below, and every m at which one of them grows rich is ruled out (I. Waudby-Smith and A. Ramdas,
//! *Estimating means of bounded random variables by betting*, JRSS-B 86, 2024, section 4).
//!
//! [`sequence`] and [`interval`] equal `betting_cs` and `betting_ci` of the Python package `confseq` by the same
//! authors, grid and all. [`Claim`] tests one value, which is all that a certificate needs, and [`upper`] finds the
//! limit itself instead of searching a grid.
//!
//! The stakes depend on the order of the values. Where an order is not given by time, shuffle with a fixed seed
//! before the values are looked at: an order that depends on the values breaks the guarantee.

use crate::{
    Bound,
    predmix::{Horizon, Moments, stakes},
};

/// Largest stake, as in `confseq`: half of the ruinous one for a sequence, 1 for an interval.
#[derive(Clone, Copy)]
enum Most {
    HalfOfRuin,
    One,
}

impl Most {
    /// The largest stake where the most that a value can fall short by is `distance`.
    fn at(self, distance: f64) -> f64 {
        match self {
            Self::HalfOfRuin => 0.5 / distance,
            Self::One => 1.0,
        }
    }
}

/// Confidence sequence at level 1 − `alpha` on a grid of `breaks` steps, widened by one step on either side.
///
/// # Panics
/// When `alpha` is outside (0, 1) or `breaks` is 0.
#[must_use]
pub fn sequence(x: &[f64], alpha: f64, breaks: u32) -> Vec<Bound> {
    on_grid(x, alpha, breaks, Horizon::Open, Most::HalfOfRuin)
}

/// Confidence interval at level 1 − `alpha`, tuned for this sample size: the narrowest of the sequence so far.
///
/// # Panics
/// When `x` is empty, `alpha` is outside (0, 1) or `breaks` is 0.
#[must_use]
pub fn interval(x: &[f64], alpha: f64, breaks: u32) -> Bound {
    let bounds = on_grid(x, alpha, breaks, Horizon::Fixed(x.len()), Most::One);
    let last = *bounds.last().expect("an interval needs values");
    Bound {
        low: bounds.iter().map(|bound| bound.low).fold(0.0, f64::max),
        high: bounds.iter().map(|bound| bound.high).fold(1.0, f64::min),
        ..last
    }
}

fn on_grid(x: &[f64], alpha: f64, breaks: u32, horizon: Horizon, most: Most) -> Vec<Bound> {
    assert!(alpha > 0.0 && alpha < 1.0 && breaks > 0, "alpha lies in (0, 1) and the grid has steps");
    let stakes = stakes(x, alpha / 2.0, horizon, f64::INFINITY);
    let step = 1.0 / f64::from(breaks);
    let mut ends: Vec<Option<(f64, f64)>> = vec![None; x.len()];
    for index in 0..=breaks {
        let mean = f64::from(index) * step;
        let (mut above, mut below) = (1.0_f64, 1.0_f64);
        for (i, (&value, &stake)) in x.iter().zip(&stakes).enumerate() {
            above *= factor(stake.min(most.at(mean)), value - mean);
            below *= factor(stake.min(most.at(1.0 - mean)), mean - value);
            if 0.5 * above.max(below) <= 1.0 / alpha {
                ends[i] = Some((ends[i].map_or(mean, |(low, _)| low), mean));
            }
        }
    }
    let mut sum = 0.0;
    let bound = |i: usize| {
        sum += x[i];
        let (low, high) = ends[i].map_or((0.0, 1.0), |(low, high)| ((low - step).max(0.0), (high + step).min(1.0)));
        Bound { estimate: sum / (i + 1) as f64, low, high, level: 1.0 - alpha }
    };
    (0..x.len()).map(bound).collect()
}

/// A stake without limit (mean 0 or 1) on a value that does not differ leaves the capital as it is.
fn factor(stake: f64, gain: f64) -> f64 {
    if gain.abs() > 0.0 { stake.mul_add(gain, 1.0) } else { 1.0 }
}

/// Values in [`low`, `high`] and a claim about their mean that betting may refute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Smallest possible value.
    pub low: f64,
    /// Largest possible value.
    pub high: f64,
    /// The claim: the mean is at least this.
    pub at_least: f64,
}

/// Share of the ruinous stake that a refutation risks at most.
const REFUTING_STAKE: f64 = 0.9;

impl Claim {
    /// Largest logarithm of the capital of a gambler who bets against the claim, over the values in their order. The
    /// claim is refuted at level 1 − `alpha` when it reaches ln(1/`alpha`); `alpha` also tunes the stakes, with the
    /// number of values. When the claim is true that happens with probability at most `alpha` (Ville).
    ///
    /// # Panics
    /// When the claim is outside (`low`, `high`) or `alpha` outside (0, 1).
    #[must_use]
    pub fn ln_evidence(&self, values: impl ExactSizeIterator<Item = f64>, alpha: f64) -> f64 {
        let horizon = Horizon::Fixed(values.len());
        self.ln_capital(values, alpha, horizon)
    }

    /// Whether the claim is refuted at level 1 − `alpha` by values that may have been looked at before, and may be again
    /// when there are more: stakes do not depend on their number. The claim's range must stay the same.
    ///
    /// # Panics
    /// As [`Claim::ln_evidence`].
    #[must_use]
    pub fn refuted_at_any_time(&self, values: impl Iterator<Item = f64>, alpha: f64) -> bool {
        self.ln_capital(values, alpha, Horizon::Open) >= (1.0 / alpha).ln()
    }

    fn ln_capital(&self, values: impl Iterator<Item = f64>, alpha: f64, horizon: Horizon) -> f64 {
        let span = self.high - self.low;
        let mean = (self.at_least - self.low) / span;
        assert!(mean > 0.0 && mean < 1.0 && alpha > 0.0 && alpha < 1.0, "a claim inside the range, alpha in (0, 1)");
        let (evidence, most) = (2.0 * (1.0 / alpha).ln(), REFUTING_STAKE / (1.0 - mean));
        let (mut seen, mut capital, mut peak) = (Moments::default(), 0.0_f64, 0.0_f64);
        let mut time = 0.0_f64;
        for value in values {
            let unit = (value - self.low) / span;
            time += 1.0;
            let planned = match horizon {
                Horizon::Fixed(n) => n as f64,
                Horizon::Open => time * time.ln_1p(),
            };
            capital += ((evidence / (planned * seen.variance())).sqrt().min(most) * (mean - unit)).ln_1p();
            peak = peak.max(capital);
            seen.push(unit);
        }
        peak
    }

    /// Whether the claim is refuted at level 1 − `alpha`.
    ///
    /// # Panics
    /// As [`Claim::ln_evidence`].
    #[must_use]
    pub fn refuted(&self, values: impl ExactSizeIterator<Item = f64>, alpha: f64) -> bool {
        self.ln_evidence(values, alpha) >= (1.0 / alpha).ln()
    }
}

/// One-sided upper limit of the mean of values in [`low`, `high`] at level 1 − `alpha`: the least mean that is
/// refuted, found by bisection. `high` when none is.
///
/// # Panics
/// When `low` ≥ `high` or `alpha` is outside (0, 1).
#[must_use]
pub fn upper(values: &[f64], low: f64, high: f64, alpha: f64) -> f64 {
    assert!(low < high, "the range has a width");
    let refuted = |at_least: f64| Claim { low, high, at_least }.refuted(values.iter().copied(), alpha);
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mut stands, mut falls) = (mean.clamp(low, high), high);
    for _ in 0..60 {
        let middle = stands + (falls - stands) / 2.0;
        let share = (middle - low) / (high - low);
        if share <= 0.0 || share >= 1.0 || middle <= stands || middle >= falls {
            break;
        }
        if refuted(middle) { falls = middle } else { stands = middle }
    }
    falls
}

/// Two-sided interval of the mean of values in [`low`, `high`]: [`upper`] and its mirror image, each at half of
/// 1 − `level`.
///
/// # Panics
/// As [`upper`].
#[must_use]
pub fn two_sided(values: &[f64], low: f64, high: f64, level: f64) -> Bound {
    let side = (1.0 - level) / 2.0;
    let mirrored: Vec<f64> = values.iter().map(|value| -value).collect();
    Bound {
        estimate: values.iter().sum::<f64>() / values.len().max(1) as f64,
        low: -upper(&mirrored, -high, -low, side),
        high: upper(values, low, high, side),
        level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::draws;

    #[test]
    fn a_true_claim_is_refuted_no_more_often_than_alpha() {
        let (runs, alpha) = (2000_u64, 0.05);
        // Graded losses with mean 2 %, and differences of −1, 0, 1 with mean 2 %.
        let graded = |u: f64| if u < 0.04 { u / 0.04 } else { 0.0 };
        let signed = |u: f64| {
            if u < 0.06 {
                1.0
            } else if u < 0.10 {
                -1.0
            } else {
                0.0
            }
        };
        let refuted = |low: f64, value: &dyn Fn(f64) -> f64| {
            let claim = Claim { low, high: 1.0, at_least: 0.02 };
            let once = |run: &u64| {
                let x: Vec<f64> = draws(*run, 400).map(value).collect();
                claim.refuted(x.into_iter(), alpha)
            };
            (0..runs).filter(once).count() as u64
        };
        let counts = [refuted(0.0, &graded), refuted(-1.0, &signed)];
        println!("of {runs} true claims refuted: graded {}, signed {} (5 % allowed)", counts[0], counts[1]);
        assert!(counts.iter().all(|&count| crate::binomial::interval(count, runs, 0.95).low <= alpha));
    }

    #[test]
    fn a_true_claim_is_looked_at_again_and_again_and_refuted_no_more_often_than_alpha() {
        let (runs, alpha) = (400_u64, 0.1);
        let claim = Claim { low: 0.0, high: 1.0, at_least: 0.05 };
        let (mut by_looking, mut open) = (0_u64, 0_u64);
        for run in 0..runs {
            let x: Vec<f64> = draws(run, 1600).map(|u| f64::from(u8::from(u < 0.05))).collect();
            let looks = [100, 200, 400, 800, 1600];
            by_looking += u64::from(looks.iter().any(|&n| claim.refuted(x[..n].iter().copied(), alpha)));
            open += u64::from(looks.iter().any(|&n| claim.refuted_at_any_time(x[..n].iter().copied(), alpha)));
        }
        println!("of {runs} true claims refuted at one of five looks: {open}; with stakes for one look: {by_looking}");
        assert!(crate::binomial::interval(open, runs, 0.95).low <= alpha);
        assert!(crate::binomial::interval(by_looking, runs, 0.95).low > alpha);
    }

    #[test]
    fn the_limit_is_where_refutation_begins_and_lies_above_the_mean() {
        let x: Vec<f64> = draws(3, 3000).map(|u| if u < 0.01 { 0.7 } else { 0.0 }).collect();
        let limit = upper(&x, 0.0, 1.0, 0.05);
        let claim = |at_least| Claim { low: 0.0, high: 1.0, at_least }.refuted(x.iter().copied(), 0.05);
        assert!(claim(limit * 1.0001) && !claim(limit * 0.9999) && limit > 0.007 && limit < 0.015, "{limit}");
        let both = two_sided(&x, -1.0, 1.0, 0.95);
        assert!(both.low < both.estimate && both.estimate < both.high);
    }

    #[test]
    fn an_interval_holds_the_mean_as_often_as_it_says() {
        let missed = (0..300_u64).filter(|&run| {
            let x: Vec<f64> = draws(run, 200).map(|u| u * u).collect();
            !interval(&x, 0.1, 200).contains(1.0 / 3.0)
        });
        assert!(missed.count() <= 30);
    }
}
