//! Small, large or both: points by answer and weight, hard constraints, and what would change the verdict.
//!
//! The opinion is the table in [`questions`]; this file only adds it up. Hybrid wins ties, because it starts as the
//! large model and gives up nothing until evidence is there.

mod questions;

pub use questions::{Key, Level, Question};

use crate::answers::{Answers, Profile};
use serde::Serialize;
use understudy_core::Money;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// A small model alone.
    Small,
    /// A small model for what it is certified for, a large one for the rest.
    Hybrid,
    /// A large model alone.
    Large,
}

impl Choice {
    /// Every choice, in the order of [`Level::points`].
    pub const ALL: [Choice; 3] = [Self::Small, Self::Hybrid, Self::Large];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Hybrid => "hybrid",
            Self::Large => "large",
        }
    }
}

/// Whether a reason rests on a measurement or on what the team said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// A pilot, a certificate, traces.
    Measured,
    /// An answer to a question.
    Answered,
}

/// One answer and which way it points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// The question.
    pub question: &'static str,
    /// The answer.
    pub answer: &'static str,
    /// The question's weight.
    pub weight: f64,
    /// Weighted points for small, hybrid, large.
    pub points: [f64; 3],
    /// Why.
    pub why: &'static str,
    /// What it rests on.
    pub basis: Basis,
}

/// What a constraint rules out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exclusion {
    /// The choice that is out.
    pub choice: Choice,
    /// The question whose answer rules it out.
    pub question: &'static str,
    /// Why.
    pub why: &'static str,
}

/// A single answer that would change the verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flip {
    /// The question.
    pub question: &'static str,
    /// Its answer now; none when it is unknown.
    pub from: Option<&'static str>,
    /// The answer that changes the verdict.
    pub to: &'static str,
    /// The verdict then; none when every choice is ruled out.
    pub verdict: Option<Choice>,
}

/// The verdict and everything behind it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// What to run; none when the constraints rule out everything.
    pub verdict: Option<Choice>,
    /// Weighted points for small, hybrid, large, constraints aside.
    pub scores: [f64; 3],
    /// Distance to the best other choice that is not ruled out; none when there is none.
    pub margin: Option<f64>,
    /// Every answer, those that speak most for the verdict first.
    pub reasons: Vec<Reason>,
    /// What is ruled out.
    pub excluded: Vec<Exclusion>,
    /// Questions without an answer.
    pub unknown: Vec<&'static str>,
    /// Single answers that would change the verdict.
    pub flips: Vec<Flip>,
}

/// Advises on a profile. `answers` gives the weights.
#[must_use]
pub fn advise(profile: &Profile, answers: &Answers) -> Advice {
    let weight = |key: Key| answers.weights.get(key.name()).copied().unwrap_or(key.question().weight);
    let (verdict, scores, margin) = decide(profile, &weight);
    let towards = |points: &[f64; 3]| match verdict {
        Some(choice) => {
            let at = choice as usize;
            let others = (0..3).filter(|i| *i != at).map(|i| points[i]).fold(f64::NEG_INFINITY, f64::max);
            points[at] - others
        }
        None => points.iter().copied().fold(0.0, f64::max),
    };
    let mut reasons: Vec<Reason> = Key::ALL
        .into_iter()
        .filter_map(|key| {
            let level = &key.question().levels[profile.level(key)?];
            Some(Reason {
                question: key.name(),
                answer: level.name,
                weight: weight(key),
                points: level.points.map(|p| f64::from(p) * weight(key)),
                why: level.why,
                basis: if key == Key::Measured { Basis::Measured } else { Basis::Answered },
            })
        })
        .collect();
    reasons.sort_by(|a, b| towards(&b.points).total_cmp(&towards(&a.points)));
    let mut flips = Vec::new();
    for key in Key::ALL {
        let now = profile.level(key);
        for (level, to) in key.question().levels.iter().enumerate().filter(|(level, _)| Some(*level) != now) {
            let then = decide(&profile.with(key, level), &weight).0;
            if then != verdict {
                let from = now.map(|now| key.question().levels[now].name);
                flips.push(Flip { question: key.name(), from, to: to.name, verdict: then });
            }
        }
    }
    Advice {
        verdict,
        scores,
        margin,
        reasons,
        excluded: exclusions(profile),
        unknown: Key::ALL
            .into_iter()
            .filter(|key| *key != Key::Measured && profile.level(*key).is_none())
            .map(Key::name)
            .collect(),
        flips,
    }
}

fn decide(profile: &Profile, weight: &impl Fn(Key) -> f64) -> (Option<Choice>, [f64; 3], Option<f64>) {
    let mut scores = [0.0; 3];
    for key in Key::ALL {
        if let Some(level) = profile.level(key) {
            for (score, points) in scores.iter_mut().zip(key.question().levels[level].points) {
                *score += weight(key) * f64::from(points);
            }
        }
    }
    let excluded = exclusions(profile);
    let open = |choice: &Choice| excluded.iter().all(|e| e.choice != *choice);
    let score = |choice: Choice| scores[choice as usize];
    // Hybrid first: a later choice must be strictly better.
    let best = [Choice::Hybrid, Choice::Small, Choice::Large]
        .into_iter()
        .filter(open)
        .reduce(|best, other| if score(other) > score(best) { other } else { best });
    let margin = best.and_then(|best| {
        let others = Choice::ALL.into_iter().filter(open).filter(|c| *c != best);
        others.map(|other| score(best) - score(other)).reduce(f64::min)
    });
    (best, scores, margin)
}

/// What the answers rule out. A large model in a cluster of one's own leaves no house: then privacy rules out nothing.
fn exclusions(profile: &Profile) -> Vec<Exclusion> {
    let own_cluster = profile.is(Key::Infrastructure, "cluster");
    let mut all = Vec::new();
    for key in Key::ALL {
        let Some(level) = profile.level(key).map(|level| &key.question().levels[level]) else { continue };
        if key == Key::Privacy && own_cluster {
            continue;
        }
        all.extend(level.excludes.iter().map(|choice| Exclusion {
            choice: *choice,
            question: key.name(),
            why: level.why,
        }));
    }
    all
}

/// The level of the budget question, from what each choice costs a month. A cost that is unknown is not compared.
#[must_use]
pub fn budget_level(budget: Money, small: Option<Money>, hybrid: Option<Money>, large: Option<Money>) -> &'static str {
    let fits = |cost: Option<Money>| cost.is_none_or(|cost| cost <= budget);
    match (fits(small), fits(hybrid), fits(large)) {
        (_, true, true) => "covers every option",
        (_, true, false) => "too little for the large one",
        (true, false, false) => "only the small one",
        (_, false, true) => "only the large one",
        (false, false, false) => "too little for any",
    }
}

/// The level of the measured question, from the share of the traffic that a certificate lets the small model answer.
#[must_use]
pub fn measured_level(kept: Option<f64>) -> &'static str {
    match kept {
        Some(kept) if kept >= 0.95 => "nearly all",
        Some(kept) if kept >= 0.2 => "a good part",
        Some(kept) if kept > 0.0 => "a little",
        Some(_) => "certified, keeps nothing",
        None => "not certified",
    }
}

/// Puts a level into a profile that is not read off the answers: the budget's or what was measured.
///
/// # Errors
/// `Invalid` for a name that the question does not have.
pub fn set(profile: &mut Profile, key: Key, level: &str) -> understudy_core::Result<()> {
    profile.set(key, level)
}

#[cfg(test)]
mod tests;
