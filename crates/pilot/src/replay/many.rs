//! Any number of models: each request goes where predicted quality minus price and time is greatest, by the very policy
//! of `route`, and is worth what was recorded there.

use super::{LEVEL, Side, percentiles};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, Result, Seed};
use understudy_route::policy::{Candidate, Trade};
use understudy_stats::Bound;

/// What one way of answering every request comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// Mean quality with its 95 % bootstrap interval.
    pub quality: Bound,
    /// Mean price in USD, where every price is known.
    pub cost_usd: Option<f64>,
    /// Mean milliseconds, where all are known.
    pub latency_ms: Option<f64>,
}

/// A policy replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Portfolio {
    /// Requests.
    pub n: usize,
    /// The policy.
    pub policy: Mean,
    /// Share of the requests that each model answers.
    pub shares: Vec<f64>,
    /// Each model alone.
    pub alone: Vec<Mean>,
    /// For someone who knows every quality beforehand, taking the first of equals.
    pub oracle: Mean,
}

/// Replays a policy. `sides[i][m]` is what model m was worth on request i and `predicted[i][m]` its predicted quality
/// there; the price and time that the policy expects of a model are its means over the requests.
///
/// # Errors
/// `Invalid` without requests, when a row has another number of models, or when no model may be chosen because the
/// prices or times that count are unknown.
pub fn portfolio(
    sides: &[Vec<Side>],
    predicted: &[Vec<f64>],
    trade: Trade,
    (resamples, seed): (usize, Seed),
) -> Result<Portfolio> {
    let models = sides.first().map_or(0, Vec::len);
    let shapes = sides.iter().map(Vec::len).chain(predicted.iter().map(Vec::len));
    if models == 0 || sides.len() != predicted.len() || shapes.into_iter().any(|len| len != models) {
        return Err(Error::invalid("replay a policy: give every model's outcome and prediction for every row"));
    }
    let column = |model: usize| sides.iter().map(|row| row[model]).collect::<Vec<Side>>();
    let alone: Vec<Mean> = (0..models).map(|model| mean(&column(model), resamples, seed)).collect();
    let choose = |row: &Vec<f64>| {
        let candidates: Vec<Candidate> = row
            .iter()
            .zip(&alone)
            .map(|(&quality, mean)| Candidate {
                quality,
                cost_usd: mean.cost_usd,
                latency_ms: mean.latency_ms,
                allowed: true,
            })
            .collect();
        trade.choose(&candidates).ok_or_else(|| {
            Error::invalid("replay a policy: prices or times are not recorded for any model; set --lambda or --mu to 0")
        })
    };
    let chosen: Vec<usize> = predicted.iter().map(choose).collect::<Result<_>>()?;
    let taken: Vec<Side> = sides.iter().zip(&chosen).map(|(row, &model)| row[model]).collect();
    let first_best = |row: &Vec<Side>| {
        row.iter().copied().reduce(|best, side| if side.quality > best.quality { side } else { best })
    };
    let best: Vec<Side> = sides.iter().filter_map(first_best).collect();
    let share = |model: usize| chosen.iter().filter(|&&c| c == model).count() as f64 / chosen.len() as f64;
    Ok(Portfolio {
        n: sides.len(),
        policy: mean(&taken, resamples, seed),
        shares: (0..models).map(share).collect(),
        alone,
        oracle: mean(&best, resamples, seed),
    })
}

fn mean(sides: &[Side], resamples: usize, seed: Seed) -> Mean {
    let n = sides.len() as f64;
    let sum = |value: &dyn Fn(&Side) -> Option<f64>| sides.iter().map(value).sum::<Option<f64>>();
    let estimate = sides.iter().map(|side| side.quality).sum::<f64>() / n;
    let mut rng = ChaCha8Rng::seed_from_u64(seed.derive("policy").0);
    let mut draws: Vec<f64> = (0..resamples)
        .map(|_| sides.iter().map(|_| sides[rng.random_range(0..sides.len())].quality).sum::<f64>() / n)
        .collect();
    let quality = match draws.is_empty() {
        true => Bound { estimate, low: f64::NEG_INFINITY, high: f64::INFINITY, level: LEVEL },
        false => percentiles(estimate, &mut draws),
    };
    Mean {
        quality,
        cost_usd: sum(&|side| side.cost_usd).map(|sum| sum / n),
        latency_ms: sum(&|side| side.latency_ms).map(|sum| sum / n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(quality: f64, cost: f64) -> Side {
        Side { quality, cost_usd: Some(cost), latency_ms: None }
    }

    #[test]
    fn a_policy_takes_what_was_recorded_where_it_sends_a_request() {
        let sides = vec![vec![side(1.0, 0.1), side(0.0, 1.0)], vec![side(0.0, 0.1), side(1.0, 1.0)]];
        let predicted = vec![vec![0.9, 0.5], vec![0.2, 0.8]];
        let at = |lambda| {
            let trade = Trade { lambda, mu: 0.0 };
            portfolio(&sides, &predicted, trade, (50, Seed(1))).expect("complete")
        };
        let free = at(0.0);
        assert!((free.policy.quality.estimate - 1.0).abs() < 1e-12 && free.shares == [0.5, 0.5]);
        assert!(free.policy.cost_usd.is_some_and(|cost| (cost - 0.55).abs() < 1e-12));
        assert_eq!((free.policy.latency_ms, free.oracle.quality.estimate), (None, 1.0));
        let dear = at(10.0);
        assert!(dear.shares == [1.0, 0.0] && (dear.policy.quality.estimate - 0.5).abs() < 1e-12);
        let timed = portfolio(&sides, &predicted, Trade { lambda: 0.0, mu: 1.0 }, (0, Seed(1)));
        assert!(timed.expect_err("no times").to_string().contains("--mu"));
        assert!(portfolio(&sides, &predicted[..1], Trade::default(), (0, Seed(1))).is_err());
    }
}
