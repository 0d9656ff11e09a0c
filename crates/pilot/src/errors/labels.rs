//! Gold labels that are probably wrong, by confident learning over a committee of all recorded models.
//!
//! Each row's distribution is the mean of its models' votes, each vote as sure as the model's confidence (a third of the
//! vote goes to the rest where none was recorded), so a label is doubted only when models that were not fitted on it
//! agree on another. Candidates are for a person to look at, not to be relabelled unseen.

use super::{cut, normal};
use crate::metrics::Metric;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use understudy_core::{Outcome, RecordedAnswer};
use understudy_learn::confident;

/// Weight of an answer without a recorded confidence.
const UNKNOWN_CONFIDENCE: f64 = 2.0 / 3.0;

/// A model each: its label and how sure it is.
type Votes = Vec<(usize, f64)>;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelErrors {
    /// Models in the committee.
    pub models: u64,
    /// Share of the labelled rows that are candidates.
    pub share: Metric,
    /// The likeliest.
    pub candidates: Vec<Doubt>,
}

/// One doubtful label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Doubt {
    /// The row.
    pub id: String,
    /// Its prompt, cut.
    pub prompt: String,
    /// The given label.
    pub label: String,
    /// What the committee says.
    pub suggested: String,
    /// The committee's probability of the given label.
    pub self_confidence: f64,
}

/// Looks for doubtful labels; `None` with fewer than two models that answer with labels, or fewer than two labels.
#[must_use]
pub fn find(outcomes: &[Outcome], most: usize) -> Option<LabelErrors> {
    let labelled: Vec<(&Outcome, String)> =
        outcomes.iter().filter_map(|o| Some((o, normal(o.label.as_deref()?)))).collect();
    let names: Vec<&str> = labelled.iter().map(|(_, l)| l.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    let place: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (*name, i)).collect();
    let votes =
        |outcome: &Outcome| -> Vec<(usize, f64)> { outcome.models.values().filter_map(|a| vote(a, &place)).collect() };
    let known: Vec<(&Outcome, usize, Votes)> = labelled
        .iter()
        .map(|(outcome, label)| (*outcome, place[label.as_str()], votes(outcome)))
        .filter(|(_, _, votes)| votes.len() > 1)
        .collect();
    let models = known.iter().map(|(_, _, votes)| votes.len()).max()? as u64;
    if names.len() < 2 {
        return None;
    }
    let labels: Vec<usize> = known.iter().map(|(_, label, _)| *label).collect();
    let probabilities: Vec<Vec<f64>> = known.iter().map(|(_, _, votes)| committee(votes, names.len())).collect();
    let found = confident::candidates(&labels, &probabilities);
    let doubt = |candidate: &confident::Candidate| {
        let (outcome, label, _) = &known[candidate.row];
        Doubt {
            id: outcome.id.clone(),
            prompt: cut(&outcome.prompt, 400),
            label: names[*label].to_owned(),
            suggested: names[candidate.suggested].to_owned(),
            self_confidence: candidate.self_confidence,
        }
    };
    Some(LabelErrors {
        models,
        share: Metric::wilson(found.len() as u64, known.len() as u64)?,
        candidates: found.iter().take(most).map(doubt).collect(),
    })
}

/// A model's label and how sure it is; `None` for answers that are no label.
fn vote(answer: &RecordedAnswer, place: &BTreeMap<&str, usize>) -> Option<(usize, f64)> {
    let label = *place.get(normal(answer.answer.as_deref()?).as_str())?;
    let sure = answer.score().filter(|p| p.is_finite()).unwrap_or(UNKNOWN_CONFIDENCE);
    Some((label, sure.clamp(1.0 / place.len() as f64, 1.0)))
}

/// The mean of the votes, what each leaves open spread over the other labels.
fn committee(votes: &[(usize, f64)], labels: usize) -> Vec<f64> {
    let mut mean = vec![0.0; labels];
    for &(label, sure) in votes {
        let rest = (1.0 - sure) / (labels - 1) as f64;
        for (k, share) in mean.iter_mut().enumerate() {
            *share += if k == label { sure } else { rest } / votes.len() as f64;
        }
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_against_the_committee_is_doubted_and_one_model_is_no_committee() {
        let said = |answer: &str| RecordedAnswer { answer: Some(answer.into()), ..RecordedAnswer::default() };
        let row = |i: usize, label: &str, models: usize| Outcome {
            id: i.to_string(),
            label: Some(label.into()),
            models: (0..models)
                .map(|m| (m.to_string(), said(if i.is_multiple_of(2) { "even" } else { "odd" })))
                .collect(),
            ..Outcome::default()
        };
        let label = |i: usize| if i == 7 || i.is_multiple_of(2) { "even" } else { "odd" };
        let rows: Vec<Outcome> = (0..40).map(|i| row(i, label(i), 3)).collect();
        let found = find(&rows, 10).expect("three models");
        assert_eq!((found.models, found.candidates.len(), found.candidates[0].id.as_str()), (3, 1, "7"));
        assert_eq!(found.candidates[0].suggested, "odd");
        assert!(find(&(0..40).map(|i| row(i, label(i), 1)).collect::<Vec<_>>(), 10).is_none());
    }
}
