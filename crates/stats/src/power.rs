//! How many paired examples a comparison needs before it can be expected to decide.
//!
//! The rates put in are guesses, mostly what a first sample showed: the answer is a plan, not a promise.

use crate::normal_quantile;

/// What is to be shown, and how surely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aim {
    /// Largest chance of claiming it wrongly.
    pub alpha: f64,
    /// Chance of showing it where it is true.
    pub power: f64,
}

/// Examples for the two-sided test of a difference in means: `difference` of a pair on average, `variance` of that
/// difference. `None` without a difference. For right and wrong answers this is Connor's formula for McNemar's test
/// (R. Connor, *Biometrics* 43, 1987), in which the variance under equality is the share of pairs that differ.
///
/// # Panics
/// When alpha or power are outside (0, 1).
#[must_use]
pub fn to_show_difference(difference: f64, variance: f64, aim: Aim) -> Option<u64> {
    let (za, zb) = (quantile(1.0 - aim.alpha / 2.0), quantile(aim.power));
    let under_equality = (variance + difference * difference).sqrt();
    whole(((za * under_equality + zb * variance.max(0.0).sqrt()) / difference.abs()).powi(2))
}

/// Examples for the one-sided test that the difference is not below −`margin`. `None` when it is.
///
/// # Panics
/// When alpha or power are outside (0, 1).
#[must_use]
pub fn to_show_non_inferiority(difference: f64, variance: f64, margin: f64, aim: Aim) -> Option<u64> {
    let (za, zb) = (quantile(1.0 - aim.alpha), quantile(aim.power));
    let room = difference + margin;
    if room > 0.0 { whole(((za + zb).max(0.0) / room).powi(2) * variance.max(0.0)) } else { None }
}

fn quantile(p: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0, "levels and powers lie in (0, 1)");
    normal_quantile(p)
}

/// Rounded up; beyond 2^53 nobody can collect them.
fn whole(n: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, reason = "below 2^53")]
    (n.is_finite() && n < 9e15).then(|| n.ceil().max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paired;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha12Rng;

    const AIM: Aim = Aim { alpha: 0.05, power: 0.8 };

    /// Share of simulated samples on which `decides` says yes, of (only first right, only second right) counts.
    fn power(n: u64, only_a: f64, only_b: f64, decides: impl Fn(u64, u64) -> bool) -> f64 {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let runs = 1000;
        let yes = (0..runs).filter(|_| {
            let (mut a, mut b) = (0, 0);
            for _ in 0..n {
                let draw: f64 = rng.random_range(0.0..1.0);
                a += u64::from(draw < only_a);
                b += u64::from(draw >= only_a && draw < only_a + only_b);
            }
            decides(a, b)
        });
        yes.count() as f64 / f64::from(runs)
    }

    #[test]
    fn with_the_examples_asked_for_the_test_decides_about_as_often_as_promised() {
        let (only_a, only_b) = (0.12, 0.06);
        let (difference, psi) = (only_b - only_a, only_a + only_b);
        let variance = psi - difference * difference;
        let n = to_show_difference(difference, variance, AIM).expect("a difference");
        // The exact test is a little conservative, so it may fall short of 80 %.
        let reached = power(n, only_a, only_b, |a, b| paired::mcnemar(a, b) <= 0.05);
        assert!((0.72..0.86).contains(&reached), "{n}: {reached}");
        let n = to_show_non_inferiority(0.0, 0.2, 0.05, AIM).expect("room");
        let reached = power(n, 0.1, 0.1, |a, b| paired::non_inferiority(a, b, n, 0.05) <= 0.05);
        assert!((0.75..0.86).contains(&reached), "{n}: {reached}");
        assert_eq!(to_show_difference(0.0, 0.1, AIM), None);
        assert_eq!(to_show_non_inferiority(-0.05, 0.1, 0.05, AIM), None);
    }
}
