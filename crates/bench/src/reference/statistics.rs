//! Tests and intervals of `understudy-stats` and confident learning, for comparison with scipy and cleanlab.

use super::{Table, read};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_core::{Error, Result};
use understudy_learn::confident;
use understudy_stats::{
    Bound, binomial, bootstrap, independent, multiplicity, paired, permutation,
    power::{self, Aim},
};

pub(super) const TABLE: Table = &[
    ("mcnemar", mcnemar),
    ("clopper_pearson", clopper_pearson),
    ("wilson", wilson),
    ("sign_flip", sign_flip),
    ("bca_of_draws", bca_of_draws),
    ("holm", |p| Ok(json!(multiplicity::holm(&read::<Vec<f64>>(p)?)))),
    ("benjamini_hochberg", |p| Ok(json!(multiplicity::benjamini_hochberg(&read::<Vec<f64>>(p)?)))),
    ("fisher", fisher),
    ("t_test_above", t_test_above),
    ("tango", tango),
    ("power", needed),
    ("confident", confident_learning),
];

pub(super) fn bound(bound: Bound) -> Value {
    json!({ "estimate": bound.estimate, "low": bound.low, "high": bound.high })
}

fn require(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::invalid(format!("read the arguments: {what}"))) }
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

fn sign_flip(arguments: Value) -> Result<Value> {
    let differences: Vec<f64> = read(arguments)?;
    let found = permutation::sign_flip(&differences, 50_000, &mut ChaCha12Rng::seed_from_u64(1));
    Ok(json!({ "p": found.p, "exact": found.exact }))
}

#[derive(Deserialize)]
struct Draws {
    values: Vec<f64>,
    draws: Vec<f64>,
    level: f64,
}

fn bca_of_draws(arguments: Value) -> Result<Value> {
    let Draws { values, mut draws, level } = read(arguments)?;
    require(!values.is_empty() && !draws.is_empty(), "values and draws are needed")?;
    draws.sort_unstable_by(f64::total_cmp);
    Ok(bound(bootstrap::bca_of_draws(&values, &draws, level)))
}

#[derive(Deserialize)]
struct TwoShares {
    a: u64,
    n: u64,
    b: u64,
    m: u64,
}

fn fisher(arguments: Value) -> Result<Value> {
    let TwoShares { a, n, b, m } = read(arguments)?;
    require(a <= n && b <= m, "a of n and b of m")?;
    Ok(independent::fisher(a, n, b, m).into())
}

#[derive(Deserialize)]
struct Shifted {
    differences: Vec<f64>,
    shift: f64,
}

fn t_test_above(arguments: Value) -> Result<Value> {
    let Shifted { differences, shift } = read(arguments)?;
    require(differences.len() > 1, "two differences are needed")?;
    Ok(paired::t_test_above(&differences, shift).into())
}

#[derive(Deserialize)]
struct Tango {
    only_a: u64,
    only_b: u64,
    n: u64,
    margin: f64,
    level: f64,
}

fn tango(arguments: Value) -> Result<Value> {
    let Tango { only_a, only_b, n, margin, level } = read(arguments)?;
    require(n > 0 && only_a + only_b <= n, "counts of n items")?;
    let mut found = bound(paired::score_difference(only_a, only_b, n, level));
    found["p"] = paired::non_inferiority(only_a, only_b, n, margin).into();
    Ok(found)
}

#[derive(Deserialize)]
struct Planned {
    difference: f64,
    variance: f64,
    margin: f64,
    alpha: f64,
    power: f64,
}

fn needed(arguments: Value) -> Result<Value> {
    let Planned { difference, variance, margin, alpha, power } = read(arguments)?;
    let aim = Aim { alpha, power };
    Ok(json!({
        "difference": power::to_show_difference(difference, variance, aim),
        "non_inferiority": power::to_show_non_inferiority(difference, variance, margin, aim),
    }))
}

#[derive(Deserialize)]
struct Labelled {
    labels: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
}

fn confident_learning(arguments: Value) -> Result<Value> {
    let Labelled { labels, probabilities } = read(arguments)?;
    let classes = probabilities.first().map_or(0, Vec::len);
    require(
        labels.len() == probabilities.len() && labels.iter().all(|l| *l < classes),
        "a distribution for each label",
    )?;
    let found = confident::candidates(&labels, &probabilities);
    Ok(json!(found.iter().map(|c| (c.row, c.suggested)).collect::<Vec<_>>()))
}
