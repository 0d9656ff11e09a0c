//! Exact limits for a probability from k successes in n trials.
//!
//! Tails are sums of positive terms that start at a pmf in Loader's saddle-point form (C. Loader, *Fast and Accurate
//! Computation of Binomial Probabilities*, 2000), so nothing cancels and n may be large. The incomplete beta function
//! of the usual crates stops after a fixed number of terms and loses digits from n of a few ten thousand on.

use crate::{Bound, normal_quantile};

/// P(X = k) for X ~ Binomial(n, p).
///
/// # Panics
/// When `k > n` or `p` is outside [0, 1].
#[must_use]
pub fn pmf(k: u64, n: u64, p: f64) -> f64 {
    check(k, n);
    assert!((0.0..=1.0).contains(&p), "a probability lies in [0, 1]");
    if p == 0.0 || p >= 1.0 {
        return f64::from(u8::from(k == if p == 0.0 { 0 } else { n }));
    }
    if k == 0 {
        return (n as f64 * (-p).ln_1p()).exp();
    }
    if k == n {
        return (n as f64 * p.ln()).exp();
    }
    let (x, m, y) = (k as f64, n as f64, (n - k) as f64);
    let log =
        stirling_error(n) - stirling_error(k) - stirling_error(n - k) - deviance(x, m * p) - deviance(y, m * (1.0 - p));
    log.exp() * (m / (std::f64::consts::TAU * x * y)).sqrt()
}

/// P(X ≤ k) for X ~ Binomial(n, p).
///
/// # Panics
/// As [`pmf`].
#[must_use]
pub fn cdf(k: u64, n: u64, p: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    if (k as f64) < n as f64 * p { lower_sum(k, n, p) } else { 1.0 - upper_sum(k + 1, n, p) }
}

/// P(X ≥ k) for X ~ Binomial(n, p).
///
/// # Panics
/// As [`pmf`].
#[must_use]
pub fn tail(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if (k as f64) > n as f64 * p { upper_sum(k, n, p) } else { 1.0 - lower_sum(k - 1, n, p) }
}

