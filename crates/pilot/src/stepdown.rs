//! From the largest model down: the smallest that still holds.
//!
//! Each smaller model is tested against the largest, in an order fixed beforehand, and the first that is not shown to
//! hold ends the search. Such a fixed sequence needs no correction for the number of models: a wrong recommendation
//! needs the first model that truly fails to pass its own test, which happens with probability δ at most
//! (`stats::sequence`). Prices and latencies may set the order; qualities may not.

use crate::compare::models::{self, Against, Options, Row};
use crate::metrics::Metric;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Error, Outcome, Result};
use understudy_stats::sequence;

/// A loss that is worth a gain: up to `accept_loss` is allowed where the model is fast or cheap enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trade {
    /// Loss of quality accepted instead of the margin.
    pub accept_loss: f64,
    /// … where the largest model's median latency is at least this many times the smaller one's.
    pub for_speedup: Option<f64>,
    /// … or its mean cost this many times.
    pub for_saving: Option<f64>,
}

/// One model of the sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// The model.
    pub model: String,
    /// Its quality, cost and latency.
    pub row: Row,
    /// Against the largest, at the loss allowed here; `None` for the largest itself.
    pub against: Option<Against>,
    /// The loss allowed: the margin, or the trade's.
    pub allowed_loss: f64,
    /// How many times faster than the largest, by medians.
    pub speedup: Option<f64>,
    /// How many times cheaper, by means.
    pub saving: Option<f64>,
    /// Whether it is shown to lose less than allowed; `None` where the search had ended before.
    pub holds: Option<bool>,
}

/// The search and its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepDown {
    /// From the largest down.
    pub steps: Vec<Step>,
    /// The smallest model that holds: the largest itself where none does.
    pub recommended: String,
    /// Its difference to the largest; `None` where that is itself.
    pub difference: Option<Metric>,
    /// Why no loss was traded, where a trade was asked for and refused.
    pub trade_refused: Option<String>,
}

/// Words in a task's name that mark it as one in which no loss is traded.
const CRITICAL: [&str; 14] = [
    "health",
    "medic",
    "medqa",
    "medmcqa",
    "pubmed",
    "clinic",
    "diagnos",
    "patient",
    "pharma",
    "triage",
    "surg",
    "nurs",
    "safety",
    "emergency",
];

/// Whether a task's name marks it as critical, and by which word.
#[must_use]
pub fn critical(task: &str) -> Option<&'static str> {
    let task = task.to_lowercase();
    CRITICAL.into_iter().find(|word| task.contains(word))
}

/// Steps down. `options.models` gives the order, largest first; empty takes the models from the dearest to the cheapest.
/// `declared_critical` is the user's word that no loss may be traded.
///
/// # Errors
/// As [`models::against_baseline`]; `Invalid` also when there is no order, or the trade asks for nothing or accepts a
/// loss outside (0, 1).
pub fn step_down(
    outcomes: &[Outcome],
    options: &Options,
    trade: Option<Trade>,
    declared_critical: bool,
) -> Result<StepDown> {
    models::check(options.margin, options.delta)?;
    let asked = models::chosen(outcomes, &options.models)?;
    let mut rows = BTreeMap::new();
    for name in &asked {
        rows.insert(name.clone(), models::row(outcomes, name, options.seed)?);
    }
    let order = ordered(asked, &options.models, &rows)?;
    let (trade, trade_refused) = allowed(trade, outcomes, declared_critical)?;
    let largest = &rows[&order[0]];
    let mut steps = Vec::new();
    for name in &order {
        let row = rows[name].clone();
        let times = |of: fn(&Row) -> Option<f64>| Some(of(largest)? / of(&row).filter(|x| *x > 0.0)?);
        let (speedup, saving) = (times(|r| r.latency_ms_p50), times(|r| r.cost_usd_mean));
        let allowed_loss = trade.filter(|t| t.earned(speedup, saving)).map_or(options.margin, |t| t.accept_loss);
        let held = Options { margin: allowed_loss, ..options.clone() };
        let against = (*name != order[0]).then(|| models::pair(outcomes, name, &order[0], &held)).transpose()?;
        let against = against.map(|a| a.uncorrected(options.delta));
        steps.push(Step { model: name.clone(), row, against, allowed_loss, speedup, saving, holds: None });
    }
    let holds = |i: usize| steps[i].against.as_ref().is_none_or(|a| a.p_not_inferior <= options.delta);
    let last = sequence::last_rejected(steps.len(), holds).unwrap_or(0);
    for (i, step) in steps.iter_mut().enumerate() {
        step.holds = (i <= last + 1).then_some(i <= last);
    }
    let difference = steps[last].against.as_ref().map(|a| a.difference);
    Ok(StepDown { recommended: steps[last].model.clone(), difference, steps, trade_refused })
}

impl Trade {
    fn earned(&self, speedup: Option<f64>, saving: Option<f64>) -> bool {
        let reached = |wanted: Option<f64>, found: Option<f64>| wanted.is_some_and(|w| found.is_some_and(|f| f >= w));
        reached(self.for_speedup, speedup) || reached(self.for_saving, saving)
    }
}

/// The trade, unless it makes no sense or the task forbids it.
fn allowed(trade: Option<Trade>, outcomes: &[Outcome], declared: bool) -> Result<(Option<Trade>, Option<String>)> {
    let Some(trade) = trade else { return Ok((None, None)) };
    if !(trade.accept_loss > 0.0 && trade.accept_loss < 1.0) {
        return Err(Error::invalid("step down: the accepted loss must lie between 0 and 1, both excluded"));
    }
    if trade.for_speedup.is_none() && trade.for_saving.is_none() {
        return Err(Error::invalid("step down: an accepted loss needs a speedup or a saving that it is accepted for"));
    }
    if declared {
        return Ok((None, Some("the task was declared critical: no quality is traded".to_owned())));
    }
    let marked = outcomes.iter().find_map(|o| Some((o.task.as_str(), critical(&o.task)?)));
    Ok(match marked {
        Some((task, word)) => {
            let why = format!("the task `{task}` looks critical (\"{word}\"): no quality is traded");
            (None, Some(why))
        }
        None => (Some(trade), None),
    })
}

