//! Root-mean-square normalisation (Zhang & Sennrich, arXiv 1910.07467) with frozen factors, forward and backward.

use super::ROWS;
use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// `normalised = x / √(mean(x²) + ε)` for each row, and `out = normalised · weight`. `scales` takes 1 / √… of each row.
///
/// # Panics
/// When the shapes do not agree.
pub fn rms_forward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    scales: &mut [f32],
    normalised: &mut [f32],
    out: &mut [f32],
) {
    let n = weight.len().max(1);
    assert!(x.len() == scales.len() * n && normalised.len() == x.len() && out.len() == x.len(), "rows in, rows out");
    let outs = normalised.par_chunks_mut(ROWS * n).zip(out.par_chunks_mut(ROWS * n)).zip(scales.par_chunks_mut(ROWS));
    outs.zip(x.par_chunks(ROWS * n)).for_each(|(((normalised, out), scales), x)| {
        Forward { x, weight, epsilon, scales, normalised, out }.dispatch();
    });
}

struct Forward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    scales: &'a mut [f32],
    normalised: &'a mut [f32],
    out: &'a mut [f32],
}

impl SimdOp for Forward<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "rows are a few thousand numbers long")]
    fn eval<I: Isa>(self, isa: I) {
        let (f, n) = (isa.f32(), self.weight.len());
        let (lanes, body) = (f.len(), n / f.len() * f.len());
        let rows = self.normalised.chunks_exact_mut(n).zip(self.out.chunks_exact_mut(n));
        for ((x, scale), (normalised, out)) in self.x.chunks_exact(n).zip(self.scales).zip(rows) {
            let mut squares = f.zero();
            for x in x.chunks_exact(lanes) {
                let x = f.load(x);
                squares = f.mul_add(x, x, squares);
            }
            let rest: f32 = x[body..].iter().map(|x| x * x).sum();
            *scale = 1.0 / ((f.sum(squares) + rest) / n as f32 + self.epsilon).sqrt();
            for (((x, weight), normalised), out) in x.iter().zip(self.weight).zip(normalised).zip(out) {
                *normalised = x * *scale;
                *out = *normalised * weight;
            }
        }
    }
}

/// Adds to `to` the gradient with respect to x, given that with respect to the result, which is overwritten.
///
/// # Panics
/// When the shapes do not agree.
pub fn rms_backward(normalised: &[f32], scales: &[f32], weight: &[f32], grad: &mut [f32], to: &mut [f32]) {
    let n = weight.len().max(1);
    assert!(
        normalised.len() == scales.len() * n && grad.len() == normalised.len() && to.len() == grad.len(),
        "one shape"
    );
    let outs = grad.par_chunks_mut(ROWS * n).zip(to.par_chunks_mut(ROWS * n));
    outs.zip(normalised.par_chunks(ROWS * n).zip(scales.par_chunks(ROWS))).for_each(
        |((grad, to), (normalised, scales))| {
            Backward { normalised, scales, weight, grad, to }.dispatch();
        },
    );
}

struct Backward<'a> {
    normalised: &'a [f32],
    scales: &'a [f32],
    weight: &'a [f32],
    grad: &'a mut [f32],
    to: &'a mut [f32],
}

impl SimdOp for Backward<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "rows are a few thousand numbers long")]
    fn eval<I: Isa>(self, isa: I) {
        let (f, n) = (isa.f32(), self.weight.len());
        let (lanes, body) = (f.len(), n / f.len() * f.len());
        let rows = self.grad.chunks_exact_mut(n).zip(self.to.chunks_exact_mut(n));
        for ((x, scale), (grad, to)) in self.normalised.chunks_exact(n).zip(self.scales).zip(rows) {
            // With h = grad · weight: dx = scale · (h − x̂ · mean(h · x̂)).
            let mut products = f.zero();
            for ((x, grad), weight) in
                x.chunks_exact(lanes).zip(grad.chunks_exact_mut(lanes)).zip(self.weight.chunks_exact(lanes))
            {
                let h = f.mul(f.load(grad), f.load(weight));
                f.store(h, grad);
                products = f.mul_add(h, f.load(x), products);
            }
            let mut product = f.sum(products);
            for ((x, grad), weight) in x[body..].iter().zip(&mut grad[body..]).zip(&self.weight[body..]) {
                *grad *= weight;
                product += *grad * x;
            }
            let slope = product / n as f32;
            for ((x, grad), to) in x.iter().zip(grad).zip(to) {
                *to += (*grad - x * slope) * scale;
            }
        }
    }
}

/// `out = x · weight`, column by column: the result of [`rms_forward`] from what it kept.
///
/// # Panics
/// When the shapes do not agree.
pub fn scale_columns(x: &[f32], weight: &[f32], out: &mut [f32]) {
    let n = weight.len().max(1);
    assert!(x.len() == out.len() && x.len().is_multiple_of(n), "rows in, rows out");
    out.par_chunks_mut(ROWS * n).zip(x.par_chunks(ROWS * n)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * weight;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    fn naive(x: &[f64], weight: &[f32]) -> Vec<f64> {
        let n = weight.len();
        x.chunks(n)
            .flat_map(|row| {
                let mean = row.iter().map(|x| x * x).sum::<f64>() / n as f64;
                row.iter().zip(weight).map(move |(x, w)| x / (mean + 1e-5).sqrt() * f64::from(*w)).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn forward_and_backward_match_the_definition_and_its_finite_differences() {
        for (rows, n) in [(1, 1), (3, 40), (130, 576), (5, 33)] {
            let (x, weight, seed, start) = (noise(1, rows * n), noise(2, n), noise(3, rows * n), noise(4, rows * n));
            let [mut normalised, mut out] = [vec![0.0; rows * n], vec![0.0; rows * n]];
            let mut scales = vec![0.0; rows];
            rms_forward(&x, &weight, 1e-5, &mut scales, &mut normalised, &mut out);
            let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            let want: Vec<f32> = naive(&wide, &weight).into_iter().map(|x| x as f32).collect();
            assert!(largest_difference(&format!("rms {rows}×{n}"), &out, &want) < 2e-6);
            let mut again = vec![0.0; rows * n];
            scale_columns(&normalised, &weight, &mut again);
            assert!(again == out);

            let (mut grad, mut to) = (seed.clone(), start.clone());
            rms_backward(&normalised, &scales, &weight, &mut grad, &mut to);
            let value =
                |x: &[f64]| -> f64 { naive(x, &weight).iter().zip(&seed).map(|(y, s)| y * f64::from(*s)).sum() };
            let mut worst = 0f64;
            for i in (0..x.len()).step_by(x.len() / 40 + 1) {
                let [up, down] = [1e-6, -1e-6].map(|h| {
                    let row = i / n * n;
                    let mut moved = wide[row..row + n].to_vec();
                    moved[i - row] += h;
                    let seed = &seed[row..row + n];
                    naive(&moved, &weight).iter().zip(seed).map(|(y, s)| y * f64::from(*s)).sum::<f64>()
                });
                worst = worst.max((f64::from(to[i] - start[i]) - (up - down) / 2e-6).abs());
            }
            println!("rms backward {rows}×{n}: largest difference {worst:.2e} (value {:.2})", value(&wide));
            assert!(worst < 2e-5);
        }
    }
}
