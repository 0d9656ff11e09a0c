//! The cheapest rung: a linear classifier on words, neighbouring words and pieces of words. No encoder is involved.
//!
//! The same divisions, the same choice of regularisation and the same temperature as [`crate::head`]. What the
//! features are is learnt without the part that is held out: a term that only a held-out text has would not be known in
//! a new text either.

use crate::{
    cross_fit::{Rule, Unseen, cross_fit},
    head::{FittedHead, check_labels, check_shares, shares_of},
    split::Place,
};
use safetensors::tensor::{Dtype as TensorType, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use understudy_core::{Error, Result, Seed};
use understudy_learn::{
    maxent::{Limits, Maxent},
    ngrams::{NgramParams, Ngrams},
    sparse::Sparse,
};
use understudy_model::{head::Head, words};

/// Most weights of one model: 128 MB.
const MOST_WEIGHTS: usize = 1 << 25;

/// How to fit, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WordsParams {
    /// Which terms are known.
    pub ngrams: NgramParams,
    /// The regularisation path, as of [`crate::head::HeadParams`], but for biases, which are penalised like weights.
    pub c: Vec<f64>,
    /// Steps along the path without a lower log loss on held-out items before it ends.
    pub patience: usize,
    /// Most passes over the examples for each C.
    pub most_passes: usize,
    /// Mean divergence between dual and primal predictions at which the optimiser stops.
    pub tolerance: f64,
    /// Below this number of examples every fold is held out in turn; from it on, one fold is enough.
    pub cross_fit_below: usize,
}

impl Default for WordsParams {
    fn default() -> Self {
        Self {
            ngrams: NgramParams::default(),
            c: vec![1.0, 4.0, 16.0, 64.0],
            patience: 1,
            most_passes: 30,
            tolerance: 1e-3,
            cross_fit_below: 4000,
        }
    }
}

/// Parameters that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedWordsParams(WordsParams);

/// Examples as texts.
#[derive(Debug, Clone, Copy)]
pub struct LabelledTexts<'a> {
    /// The texts.
    pub texts: &'a [&'a str],
    /// Position in `classes` for each.
    pub labels: &'a [usize],
    /// Which part of the fit each belongs to.
    pub places: &'a [Place],
    /// The labels' names.
    pub classes: &'a [String],
}

/// A fitted model: known terms and the head on them.
#[derive(Debug, Clone)]
pub struct FittedWords {
    /// The terms.
    pub ngrams: Ngrams,
    /// The head, and how it came about.
    pub fitted: FittedHead,
    /// What models that had not seen an item say about it.
    pub unseen: Unseen,
}

impl WordsParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(self) -> Result<CheckedWordsParams> {
        let wrong = |field: &str, what: &str| {
            Err(Error::invalid(format!("use words parameter `{field}`: {what}")).with_param(field))
        };
        if self.c.is_empty() || !self.c.iter().all(|c| c.is_finite() && *c > 0.0) || !self.c.is_sorted_by(|a, b| a < b)
        {
            return wrong("c", "it must list positive numbers that ascend");
        }
        if self.patience == 0 || self.most_passes == 0 {
            return wrong("patience, most_passes", "they must be at least 1");
        }
        if !(self.tolerance.is_finite() && self.tolerance > 0.0) {
            return wrong("tolerance", "it must be a positive number");
        }
        let n = self.ngrams;
        if !(1..=8).contains(&n.words) || n.longest_piece > 16 || n.least_texts == 0 || n.most_terms == 0 {
            return wrong("ngrams", "runs of 1 to 8 words, pieces of at most 16 characters, and at least one term");
        }
        Ok(CheckedWordsParams(self))
    }
}

impl CheckedWordsParams {
    /// Fits. The same examples in the same order and the same seed give the same model.
    ///
    /// # Errors
    /// `Invalid` when the lengths differ, a label is out of range or there are fewer than two classes with examples;
    /// `Data` when no term is in several texts.
    pub fn fit(&self, data: LabelledTexts<'_>, seed: Seed) -> Result<FittedWords> {
        self.fit_to_shares(data, &[], seed)
    }

