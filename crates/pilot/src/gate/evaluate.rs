//! What a gate is worth on rows that it was not fitted on, beside every raw signal on the same rows.

use super::{
    Params,
    area::{area, difference},
    fit::{Choice, Fit, fit_rows},
    table::{Raw, Table},
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, Outcome, Result};

/// Two models' names.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The small model.
    pub small: &'a str,
    /// The large model.
    pub large: &'a str,
}

/// A gate beside the raw signals.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Rows that were judged.
    pub n: usize,
    /// Mean quality of the small model on them.
    pub quality_small: f64,
    /// Mean quality of the large model on them.
    pub quality_large: f64,
    /// Average performance gap recovered by each raw signal, from every threshold; name first. RouteLLM's deciles lose
    /// what a signal of few values can tell.
    pub raw: Vec<(String, f64)>,
    /// … by the raw signal that training would have chosen.
    pub raw_chosen: f64,
    /// … by the gate.
    pub gate: f64,
    /// Standard error of the difference between the gate and the best raw signal, over the judged rows.
    pub error: f64,
    /// Models whose answers the gate also looked at.
    pub helpers: Vec<String>,
    /// Share of the fits in which the committee was kept.
    pub committee: f64,
}

impl Evaluation {
    /// The best raw signal of all, known only afterwards.
    #[must_use]
    pub fn best_raw(&self) -> (&str, f64) {
        let best = self.raw.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(("none", f64::NEG_INFINITY), |(name, apgr)| (name, *apgr))
    }
}

/// Fits on one set of outcomes and judges another.
///
/// # Errors
/// As [`super::fit`]; `Data` when the large model is not better on the outcomes judged.
pub fn apart(train: &[Outcome], test: &[Outcome], pair: Pair<'_>, params: &Params) -> Result<Evaluation> {
    let helpers = params.helpers.choose(train, pair.small, pair.large)?;
    let table = Table::new(train, pair.small, pair.large, helpers.clone())?;
    let rows: Vec<usize> = (0..table.len()).collect();
    let fit = fit_rows(&table, &rows, (pair.small, pair.large), params)?;
    let judged = Table::new(test, pair.small, pair.large, helpers)?;
    let scores = fit.scores(test);
    let rows: Vec<usize> = (0..judged.len()).collect();
    let gate = judged.places.iter().map(|&place| -scores[place]).collect();
    let chosen = judged.raw_scores(fit.raw, &rows);
    summed_up(&judged, &[Judged { rows, gate, chosen }], if fit.choice == Choice::Committee { 1.0 } else { 0.0 })
}

/// Cross-fitting: every row is judged by a gate that was fitted on the others, `repeats` times over.
///
/// # Errors
/// As [`apart`].
pub fn across(
    outcomes: &[Outcome],
    pair: Pair<'_>,
    params: &Params,
    (folds, repeats): (usize, u64),
) -> Result<Evaluation> {
    let helpers = params.helpers.choose(outcomes, pair.small, pair.large)?;
    let table = Table::new(outcomes, pair.small, pair.large, helpers)?;
    let (mut fits, mut committee) = (Vec::new(), 0.0);
    for repeat in 0..repeats {
        let mut order: Vec<usize> = (0..table.len()).collect();
        let seed = params.seed.derive("evaluate").0.wrapping_add(repeat);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        for fold in 0..folds {
            let pick = |held: bool| -> Vec<usize> {
                order.iter().enumerate().filter(|(p, _)| (p % folds == fold) == held).map(|(_, &row)| row).collect()
            };
            let (train, rows) = (pick(false), pick(true));
            let fit = fit_rows(&table, &train, (pair.small, pair.large), params)?;
            committee += f64::from(u8::from(fit.choice == Choice::Committee)) / (folds as f64 * repeats as f64);
            let judge = |&row: &usize| -fit.score(&outcomes[table.places[row]]);
            let gate = rows.iter().map(judge).collect();
            let chosen = table.raw_scores(fit.raw, &rows);
            fits.push(Judged { rows, gate, chosen });
        }
    }
    summed_up(&table, &fits, committee)
}

/// Rows that one fit has not seen, and its scores of them.
struct Judged {
    rows: Vec<usize>,
    /// The gate's; rise with the reason to keep.
    gate: Vec<f64>,
    /// The raw signal's that training would have chosen.
    chosen: Vec<f64>,
}

/// Areas are summed over the fits and then divided by the summed gap: each fit has its own scale of scores, so rows
/// are ordered among those of one fit only, by the gate and by the raw signals alike.
fn summed_up(table: &Table, fits: &[Judged], committee: f64) -> Result<Evaluation> {
    let all: Vec<usize> = (0..table.len()).collect();
    let n = all.len() as f64;
    let total = |scores: &dyn Fn(&Judged) -> Vec<f64>| -> f64 {
        fits.iter().map(|judged| area(&scores(judged), &table.gains(&judged.rows)) * judged.rows.len() as f64).sum()
    };
    let gap: f64 = fits.iter().flat_map(|judged| table.gains(&judged.rows)).sum();
    if gap <= 0.0 {
        return Err(Error::data("evaluate the gate: the large model is not better on these rows"));
    }
    let raws: Vec<(Raw, f64)> = table
        .raws(&all)
        .into_iter()
        .map(|raw| (raw, total(&|judged| table.raw_scores(raw, &judged.rows)) / gap))
        .collect();
    let best = raws.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(raw, _)| *raw);
    // Each row is judged equally often; repeats see the same rows and make nothing surer.
    let repeats = fits.iter().map(|judged| judged.rows.len()).sum::<usize>() as f64 / n;
    let variance = |judged: &Judged, raw: Raw| {
        let (_, error) = difference(&judged.gate, &table.raw_scores(raw, &judged.rows), &table.gains(&judged.rows));
        (error * judged.rows.len() as f64).powi(2)
    };
    let error = best.map_or(0.0, |raw| {
        let variance = fits.iter().map(|judged| variance(judged, raw)).sum::<f64>() / repeats;
        variance.sqrt() / (gap / repeats)
    });
    Ok(Evaluation {
        n: all.len(),
        quality_small: table.small.iter().sum::<f64>() / n,
        quality_large: table.large.iter().sum::<f64>() / n,
        raw: raws.iter().map(|(raw, apgr)| (raw.signal.name(&table.helpers), *apgr)).collect(),
        raw_chosen: total(&|judged| judged.chosen.clone()) / gap,
        gate: total(&|judged| judged.gate.clone()) / gap,
        error,
        helpers: table.helpers.clone(),
        committee,
    })
}

impl Fit {
    /// How the gate was chosen, in a sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        let by = self.advantage.map_or_else(String::new, |(mean, error)| {
            format!(
                " ({:+.3} ± {:.3} of the gap recovered against it, cross-validated on {} rows)",
                mean, error, self.n
            )
        });
        match self.choice {
            Choice::Committee => format!("a committee drawn towards its best raw signal, {}{by}", self.raw_name),
            Choice::Raw => format!("the raw signal {}, calibrated{by}", self.raw_name),
        }
    }
}
