//! How often the certificate of a chosen cascade is wrong, and what it saves: choices on resampled calibration sets,
//! judged on the whole population they were drawn from.

use super::{Population, Terms, Verdict, choose::choose_among, search::rate_all};
use crate::simulate::mean_share;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use understudy_core::{Error, Result, Seed};
use understudy_route::stages::Ladder;
use understudy_stats::{Bound, binomial};

/// How to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Rows of each calibration set, drawn with replacement: the population then is exactly the traffic to come.
    pub n: usize,
    /// Calibration sets.
    pub runs: u64,
    /// What each choice promises; its seed is the root of the simulation's.
    pub terms: Terms,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Simulation {
    /// The plan.
    pub plan: Plan,
    /// Runs whose certificate was wrong: the population's loss exceeds ε.
    pub violations: u64,
    /// Their share with its exact 95 % interval.
    pub violation_share: Bound,
    /// Runs that certified a cascade; the others ask the large model.
    pub certified: u64,
    /// Mean share of the large model's price saved on the population over all runs, with a 95 % interval over them.
    pub saved: Bound,
    /// Mean loss on the population over the certified runs, likewise; none without one.
    pub loss: Option<Bound>,
    /// Runs in which the cheapest cascade whose counted loss was at most ε on all rows, chosen without a certificate,
    /// loses more than ε on the population.
    pub naive_violations: u64,
    /// What that choice saves, as `saved`.
    pub naive_saved: Bound,
    /// Saved by the cheapest cascade that keeps ε on the population. Nobody can know it beforehand.
    pub saved_best: f64,
}

/// Runs the simulation.
///
/// # Errors
/// `Invalid` when there are no runs or as [`super::choose`].
pub fn simulate(population: &Population, plan: Plan) -> Result<Simulation> {
    if plan.runs == 0 {
        return Err(Error::invalid("simulate: runs must be at least 1"));
    }
    let all: Vec<usize> = (0..population.len()).collect();
    let (total, cost_large) = (all.len() as f64, population.cost_large());
    let allowed = plan.terms.epsilon + 1e-12;
    let judge = |ladder: &Ladder<usize>| {
        let tally = population.tally(ladder, &all);
        (tally.losses as f64 / total, 1.0 - tally.cost_usd / total / cost_large)
    };
    let runs: Vec<Run> = (0..plan.runs)
        .into_par_iter()
        .map(|run| {
            let seed = Seed(plan.terms.seed.derive("cascade runs").0.wrapping_add(run));
            let mut rng = ChaCha8Rng::seed_from_u64(seed.0);
            let rows: Vec<usize> = (0..plan.n).map(|_| rng.random_range(0..all.len())).collect();
            let (verdict, _) = choose_among(population, &rows, Terms { seed, ..plan.terms })?;
            let certified = match verdict {
                Verdict::Certified(choice) => Some(judge(&choice.ladder)),
                Verdict::NotCertified(_) => None,
            };
            let most = plan.terms.epsilon * rows.len() as f64;
            let naive = rate_all(population, &rows)
                .into_iter()
                .filter(|rated| rated.losses as f64 <= most)
                .min_by(|a, b| a.cost_usd.total_cmp(&b.cost_usd))
                .map(|rated| judge(&rated.ladder));
            Ok(Run { certified, naive })
        })
        .collect::<Result<_>>()?;
    let wrong = |found: &&(f64, f64)| found.0 > allowed;
    let certified: Vec<(f64, f64)> = runs.iter().filter_map(|run| run.certified).collect();
    let naive: Vec<(f64, f64)> = runs.iter().filter_map(|run| run.naive).collect();
    let violations = certified.iter().filter(wrong).count() as u64;
    let best = rate_all(population, &all).into_iter().map(|rated| judge(&rated.ladder));
    // A run that chose nothing asks the large model and saves nothing.
    let saved = |chosen: &dyn Fn(&Run) -> Option<(f64, f64)>| {
        mean_share(&runs.iter().map(|run| chosen(run).map_or(0.0, |found| found.1)).collect::<Vec<_>>())
    };
    let losses: Vec<f64> = certified.iter().map(|found| found.0).collect();
    Ok(Simulation {
        plan,
        violations,
        violation_share: binomial::interval(violations, plan.runs, 0.95),
        certified: certified.len() as u64,
        saved: saved(&|run| run.certified),
        loss: (!losses.is_empty()).then(|| mean_share(&losses)),
        naive_violations: naive.iter().filter(wrong).count() as u64,
        naive_saved: saved(&|run| run.naive),
        saved_best: best.filter(|found| found.0 <= allowed).map(|found| found.1).fold(0.0, f64::max),
    })
}

/// Loss and saving on the population of what one run chose.
struct Run {
    certified: Option<(f64, f64)>,
    naive: Option<(f64, f64)>,
}
