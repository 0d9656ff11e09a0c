//! GELU and tanh with their derivatives.

use super::ROWS;
use crate::activation::{ExpNegative, Gelu};
use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};

/// Numbers that one thread works on at a time.
const BLOCK: usize = ROWS * 256;

/// `out = gelu(x)`, the exact (erf) form.
///
/// # Panics
/// When the lengths differ.
pub fn gelu_forward(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "one length");
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| {
        out.copy_from_slice(x);
        Gelu.map_mut(out);
    });
}

/// Multiplies `grad` by the derivative of GELU at `x`: Φ(x) + x·φ(x).
///
/// # Panics
/// When the lengths differ.
pub fn gelu_backward(x: &[f32], grad: &mut [f32]) {
    assert_eq!(x.len(), grad.len(), "one length");
    grad.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(grad, x)| GeluBackward { x, grad }.dispatch());
}

/// Φ(x) + x·φ(x). A function and not a closure: closures do not take over the instruction set of where they stand, and
/// every operation in them would be a call.
#[inline(always)]
fn derivative<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let f = isa.f32();
    // 1 / √(2π)
    let density = f.mul(ExpNegative.eval(isa, f.mul(f.mul(x, x), f.splat(-0.5))), f.splat(0.398_942_3));
    f.mul_add(x, density, crate::activation::normal_cdf(isa, x))
}

struct GeluBackward<'a> {
    x: &'a [f32],
    grad: &'a mut [f32],
}

impl SimdOp for GeluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let f = isa.f32();
        let lanes = f.len();
        let body = self.x.len() / lanes * lanes;
        for (x, grad) in self.x.chunks_exact(lanes).zip(self.grad.chunks_exact_mut(lanes)) {
            f.store(f.mul(f.load(grad), derivative(isa, f.load(x))), grad);
        }
        if body < self.x.len() {
            let (x, _) = f.load_pad(&self.x[body..]);
            for (grad, d) in self.grad[body..].iter_mut().zip(derivative(isa, x).to_array()) {
                *grad *= d;
            }
        }
    }
}

/// Multiplies `grad` by the derivative of tanh, given its value `y`: 1 − y².
///
/// # Panics
/// When the lengths differ.
pub fn tanh_backward(y: &[f32], grad: &mut [f32]) {
    assert_eq!(y.len(), grad.len(), "one length");
    grad.iter_mut().zip(y).for_each(|(grad, y)| *grad *= 1.0 - y * y);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    #[test]
    fn derivatives_match_finite_differences_in_f64() {
        // The integral of the density from 0 by Simpson's rule: no function of ours is on this side.
        let cdf = |x: f64| {
            let (n, phi) = (2000, |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt());
            let h = x / f64::from(n);
            let weight = |i: i32| if i == 0 || i == n { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
            0.5 + (0..=n).map(|i| weight(i) * phi(f64::from(i) * h)).sum::<f64>() * h / 3.0
        };
        let gelu = |x: f64| x * cdf(x);
        let x: Vec<f32> = noise(1, 1003).iter().map(|x| x * 6.0).collect();
        let start = noise(2, x.len());
        let mut got = start.clone();
        gelu_backward(&x, &mut got);
        let slope = |f: &dyn Fn(f64) -> f64, x: f32| (f(f64::from(x) + 1e-5) - f(f64::from(x) - 1e-5)) / 2e-5;
        let want: Vec<f32> = x.iter().zip(&start).map(|(x, g)| (slope(&gelu, *x) * f64::from(*g)) as f32).collect();
        assert!(largest_difference("gelu backward", &got, &want) < 2e-6);

        let mut forward = vec![0.0; x.len()];
        gelu_forward(&x, &mut forward);
        let want: Vec<f32> = x.iter().map(|x| gelu(f64::from(*x)) as f32).collect();
        assert!(largest_difference("gelu forward", &forward, &want) < 4e-6);

        let y: Vec<f32> = x.iter().map(|x| x.tanh()).collect();
        let mut got = start.clone();
        tanh_backward(&y, &mut got);
        let want: Vec<f32> =
            x.iter().zip(&start).map(|(x, g)| (slope(&f64::tanh, *x) * f64::from(*g)) as f32).collect();
        assert!(largest_difference("tanh backward", &got, &want) < 1e-5);
    }
}
