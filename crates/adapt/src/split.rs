//! Splits by content: where an example goes depends on its text and the seed alone. A text is never on both sides,
//! and examples that come or go move no other.

use std::collections::BTreeMap;
use understudy_core::{Error, Result, Seed, hash::unit_interval};
use understudy_dataset::{Example, Learned, text_hash};

/// Parts of the learning examples that can be held out in turn.
pub const FOLDS: usize = 5;

/// What a held-out example is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Choosing the regularisation: when to stop.
    Stop,
    /// Fitting the temperature.
    Calibrate,
}

/// An example's part in the fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The fold it is held out with, below [`FOLDS`].
    pub fold: usize,
    /// What for.
    pub held_out_for: Use,
}

/// Positions of examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Names of the labels, sorted.
    pub classes: Vec<String>,
    /// Examples to learn from.
    pub learn: Vec<usize>,
    /// Their parts in the fit, in the same order.
    pub places: Vec<Place>,
    /// Examples for the reported metrics; no other part of training sees them.
    pub test: Vec<usize>,
}

/// Splits `examples`, keeping `test_share` of them, about, for the metrics.
///
/// # Errors
/// `Invalid` when `test_share` is not in [0, 0.9]; `Data` when there are no examples, only one label, or a label with
/// a single example.
pub fn split(examples: &[Example], test_share: f64, seed: Seed) -> Result<Split> {
    if !(0.0..=0.9).contains(&test_share) {
        return Err(Error::invalid(format!("split dataset: a test share of {test_share} is not in [0, 0.9]")));
    }
    split_by(examples, seed, |_, draw| draw < test_share)
}

/// The same for a training that goes on from another one: what that one did not see is kept for the metrics. Where it saw
/// nothing of it, as [`split`].
///
/// # Errors
/// As [`split`].
pub fn split_further(examples: &[Example], before: &Learned, test_share: f64, seed: Seed) -> Result<Split> {
    if before.is_empty() || !examples.iter().any(|example| before.has(&text_hash(&example.text))) {
        return split(examples, test_share, seed);
    }
    split_by(examples, seed, |hash, _| !before.has(hash))
}

/// Splits by what is said of each text's hash and a draw in [0, 1) that depends on it.
fn split_by(examples: &[Example], seed: Seed, tests: impl Fn(&str, f64) -> bool) -> Result<Split> {
    if examples.is_empty() {
        return Err(Error::data("split dataset: it has no examples"));
    }
    let mut by_label: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        by_label.entry(&example.label).or_default().push(index);
    }
    if by_label.len() < 2 {
        return Err(Error::data(format!(
            "split dataset: all {} examples have the label `{}`; a classifier needs at least two labels",
            examples.len(),
            examples[0].label
        )));
    }
    if let Some((label, rows)) = by_label.iter().find(|(_, rows)| rows.len() < 2) {
        return Err(Error::data(format!(
            "split dataset: label `{label}` has one example (id `{}`); give it at least 2, or remove it",
            examples[rows[0]].id
        )));
    }
    let hashes: Vec<String> = examples.iter().map(|example| text_hash(&example.text)).collect();
    let draw = |index: usize| unit_interval(&format!("{}:{}", seed.derive("test").0, hashes[index]));
    let mut is_test: Vec<bool> = (0..examples.len()).map(|i| tests(&hashes[i], draw(i))).collect();
    for rows in by_label.values() {
        if rows.iter().all(|&i| is_test[i]) {
            // A label must be learnt before it can be tested: the example that was least of all test comes back,
            // with every copy of its text.
            let back = rows.iter().copied().max_by(|&a, &b| draw(a).total_cmp(&draw(b)));
            let back = back.expect("every label has examples");
            for i in 0..examples.len() {
                is_test[i] &= hashes[i] != hashes[back];
            }
        }
    }
    let (test, learn): (Vec<usize>, Vec<usize>) = (0..examples.len()).partition(|&i| is_test[i]);
    Ok(Split {
        classes: by_label.keys().map(|label| (*label).to_owned()).collect(),
        places: learn.iter().map(|&i| place(&hashes[i], seed)).collect(),
        learn,
        test,
    })
}

