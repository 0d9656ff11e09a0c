//! Fits a classification head: multinomial logistic regression on frozen, unit-length embeddings.
//!
//! Parts of the data are held out in turn ([`crate::split`]). The models fitted on the rest choose how strongly to
//! regularise (early stopping along a path from strong to weak) on one half of what was held out and fit the
//! temperature on the other half. The head itself is then fitted on everything. A certificate's items are none of
//! these: they come later, from elsewhere.

use crate::{
    matrix::{Blocks, Matrix},
    softmax::{self, Examples, narrow},
    split::{FOLDS, Place, Use},
    temperature,
};
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result};
use understudy_kernels::{Activation, Dtype, Linear, LinearScratch};
use understudy_learn::lbfgs::Limits;
use understudy_model::head::Head;

/// How to fit a head, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadParams {
    /// The regularisation path: inverse strengths C, ascending. The objective is ½‖W‖² + C · Σ log loss, with
    /// unpenalised biases: the C of scikit-learn.
    pub c: Vec<f64>,
    /// Steps along the path without a lower log loss on held-out items before it ends.
    pub patience: usize,
    /// Most steps of the optimiser for each C.
    pub max_iterations: usize,
    /// Largest entry of the gradient of the mean loss at which the optimiser stops.
    pub tolerance: f64,
    /// Below this number of examples every fold is held out in turn; from it on, one fold is enough.
    pub cross_fit_below: usize,
}

impl Default for HeadParams {
    fn default() -> Self {
        Self {
            c: vec![1.0, 4.0, 16.0, 64.0, 256.0],
            patience: 1,
            max_iterations: 200,
            tolerance: 1e-5,
            cross_fit_below: 4000,
        }
    }
}

impl HeadParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(self) -> Result<CheckedHeadParams> {
        let wrong = |field: &str, what: &str| {
            Err(Error::invalid(format!("use head parameter `{field}`: {what}")).with_param(field))
        };
        if self.c.is_empty() || !self.c.iter().all(|c| c.is_finite() && *c > 0.0) {
            return wrong("c", "it must list positive numbers");
        }
        if !self.c.is_sorted_by(|a, b| a < b) {
            return wrong("c", "it must ascend");
        }
        if self.patience == 0 {
            return wrong("patience", "it must be at least 1");
        }
        if self.max_iterations == 0 {
            return wrong("max_iterations", "it must be at least 1");
        }
        if !(self.tolerance.is_finite() && self.tolerance > 0.0) {
            return wrong("tolerance", "it must be a positive number");
        }
        Ok(CheckedHeadParams(self))
    }
}

/// Parameters that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedHeadParams(HeadParams);

/// A step along the regularisation path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathStep {
    /// Inverse regularisation strength.
    pub c: f64,
    /// Mean log loss on the held-out items that choose.
    pub loss: f64,
}

/// A fitted head and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedHead {
    /// The head, temperature included.
    pub head: Head,
    /// The chosen inverse regularisation strength.
    pub c: f64,
    /// What was tried.
    pub path: Vec<PathStep>,
    /// Items the weights were fitted on.
    pub n_train: usize,
    /// Held-out items that chose the regularisation.
    pub n_stop: usize,
    /// Held-out items the temperature was fitted on.
    pub n_calibrate: usize,
}

/// Examples as numbers.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// One embedding per example.
    pub embeddings: &'a Matrix,
    /// Position in `classes` for each.
    pub labels: &'a [usize],
    /// Which part of the fit each belongs to.
    pub places: &'a [Place],
    /// The labels' names.
    pub classes: &'a [String],
}

impl CheckedHeadParams {
    /// Fits a head. The same examples in the same order give the same head.
    ///
    /// # Errors
    /// `Invalid` when the lengths differ, a label is out of range, or there are fewer than two classes with examples.
    pub fn fit(&self, data: Labelled<'_>) -> Result<FittedHead> {
        let (n, classes) = (data.embeddings.rows(), data.classes.len());
        if data.labels.len() != n || data.places.len() != n {
            return Err(Error::invalid("fit head: embeddings, labels and places differ in number"));
        }
        let mut counts = vec![0usize; classes];
        for &label in data.labels {
            *counts.get_mut(label).ok_or_else(|| Error::invalid(format!("fit head: label {label} has no name")))? += 1;
        }
        if counts.iter().filter(|count| **count > 0).count() < 2 {
            return Err(Error::invalid("fit head: all examples have the same label; a classifier needs two"));
        }
        let held_out = self.hold_out(data);
        let (chosen, path, temperature) = self.choose(&held_out);
        let mut x = vec![0.0; classes * (data.embeddings.columns() + 1)];
        let blocks = Blocks::new(data.embeddings);
        self.solve(&mut x, &blocks, data.labels, classes, path[chosen].c);
        let (weights, bias) = narrow(&x, classes);
        let count = |of: Use| held_out.iter().map(|part| part.of(of).count()).sum();
        Ok(FittedHead {
            head: Head::new(data.classes.to_vec(), weights, bias, temperature)?,
            c: path[chosen].c,
            n_train: n,
            n_stop: count(Use::Stop),
            n_calibrate: count(Use::Calibrate),
            path,
        })
    }

