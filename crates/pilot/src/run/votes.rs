//! What a teacher's answers to a text come to when it is asked several times, and how far labels agree.

use crate::metrics::classification::Confusion;
use std::collections::BTreeMap;
use understudy_stats::{Bound, binomial};

/// The votes of several answers to one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// The label that most answers have; of several, the one that was given first.
    pub label: String,
    /// Share of the valid answers that have each label, in (0, 1]; they sum to 1.
    pub shares: BTreeMap<String, f64>,
}

/// Counts answers; `None` stands for one that is none of the labels. `None` when no answer is valid.
#[must_use]
pub fn vote<'a>(answers: impl IntoIterator<Item = Option<&'a str>>) -> Option<Vote> {
    let valid: Vec<&str> = answers.into_iter().flatten().collect();
    let count = |label: &str| valid.iter().filter(|other| **other == label).count();
    // The first of those with the most votes.
    let label = *valid.iter().rev().max_by_key(|label| count(label))?;
    let n = valid.len() as f64;
    let shares = valid.iter().map(|label| ((*label).to_owned(), count(label) as f64 / n)).collect();
    Some(Vote { label: label.to_owned(), shares })
}

/// How far two labellings of the same texts agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Texts that both label.
    pub n: u64,
    /// Share of them with the same label, and its 95 % interval (Wilson).
    pub rate: Bound,
    /// Cohen's kappa: agreement beyond chance; `None` where chance alone explains everything.
    pub kappa: Option<f64>,
}

/// Compares pairs of labels; `None` without any.
#[must_use]
pub fn agreement(pairs: &[(&str, &str)]) -> Option<Agreement> {
    if pairs.is_empty() {
        return None;
    }
    let (left, right): (Vec<&str>, Vec<&str>) = pairs.iter().copied().unzip();
    let confusion = Confusion::new(&left, &right);
    let rate = binomial::wilson(confusion.right(), confusion.n(), 0.95);
    let kappa = Some(confusion.kappa()).filter(|kappa| kappa.is_finite());
    Some(Agreement { n: confusion.n(), rate, kappa })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_votes_win_and_of_as_many_the_first() {
        let of = |answers: &[Option<&str>]| vote(answers.iter().copied());
        let won = of(&[Some("b"), Some("a"), None, Some("a")]).expect("three are valid");
        assert_eq!(won.label, "a");
        assert_eq!(won.shares.into_iter().collect::<Vec<_>>(), [("a".into(), 2.0 / 3.0), ("b".into(), 1.0 / 3.0)]);
        assert_eq!(of(&[Some("z"), Some("a")]).expect("two are valid").label, "z");
        assert_eq!(of(&[None]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn agreement_is_counted_and_freed_of_chance() {
        // sklearn.metrics.cohen_kappa_score(list("aabb"), list("abbb")) = 0.5
        let found = agreement(&[("a", "a"), ("a", "b"), ("b", "b"), ("b", "b")]).expect("there are pairs");
        assert_eq!((found.n, found.rate.estimate), (4, 0.75));
        assert!((found.kappa.expect("two labels") - 0.5).abs() < 1e-12);
        assert!(agreement(&[]).is_none() && agreement(&[("a", "a")]).is_some_and(|one| one.kappa.is_none()));
    }
}
