//! Layer normalisation of a residual sum, forward with what the backward pass needs, and backward.

use super::{Dropout, ROWS};
use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// `out = (s − mean) / √(variance + ε) · weight + bias` for each row of s = dropout(x) + residual.
pub struct NormForward<'a> {
    /// Rows in, normalised rows (before weight and bias) out: what the backward pass needs.
    pub x: &'a mut [f32],
    /// Added to x.
    pub residual: Option<&'a [f32]>,
    /// Dropout of x, before the sum.
    pub dropout: Option<Dropout>,
    /// Learned factors, one for each column.
    pub weight: &'a [f32],
    /// Learned offsets.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
    /// 1 / √(variance + ε) of each row, for the backward pass.
    pub scales: &'a mut [f32],
    /// The result.
    pub out: &'a mut [f32],
}

impl NormForward<'_> {
    /// Computes all rows.
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn run(self) {
        let n = self.weight.len().max(1);
        assert!(self.x.len() == self.scales.len() * n && self.out.len() == self.x.len(), "rows in, rows out");
        assert!(
            self.residual.is_none_or(|r| r.len() == self.x.len()) && self.bias.len() == self.weight.len(),
            "one shape"
        );
        let (residual, dropout, weight, bias, epsilon) =
            (self.residual, self.dropout, self.weight, self.bias, self.epsilon);
        let blocks = self.x.par_chunks_mut(ROWS * n).zip(self.out.par_chunks_mut(ROWS * n));
        blocks.zip(self.scales.par_chunks_mut(ROWS)).enumerate().for_each(|(block, ((x, out), scales))| {
            let first = block * ROWS * n;
            let residual = residual.map(|r| &r[first..first + x.len()]);
            ForwardRows { x, residual, dropout, first, weight, bias, epsilon, scales, out }.dispatch();
        });
    }
}

struct ForwardRows<'a> {
    x: &'a mut [f32],
    residual: Option<&'a [f32]>,
    dropout: Option<Dropout>,
    first: usize,
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
    scales: &'a mut [f32],
    out: &'a mut [f32],
}

impl SimdOp for ForwardRows<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "rows are a few thousand numbers long")]
    fn eval<I: Isa>(self, isa: I) {
        let f = isa.f32();
        let (lanes, n) = (f.len(), self.weight.len());
        let body = n / lanes * lanes;
        for (i, (row, out)) in self.x.chunks_exact_mut(n).zip(self.out.chunks_exact_mut(n)).enumerate() {
            if let Some(dropout) = self.dropout {
                dropout.apply(row, self.first + i * n);
            }
            if let Some(residual) = self.residual {
                row.iter_mut().zip(&residual[i * n..][..n]).for_each(|(x, r)| *x += r);
            }
            let mut sums = f.zero();
            for x in row.chunks_exact(lanes) {
                sums = f.add(sums, f.load(x));
            }
            let mean = (f.sum(sums) + row[body..].iter().sum::<f32>()) / n as f32;
            // Two passes: the one-pass formula loses digits when the mean is large beside the deviation.
            let means = f.splat(mean);
            let mut squares = f.zero();
            for x in row.chunks_exact(lanes) {
                let d = f.sub(f.load(x), means);
                squares = f.mul_add(d, d, squares);
            }
            let rest: f32 = row[body..].iter().map(|x| (x - mean) * (x - mean)).sum();
            let scale = 1.0 / ((f.sum(squares) + rest) / n as f32 + self.epsilon).sqrt();
            self.scales[i] = scale;
            for ((x, out), (weight, bias)) in row.iter_mut().zip(out).zip(self.weight.iter().zip(self.bias)) {
                *x = (*x - mean) * scale;
                *out = *x * weight + bias;
            }
        }
    }
}

/// The gradient of [`NormForward`] with respect to the sum it normalises, and to weight and bias.
pub struct NormBackward<'a> {
    /// Normalised rows, as the forward pass left them.
    pub normalised: &'a [f32],
    /// Scales of the rows, as the forward pass left them.
    pub scales: &'a [f32],
    /// Learned factors.
    pub weight: &'a [f32],
    /// Gradient with respect to the result in, with respect to the sum out.
    pub grad: &'a mut [f32],
    /// Gradients of weight and bias, added to what is there; `None` when they are frozen.
    pub learned: Option<(&'a mut [f32], &'a mut [f32])>,
}

impl NormBackward<'_> {
    /// Computes all rows.
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn run(self) {
        let n = self.weight.len().max(1);
        assert!(
            self.normalised.len() == self.scales.len() * n && self.grad.len() == self.normalised.len(),
            "one shape"
        );
        let (weight, wanted) = (self.weight, self.learned.is_some());
        let blocks = self.grad.par_chunks_mut(ROWS * n).zip(self.normalised.par_chunks(ROWS * n));
        let parts: Vec<Vec<f32>> = blocks
            .zip(self.scales.par_chunks(ROWS))
            .map(|((grad, normalised), scales)| {
                let mut learned = vec![0.0; if wanted { 2 * n } else { 0 }];
                BackwardRows { normalised, scales, weight, grad, learned: &mut learned }.dispatch();
                learned
            })
            .collect();
        if let Some((of_weight, of_bias)) = self.learned {
            for part in parts {
                super::add_scaled(&part[..n], 1.0, of_weight);
                super::add_scaled(&part[n..], 1.0, of_bias);
            }
        }
    }
}

