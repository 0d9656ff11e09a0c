//! Quantiles of a sample and their distribution-free intervals from order statistics.

use crate::{Bound, binomial};

/// The `q` quantile of `sample` (the smallest value with at least a share q of the sample at or below it) and a
/// two-sided interval at `level`. An end that the sample is too small to bound is infinite.
///
/// The interval is [x₍l₎, x₍u₎] with the ranks l, u read off Binomial(n, q); it needs independence and nothing else.
///
/// # Panics
/// When the sample is empty or `q` or `level` are outside (0, 1).
#[must_use]
pub fn quantile(sample: &[f64], q: f64, level: f64) -> Bound {
    assert!(!sample.is_empty(), "a quantile needs a sample");
    assert!(q > 0.0 && q < 1.0 && level > 0.0 && level < 1.0, "q and level lie in (0, 1)");
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as u64;
    let side = (1.0 - level) / 2.0;
    // P(true quantile < x₍l₎) ≤ P(X ≤ l − 1), P(true quantile ≥ x₍u₎) ≤ P(X ≥ u), for X ~ Binomial(n, q).
    let first_above = |mut holds: Box<dyn FnMut(u64) -> bool>| {
        let (mut low, mut high) = (0, n + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(middle) { high = middle } else { low = middle + 1 }
        }
        low
    };
    let l = first_above(Box::new(|k| k > n || binomial::cdf(k, n, q) > side));
    let u = first_above(Box::new(|k| k > n || binomial::tail(k, n, q) <= side));
    let at = |rank: u64| usize::try_from(rank).ok().and_then(|r| sorted.get(r.wrapping_sub(1)).copied());
    #[expect(clippy::cast_possible_truncation, reason = "at most the sample's length")]
    let rank = ((q * n as f64).ceil() as u64).clamp(1, n);
    Bound {
        estimate: at(rank).expect("the rank lies in the sample"),
        low: at(l).unwrap_or(f64::NEG_INFINITY),
        high: at(u).unwrap_or(f64::INFINITY),
        level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_a_hundred_has_the_textbook_ranks() {
        let sample: Vec<f64> = (1..=100).map(f64::from).collect();
        let bound = quantile(&sample, 0.5, 0.95);
        // Conover, Practical Nonparametric Statistics: ranks 40 and 61.
        assert_eq!((bound.low, bound.estimate, bound.high), (40.0, 50.0, 61.0));
        let tiny = quantile(&[3.0, 1.0], 0.99, 0.95);
        assert!(tiny.high.is_infinite() && tiny.estimate > 2.9);
    }
}
