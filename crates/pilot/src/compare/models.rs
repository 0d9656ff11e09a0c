//! Several models against a baseline on the same rows: difference, tests, verdict with margin, examples still needed.
//!
//! Three questions are asked of every model, each family of answers corrected by Holm's method so that the chance of
//! any wrong claim in it is at most δ: is it better than the baseline (two-sided, exact McNemar test; sign flips and
//! bets for graded qualities), is it not inferior by the margin (one-sided, Tango's score test, about δ; bets), is it
//! inferior by more than the margin (likewise). A baseline that was chosen because it did best on these rows looks better
//! than it is; "inferior" to it and "different" from it are then corrected for all pairs of models.

use super::pairs::{Pairs, is_binary};
use crate::metrics::{LEVEL, Metric};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Error, Outcome, RecordedAnswer, Result, Seed};
use understudy_stats::{
    multiplicity, permutation,
    power::{self, Aim},
    quantile,
};

/// Share of true claims that a planned number of examples should be able to show.
pub const POWER: f64 = 0.8;
/// Sign patterns drawn where there are too many to count.
const DRAWS: u32 = 20_000;

/// What is compared, and how strictly.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The model that the others are held against; `None` takes the dearest, else the one right most often.
    pub baseline: Option<String>,
    /// The models; empty takes all, from the best down.
    pub models: Vec<String>,
    /// Loss of quality that would not matter, in (0, 1).
    pub margin: f64,
    /// Largest chance of a wrong claim in each family.
    pub delta: f64,
    /// Seed of resampling.
    pub seed: Seed,
}

/// What the data say about a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Standing {
    /// Better than the baseline.
    Better,
    /// Worse by less than the margin, or not at all.
    NotInferior,
    /// Worse by more than the margin.
    Inferior,
    /// None of the three is shown yet.
    Undecided {
        /// More examples after which a decision is likely (80 %) if the rates stay as they are; `None` where the
        /// difference is so near to the margin that no number would do.
        examples_needed: Option<u64>,
    },
}

/// One model against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Against {
    /// Rows in which both have a quality.
    pub n: u64,
    /// Model minus baseline, with its 95 % interval (Tango's score interval; BCa bootstrap for graded qualities).
    pub difference: Metric,
    /// Rows that only the model gets right; `None` for graded qualities.
    pub only_model: Option<u64>,
    /// Rows that only the baseline gets right.
    pub only_baseline: Option<u64>,
    /// Two-sided p-value of interchangeable models (exact McNemar test; sign flips for graded qualities).
    pub p_different: f64,
    /// The same after Holm's correction; the same without it in a step-down, which needs none.
    pub p_different_holm: f64,
    /// Two-sided p-value of equal means, which "better" goes by: graded qualities must also win bets that their mean
    /// difference is not 0, because the sign-flip test asks for more than equal means.
    pub p_unequal: f64,
    /// The same after Holm's correction.
    pub p_unequal_holm: f64,
    /// One-sided p-value against being worse by the margin or more; small: not inferior.
    pub p_not_inferior: f64,
    /// The same after Holm's correction.
    pub p_not_inferior_holm: f64,
    /// One-sided p-value against being worse by the margin or less; small: inferior.
    pub p_inferior: f64,
    /// The same after Holm's correction.
    pub p_inferior_holm: f64,
    /// What follows.
    #[serde(flatten)]
    pub standing: Standing,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Mean quality over the rows it answered, with its interval (exact; BCa bootstrap for graded qualities).
    pub quality: Metric,
    /// Mean cost of an answer in USD.
    pub cost_usd_mean: Option<f64>,
    /// Median milliseconds to an answer.
    pub latency_ms_p50: Option<f64>,
    /// Against the baseline; `None` for the baseline itself.
    pub against: Option<Against>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The baseline's name.
    pub baseline: String,
    /// Allowed loss.
    pub margin: f64,
    /// Largest chance of a wrong claim in each family.
    pub delta: f64,
    /// The models' names, in the order asked for, else from the best down.
    pub order: Vec<String>,
    /// Each model.
    pub models: BTreeMap<String, Row>,
}

