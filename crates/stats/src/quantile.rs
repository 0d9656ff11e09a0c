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

/// The `q` quantile of a series in the order in which it came, with an interval at `level` that allows for neighbours
/// that resemble each other, as waiting times do.
///
/// The series is cut into 20 pieces; how much more the share below the quantile varies between them than independent
/// values would tells how many independent values the series is worth (batch means: Fishman, *Discrete-Event Simulation*,
/// 2001, section 6.6; applied to the indicator as in Woodruff, *JASA* 47, 1952). The interval is then read off the ranks of
/// a Wilson interval. Under 40 values they count as independent. An end that the sample cannot bound is infinite.
///
/// # Panics
/// When the series is empty or `q` or `level` are outside (0, 1).
#[must_use]
pub fn quantile_of_series(series: &[f64], q: f64, level: f64) -> Bound {
    const PIECES: usize = 20;
    assert!(!series.is_empty(), "a quantile needs a sample");
    assert!(q > 0.0 && q < 1.0 && level > 0.0 && level < 1.0, "q and level lie in (0, 1)");
    let mut sorted = series.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the sample")]
    let at = |share: f64| sorted[((share * n as f64).ceil() as usize).clamp(1, n) - 1];
    let estimate = at(q);
    let length = n / PIECES;
    let inflation = if length < 2 {
        1.0
    } else {
        let below = |piece: &[f64]| piece.iter().filter(|x| **x <= estimate).count() as f64 / piece.len() as f64;
        let shares: Vec<f64> = series.chunks_exact(length).take(PIECES).map(below).collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let variance = shares.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (shares.len() - 1) as f64;
        (variance * length as f64 / (q * (1.0 - q))).max(1.0)
    };
    let worth = (n as f64 / inflation).max(2.0);
    let z = crate::normal_quantile(0.5 + level / 2.0);
    let centre = (q + z * z / (2.0 * worth)) / (1.0 + z * z / worth);
    let half = z / (1.0 + z * z / worth) * (q * (1.0 - q) / worth + z * z / (4.0 * worth * worth)).sqrt();
    let (low, high) = (centre - half, centre + half);
    Bound {
        estimate,
        low: if low * worth < 1.0 { f64::NEG_INFINITY } else { at(low) },
        high: if (1.0 - high) * worth < 1.0 { f64::INFINITY } else { at(high) },
        level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the interval of the 95th percentile holds the true one, over series of 2,000 values that each keep
    /// `memory` of the one before.
    fn coverage(memory: f64) -> f64 {
        let mut state = 1u64;
        let mut uniform = move || {
            // A linear congruential generator is random enough here, and needs no crate.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut normal = move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        let mut held = 0;
        for _ in 0..300 {
            let mut x = normal();
            let series: Vec<f64> = (0..2000)
                .map(|_| {
                    x = memory * x + (1.0 - memory * memory).sqrt() * normal();
                    x
                })
                .collect();
            held += u32::from(quantile_of_series(&series, 0.95, 0.95).contains(1.645));
        }
        f64::from(held) / 300.0
    }

    #[test]
    fn an_interval_of_a_series_holds_also_where_neighbours_resemble_each_other() {
        let (independent, dependent) = (coverage(0.0), coverage(0.9));
        assert!(independent >= 0.92, "{independent}");
        assert!(dependent >= 0.86, "{dependent}");
    }

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