/// Σ_{i ≤ k} pmf(i), from k downwards; the terms fall when k is below the mean.
fn lower_sum(k: u64, n: u64, p: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for i in (1..=k).rev() {
        term *= i as f64 * (1.0 - p) / ((n - i + 1) as f64 * p);
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    (pmf(k, n, p) * sum).min(1.0)
}

/// Σ_{i ≥ k} pmf(i), from k upwards.
fn upper_sum(k: u64, n: u64, p: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for i in k..n {
        term *= (n - i) as f64 * p / ((i + 1) as f64 * (1.0 - p));
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    (pmf(k, n, p) * sum).min(1.0)
}

/// One-sided upper Clopper–Pearson limit: the largest p under which k or fewer successes still have probability
/// 1 − `level`. The true p exceeds it with probability at most 1 − `level`.
///
/// # Panics
/// When `k > n`, `n = 0` or `level` is outside (0, 1).
#[must_use]
pub fn upper(k: u64, n: u64, level: f64) -> f64 {
    check(k, n);
    check_level(level);
    if k == n { 1.0 } else { solve(k, n, 1.0 - level) }
}

/// One-sided lower Clopper–Pearson limit; see [`upper`].
///
/// # Panics
/// As [`upper`].
#[must_use]
pub fn lower(k: u64, n: u64, level: f64) -> f64 {
    check(k, n);
    check_level(level);
    // P_p(X ≥ k) = 1 − level, solved for p itself: one minus the mirrored limit would lose the digits of a small p.
    if k == 0 { 0.0 } else { solve_lower(k, n, 1.0 - level) }
}

/// Two-sided Clopper–Pearson interval.
///
/// # Panics
/// As [`upper`].
#[must_use]
pub fn interval(k: u64, n: u64, level: f64) -> Bound {
    let side = 1.0 - (1.0 - level) / 2.0;
    Bound { estimate: k as f64 / n as f64, low: lower(k, n, side), high: upper(k, n, side), level }
}

/// Wilson's score interval: shorter than the exact one, with coverage that holds only on average (Wilson, 1927).
///
/// # Panics
/// As [`upper`].
#[must_use]
pub fn wilson(k: u64, n: u64, level: f64) -> Bound {
    check(k, n);
    check_level(level);
    let (n, p, z) = (n as f64, k as f64 / n as f64, normal_quantile(0.5 + level / 2.0));
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Bound { estimate: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0), level }
}

/// The most successes in n trials with which [`upper`] at `level` is still at most `limit`; `None` when not even
/// zero successes suffice. One comparison of integers then replaces one inversion for each threshold.
///
/// # Panics
/// When `level` or `limit` is outside (0, 1).
#[must_use]
pub fn most_allowed(n: u64, limit: f64, level: f64) -> Option<u64> {
    check_level(level);
    check_level(limit);
    let alpha = 1.0 - level;
    if n == 0 || cdf(0, n, limit) > alpha {
        return None;
    }
    // cdf(k) grows with k and passes alpha < 1 before the end: bisection between a k that passes and one that fails.
    let (mut pass, mut fail) = (0, n);
    while fail - pass > 1 {
        let middle = pass + (fail - pass) / 2;
        if cdf(middle, n, limit) <= alpha { pass = middle } else { fail = middle }
    }
    Some(pass)
}

/// The smallest n at which a loss rate of `rate` would be accepted: [`upper`] of ⌈rate·n⌉ losses in n is ≤ `limit` at
/// `level`. `None` when `rate` is at or above `limit` or more than `most` trials would be needed.
///
/// # Panics
/// When `level` or `limit` is outside (0, 1).
#[must_use]
pub fn trials_needed(rate: f64, limit: f64, level: f64, most: u64) -> Option<u64> {
    if rate >= limit {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a rate below 1 of a u64 fits into a u64")]
    let accepted = |n: u64| most_allowed(n, limit, level).is_some_and(|k| (rate * n as f64).ceil() as u64 <= k);
    // Accepted sizes are not quite an interval, because losses are whole numbers; doubling and bisection find one to
    // within a rounding step, which is as good as a forecast gets.
    let mut high = 1;
    while !accepted(high) {
        high *= 2;
        if high > most {
            return None;
        }
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if accepted(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// The p with P_p(X ≤ k) = alpha.
fn solve(k: u64, n: u64, alpha: f64) -> f64 {
    let slope = |p: f64| -((n - k) as f64) / (1.0 - p) * pmf(k, n, p);
    newton(k as f64 / n as f64, alpha, |p| (cdf(k, n, p), slope(p)))
}

/// The p with P_p(X ≥ k) = alpha.
fn solve_lower(k: u64, n: u64, alpha: f64) -> f64 {
    let slope = |p: f64| k as f64 / p * pmf(k, n, p);
    newton(k as f64 / n as f64, alpha, |p| (tail(k, n, p), slope(p)))
}

/// Solves f(p) = alpha for a monotone f on (0, 1) by Newton's method on ln f, kept inside a shrinking bracket.
fn newton(start: f64, alpha: f64, f: impl Fn(f64) -> (f64, f64)) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    let mut p = start.clamp(1e-9, 1.0 - 1e-9);
    for _ in 0..200 {
        let (value, slope) = f(p);
        if (value > alpha) == (slope < 0.0) {
            low = p
        } else {
            high = p
        }
        let step = p - (value / alpha).ln() * value / slope;
        let next = if step > low && step < high { step } else { low + (high - low) / 2.0 };
        if (next - p).abs() <= 4.0 * f64::EPSILON * p || high - low <= f64::EPSILON * low {
            return next;
        }
        p = next;
    }
    p
}

/// ln n! − ln(√(2πn) (n/e)ⁿ).
fn stirling_error(n: u64) -> f64 {
    if n < 16 {
        let x = n as f64;
        let factorial: f64 = (1..=n).map(|i| i as f64).product();
        return if n == 0 { 0.0 } else { factorial.ln() - (0.5 * (std::f64::consts::TAU * x).ln() + x * x.ln() - x) };
    }
    let x = n as f64;
    let x2 = x * x;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / x2) / x2) / x2) / x2) / x
}