/// Compares.
///
/// # Errors
/// `NotFound` when a model is not in the outcomes; `Data` when a model has no quality in common with the baseline;
/// `Invalid` when fewer than two models are named, one is named twice, or the margin or δ is outside (0, 1).
pub fn against_baseline(outcomes: &[Outcome], options: &Options) -> Result<Comparison> {
    check(options.margin, options.delta)?;
    let order = chosen(outcomes, &options.models)?;
    let mut models = BTreeMap::new();
    for name in &order {
        models.insert(name.clone(), row(outcomes, name, options.seed)?);
    }
    let (baseline, chosen_by_quality) = match &options.baseline {
        Some(name) if order.contains(name) => (name.clone(), false),
        Some(name) => return Err(unknown(name, order.iter().map(String::as_str))),
        None => dearest(&models).map_or_else(|| (best(&order, &models), true), |name| (name, false)),
    };
    let others: Vec<&String> = order.iter().filter(|name| **name != baseline).collect();
    let mut found = Vec::new();
    for name in &others {
        found.push(pair(outcomes, name, &baseline, options)?);
    }
    let corrected = |p: fn(&Against) -> f64, tests: usize| {
        let mut p: Vec<f64> = found.iter().map(p).collect();
        p.resize(tests.max(p.len()), 1.0);
        multiplicity::holm(&p)
    };
    // Whichever model had done best would have been the baseline: each pair is a test that might have been made, in
    // either direction.
    let tests = if chosen_by_quality { order.len() * others.len() / 2 } else { others.len() };
    let directed = if chosen_by_quality { 2 * tests } else { tests };
    let different = corrected(|a| a.p_different, tests);
    let unequal = corrected(|a| a.p_unequal, tests);
    let not_inferior = corrected(|a| a.p_not_inferior, others.len());
    let inferior = corrected(|a| a.p_inferior, directed);
    for (i, mut against) in found.into_iter().enumerate() {
        against.p_different_holm = different[i];
        against.p_unequal_holm = unequal[i];
        against.p_not_inferior_holm = not_inferior[i];
        against.p_inferior_holm = inferior[i];
        against.standing = against.judged(options.delta);
        if let Some(row) = models.get_mut(others[i]) {
            row.against = Some(against);
        }
    }
    Ok(Comparison { baseline, margin: options.margin, delta: options.delta, order, models })
}

impl Against {
    /// Judged alone or as part of a fixed sequence, where no correction is needed.
    pub(crate) fn uncorrected(mut self, delta: f64) -> Self {
        self.p_different_holm = self.p_different;
        self.p_unequal_holm = self.p_unequal;
        self.p_not_inferior_holm = self.p_not_inferior;
        self.p_inferior_holm = self.p_inferior;
        self.standing = self.judged(delta);
        self
    }

    /// The verdict, keeping the examples needed where there is none.
    fn judged(&self, delta: f64) -> Standing {
        if self.p_unequal_holm <= delta && self.difference.estimate > 0.0 {
            Standing::Better
        } else if self.p_not_inferior_holm <= delta {
            Standing::NotInferior
        } else if self.p_inferior_holm <= delta {
            Standing::Inferior
        } else {
            self.standing
        }
    }
}

pub(crate) fn check(margin: f64, delta: f64) -> Result<()> {
    let inside = |x: f64| x > 0.0 && x < 1.0;
    if !inside(margin) || !inside(delta) {
        return Err(Error::invalid("compare models: margin and delta must lie between 0 and 1, both excluded"));
    }
    Ok(())
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let known = known.collect::<Vec<_>>().join(", ");
    Error::not_found(format!("find model `{name}` in the outcomes: they have {known}"))
}

/// The models asked for, else all that have a quality, from the best down.
pub(crate) fn chosen(outcomes: &[Outcome], asked: &[String]) -> Result<Vec<String>> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (name, answer) in outcomes.iter().flat_map(|o| &o.models) {
        if let Some(quality) = answer.quality {
            let (sum, n) = sums.entry(name).or_default();
            *sum += quality;
            *n += 1.0;
        }
    }
    for (i, name) in asked.iter().enumerate() {
        if !sums.contains_key(name.as_str()) {
            return Err(unknown(name, sums.keys().copied()));
        }
        if asked[..i].contains(name) {
            return Err(Error::invalid(format!("compare models: `{name}` is named twice")));
        }
    }
    let mut order: Vec<(&str, f64)> = sums.iter().map(|(name, (sum, n))| (*name, sum / n)).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let order: Vec<String> =
        if asked.is_empty() { order.iter().map(|(name, _)| (*name).to_owned()).collect() } else { asked.to_vec() };
    if order.len() < 2 {
        return Err(Error::invalid("compare models: it takes two or more models with qualities in the outcomes"));
    }
    Ok(order)
}

pub(crate) fn row(outcomes: &[Outcome], name: &str, seed: Seed) -> Result<Row> {
    let answers: Vec<&RecordedAnswer> = outcomes.iter().filter_map(|o| o.models.get(name)).collect();
    let qualities: Vec<f64> = answers.iter().filter_map(|a| a.quality).collect();
    let right = qualities.iter().filter(|q| **q > 0.5).count() as u64;
    let quality = if qualities.iter().all(|q| is_binary(*q)) {
        Metric::share(right, qualities.len() as u64)
    } else {
        Metric::mean(&qualities, seed.derive(name)).map(|m| m.within(0.0, 1.0))
    };
    let costs: Vec<f64> = answers.iter().filter_map(|a| a.cost_usd).collect();
    let latencies: Vec<f64> = answers.iter().filter_map(|a| a.latency_ms).filter(|ms| ms.is_finite()).collect();
    Ok(Row {
        quality: quality.ok_or_else(|| Error::data(format!("compare `{name}`: it has no quality in any row")))?,
        cost_usd_mean: (!costs.is_empty()).then(|| costs.iter().sum::<f64>() / costs.len() as f64),
        latency_ms_p50: (!latencies.is_empty()).then(|| quantile::quantile(&latencies, 0.5, LEVEL).estimate),
        against: None,
    })
}

