//! Fits a classification head: multinomial logistic regression on frozen, unit-length embeddings.
//!
//! Parts of the data are held out in turn ([`crate::split`]). The models fitted on the rest choose how strongly to
//! regularise (early stopping along a path from strong to weak) on one half of what was held out and fit the
//! temperature on the other half. The head itself is then fitted on everything. A certificate's items are none of
//! these: they come later, from elsewhere.

pub use crate::cross_fit::{PathStep, Unseen};
use crate::{
    cross_fit::{Chosen, Rule, cross_fit},
    matrix::{Blocks, Matrix},
    softmax::{self, Examples, narrow},
    split::Place,
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

impl FittedHead {
    /// A head that was trained together with its encoder, `weights` (classes × dimensions) and biases, with the
    /// temperature that fits `embeddings`: what the trained encoder makes of examples that training did not see.
    /// `path` has the epochs and which was kept; `seen` the examples that trained and those that chose the epoch.
    ///
    /// # Errors
    /// `Data` when the numbers are not finite or the shapes differ.
    pub fn beside_encoder(
        classes: Vec<String>,
        (weights, bias): (Vec<f32>, Vec<f32>),
        embeddings: &Matrix,
        labels: &[usize],
        path: (Vec<PathStep>, usize),
        seen: (usize, usize),
    ) -> Result<(Self, Unseen)> {
        let head = Head::new(classes, weights, bias, 1.0)?;
        let n = head.labels().len();
        let model = Linear::new(head.weights(), head.bias(), Dtype::F32);
        if embeddings.rows() > 0 && embeddings.columns() != model.inputs() || labels.len() != embeddings.rows() {
            return Err(Error::data("calibrate head: embeddings, labels and head do not fit together"));
        }
        let mut scores = vec![0.0f32; embeddings.rows() * n];
        model.forward(embeddings.values(), Activation::Identity, &mut scores, &mut LinearScratch::default());
        let logits: Vec<Vec<f64>> =
            scores.chunks_exact(n).map(|row| row.iter().map(|&z| f64::from(z)).collect()).collect();
        let temperature = if labels.is_empty() { 1.0 } else { temperature::fit(&logits, labels) };
        let head = Head::new(head.labels().to_vec(), head.weights().to_vec(), head.bias().to_vec(), temperature)?;
        let (path, step) = path;
        let c = path.get(step).map_or(0.0, |step| step.c);
        let (n_train, n_stop) = seen;
        let unseen = Unseen { logits, labels: labels.to_vec(), items: (0..labels.len()).collect() };
        Ok((Self { head, c, path, n_train, n_stop, n_calibrate: labels.len() }, unseen))
    }

    /// A model fitted on `n` examples at the step that was chosen.
    pub(crate) fn of(head: Head, n: usize, chosen: Chosen) -> (Self, Unseen) {
        let fitted = Self {
            head,
            c: chosen.path[chosen.step].c,
            path: chosen.path,
            n_train: n,
            n_stop: chosen.n_stop,
            n_calibrate: chosen.n_calibrate,
        };
        (fitted, chosen.unseen)
    }
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
        self.fit_and_keep(data).map(|(fitted, _)| fitted)
    }

    /// As [`CheckedHeadParams::fit`], and what models that had not seen an item say about it: what
    /// [`crate::rejection`] needs.
    ///
    /// # Errors
    /// As [`CheckedHeadParams::fit`].
    pub fn fit_and_keep(&self, data: Labelled<'_>) -> Result<(FittedHead, Unseen)> {
        self.fit_to_shares(data, &[])
    }

    /// As [`CheckedHeadParams::fit_and_keep`], learning how likely each class of an example is where `shares` says so (one
    /// entry for each example, or none at all). What was held out is judged by the labels.
    ///
    /// # Errors
    /// As [`CheckedHeadParams::fit`]; `Invalid` too when shares are no distribution over the classes.
    pub fn fit_to_shares(&self, data: Labelled<'_>, shares: &[Option<Vec<f32>>]) -> Result<(FittedHead, Unseen)> {
        let (n, classes) = (data.embeddings.rows(), data.classes.len());
        if data.labels.len() != n || data.places.len() != n {
            return Err(Error::invalid("fit head: embeddings, labels and places differ in number"));
        }
        check_labels(data.labels, classes)?;
        check_shares(shares, n, classes)?;
        let rule = Rule { steps: &self.0.c, patience: self.0.patience, all_folds_below: self.0.cross_fit_below };
        let chosen = cross_fit(data.labels, data.places, rule, |rest, out, show| {
            let (train, test) = (data.embeddings.select(rest), data.embeddings.select(out));
            let labels: Vec<usize> = rest.iter().map(|&i| data.labels[i]).collect();
            let shares = shares_of(shares, rest.iter().copied());
            let blocks = Blocks::new(&train);
            let mut x = vec![0.0; classes * (train.columns() + 1)];
            for &c in &self.0.c {
                self.solve(
                    &mut x,
                    &Examples { blocks: &blocks, labels: &labels, shares: &shares, weights: None, classes },
                    c,
                );
                let logits = logits(&x, &test, classes);
                if show(logits.chunks_exact(classes).map(<[f64]>::to_vec).collect()).is_break() {
                    break;
                }
            }
            Ok::<_, Error>(())
        })?;
        let mut x = vec![0.0; classes * (data.embeddings.columns() + 1)];
        let blocks = Blocks::new(data.embeddings);
        let c = chosen.path[chosen.step].c;
        let shares = shares_of(shares, 0..n);
        let all = Examples { blocks: &blocks, labels: data.labels, shares: &shares, weights: None, classes };
        self.solve(&mut x, &all, c);
        let (weights, bias) = narrow(&x, classes);
        let head = Head::new(data.classes.to_vec(), weights, bias, chosen.temperature)?;
        Ok(FittedHead::of(head, n, chosen))
    }

    /// Moves `x` (weights, then biases) to the minimum for one C.
    fn solve(&self, x: &mut [f64], examples: &Examples<'_>, c: f64) {
        let limits = Limits { tolerance: self.0.tolerance, max_iterations: self.0.max_iterations };
        softmax::solve(x, examples, c, limits);
    }
}

