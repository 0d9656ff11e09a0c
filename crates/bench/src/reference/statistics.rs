//! Tests and intervals of `understudy-stats`, for comparison with scipy.

use super::{Table, read};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_core::Result;
use understudy_stats::{Bound, binomial, paired};

pub(super) const TABLE: Table = &[("mcnemar", mcnemar), ("clopper_pearson", clopper_pearson), ("wilson", wilson)];

pub(super) fn bound(bound: Bound) -> Value {
    json!({ "estimate": bound.estimate, "low": bound.low, "high": bound.high })
}

#[derive(Deserialize)]
struct Discordant {
    only_a: u64,
    only_b: u64,
}

fn mcnemar(arguments: Value) -> Result<Value> {
    let Discordant { only_a, only_b } = read(arguments)?;
    Ok(paired::mcnemar(only_a, only_b).into())
}

#[derive(Deserialize)]
struct Share {
    k: u64,
    n: u64,
    level: f64,
}

fn clopper_pearson(arguments: Value) -> Result<Value> {
    let Share { k, n, level } = read(arguments)?;
    Ok(bound(binomial::interval(k, n, level)))
}

fn wilson(arguments: Value) -> Result<Value> {
    let Share { k, n, level } = read(arguments)?;
    Ok(bound(binomial::wilson(k, n, level)))
}
