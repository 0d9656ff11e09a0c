//! Several labels a text: each is decided on by itself.
//!
//! The head starts as one logistic regression a label; training the encoder goes on from there under the sum of the
//! labels' cross-entropies. What was kept from training then fits one temperature for all labels and chooses the
//! probability from which on each is given.

use crate::head::{CheckedHeadParams, Labelled};
use crate::matrix::Matrix;
use crate::split::Place;
use crate::temperature;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use std::collections::BTreeMap;
use understudy_core::{Result, Seed};
use understudy_model::{artifact::Metric, labeller::sigmoid};
use understudy_stats::{Bound, sets};

/// Held-out texts with a label, and without it, below which its threshold is the one that all labels share.
const ENOUGH: usize = 10;

/// Texts as vectors, and the positions of the labels that apply to each.
#[derive(Debug, Clone, Copy)]
pub struct Sets<'a> {
    /// A row a text.
    pub embeddings: &'a Matrix,
    /// Positions below the number of labels, ascending.
    pub applies: &'a [Vec<usize>],
    /// Which part of the fit each text belongs to.
    pub places: &'a [Place],
}

/// One logistic regression a label: weights (labels × dimensions) and biases. A label that applies to all texts or to
/// none keeps weights of zero and the bias of its share.
///
/// # Errors
/// `Invalid` when the lists differ in length.
pub fn heads(params: &CheckedHeadParams, sets: Sets<'_>, labels: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let (width, n) = (sets.embeddings.columns(), sets.applies.len());
    let (mut weights, mut bias) = (Vec::with_capacity(labels * width), Vec::with_capacity(labels));
    let classes = ["no".to_owned(), "yes".to_owned()];
    for label in 0..labels {
        let yes: Vec<usize> = sets.applies.iter().map(|applies| usize::from(applies.contains(&label))).collect();
        let count = yes.iter().sum::<usize>();
        if count == 0 || count == n {
            weights.resize(weights.len() + width, 0.0);
            #[expect(clippy::cast_possible_truncation, reason = "a logarithm")]
            bias.push(((count as f64 + 0.5) / ((n - count) as f64 + 0.5)).ln() as f32);
            continue;
        }
        let Sets { embeddings, places, .. } = sets;
        let head = params.fit(Labelled { embeddings, labels: &yes, places, classes: &classes })?.head;
        // The softmax of two scores is the sigmoid of their difference.
        let (no, yes) = head.weights().split_at(width);
        weights.extend(yes.iter().zip(no).map(|(yes, no)| yes - no));
        bias.push(head.bias()[1] - head.bias()[0]);
    }
    Ok((weights, bias))
}

/// What held-out texts decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// Divisor of all scores.
    pub temperature: f64,
    /// The probability from which on each label is given.
    pub thresholds: Vec<f64>,
}

/// Fits temperature and thresholds to the scores (a row a text) of texts that training did not see. A label's threshold
/// is the one that makes its F1 the highest there, where at least ten texts have the label and ten do not; the others share
/// the one that makes the F1 over all pairs of text and label the highest. Without texts: 1 and one half.
///
/// # Panics
/// When rows and sets differ in number, or a row has not one score a label.
#[must_use]
pub fn calibrate(scores: &[Vec<f64>], applies: &[Vec<usize>], labels: usize) -> Calibrated {
    assert_eq!(scores.len(), applies.len(), "a set for each row");
    let pairs: Vec<(usize, f64, bool)> = scores
        .iter()
        .zip(applies)
        .flat_map(|(row, applies)| {
            assert_eq!(row.len(), labels, "a score a label");
            row.iter().enumerate().map(|(label, z)| (label, *z, applies.contains(&label)))
        })
        .collect();
    if pairs.is_empty() {
        return Calibrated { temperature: 1.0, thresholds: vec![0.5; labels] };
    }
    let logits: Vec<Vec<f64>> = pairs.iter().map(|(_, z, _)| vec![0.0, *z]).collect();
    let right: Vec<usize> = pairs.iter().map(|(_, _, applies)| usize::from(*applies)).collect();
    let temperature = temperature::fit(&logits, &right);
    let judged = |of: Option<usize>| -> Vec<(f64, bool)> {
        let of = |label: &usize| of.is_none_or(|wanted| wanted == *label);
        pairs.iter().filter(|(label, ..)| of(label)).map(|(_, z, yes)| (sigmoid(z / temperature), *yes)).collect()
    };
    let shared = best_threshold(judged(None));
    let threshold = |label| {
        let judged = judged(Some(label));
        let with = judged.iter().filter(|(_, yes)| *yes).count();
        if with < ENOUGH || judged.len() - with < ENOUGH { shared } else { best_threshold(judged) }
    };
    Calibrated { temperature, thresholds: (0..labels).map(threshold).collect() }
}

