//! Certifies resampled calibration sets of a known population and counts how often the certificate is wrong.

use crate::{Grid, Item, certify::check};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, Result, Seed};
use understudy_stats::{Bound, binomial, sequence};

/// How to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Calibration items in each run, drawn with replacement: the population then is exactly the traffic to come.
    pub n: u64,
    /// Runs.
    pub runs: u64,
    /// Largest allowed expected loss.
    pub epsilon: f64,
    /// Allowed share of wrong certificates.
    pub delta: f64,
    /// Randomness.
    pub seed: Seed,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Simulation {
    /// The plan.
    pub plan: Plan,
    /// Runs whose certificate was wrong: the population's loss at the certified threshold exceeds ε.
    pub violations: u64,
    /// Their share with its exact 95 % interval.
    pub violation_share: Bound,
    /// Runs that issued a certificate; the others keep nothing.
    pub certified: u64,
    /// Mean share of the population kept, over all runs.
    pub kept: f64,
    /// Share kept by the best fixed threshold: the largest share whose loss on the population is at most ε. Nobody can
    /// know it beforehand.
    pub kept_best_fixed: f64,
}

/// Runs the simulation over a population.
///
/// # Errors
/// `Invalid` when there are no items, no runs, n is 0, or ε, δ or a confidence is out of range.
pub fn simulate(population: &[Item], plan: &Plan, grid: &Grid) -> Result<Simulation> {
    check(population, plan.epsilon, plan.delta)?;
    if plan.runs == 0 || plan.n == 0 {
        return Err(Error::invalid("simulate: runs and n must be at least 1"));
    }
    let size = grid.thresholds().len();
    // One byte pair for each item: the threshold from which on it is kept (`size`: never), and its loss.
    let coded: Vec<(u16, bool)> = population
        .iter()
        .map(|item| {
            let first = item.confidence.and_then(|c| grid.first_keeping(c)).unwrap_or(size);
            let first =
                u16::try_from(first).map_err(|_| Error::invalid("simulate: use fewer than 65,536 thresholds"))?;
            Ok((first, item.loss_if_kept))
        })
        .collect::<Result<_>>()?;
    let total = population.len() as f64;
    let truth = cumulate(&coded, size);
    let allowed = binomial::most_allowed(plan.n, plan.epsilon, 1.0 - plan.delta);
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed.derive("resample").0);
    let (mut violations, mut certified, mut kept) = (0, 0, 0.0);
    let mut draw = Vec::new();
    for _ in 0..plan.runs {
        let Some(allowed) = allowed else { break };
        draw.clear();
        draw.extend((0..plan.n).map(|_| coded[rng.random_range(0..coded.len())]));
        let counts = cumulate(&draw, size);
        let chosen = sequence::last_rejected(size, |i| counts[i].1 <= allowed);
        // Among thresholds that keep the same drawn items, the strictest is certified, as in `certify`.
        let chosen =
            chosen.and_then(|i| (0..=i).rev().find(|&i| counts[i].0 > if i == 0 { 0 } else { counts[i - 1].0 }));
        if let Some(i) = chosen {
            certified += 1;
            kept += truth[i].0 as f64 / total;
            violations += u64::from(truth[i].1 as f64 / total > plan.epsilon);
        }
    }
    Ok(Simulation {
        plan: *plan,
        violations,
        violation_share: binomial::interval(violations, plan.runs, 0.95),
        certified,
        kept: kept / plan.runs as f64,
        kept_best_fixed: best_fixed(population, plan.epsilon),
    })
}

/// Items kept and losses at each threshold.
fn cumulate(coded: &[(u16, bool)], size: usize) -> Vec<(u64, u64)> {
    let mut counts = vec![(0, 0); size + 1];
    for &(first, loss) in coded {
        let count = &mut counts[usize::from(first)];
        count.0 += 1;
        count.1 += u64::from(loss);
    }
    for i in 1..size {
        counts[i].0 += counts[i - 1].0;
        counts[i].1 += counts[i - 1].1;
    }
    counts.truncate(size);
    counts
}

/// Largest share kept by any threshold whatever, on the grid or not, with a loss of at most `epsilon`.
fn best_fixed(population: &[Item], epsilon: f64) -> f64 {
    let mut sorted: Vec<(f64, bool)> =
        population.iter().filter_map(|item| Some((item.confidence?, item.loss_if_kept))).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total = population.len() as f64;
    let (mut losses, mut best) = (0.0, 0.0);
    for (i, &(confidence, loss)) in sorted.iter().enumerate() {
        losses += f64::from(u8::from(loss));
        // Equal confidences are kept together or not at all.
        let ends = sorted.get(i + 1).is_none_or(|next| next.0 < confidence);
        if ends && losses / total <= epsilon {
            best = (i + 1) as f64 / total;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items whose loss grows as confidence falls.
    fn population() -> Vec<Item> {
        (0..4000_u32)
            .map(|i| {
                let confidence = 1.0 - f64::from(i) / 4000.0;
                // A fixed pattern of losses with a density that rises to 40 %.
                let loss = f64::from(i * 7919 % 4000) / 4000.0 < (1.0 - confidence) * 0.4;
                Item { id: i.to_string(), confidence: Some(confidence), loss_if_kept: loss }
            })
            .collect()
    }

    #[test]
    fn certificates_are_wrong_no_more_often_than_delta() {
        for epsilon in [0.005, 0.01, 0.02, 0.05] {
            let plan = Plan { n: 1500, runs: 1000, epsilon, delta: 0.05, seed: Seed(1) };
            let out = simulate(&population(), &plan, &Grid::default()).expect("valid");
            println!(
                "epsilon {epsilon}: {} violations of {}, kept {:.3}, best fixed {:.3}",
                out.violations, plan.runs, out.kept, out.kept_best_fixed
            );
            assert!(out.violation_share.low <= 0.05 && out.kept > 0.05 && out.kept <= out.kept_best_fixed * 1.05);
        }
    }

    #[test]
    fn a_promise_without_a_bound_is_caught() {
        // The same runs with δ = 60 % for what is checked against 5 %: the counting can fail.
        let plan = Plan { n: 1500, runs: 500, epsilon: 0.02, delta: 0.6, seed: Seed(2) };
        let out = simulate(&population(), &plan, &Grid::default()).expect("valid");
        assert!(out.violation_share.low > 0.05, "{out:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_result() {
        let plan = Plan { n: 300, runs: 50, epsilon: 0.05, delta: 0.05, seed: Seed(3) };
        let run = || simulate(&population(), &plan, &Grid::default()).expect("valid");
        assert_eq!(run(), run());
    }

    #[test]
    fn the_best_fixed_threshold_is_the_one_found_by_trying_all() {
        let items = population();
        let share = |t: f64| {
            let kept: Vec<_> = items.iter().filter(|i| i.confidence.is_some_and(|c| c >= t)).collect();
            let losses = kept.iter().filter(|i| i.loss_if_kept).count();
            (losses as f64 / 4000.0 <= 0.02).then_some(kept.len() as f64 / 4000.0)
        };
        let all = items.iter().filter_map(|i| share(i.confidence?)).fold(0.0, f64::max);
        assert!((best_fixed(&items, 0.02) - all).abs() < 1e-12);
    }
}