    /// As [`CheckedWordsParams::fit`], learning how likely each class of a text is where `shares` says so (one entry for
    /// each text, or none at all). What was held out is judged by the labels.
    ///
    /// # Errors
    /// As [`CheckedWordsParams::fit`]; `Invalid` too when shares are no distribution over the classes.
    pub fn fit_to_shares(
        &self,
        data: LabelledTexts<'_>,
        shares: &[Option<Vec<f32>>],
        seed: Seed,
    ) -> Result<FittedWords> {
        let (n, classes) = (data.texts.len(), data.classes.len());
        if data.labels.len() != n || data.places.len() != n {
            return Err(Error::invalid("fit words: texts, labels and places differ in number"));
        }
        check_labels(data.labels, classes)?;
        check_shares(shares, n, classes)?;
        let seed = seed.derive("words").0;
        let rule = Rule { steps: &self.0.c, patience: self.0.patience, all_folds_below: self.0.cross_fit_below };
        let limits = Limits { tolerance: self.0.tolerance, most_passes: self.0.most_passes };
        let chosen = cross_fit(data.labels, data.places, rule, |rest, out, show| {
            let (ngrams, train) = self.rows(rest.iter().map(|&i| data.texts[i]), classes)?;
            let labels: Vec<usize> = rest.iter().map(|&i| data.labels[i]).collect();
            let test: Vec<Sparse> = out.iter().map(|&i| ngrams.vector(data.texts[i])).collect();
            let fit = Maxent::new(&train, ngrams.width(), &labels, classes, seed);
            let mut fit = taught(fit, &shares_of(shares, rest.iter().copied()));
            let mut scores = vec![0.0; classes];
            for &c in &self.0.c {
                fit.solve(c, limits);
                let mut logits = |row: &Sparse| {
                    fit.score(row, &mut scores);
                    scores.iter().map(|z| f64::from(*z)).collect::<Vec<f64>>()
                };
                if show(test.iter().map(&mut logits).collect()).is_break() {
                    break;
                }
            }
            Ok::<_, Error>(())
        })?;
        let (ngrams, train) = self.rows(data.texts.iter().copied(), classes)?;
        let fit = Maxent::new(&train, ngrams.width(), data.labels, classes, seed);
        let mut fit = taught(fit, &shares_of(shares, 0..n));
        fit.solve(chosen.path[chosen.step].c, limits);
        let (weights, bias) = fit.weights();
        let head = Head::new(data.classes.to_vec(), weights, bias, chosen.temperature)?;
        let (fitted, unseen) = FittedHead::of(head, n, chosen);
        Ok(FittedWords { ngrams, fitted, unseen })
    }

    /// Learns the terms of texts, and their rows.
    fn rows<'t>(&self, texts: impl Iterator<Item = &'t str> + Clone, classes: usize) -> Result<(Ngrams, Vec<Sparse>)> {
        let room = u32::try_from(MOST_WEIGHTS / classes).unwrap_or(u32::MAX).max(1);
        let params = NgramParams { most_terms: self.0.ngrams.most_terms.min(room), ..self.0.ngrams };
        let ngrams = Ngrams::fit(texts.clone(), params);
        if ngrams.width() == 0 {
            return Err(Error::data(
                "fit words: no word and no piece of a word is in two texts; give more examples or use another method",
            ));
        }
        let rows = texts.map(|text| ngrams.vector(text)).collect();
        Ok((ngrams, rows))
    }
}

fn taught<'a>(fit: Maxent<'a>, shares: &[Option<&[f32]>]) -> Maxent<'a> {
    if shares.is_empty() { fit } else { fit.to_shares(shares) }
}

