//! A model as judge of answers: its prompts, how its verdict is read, and how far it can be trusted.
//!
//! A pair is judged twice with the answers swapped (L. Zheng et al., *Judging LLM-as-a-judge*, 2023): a judge that
//! prefers a place instead of an answer contradicts itself, and such a pair counts as a tie. Who answers the prompts is
//! the caller's: [`judge_pair`] takes anything that turns a prompt into text.

use super::Metric;
use serde::Serialize;
use std::future::Future;
use understudy_core::{Result, Seed};

/// Which of two answers a judge prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// The one shown first.
    First,
    /// The one shown second.
    Second,
    /// Neither.
    Tie,
}

impl Preference {
    /// The same verdict with the places exchanged.
    #[must_use]
    pub fn swapped(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            Self::Tie => Self::Tie,
        }
    }
}

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// What was asked.
    pub question: &'a str,
    /// A good answer to compare with, where there is one.
    pub reference: Option<&'a str>,
    /// The first model's answer.
    pub a: &'a str,
    /// The second model's.
    pub b: &'a str,
}

const PAIRWISE: &str = "You compare two answers to the same request. Judge whether they are right, complete and to the \
point. Length, style and the order in which they are shown do not matter. First say in one or two sentences what \
decides, then end with a line of its own: `Verdict: A`, `Verdict: B` or `Verdict: tie`.";

const POINTWISE: &str = "You grade an answer to a request. Judge whether it is right, complete and to the point. Length \
and style do not matter. First say in one or two sentences what decides, then end with a line of its own: `Grade: N` \
with N from 1 (useless) to 10 (nothing to improve).";

/// The prompt that compares two answers, `a` shown first.
#[must_use]
pub fn pairwise_prompt(pair: &Pair<'_>) -> String {
    let Pair { question, a, b, .. } = pair;
    let reference = referenced(pair.reference);
    format!(
        "{PAIRWISE}\n\n<request>\n{question}\n</request>\n{reference}\n<answer_a>\n{a}\n</answer_a>\n\n<answer_b>\n{b}\n</answer_b>\n"
    )
}

/// The prompt that grades one answer.
#[must_use]
pub fn pointwise_prompt(question: &str, reference: Option<&str>, answer: &str) -> String {
    let reference = referenced(reference);
    format!("{POINTWISE}\n\n<request>\n{question}\n</request>\n{reference}\n<answer>\n{answer}\n</answer>\n")
}

fn referenced(reference: Option<&str>) -> String {
    reference.map_or_else(String::new, |text| format!("\n<reference_answer>\n{text}\n</reference_answer>\n"))
}

/// The verdict in a judge's reply: what follows the last `Verdict:`, else a reply that is nothing but the verdict
/// (`A`, `[[B]]`, `tie`). `None` for anything else: an unclear verdict is not guessed.
#[must_use]
pub fn read_preference(reply: &str) -> Option<Preference> {
    let lower = reply.to_lowercase();
    let said = lower.rsplit_once("verdict").map_or(lower.as_str(), |(_, after)| after);
    let word = said.trim_matches(|c: char| !c.is_alphanumeric()).lines().next()?;
    match word.trim_matches(|c: char| !c.is_alphanumeric()) {
        "a" | "answer a" | "is a" | "assistant a" => Some(Preference::First),
        "b" | "answer b" | "is b" | "assistant b" => Some(Preference::Second),
        "tie" | "c" | "equal" | "draw" | "is tie" | "a tie" => Some(Preference::Tie),
        _ => None,
    }
}

/// The grade in a judge's reply, 1 to 10, scaled to [0, 1]; `None` when there is none.
#[must_use]
pub fn read_grade(reply: &str) -> Option<f64> {
    let lower = reply.to_lowercase();
    let said = lower.rsplit_once("grade").map_or(lower.as_str(), |(_, after)| after);
    let start = said.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '-');
    let end = start.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(start.len());
    let grade: f64 = start[..end].trim_end_matches('.').parse().ok()?;
    (1.0..=10.0).contains(&grade).then_some((grade - 1.0) / 9.0)
}

/// Both verdicts about one pair, each in the places in which it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// With the first model's answer shown first; `None` when the verdict could not be read.
    pub forward: Option<Preference>,
    /// With the second model's answer shown first.
    pub backward: Option<Preference>,
}

impl Judgement {
    /// The verdict that holds in both orders, [`Preference::Tie`] where the judge contradicts itself; `None` when one
    /// could not be read. `First` is the first model.
    #[must_use]
    pub fn settled(&self) -> Option<Preference> {
        let (forward, backward) = (self.forward?, self.backward?.swapped());
        Some(if forward == backward { forward } else { Preference::Tie })
    }
}

