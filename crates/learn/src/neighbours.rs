//! Nearest neighbours by cosine, exactly: every stored vector is compared.

use serde::{Deserialize, Serialize};

/// Stored unit vectors, each with a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    width: usize,
    /// Vectors one after the other, each of length 1.
    vectors: Vec<f32>,
    values: Vec<f64>,
}

impl Neighbours {
    /// Keeps vectors of equal width with their values; each vector is brought to length 1.
    ///
    /// # Panics
    /// When the vectors differ in width or in number from the values, or there are none.
    #[must_use]
    pub fn new<'a>(vectors: impl IntoIterator<Item = &'a [f32]>, values: Vec<f64>) -> Self {
        let mut flat = Vec::new();
        let mut width = 0;
        for vector in vectors {
            assert!(flat.is_empty() || vector.len() == width, "vectors of equal width");
            width = vector.len();
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            flat.extend(vector.iter().map(|x| x / length));
        }
        assert!(width > 0 && flat.len() == width * values.len(), "one value for each vector, and at least one");
        Self { width, vectors: flat, values }
    }

    /// Mean value of the `k` nearest; of equals, those stored first. All of them when there are fewer.
    #[must_use]
    pub fn mean(&self, query: &[f32], k: usize) -> f64 {
        let near = self.nearest(query, k);
        near.iter().map(|&(place, _)| self.values[place]).sum::<f64>() / near.len() as f64
    }

    /// Places of the `k ≥ 1` nearest with their products with the query, nearest first.
    #[must_use]
    pub fn nearest(&self, query: &[f32], k: usize) -> Vec<(usize, f32)> {
        let product = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
        let mut all: Vec<(usize, f32)> = self.vectors.chunks_exact(self.width).map(product).enumerate().collect();
        let k = k.clamp(1, all.len());
        let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        all.select_nth_unstable_by(k - 1, order);
        all.truncate(k);
        all.sort_unstable_by(order);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_sorting_everything_finds() {
        let vectors: Vec<Vec<f32>> =
            (0..200_u16).map(|i| (0..8_u16).map(|j| f32::from((i * 37 + j * j * 11) % 53) - 26.0).collect()).collect();
        let values: Vec<f64> = (0..200_u16).map(|i| f64::from(i % 7)).collect();
        let stored = Neighbours::new(vectors.iter().map(Vec::as_slice), values.clone());
        let query = &vectors[13];
        let cosine = |v: &[f32]| {
            let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
            v.iter().zip(query).map(|(a, b)| a * b).sum::<f32>() / length(v) / length(query)
        };
        let mut naive: Vec<usize> = (0..200).collect();
        naive.sort_by(|&a, &b| cosine(&vectors[b]).total_cmp(&cosine(&vectors[a])));
        let found = stored.nearest(query, 10);
        assert!(found.iter().zip(&naive).all(|(f, &n)| (cosine(&vectors[f.0]) - cosine(&vectors[n])).abs() < 1e-5));
        assert_eq!(found[0].0, naive[0]);
        assert!((stored.mean(query, 500) - values.iter().sum::<f64>() / 200.0).abs() < 1e-12);
    }
}