/// The threshold with the highest F1, of equals the one nearest to one half; between two probabilities it lies amid.
fn best_threshold(mut judged: Vec<(f64, bool)>) -> f64 {
    judged.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let expected = judged.iter().filter(|(_, yes)| *yes).count() as f64;
    let (mut best, mut right): ((f64, f64), f64) = ((0.0, 0.5), 0.0);
    for (i, (p, yes)) in judged.iter().enumerate() {
        right += f64::from(u8::from(*yes));
        let next = judged.get(i + 1).map_or(0.0, |next| next.0);
        if (p - next).abs() < f64::EPSILON {
            continue;
        }
        let f1 = 2.0 * right / ((i + 1) as f64 + expected);
        let threshold = f64::midpoint(*p, next);
        let nearer = (threshold - 0.5).abs() < (best.1 - 0.5).abs();
        if f1 > best.0 + 1e-12 || (f1 > best.0 - 1e-12 && f1 > 0.0 && nearer) {
            best = (f1.max(best.0), threshold);
        }
    }
    best.1
}

/// Measures lists of labels: `micro_f1`, `macro_f1`, `precision`, `recall` and `exact_match`, each with its interval.
/// Empty without texts.
#[must_use]
pub fn measure(expected: &[Vec<usize>], given: &[Vec<usize>], labels: usize, seed: Seed) -> BTreeMap<String, Metric> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed.derive("labels").0);
    let Some(report) = sets::report(expected, given, labels, &mut rng) else { return BTreeMap::new() };
    let metric = |Bound { estimate, low, high, .. }| Metric { estimate, low, high, n: expected.len() as u64 };
    [
        ("micro_f1", report.micro_f1),
        ("macro_f1", report.macro_f1),
        ("precision", report.precision),
        ("recall", report.recall),
        ("exact_match", report.exact),
    ]
    .into_iter()
    .map(|(name, bound)| (name.to_owned(), metric(bound)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::HeadParams;
    use crate::split::places;

    #[test]
    fn each_label_has_a_regression_of_its_own() {
        let rows: Vec<Vec<f32>> =
            (0..200u8).map(|i| vec![f32::from(i % 2) - 0.5, f32::from(i / 2 % 2) - 0.5]).collect();
        let applies: Vec<Vec<usize>> = (0..200)
            .map(|i| {
                [(i % 2 == 1).then_some(0), (i / 2 % 2 == 1).then_some(1), Some(2)].into_iter().flatten().collect()
            })
            .collect();
        let texts: Vec<String> = (0..200).map(|i| format!("text {i}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let sets = Sets {
            embeddings: &Matrix::from_rows(&rows).unwrap(),
            applies: &applies,
            places: &places(&texts, Seed(1)),
        };
        let (weights, bias) = heads(&HeadParams::default().check().unwrap(), sets, 4).unwrap();
        for (row, applies) in rows.iter().zip(&applies) {
            for label in 0..4 {
                let z: f32 = weights[2 * label..][..2].iter().zip(row).map(|(w, x)| w * x).sum::<f32>() + bias[label];
                assert_eq!(z > 0.0, applies.contains(&label), "label {label}");
            }
        }
        assert!(weights[4..].iter().all(|w| w.abs() < 1e-12), "nothing is to be learned of all and none");
    }

    #[test]
    fn thresholds_are_chosen_for_each_label_where_enough_is_known() {
        // Label 0 applies from a score of −1 on, label 1 from 1 on; label 2 has two texts alone.
        let scores: Vec<Vec<f64>> = (0..100).map(|i| vec![f64::from(i) / 25.0 - 2.0; 3]).collect();
        let applies: Vec<Vec<usize>> = (0..100)
            .map(|i| {
                let z = f64::from(i) / 25.0 - 2.0;
                [(z >= -1.0).then_some(0), (z >= 1.0).then_some(1), (i > 97).then_some(2)]
                    .into_iter()
                    .flatten()
                    .collect()
            })
            .collect();
        let found = calibrate(&scores, &applies, 3);
        let at = |z: f64| sigmoid(z / found.temperature);
        assert!(at(-1.04) < found.thresholds[0] && found.thresholds[0] < at(-1.0), "{found:?}");
        assert!(at(0.96) < found.thresholds[1] && found.thresholds[1] < at(1.0), "{found:?}");
        let shared = best_threshold(
            scores
                .iter()
                .zip(&applies)
                .flat_map(|(row, a)| (0..3).map(|label| (at(row[label]), a.contains(&label))).collect::<Vec<_>>())
                .collect(),
        );
        assert!((found.thresholds[2] - shared).abs() < 1e-12);
        assert_eq!(calibrate(&[], &[], 2), Calibrated { temperature: 1.0, thresholds: vec![0.5; 2] });
    }

    #[test]
    fn the_best_threshold_is_the_best_of_all() {
        let judged: Vec<(f64, bool)> =
            [0.9, 0.8, 0.8, 0.6, 0.3, 0.2].into_iter().zip([true, false, true, true, false, false]).collect();
        let f1 = |t: f64| {
            let given = judged.iter().filter(|(p, _)| *p >= t);
            let right = given.clone().filter(|(_, yes)| *yes).count() as f64;
            2.0 * right / (given.count() as f64 + 3.0)
        };
        let best = f1(best_threshold(judged.clone()));
        assert!((0..=100).all(|t| f1(f64::from(t) / 100.0) <= best + 1e-12));
    }
}
