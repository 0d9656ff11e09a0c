//! Whether the prompt that won the race is better: on rows that had no part in it, against the one to beat.

use super::race::{Entrant, Score};
use crate::compare::models::{Against, Options, against_baseline};
use crate::metrics::Metric;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Outcome, RecordedAnswer, Result, Seed};

/// A prompt's figures, and how it differs from the first one's.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Mean quality.
    pub quality: Metric,
    /// Mean tokens of a prompt.
    pub tokens: f64,
    /// Against the first prompt, p-values corrected by Holm's method over all that were measured; `None` for the first.
    pub against: Option<Against>,
}

/// Measures entrants against the first of them, each on the rows that it was asked about. Those without an answer have
/// no figures.
///
/// # Errors
/// None in practice: what can be wrong is checked before.
pub fn measure(entrants: &[&[Score]], margin: f64, delta: f64, seed: Seed) -> Result<Vec<Option<Measured>>> {
    let name = |index: usize| format!("{index:06}");
    let rows = entrants.iter().map(|scores| scores.len()).max().unwrap_or(0);
    let outcome = |row: usize| Outcome {
        id: row.to_string(),
        task: String::new(),
        group: None,
        system: None,
        prompt: String::new(),
        label: None,
        weight: None,
        models: (entrants.iter().enumerate())
            .filter_map(|(index, scores)| {
                let quality = Some(scores.get(row)?.quality);
                Some((name(index), RecordedAnswer { quality, ..RecordedAnswer::default() }))
            })
            .collect::<BTreeMap<_, _>>(),
    };
    let outcomes: Vec<Outcome> = (0..rows).map(outcome).collect();
    let asked: Vec<String> = (0..entrants.len()).filter(|&e| entrants[e].len() > 1).map(name).collect();
    let mut models = BTreeMap::new();
    if asked.len() > 1 {
        let options = Options { baseline: Some(name(0)), models: asked, margin, delta, seed };
        models = against_baseline(&outcomes, &options)?.models;
    }
    let measured = |(index, scores): (usize, &&[Score])| {
        let tokens = scores.iter().map(|score| score.tokens as f64).sum::<f64>() / scores.len().max(1) as f64;
        let row = models.remove(&name(index));
        match row {
            Some(row) => Some(Measured { quality: row.quality, tokens, against: row.against }),
            None => {
                let qualities: Vec<f64> = scores.iter().map(|score| score.quality).collect();
                Some(Measured { quality: Metric::mean(&qualities, seed)?, tokens, against: None })
            }
        }
    };
    Ok(entrants.iter().enumerate().map(measured).collect())
}

/// The scores of entrants, as [`measure`] takes them.
#[must_use]
pub fn scores(entrants: &[Entrant]) -> Vec<&[Score]> {
    entrants.iter().map(|entrant| entrant.scores.as_slice()).collect()
}