/// x ln(x / m) + m − x without cancellation for x near m.
fn deviance(x: f64, m: f64) -> f64 {
    let difference = x - m;
    if difference.abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() + m - x;
    }
    let v = difference / (x + m);
    let mut sum = difference * v;
    let mut power = 2.0 * x * v;
    for j in 1..1000 {
        power *= v * v;
        let next = sum + power / f64::from(2 * j + 1);
        if (next - sum).abs() <= sum.abs() * 1e-17 {
            return next;
        }
        sum = next;
    }
    sum
}

fn check(k: u64, n: u64) {
    assert!(n > 0 && k <= n, "k of n trials: 0 ≤ k ≤ n and n > 0");
}

fn check_level(level: f64) {
    assert!(level > 0.0 && level < 1.0, "a level lies in (0, 1)");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clean_samples_give_the_closed_form() {
        for n in [1, 10, 306, 100_000] {
            let exact = 1.0 - 0.05_f64.powf(1.0 / n as f64);
            assert!((upper(0, n, 0.95) / exact - 1.0).abs() < 1e-11);
        }
        assert_eq!(most_allowed(298, 0.01, 0.95), None);
        assert_eq!(most_allowed(299, 0.01, 0.95), Some(0));
        assert_eq!(trials_needed(0.0, 0.01, 0.95, 1 << 40), Some(299));
        assert_eq!(trials_needed(0.02, 0.01, 0.95, 1 << 40), None);
    }

    #[test]
    fn the_interval_covers_with_at_least_its_level() {
        // Exact: sum over every k of the probability that the interval misses.
        for (n, p) in [(20, 0.07), (150, 0.01), (150, 0.5), (400, 0.93)] {
            let missed: f64 = (0..=n).filter(|&k| !interval(k, n, 0.95).contains(p)).map(|k| pmf(k, n, p)).sum();
            let missed_above: f64 = (0..=n).filter(|&k| upper(k, n, 0.95) < p).map(|k| pmf(k, n, p)).sum();
            assert!(missed <= 0.05 && missed_above <= 0.05, "n {n} p {p}: {missed} {missed_above}");
        }
    }

    proptest! {
        #[test]
        fn limits_are_ordered_and_monotone(n in 1_u64..3000, draw in 0_u64..1_000_000, level in 0.5..0.999_f64) {
            let k = draw % (n + 1);
            let (low, high) = (lower(k, n, level), upper(k, n, level));
            prop_assert!(low <= k as f64 / n as f64 && k as f64 / n as f64 <= high);
            prop_assert!(k == n || upper(k + 1, n, level) > high);
            prop_assert!(k == n || upper(k, n, (level + 1.0) / 2.0) > high);
            prop_assert!(k == n || (cdf(k, n, high) / (1.0 - level) - 1.0).abs() < 1e-9);
            prop_assert!(k == 0 || (tail(k, n, low) / (1.0 - level) - 1.0).abs() < 1e-9);
        }

        #[test]
        fn counting_allowed_losses_agrees_with_inverting(n in 1_u64..3000, limit in 0.001..0.3_f64) {
            let most = most_allowed(n, limit, 0.95);
            let passes = |k: u64| upper(k, n, 0.95) <= limit;
            match most {
                None => prop_assert!(!passes(0)),
                Some(k) => prop_assert!(passes(k) && (k + 1 > n || !passes(k + 1))),
            }
        }
    }
}