    /// Fits along the path without each held-out fold and keeps what these models say about it.
    fn hold_out(&self, data: Labelled<'_>) -> Vec<HeldOut> {
        let classes = data.classes.len();
        let rounds = if data.labels.len() < self.0.cross_fit_below { FOLDS } else { 1 };
        let mut parts = Vec::new();
        for fold in 0..rounds {
            let (out, rest): (Vec<usize>, Vec<usize>) =
                (0..data.labels.len()).partition(|&i| data.places[i].fold == fold);
            if out.is_empty() || rest.is_empty() {
                continue;
            }
            let (train, test) = (data.embeddings.select(&rest), data.embeddings.select(&out));
            let labels: Vec<usize> = rest.iter().map(|&i| data.labels[i]).collect();
            let blocks = Blocks::new(&train);
            let mut x = vec![0.0; classes * (train.columns() + 1)];
            let mut part = HeldOut {
                labels: out.iter().map(|&i| data.labels[i]).collect(),
                uses: out.iter().map(|&i| data.places[i].held_out_for).collect(),
                logits: Vec::new(),
            };
            let (mut best, mut since) = (f64::INFINITY, 0);
            for &c in &self.0.c {
                self.solve(&mut x, &blocks, &labels, classes, c);
                let logits = logits(&x, &test, classes);
                part.logits.push(logits.chunks_exact(classes).map(<[f64]>::to_vec).collect());
                let (loss, n) = part.loss(part.logits.len() - 1);
                if n > 0 && loss >= best {
                    since += 1;
                    // One fold alone decides when it ends; with several, the sum over folds may turn later.
                    if rounds == 1 && since >= self.0.patience {
                        break;
                    }
                } else {
                    (best, since) = (loss, 0);
                }
            }
            parts.push(part);
        }
        parts
    }

    /// The best step on the stop items, the path, and the temperature on the calibration items.
    fn choose(&self, parts: &[HeldOut]) -> (usize, Vec<PathStep>, f64) {
        let steps = parts.iter().map(|part| part.logits.len()).min().unwrap_or(0);
        let mut path = Vec::new();
        for (step, &c) in self.0.c.iter().enumerate().take(steps) {
            let (loss, n) = parts.iter().map(|p| p.loss(step)).fold((0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            if n > 0 {
                path.push(PathStep { c, loss: loss / n as f64 });
            }
        }
        if path.is_empty() {
            // Too few items to hold any out: the strongest regularisation, uncalibrated.
            return (0, vec![PathStep { c: self.0.c[0], loss: f64::NAN }], 1.0);
        }
        let chosen = (0..path.len()).min_by(|&a, &b| path[a].loss.total_cmp(&path[b].loss)).unwrap_or(0);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for part in parts {
            for i in part.of(Use::Calibrate) {
                logits.push(part.logits[chosen][i].clone());
                labels.push(part.labels[i]);
            }
        }
        (chosen, path, temperature::fit(&logits, &labels))
    }

    /// Moves `x` (weights, then biases) to the minimum for one C.
    fn solve(&self, x: &mut [f64], embeddings: &Blocks<'_>, labels: &[usize], classes: usize, c: f64) {
        let limits = Limits { tolerance: self.0.tolerance, max_iterations: self.0.max_iterations };
        softmax::solve(x, &Examples { blocks: embeddings, labels, weights: None, classes }, c, limits);
    }
}

/// What models that had not seen a fold say about it.
struct HeldOut {
    labels: Vec<usize>,
    uses: Vec<Use>,
    /// One row per item, for each step of the path.
    logits: Vec<Vec<Vec<f64>>>,
}

impl HeldOut {
    fn of(&self, wanted: Use) -> impl Iterator<Item = usize> {
        (0..self.uses.len()).filter(move |&i| self.uses[i] == wanted)
    }

    /// Sum of the log loss over the stop items, and their number. At its best temperature, because that is what the
    /// head will run at: weak regularisation is not punished for being too sure of itself.
    fn loss(&self, step: usize) -> (f64, usize) {
        let chosen: Vec<usize> = self.of(Use::Stop).collect();
        let logits: Vec<Vec<f64>> = chosen.iter().map(|&i| self.logits[step][i].clone()).collect();
        let labels: Vec<usize> = chosen.iter().map(|&i| self.labels[i]).collect();
        let t = temperature::fit(&logits, &labels);
        (logits.iter().zip(&labels).map(|(row, &label)| temperature::log_loss(row, label, t)).sum(), chosen.len())
    }
}

fn logits(x: &[f64], embeddings: &Matrix, classes: usize) -> Vec<f64> {
    let (weights, bias) = narrow(x, classes);
    let mut scores = vec![0.0f32; embeddings.rows() * classes];
    let model = Linear::new(&weights, &bias, Dtype::F32);
    model.forward(embeddings.values(), Activation::Identity, &mut scores, &mut LinearScratch::default());
    scores.into_iter().map(f64::from).collect()
}

#[cfg(test)]
mod tests;
