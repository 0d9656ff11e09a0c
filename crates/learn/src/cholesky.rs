//! The Cholesky factor of a positive definite matrix, and the equations that it solves.

/// The lower factor L of a positive definite `n × n` matrix, L·Lᵀ = matrix, row by row. Only the lower triangle of the
/// matrix is read; above the diagonal the result keeps what was there. A pivot that rounding made negative counts as
/// the smallest positive number.
///
/// # Panics
/// When the matrix does not have `n · n` numbers.
#[must_use]
pub fn factor(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    assert_eq!(matrix.len(), n * n, "a square matrix");
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| matrix[i * n + k] * matrix[j * n + k]).sum();
            let rest = matrix[i * n + j] - dot;
            matrix[i * n + j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / matrix[j * n + j] };
        }
    }
    matrix
}

/// Solves `matrix · x = right` for a positive definite matrix given by its lower triangle.
///
/// # Panics
/// When the matrix is not square with one row for each number on the right.
#[must_use]
pub fn solve(matrix: Vec<f64>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    let lower = factor(matrix, n);
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| lower[i * n + k] * right[k]).sum();
        right[i] = (right[i] - dot) / lower[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| lower[k * n + i] * right[k]).sum();
        right[i] = (right[i] - dot) / lower[i * n + i];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_times_its_transpose_is_the_matrix() {
        let matrix = [4.0, 0.0, 0.0, 2.0, 5.0, 0.0, -1.0, 0.5, 3.0];
        let lower = factor(matrix.to_vec(), 3);
        for i in 0..3 {
            for j in 0..=i {
                let product: f64 = (0..=j).map(|k| lower[i * 3 + k] * lower[j * 3 + k]).sum();
                assert!((product - matrix[i * 3 + j]).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn the_solution_solves() {
        let x = solve(vec![4.0, 0.0, 0.0, 2.0, 5.0, 0.0, -1.0, 0.5, 3.0], vec![1.0, 2.0, 3.0]);
        let full = [[4.0, 2.0, -1.0], [2.0, 5.0, 0.5], [-1.0, 0.5, 3.0]];
        for (row, right) in full.iter().zip([1.0, 2.0, 3.0]) {
            let left: f64 = row.iter().zip(&x).map(|(a, b): (&f64, &f64)| a * b).sum();
            assert!((left - right).abs() < 1e-13);
        }
    }
}
