//! Texts against reference texts: exact match, token F1, ROUGE, BLEU.

pub mod bleu;
pub mod porter;
pub mod rouge;
pub mod squad;

pub use bleu::{Bleu, corpus_bleu, sentence_bleu};
pub use rouge::{Rouge, Stemming, rouge};
pub use squad::{exact_match, token_f1};

use super::Metric;
use serde::Serialize;
use understudy_core::Seed;

/// Python's `str.isspace`: Unicode white space and the four separators of ASCII. The references split on it.
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Every text metric over a data set: means of the items' scores with BCa bootstrap intervals; BLEU of the corpus with
/// a percentile one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Report {
    /// Share of answers equal to a reference after SQuAD's normalisation.
    pub exact_match: Metric,
    /// Mean token F1, best reference.
    pub token_f1: Metric,
    /// Mean ROUGE-1 F.
    pub rouge1: Metric,
    /// Mean ROUGE-2 F.
    pub rouge2: Metric,
    /// Mean ROUGE-L F.
    pub rouge_l: Metric,
    /// Mean ROUGE-Lsum F.
    pub rouge_lsum: Metric,
    /// Corpus BLEU, 0 to 100.
    pub bleu: Metric,
}

/// Scores each answer against its references (at least one each); `None` without items.
///
/// # Panics
/// When the slices differ in length or an item has no reference.
#[must_use]
pub fn report(references: &[Vec<&str>], answers: &[&str], stemming: Stemming, seed: Seed) -> Option<Report> {
    assert_eq!(references.len(), answers.len(), "references for each answer");
    let items = || references.iter().zip(answers);
    let equal = items().filter(|(refs, answer)| exact_match(refs, answer)).count() as u64;
    let f1: Vec<f64> = items().map(|(refs, answer)| token_f1(refs, answer)).collect();
    let rouges: Vec<Rouge> = items().map(|(refs, answer)| rouge::best(refs, answer, stemming)).collect();
    let mean = |name: &str, of: fn(&Rouge) -> rouge::Score| {
        Metric::mean(&rouges.iter().map(|r| of(r).f).collect::<Vec<_>>(), seed.derive(name)).map(|m| m.within(0.0, 1.0))
    };
    let counts: Vec<bleu::Counts> = items().map(|(refs, answer)| bleu::Counts::of(refs, answer)).collect();
    Some(Report {
        exact_match: Metric::share(equal, answers.len() as u64)?,
        token_f1: Metric::mean(&f1, seed.derive("token_f1"))?.within(0.0, 1.0),
        rouge1: mean("rouge1", |r| r.rouge1)?,
        rouge2: mean("rouge2", |r| r.rouge2)?,
        rouge_l: mean("rouge_l", |r| r.rouge_l)?,
        rouge_lsum: mean("rouge_lsum", |r| r.rouge_lsum)?,
        bleu: Metric::resampled(counts.len(), seed.derive("bleu"), |indices| {
            bleu::Counts::sum(indices.iter().map(|&i| &counts[i])).score(bleu::Orders::All).score
        })?
        .within(0.0, 100.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_score_full_and_disjoint_ones_nothing() {
        let text = "the quick brown fox jumps over the lazy dog";
        let full = report(&[vec![text]], &[text], Stemming::None, Seed(1)).expect("an item");
        let none = report(&[vec![text]], &["zzz"], Stemming::None, Seed(1)).expect("an item");
        for (metric, most) in [(full.rouge_l, 1.0), (full.token_f1, 1.0), (full.bleu, 100.0), (full.exact_match, 1.0)] {
            assert!((metric.estimate - most).abs() < 1e-9, "{metric:?}");
        }
        assert!(none.rouge1.estimate.abs() < 1e-15 && none.bleu.estimate.abs() < 1e-15);
        assert!(report(&[], &[], Stemming::None, Seed(1)).is_none());
    }
}