/// The dearest model where all have prices.
fn dearest(models: &BTreeMap<String, Row>) -> Option<String> {
    let costs: Option<Vec<(&String, f64)>> =
        models.iter().map(|(name, row)| Some((name, row.cost_usd_mean?))).collect();
    costs?.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name.clone())
}

fn best(order: &[String], models: &BTreeMap<String, Row>) -> String {
    let quality = |name: &&String| models.get(*name).map_or(f64::NEG_INFINITY, |row| row.quality.estimate);
    order.iter().max_by(|a, b| quality(a).total_cmp(&quality(b))).cloned().unwrap_or_default()
}

/// The paired qualities of two models, (model, baseline) a row.
pub(crate) fn pairs(outcomes: &[Outcome], model: &str, baseline: &str) -> Vec<(f64, f64)> {
    let quality = |o: &Outcome, name: &str| o.models.get(name).and_then(|a| a.quality);
    outcomes.iter().filter_map(|o| Some((quality(o, model)?, quality(o, baseline)?))).collect()
}

/// Model against baseline, uncorrected; its standing is `Undecided` with the examples needed.
pub(crate) fn pair(outcomes: &[Outcome], model: &str, baseline: &str, options: &Options) -> Result<Against> {
    let pairs = pairs(outcomes, model, baseline);
    if pairs.len() < 2 {
        let what = format!("compare `{model}` with `{baseline}`: {} rows have a quality of both", pairs.len());
        return Err(Error::data(format!("{what}; it takes two or more")));
    }
    let pairs = Pairs::new(&pairs, options.seed);
    let n = pairs.n();
    let mut rng = ChaCha12Rng::seed_from_u64(options.seed.derive(model).0);
    let p_different = pairs.mcnemar().unwrap_or_else(|| permutation::sign_flip(pairs.differences(), DRAWS, &mut rng).p);
    let mut against = Against {
        difference: match pairs.counts() {
            Some(_) => Metric::new(pairs.interval(LEVEL), n),
            None => graded_difference(&pairs, options.seed.derive(model)),
        },
        only_model: pairs.counts().map(|(model, _)| model),
        only_baseline: pairs.counts().map(|(_, baseline)| baseline),
        p_different,
        p_unequal: p_different.max(pairs.p_unequal(options.delta)),
        p_not_inferior: pairs.p_not_inferior(options.margin, options.delta),
        p_inferior: pairs.p_inferior(options.margin, options.delta),
        ..empty(n)
    };
    let (differences, margin) = (pairs.differences(), options.margin);
    against.standing = Standing::Undecided { examples_needed: examples_needed(differences, margin, options.delta) };
    Ok(against)
}

/// The mean of graded differences with a BCa bootstrap interval.
fn graded_difference(pairs: &Pairs, seed: Seed) -> Metric {
    Metric::mean(pairs.differences(), seed).map_or(UNKNOWN, |m| m.within(-1.0, 1.0))
}

const UNKNOWN: Metric = Metric { estimate: f64::NAN, low: f64::NAN, high: f64::NAN, n: 0 };

fn empty(n: u64) -> Against {
    Against {
        n,
        difference: UNKNOWN,
        only_model: None,
        only_baseline: None,
        p_different: 1.0,
        p_different_holm: 1.0,
        p_unequal: 1.0,
        p_unequal_holm: 1.0,
        p_not_inferior: 1.0,
        p_not_inferior_holm: 1.0,
        p_inferior: 1.0,
        p_inferior_holm: 1.0,
        standing: Standing::Undecided { examples_needed: None },
    }
}

/// More examples until the nearest of the three verdicts is likely, at the rates seen. One pair in n + 2 is added on
/// either side, so that a sample without a difference does not promise that there never will be one.
pub(crate) fn examples_needed(differences: &[f64], margin: f64, delta: f64) -> Option<u64> {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let square = (differences.iter().map(|d| d * d).sum::<f64>() + 2.0) / (n + 2.0);
    let variance = (square - mean * mean).max(0.0);
    let aim = Aim { alpha: delta, power: POWER };
    let better = (mean > 0.0).then(|| power::to_show_difference(mean, variance, aim)).flatten();
    let not_inferior = power::to_show_non_inferiority(mean, variance, margin, aim);
    let inferior = power::to_show_non_inferiority(-mean, variance, -margin, aim);
    let total = [better, not_inferior, inferior].into_iter().flatten().min()?;
    // A sample that had the size and did not decide needs more than the formula says.
    (total < 10_000_000).then(|| total.saturating_sub(differences.len() as u64).max(1))
}

#[cfg(test)]
mod tests;
