//! The members of a committee. Several simple learners of different targets, averaged, err less on a few hundred rows
//! than the best of them chosen there.

use super::Kind;
use understudy_learn::{
    boost::{Boosted, Loss, Params as Boost},
    logistic::Logistic,
    ridge::Ridge,
};
use understudy_route::gate::fitted::Learner;

/// Rows with their targets.
pub(super) struct Train<'a> {
    pub(super) rows: &'a [Vec<f64>],
    /// Quality of the small model.
    pub(super) small: Vec<f64>,
    /// Quality of the large model.
    pub(super) large: Vec<f64>,
    pub(super) seed: u64,
}

/// Names and learners; all scores rise with the reason to keep.
pub(super) fn learners(train: &Train<'_>, kind: Kind) -> Vec<(&'static str, Learner)> {
    let mut learners = Vec::new();
    if kind != Kind::Boosted {
        learners.extend(linear(train));
    }
    if kind != Kind::Logistic {
        learners.extend(trees(train));
    }
    learners
}

/// What is kept without a loss: 1 − regret.
fn kept_well(train: &Train<'_>) -> Vec<f64> {
    train.small.iter().zip(&train.large).map(|(small, large)| 1.0 - (large - small).max(0.0)).collect()
}

/// Penalties suit standardised features and a few hundred rows, and matter little beyond. The large model's failures
/// are harder to predict than the small one's: they get the stronger penalties.
fn linear(train: &Train<'_>) -> Vec<(&'static str, Learner)> {
    let fit = |targets: &[f64], l2: f64| Logistic::fit(train.rows, targets, l2);
    let small = fit(&train.small, 3.0);
    let difference = |l2: f64| Learner::Difference { small: small.clone(), large: fit(&train.large, l2) };
    let gain = Ridge::fit(train.rows, &less(train), 0.5 * train.rows.len() as f64);
    vec![
        ("small model right", Learner::Linear(small.clone())),
        ("no regret", Learner::Linear(fit(&kept_well(train), 30.0))),
        ("small right less large right", difference(30.0)),
        ("small right less large right, strong penalty", difference(300.0)),
        ("small less large", Learner::Sum(gain)),
    ]
}

/// What keeping gains: the small model's quality less the large one's.
fn less(train: &Train<'_>) -> Vec<f64> {
    train.small.iter().zip(&train.large).map(|(small, large)| small - large).collect()
}

fn trees(train: &Train<'_>) -> Vec<(&'static str, Learner)> {
    // Leaves grow with the rows, so that a tree says as little about each as on a few hundred.
    let leaf = (train.rows.len() / 20).clamp(5, 50);
    let fit = |loss: Loss, targets: &[f64], part: u64| {
        let seed = train.seed.wrapping_mul(31).wrapping_add(part);
        let params = Boost { loss, leaf, rounds: 80, sample: 0.5, features: 0.5, seed, ..Boost::default() };
        Learner::Trees(Boosted::fit(train.rows, targets, &params))
    };
    vec![
        ("small model right, trees", fit(Loss::Logistic, &train.small, 1)),
        ("no regret, trees", fit(Loss::Logistic, &kept_well(train), 2)),
        ("small less large, trees", fit(Loss::Squared, &less(train), 3)),
    ]
}
