//! Rows of 32-bit numbers, such as one embedding per example, and the two products that fitting a head needs.

use understudy_core::{Error, Result};

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

    /// The rows at `indices`, in that order.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&i| self.row(i)).copied().collect();
        Self { rows: indices.len(), columns: self.columns, values }
    }

    /// `self` (n × d) times the transpose of `other` (c × d): n × c, into `out`.
    pub(crate) fn times_transposed(&self, other: &[f32], out: &mut [f32]) {
        let (d, c) = (self.columns, other.len() / self.columns);
        debug_assert_eq!(out.len(), self.rows * c);
        let panels = pack(other, c, d);
        for (x, out) in self.values.chunks(ROWS * d).zip(out.chunks_mut(ROWS * c)) {
            let rows = x.len() / d;
            for (p, panel) in panels.chunks_exact(d * LANES).enumerate() {
                let mut sums = [[0.0f32; LANES]; ROWS];
                if rows == ROWS {
                    let mut lines = [&x[..d]; ROWS];
                    for (r, line) in lines.iter_mut().enumerate() {
                        *line = &x[r * d..][..d];
                    }
                    multiply(lines, panel, &mut sums);
                } else {
                    for (line, sums) in x.chunks_exact(d).zip(&mut sums) {
                        let mut one = [[0.0f32; LANES]; 1];
                        multiply([line], panel, &mut one);
                        *sums = one[0];
                    }
                }
                let width = LANES.min(c - p * LANES);
                for (row, sums) in out.chunks_exact_mut(c).zip(&sums) {
                    row[p * LANES..][..width].copy_from_slice(&sums[..width]);
                }
            }
        }
    }

    /// The transpose of `left` (n × c) times `self` (n × d): c × d, into `out`.
    pub(crate) fn transposed_times(&self, left: &[f32], out: &mut [f32]) {
        let (n, d) = (self.rows, self.columns);
        let c = left.len() / n;
        debug_assert_eq!(out.len(), c * d);
        out.fill(0.0);
        // Blocks of rows that stay in the second-level cache while every pair of tiles visits them.
        for (x, g) in self.values.chunks(BLOCK * d).zip(left.chunks(BLOCK * c)) {
            for c0 in (0..c).step_by(ROWS) {
                let height = ROWS.min(c - c0);
                for d0 in (0..d).step_by(LANES) {
                    let width = LANES.min(d - d0);
                    let mut sums = [[0.0f32; LANES]; ROWS];
                    if (height, width) == (ROWS, LANES) {
                        for (x, g) in x.chunks_exact(d).zip(g.chunks_exact(c)) {
                            let x: &[f32; LANES] = x[d0..d0 + LANES].try_into().expect("the width was checked");
                            let g: &[f32; ROWS] = g[c0..c0 + ROWS].try_into().expect("the height was checked");
                            for (sums, g) in sums.iter_mut().zip(g) {
                                for (sum, x) in sums.iter_mut().zip(x) {
                                    *sum += g * x;
                                }
                            }
                        }
                    } else {
                        for (x, g) in x.chunks_exact(d).zip(g.chunks_exact(c)) {
                            for (sums, g) in sums.iter_mut().zip(&g[c0..c0 + height]) {
                                for (sum, x) in sums.iter_mut().zip(&x[d0..d0 + width]) {
                                    *sum += g * x;
                                }
                            }
                        }
                    }
                    for (row, sums) in sums.iter().enumerate().take(height) {
                        for (out, sum) in out[(c0 + row) * d + d0..][..width].iter_mut().zip(sums) {
                            *out += sum;
                        }
                    }
                }
            }
        }
    }
}

/// Columns of a packed panel.
const LANES: usize = 8;
/// Rows that are multiplied together.
const ROWS: usize = 4;
/// Rows between two visits of the output.
const BLOCK: usize = 64;

/// `other` (c × d) as panels of `LANES` columns of its transpose, padded with zeros.
fn pack(other: &[f32], c: usize, d: usize) -> Vec<f32> {
    let mut panels = vec![0.0f32; c.div_ceil(LANES) * d * LANES];
    for (row, values) in other.chunks_exact(d).enumerate() {
        let panel = &mut panels[row / LANES * d * LANES..][..d * LANES];
        for (value, slot) in values.iter().zip(panel.chunks_exact_mut(LANES)) {
            slot[row % LANES] = *value;
        }
    }
    panels
}

/// Adds the product of `R` rows with one panel to `sums`.
fn multiply<const R: usize>(lines: [&[f32]; R], panel: &[f32], sums: &mut [[f32; LANES]; R]) {
    let mut total = [[0.0f32; LANES]; R];
    for (k, column) in panel.chunks_exact(LANES).enumerate() {
        let column: &[f32; LANES] = column.try_into().expect("chunks have this length");
        for (total, line) in total.iter_mut().zip(&lines) {
            let x = line[k];
            for (sum, w) in total.iter_mut().zip(column) {
                *sum += x * w;
            }
        }
    }
    *sums = total;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_products_equal_the_naive_sums(n in 1usize..70, d in 1usize..20, c in 1usize..20, seed in any::<u32>()) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            let x = Matrix::new(d, (0..n * d).map(|_| next()).collect()).unwrap();
            let w: Vec<f32> = (0..c * d).map(|_| next()).collect();
            let g: Vec<f32> = (0..n * c).map(|_| next()).collect();
            let mut z = vec![0.0; n * c];
            x.times_transposed(&w, &mut z);
            let mut v = vec![0.0; c * d];
            x.transposed_times(&g, &mut v);
            for i in 0..n {
                for j in 0..c {
                    let want: f32 = (0..d).map(|k| x.row(i)[k] * w[j * d + k]).sum();
                    prop_assert!((z[i * c + j] - want).abs() < 1e-5);
                }
            }
            for j in 0..c {
                for k in 0..d {
                    let want: f32 = (0..n).map(|i| g[i * c + j] * x.row(i)[k]).sum();
                    prop_assert!((v[j * d + k] - want).abs() < 1e-5);
                }
            }
        }
    }
}
