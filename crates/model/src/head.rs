//! The linear head of a classifier: from a unit-length embedding to calibrated probabilities over labels.
//!
//! Read and applied here, fitted in `adapt`. A head holds no text and does no IO.

use understudy_core::{Error, Result};

/// A multinomial logistic regression over embeddings, with a temperature.
///
/// P(label c | x) = softmax((W x + b) / T)_c.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    labels: Vec<String>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    temperature: f64,
    dimensions: usize,
}

/// What a head makes of one embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction<'h> {
    /// Position of the likeliest label.
    pub index: usize,
    /// The likeliest label.
    pub label: &'h str,
    /// Its calibrated probability, in [1 / classes, 1].
    pub confidence: f64,
    /// Calibrated probability per label, in the head's order; they sum to 1.
    pub probabilities: Vec<f64>,
}

impl Head {
    /// Puts a head together: `weights` is classes × dimensions, row-major; `bias` has one entry per label.
    ///
    /// # Errors
    /// `Data` when there is no label, a label repeats or is empty, the shapes do not match, a number
    /// is not finite or the temperature is not a positive number.
    pub fn new(labels: Vec<String>, weights: Vec<f32>, bias: Vec<f32>, temperature: f64) -> Result<Self> {
        let wrong = |what: String| Err(Error::data(format!("use classification head: {what}")));
        let classes = labels.len();
        if classes == 0 {
            return wrong("it has no outputs".into());
        }
        let mut sorted: Vec<&str> = labels.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        if sorted[0].trim().is_empty() {
            return wrong("a label is empty".into());
        }
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return wrong(format!("label `{}` appears twice", pair[0]));
        }
        if bias.len() != classes {
            return wrong(format!("{} biases for {classes} labels", bias.len()));
        }
        if weights.is_empty() || !weights.len().is_multiple_of(classes) {
            return wrong(format!("{} weights are not a whole number of rows for {classes} labels", weights.len()));
        }
        if !weights.iter().chain(&bias).all(|w| w.is_finite()) {
            return wrong("a weight or bias is not a finite number".into());
        }
        if !(temperature.is_finite() && temperature > 0.0) {
            return wrong(format!("temperature {temperature} is not a positive number"));
        }
        let dimensions = weights.len() / classes;
        Ok(Self { labels, weights, bias, temperature, dimensions })
    }

    /// Labels in the order of the probabilities.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Weights, classes × dimensions, row-major.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// One bias per label.
    #[must_use]
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// The divisor of the logits, above 0; 1 changes nothing, more makes the head less sure.
    #[must_use]
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Length of the embeddings it takes.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Classifies one embedding.
    ///
    /// # Errors
    /// As [`Head::scores`].
    pub fn predict(&self, embedding: &[f32]) -> Result<Prediction<'_>> {
        let mut probabilities = self.scores(embedding)?;
        softmax(&mut probabilities, self.temperature);
        let index = likeliest(&probabilities);
        Ok(Prediction { index, label: &self.labels[index], confidence: probabilities[index], probabilities })
    }

    /// The score of each label before any temperature: W x + b.
    ///
    /// # Errors
    /// `Invalid` when the embedding has another length than [`Head::dimensions`], `Data` when it holds a number that is not
    /// finite: no text is to blame for that, its encoder is.
    pub fn scores(&self, embedding: &[f32]) -> Result<Vec<f64>> {
        if embedding.len() != self.dimensions {
            return Err(Error::invalid(format!(
                "classify embedding: it has {} dimensions, the head takes {}; was it made by another model?",
                embedding.len(),
                self.dimensions
            )));
        }
        if !embedding.iter().all(|x| x.is_finite()) {
            return Err(Error::data(
                "classify embedding: it holds a number that is not finite; the encoder's weights are damaged",
            ));
        }
        let logit = |(row, bias): (&[f32], &f32)| {
            let dot: f64 = row.iter().zip(embedding).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            dot + f64::from(*bias)
        };
        Ok(self.weights.chunks_exact(self.dimensions).zip(&self.bias).map(logit).collect())
    }
}

/// A head's weights laid out feature by feature: a sparse row touches only its features' weights, and a dense one is a
/// sum of long rows that the processor adds eight numbers at a time. A few microseconds for a hundred labels, where
/// [`Head::predict`] sums carefully in 64 bits.
#[derive(Debug, Clone)]
pub struct Columns {
    labels: Vec<String>,
    /// Features × classes.
    weights: Vec<f32>,
    bias: Vec<f32>,
    temperature: f64,
}

