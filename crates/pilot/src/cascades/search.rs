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
///
/// One pass over the rows that a first rung does not keep rates all thresholds of a second: sums for each threshold
/// that a row first reaches, then running totals. A test holds the result against walking every ladder.
pub(super) fn rate_all(population: &Population, rows: &[usize]) -> Vec<Rated> {
    let last = population.models.len();
    let levels: Vec<Vec<f64>> = (0..last).map(|model| levels(population, rows, model)).collect();
    let columns: Vec<Column> = (0..last).map(|model| Column::new(population, rows, model, &levels[model])).collect();
    let cost_large: Vec<f64> = rows.iter().map(|&row| population.cells[row][last].cost_usd).collect();
    let n = rows.len() as f64;
    let mut rated = Vec::new();
    let mut push = |rungs: Vec<Rung<usize>>, sums: Sums, cost_usd: f64| {
        let loss = f64::midpoint(sums.losses as f64, sums.expected) / n;
        rated.push(Rated { ladder: Ladder { rungs, last }, loss, losses: sums.losses, cost_usd: cost_usd / n });
    };
    for (first, column) in columns.iter().enumerate() {
        let cost_first: f64 = column.cost_usd.iter().sum();
        for (level, &threshold) in levels[first].iter().enumerate() {
            let rung = Rung { model: first, threshold };
            let (kept, escalated): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|&i| column.first[i] <= level);
            let mut base = Sums::default();
            kept.iter().for_each(|&i| base.add(column, i, 0.0));
            let all_large: f64 = escalated.iter().map(|&i| cost_large[i]).sum();
            push(vec![rung.clone()], base, cost_first + all_large);
            for (second, column) in columns.iter().enumerate().skip(first + 1) {
                let cost_second: f64 = escalated.iter().map(|&i| column.cost_usd[i]).sum();
                // Rows that no threshold keeps have a place of their own behind the last.
                let mut reached = vec![Sums::default(); levels[second].len() + 1];
                escalated.iter().for_each(|&i| reached[column.first[i]].add(column, i, cost_large[i]));
                let mut total = base;
                for (&threshold, sums) in levels[second].iter().zip(&reached) {
                    total = total.and(sums);
                    let rungs = vec![rung.clone(), Rung { model: second, threshold }];
                    push(rungs, total, cost_first + cost_second + all_large - total.spared_usd);
                }
            }
        }
    }
    rated
}

/// One model's answers to the rows.
struct Column {
    /// The strictest of its thresholds that keeps the answer, counted from 0; their number where none does.
    first: Vec<usize>,
    loss: Vec<bool>,
    smoothed: Vec<f64>,
    cost_usd: Vec<f64>,
}

impl Column {
    fn new(population: &Population, rows: &[usize], model: usize, levels: &[f64]) -> Self {
        let cell = |&row: &usize| population.cells[row][model];
        let first = |row| cell(row).confidence.map_or(levels.len(), |c| levels.partition_point(|&level| level > c));
        Self {
            first: rows.iter().map(first).collect(),
            loss: rows.iter().map(|row| cell(row).loss).collect(),
            smoothed: smooth(population, rows, model),
            cost_usd: rows.iter().map(|row| cell(row).cost_usd).collect(),
        }
    }
}

/// Sums over answers that are kept.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    losses: u64,
    expected: f64,
    /// What the large model would have cost there.
    spared_usd: f64,
}

impl Sums {
    fn add(&mut self, column: &Column, row: usize, spared_usd: f64) {
        self.losses += u64::from(column.loss[row]);
        self.expected += column.smoothed[row];
        self.spared_usd += spared_usd;
    }

    fn and(self, other: &Self) -> Self {
        Self {
            losses: self.losses + other.losses,
            expected: self.expected + other.expected,
            spared_usd: self.spared_usd + other.spared_usd,
        }
    }
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
