//! Several models against a baseline on the same rows: difference, tests, verdict with margin, examples still needed.
//!
//! Three questions are asked of every model, each family of answers corrected by Holm's method so that the chance of
//! any wrong claim in it is at most δ: is it better than the baseline (two-sided, exact McNemar test; sign-flip test for
//! graded qualities), is it not inferior by the margin (one-sided, Tango's score test; t-test), is it inferior by more
//! than the margin (likewise).

use crate::metrics::{LEVEL, Metric};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Error, Outcome, RecordedAnswer, Result, Seed};
use understudy_stats::{
    bootstrap, multiplicity, paired, permutation,
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
    /// Model minus baseline, with its 95 % interval (Newcombe; BCa bootstrap for graded qualities).
    pub difference: Metric,
    /// Rows that only the model gets right; `None` for graded qualities.
    pub only_model: Option<u64>,
    /// Rows that only the baseline gets right.
    pub only_baseline: Option<u64>,
    /// Two-sided p-value of equality.
    pub p_different: f64,
    /// The same after Holm's correction; the same without it in a step-down, which needs none.
    pub p_different_holm: f64,
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
    let baseline = match &options.baseline {
        Some(name) if order.contains(name) => name.clone(),
        Some(name) => return Err(unknown(name, order.iter().map(String::as_str))),
        None => dearest(&models).unwrap_or_else(|| best(&order, &models)),
    };
    let others: Vec<&String> = order.iter().filter(|name| **name != baseline).collect();
    let mut found = Vec::new();
    for name in &others {
        found.push(pair(outcomes, name, &baseline, options)?);
    }
    let corrected = |p: fn(&Against) -> f64| multiplicity::holm(&found.iter().map(p).collect::<Vec<_>>());
    let different = corrected(|a| a.p_different);
    let not_inferior = corrected(|a| a.p_not_inferior);
    let inferior = corrected(|a| a.p_inferior);
    for (i, mut against) in found.into_iter().enumerate() {
        against.p_different_holm = different[i];
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
        self.p_not_inferior_holm = self.p_not_inferior;
        self.p_inferior_holm = self.p_inferior;
        self.standing = self.judged(delta);
        self
    }

    /// The verdict, keeping the examples needed where there is none.
    fn judged(&self, delta: f64) -> Standing {
        if self.p_different_holm <= delta && self.difference.estimate > 0.0 {
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
        Metric::mean(&qualities, seed.derive(name))
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

fn is_binary(quality: f64) -> bool {
    quality.abs() < 1e-12 || (quality - 1.0).abs() < 1e-12
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
    let n = pairs.len() as u64;
    let differences: Vec<f64> = pairs.iter().map(|(m, b)| m - b).collect();
    let binary = pairs.iter().all(|(m, b)| is_binary(*m) && is_binary(*b));
    let mut rng = ChaCha12Rng::seed_from_u64(options.seed.derive(model).0);
    let margin = options.margin;
    let mut against = if binary {
        let count = |m: bool, b: bool| pairs.iter().filter(|p| (p.0 > 0.5, p.1 > 0.5) == (m, b)).count() as u64;
        let (both, only_model, only_baseline) = (count(true, true), count(true, false), count(false, true));
        let bound = paired::difference(both, only_baseline, only_model, n, LEVEL);
        Against {
            difference: Metric::new(bound, n),
            only_model: Some(only_model),
            only_baseline: Some(only_baseline),
            p_different: paired::mcnemar(only_baseline, only_model),
            p_not_inferior: paired::non_inferiority(only_baseline, only_model, n, margin),
            p_inferior: 1.0 - paired::non_inferiority(only_baseline, only_model, n, margin),
            ..empty(n)
        }
    } else {
        let p_not_inferior = paired::t_test_above(&differences, -margin);
        Against {
            difference: Metric::new(bootstrap::bca_mean(&differences, bootstrap::RESAMPLES, LEVEL, &mut rng), n),
            p_different: permutation::sign_flip(&differences, DRAWS, &mut rng).p,
            p_not_inferior,
            p_inferior: 1.0 - p_not_inferior,
            ..empty(n)
        }
    };
    against.standing = Standing::Undecided { examples_needed: examples_needed(&differences, margin, options.delta) };
    Ok(against)
}

fn empty(n: u64) -> Against {
    Against {
        n,
        difference: Metric { estimate: f64::NAN, low: f64::NAN, high: f64::NAN, n },
        only_model: None,
        only_baseline: None,
        p_different: 1.0,
        p_different_holm: 1.0,
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
