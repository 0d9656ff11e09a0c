//! How well spans are found: precision, recall and F1 over whole spans, as seqeval and the CoNLL script count them. A span
//! is right when its field and both of its ends are.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use std::collections::BTreeMap;
use understudy_core::Seed;
pub use understudy_dataset::spans::Spans;
use understudy_model::artifact::Metric;
use understudy_stats::{binomial, bootstrap};

/// Texts below which resampling says little of a mean over their spans.
const FEW: usize = 30;

/// Right, given and expected spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Given and expected.
    pub right: u64,
    /// Given.
    pub given: u64,
    /// Expected.
    pub expected: u64,
}

impl Counts {
    /// Counts one text's spans; a span that is given twice is right once.
    #[must_use]
    pub fn of(expected: &Spans, given: &Spans) -> Self {
        let right = expected.iter().filter(|span| given.contains(span)).count() as u64;
        Self { right, given: given.len() as u64, expected: expected.len() as u64 }
    }

    /// Of the spans given, the share that is right; 0 when none was given.
    #[must_use]
    pub fn precision(self) -> f64 {
        share(self.right, self.given)
    }

    /// Of the spans expected, the share that was given; 0 when none was expected.
    #[must_use]
    pub fn recall(self) -> f64 {
        share(self.right, self.expected)
    }

    /// Harmonic mean of both.
    #[must_use]
    pub fn f1(self) -> f64 {
        share(2 * self.right, self.given + self.expected)
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            right: a.right + b.right,
            given: a.given + b.given,
            expected: a.expected + b.expected,
        })
    }
}

fn share(k: u64, n: u64) -> f64 {
    if n == 0 { 0.0 } else { k as f64 / n as f64 }
}

/// Measures all texts: `entity_f1`, `entity_precision`, `entity_recall` (micro averages, bootstrap over texts) and
/// `exact` (share of texts whose every span is right, exact). Empty without texts.
///
/// # Panics
/// When the lists differ in length.
#[must_use]
pub fn measure(expected: &[Spans], given: &[Spans], seed: Seed) -> BTreeMap<String, Metric> {
    assert_eq!(expected.len(), given.len(), "an answer to each text");
    let counts: Vec<Counts> = expected.iter().zip(given).map(|(e, g)| Counts::of(e, g)).collect();
    let n = counts.len() as u64;
    let mut metrics = BTreeMap::new();
    if counts.is_empty() {
        return metrics;
    }
    let exact = counts.iter().filter(|c| c.right == c.expected && c.right == c.given).count() as u64;
    let whole = binomial::interval(exact, n, 0.95);
    let figures = [Counts::f1, Counts::precision, Counts::recall];
    for (name, of) in ["entity_f1", "entity_precision", "entity_recall"].into_iter().zip(figures) {
        let mut rng = ChaCha12Rng::seed_from_u64(seed.derive(name).0);
        let statistic = |drawn: &[usize]| of(drawn.iter().map(|&i| counts[i]).sum());
        if let Some(bound) = bootstrap::percentile(counts.len(), 1000, 0.95, &mut rng, statistic) {
            let bound = if counts.len() < FEW { bootstrap::no_surer_than(whole, bound) } else { bound };
            metrics.insert(name.to_owned(), Metric { estimate: bound.estimate, low: bound.low, high: bound.high, n });
        }
    }
    let bound = whole;
    metrics.insert("exact".to_owned(), Metric { estimate: bound.estimate, low: bound.low, high: bound.high, n });
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::ops::Range;
    use understudy_dataset::spans::of_tags;

    /// What seqeval makes of random tags; `crates/bench/reference/seqeval_fixtures.py` writes these.
    #[derive(Deserialize)]
    struct Case {
        expected: Vec<Vec<String>>,
        given: Vec<Vec<String>>,
        precision: f64,
        recall: f64,
        f1: f64,
    }

    #[test]
    fn figures_are_those_of_seqeval() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/seqeval.json")).unwrap();
        assert!(cases.len() >= 50);
        for case in cases {
            let pairs = case.expected.iter().zip(&case.given);
            let counts: Counts = pairs.map(|(e, g)| Counts::of(&of_tags(e), &of_tags(g))).sum();
            for (ours, theirs) in
                [(counts.precision(), case.precision), (counts.recall(), case.recall), (counts.f1(), case.f1)]
            {
                assert!((ours - theirs).abs() < 1e-12, "{ours} {theirs}");
            }
        }
    }

    #[test]
    fn a_span_with_one_end_off_is_wrong_twice() {
        let span = |r: Range<usize>| vec![("x".to_owned(), r)];
        let measured = measure(&[span(0..2), span(1..2)], &[span(0..2), span(1..3)], Seed(0));
        assert!((measured["entity_f1"].estimate - 0.5).abs() < 1e-12);
        assert!((measured["exact"].estimate - 0.5).abs() < 1e-12);
        assert!(measure(&[], &[], Seed(0)).is_empty());
    }
}
