//! Element-wise functions and softmax.

use rten_simd::ops::{BitOps, FloatOps, IntOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};
use rten_vecmath::Softmax;

/// The exact GELU, x·Φ(x), with erf as a rational function of degree 13 over 8 on [−4, 4] (the coefficients are those
/// of Eigen's `generic_fast_erf_float`): one division and no exponential. Absolute error of erf ≤ 5e-7.
pub(crate) struct Gelu;

const ERF_NUMERATOR: [f32; 7] =
    [-2.726_142_3e-10, 2.770_681_5e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_5e-4, -2.954_6e-3, -1.609_603_3e-2];
const ERF_DENOMINATOR: [f32; 5] = [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];

impl SimdUnaryOp<f32> for Gelu {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let f = isa.f32();
        let half = f.mul(x, f.splat(0.5));
        f.mul_add(half, erf_of_normal(isa, x), half)
    }
}

/// erf(x / √2).
#[inline(always)]
fn erf_of_normal<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let f = isa.f32();
    let y = f.mul(x, f.splat(std::f32::consts::FRAC_1_SQRT_2));
    let y = f.clamp(y, f.splat(-4.0), f.splat(4.0));
    let y2 = f.mul(y, y);
    let mut p = f.splat(ERF_NUMERATOR[0]);
    for c in &ERF_NUMERATOR[1..] {
        p = f.mul_add(p, y2, f.splat(*c));
    }
    let mut q = f.splat(ERF_DENOMINATOR[0]);
    for c in &ERF_DENOMINATOR[1..] {
        q = f.mul_add(q, y2, f.splat(*c));
    }
    f.div(f.mul(p, y), q)
}

/// The normal distribution's Φ(x).
#[inline(always)]
pub(crate) fn normal_cdf<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let f = isa.f32();
    let half = f.splat(0.5);
    f.mul_add(half, erf_of_normal(isa, x), half)
}

/// e^x for x ≤ 0, about 1e-38 below −87: 2^round(x / ln 2) times a polynomial of degree 6 of the rest (Cephes' `expf`).
/// Relative error ≤ 2e-7.
pub(crate) struct ExpNegative;

/// ln 2 in two parts, the first exact in few bits, so that x − k·ln 2 keeps its digits.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
const EXP: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

impl SimdUnaryOp<f32> for ExpNegative {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let (f, int) = (isa.f32(), isa.i32());
        let x = f.max(x, f.splat(-87.0));
        let k = f.round_ties_even(f.mul(x, f.splat(std::f32::consts::LOG2_E)));
        let r = f.mul_sub_from(k, f.splat(LN_2[0]), x);
        let r = f.mul_sub_from(k, f.splat(LN_2[1]), r);
        let mut p = f.splat(EXP[0]);
        for c in &EXP[1..] {
            p = f.mul_add(p, r, f.splat(*c));
        }
        let p = f.mul_add(f.mul(p, r), r, f.add(r, f.one()));
        let exponent = int.shift_left::<23>(int.add(f.to_int_round(k), int.splat(127)));
        f.mul(p, exponent.reinterpret_cast::<I::F32>())
    }
}

/// GELU of every element, in place.
pub fn gelu(x: &mut [f32]) {
    Gelu.map_mut(x);
}

/// Hyperbolic tangent of every element, in place.
pub fn tanh(x: &mut [f32]) {
    rten_vecmath::Tanh {}.map_mut(x);
}

/// Softmax over each row of `columns` elements, in place.
///
/// # Panics
/// When `x` is not a whole number of rows.
pub fn softmax_rows(x: &mut [f32], columns: usize) {
    assert_eq!(x.len() % columns.max(1), 0, "whole rows");
    SoftmaxRows { x, columns }.dispatch();
}

struct SoftmaxRows<'a> {
    x: &'a mut [f32],
    columns: usize,
}

impl SimdOp for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        for row in self.x.chunks_exact_mut(self.columns.max(1)) {
            Softmax::new_mut(row).eval(isa);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    /// erf by its Maclaurin series near zero and Abramowitz & Stegun 7.1.14's continued fraction beyond, in f64.
    fn erf(x: f64) -> f64 {
        if x.abs() < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..60 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let mut t = 0.0;
            for k in (1..60).rev() {
                t = f64::from(k) / 2.0 / (x.abs() + t);
            }
            let tail = (-x * x).exp() / std::f64::consts::PI.sqrt() / (x.abs() + t);
            x.signum() * (1.0 - tail)
        }
    }

    #[test]
    fn gelu_is_within_a_millionth_of_the_erf_form() {
        let x: Vec<f32> = (-8000..8000).map(|i| i as f32 / 1000.0).collect();
        let want: Vec<f32> =
            x.iter().map(|&x| (0.5 * f64::from(x) * (1.0 + erf(f64::from(x) / 2f64.sqrt()))) as f32).collect();
        let mut got = x.clone();
        gelu(&mut got);
        let worst = largest_difference("gelu", &got, &want);
        assert!(worst < 2e-6);
    }

    #[test]
    fn the_exponential_is_right_to_a_few_ulps_and_vanishes_far_out() {
        let x: Vec<f32> = (0..86_000).map(|i| -(i as f32) / 1000.0).collect();
        let mut got = x.clone();
        ExpNegative.map_mut(&mut got);
        let relative: Vec<f32> =
            got.iter().zip(&x).map(|(y, x)| (f64::from(*y) / f64::from(*x).exp()) as f32).collect();
        assert!(largest_difference("exp, relative", &relative, &vec![1.0; x.len()]) < 3e-7);
        assert!(ExpNegative.scalar_eval(-1e30) < 1e-37);
    }

    #[test]
    fn tanh_and_softmax_match_their_definitions() {
        let x = noise(7, 5 * 13);
        let mut got = x.clone();
        tanh(&mut got);
        let want: Vec<f32> = x.iter().map(|x| x.tanh()).collect();
        assert!(largest_difference("tanh", &got, &want) < 1e-6);

        let mut got = x.clone();
        softmax_rows(&mut got, 13);
        let want: Vec<f32> = x
            .chunks(13)
            .flat_map(|row| {
                let sum: f32 = row.iter().map(|x| x.exp()).sum();
                row.iter().map(move |x| x.exp() / sum).collect::<Vec<_>>()
            })
            .collect();
        assert!(largest_difference("softmax", &got, &want) < 1e-6);
    }
}
