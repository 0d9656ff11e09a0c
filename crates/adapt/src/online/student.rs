//! The student of a stream: a linear model and a vote of the nearest answers, mixed, with the chance that the large
//! model would say the same.
//!
//! The vote needs a handful of answers, the linear model wins once there are hundreds. The name of an answer, embedded
//! like any text, counts as an example of it: `card_arrival` says much about a card that has not arrived.

use super::answers::Answers;
use crate::{
    matrix::{Blocks, Matrix},
    softmax::{self, Examples},
};
use understudy_learn::{
    lbfgs::{Limits, minimise},
    logistic::Logistic,
};

/// Inverse strength of the penalty on the linear model's weights.
const C: f64 = 40.0;
/// How many examples the name of an answer counts for in the linear model.
const NAME_WEIGHT: f32 = 3.0;
/// A neighbour's vote is e^(SHARPNESS · (cosine − 1)).
const SHARPNESS: f32 = 20.0;
/// The vote of nobody, so that no answer is impossible: a thousandth of a neighbour at a cosine of ½.
const FLOOR: f64 = 1e-3;
/// Weights of linear model and vote before there is evidence, and how firmly they are believed.
const MIX: [f64; 2] = [0.7, 0.5];
const MIX_SPREAD: f64 = 0.5;
/// One in so many held-out answers was farther from the others than is believed at all.
const FAREST: usize = 100;
/// Log-odds beyond which the mixture is not believed.
const LARGEST_LOG_ODDS: f64 = 8.0;

/// A linear model over the answers known so far; refitted from where it stood.
#[derive(Debug, Clone, Default)]
pub(super) struct Linear {
    x: Vec<f64>,
    classes: usize,
}

impl Linear {
    /// Fits to the rows of `answers` outside `held_out`, starting from the last fit.
    pub(super) fn refit(&mut self, answers: &Answers, rows: &[usize]) {
        let (d, classes) = (answers.dimensions(), answers.classes());
        self.grow(d, classes);
        let named = answers.named(&present(answers, rows));
        let mut values = Vec::with_capacity((rows.len() + named.len()) * d);
        rows.iter().for_each(|&row| values.extend_from_slice(answers.embedding(row)));
        named.iter().for_each(|(_, name)| values.extend_from_slice(name));
        let labels: Vec<usize> =
            rows.iter().map(|&row| answers.label(row)).chain(named.iter().map(|(class, _)| *class)).collect();
        let mut weights = vec![1.0; rows.len()];
        weights.resize(labels.len(), NAME_WEIGHT);
        let matrix = Matrix::of_finite(d, values);
        let examples =
            Examples { blocks: &Blocks::new(&matrix), labels: &labels, shares: &[], weights: Some(&weights), classes };
        // The first fit is from nothing; later ones follow a few more answers and need few steps.
        let limits = Limits { tolerance: 3e-4, max_iterations: 40 };
        softmax::solve(&mut self.x, &examples, C, limits);
    }

    /// Makes room for new classes, with weights of 0.
    fn grow(&mut self, d: usize, classes: usize) {
        let bias = self.x.split_off(self.classes * d);
        self.x.resize(classes * d, 0.0);
        self.x.extend(bias);
        self.x.resize(classes * (d + 1), 0.0);
        self.classes = classes;
    }

    /// Logits of one embedding.
    fn logits(&self, embedding: &[f32]) -> Vec<f64> {
        let (weights, bias) = self.x.split_at(self.x.len() - self.classes);
        let of_class =
            |(row, bias): (&[f64], &f64)| row.iter().zip(embedding).map(|(w, x)| w * f64::from(*x)).sum::<f64>() + bias;
        weights.chunks_exact(embedding.len()).zip(bias).map(of_class).collect()
    }
}

/// Classes with an example among `rows`.
pub(super) fn present(answers: &Answers, rows: &[usize]) -> Vec<bool> {
    let mut present = vec![false; answers.classes()];
    rows.iter().for_each(|&row| present[answers.label(row)] = true);
    present
}

/// What both parts make of an embedding: log-probabilities by class, and the cosine of the nearest answer.
#[derive(Debug, Clone)]
pub(super) struct Views {
    linear: Vec<f64>,
    vote: Vec<f64>,
    nearest: f64,
}

