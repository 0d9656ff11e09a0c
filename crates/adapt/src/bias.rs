//! Bias audit: where a model errs more, and what its answers depend on that they should not.
//!
//! [`slices`] compares the errors in each part of the labelled rows with those elsewhere, and the change from teacher to
//! student in it. [`pairs`] compares the answers to two texts that differ only in who is spoken of; [`swap`] makes such
//! pairs from the rows at hand. Arithmetic and words only: asking the models is the caller's. What is too small to judge
//! is named, never left out.

pub mod pairs;
pub mod slices;
pub mod swap;

use understudy_model::artifact::Metric;
use understudy_stats::{Bound, binomial};

/// Level of every interval here.
pub(crate) const LEVEL: f64 = 0.95;

fn metric(bound: Bound, n: u64) -> Metric {
    Metric { estimate: bound.estimate, low: bound.low, high: bound.high, n }
}

/// A share with Wilson's interval; `None` of nothing.
fn share(count: u64, n: u64) -> Option<Metric> {
    (n > 0).then(|| metric(binomial::wilson(count, n, LEVEL), n))
}

/// Rows needed so that an error rate like `rate` is known to within `half` a side at 95 %.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of rows")]
fn rows_needed(rate: f64, half: f64) -> u64 {
    // A rate of 0 or 1 was seen on few rows: a twentieth is assumed at least.
    let rate = rate.clamp(0.05, 0.95);
    (1.96_f64.powi(2) * rate * (1.0 - rate) / half.powi(2)).ceil() as u64
}
