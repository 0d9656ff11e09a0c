//! Confidence sequences for the mean of values in [0, 1] in closed form: Hoeffding's and the empirical Bernstein one,
//! each with stakes that are fixed before the value they are placed on ("predictable mixture": I. Waudby-Smith and
//! A. Ramdas, *Estimating means of bounded random variables by betting*, JRSS-B 86, 2024, sections 3.1 and 3.2).
//!
//! Equal to the Python package `confseq` (`confseq.predmix`) by the same authors. A sequence holds at all times at
//! once; an interval is tuned for one sample size and holds at its end.

use crate::Bound;

/// What the stakes are tuned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Horizon {
    /// Any time: a confidence sequence.
    Open,
    /// A sample of this size: an interval at its end.
    Fixed(usize),
}

/// Stakes of the empirical Bernstein mixture, one for each value of `x`, each from the values before it: equation
/// (15) of the paper with the regularised variance (¼ + Σ(xᵢ − μ̂ᵢ)²) / (t + 1). Never above `truncation`.
#[must_use]
pub fn stakes(x: &[f64], alpha: f64, horizon: Horizon, truncation: f64) -> Vec<f64> {
    let evidence = 2.0 * (1.0 / alpha).ln();
    let mut seen = Moments::default();
    x.iter()
        .enumerate()
        .map(|(i, &value)| {
            let time = (i + 1) as f64;
            let span = match horizon {
                Horizon::Open => time * (1.0 + time).ln(),
                Horizon::Fixed(n) => n as f64,
            };
            let stake = (evidence / (span * seen.variance())).sqrt();
            seen.push(value);
            stake.min(truncation)
        })
        .collect()
}

/// Mean and variance so far, each with one imagined value: mean ½, variance ¼.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    pub(crate) fn push(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        let mean = ((0.5 + self.sum) / (self.count + 1.0)).min(1.0);
        self.squares += (value - mean).powi(2);
    }

    pub(crate) fn variance(&self) -> f64 {
        (0.25 + self.squares) / (self.count + 1.0)
    }
}

/// Lower empirical Bernstein confidence sequence at level 1 − `alpha`, for values of at least 0.
///
/// # Panics
/// When `alpha` is outside (0, 1).
#[must_use]
pub fn bernstein_lower(x: &[f64], alpha: f64, horizon: Horizon) -> Vec<f64> {
    check(alpha);
    let stakes = stakes(x, alpha, horizon, 0.5);
    let mut sum = 0.0;
    lower(x, &stakes, alpha, |i, stake| {
        let before = if i == 0 { 0.0 } else { sum / i as f64 };
        sum += x[i];
        (x[i] - before).powi(2) * (-(-stake).ln_1p() - stake)
    })
}

/// Lower Hoeffding confidence sequence at level 1 − `alpha`, for values in [0, 1].
///
/// # Panics
/// When `alpha` is outside (0, 1).
#[must_use]
pub fn hoeffding_lower(x: &[f64], alpha: f64, horizon: Horizon) -> Vec<f64> {
    check(alpha);
    let evidence = 8.0 * (1.0 / alpha).ln();
    let stake = |i: usize| {
        let time = (i + 1) as f64;
        match horizon {
            Horizon::Open => (evidence / (time * (1.0 + time).ln())).sqrt().min(1.0),
            Horizon::Fixed(n) => (evidence / n as f64).sqrt(),
        }
    };
    let stakes: Vec<f64> = (0..x.len()).map(stake).collect();
    lower(x, &stakes, alpha, |_, stake| stake * stake / 8.0)
}

/// Both sides of [`bernstein_lower`], each at `alpha`/2.
///
/// # Panics
/// When `alpha` is outside (0, 1).
#[must_use]
pub fn bernstein(x: &[f64], alpha: f64, horizon: Horizon) -> Vec<Bound> {
    both(x, alpha, |values, side| bernstein_lower(values, side, horizon))
}

/// Both sides of [`hoeffding_lower`], each at `alpha`/2. For a fixed size the ends are narrowed to the best so far,
/// as `confseq.predmix.predmix_hoeffding_ci` does.
///
/// # Panics
/// When `alpha` is outside (0, 1).
#[must_use]
pub fn hoeffding(x: &[f64], alpha: f64, horizon: Horizon) -> Vec<Bound> {
    let mut bounds = both(x, alpha, |values, side| hoeffding_lower(values, side, horizon));
    if horizon != Horizon::Open {
        for i in 1..bounds.len() {
            bounds[i].low = bounds[i].low.max(bounds[i - 1].low);
            bounds[i].high = bounds[i].high.min(bounds[i - 1].high);
        }
    }
    bounds
}

fn both(x: &[f64], alpha: f64, side: impl Fn(&[f64], f64) -> Vec<f64>) -> Vec<Bound> {
    let mirrored: Vec<f64> = x.iter().map(|value| 1.0 - value).collect();
    let (low, high) = (side(x, alpha / 2.0), side(&mirrored, alpha / 2.0));
    let mut sum = 0.0;
    let bound = |i: usize| {
        sum += x[i];
        Bound { estimate: sum / (i + 1) as f64, low: low[i], high: 1.0 - high[i], level: 1.0 - alpha }
    };
    (0..x.len()).map(bound).collect()
}

/// Weighted mean minus its margin after each value.
fn lower(x: &[f64], stakes: &[f64], alpha: f64, mut cost: impl FnMut(usize, f64) -> f64) -> Vec<f64> {
    let (mut staked, mut won, mut paid) = (0.0, 0.0, (1.0 / alpha).ln());
    (0..x.len())
        .map(|i| {
            staked += stakes[i];
            won += stakes[i] * x[i];
            paid += cost(i, stakes[i]);
            ((won - paid) / staked).max(0.0)
        })
        .collect()
}

fn check(alpha: f64) {
    assert!(alpha > 0.0 && alpha < 1.0, "alpha lies in (0, 1)");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::draws;

    #[test]
    fn the_sequences_hold_at_all_times_at_once() {
        let runs = 400_u64;
        let mut missed = [0, 0];
        for run in 0..runs {
            let x: Vec<f64> = draws(run, 500).map(|u| if u < 0.1 { u * 10.0 } else { 0.0 }).collect();
            let outside = |bounds: Vec<Bound>| u64::from(bounds.iter().any(|bound| !bound.contains(0.05)));
            missed[0] += outside(bernstein(&x, 0.1, Horizon::Open));
            missed[1] += outside(hoeffding(&x, 0.1, Horizon::Open));
        }
        println!(
            "of {runs} sequences missed at any time: Bernstein {}, Hoeffding {} (10 % allowed)",
            missed[0], missed[1]
        );
        assert!(missed.iter().all(|&count| count <= runs / 10));
    }

    #[test]
    fn bernstein_is_shorter_where_values_vary_little() {
        let x: Vec<f64> = draws(7, 2000).map(|u| if u < 0.02 { 1.0 } else { 0.0 }).collect();
        let last = |bounds: Vec<Bound>| bounds.last().map(|bound| bound.high - bound.low).expect("not empty");
        let n = Horizon::Fixed(x.len());
        assert!(last(bernstein(&x, 0.05, n)) < 0.5 * last(hoeffding(&x, 0.05, n)));
    }
}