struct BackwardRows<'a> {
    normalised: &'a [f32],
    scales: &'a [f32],
    weight: &'a [f32],
    grad: &'a mut [f32],
    /// Gradient of the weight, then of the bias; empty when they are not wanted.
    learned: &'a mut [f32],
}

impl SimdOp for BackwardRows<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "rows are a few thousand numbers long")]
    fn eval<I: Isa>(self, isa: I) {
        let f = isa.f32();
        let (lanes, n) = (f.len(), self.weight.len());
        let body = n / lanes * lanes;
        for ((x, grad), scale) in self.normalised.chunks_exact(n).zip(self.grad.chunks_exact_mut(n)).zip(self.scales) {
            if !self.learned.is_empty() {
                let (of_weight, of_bias) = self.learned.split_at_mut(n);
                for (((x, g), of_weight), of_bias) in x.iter().zip(&*grad).zip(of_weight).zip(of_bias) {
                    *of_weight += g * x;
                    *of_bias += g;
                }
            }
            // With h = grad · weight: dx = scale · (h − mean(h) − x · mean(h · x)).
            let (mut sums, mut products) = (f.zero(), f.zero());
            let (mut sum, mut product) = (0.0, 0.0);
            for ((x, grad), weight) in
                x.chunks_exact(lanes).zip(grad.chunks_exact_mut(lanes)).zip(self.weight.chunks_exact(lanes))
            {
                let h = f.mul(f.load(grad), f.load(weight));
                f.store(h, grad);
                sums = f.add(sums, h);
                products = f.mul_add(h, f.load(x), products);
            }
            for ((x, grad), weight) in x[body..].iter().zip(&mut grad[body..]).zip(&self.weight[body..]) {
                *grad *= weight;
                sum += *grad;
                product += *grad * x;
            }
            let mean = (f.sum(sums) + sum) / n as f32;
            let slope = (f.sum(products) + product) / n as f32;
            for (x, grad) in x.iter().zip(grad) {
                *grad = (*grad - mean - x * slope) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    /// Σ seed · norm(dropout(x) + residual), in f64.
    fn naive(x: &[f64], residual: &[f64], mask: &[f64], weight: &[f64], bias: &[f64], seed: &[f32]) -> (f64, Vec<f64>) {
        let n = weight.len();
        let s: Vec<f64> = x.iter().zip(residual).zip(mask).map(|((x, r), m)| x * m + r).collect();
        let out: Vec<f64> = s
            .chunks(n)
            .flat_map(|row| {
                let mean = row.iter().sum::<f64>() / n as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
                (0..n).map(move |i| (row[i] - mean) / (variance + 1e-5).sqrt() * weight[i] + bias[i])
            })
            .collect();
        (out.iter().zip(seed).map(|(y, s)| y * f64::from(*s)).sum(), out)
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    #[test]
    fn forward_and_backward_match_the_definition_and_its_finite_differences() {
        for (rows, n) in [(3, 7), (70, 33), (5, 384)] {
            let (x, residual, weight, bias, seed) =
                (noise(1, rows * n), noise(2, rows * n), noise(3, n), noise(4, n), noise(5, rows * n));
            for dropout in [None, Dropout::new(0.3, 9, [1, 2, 3])] {
                let mask: Vec<f64> =
                    (0..x.len()).map(|i| dropout.map_or(1.0, |d| f64::from(d.factor(i as u32)))).collect();
                let (mut normalised, mut scales, mut out) = (x.clone(), vec![0.0; rows], vec![0.0; rows * n]);
                NormForward {
                    x: &mut normalised,
                    residual: Some(&residual),
                    dropout,
                    weight: &weight,
                    bias: &bias,
                    epsilon: 1e-5,
                    scales: &mut scales,
                    out: &mut out,
                }
                .run();
                let inputs = [wide(&x), wide(&residual), wide(&weight), wide(&bias)];
                let value = |v: &[Vec<f64>; 4]| naive(&v[0], &v[1], &mask, &v[2], &v[3], &seed);
                let want: Vec<f32> = value(&inputs).1.iter().map(|x| *x as f32).collect();
                assert!(largest_difference("norm forward", &out, &want) < 1e-5);

                let (mut grad, mut of_weight, mut of_bias) = (seed.clone(), vec![0.0; n], vec![0.0; n]);
                NormBackward {
                    normalised: &normalised,
                    scales: &scales,
                    weight: &weight,
                    grad: &mut grad,
                    learned: Some((&mut of_weight, &mut of_bias)),
                }
                .run();
                let mut of_x = grad.clone();
                if let Some(dropout) = dropout {
                    dropout.apply(&mut of_x, 0);
                }
                for (k, got) in [of_x, grad, of_weight, of_bias].iter().enumerate() {
                    // A few places of each input are enough; all of them would take minutes.
                    for i in (0..got.len()).step_by(got.len() / 12 + 1) {
                        let slope = [1e-5, -1e-5].map(|h| {
                            let mut moved = inputs.clone();
                            moved[k][i] += h;
                            value(&moved).0
                        });
                        let want = (slope[0] - slope[1]) / 2e-5;
                        assert!((f64::from(got[i]) - want).abs() < 2e-4 * (1.0 + want.abs()), "{k} {i} {want}");
                    }
                }
            }
        }
    }
}
