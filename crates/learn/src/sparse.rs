//! Sparse vectors: a few places of a wide row, each with its value.

/// Places and values, places rising.
pub type Sparse = Vec<(u32, f32)>;

/// Product with a dense vector; places beyond its end count as 0.
#[must_use]
pub fn dot(row: &[(u32, f32)], weights: &[f64]) -> f64 {
    row.iter().filter_map(|&(place, value)| Some(f64::from(value) * weights.get(place as usize)?)).sum()
}

/// Adds `factor` times the row to a dense vector.
pub fn add(to: &mut [f64], factor: f64, row: &[(u32, f32)]) {
    for &(place, value) in row {
        if let Some(to) = to.get_mut(place as usize) {
            *to += factor * f64::from(value);
        }
    }
}

/// Product of two sparse vectors.
#[must_use]
pub fn product(a: &[(u32, f32)], b: &[(u32, f32)]) -> f64 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.0 == y.0 {
            sum += f64::from(x.1) * f64::from(y.1);
        }
        i += usize::from(x.0 <= y.0);
        j += usize::from(y.0 <= x.0);
    }
    sum
}