impl Columns {
    /// Lays out a head.
    #[must_use]
    pub fn new(head: &Head) -> Self {
        let (classes, features) = (head.labels.len(), head.dimensions);
        let mut weights = vec![0.0; classes * features];
        for (class, row) in head.weights.chunks_exact(features).enumerate() {
            for (feature, w) in row.iter().enumerate() {
                weights[feature * classes + class] = *w;
            }
        }
        Self { labels: head.labels.clone(), weights, bias: head.bias.clone(), temperature: head.temperature }
    }

    /// Labels in the order of the probabilities.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Calibrated probabilities of a sparse row; features beyond the last are ignored.
    #[must_use]
    pub fn sparse(&self, row: &[(u32, f32)]) -> Vec<f64> {
        self.of(row.iter().map(|&(feature, x)| (feature as usize, x)))
    }

    /// Calibrated probabilities of a dense row; features beyond the last are ignored.
    #[must_use]
    pub fn dense(&self, row: &[f32]) -> Vec<f64> {
        self.of(row.iter().copied().enumerate())
    }

    fn of(&self, row: impl Iterator<Item = (usize, f32)>) -> Vec<f64> {
        let classes = self.labels.len();
        let mut scores = self.bias.clone();
        for (feature, x) in row {
            if let Some(weights) = self.weights.get(feature * classes..(feature + 1) * classes) {
                scores.iter_mut().zip(weights).for_each(|(score, w)| *score += x * w);
            }
        }
        let mut probabilities: Vec<f64> = scores.into_iter().map(f64::from).collect();
        softmax(&mut probabilities, self.temperature);
        probabilities
    }
}

/// Position of the greatest probability, the first among equals.
#[must_use]
pub fn likeliest(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (index, p) in probabilities.iter().enumerate() {
        if *p > probabilities[best] {
            best = index;
        }
    }
    best
}

/// Replaces logits by softmax(logits / temperature); the greatest is taken off first, so nothing overflows.
pub fn softmax(logits: &mut [f64], temperature: f64) {
    let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = ((*logit - greatest) / temperature).exp();
        sum += *logit;
    }
    for p in logits {
        *p /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use understudy_core::ErrorKind;

    fn labels(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("l{i}")).collect()
    }

    #[test]
    fn probabilities_are_the_softmax_of_the_scaled_logits() {
        let head = Head::new(labels(3), vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0], vec![0.0, 0.5, 0.0], 2.0).unwrap();
        let p = head.predict(&[1.0, 2.0]).unwrap();
        let e: Vec<f64> = [1.0, 2.5, -1.0].iter().map(|l: &f64| (l / 2.0).exp()).collect();
        assert_eq!((p.index, p.label), (1, "l1"));
        for (got, want) in p.probabilities.iter().zip(&e) {
            assert!((got - want / e.iter().sum::<f64>()).abs() < 1e-12);
        }
        let kind = |embedding: &[f32]| head.predict(embedding).unwrap_err().kind();
        assert_eq!((kind(&[1.0, f32::NAN]), kind(&[1.0])), (ErrorKind::Data, ErrorKind::Invalid));
    }

    #[test]
    fn heads_that_cannot_classify_are_refused_with_the_reason() {
        for (labels, weights, bias, temperature, says) in [
            (Vec::new(), vec![], vec![], 1.0, "no outputs"),
            (vec!["a".into(), "a".into()], vec![1.0, 1.0], vec![0.0; 2], 1.0, "appears twice"),
            (vec!["a".into(), " ".into()], vec![1.0, 1.0], vec![0.0; 2], 1.0, "empty"),
            (labels(2), vec![1.0; 3], vec![0.0; 2], 1.0, "whole number of rows"),
            (labels(2), vec![], vec![0.0; 2], 1.0, "whole number of rows"),
            (labels(2), vec![1.0; 4], vec![0.0; 3], 1.0, "3 biases"),
            (labels(2), vec![1.0, f32::NAN], vec![0.0; 2], 1.0, "not a finite"),
            (labels(2), vec![1.0; 2], vec![0.0; 2], 0.0, "temperature"),
        ] {
            let error = Head::new(labels, weights, bias, temperature).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn extreme_weights_give_probabilities_all_the_same(
            weights in proptest::collection::vec(-1e30f32..1e30, 8),
            x in proptest::collection::vec(-1e8f32..1e8, 2),
            temperature in 1e-3f64..1e3,
        ) {
            let head = Head::new(labels(4), weights, vec![0.0; 4], temperature).unwrap();
            let p = head.predict(&x).unwrap();
            prop_assert!((p.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(p.confidence >= 0.25 - 1e-9 && p.confidence <= 1.0);
        }
    }
}
