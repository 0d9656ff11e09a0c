//! What a gate is worth on rows that it was not fitted on, beside every raw signal on the same rows.

use super::{
    Params,
    fit::{Choice, Fit, fit_rows},
    table::{Raw, Table},
};
use crate::replay::{self, Side, Stage};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Error, Outcome, Result, Seed};

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
    /// The same of the best raw signal and of the gate as RouteLLM computes it, from deciles.
    pub deciles: (f64, f64),
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
    let scores: Vec<f64> = judged.places.iter().map(|&place| scores[place]).collect();
    let chosen = judged.raw_scores(fit.raw, &(0..judged.len()).collect::<Vec<_>>());
    summed_up(&judged, &[Run { scores, chosen }], if fit.choice == Choice::Committee { 1.0 } else { 0.0 })
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
    let (mut runs, mut committee) = (Vec::new(), 0.0);
    for repeat in 0..repeats {
        let mut order: Vec<usize> = (0..table.len()).collect();
        let seed = Seed(params.seed.derive("evaluate").0.wrapping_add(repeat));
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.0));
        let mut scores = vec![0.0; table.len()];
        let mut chosen = vec![0.0; table.len()];
        for fold in 0..folds {
            let pick = |held: bool| -> Vec<usize> {
                order.iter().enumerate().filter(|(p, _)| (p % folds == fold) == held).map(|(_, &row)| row).collect()
            };
            let (train, test) = (pick(false), pick(true));
            let fit = fit_rows(&table, &train, (pair.small, pair.large), params)?;
            committee += f64::from(u8::from(fit.choice == Choice::Committee)) / (folds as f64 * repeats as f64);
            let all = fit.scores(outcomes);
            for (&row, raw) in test.iter().zip(table.raw_scores(fit.raw, &test)) {
                scores[row] = all[table.places[row]];
                chosen[row] = raw;
            }
        }
        runs.push(Run { scores, chosen });
    }
    summed_up(&table, &runs, committee)
}

/// One score of each row by gates that have not seen it.
struct Run {
    /// The gate's, in `replay`'s sense.
    scores: Vec<f64>,
    /// The raw signal's that training would have chosen; rises with the reason to keep.
    chosen: Vec<f64>,
}

/// How the average performance gap recovered is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Formula {
    /// From every threshold.
    Full,
    /// From deciles, as RouteLLM does.
    Deciles,
}

fn summed_up(table: &Table, runs: &[Run], committee: f64) -> Result<Evaluation> {
    let rows: Vec<usize> = (0..table.len()).collect();
    let n = rows.len() as f64;
    // `replay` sends the highest scores to the large model first.
    let apgr = |scores: &[f64], sign: f64, formula: Formula| -> Result<f64> {
        let side = |quality: f64| Side { quality, ..Side::default() };
        let each = rows.iter().zip(scores).map(|(&row, &score)| replay::Row {
            small: side(table.small[row]),
            large: side(table.large[row]),
            score: sign * score,
        });
        let figures = replay::figures(&each.collect::<Vec<_>>(), Stage::After)?;
        let apgr = if formula == Formula::Full { figures.apgr_full } else { figures.apgr };
        apgr.ok_or_else(|| Error::data("evaluate the gate: the large model is not better on these rows"))
    };
    let mean = |of: &dyn Fn(&Run) -> Result<f64>| -> Result<f64> {
        runs.iter().map(of).sum::<Result<f64>>().map(|sum| sum / runs.len() as f64)
    };
    let raws: Vec<(Raw, f64)> = table
        .raws(&rows)
        .into_iter()
        .map(|raw| Ok((raw, apgr(&table.raw_scores(raw, &rows), -1.0, Formula::Full)?)))
        .collect::<Result<_>>()?;
    let gains = table.gains(&rows);
    let gap = gains.iter().sum::<f64>() / n;
    let best = raws.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let best_scores = best.map(|(raw, _)| table.raw_scores(*raw, &rows)).unwrap_or_default();
    let error = runs.first().filter(|_| best.is_some()).map_or(0.0, |run| {
        let kept: Vec<f64> = run.scores.iter().map(|score| -score).collect();
        super::area::difference(&kept, &best_scores, &gains).1 / gap
    });
    let mut best_deciles = f64::NEG_INFINITY;
    for (raw, _) in &raws {
        best_deciles = best_deciles.max(apgr(&table.raw_scores(*raw, &rows), -1.0, Formula::Deciles)?);
    }
    let deciles = (best_deciles, mean(&|run| apgr(&run.scores, 1.0, Formula::Deciles))?);
    Ok(Evaluation {
        n: rows.len(),
        quality_small: table.small.iter().sum::<f64>() / n,
        quality_large: table.large.iter().sum::<f64>() / n,
        raw: raws.iter().map(|(raw, apgr)| (raw.signal.name(&table.helpers), *apgr)).collect(),
        raw_chosen: mean(&|run| apgr(&run.chosen, -1.0, Formula::Full))?,
        gate: mean(&|run| apgr(&run.scores, 1.0, Formula::Full))?,
        deciles,
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
