//! Rows from recorded outcomes.

use super::{Row, Side};
use understudy_core::{Error, Outcome, RecordedAnswer, Result};

/// Where a row's score comes from.
pub enum Score<'a> {
    /// What was recorded of the small model: minus its confidence or log-probability. A row without one is asked of the
    /// large model before every other.
    Recorded,
    /// One value for each outcome, in their order.
    Given(&'a [f64]),
}

/// Rows of the outcomes in which both models have a quality, with the places of those outcomes.
///
/// # Errors
/// `NotFound` when a model is in no outcome; `Data` when no outcome has qualities for both, or nothing was recorded
/// that could be a score.
pub fn rows(outcomes: &[Outcome], small: &str, large: &str, score: &Score<'_>) -> Result<(Vec<Row>, Vec<usize>)> {
    for model in [small, large] {
        if !outcomes.iter().any(|outcome| outcome.models.contains_key(model)) {
            let names: std::collections::BTreeSet<&str> =
                outcomes.iter().flat_map(|outcome| outcome.models.keys().map(String::as_str)).collect();
            let known = names.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::not_found(format!("find model `{model}` in the outcomes: they have {known}")));
        }
    }
    let both = |(place, outcome): (usize, &Outcome)| {
        let (small, large) = (outcome.models.get(small)?, outcome.models.get(large)?);
        let score = match score {
            Score::Recorded => small.score().filter(|score| score.is_finite()).map(|score| -score),
            Score::Given(scores) => Some(scores[place]),
        };
        Some((place, side(small)?, side(large)?, outcome.weight.unwrap_or(1.0), score))
    };
    let found: Vec<_> = outcomes.iter().enumerate().filter_map(both).collect();
    if found.is_empty() {
        return Err(Error::data(format!(
            "replay `{small}` with `{large}`: no row has a quality for both; record one between 0 and 1"
        )));
    }
    let highest = found.iter().filter_map(|(.., score)| *score).max_by(f64::total_cmp);
    let Some(highest) = highest else {
        return Err(Error::data(format!(
            "replay `{small}`: the outcomes hold no confidence and no logconf of it; train a router with --router auto"
        )));
    };
    let places = found.iter().map(|(place, ..)| *place).collect();
    let row = |(_, small, large, weight, score): (usize, Side, Side, f64, Option<f64>)| Row {
        small,
        large,
        score: score.unwrap_or(highest + 1.0),
        weight,
    };
    Ok((found.into_iter().map(row).collect(), places))
}

fn side(answer: &RecordedAnswer) -> Option<Side> {
    Some(Side { quality: answer.quality?, cost_usd: answer.cost_usd, latency_ms: answer.latency_ms })
}
