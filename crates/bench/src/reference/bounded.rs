//! Bounds of `stats::predmix` and `stats::hedged`, for the comparison with the Python package `confseq`.

use super::{Table, read};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_core::{Error, Result};
use understudy_stats::{
    Bound, hedged,
    predmix::{self, Horizon},
};

pub(super) const TABLE: Table = &[
    ("predmix_stakes", |arguments| {
        let Sample { x, alpha, fixed, .. } = sample(arguments)?;
        Ok(json!(predmix::stakes(&x, alpha, horizon(fixed, &x), f64::INFINITY)))
    }),
    ("predmix_bernstein", |arguments| {
        let Sample { x, alpha, fixed, .. } = sample(arguments)?;
        Ok(ends(&predmix::bernstein(&x, alpha, horizon(fixed, &x))))
    }),
    ("predmix_bernstein_lower", |arguments| {
        let Sample { x, alpha, fixed, .. } = sample(arguments)?;
        Ok(json!(predmix::bernstein_lower(&x, alpha, horizon(fixed, &x))))
    }),
    ("predmix_hoeffding", |arguments| {
        let Sample { x, alpha, fixed, .. } = sample(arguments)?;
        Ok(ends(&predmix::hoeffding(&x, alpha, horizon(fixed, &x))))
    }),
    ("hedged_sequence", |arguments| {
        let Sample { x, alpha, breaks, .. } = sample(arguments)?;
        Ok(ends(&hedged::sequence(&x, alpha, breaks)))
    }),
    ("hedged_interval", |arguments| {
        let Sample { x, alpha, breaks, .. } = sample(arguments)?;
        Ok(ends(&[hedged::interval(&x, alpha, breaks)]))
    }),
    ("hedged_refutation", |arguments| {
        let Sample { x, alpha, mean, .. } = sample(arguments)?;
        let claim = hedged::Claim { low: 0.0, high: 1.0, at_least: mean };
        Ok(json!(claim.ln_evidence(x.into_iter(), alpha)))
    }),
];

/// Values in [0, 1] and what to do with them.
#[derive(Deserialize)]
struct Sample {
    x: Vec<f64>,
    alpha: f64,
    /// Tuned for this sample's size, else for any time.
    #[serde(default)]
    fixed: bool,
    #[serde(default = "thousand")]
    breaks: u32,
    #[serde(default)]
    mean: f64,
}

fn thousand() -> u32 {
    1000
}

fn sample(arguments: Value) -> Result<Sample> {
    let sample: Sample = read(arguments)?;
    let inside = |value: &f64| (0.0..=1.0).contains(value);
    if sample.x.is_empty() || !sample.x.iter().all(inside) || !(sample.alpha > 0.0 && sample.alpha < 1.0) {
        return Err(Error::invalid("bound a mean: give values in [0, 1] and an alpha in (0, 1)"));
    }
    Ok(sample)
}

fn horizon(fixed: bool, x: &[f64]) -> Horizon {
    if fixed { Horizon::Fixed(x.len()) } else { Horizon::Open }
}

fn ends(bounds: &[Bound]) -> Value {
    json!(bounds.iter().map(|bound| [bound.low, bound.high]).collect::<Vec<_>>())
}
