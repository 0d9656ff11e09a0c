//! Logistic regression: the log-odds of a target as a weighted sum of features, with a penalty on squared weights
//! (not on the intercept), as scikit-learn's `LogisticRegression` with `C = 1 / l2`.

use crate::lbfgs::{Limits, minimise};
use serde::{Deserialize, Serialize};

/// A fitted regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// One weight for each feature.
    pub weights: Vec<f64>,
    /// Log-odds where all features are 0.
    pub intercept: f64,
}

impl Logistic {
    /// Fits to rows of equal width and targets in [0, 1] (a share counts as that part of a yes). `l2 ≥ 0` is the
    /// penalty: the sum of log-losses plus `l2 / 2 · |weights|²` is minimised.
    ///
    /// # Panics
    /// When there are no rows or the rows differ in width or number from the targets.
    #[must_use]
    pub fn fit(rows: &[Vec<f64>], targets: &[f64], l2: f64) -> Self {
        assert!(!rows.is_empty() && rows.len() == targets.len(), "one target for each row");
        let width = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == width), "rows of equal width");
        let n = rows.len() as f64;
        let mean = (targets.iter().sum::<f64>() + 0.5) / (n + 1.0);
        // Starts at the smoothed log-odds of the target.
        let mut x = vec![0.0; width + 1];
        x[width] = (mean / (1.0 - mean)).ln();
        let limits = Limits { tolerance: 1e-7, max_iterations: 500 };
        minimise(&mut x, limits, |x, gradient| {
            let (weights, intercept) = x.split_at(width);
            gradient.fill(0.0);
            let mut loss = 0.0;
            for (row, &target) in rows.iter().zip(targets) {
                let score = intercept[0] + dot(weights, row);
                loss += softplus(score) - target * score;
                let slope = sigmoid(score) - target;
                gradient.iter_mut().zip(row).for_each(|(g, value)| *g += slope * value);
                gradient[width] += slope;
            }
            // A mean, so that the tolerance means the same for any number of rows. The faint pull on the intercept
            // keeps it finite where the target never varies.
            for (g, w) in gradient.iter_mut().zip(weights) {
                *g += l2 * w;
            }
            gradient[width] += 1e-6 * intercept[0];
            gradient.iter_mut().for_each(|g| *g /= n);
            (loss + 0.5 * l2 * dot(weights, weights) + 0.5e-6 * intercept[0] * intercept[0]) / n
        });
        let intercept = x.pop().expect("the intercept comes last");
        Self { weights: x, intercept }
    }

    /// Log-odds of a row; features beyond the fitted ones are ignored, missing ones are 0.
    #[must_use]
    pub fn score(&self, row: &[f64]) -> f64 {
        self.intercept + dot(&self.weights, row)
    }

    /// Probability for a row.
    #[must_use]
    pub fn predict(&self, row: &[f64]) -> f64 {
        sigmoid(self.score(row))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// ln(1 + eˣ) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_scikit_learn() {
        // LogisticRegression(C=0.5, tol=1e-12).fit(x, y), version 1.9.1
        let x = [[0.5, 1.0], [1.5, -0.3], [-0.7, 0.2], [2.0, 0.9], [-1.2, -1.1], [0.1, -0.4], [0.9, 0.3], [-0.2, 1.4]];
        let y = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
        let rows: Vec<Vec<f64>> = x.iter().map(|row| row.to_vec()).collect();
        let fit = Logistic::fit(&rows, &y, 2.0);
        let expected = [0.6813355175001391, -0.046687096957090383, -0.23161981430035722];
        let found = [fit.weights[0], fit.weights[1], fit.intercept];
        let largest = found.iter().zip(expected).map(|(a, b): (&f64, f64)| (a - b).abs()).fold(0.0, f64::max);
        println!("largest difference {largest:e}");
        assert!(largest < 1e-5, "{found:?}");
    }

    #[test]
    fn a_target_that_never_varies_gives_a_finite_score() {
        let rows = vec![vec![1.0], vec![2.0], vec![3.0]];
        for target in [0.0, 1.0] {
            let fit = Logistic::fit(&rows, &[target; 3], 1.0);
            assert!(fit.score(&[2.0]).is_finite() && (fit.predict(&[2.0]) - target).abs() < 0.2);
        }
    }
}
