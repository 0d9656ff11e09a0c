//! Two shares from different items: a slice of the rows against the rest.

use crate::{Bound, binomial};

/// Two-sided p-value of Fisher's exact test that `a` of `n` and `b` of `m` come from the same rate: the probability of
/// all tables with these margins that are no likelier than this one.
///
/// # Panics
/// When a count exceeds its total.
#[must_use]
pub fn fisher(a: u64, n: u64, b: u64, m: u64) -> f64 {
    assert!(a <= n && b <= m, "a of n and b of m");
    let hits = a + b;
    let (first, last) = (hits.saturating_sub(m), hits.min(n));
    // P(k + 1) / P(k) of the hypergeometric distribution.
    let ratio = |k: u64| (n - k) as f64 * (hits - k) as f64 / ((k + 1) as f64 * (m + k + 1 - hits) as f64);
    // Weights relative to the mode, outwards, so that nothing overflows; far tails vanish to 0.
    let mode = u128::from(hits + 1) * u128::from(n + 1) / u128::from(n + m + 2);
    let mode = u64::try_from(mode).unwrap_or(last).clamp(first, last);
    let (mut above, mut below) = (Vec::new(), Vec::new());
    let mut weight = 1.0;
    for k in mode..last {
        weight *= ratio(k);
        above.push(weight);
    }
    weight = 1.0;
    for k in (first..mode).rev() {
        weight /= ratio(k);
        below.push(weight);
    }
    let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let observed = match a.cmp(&mode) {
        std::cmp::Ordering::Equal => 1.0,
        std::cmp::Ordering::Greater => above[index(a - mode - 1)],
        std::cmp::Ordering::Less => below[index(mode - a - 1)],
    };
    // Equal probabilities of the two sides differ in their last bits.
    let limit = observed * (1.0 + 1e-9);
    let all = || above.iter().chain(&below).chain(&[1.0]);
    let (mut extreme, mut total) = (0.0, 0.0);
    for &weight in all() {
        total += weight;
        extreme += if weight <= limit { weight } else { 0.0 };
    }
    (extreme / total).min(1.0)
}

/// Difference of two independent shares, `a/n − b/m`, with Newcombe's interval from Wilson's limits (R. Newcombe,
/// *Statistics in Medicine* 17, 1998, method 10 for independent proportions).
///
/// # Panics
/// When a total is 0 or smaller than its count, or `level` is outside (0, 1).
#[must_use]
pub fn difference(a: u64, n: u64, b: u64, m: u64, level: f64) -> Bound {
    let (p, q) = (binomial::wilson(a, n, level), binomial::wilson(b, m, level));
    let estimate = p.estimate - q.estimate;
    let half = |x: f64, y: f64| x.hypot(y);
    Bound {
        estimate,
        low: estimate - half(p.estimate - p.low, q.high - q.estimate),
        high: estimate + half(p.high - p.estimate, q.estimate - q.low),
        level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tea_lady_and_newcombes_example_come_out() {
        // Fisher's cups: 3 of 4 and 1 of 4 give 34/70.
        assert!((fisher(3, 4, 1, 4) - 34.0 / 70.0).abs() < 1e-14);
        assert!((fisher(0, 5, 0, 9) - 1.0).abs() < 1e-15 && (fisher(0, 0, 3, 9) - 1.0).abs() < 1e-15);
        assert!(fisher(900, 1000, 100, 1000) < 1e-250);
        // Newcombe 1998b, 56/70 against 48/80: 0.0524 to 0.3339.
        let bound = difference(56, 70, 48, 80, 0.95);
        assert!((bound.low - 0.0524).abs() < 5e-5 && (bound.high - 0.3339).abs() < 5e-5, "{bound:?}");
    }
}