/// Divides texts without labels: those to learn from, a tenth of the rest that calibrates, and about `test_share` that
/// only measure. Where a text goes depends on it and the seed alone.
#[must_use]
pub fn divide(texts: &[&str], test_share: f64, seed: Seed) -> [Vec<usize>; 3] {
    let mut parts: [Vec<usize>; 3] = Default::default();
    for (index, text) in texts.iter().enumerate() {
        let hash = text_hash(text);
        let draw = |part: &str| unit_interval(&format!("{}:{hash}", seed.derive(part).0));
        let part = if draw("test") < test_share { 2 } else { usize::from(draw("calibrate") < 0.1) };
        parts[part].push(index);
    }
    parts
}

/// The part of each text in a fit that holds texts out in turn.
#[must_use]
pub fn places(texts: &[&str], seed: Seed) -> Vec<Place> {
    texts.iter().map(|text| place(&text_hash(text), seed)).collect()
}

fn place(hash: &str, seed: Seed) -> Place {
    let draw = |part: &str| unit_interval(&format!("{}:{hash}", seed.derive(part).0));
    Place { fold: fold(draw("fold")), held_out_for: if draw("use") < 0.5 { Use::Stop } else { Use::Calibrate } }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "u is in [0, 1), so this is below FOLDS")]
fn fold(u: f64) -> usize {
    (u * FOLDS as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn examples(texts: &[u16]) -> Vec<Example> {
        let one = |(i, t): (usize, &u16)| Example {
            id: i.to_string(),
            text: format!("text {t}"),
            label: format!("l{}", i % 3),
        };
        texts.iter().enumerate().map(one).collect()
    }

    proptest! {
        #[test]
        fn no_text_is_on_both_sides_and_every_label_is_learnt(
            texts in proptest::collection::vec(0u16..200, 6..120),
            share in 0.0f64..0.9,
            seed in any::<u64>(),
        ) {
            let examples = examples(&texts);
            let split = split(&examples, share, Seed(seed)).unwrap();
            prop_assert_eq!(split.learn.len() + split.test.len(), examples.len());
            let text = |i: &usize| examples[*i].text.clone();
            let learnt: std::collections::BTreeSet<_> = split.learn.iter().map(text).collect();
            prop_assert!(split.test.iter().map(text).all(|t| !learnt.contains(&t)));
            for class in &split.classes {
                prop_assert!(split.learn.iter().any(|&i| examples[i].label == *class));
            }
        }

        #[test]
        fn an_example_that_goes_moves_no_other(seed in any::<u64>()) {
            let all = examples(&(0..200).collect::<Vec<_>>());
            let fewer = &all[..150];
            let of = |examples: &[Example]| {
                let split = split(examples, 0.3, Seed(seed)).unwrap();
                split.test.into_iter().filter(|i| *i < 150).collect::<Vec<_>>()
            };
            prop_assert_eq!(of(&all), of(fewer));
        }
    }

    #[test]
    fn the_share_is_about_what_was_asked_for() {
        let all = examples(&(0..10_000).collect::<Vec<_>>());
        let split = split(&all, 0.2, Seed(1)).unwrap();
        assert!((1900..2100).contains(&split.test.len()), "{}", split.test.len());
        for fold in 0..FOLDS {
            let n = split.places.iter().filter(|p| p.fold == fold).count();
            assert!((1450..1750).contains(&n), "{n}");
        }
    }

    #[test]
    fn data_that_cannot_be_learnt_from_is_refused_with_the_remedy() {
        let mut one = examples(&[1, 2, 3, 4]);
        let says = |examples: &[Example], says: &str| {
            let error = split(examples, 0.2, Seed(0)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        says(&[], "no examples");
        says(&one, "label `l1` has one example (id `1`)");
        one.iter_mut().for_each(|e| e.label = "x".into());
        says(&one, "all 4 examples have the label `x`");
    }
}
