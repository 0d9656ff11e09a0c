//! Layer normalisation, with the residual sum that precedes it in every transformer layer.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// Layer normalisation over rows: (x − mean) / √(variance + ε) · weight + bias.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// Takes the learned weight and bias, of one length.
    ///
    /// # Panics
    /// When the lengths differ.
    #[must_use]
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, epsilon: f32) -> Self {
        assert_eq!(weight.len(), bias.len(), "one bias for each weight");
        Self { weight, bias, epsilon }
    }

    /// Length of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.weight.len()
    }

    /// Normalises every row of `x` in place.
    ///
    /// # Panics
    /// When `x` is not whole rows.
    pub fn forward(&self, x: &mut [f32]) {
        assert_eq!(x.len() % self.width().max(1), 0, "whole rows");
        AddNorm { x, residual: None, norm: self }.dispatch();
    }

    /// Adds `residual` to `x`, then normalises every row of `x`, in place.
    ///
    /// # Panics
    /// When `x` is not whole rows or `residual` has another length.
    pub fn forward_add(&self, x: &mut [f32], residual: &[f32]) {
        assert!(x.len().is_multiple_of(self.width().max(1)) && x.len() == residual.len(), "whole rows of one shape");
        AddNorm { x, residual: Some(residual), norm: self }.dispatch();
    }
}

struct AddNorm<'a> {
    x: &'a mut [f32],
    residual: Option<&'a [f32]>,
    norm: &'a LayerNorm,
}

impl SimdOp for AddNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let n = self.norm.width().max(1);
        for (i, row) in self.x.chunks_exact_mut(n).enumerate() {
            let residual = self.residual.map(|r| &r[i * n..][..n]);
            add_norm_row(isa, row, residual, self.norm);
        }
    }
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "rows are a few thousand numbers long")]
fn add_norm_row<I: Isa>(isa: I, row: &mut [f32], residual: Option<&[f32]>, norm: &LayerNorm) {
    let f = isa.f32();
    let (lanes, n) = (f.len(), row.len());
    let body = n / lanes * lanes;

    let mut sums = f.zero();
    let mut sum = 0.0;
    if let Some(residual) = residual {
        for (x, r) in row.chunks_exact_mut(lanes).zip(residual.chunks_exact(lanes)) {
            let y = f.add(f.load(x), f.load(r));
            sums = f.add(sums, y);
            f.store(y, x);
        }
        for (x, r) in row[body..].iter_mut().zip(&residual[body..]) {
            *x += r;
            sum += *x;
        }
    } else {
        for x in row.chunks_exact(lanes) {
            sums = f.add(sums, f.load(x));
        }
        sum += row[body..].iter().sum::<f32>();
    }
    let mean = (f.sum(sums) + sum) / n as f32;

    // Two passes over the row, which lies in the first-level cache: the one-pass formula loses digits when the mean is
    // large beside the deviation.
    let means = f.splat(mean);
    let mut squares = f.zero();
    for x in row.chunks_exact(lanes) {
        let d = f.sub(f.load(x), means);
        squares = f.mul_add(d, d, squares);
    }
    let rest: f32 = row[body..].iter().map(|x| (x - mean) * (x - mean)).sum();
    let scale = 1.0 / ((f.sum(squares) + rest) / n as f32 + norm.epsilon).sqrt();

    let scales = f.splat(scale);
    let learned = norm.weight.chunks_exact(lanes).zip(norm.bias.chunks_exact(lanes));
    for (x, (weight, bias)) in row.chunks_exact_mut(lanes).zip(learned) {
        let y = f.mul(f.sub(f.load(x), means), scales);
        f.store(f.mul_add(y, f.load(weight), f.load(bias)), x);
    }
    for (x, (weight, bias)) in row[body..].iter_mut().zip(norm.weight[body..].iter().zip(&norm.bias[body..])) {
        *x = (*x - mean) * scale * weight + bias;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    fn naive(x: &[f32], norm: &LayerNorm) -> Vec<f32> {
        let n = norm.width();
        x.chunks(n)
            .flat_map(|row| {
                let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
                let mean = row.iter().sum::<f64>() / n as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
                let scale = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
                (0..n)
                    .map(|i| ((row[i] - mean) * scale * f64::from(norm.weight[i]) + f64::from(norm.bias[i])) as f32)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn rows_of_all_widths_match_the_definition_with_and_without_residual() {
        for n in [1, 7, 16, 33, 384] {
            let norm = LayerNorm::new(noise(1, n), noise(2, n), 1e-5);
            let (x, residual) = (noise(3, 5 * n), noise(4, 5 * n));
            let mut got = x.clone();
            norm.forward(&mut got);
            assert!(largest_difference(&format!("layer norm {n}"), &got, &naive(&x, &norm)) < 1e-5);

            let sum: Vec<f32> = x.iter().zip(&residual).map(|(a, b)| a + b).collect();
            let mut got = x;
            norm.forward_add(&mut got, &residual);
            assert!(largest_difference(&format!("add + layer norm {n}"), &got, &naive(&sum, &norm)) < 1e-5);
        }
    }
}
