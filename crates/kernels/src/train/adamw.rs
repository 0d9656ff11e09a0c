//! AdamW (Loshchilov & Hutter, arXiv 1711.05101) in one pass over weights, gradient and moments.

use rayon::prelude::*;
use rten_simd::{Isa, SimdOp};

/// Numbers that one thread works on at a time.
const BLOCK: usize = 1 << 14;

/// The constants of the update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl Default for AdamW {
    /// PyTorch's.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// The optimiser's state of one tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Decayed mean of the gradient.
    pub first: Vec<f32>,
    /// Decayed mean of its square.
    pub second: Vec<f32>,
}

impl Moments {
    /// Those of a tensor of `n` numbers before the first step.
    #[must_use]
    pub fn zeros(n: usize) -> Self {
        Self { first: vec![0.0; n], second: vec![0.0; n] }
    }
}

impl AdamW {
    /// One step, counted from 1: `rate` is the learning rate, `decay` the decoupled weight decay (taken times the rate),
    /// `scale` a factor of the gradient (clipping).
    ///
    /// # Panics
    /// When the lengths differ or `step` is 0.
    #[expect(clippy::cast_possible_truncation, reason = "computed in f64, used in f32")]
    #[expect(clippy::too_many_arguments, reason = "the update's own quantities, each used once")]
    pub fn step(
        &self,
        weights: &mut [f32],
        grad: &[f32],
        moments: &mut Moments,
        rate: f64,
        decay: f64,
        scale: f32,
        step: u64,
    ) {
        let n = weights.len();
        assert!(grad.len() == n && moments.first.len() == n && moments.second.len() == n && step > 0, "one length");
        let power = |beta: f64| 1.0 - beta.powf(step as f64);
        let update = Update {
            beta1: self.beta1 as f32,
            rest1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            epsilon: self.epsilon as f32,
            shrink: (1.0 - rate * decay) as f32,
            rate: (rate / power(self.beta1)) as f32,
            correction: (1.0 / power(self.beta2).sqrt()) as f32,
            scale,
        };
        let state = moments.first.par_chunks_mut(BLOCK).zip(moments.second.par_chunks_mut(BLOCK));
        weights
            .par_chunks_mut(BLOCK)
            .zip(grad.par_chunks(BLOCK))
            .zip(state)
            .for_each(|((weights, grad), (first, second))| Chunk { update, weights, grad, first, second }.dispatch());
    }
}

#[derive(Clone, Copy)]
struct Update {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    epsilon: f32,
    shrink: f32,
    rate: f32,
    correction: f32,
    scale: f32,
}

struct Chunk<'a> {
    update: Update,
    weights: &'a mut [f32],
    grad: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl SimdOp for Chunk<'_> {
    type Output = ();

    // A plain loop: inlined into the dispatched function, so that the compiler vectorises it for that instruction set.
    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let u = self.update;
        let state = self.first.iter_mut().zip(self.second);
        for ((w, g), (m, v)) in self.weights.iter_mut().zip(self.grad).zip(state) {
            let g = g * u.scale;
            *m = u.beta1 * *m + u.rest1 * g;
            *v = u.beta2 * *v + u.rest2 * g * g;
            *w = *w * u.shrink - u.rate * *m / (v.sqrt() * u.correction + u.epsilon);
        }
    }
}

/// The sum of the squares, for the norm of a gradient. Added block by block in f64: the same with any number of threads.
#[must_use]
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x
        .par_chunks(BLOCK)
        .map(|x| {
            let mut lanes = [0f64; 8];
            let (chunks, rest) = x.as_chunks::<8>();
            for chunk in chunks {
                lanes.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
            }
            lanes.iter().sum::<f64>() + rest.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
        })
        .collect();
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    #[test]
    fn ten_steps_match_the_published_update_in_f64() {
        let n = 40_001;
        let mut weights = noise(1, n);
        let mut moments = Moments::zeros(n);
        let adamw = AdamW::default();
        let (mut w, mut m, mut v): (Vec<f64>, _, _) =
            (weights.iter().map(|x| f64::from(*x)).collect(), vec![0f64; n], vec![0f64; n]);
        for t in 1..=10u64 {
            let grad = noise(100 + t, n);
            adamw.step(&mut weights, &grad, &mut moments, 1e-2, 0.1, 0.5, t);
            for i in 0..n {
                let g = 0.5 * f64::from(grad[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (m_hat, v_hat) = (m[i] / (1.0 - 0.9f64.powf(t as f64)), v[i] / (1.0 - 0.999f64.powf(t as f64)));
                w[i] = w[i] - 1e-2 * 0.1 * w[i] - 1e-2 * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        let want: Vec<f32> = w.iter().map(|x| *x as f32).collect();
        assert!(largest_difference("adamw", &weights, &want) < 2e-6);
        let norm: f64 = weights.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((sum_of_squares(&weights) / norm - 1.0).abs() < 1e-12);
    }
}
