//! Certifies resampled calibration sets of a known population and counts how often the certificate is wrong.

use crate::{
    Grid, Item, Scored,
    certify::{
        check, coded,
        search::{Search, count},
    },
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, LossKind, Per, Result, Seed};
use understudy_stats::{Bound, binomial, mean::mean};

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
    /// Mean share of the population kept over all runs, with a 95 % interval over them.
    pub kept: Bound,
    /// Share kept by the best fixed threshold: the largest share whose loss on the population is at most ε. Nobody can
    /// know it beforehand.
    pub kept_best_fixed: f64,
}

/// Runs the simulation over a population.
///
/// # Errors
/// `Invalid` when there are no items, no runs, n is 0, or ε, δ or a confidence is out of range.
pub fn simulate(population: &[Item], plan: &Plan, grid: &Grid) -> Result<Simulation> {
    let scored: Vec<Scored> = population.iter().map(Scored::from).collect();
    simulate_scored(&scored, LossKind::Regret, Per::Request, plan, grid)
}

/// As [`simulate`], for losses of every kind, over all requests or over the kept ones.
///
/// # Errors
/// As [`simulate`], and when a loss is outside the range of its kind.
pub fn simulate_scored(
    population: &[Scored],
    loss: LossKind,
    per: Per,
    plan: &Plan,
    grid: &Grid,
) -> Result<Simulation> {
    check(population, plan.epsilon, plan.delta, loss)?;
    if plan.runs == 0 || plan.n == 0 {
        return Err(Error::invalid("simulate: runs and n must be at least 1"));
    }
    let size = grid.thresholds().len();
    let coded = coded(population, grid)?;
    let truth = count(&coded, size);
    let search = Search { size, loss, per, epsilon: plan.epsilon };
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed.derive("resample").0);
    let (mut violations, mut certified, mut kept) = (0, 0, Vec::new());
    let mut draw = Vec::new();
    for _ in 0..plan.runs {
        draw.clear();
        draw.extend((0..plan.n).map(|_| coded[rng.random_range(0..coded.len())]));
        search.toss(&mut draw, &mut rng);
        let found = search.certified(&draw, plan.delta);
        kept.push(found.map_or(0.0, |i| truth[i].kept as f64 / population.len() as f64));
        if let Some(i) = found {
            certified += 1;
            violations += u64::from(search.true_loss(truth[i], population.len()) > plan.epsilon + ROUNDING);
        }
    }
    Ok(Simulation {
        plan: *plan,
        violations,
        violation_share: binomial::interval(violations, plan.runs, 0.95),
        certified,
        kept: mean_share(&kept),
        kept_best_fixed: best_fixed(population, per, plan.epsilon),
    })
}

/// The mean of shares over runs; its interval does not leave [0, 1].
pub(crate) fn mean_share(shares: &[f64]) -> Bound {
    let bound = mean(shares, 0.95);
    Bound { low: bound.low.max(0.0), high: bound.high.min(1.0), ..bound }
}

/// A mean of many losses is exact to this much.
const ROUNDING: f64 = 1e-12;

/// Largest share kept by any threshold whatever, on the grid or not, with a loss of at most `epsilon`.
fn best_fixed(population: &[Scored], per: Per, epsilon: f64) -> f64 {
    let mut sorted: Vec<(f64, f64)> =
        population.iter().filter_map(|item| Some((item.confidence?, item.loss))).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total = population.len() as f64;
    let (mut losses, mut best) = (0.0, 0.0);
    for (i, &(confidence, loss)) in sorted.iter().enumerate() {
        losses += loss;
        // Equal confidences are kept together or not at all.
        let ends = sorted.get(i + 1).is_none_or(|next| next.0 < confidence);
        let of = if per == Per::Kept { (i + 1) as f64 } else { total };
        if ends && losses / of <= epsilon + ROUNDING {
            best = (i + 1) as f64 / total;
        }
    }
    best
}

