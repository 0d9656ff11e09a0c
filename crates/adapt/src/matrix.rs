//! Rows of 32-bit numbers, such as one embedding per example, and the gradient of a linear model over them.

use rayon::prelude::*;
use understudy_core::{Error, Result};
use understudy_kernels::{Activation, Dtype, Linear, LinearScratch};

/// A row-major matrix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Wraps `values`, row-major.
    ///
    /// # Errors
    /// `Invalid` when the number of values is not a whole number of rows of `columns`, or one is not finite.
    pub fn new(columns: usize, values: Vec<f32>) -> Result<Self> {
        if columns == 0 || !values.len().is_multiple_of(columns) {
            return Err(Error::invalid(format!("build matrix: {} values are not rows of {columns}", values.len())));
        }
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid(format!(
                "build matrix: row {} holds a number that is not finite",
                at / columns
            )));
        }
        Ok(Self { rows: values.len() / columns, columns, values })
    }

    /// Wraps whole rows of finite numbers.
    pub(crate) fn of_finite(columns: usize, values: Vec<f32>) -> Self {
        debug_assert!(values.len().is_multiple_of(columns) && values.iter().all(|x| x.is_finite()), "checked before");
        Self { rows: values.len() / columns, columns, values }
    }

    /// Copies rows of equal length.
    ///
    /// # Errors
    /// `Invalid` when there are none, their lengths differ or a number is not finite.
    pub fn from_rows(rows: &[Vec<f32>]) -> Result<Self> {
        let columns = rows.first().map_or(0, Vec::len);
        if let Some(at) = rows.iter().position(|row| row.len() != columns) {
            return Err(Error::invalid(format!("build matrix: row {at} has another length than the first")));
        }
        Self::new(columns, rows.concat())
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..][..self.columns]
    }

    /// All values, row-major.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// These rows, and those of `below` after them.
    ///
    /// # Errors
    /// `Invalid` when rows differ in length.
    pub fn above(&self, below: &Self) -> Result<Self> {
        if self.columns != below.columns {
            let (a, b) = (self.columns, below.columns);
            return Err(Error::invalid(format!("join matrices: rows of {a} and of {b} columns")));
        }
        let values = [self.values(), below.values()].concat();
        Ok(Self { rows: self.rows + below.rows, columns: self.columns, values })
    }

    /// Each row followed by that of `other`, both divided by √2: rows of length 1 make rows of length 1, and their products
    /// are the means of both.
    ///
    /// # Errors
    /// `Invalid` when there are not as many rows.
    pub fn beside(&self, other: &Self) -> Result<Self> {
        if self.rows != other.rows {
            return Err(Error::invalid(format!("join matrices: {} and {} rows", self.rows, other.rows)));
        }
        let pairs = (0..self.rows).flat_map(|i| self.row(i).iter().chain(other.row(i)));
        let values = pairs.map(|x| x * std::f32::consts::FRAC_1_SQRT_2).collect();
        Ok(Self { rows: self.rows, columns: self.columns + other.columns, values })
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&i| self.row(i)).copied().collect();
        Self { rows: indices.len(), columns: self.columns, values }
    }
}

/// A matrix cut into blocks of rows, each also packed as its transpose: what repeated gradients need.
pub(crate) struct Blocks<'m> {
    blocks: Vec<Block<'m>>,
    columns: usize,
}

/// Consecutive rows.
struct Block<'m> {
    first: usize,
    rows: &'m [f32],
    transposed: Linear,
}

impl<'m> Blocks<'m> {
    pub(crate) fn new(matrix: &'m Matrix) -> Self {
        let d = matrix.columns;
        // A few blocks for every thread; their number depends on the data alone, so that sums come out the same
        // whatever the machine.
        let length = matrix.rows.div_ceil(8).clamp(64, 1024).max(matrix.rows.div_ceil(64));
        let block = |(index, rows): (usize, &'m [f32])| {
            let n = rows.len() / d;
            let mut columns = vec![0.0; rows.len()];
            for (r, row) in rows.chunks_exact(d).enumerate() {
                for (c, x) in row.iter().enumerate() {
                    columns[c * n + r] = *x;
                }
            }
            Block { first: index * length, rows, transposed: Linear::new(&columns, &vec![0.0; d], Dtype::F32) }
        };
        let blocks = matrix.values.par_chunks(length * d).enumerate().map(block).collect();
        Self { blocks, columns: d }
    }

