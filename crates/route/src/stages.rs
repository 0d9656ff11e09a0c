//! A cascade of any number of models, cheapest first, as replay and certification walk it. The gateway serves two tiers
//! ([`crate::Cascade`]); this ladder decides by the same rule (an answer is kept at or above its threshold, one without
//! a confidence never) and has no IO either.

use serde::{Deserialize, Serialize};
use understudy_core::ModelName;

/// A model and the confidence from which on its answer is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rung<M = ModelName> {
    /// Who is asked.
    pub model: M,
    /// Smallest confidence that is kept, in [0, 1].
    pub threshold: f64,
}

/// Rungs from the first that is asked up, and the model that answers what none of them keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ladder<M = ModelName> {
    /// Asked one after the other.
    pub rungs: Vec<Rung<M>>,
    /// Asked last; its answer is always kept.
    pub last: M,
}

/// What to do after a rung has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Hand over its answer.
    Reply,
    /// Ask the next rung, or the last model.
    Ask,
}

impl<M> Ladder<M> {
    /// The model on a rung, counted from 0; beyond the rungs, the last one.
    pub fn model(&self, rung: usize) -> &M {
        self.rungs.get(rung).map_or(&self.last, |rung| &rung.model)
    }

    /// Takes the confidence of the answer on a rung.
    #[must_use]
    pub fn on(&self, rung: usize, confidence: Option<f64>) -> Next {
        match self.rungs.get(rung) {
            None => Next::Reply,
            Some(Rung { threshold, .. }) if confidence.is_some_and(|c| c >= *threshold) => Next::Reply,
            Some(_) => Next::Ask,
        }
    }

    /// Walks up with the confidence of each model's answer: the rung whose answer is handed over. All rungs up to it
    /// have been asked.
    pub fn walk(&self, mut confidence: impl FnMut(&M) -> Option<f64>) -> usize {
        let replies = |&rung: &usize| self.on(rung, confidence(self.model(rung))) == Next::Reply;
        (0..self.rungs.len()).find(replies).unwrap_or(self.rungs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cascade, Gate, Plan, Step, Tier};
    use understudy_core::{Answer, Confidence, Usage};

    fn ladder(thresholds: &[f64]) -> Ladder<usize> {
        let rungs = thresholds.iter().enumerate().map(|(model, &threshold)| Rung { model, threshold }).collect();
        Ladder { rungs, last: thresholds.len() }
    }

    #[test]
    fn the_first_rung_that_is_sure_enough_replies() {
        let ladder = ladder(&[0.9, 0.5]);
        let walk = |first, second| ladder.walk(|&model| [first, second][model]);
        assert_eq!(walk(Some(0.9), None), 0);
        assert_eq!(walk(Some(0.89), Some(0.5)), 1);
        assert_eq!(walk(None, Some(0.49)), 2);
        assert_eq!(ladder.on(2, None), Next::Reply);
    }

    #[test]
    fn with_one_rung_it_is_the_cascade_that_serves() {
        for step in 0..=20 {
            let (confidence, threshold) = (f64::from(step) / 20.0, 0.55);
            let gate = Gate::AtLeast(Confidence::new(threshold).expect("in range"));
            let plan = Plan::SmallFirst { gate, audit_probability: 0.0, large_obstacle: None };
            let (mut cascade, _) = Cascade::start(plan, 0.5);
            let mut answer = Answer::text("s".into(), "x", Usage::default());
            answer.confidence = Some(Confidence::new(confidence).expect("in range"));
            let served = matches!(cascade.on(Ok(&answer)), Step::Reply { from: Tier::Small, .. });
            assert_eq!(ladder(&[threshold]).walk(|_| Some(confidence)) == 0, served);
        }
    }
}
