//! Replay: recorded outcomes through a router or a gate, and what comes of it at every threshold.
//!
//! A row holds what both models were worth on one request and a score: the higher, the more reason to ask the large
//! model. A router's score is its predicted gain; a gate's falls with the small model's confidence. Every point of the
//! reported curve is driven through `route`'s plan and cascade, the code that serves; the figures that need every
//! threshold come from prefix sums, and a test holds the two together. Callers: the command line, the benches, and the
//! fitting of routers and gates, which selects by [`Figures`].

mod drive;
mod figures;
mod folds;
mod hull;
mod many;
mod ranked;
mod routellm;
mod rows;

pub use drive::Stage;
pub use figures::{Figures, LOSSES};
pub use folds::{crossed, halves};
pub use many::{Mean, Portfolio, portfolio};
pub use rows::{Score, rows};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ranked::Ranked;
use understudy_core::{Error, Result, Seed};
use understudy_stats::Bound;

/// Points of a reported curve, besides the one that keeps nothing.
const POINTS: usize = 100;
/// Level of every interval.
const LEVEL: f64 = 0.95;

/// What one model was worth on one request.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Side {
    /// Quality in [0, 1]; 1 is right.
    pub quality: f64,
    /// Price of the answer in USD, where known.
    pub cost_usd: Option<f64>,
    /// Milliseconds to the whole answer, where known.
    pub latency_ms: Option<f64>,
}

/// One request that both models answered, and the score by which it is routed.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The small model.
    pub small: Side,
    /// The large model.
    pub large: Side,
    /// The higher, the more reason to ask the large model; finite.
    pub score: f64,
    /// How many requests the row stands for, above 0: 1, or one over the probability with which it was recorded. Every
    /// mean is then a self-normalised inverse-propensity one.
    pub weight: f64,
}

/// What one threshold does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Largest score that is kept; `None` where nothing is.
    pub limit: Option<f64>,
    /// Share of the requests that the small model answers.
    pub kept: f64,
    /// Mean quality of the answers handed over.
    pub quality: f64,
    /// Mean price of a request in USD, escalated ones paying for both models behind a gate.
    pub cost_usd: Option<f64>,
    /// Mean milliseconds of a request, likewise.
    pub latency_ms: Option<f64>,
}

/// A replay: figures with their 95 % bootstrap intervals (percentiles over resampled requests), and curves.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Requests.
    pub n: usize,
    /// Mean quality of the small model alone.
    pub quality_small: Bound,
    /// Mean quality of the large model alone.
    pub quality_large: Bound,
    /// The figures.
    pub figures: Figures<Bound>,
    /// Kept share rising from 0 to 1.
    pub curve: Vec<Point>,
    /// The same curve for someone who knows both qualities of every request beforehand. It cuts through ties: it is a
    /// limit, not a rule.
    pub oracle: Vec<Point>,
}

/// How to replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Where the decision is made.
    pub stage: Stage,
    /// Resamples behind the intervals; 0 for none.
    pub resamples: usize,
    /// Randomness of the resamples.
    pub seed: Seed,
}

/// Replays rows.
///
/// # Errors
/// `Invalid` when there are no rows, a quality is outside [0, 1], or a score is not finite.
pub fn replay(rows: &[Row], options: Options) -> Result<Replay> {
    check(rows)?;
    let ranked = Ranked::new(rows);
    let figures = Figures::of(&ranked, options.stage);
    let ([quality_small, quality_large], figures) = bootstrap(&ranked, &figures, options);
    let oracle: Vec<Row> =
        rows.iter().map(|row| Row { score: row.large.quality - row.small.quality, ..row.clone() }).collect();
    Ok(Replay {
        n: rows.len(),
        quality_small,
        quality_large,
        figures,
        curve: drive::curve(rows, &ranked.limits(POINTS), options.stage)?,
        oracle: Ranked::new(&oracle).points(POINTS),
    })
}

/// The figures alone, without curves and intervals: for selection among many scores.
///
/// # Errors
/// As [`replay`].
pub fn figures(rows: &[Row], stage: Stage) -> Result<Figures> {
    check(rows)?;
    Ok(Figures::of(&Ranked::new(rows), stage))
}

fn check(rows: &[Row]) -> Result<()> {
    if rows.is_empty() {
        return Err(Error::invalid("replay: there are no rows with both models"));
    }
    for (index, row) in rows.iter().enumerate() {
        if !row.score.is_finite() {
            return Err(Error::invalid(format!("replay: the score of row {} is {}", index + 1, row.score)));
        }
        if !(row.weight > 0.0 && row.weight.is_finite()) {
            return Err(Error::invalid(format!("replay: the weight of row {} is {}", index + 1, row.weight)));
        }
        if [row.small, row.large].iter().any(|side| !(0.0..=1.0).contains(&side.quality)) {
            return Err(Error::invalid(format!("replay: a quality of row {} is not in [0, 1]", index + 1)));
        }
    }
    Ok(())
}

/// Percentile intervals of the two mean qualities and of every figure.
fn bootstrap(ranked: &Ranked, figures: &Figures, options: Options) -> ([Bound; 2], Figures<Bound>) {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed.derive("replay").0);
    let mut means: [Vec<f64>; 2] = Default::default();
    let mut draws: [Vec<f64>; 8] = Default::default();
    let mut counts = vec![0_u32; ranked.len()];
    for _ in 0..options.resamples {
        counts.fill(0);
        for _ in 0..counts.len() {
            counts[rng.random_range(0..ranked.len())] += 1;
        }
        let drawn = ranked.resampled(&counts);
        means[0].push(drawn.mean_small());
        means[1].push(drawn.mean_large());
        for (draws, value) in draws.iter_mut().zip(Figures::of(&drawn, options.stage).values()) {
            draws.extend(value);
        }
    }
    let [small, large] = &mut means;
    let means = [percentiles(ranked.mean_small(), small), percentiles(ranked.mean_large(), large)];
    (means, figures.map(|place, estimate| percentiles(estimate, &mut draws[place])))
}

/// The estimate between the draws' percentiles; without draws, nothing is known about it.
fn percentiles(estimate: f64, draws: &mut [f64]) -> Bound {
    draws.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, reason = "at most the number of draws")]
    let at = |q: f64| draws.get((q * draws.len().saturating_sub(1) as f64).round() as usize).copied();
    let tail = (1.0 - LEVEL) / 2.0;
    Bound {
        estimate,
        low: at(tail).unwrap_or(f64::NEG_INFINITY),
        high: at(1.0 - tail).unwrap_or(f64::INFINITY),
        level: LEVEL,
    }
}

#[cfg(test)]
mod tests;
