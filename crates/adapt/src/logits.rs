//! What is read off a row of scores.

/// Position of the greatest number, the first of equals.
pub(crate) fn likeliest<T: PartialOrd + Copy>(row: &[T]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// ln Σ exp(x), which makes probabilities of scores: ln p = x − this.
pub(crate) fn log_sum(row: &[f32]) -> f64 {
    let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + row.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_their_definitions_say() {
        assert_eq!(likeliest(&[0.5f32, 2.0, 2.0, -1.0]), 1);
        assert_eq!(likeliest::<f64>(&[]), 0);
        assert!((log_sum(&[1.0, 2.0, -3.0]) - [1f64, 2.0, -3.0].map(f64::exp).iter().sum::<f64>().ln()).abs() < 1e-12);
        assert!((log_sum(&[1000.0, 1000.0]) - 1000.0 - 2f64.ln()).abs() < 1e-9, "nothing overflows");
    }
}
