//! Causal self-attention in which several heads of queries share one head of keys and values (grouped queries: Ainslie
//! et al., arXiv 2305.13245), forward and backward. Sequences lie end to end without padding; one thread works on one
//! sequence at a time.
//!
//! The probabilities are not kept but computed again on the way back: they would be most of the memory of a long text.

use super::panels::{Left, NV, Turned, multiply, score_scale, softmax_backward, split, turned_product, untranspose};
use crate::attention::{pack_keys, pack_values};
use rayon::prelude::*;
use rten_simd::ops::BitOps;
use rten_simd::{Isa, SimdOp};
use rten_vecmath::Softmax;

/// What forward and backward share.
#[derive(Clone, Copy)]
pub struct CausalAttention<'a> {
    /// Rows of `(heads + 2 · kv_heads) · head_width`: the heads' queries, then keys, then values, rotated already.
    pub qkv: &'a [f32],
    /// Tokens of each sequence; their sum is the number of rows.
    pub lengths: &'a [usize],
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values: a divisor of `heads`.
    pub kv_heads: usize,
    /// Numbers per head.
    pub head_width: usize,
}

impl CausalAttention<'_> {
    fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }

    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    fn check(&self, out: usize) {
        let rows: usize = self.lengths.iter().sum();
        assert!(self.qkv.len() == rows * self.row() && out == rows * self.width(), "rows in, rows out");
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads), "whole groups of heads");
        assert!(self.lengths.iter().all(|n| *n > 0), "no sequence is empty");
    }

    fn sequences(&self) -> impl Iterator<Item = (&[f32], usize)> {
        let (mut start, row) = (0, self.row());
        self.lengths.iter().map(move |&n| {
            let part = &self.qkv[start * row..][..n * row];
            start += n;
            (part, n)
        })
    }

    /// Computes all sequences: rows of `heads · head_width`.
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn forward(&self, out: &mut [f32]) {
        self.check(out.len());
        let outs = split(out, self.lengths.iter().map(|n| n * self.width()));
        let jobs: Vec<_> = self.sequences().zip(outs).collect();
        jobs.into_par_iter().for_each_init(Scratch::default, |scratch, ((qkv, n), out)| {
            Forward { shared: self, qkv, n, out, scratch }.dispatch();
        });
    }

    /// The gradient with respect to queries, keys and values, given that with respect to the result; overwrites
    /// `grad_qkv`.
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn backward(&self, grad_out: &[f32], grad_qkv: &mut [f32]) {
        self.check(grad_out.len());
        assert_eq!(grad_qkv.len(), self.qkv.len(), "one shape");
        let grads = split(grad_qkv, self.lengths.iter().map(|n| n * self.row()));
        let mut start = 0;
        let jobs: Vec<_> = self
            .sequences()
            .zip(grads)
            .map(|((qkv, n), grad_qkv)| {
                let grad_out = &grad_out[start * self.width()..][..n * self.width()];
                start += n;
                (qkv, n, grad_out, grad_qkv)
            })
            .collect();
        jobs.into_par_iter().for_each_init(Scratch::default, |scratch, (qkv, n, grad_out, grad_qkv)| {
            Backward { shared: self, qkv, n, grad_out, grad_qkv, scratch }.dispatch();
        });
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Keys laid out as the values of a sum over positions.
    summed_keys: Vec<f32>,
    probabilities: Vec<f32>,
    scores: Vec<f32>,
    turned: Turned,
    of_keys: Vec<f32>,
    of_values: Vec<f32>,
}

/// softmax(scale · Q·Kᵀ) below the diagonal, zero above it.
#[inline(always)]
fn attend<I: Isa>(isa: I, queries: Left<'_>, keys: &[f32], scale: f32, probabilities: &mut [f32]) {
    let n = queries.rows;
    multiply(isa, queries, keys, n, scale, probabilities, n);
    for (position, row) in probabilities.chunks_exact_mut(n).enumerate() {
        let (seen, ahead) = row.split_at_mut(position + 1);
        Softmax::new_mut(seen).eval(isa);
        ahead.fill(0.0);
    }
}

struct Forward<'a, 's> {
    shared: &'a CausalAttention<'a>,
    qkv: &'a [f32],
    n: usize,
    out: &'a mut [f32],
    scratch: &'s mut Scratch,
}

impl SimdOp for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (shared, n, d) = (self.shared, self.n, self.shared.head_width);
        let (row, width, group) = (shared.row(), shared.width(), shared.heads / shared.kv_heads);
        let panel = NV * isa.f32().len();
        let Scratch { keys, values, probabilities, .. } = self.scratch;
        probabilities.resize(n * n, 0.0);
        for kv in 0..shared.kv_heads {
            pack_keys(&self.qkv[width + kv * d..], row, n, d, panel, keys);
            pack_values(&self.qkv[width + (shared.kv_heads + kv) * d..], row, n, d, panel, values);
            for head in kv * group..(kv + 1) * group {
                let queries = Left { values: &self.qkv[head * d..], stride: row, rows: n, k: d };
                attend(isa, queries, keys, score_scale(d), probabilities);
                let weights = Left { values: probabilities, stride: n, rows: n, k: n };
                multiply(isa, weights, values, d, 1.0, &mut self.out[head * d..], width);
            }
        }
    }
}

struct Backward<'a, 's> {
    shared: &'a CausalAttention<'a>,
    qkv: &'a [f32],
    n: usize,
    grad_out: &'a [f32],
    grad_qkv: &'a mut [f32],
    scratch: &'s mut Scratch,
}

