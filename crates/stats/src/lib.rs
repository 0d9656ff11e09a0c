//! Numbers and their bounds: exact binomial limits, fixed-sequence testing, betting on bounded means, confidence
//! sequences, tests that may stop early, calibration error, paired comparisons.
//!
//! Pure functions of plain numbers: no domain types, no IO, no clock; randomness arrives as an argument. Callers are the verbs (`pilot`,
//! `adapt`, `operate`) and the benches.

pub mod betting;
pub mod binomial;
pub mod bootstrap;
pub mod calibration;
pub mod hedged;
pub mod independent;
pub mod mean;
pub mod mixture;
pub mod multiplicity;
pub mod paired;
pub mod permutation;
pub mod power;
pub mod predmix;
pub mod quantile;
pub mod sequence;
pub mod sets;
#[cfg(test)]
mod testing;
pub mod values;
pub mod walk;

pub use betting::Bets;

/// An estimate and the interval that holds the true value with probability at least `level`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// Point estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence level, in (0, 1).
    pub level: f64,
}

impl Bound {
    /// Whether `value` lies inside, ends included.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Distribution function of the standard normal distribution.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    statrs::function::erf::erfc(-z / std::f64::consts::SQRT_2) / 2.0
}

/// Quantile of the standard normal distribution: the z below which it lies with probability `p`, which is in (0, 1).
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * statrs::function::erf::erfc_inv(2.0 * p)
}

/// P(Z > z) of the standard normal law.
#[must_use]
pub fn normal_tail(z: f64) -> f64 {
    0.5 * statrs::function::erf::erfc(z / std::f64::consts::SQRT_2)
}