impl Views {
    /// Views an embedding by a linear model and the votes of `rows`. Classes that are not `present` are impossible.
    pub(super) fn new(linear: &Linear, answers: &Answers, rows: &[usize], present: &[bool], embedding: &[f32]) -> Self {
        let mut logits = linear.logits(embedding);
        let floor = FLOOR * f64::from((-0.5 * SHARPNESS).exp());
        let mut votes = vec![floor; present.len()];
        let mut nearest = -1.0f32;
        for &row in rows {
            let cosine = dot(answers.embedding(row), embedding);
            nearest = nearest.max(cosine);
            votes[answers.label(row)] += f64::from((SHARPNESS * (cosine - 1.0)).exp());
        }
        for (class, name) in answers.named(present) {
            votes[class] += f64::from((SHARPNESS * (dot(name, embedding) - 1.0)).exp());
        }
        for (class, present) in present.iter().enumerate() {
            if !present {
                (logits[class], votes[class]) = (f64::NEG_INFINITY, 0.0);
            }
        }
        let total: f64 = votes.iter().sum();
        log_softmax(&mut logits);
        Self { linear: logits, vote: votes.iter().map(|v| (v / total).ln()).collect(), nearest: f64::from(nearest) }
    }

    /// Probabilities of the mixture.
    fn mixed(&self, mix: [f64; 2]) -> Vec<f64> {
        let mut scores: Vec<f64> = self
            .linear
            .iter()
            .zip(&self.vote)
            .map(|(l, v)| if l.is_finite() { mix[0] * l + mix[1] * v } else { f64::NEG_INFINITY })
            .collect();
        log_softmax(&mut scores);
        scores.iter_mut().for_each(|score| *score = score.exp());
        scores
    }
}

/// How to read the views: the weights of the mixture, and the chance of agreement.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    mix: [f64; 2],
    agreement: Logistic,
    /// Cosine to the nearest answer below which nothing is known: hardly a held-out answer was so far from the others.
    far: f64,
}

impl Reading {
    /// Learns to read from views of answers that their models had not seen.
    pub(super) fn fit(views: &[Views], labels: &[usize]) -> Self {
        let mix = fit_mix(views, labels);
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (view, &label) in views.iter().zip(labels) {
            let (class, features) = features(view, mix);
            rows.push(features);
            targets.push(f64::from(u8::from(class == label)));
        }
        let mut nearest: Vec<f64> = views.iter().map(|view| view.nearest).collect();
        nearest.sort_by(f64::total_cmp);
        let far = nearest[nearest.len() / FAREST];
        Self { mix, agreement: Logistic::fit(&rows, &targets, 1.0), far }
    }

    /// The likeliest class and the chance that the large model says the same; 0 far from everything known.
    pub(super) fn read(&self, views: &Views) -> (usize, f64) {
        let (class, features) = features(views, self.mix);
        (class, if views.nearest < self.far { 0.0 } else { self.agreement.predict(&features) })
    }
}

/// The likeliest class; its log-odds, and how near the nearest answer is.
fn features(views: &Views, mix: [f64; 2]) -> (usize, Vec<f64>) {
    let p = views.mixed(mix);
    let class = (0..p.len()).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap_or(0);
    let log_odds = (p[class] / (1.0 - p[class]).max(1e-9)).ln().clamp(-LARGEST_LOG_ODDS, LARGEST_LOG_ODDS);
    (class, vec![log_odds, 4.0 * (views.nearest - 0.7)])
}

/// Weights of linear model and vote with the least log loss; convex in both.
fn fit_mix(views: &[Views], labels: &[usize]) -> [f64; 2] {
    let known: Vec<(&Views, usize)> =
        views.iter().zip(labels).map(|(v, l)| (v, *l)).filter(|(v, l)| v.linear[*l].is_finite()).collect();
    let mut x = MIX.to_vec();
    let n = known.len().max(1) as f64;
    minimise(&mut x, Limits { tolerance: 1e-4, max_iterations: 30 }, |x, g| {
        let mut value = 0.0;
        for (i, (x, prior)) in x.iter().zip(MIX).enumerate() {
            let gap = (x - prior) / MIX_SPREAD;
            value += 0.5 * gap * gap / n;
            g[i] = gap / MIX_SPREAD / n;
        }
        for &(view, label) in &known {
            let p = view.mixed([x[0], x[1]]);
            value -= p[label].max(1e-300).ln() / n;
            for (g, part) in g.iter_mut().zip([&view.linear, &view.vote]) {
                let expected: f64 = p.iter().zip(part).filter(|(p, _)| **p > 0.0).map(|(p, v)| p * v).sum();
                *g += (expected - part[label]) / n;
            }
        }
        value
    });
    [x[0].max(0.0), x[1].max(0.0)]
}

fn log_softmax(x: &mut [f64]) {
    let greatest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - greatest).exp()).sum();
    x.iter_mut().for_each(|x| *x -= greatest + sum.ln());
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums, so that the compiler may use wide registers.
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}
