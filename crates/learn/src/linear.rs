//! Ridge regression of a number on sparse features, as scikit-learn's `Ridge(alpha = l2)`: squared error plus a penalty
//! on squared weights, the intercept free. Solved by conjugate gradients on the centred normal equations (Hestenes &
//! Stiefel, 1952), so that width costs memory only where a row has a value.
//!
//! Seen as a Bayesian model, a feature multiplied by √v has a prior variance of v times that of the others: blocks of
//! features of different weight need only one penalty.

use crate::sparse::{Sparse, add, dot};
use serde::{Deserialize, Serialize};

/// Residual, relative to the start, at which the solution counts as found.
const TOLERANCE: f64 = 1e-8;
/// Most iterations.
const MOST: usize = 500;

/// A fitted regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// One weight for each place.
    pub weights: Vec<f64>,
    /// Prediction where every feature is 0.
    pub intercept: f64,
}

impl Linear {
    /// Fits to rows whose places lie below `width`. Minimises `|y − Xw − b|² + l2 · |w|²`.
    ///
    /// # Panics
    /// When there are no rows, or not one target for each, or `l2` is not positive.
    #[must_use]
    pub fn fit(rows: &[Sparse], width: usize, targets: &[f64], l2: f64) -> Self {
        assert!(!rows.is_empty() && rows.len() == targets.len(), "one target for each row");
        assert!(l2 > 0.0, "a positive penalty makes the solution unique");
        let n = rows.len() as f64;
        let mean_target = targets.iter().sum::<f64>() / n;
        let mut means = vec![0.0; width];
        rows.iter().for_each(|row| add(&mut means, 1.0 / n, row));
        // (XᵀX + l2) w = Xᵀy with centred columns, which are never formed: X w = rows · w − means · w.
        let transposed = |residuals: &[f64]| {
            let mut out = vec![0.0; width];
            rows.iter().zip(residuals).for_each(|(row, &residual)| add(&mut out, residual, row));
            let sum: f64 = residuals.iter().sum();
            out.iter_mut().zip(&means).for_each(|(out, mean)| *out -= sum * mean);
            out
        };
        let times = |w: &[f64]| {
            let shift = inner(&means, w);
            rows.iter().map(|row| dot(row, w) - shift).collect::<Vec<f64>>()
        };
        let centred: Vec<f64> = targets.iter().map(|target| target - mean_target).collect();
        let mut weights = vec![0.0; width];
        let mut residual = transposed(&centred);
        let mut direction = residual.clone();
        let mut norm = inner(&residual, &residual);
        let enough = norm * TOLERANCE * TOLERANCE;
        for _ in 0..MOST {
            if norm <= enough {
                break;
            }
            let mut image = transposed(&times(&direction));
            image.iter_mut().zip(&direction).for_each(|(image, d)| *image += l2 * d);
            let step = norm / inner(&direction, &image);
            weights.iter_mut().zip(&direction).for_each(|(w, d)| *w += step * d);
            residual.iter_mut().zip(&image).for_each(|(r, i)| *r -= step * i);
            let next = inner(&residual, &residual);
            direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / norm * *d);
            norm = next;
        }
        let intercept = mean_target - inner(&means, &weights);
        Self { weights, intercept }
    }

    /// The predicted number.
    #[must_use]
    pub fn predict(&self, row: &[(u32, f32)]) -> f64 {
        self.intercept + dot(row, &self.weights)
    }
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_scikit_learn() {
        // Ridge(alpha=0.7).fit(x, y), version 1.9.1
        let x: [[f32; 3]; 6] =
            [[0.5, 1.0, 0.0], [1.5, -0.3, 2.0], [-0.7, 0.2, 0.0], [2.0, 0.9, -1.0], [-1.2, 0.0, 0.4], [0.1, -0.4, 0.0]];
        let y = [1.0, 0.5, -0.3, 2.0, -1.5, 0.2];
        let rows: Vec<Sparse> = x
            .iter()
            .map(|row| (0..3_u32).zip(row.iter().copied()).filter(|(_, value)| value.abs() > 0.0).collect())
            .collect();
        let fit = Linear::fit(&rows, 3, &y, 0.7);
        let expected = [0.7515446692362255, 0.27865910050718184, -0.2781915068553571, 0.04099118912990635];
        let found = [fit.weights[0], fit.weights[1], fit.weights[2], fit.intercept];
        let largest = found.iter().zip(expected).map(|(a, b): (&f64, f64)| (a - b).abs()).fold(0.0, f64::max);
        println!("largest difference {largest:e}");
        assert!(largest < 1e-7, "{found:?}");
    }

    #[test]
    fn a_wider_prior_for_a_block_is_a_scale_of_its_features() {
        // Two copies of one feature share the weight by their prior variances.
        let rows: Vec<Sparse> = (0..20_u8).map(|i| vec![(0, f32::from(i)), (1, 3.0 * f32::from(i))]).collect();
        let targets: Vec<f64> = (0..20_u8).map(f64::from).collect();
        let fit = Linear::fit(&rows, 2, &targets, 1.0);
        assert!((fit.weights[1] - 3.0 * fit.weights[0]).abs() < 1e-9);
        assert!((fit.predict(&[(0, 10.0), (1, 30.0)]) - 10.0).abs() < 0.05);
    }
}