/// The shares of some examples; empty where there are none at all.
pub(crate) fn shares_of(shares: &[Option<Vec<f32>>], rows: impl Iterator<Item = usize>) -> Vec<Option<&[f32]>> {
    if shares.is_empty() { Vec::new() } else { rows.map(|i| shares[i].as_deref()).collect() }
}

/// Shares are a distribution over the classes, for each example or for none.
pub(crate) fn check_shares(shares: &[Option<Vec<f32>>], n: usize, classes: usize) -> Result<()> {
    let fine = |shares: &Vec<f32>| {
        let whole: f64 = shares.iter().map(|p| f64::from(*p)).sum();
        shares.len() == classes && shares.iter().all(|p| (0.0..=1.0).contains(p)) && (whole - 1.0).abs() < 1e-3
    };
    if (shares.is_empty() || shares.len() == n) && shares.iter().flatten().all(fine) {
        return Ok(());
    }
    Err(Error::invalid("fit head: shares must be one distribution over the classes for each example"))
}

/// Every label has a name, and there are two to tell apart.
pub(crate) fn check_labels(labels: &[usize], classes: usize) -> Result<()> {
    let mut counts = vec![0usize; classes];
    for &label in labels {
        *counts.get_mut(label).ok_or_else(|| Error::invalid(format!("fit head: label {label} has no name")))? += 1;
    }
    if counts.iter().filter(|count| **count > 0).count() < 2 {
        return Err(Error::invalid("fit head: all examples have the same label; a classifier needs two"));
    }
    Ok(())
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
