//! The sign-flip test of paired differences: under equal models each difference is as likely to have the other sign
//! (R. Fisher, *The Design of Experiments*, 1935, section 21). Assumes nothing about the distribution.

use rand::{Rng, RngExt};

/// Differences other than 0 up to which all sign patterns are counted.
pub const EXACT: usize = 18;

/// A two-sided p-value and how it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignFlip {
    /// The p-value.
    pub p: f64,
    /// Whether all patterns were counted; otherwise patterns were drawn, and p is (1 + hits) / (1 + draws), which is a
    /// valid p-value itself (Phipson and Smyth, 2010).
    pub exact: bool,
}

/// Tests whether two models are interchangeable: whether each paired difference is as likely to have the other sign. That
/// is more than a mean of 0: skewed differences with mean 0 may be told apart. For a claim about means bet on them
/// ([`crate::hedged::Claim`]). Where a difference is not finite, p is 1.
pub fn sign_flip(differences: &[f64], draws: u32, rng: &mut impl Rng) -> SignFlip {
    if !differences.iter().all(|d| d.is_finite()) {
        return SignFlip { p: 1.0, exact: true };
    }
    let sizes: Vec<f64> = differences.iter().filter(|d| d.abs() > 0.0).map(|d| d.abs()).collect();
    let observed = differences.iter().sum::<f64>().abs();
    // Sums of the same numbers in another order differ in their last bits; equal ones must count as equal.
    let limit = observed - 1e-12 * sizes.iter().sum::<f64>();
    if sizes.len() <= EXACT {
        let patterns = 1_u32 << sizes.len();
        let sum = |pattern: u32| -> f64 {
            sizes.iter().enumerate().map(|(i, size)| if pattern >> i & 1 == 1 { -size } else { *size }).sum()
        };
        let hits = (0..patterns).filter(|&pattern| sum(pattern).abs() >= limit).count();
        return SignFlip { p: hits as f64 / f64::from(patterns), exact: true };
    }
    let mut draw = || {
        let mut bits = 0_u64;
        let flipped = |(i, size): (usize, &f64)| {
            if i % 64 == 0 {
                bits = rng.random();
            }
            if bits >> (i % 64) & 1 == 1 { -size } else { *size }
        };
        sizes.iter().enumerate().map(flipped).sum::<f64>().abs() >= limit
    };
    let hits = (0..draws).filter(|_| draw()).count();
    SignFlip { p: (1 + hits) as f64 / (1.0 + f64::from(draws)), exact: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paired::mcnemar;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    #[test]
    fn what_is_not_finite_proves_nothing() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for odd in [f64::NAN, f64::INFINITY] {
            assert!(sign_flip(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, odd], 100, &mut rng).p > 0.99);
        }
    }

    #[test]
    fn on_right_and_wrong_it_is_mcnemars_test() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for (plus, minus) in [(0, 0), (5, 0), (7, 3), (9, 9), (1, 12)] {
            let mut differences = vec![1.0; plus];
            differences.extend(vec![-1.0; minus]);
            differences.extend(vec![0.0; 40]);
            let found = sign_flip(&differences, 1000, &mut rng);
            assert!(found.exact && (found.p - mcnemar(minus as u64, plus as u64)).abs() < 1e-12);
        }
        let mut many = vec![1.0; 40];
        many.extend(vec![-1.0; 24]);
        let drawn = sign_flip(&many, 20_000, &mut rng);
        // p = 0.060; three standard deviations of 20,000 draws are 0.005.
        assert!(!drawn.exact && (drawn.p - mcnemar(24, 40)).abs() < 0.005, "{drawn:?}");
    }
}
