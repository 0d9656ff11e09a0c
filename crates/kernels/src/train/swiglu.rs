//! SwiGLU (Shazeer, arXiv 2002.05202): silu(gate) · up, with silu(x) = x · σ(x), forward and backward.

use super::ROWS;
use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::Sigmoid;

/// Rows of `width` gates and then `width` ups in, rows of `width` out.
///
/// # Panics
/// When the shapes do not agree.
pub fn swiglu_forward(gate_up: &[f32], width: usize, out: &mut [f32]) {
    assert!(gate_up.len() == 2 * out.len() && out.len().is_multiple_of(width.max(1)), "rows in, rows out");
    out.par_chunks_mut((ROWS * width).max(1)).zip(gate_up.par_chunks((2 * ROWS * width).max(1))).for_each(
        |(out, gate_up)| {
            Forward { gate_up, width, out }.dispatch();
        },
    );
}

struct Forward<'a> {
    gate_up: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl SimdOp for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (f, width) = (isa.f32(), self.width);
        let (lanes, body) = (f.len(), width / f.len() * f.len());
        for (row, out) in self.gate_up.chunks_exact(2 * width).zip(self.out.chunks_exact_mut(width)) {
            let (gate, up) = row.split_at(width);
            let whole = gate.chunks_exact(lanes).zip(up.chunks_exact(lanes));
            for ((gate, up), out) in whole.zip(out.chunks_exact_mut(lanes)) {
                let gate = f.load(gate);
                f.store(f.mul(f.mul(gate, (Sigmoid {}).eval(isa, gate)), f.load(up)), out);
            }
            for ((gate, up), out) in gate[body..].iter().zip(&up[body..]).zip(&mut out[body..]) {
                *out = gate * sigmoid(*gate) * up;
            }
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The gradient with respect to gates and ups, in their place, given that with respect to the result.
///
/// # Panics
/// When the shapes do not agree.
pub fn swiglu_backward(gate_up: &mut [f32], width: usize, grad: &[f32]) {
    assert!(gate_up.len() == 2 * grad.len() && grad.len().is_multiple_of(width.max(1)), "rows in, rows out");
    gate_up.par_chunks_mut((2 * ROWS * width).max(1)).zip(grad.par_chunks((ROWS * width).max(1))).for_each(
        |(gate_up, grad)| {
            Backward { gate_up, width, grad }.dispatch();
        },
    );
}

struct Backward<'a> {
    gate_up: &'a mut [f32],
    width: usize,
    grad: &'a [f32],
}

impl SimdOp for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (f, width) = (isa.f32(), self.width);
        let (lanes, body) = (f.len(), width / f.len() * f.len());
        for (row, grad) in self.gate_up.chunks_exact_mut(2 * width).zip(self.grad.chunks_exact(width)) {
            let (gate, up) = row.split_at_mut(width);
            let whole = gate.chunks_exact_mut(lanes).zip(up.chunks_exact_mut(lanes));
            for ((gate, up), grad) in whole.zip(grad.chunks_exact(lanes)) {
                let (x, y, g) = (f.load(gate), f.load(up), f.load(grad));
                let s = (Sigmoid {}).eval(isa, x);
                let silu = f.mul(x, s);
                // silu' = σ + silu · (1 − σ)
                let slope = f.mul_add(silu, f.sub(f.one(), s), s);
                f.store(f.mul(f.mul(g, y), slope), gate);
                f.store(f.mul(g, silu), up);
            }
            for ((gate, up), grad) in gate[body..].iter_mut().zip(&mut up[body..]).zip(&grad[body..]) {
                let (x, y, s) = (*gate, *up, sigmoid(*gate));
                *gate = grad * y * (s + x * s * (1.0 - s));
                *up = grad * x * s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    #[test]
    fn forward_and_backward_match_the_definition_and_its_finite_differences() {
        let naive = |gate: f64, up: f64| gate / (1.0 + (-gate).exp()) * up;
        for (rows, width) in [(1, 1), (70, 33), (3, 1536)] {
            let x: Vec<f32> = noise(1, rows * 2 * width).iter().map(|x| x * 5.0).collect();
            let seed = noise(2, rows * width);
            let mut out = vec![0.0; rows * width];
            swiglu_forward(&x, width, &mut out);
            let at = |row: usize, part: usize, i: usize| f64::from(x[row * 2 * width + part * width + i]);
            let want: Vec<f32> = (0..rows * width)
                .map(|k| naive(at(k / width, 0, k % width), at(k / width, 1, k % width)) as f32)
                .collect();
            assert!(largest_difference(&format!("swiglu {rows}×{width}"), &out, &want) < 5e-6);
            let mut grad = x.clone();
            swiglu_backward(&mut grad, width, &seed);
            let want: Vec<f32> = (0..x.len())
                .map(|k| {
                    let (row, part, i) = (k / (2 * width), k / width % 2, k % width);
                    let move_by = |h: f64| {
                        let [a, b] = if part == 0 { [h, 0.0] } else { [0.0, h] };
                        naive(at(row, 0, i) + a, at(row, 1, i) + b)
                    };
                    ((move_by(1e-6) - move_by(-1e-6)) / 2e-6 * f64::from(seed[row * width + i])) as f32
                })
                .collect();
            assert!(largest_difference("swiglu backward", &grad, &want) < 1e-5);
        }
    }
}
