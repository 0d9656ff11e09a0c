//! Sums over rows and scaled sums.

use super::ROWS;
use rayon::prelude::*;

/// Adds the sum of each column of `x` to `sums`: the gradient of a bias.
///
/// # Panics
/// When `x` is not whole rows of `sums`' length.
pub fn add_column_sums(x: &[f32], sums: &mut [f32]) {
    let n = sums.len();
    assert!(x.len().is_multiple_of(n.max(1)), "whole rows");
    let parts: Vec<Vec<f32>> = x
        .par_chunks((ROWS * n).max(1))
        .map(|rows| {
            let mut part = vec![0.0; n];
            for row in rows.chunks_exact(n) {
                part.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            part
        })
        .collect();
    for part in &parts {
        add_scaled(part, 1.0, sums);
    }
}

/// `to += factor · x`.
///
/// # Panics
/// When the lengths differ.
pub fn add_scaled(x: &[f32], factor: f32, to: &mut [f32]) {
    assert_eq!(x.len(), to.len(), "one length");
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}

/// `to += factor · x`, for long slices.
///
/// # Panics
/// When the lengths differ.
pub fn axpy(x: &[f32], factor: f32, to: &mut [f32]) {
    assert_eq!(x.len(), to.len(), "one length");
    to.par_chunks_mut(1 << 14).zip(x.par_chunks(1 << 14)).for_each(|(to, x)| add_scaled(x, factor, to));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    #[test]
    fn column_sums_match_the_definition() {
        for (rows, n) in [(1, 1), (200, 33), (65, 384)] {
            let (x, start) = (noise(1, rows * n), noise(2, n));
            let mut got = start.clone();
            add_column_sums(&x, &mut got);
            let want: Vec<f32> = (0..n)
                .map(|j| (f64::from(start[j]) + x.chunks(n).map(|row| f64::from(row[j])).sum::<f64>()) as f32)
                .collect();
            assert!(largest_difference("column sums", &got, &want) < 2e-5);
        }
        let (x, mut got) = (noise(3, 40_000), noise(4, 40_000));
        let want: Vec<f32> = got.iter().zip(&x).map(|(a, b)| a - 0.5 * b).collect();
        axpy(&x, -0.5, &mut got);
        assert!(largest_difference("axpy", &got, &want) < 1e-6);
    }
}
