//! Principal directions of a symmetric matrix, by one-sided Jacobi rotations (Hestenes, *Inversion of Matrices by
//! Biorthogonalization*, 1958).
//!
//! Rotating pairs of rows of a positive semidefinite matrix until all are at right angles leaves each eigenvector as a
//! row, its eigenvalue as the row's length. Only rows are touched, which suits memory; some seconds for 768 rows.

/// Most sweeps over all pairs.
const MOST_SWEEPS: usize = 30;
/// Cosine below which two rows count as at right angles.
const TOLERANCE: f64 = 1e-9;

/// Eigenvalues, falling, and eigenvectors as rows (row-major) of a symmetric positive semidefinite matrix.
///
/// # Panics
/// When `matrix` is not `n × n`.
#[must_use]
pub fn symmetric(mut matrix: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(matrix.len(), n * n, "a square matrix");
    // What is this small in comparison is rounding: it has no direction of its own.
    let scale = matrix.iter().map(|x| x * x).sum::<f64>().sqrt();
    let negligible = (1e-13 * scale).powi(2);
    for _ in 0..MOST_SWEEPS {
        let mut turned = false;
        for i in 0..n {
            for j in i + 1..n {
                let (upper, lower) = matrix.split_at_mut(j * n);
                let (a, b) = (&mut upper[i * n..][..n], &mut lower[..n]);
                let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
                if ab.abs() <= TOLERANCE * (aa * bb).sqrt() || aa * bb <= negligible * negligible {
                    continue;
                }
                turned = true;
                let zeta = (bb - aa) / (2.0 * ab);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let c = 1.0 / (1.0 + t * t).sqrt();
                let s = c * t;
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                }
            }
        }
        if !turned {
            break;
        }
    }
    let mut order: Vec<(f64, usize)> =
        matrix.chunks_exact(n).map(|row| dot(row, row).sqrt()).enumerate().map(|(i, length)| (length, i)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let vectors = order.iter().flat_map(|&(length, i)| {
        let row = &matrix[i * n..][..n];
        row.iter().map(move |x| if length > 0.0 { x / length } else { 0.0 })
    });
    (order.iter().map(|(length, _)| *length).collect(), vectors.collect())
}

/// Eight sums side by side, which the processor adds at once.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_matrix_is_put_together_again_from_its_directions(n in 1usize..24, rank in 1usize..24, seed in any::<u32>()) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f64::from(state >> 8) / f64::from(1 << 24) - 0.5
            };
            let x: Vec<f64> = (0..n * rank).map(|_| next()).collect();
            let entry = |i: usize, j: usize| (0..rank).map(|k| x[i * rank + k] * x[j * rank + k]).sum::<f64>();
            let a: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
            let (values, vectors) = symmetric(a.clone(), n);
            prop_assert!(values.is_sorted_by(|a, b| a >= b));
            for i in 0..n {
                for j in 0..n {
                    let again: f64 = (0..n).map(|k| values[k] * vectors[k * n + i] * vectors[k * n + j]).sum();
                    prop_assert!((again - a[i * n + j]).abs() < 1e-7, "{} for {}", again, a[i * n + j]);
                }
            }
        }
    }
}
