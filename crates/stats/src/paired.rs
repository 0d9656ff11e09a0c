//! Two models on the same items.

use crate::{Bound, binomial, normal_quantile};

/// Two-sided p-value of McNemar's exact test: `only_a` items that only the first model got right, `only_b` only the
/// second. Under equal accuracy each such item is a fair coin.
#[must_use]
pub fn mcnemar(only_a: u64, only_b: u64) -> f64 {
    let n = only_a + only_b;
    if n == 0 {
        return 1.0;
    }
    // The coin is symmetric, so the two-sided test doubles the smaller tail.
    (2.0 * binomial::cdf(only_a.min(only_b), n, 0.5)).min(1.0)
}

/// Difference of two accuracies on the same `n` items, second minus first, with an interval by Newcombe's square-and-add
/// method 10 for paired proportions (R. Newcombe, *Statistics in Medicine* 17, 1998), which keeps its coverage for
/// rates near 0 and 1. `both`, `only_a`, `only_b` count the items that both, only the first, only the second got right.
///
/// # Panics
/// When `n` is 0 or smaller than the counts together.
#[must_use]
pub fn difference(both: u64, only_a: u64, only_b: u64, n: u64, level: f64) -> Bound {
    assert!(n > 0 && both + only_a + only_b <= n, "counts of n items");
    let (right_a, right_b) = (both + only_a, both + only_b);
    let (a, b) = (binomial::wilson(right_a, n, level), binomial::wilson(right_b, n, level));
    let neither = n - both - only_a - only_b;
    let phi = {
        let product = (right_a * (n - right_a)) as f64 * (right_b * (n - right_b)) as f64;
        let cross = both as f64 * neither as f64 - only_a as f64 * only_b as f64;
        // Newcombe's continuity correction of a positive correlation.
        let cross = if cross > 0.0 { (cross - n as f64 / 2.0).max(0.0) } else { cross };
        if product > 0.0 { cross / product.sqrt() } else { 0.0 }
    };
    let estimate = b.estimate - a.estimate;
    let half = |x: f64, y: f64| (x * x - 2.0 * phi * x * y + y * y).max(0.0).sqrt();
    Bound {
        estimate,
        low: (estimate - half(b.estimate - b.low, a.high - a.estimate)).max(-1.0),
        high: (estimate + half(b.high - b.estimate, a.estimate - a.low)).min(1.0),
        level,
    }
}

/// Mean of paired differences with a normal interval, for graded qualities; wide samples only (n of a hundred or more).
///
/// # Panics
/// When fewer than two differences are given.
#[must_use]
pub fn mean_difference(differences: &[f64], level: f64) -> Bound {
    assert!(differences.len() > 1, "an interval needs two values");
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = normal_quantile(0.5 + level / 2.0) * (variance / n).sqrt();
    Bound { estimate: mean, low: mean - half, high: mean + half, level }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_models_show_no_difference() {
        assert!((mcnemar(0, 0) - 1.0).abs() < 1e-15 && (mcnemar(5, 5) - 1.0).abs() < 1e-15);
        let bound = difference(80, 5, 5, 100, 0.95);
        assert!(bound.estimate.abs() < 1e-15 && (bound.low + bound.high).abs() < 1e-12 && bound.high > 0.0);
    }

    #[test]
    fn newcombes_example_is_reproduced() {
        // Newcombe 1998, table II, method 10: e = 36, f = 12, g = 2, h = 0 gives 0.2000 (0.0569, 0.3404).
        let bound = difference(36, 2, 12, 50, 0.95);
        assert!((bound.estimate - 0.2).abs() < 1e-12);
        assert!((bound.low - 0.0569).abs() < 5e-5 && (bound.high - 0.3404).abs() < 5e-5, "{bound:?}");
    }
}
