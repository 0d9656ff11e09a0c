//! Ridge regression: least squares with a penalty on squared weights (not on the intercept), solved exactly through the
//! Cholesky factor of the normal equations (Hoerl & Kennard, 1970).

use crate::cholesky::solve;
use serde::{Deserialize, Serialize};

/// A fitted regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ridge {
    /// One weight for each feature.
    pub weights: Vec<f64>,
    /// Value where all features are 0.
    pub intercept: f64,
}

impl Ridge {
    /// Minimises the sum of squared errors plus `l2 · |weights|²`, as scikit-learn's `Ridge(alpha=l2)`. `l2` must be
    /// positive: it is what makes the equations solvable for any rows.
    ///
    /// # Panics
    /// When there are no rows, the rows differ in width or number from the targets, or `l2` is not positive.
    #[must_use]
    pub fn fit(rows: &[Vec<f64>], targets: &[f64], l2: f64) -> Self {
        assert!(!rows.is_empty() && rows.len() == targets.len(), "one target for each row");
        assert!(l2 > 0.0, "a positive penalty");
        let (n, width) = (rows.len() as f64, rows[0].len());
        assert!(rows.iter().all(|row| row.len() == width), "rows of equal width");
        let mut means = vec![0.0; width];
        rows.iter().for_each(|row| means.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / n));
        let target = targets.iter().sum::<f64>() / n;
        // Lower triangle of XᵀX + l2·I, row by row, and Xᵀy, both of centred values.
        let mut gram = vec![0.0; width * width];
        let mut right = vec![0.0; width];
        let mut centred = vec![0.0; width];
        for (row, y) in rows.iter().zip(targets) {
            for ((c, value), mean) in centred.iter_mut().zip(row).zip(&means) {
                *c = value - mean;
            }
            for i in 0..width {
                right[i] += centred[i] * (y - target);
                for j in 0..=i {
                    gram[i * width + j] += centred[i] * centred[j];
                }
            }
        }
        (0..width).for_each(|i| gram[i * width + i] += l2);
        let weights = solve(gram, right);
        let intercept = target - weights.iter().zip(&means).map(|(w, m)| w * m).sum::<f64>();
        Self { weights, intercept }
    }

    /// The prediction for a row; features beyond the fitted ones are ignored, missing ones are 0.
    #[must_use]
    pub fn predict(&self, row: &[f64]) -> f64 {
        self.intercept + self.weights.iter().zip(row).map(|(w, x)| w * x).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_scikit_learn() {
        // Ridge(alpha=1.5).fit(x, y), version 1.9.1
        let x = [[0.5, 1.0], [1.5, -0.3], [-0.7, 0.2], [2.0, 0.9], [-1.2, -1.1], [0.1, -0.4], [0.9, 0.3], [-0.2, 1.4]];
        let y = [1.2, 0.7, 0.0, 1.9, -0.4, 1.0, 0.3, 0.1];
        let rows: Vec<Vec<f64>> = x.iter().map(|row| row.to_vec()).collect();
        let fit = Ridge::fit(&rows, &y, 1.5);
        let expected = [0.4376702019271486, 0.12312165010287425, 0.4105641392756901];
        let found = [fit.weights[0], fit.weights[1], fit.intercept];
        let largest = found.iter().zip(expected).map(|(a, b): (&f64, f64)| (a - b).abs()).fold(0.0, f64::max);
        println!("largest difference {largest:e}");
        assert!(largest < 1e-12, "{found:?}");
    }

    #[test]
    fn the_gradient_vanishes_at_the_solution_even_with_more_features_than_rows() {
        let rows: Vec<Vec<f64>> =
            (0..6_u32).map(|i| (0..9_u32).map(|j| f64::from((i * 7 + j * j * 3) % 11)).collect()).collect();
        let targets = [1.0, 0.0, 2.0, 1.0, 0.5, -1.0];
        let fit = Ridge::fit(&rows, &targets, 0.7);
        for j in 0..9 {
            let pull: f64 = rows.iter().zip(targets).map(|(row, y)| (y - fit.predict(row)) * row[j]).sum();
            assert!((pull - 0.7 * fit.weights[j]).abs() < 1e-9);
        }
    }
}