/// The order given, else from the dearest to the cheapest.
fn ordered(names: Vec<String>, given: &[String], rows: &BTreeMap<String, Row>) -> Result<Vec<String>> {
    if !given.is_empty() {
        return Ok(names);
    }
    let costs: Option<Vec<(String, f64)>> =
        names.into_iter().map(|name| Some((name.clone(), rows[&name].cost_usd_mean?))).collect();
    let Some(mut costs) = costs else {
        let what = "step down: the outcomes lack the cost of some models, so there is no order";
        return Err(Error::invalid(format!("{what}; give one with --models, largest first")));
    };
    // At one price the slower model is probably the larger.
    let latency = |name: &String| rows[name].latency_ms_p50.unwrap_or(0.0);
    // Names decide what is left: the order may not depend on the qualities, by which `names` are sorted.
    costs.sort_by(|a, b| {
        b.1.total_cmp(&a.1).then_with(|| latency(&b.0).total_cmp(&latency(&a.0))).then_with(|| a.0.cmp(&b.0))
    });
    Ok(costs.into_iter().map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_core::{RecordedAnswer, Seed};

    /// Models of falling price, right in all rows but every `misses`-th.
    fn outcomes(task: &str, models: &[(&str, usize, f64)]) -> Vec<Outcome> {
        let answer = |i: usize, misses: usize, cost: f64| RecordedAnswer {
            quality: Some(f64::from(u8::from(!i.is_multiple_of(misses)))),
            cost_usd: Some(cost),
            latency_ms: Some(cost * 100.0),
            ..RecordedAnswer::default()
        };
        let row = |i: usize| Outcome {
            id: i.to_string(),
            task: task.to_owned(),
            models: models.iter().map(|(name, m, cost)| ((*name).to_owned(), answer(i, *m, *cost))).collect(),
            ..Outcome::default()
        };
        (0..2000).map(row).collect()
    }

    const MODELS: [(&str, usize, f64); 4] = [("xl", 100, 20.0), ("l", 90, 10.0), ("m", 25, 1.0), ("s", 100, 0.5)];

    fn options() -> Options {
        Options { baseline: None, models: vec![], margin: 0.02, delta: 0.05, seed: Seed(1) }
    }

    #[test]
    fn the_search_ends_at_the_first_model_that_breaks_even_if_a_smaller_one_would_hold() {
        let found = step_down(&outcomes("faq", &MODELS), &options(), None, false).expect("priced");
        let holds: Vec<Option<bool>> = found.steps.iter().map(|s| s.holds).collect();
        assert_eq!(holds, [Some(true), Some(true), Some(false), None]);
        assert_eq!(found.recommended, "l");
        let standing = found.steps[2].against.as_ref().map(|a| a.standing);
        assert_eq!(standing, Some(models::Standing::Inferior));
        assert!(found.difference.is_some_and(|d| d.n == 2000 && d.estimate < 0.0));
    }

    #[test]
    fn speed_buys_a_loss_but_never_in_health() {
        let trade = Some(Trade { accept_loss: 0.05, for_speedup: Some(10.0), for_saving: None });
        let found = step_down(&outcomes("faq", &MODELS), &options(), trade, false).expect("priced");
        assert_eq!(found.recommended, "s");
        assert!(
            (found.steps[1].allowed_loss - 0.02).abs() < 1e-15 && (found.steps[2].allowed_loss - 0.05).abs() < 1e-15
        );
        for (task, declared) in [("health_triage", false), ("faq", true)] {
            let found = step_down(&outcomes(task, &MODELS), &options(), trade, declared).expect("priced");
            assert_eq!(found.recommended, "l");
            assert!(found.trade_refused.is_some());
        }
        let nothing = Some(Trade { accept_loss: 0.05, for_speedup: None, for_saving: None });
        assert!(step_down(&outcomes("faq", &MODELS), &options(), nothing, false).is_err());
    }

    #[test]
    fn where_prices_tie_the_order_does_not_depend_on_the_qualities() {
        let order = |models: &[(&str, usize, f64)]| -> Vec<String> {
            let mut rows = outcomes("faq", models);
            let answers = rows.iter_mut().flat_map(|row| row.models.values_mut());
            answers.for_each(|answer| answer.latency_ms = None);
            let found = step_down(&rows, &options(), None, false).expect("priced");
            found.steps.into_iter().map(|step| step.model).collect()
        };
        let one = order(&[("x", 100, 5.0), ("a", 3, 1.0), ("b", 50, 1.0), ("c", 9, 1.0)]);
        let other = order(&[("x", 100, 5.0), ("a", 50, 1.0), ("b", 3, 1.0), ("c", 90, 1.0)]);
        assert_eq!((&one, one.join("")), (&other, "xabc".to_owned()));
    }

    #[test]
    fn without_prices_the_order_must_be_given() {
        let mut rows = outcomes("faq", &MODELS);
        rows.iter_mut().for_each(|row| row.models.get_mut("m").expect("a model").cost_usd = None);
        let error = step_down(&rows, &options(), None, false).expect_err("no order").to_string();
        assert!(error.contains("--models"), "{error}");
        let given = Options { models: vec!["xl".into(), "m".into(), "s".into()], ..options() };
        let found = step_down(&rows, &given, None, false).expect("an order");
        assert_eq!(found.recommended, "xl");
    }
}
