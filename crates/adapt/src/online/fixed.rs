//! The trivial way, as a baseline: a linear model fitted anew after every so many requests, and a fixed threshold on
//! its probability.

use crate::{
    matrix::{Blocks, Matrix},
    softmax::{self, Examples, narrow},
};
use understudy_core::Result;
use understudy_learn::lbfgs::Limits;

/// Inverse strength of the penalty: the C of scikit-learn.
const C: f64 = 30.0;

/// A student without calibration.
#[derive(Debug)]
pub struct Fixed {
    /// Probability from which its answer is kept.
    threshold: f64,
    /// Requests between fits.
    every: usize,
    seen: usize,
    rows: Vec<Vec<f32>>,
    labels: Vec<usize>,
    classes: Vec<String>,
    /// Weights and biases; empty before the first fit.
    x: Vec<f64>,
    fitted_classes: usize,
    last: Vec<f32>,
}

impl Fixed {
    /// A student that knows nothing.
    #[must_use]
    pub fn new(threshold: f64, every: usize) -> Self {
        let (rows, labels, classes) = (Vec::new(), Vec::new(), Vec::new());
        Self { threshold, every, seen: 0, rows, labels, classes, x: Vec::new(), fitted_classes: 0, last: Vec::new() }
    }

    /// The answer, where it is sure enough; else the large model is asked and [`Fixed::learn`] takes its answer.
    ///
    /// # Errors
    /// `Invalid` when an embedding has another length than those before or is not finite.
    pub fn observe(&mut self, embedding: &[f32]) -> Result<Option<&str>> {
        if self.seen > 0 && self.seen.is_multiple_of(self.every) && self.classes.len() > 1 {
            let matrix = Matrix::from_rows(&self.rows)?;
            let classes = self.classes.len();
            self.x = vec![0.0; classes * (matrix.columns() + 1)];
            let examples =
                Examples { blocks: &Blocks::new(&matrix), labels: &self.labels, shares: &[], weights: None, classes };
            softmax::solve(&mut self.x, &examples, C, Limits { tolerance: 1e-4, max_iterations: 100 });
            self.fitted_classes = classes;
        }
        self.seen += 1;
        self.last = embedding.to_vec();
        if self.x.is_empty() {
            return Ok(None);
        }
        let (weights, bias) = narrow(&self.x, self.fitted_classes);
        let logit = |(w, b): (&[f32], &f32)| w.iter().zip(embedding).map(|(w, x)| w * x).sum::<f32>() + b;
        let logits: Vec<f32> = weights.chunks_exact(embedding.len()).zip(&bias).map(logit).collect();
        let (class, greatest) =
            logits.iter().copied().enumerate().fold((0, f32::NEG_INFINITY), |best, (class, logit)| {
                if logit > best.1 { (class, logit) } else { best }
            });
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - greatest).exp()).sum();
        Ok((1.0 / sum >= self.threshold).then(|| self.classes[class].as_str()))
    }

    /// Takes the large model's answer to the request that was observed last.
    pub fn learn(&mut self, answer: &str) {
        let class = self.classes.iter().position(|class| class == answer).unwrap_or_else(|| {
            self.classes.push(answer.to_owned());
            self.classes.len() - 1
        });
        self.rows.push(std::mem::take(&mut self.last));
        self.labels.push(class);
    }
}
