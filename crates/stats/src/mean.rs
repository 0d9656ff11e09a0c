//! The mean of a few measurements and its interval by Student's t.

use crate::Bound;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The mean of `sample` and its two-sided interval at `level`, as for independent normal measurements. Unbounded for a
/// single one.
///
/// # Panics
/// When the sample is empty or `level` is outside (0, 1).
#[must_use]
pub fn mean(sample: &[f64], level: f64) -> Bound {
    assert!(!sample.is_empty(), "a mean needs a sample");
    assert!(level > 0.0 && level < 1.0, "level lies in (0, 1)");
    let n = sample.len() as f64;
    let estimate = sample.iter().sum::<f64>() / n;
    let half = if sample.len() < 2 {
        f64::INFINITY
    } else {
        let variance = sample.iter().map(|x| (x - estimate).powi(2)).sum::<f64>() / (n - 1.0);
        let t = StudentsT::new(0.0, 1.0, n - 1.0).expect("at least one degree of freedom");
        t.inverse_cdf(f64::midpoint(1.0, level)) * (variance / n).sqrt()
    };
    Bound { estimate, low: estimate - half, high: estimate + half, level }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_scipys_interval() {
        // scipy.stats.t.interval(0.95, 4, loc=3, scale=scipy.stats.sem([1, 2, 3, 4, 5]))
        let bound = mean(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95);
        println!("{bound:?}");
        assert!((bound.low - 1.036_756_838_522_439).abs() < 1e-9 && (bound.high - 4.963_243_161_477_561).abs() < 1e-9);
        assert!(mean(&[2.0], 0.9).high.is_infinite());
    }
}
