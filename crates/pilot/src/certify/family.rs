//! Certificates of several tasks that hold together: the probability that any of them is wrong is at most δ.
//!
//! Each of K tasks starts with δ/K (Bonferroni). A task whose whole grid passes, so that everything may be kept, has no
//! use for its part any more and hands it on to the others in equal parts (Holm's idea for fixed sequences: F. Bretz, W.
//! Maurer, W. Brannath and M. Posch, *A graphical approach to sequentially rejective multiple test procedures*,
//! Statistics in Medicine 28, 2009).

use super::{Report, Rule, Terms, certify_scored, check, coded, search::Search};
use crate::{Grid, Scored, simulate::mean_share};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, Result, Seed};
use understudy_stats::{Bound, binomial};

/// A task to certify with others. Its own terms' δ is replaced by its part.
#[derive(Debug, Clone)]
pub struct Member {
    /// Calibration items.
    pub items: Vec<Scored>,
    /// What is to be certified.
    pub terms: Terms,
}

/// Shares δ out to `count` tests, of which `complete(i, part)` says whether test i, at its part, has nothing left to
/// prove. Returns the final parts.
fn share(count: usize, delta: f64, mut complete: impl FnMut(usize, f64) -> Result<bool>) -> Result<Vec<f64>> {
    let mut parts = vec![delta / count as f64; count];
    let mut open: Vec<usize> = (0..count).collect();
    loop {
        let mut done = Vec::new();
        for &i in &open {
            if complete(i, parts[i])? {
                done.push(i);
            }
        }
        open.retain(|i| !done.contains(i));
        if done.is_empty() || open.is_empty() {
            return Ok(parts);
        }
        let freed: f64 = done.iter().map(|&i| parts[i]).sum();
        for &i in &open {
            parts[i] += freed / open.len() as f64;
        }
    }
}

/// Certifies every task so that all certificates hold together with probability at least 1 − `delta`. Each report's
/// certificate names the part of δ that it was given.
///
/// # Errors
/// `Invalid` without tasks; else as [`certify_scored`].
pub fn certify_family(members: &[Member], delta: f64, rule: Rule, grid: &Grid) -> Result<Vec<Report>> {
    if members.is_empty() {
        return Err(Error::invalid("certify several tasks: there are none"));
    }
    let one = |i: usize, part: f64| {
        let terms = Terms { delta: part, ..members[i].terms.clone() };
        certify_scored(&members[i].items, &terms, rule, grid)
    };
    let complete = |i: usize, part: f64| {
        let report = one(i, part)?;
        let all = report.curve.last().map(|point| point.threshold.to_bits());
        Ok(all.is_some() && report.certificate().map(|c| c.threshold.get().to_bits()) == all)
    };
    let parts = share(members.len(), delta, complete)?;
    parts.into_iter().enumerate().map(|(i, part)| one(i, part)).collect()
}

/// How often any certificate of a family is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FamilySimulation {
    /// Runs.
    pub runs: u64,
    /// Runs in which at least one certificate was wrong.
    pub violations: u64,
    /// Their share with its exact 95 % interval.
    pub violation_share: Bound,
    /// Mean share of all items kept over all runs, with a 95 % interval over them.
    pub kept: Bound,
}

/// Draws every task's items anew, with replacement, certifies the family, and counts runs with a wrong certificate.
///
/// # Errors
/// As [`certify_family`]; `Invalid` also without runs.
pub fn simulate_family(
    members: &[Member],
    delta: f64,
    rule: Rule,
    runs: u64,
    seed: Seed,
    grid: &Grid,
) -> Result<FamilySimulation> {
    if members.is_empty() || runs == 0 {
        return Err(Error::invalid("simulate: there are no tasks or no runs"));
    }
    let size = grid.thresholds().len();
    let mut tasks = Vec::new();
    for Member { items, terms } in members {
        check(items, terms.epsilon, delta, terms.loss)?;
        let coded = coded(items, grid)?;
        let search = Search { size, loss: terms.loss, per: rule.per, epsilon: terms.epsilon };
        let truth = super::search::count(&coded, size);
        tasks.push((search, coded, truth));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed.derive("family").0);
    let (mut violations, mut kept) = (0, Vec::new());
    let all: usize = tasks.iter().map(|(_, coded, _)| coded.len()).sum();
    for _ in 0..runs {
        let draws: Vec<Vec<_>> = tasks
            .iter()
            .map(|(search, coded, _)| {
                let mut draw: Vec<_> = (0..coded.len()).map(|_| coded[rng.random_range(0..coded.len())]).collect();
                search.toss(&mut draw, &mut rng);
                draw
            })
            .collect();
        let parts = share(tasks.len(), delta, |i, part| Ok(tasks[i].0.choose(&draws[i], part) == Some(size - 1)))?;
        let (mut wrong, mut kept_here) = (false, 0.0);
        for ((search, coded, truth), (draw, part)) in tasks.iter().zip(draws.iter().zip(parts)) {
            if let Some(i) = search.certified(draw, part) {
                wrong |= search.true_loss(truth[i], coded.len()) > search.epsilon + 1e-12;
                kept_here += truth[i].kept as f64 / all as f64;
            }
        }
        violations += u64::from(wrong);
        kept.push(kept_here);
    }
    Ok(FamilySimulation {
        runs,
        violations,
        violation_share: binomial::interval(violations, runs, 0.95),
        kept: mean_share(&kept),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_core::{LossKind, Timestamp};

    fn member(n: usize, slope: f64) -> Member {
        let item = |i: usize| {
            let confidence = 1.0 - i as f64 / n as f64;
            let loss = ((i * 7919 % n) as f64 / n as f64) < (1.0 - confidence) * slope;
            Scored { id: i.to_string(), confidence: Some(confidence), loss: f64::from(u8::from(loss)) }
        };
        let terms = Terms {
            task: "t".into(),
            small: "s".into(),
            small_hash: "h".into(),
            large: "l".into(),
            epsilon: 0.03,
            delta: 0.5,
            loss: LossKind::Regret,
            issued: Timestamp(0),
        };
        Member { items: (0..n).map(item).collect(), terms }
    }

    #[test]
    fn a_task_that_keeps_everything_hands_its_part_on() {
        let members = [member(1000, 0.0), member(1000, 0.4), member(1000, 0.5)];
        let reports = certify_family(&members, 0.06, Rule::default(), &Grid::default()).expect("valid");
        let parts: Vec<f64> =
            reports.iter().filter_map(|r| r.certificate()).map(|c| (c.delta * 1e6).round() / 1e6).collect();
        assert_eq!(parts, [0.02, 0.03, 0.03]);
    }

    #[test]
    fn any_certificate_of_a_family_is_wrong_no_more_often_than_delta() {
        let members = [member(800, 0.3), member(800, 0.4), member(800, 0.5), member(800, 0.02)];
        let out = simulate_family(&members, 0.1, Rule::default(), 400, Seed(3), &Grid::default()).expect("valid");
        println!("{} of {} families with a wrong certificate, kept {:.3}", out.violations, out.runs, out.kept.estimate);
        assert!(out.violation_share.low <= 0.1 && out.kept.estimate > 0.2);
        // Each at the full level instead: the counting can fail.
        let alone = simulate_family(&members, 0.4, Rule::default(), 400, Seed(3), &Grid::default()).expect("valid");
        assert!(alone.violation_share.low > 0.1, "{alone:?}");
    }
}
