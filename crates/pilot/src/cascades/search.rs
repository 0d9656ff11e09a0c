//! Rating every cascade of two or three models on some rows, and the path from safe to cheap.

use super::Population;
use understudy_learn::logistic::Logistic;
use understudy_route::stages::{Ladder, Rung};

/// Thresholds tried for each model: quantiles of its confidence.
const LEVELS: usize = 10;
/// Least saving of a step of the path, as a share of the large model's price.
const STEP: f64 = 0.01;

/// A cascade and what it is thought to lose and cost per request.
#[derive(Debug, Clone, PartialEq)]
pub struct Rated {
    /// The cascade; models are numbered as in the population, the large one last.
    pub ladder: Ladder<usize>,
    /// Expected loss: half counted, half from each model's smoothed loss at its confidence. On a hundred rows the count
    /// alone is zero for hundreds of cascades.
    pub loss: f64,
    /// Losses counted.
    pub losses: u64,
    /// Mean price.
    pub cost_usd: f64,
}

/// Cascades of two and three models that no other undercuts in both expected loss and price, from safe to cheap. Every
/// step saves at least one percent of the large model's price.
#[must_use]
pub fn frontier(population: &Population, rows: &[usize]) -> Vec<Rated> {
    let mut rated = rate_all(population, rows);
    rated.sort_by(|a, b| a.loss.total_cmp(&b.loss).then(a.cost_usd.total_cmp(&b.cost_usd)));
    let step = STEP * population.cost_large();
    let mut path: Vec<Rated> = Vec::new();
    let mut cheapest = population.cost_large();
    for candidate in rated {
        if candidate.cost_usd <= cheapest - step {
            cheapest = candidate.cost_usd;
            path.push(candidate);
        }
    }
    path
}

/// Every cascade of two and three models with thresholds at quantiles of these rows.
pub(super) fn rate_all(population: &Population, rows: &[usize]) -> Vec<Rated> {
    let last = population.models.len();
    let smoothed: Vec<Vec<f64>> = (0..last).map(|model| smooth(population, rows, model)).collect();
    let levels: Vec<Vec<f64>> = (0..last).map(|model| levels(population, rows, model)).collect();
    let mut ladders = Vec::new();
    for first in 0..last {
        for &threshold in &levels[first] {
            let rung = Rung { model: first, threshold };
            ladders.push(Ladder { rungs: vec![rung.clone()], last });
            for second in first + 1..last {
                for &threshold in &levels[second] {
                    let rungs = vec![rung.clone(), Rung { model: second, threshold }];
                    ladders.push(Ladder { rungs, last });
                }
            }
        }
    }
    ladders.into_iter().map(|ladder| rate(population, rows, &smoothed, ladder)).collect()
}

fn rate(population: &Population, rows: &[usize], smoothed: &[Vec<f64>], ladder: Ladder<usize>) -> Rated {
    let n = rows.len() as f64;
    let tally = population.tally(&ladder, rows);
    let mut expected = 0.0;
    for (position, &row) in rows.iter().enumerate() {
        let reached = ladder.walk(|&model| population.cells[row][model].confidence);
        expected += smoothed.get(*ladder.model(reached)).map_or(0.0, |losses| losses[position]);
    }
    let loss = f64::midpoint(tally.losses as f64 / n, expected / n);
    Rated { ladder, loss, losses: tally.losses, cost_usd: tally.cost_usd / n }
}

/// A model's chance of a loss at its confidence on each row, by logistic regression on the log-odds of confidence.
fn smooth(population: &Population, rows: &[usize], model: usize) -> Vec<f64> {
    let log_odds = |confidence: Option<f64>| {
        let p = confidence.unwrap_or(0.0).clamp(1e-4, 1.0 - 1e-4);
        vec![(p / (1.0 - p)).ln()]
    };
    let inputs: Vec<Vec<f64>> = rows.iter().map(|&row| log_odds(population.cells[row][model].confidence)).collect();
    let losses: Vec<f64> = rows.iter().map(|&row| f64::from(u8::from(population.cells[row][model].loss))).collect();
    if inputs.is_empty() {
        return Vec::new();
    }
    let fit = Logistic::fit(&inputs, &losses, 1.0);
    inputs.iter().map(|input| fit.predict(input)).collect()
}

/// Thresholds from keeping a tenth to keeping all.
fn levels(population: &Population, rows: &[usize], model: usize) -> Vec<f64> {
    let mut sorted: Vec<f64> = rows.iter().filter_map(|&row| population.cells[row][model].confidence).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    if sorted.is_empty() {
        return Vec::new();
    }
    let mut levels: Vec<f64> = (1..=LEVELS).map(|level| sorted[(sorted.len() * level).div_ceil(LEVELS) - 1]).collect();
    levels.dedup();
    levels
}
