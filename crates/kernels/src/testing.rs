//! What the tests of all kernels share: reproducible noise and the comparison that prints the largest difference.

/// `n` numbers in [−1, 1), the same for the same seed.
pub(crate) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Prints and returns the largest absolute difference; a NaN on either side counts as infinite.
pub(crate) fn largest_difference(what: &str, got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let worst = got
        .iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs())
        .fold(0f32, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) });
    println!("{what}: largest difference {worst:.2e} over {} numbers", got.len());
    worst
}

/// x (rows × inputs) times the transpose of w (outputs × inputs), plus bias, in f64.
pub(crate) fn naive_linear(x: &[f32], w: &[f32], bias: &[f32], inputs: usize) -> Vec<f32> {
    x.chunks(inputs)
        .flat_map(|row| {
            w.chunks(inputs).zip(bias).map(|(w, b)| {
                let dot: f64 = row.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                (dot + f64::from(*b)) as f32
            })
        })
        .collect()
}