/// Asks a judge about a pair in both orders.
///
/// # Errors
/// The first that `ask` gives.
pub async fn judge_pair<F, R>(pair: &Pair<'_>, mut ask: F) -> Result<Judgement>
where
    F: FnMut(String) -> R,
    R: Future<Output = Result<String>>,
{
    let forward = read_preference(&ask(pairwise_prompt(pair)).await?);
    let swapped = Pair { a: pair.b, b: pair.a, ..*pair };
    let backward = read_preference(&ask(pairwise_prompt(&swapped)).await?);
    Ok(Judgement { forward, backward })
}

/// What the judge says about two models, and what its contradictions say about the judge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Pairs judged, those that could not be read included.
    pub pairs: u64,
    /// Pairs with a verdict that could not be read.
    pub unreadable: u64,
    /// Pairs the first model wins in both orders.
    pub wins: u64,
    /// Pairs it loses in both.
    pub losses: u64,
    /// Pairs without a winner: ties in both orders and contradictions.
    pub ties: u64,
    /// Wins, ties counting half, over readable pairs: above ½ the first model is preferred (BCa bootstrap).
    pub win_rate: Option<Metric>,
    /// Share of readable pairs on which both orders give the same verdict.
    pub agreement: Option<Metric>,
    /// Share of readable pairs in which the judge prefers the same place both times: first or second.
    pub position_bias: Option<Metric>,
    /// Of those, the share that prefers the first place: ½ means no lean.
    pub first_place: Option<Metric>,
}

/// Sums up judgements of pairs.
#[must_use]
pub fn report(judgements: &[Judgement], seed: Seed) -> Report {
    let settled: Vec<Preference> = judgements.iter().filter_map(Judgement::settled).collect();
    let readable = settled.len() as u64;
    let count = |wanted: Preference| settled.iter().filter(|p| **p == wanted).count() as u64;
    let score = |p: &Preference| match p {
        Preference::First => 1.0,
        Preference::Second => 0.0,
        Preference::Tie => 0.5,
    };
    let both = |place: Preference| {
        judgements.iter().filter(|j| j.forward == Some(place) && j.backward == Some(place)).count() as u64
    };
    let agreed = judgements.iter().filter(|j| j.forward.is_some() && j.forward == j.backward.map(Preference::swapped));
    let (first, second) = (both(Preference::First), both(Preference::Second));
    Report {
        pairs: judgements.len() as u64,
        unreadable: judgements.len() as u64 - readable,
        wins: count(Preference::First),
        losses: count(Preference::Second),
        ties: count(Preference::Tie),
        win_rate: Metric::mean(&settled.iter().map(score).collect::<Vec<_>>(), seed.derive("win_rate"))
            .map(|m| m.within(0.0, 1.0)),
        agreement: Metric::share(agreed.count() as u64, readable),
        position_bias: Metric::share(first + second, readable),
        first_place: Metric::share(first, first + second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const PAIR: Pair<'static> = Pair { question: "2 + 2?", reference: Some("4"), a: "four", b: "five" };

    fn judged(reply: impl Fn(&str) -> String) -> Judgement {
        let ask = |prompt: String| std::future::ready(Ok(reply(&prompt)));
        judge_pair(&PAIR, ask).now_or_never().expect("the judge answers at once").expect("no error")
    }

    #[test]
    fn a_judge_that_reads_is_settled_and_one_that_likes_a_place_is_found_out() {
        let honest = judged(|prompt| {
            let first = prompt.contains("<answer_a>\nfour");
            format!("Four is right.\nVerdict: {}", if first { "A" } else { "B" })
        });
        assert_eq!(honest.settled(), Some(Preference::First));
        let biased = judged(|_| "**Verdict: A**".to_owned());
        assert_eq!(biased.settled(), Some(Preference::Tie));
        let mute = judged(|_| "I cannot decide between A and B".to_owned());
        let report = report(&[honest, honest, biased, mute], Seed(1));
        assert_eq!((report.pairs, report.unreadable, report.wins, report.ties), (4, 1, 2, 1));
        let estimate = |metric: Option<Metric>| metric.expect("readable pairs").estimate;
        assert!((estimate(report.win_rate) - 2.5 / 3.0).abs() < 1e-15);
        assert!((estimate(report.agreement) - 2.0 / 3.0).abs() < 1e-15);
        assert!((estimate(report.position_bias) - 1.0 / 3.0).abs() < 1e-15);
        assert!((estimate(report.first_place) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn verdicts_and_grades_are_read_but_not_guessed() {
        for (reply, expected) in [
            ("Verdict: tie", Some(Preference::Tie)),
            ("[[B]]", Some(Preference::Second)),
            ("The verdict A is tempting.\nVerdict: B.", Some(Preference::Second)),
            ("A and B are both good", None),
            ("", None),
        ] {
            assert_eq!(read_preference(reply), expected, "{reply}");
        }
        assert_eq!(read_grade("Good.\nGrade: 10/10"), Some(1.0));
        assert_eq!(read_grade("Grade: 11").or(read_grade("Grade: good")).or(read_grade("")), None);
        assert!(pointwise_prompt("q", Some("r"), "a").contains("<reference_answer>\nr\n"));
    }
}