/// The bytes of [`words::FILE`] for an artifact's `files`.
///
/// # Errors
/// `Internal` when they cannot be encoded.
pub fn encode(ngrams: &Ngrams) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("encode words: {e}"));
    let terms: Vec<u8> = ngrams.terms().iter().flat_map(|term| term.to_le_bytes()).collect();
    let idf: Vec<u8> = ngrams.idf().iter().flat_map(|idf| idf.to_le_bytes()).collect();
    let shape = vec![ngrams.width()];
    let terms = TensorView::new(TensorType::U64, shape.clone(), &terms).map_err(|e| failed(&e))?;
    let idf = TensorView::new(TensorType::F32, shape, &idf).map_err(|e| failed(&e))?;
    // One key only: a map of several has no fixed order, and the file must have a fixed hash.
    let about = serde_json::json!({ "params": ngrams.params(), "words": ngrams.words() }).to_string();
    let about = HashMap::from([(words::ABOUT.to_owned(), about)]);
    safetensors::serialize([("terms", terms), ("idf", idf)], Some(about)).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_dataset::Example;
    use understudy_model::{head::Columns, words::Words};

    fn examples() -> Vec<Example> {
        let about =
            [("refund", "give my money back for"), ("track", "where is the parcel with"), ("hello", "good day")];
        let things = ["shoes", "a coat", "two lamps", "the table", "that phone", "books", "my hat", "this chair"];
        let each = |(label, how): &(&str, &str)| {
            let (label, how) = ((*label).to_owned(), (*how).to_owned());
            things.map(move |thing| Example {
                id: format!("{label} {thing}"),
                text: format!("{how} {thing}"),
                label: label.clone(),
            })
        };
        about.iter().flat_map(each).collect()
    }

    fn fit() -> (FittedWords, Vec<Example>) {
        let examples = examples();
        let split = crate::split::split(&examples, 0.0, Seed(1)).unwrap();
        let texts: Vec<&str> = split.learn.iter().map(|&i| examples[i].text.as_str()).collect();
        let labels: Vec<usize> =
            split.learn.iter().map(|&i| split.classes.binary_search(&examples[i].label).unwrap()).collect();
        let data = LabelledTexts { texts: &texts, labels: &labels, places: &split.places, classes: &split.classes };
        (WordsParams::default().check().unwrap().fit(data, Seed(1)).unwrap(), examples)
    }

    #[test]
    fn new_texts_get_the_label_of_their_words_and_what_is_written_answers_the_same() {
        let (model, _) = fit();
        assert_eq!(model.unseen.labels.len(), 24, "every text was held out once");
        let read = Words::from_bytes(&encode(&model.ngrams).unwrap(), "words").unwrap();
        assert_eq!(read.ngrams(), &model.ngrams);
        let columns = Columns::new(&model.fitted.head);
        for (text, label) in [("money back for the bicycle", "refund"), ("where is it", "track"), ("good", "hello")] {
            let row = read.ngrams().vector(text);
            let mut dense = vec![0.0; model.ngrams.width()];
            row.iter().for_each(|&(place, x)| dense[place as usize] = x);
            let (sparse, naive) = (columns.sparse(&row), model.fitted.head.predict(&dense).unwrap());
            assert_eq!(naive.label, label);
            assert!(sparse.iter().zip(&naive.probabilities).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let ((a, _), (b, _)) = (fit(), fit());
        assert_eq!(a.fitted, b.fitted);
        assert_eq!(encode(&a.ngrams).unwrap(), encode(&b.ngrams).unwrap());
    }

    #[test]
    fn texts_that_share_nothing_are_refused() {
        let texts = ["1", "2", "3", "4"];
        let place = Place { fold: 0, held_out_for: crate::split::Use::Stop };
        let data = LabelledTexts {
            texts: &texts,
            labels: &[0, 1, 0, 1],
            places: &[place; 4],
            classes: &["a".into(), "b".into()],
        };
        let params = WordsParams {
            ngrams: NgramParams { longest_piece: 0, ..NgramParams::default() },
            ..WordsParams::default()
        };
        let error = params.check().unwrap().fit(data, Seed(1)).unwrap_err().to_string();
        assert!(error.contains("no word"), "{error}");
    }
}
