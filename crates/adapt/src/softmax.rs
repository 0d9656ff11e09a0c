//! Multinomial logistic regression by L-BFGS: the one objective that the head and the online student minimise.

use crate::matrix::Blocks;
use understudy_learn::lbfgs::{self, Limits};

/// Examples and how much each counts.
pub(crate) struct Examples<'a> {
    /// Embeddings.
    pub(crate) blocks: &'a Blocks<'a>,
    /// Class of each, below `classes`.
    pub(crate) labels: &'a [usize],
    /// How likely each class of an example is, for those whose target is a distribution; empty where none is.
    pub(crate) shares: &'a [Option<&'a [f32]>],
    /// Weight of each; all count 1 where there is none.
    pub(crate) weights: Option<&'a [f32]>,
    /// Number of classes.
    pub(crate) classes: usize,
}

/// Moves `x` (weights class by class, then biases) to the minimum of ½‖W‖² + C · Σ log loss, divided by C · Σ weights
/// so that tolerances mean the same for any number of examples. Biases are not penalised. Starts where `x` stands.
/// Returns the number of steps.
pub(crate) fn solve(x: &mut [f64], examples: &Examples<'_>, c: f64, limits: Limits) -> usize {
    let Examples { blocks, labels, shares, weights, classes } = *examples;
    let total = weights.map_or(labels.len() as f64, |w| w.iter().copied().map(f64::from).sum());
    let scale = 1.0 / total;
    let l2 = scale / c;
    lbfgs::minimise(x, limits, |x, g| {
        let (of_class, bias) = narrow(x, classes);
        let (loss, of_weights, of_bias) = blocks.gradient(&of_class, &bias, |row, scores| {
            // Log loss and softmax share the exponentials, which are most of the work beside the products.
            let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shares = shares.get(row).copied().flatten();
            let gap = match shares {
                None => f64::from(scores[labels[row]] - greatest),
                Some(shares) => scores.iter().zip(shares).map(|(z, q)| f64::from(q * (z - greatest))).sum(),
            };
            let mut sum = 0.0;
            for score in scores.iter_mut() {
                *score = (*score - greatest).exp();
                sum += f64::from(*score);
            }
            let weight = weights.map_or(1.0, |w| w[row]);
            let scale = weight * narrow_one(1.0 / sum);
            scores.iter_mut().for_each(|score| *score *= scale);
            match shares {
                None => scores[labels[row]] -= weight,
                Some(shares) => scores.iter_mut().zip(shares).for_each(|(score, q)| *score -= weight * q),
            }
            f64::from(weight) * (sum.ln() - gap)
        });
        let (g_weights, g_bias) = g.split_at_mut(of_weights.len());
        let mut penalty = 0.0;
        for ((g, sum), w) in g_weights.iter_mut().zip(&of_weights).zip(x) {
            *g = sum * scale + l2 * w;
            penalty += w * w;
        }
        g_bias.iter_mut().zip(&of_bias).for_each(|(g, sum)| *g = sum * scale);
        loss * scale + 0.5 * l2 * penalty
    })
}

/// The parameters as 32-bit weights (classes × dimensions) and biases.
pub(crate) fn narrow(x: &[f64], classes: usize) -> (Vec<f32>, Vec<f32>) {
    let (weights, bias) = x.split_at(x.len() - classes);
    (weights.iter().copied().map(narrow_one).collect(), bias.iter().copied().map(narrow_one).collect())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "weights and gradients are of the order of 1; f32 is their storage"
)]
fn narrow_one(x: f64) -> f32 {
    x as f32
}