impl SimdOp for Backward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (shared, n, d) = (self.shared, self.n, self.shared.head_width);
        let (row, width, group) = (shared.row(), shared.width(), shared.heads / shared.kv_heads);
        let (panel, scale) = (NV * isa.f32().len(), score_scale(d));
        let Scratch { keys, values, summed_keys, probabilities, scores, turned, of_keys, of_values } = self.scratch;
        probabilities.resize(n * n, 0.0);
        scores.resize(n * n, 0.0);
        for kv in 0..shared.kv_heads {
            let key_column = width + kv * d;
            let value_column = width + (shared.kv_heads + kv) * d;
            pack_keys(&self.qkv[key_column..], row, n, d, panel, keys);
            pack_values(&self.qkv[key_column..], row, n, d, panel, summed_keys);
            pack_keys(&self.qkv[value_column..], row, n, d, panel, values);
            for sum in [&mut *of_keys, &mut *of_values] {
                sum.clear();
                sum.resize(n * d, 0.0);
            }
            for head in kv * group..(kv + 1) * group {
                let queries = Left { values: &self.qkv[head * d..], stride: row, rows: n, k: d };
                attend(isa, queries, keys, scale, probabilities);

                // Of the values: Pᵀ·dO.
                let grad_out = &self.grad_out[head * d..];
                let turned_sum = turned_product(isa, probabilities, grad_out, [width, n, d], 1.0, turned);
                super::add_scaled(turned_sum, 1.0, of_values);

                // Of the probabilities: dO·Vᵀ; of the scores: through the softmax. Above the diagonal P is 0, and so it is.
                let left = Left { values: grad_out, stride: width, rows: n, k: d };
                multiply(isa, left, values, n, 1.0, scores, n);
                for (p, grad) in probabilities.chunks_exact(n).zip(scores.chunks_exact_mut(n)) {
                    softmax_backward(isa, p, grad);
                }

                // Of the queries: dS·K; of the keys: dSᵀ·Q.
                let left = Left { values: scores, stride: n, rows: n, k: n };
                multiply(isa, left, summed_keys, d, scale, &mut self.grad_qkv[head * d..], row);
                let turned_sum = turned_product(isa, scores, &self.qkv[head * d..], [row, n, d], scale, turned);
                super::add_scaled(turned_sum, 1.0, of_keys);
            }
            untranspose(of_keys, n, d, &mut self.grad_qkv[key_column..], row);
            untranspose(of_values, n, d, &mut self.grad_qkv[value_column..], row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    /// The definition, in f64.
    fn naive(lengths: &[usize], [heads, kv_heads, d]: [usize; 3], qkv: &[f64]) -> Vec<f64> {
        let row = (heads + 2 * kv_heads) * d;
        let (mut out, mut start) = (Vec::new(), 0);
        for &n in lengths {
            for i in 0..n {
                for h in 0..heads {
                    let kv = h / (heads / kv_heads);
                    let at = |position: usize, head: usize, c: usize| qkv[(start + position) * row + head * d + c];
                    let weights: Vec<f64> = (0..=i)
                        .map(|j| {
                            let dot: f64 = (0..d).map(|c| at(i, h, c) * at(j, heads + kv, c)).sum();
                            (dot / (d as f64).sqrt()).exp()
                        })
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    for c in 0..d {
                        let values = weights.iter().enumerate();
                        out.push(values.map(|(j, w)| w / sum * at(j, heads + kv_heads + kv, c)).sum());
                    }
                }
            }
            start += n;
        }
        out
    }

    #[test]
    fn forward_and_backward_match_the_definition_and_its_finite_differences() {
        let lengths = [1, 16, 7, 33];
        let rows: usize = lengths.iter().sum();
        for shape @ [heads, kv_heads, head_width] in [[2, 2, 32], [9, 3, 20], [4, 1, 16], [1, 1, 1]] {
            let row = (heads + 2 * kv_heads) * head_width;
            let qkv: Vec<f32> = noise(9, rows * row).iter().map(|x| x * 2.0).collect();
            let seed = noise(11, rows * heads * head_width);
            let attention = CausalAttention { qkv: &qkv, lengths: &lengths, heads, kv_heads, head_width };
            let mut out = vec![f32::NAN; seed.len()];
            attention.forward(&mut out);
            let wide: Vec<f64> = qkv.iter().map(|x| f64::from(*x)).collect();
            let want: Vec<f32> = naive(&lengths, shape, &wide).iter().map(|x| *x as f32).collect();
            assert!(largest_difference(&format!("causal attention {shape:?}"), &out, &want) < 2e-5);

            let mut grad = vec![f32::NAN; qkv.len()];
            attention.backward(&seed, &mut grad);
            let value = |qkv: &[f64]| -> f64 {
                naive(&lengths, shape, qkv).iter().zip(&seed).map(|(y, s)| y * f64::from(*s)).sum()
            };
            let mut worst = 0f64;
            for i in (0..grad.len()).step_by(grad.len() / 80 + 1) {
                let [up, down] = [1e-5, -1e-5].map(|h| {
                    let mut moved = wide.clone();
                    moved[i] += h;
                    value(&moved)
                });
                worst = worst.max((f64::from(grad[i]) - (up - down) / 2e-5).abs());
            }
            println!("causal attention backward {shape:?}: largest difference {worst:.2e}");
            assert!(worst < 5e-5 && grad.iter().all(|x| x.is_finite()));
        }
    }
}