/// The most that any valid procedure could keep on average with `n` items, for whole losses over all requests: its chance
/// to reach a threshold is at most the power of the most powerful test there. That test may decide by a coin at the
/// boundary; ours does not, which is the rest of the distance. For graded losses, the most that counting with coins could
/// keep; where they are small, betting keeps more.
///
/// # Errors
/// As [`simulate`].
pub fn ceiling(population: &[Scored], plan: &Plan) -> Result<f64> {
    check(population, plan.epsilon, plan.delta, LossKind::GradedRegret)?;
    let mut sorted: Vec<(f64, f64)> =
        population.iter().filter_map(|item| Some((item.confidence?, item.loss))).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total = population.len() as f64;
    // Reject for certain up to k losses, and with probability `coin` at k + 1, so that the level is exactly δ.
    let certain = binomial::most_allowed(plan.n, plan.epsilon, 1.0 - plan.delta);
    let next = certain.map_or(0, |k| k + 1).min(plan.n);
    let below = certain.map_or(0.0, |k| binomial::cdf(k, plan.n, plan.epsilon));
    let coin = ((plan.delta - below) / binomial::pmf(next, plan.n, plan.epsilon)).clamp(0.0, 1.0);
    let power =
        |loss: f64| certain.map_or(0.0, |k| binomial::cdf(k, plan.n, loss)) + coin * binomial::pmf(next, plan.n, loss);
    let (mut losses, mut group, mut most) = (0.0, 0_u32, 0.0);
    for (i, &(confidence, loss)) in sorted.iter().enumerate() {
        losses += loss;
        group += 1;
        if sorted.get(i + 1).is_none_or(|next| next.0 < confidence) {
            most += f64::from(group) / total * power(losses / total);
            group = 0;
        }
    }
    Ok(most)
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

    /// No more wrong certificates than δ allows, something kept, and no more than is possible.
    fn holds(what: &str, out: &Simulation) {
        let (kept, best) = (out.kept, out.kept_best_fixed);
        println!(
            "{what}: {} violations of {}, kept {:.3} ({:.3} to {:.3}), best fixed {best:.3}",
            out.violations, out.plan.runs, kept.estimate, kept.low, kept.high
        );
        assert!(out.violation_share.low <= out.plan.delta && kept.low > 0.05 && kept.estimate <= best * 1.05);
    }

    #[test]
    fn certificates_are_wrong_no_more_often_than_delta() {
        for epsilon in [0.005, 0.01, 0.02, 0.05] {
            let plan = Plan { n: 1500, runs: 1000, epsilon, delta: 0.05, seed: Seed(1) };
            let out = simulate(&population(), &plan, &Grid::default()).expect("valid");
            holds(&format!("epsilon {epsilon}"), &out);
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
        let scored: Vec<Scored> = items.iter().map(Scored::from).collect();
        assert!((best_fixed(&scored, Per::Request, 0.02) - all).abs() < 1e-12);
    }

    #[test]
    fn graded_and_conditional_certificates_are_wrong_no_more_often_than_delta() {
        let graded: Vec<Scored> = population()
            .iter()
            .enumerate()
            .map(|(i, item)| Scored { loss: Scored::from(item).loss * (i % 4 + 1) as f64 / 4.0, ..Scored::from(item) })
            .collect();
        let mut nearly_whole: Vec<Scored> = population().iter().map(Scored::from).collect();
        nearly_whole.iter_mut().step_by(10).for_each(|item| item.loss *= 0.7);
        let signed: Vec<Scored> = graded
            .iter()
            .enumerate()
            .map(|(i, s)| Scored { loss: s.loss - f64::from(u8::from(i % 50 == 0)), ..s.clone() })
            .collect();
        let whole: Vec<Scored> = population().iter().map(Scored::from).collect();
        for (items, loss, per, epsilon) in [
            (&graded, LossKind::GradedRegret, Per::Request, 0.03),
            (&graded, LossKind::GradedRegret, Per::Kept, 0.07),
            (&nearly_whole, LossKind::GradedRegret, Per::Request, 0.03),
            (&nearly_whole, LossKind::GradedRegret, Per::Kept, 0.1),
            (&signed, LossKind::Difference, Per::Request, 0.03),
            (&whole, LossKind::Regret, Per::Kept, 0.1),
        ] {
            let plan = Plan { n: 1500, runs: 200, epsilon, delta: 0.1, seed: Seed(4) };
            let out = simulate_scored(items, loss, per, &plan, &Grid::default()).expect("valid");
            holds(&format!("{loss:?} per {per:?}"), &out);
        }
    }

    #[test]
    fn nobody_could_keep_more_than_the_ceiling_and_we_come_near() {
        let plan = Plan { n: 1500, runs: 1000, epsilon: 0.02, delta: 0.05, seed: Seed(1) };
        let (kept, ceiling) = (
            simulate(&population(), &plan, &Grid::default()).expect("valid").kept.estimate,
            ceiling(&population().iter().map(Scored::from).collect::<Vec<_>>(), &plan).expect("valid"),
        );
        println!("kept {kept:.4}, ceiling {ceiling:.4}");
        assert!(kept <= ceiling * 1.01 && kept >= ceiling * 0.95);
    }
}