    /// Applies a linear model (weights classes × columns, one bias for each class) to every row, lets `judge` replace
    /// a row's scores by the gradient with respect to them and return its loss, and gives back the sum of the losses
    /// and of the gradients with respect to weights and biases.
    pub(crate) fn gradient(
        &self,
        weights: &[f32],
        bias: &[f32],
        judge: impl Fn(usize, &mut [f32]) -> f64 + Sync,
    ) -> (f64, Vec<f64>, Vec<f64>) {
        let (classes, d) = (bias.len(), self.columns);
        let model = Linear::new(weights, bias, Dtype::F32);
        let of_block = |block: &Block<'_>| {
            let n = block.rows.len() / d;
            let mut scratch = LinearScratch::default();
            let mut scores = vec![0.0; n * classes];
            model.forward(block.rows, Activation::Identity, &mut scores, &mut scratch);
            let mut columns = vec![0.0; n * classes];
            let (mut loss, mut of_bias) = (0.0, vec![0.0; classes]);
            for (row, scores) in scores.chunks_exact_mut(classes).enumerate() {
                loss += judge(block.first + row, scores);
                for (class, g) in scores.iter().enumerate() {
                    columns[class * n + row] = *g;
                    of_bias[class] += f64::from(*g);
                }
            }
            let mut of_weights = vec![0.0; classes * d];
            block.transposed.forward(&columns, Activation::Identity, &mut of_weights, &mut scratch);
            (loss, of_weights, of_bias)
        };
        let parts: Vec<(f64, Vec<f32>, Vec<f64>)> = self.blocks.par_iter().map(of_block).collect();
        let mut sum = (0.0, vec![0.0; classes * d], vec![0.0; classes]);
        for (loss, of_weights, of_bias) in parts {
            sum.0 += loss;
            sum.1.iter_mut().zip(&of_weights).for_each(|(sum, g)| *sum += f64::from(*g));
            sum.2.iter_mut().zip(&of_bias).for_each(|(sum, g)| *sum += g);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scores_and_gradients_equal_the_naive_sums(n in 1usize..300, d in 1usize..20, c in 1usize..20, seed in any::<u32>()) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            let x = Matrix::new(d, (0..n * d).map(|_| next()).collect()).unwrap();
            let w: Vec<f32> = (0..c * d).map(|_| next()).collect();
            let b: Vec<f32> = (0..c).map(|_| next()).collect();
            let score = |i: usize, j: usize| b[j] + (0..d).map(|k| x.row(i)[k] * w[j * d + k]).sum::<f32>();
            let seen = std::sync::Mutex::new(vec![0; n]);
            // Half the squared score as the loss: its gradient is the score itself.
            let (loss, of_weights, of_bias) = Blocks::new(&x).gradient(&w, &b, |row, scores| {
                seen.lock().unwrap()[row] += 1;
                scores.iter().map(|z| 0.5 * f64::from(*z).powi(2)).sum()
            });
            prop_assert!(seen.into_inner().unwrap().iter().all(|times| *times == 1));
            let rows = || (0..n).flat_map(|i| (0..c).map(move |j| (i, j)));
            let want: f64 = rows().map(|(i, j)| 0.5 * f64::from(score(i, j)).powi(2)).sum();
            prop_assert!((loss - want).abs() < 1e-4 * (1.0 + want));
            for j in 0..c {
                let want: f64 = (0..n).map(|i| f64::from(score(i, j))).sum();
                prop_assert!((of_bias[j] - want).abs() < 1e-3);
                for k in 0..d {
                    let want: f64 = (0..n).map(|i| f64::from(score(i, j) * x.row(i)[k])).sum();
                    prop_assert!((of_weights[j * d + k] - want).abs() < 1e-3);
                }
            }
        }
    }
}
