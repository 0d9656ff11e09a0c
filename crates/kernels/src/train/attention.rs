//! Self-attention that keeps what its backward pass needs. Sequences lie end to end without padding, as in the kernel
//! that serves; one thread works on one sequence at a time.

use super::Dropout;
use super::panels::{Left, NV, Turned, multiply, score_scale, softmax_backward, split, turned_product, untranspose};
use crate::attention::{RelativeBias, pack_keys, pack_values};
use rayon::prelude::*;
use rten_simd::ops::BitOps;
use rten_simd::{Isa, SimdOp};
use rten_vecmath::Softmax;

/// What forward and backward share.
#[derive(Clone, Copy)]
pub struct AttentionTrain<'a> {
    /// Rows of `3 · heads · head_width`: all heads' queries, then keys, then values.
    pub qkv: &'a [f32],
    /// Tokens of each sequence; their sum is the number of rows.
    pub lengths: &'a [usize],
    /// Number of heads.
    pub heads: usize,
    /// Numbers per head.
    pub head_width: usize,
    /// Added to the scaled scores (MPNet).
    pub bias: Option<&'a RelativeBias>,
    /// Dropout of the probabilities.
    pub dropout: Option<Dropout>,
}

/// Where the backward pass reads and writes.
pub struct AttentionGrad<'a> {
    /// As the forward pass left them.
    pub probabilities: &'a [f32],
    /// Gradient with respect to the result: rows of `heads · head_width`.
    pub out: &'a [f32],
    /// Gradient with respect to queries, keys and values, overwritten.
    pub qkv: &'a mut [f32],
    /// Gradient with respect to the bias, laid out as [`RelativeBias::table`], added to what is there.
    pub bias: Option<&'a mut [f32]>,
}

/// One sequence's share of the work.
struct Sequence<'a> {
    shared: AttentionTrain<'a>,
    qkv: &'a [f32],
    n: usize,
    /// Where its probabilities begin among all: the place that decides what is dropped.
    first: usize,
}

impl<'a> AttentionTrain<'a> {
    /// How many probabilities there are: heads · n² for each sequence of n tokens.
    #[must_use]
    pub fn probabilities(lengths: &[usize], heads: usize) -> usize {
        lengths.iter().map(|n| heads * n * n).sum()
    }

    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    fn check(&self, probabilities: usize, out: usize) {
        let rows: usize = self.lengths.iter().sum();
        assert!(self.qkv.len() == rows * 3 * self.width() && out == rows * self.width(), "rows in, rows out");
        assert_eq!(probabilities, Self::probabilities(self.lengths, self.heads), "one for each pair of tokens");
        assert!(self.lengths.iter().all(|n| *n > 0), "no sequence is empty");
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        assert!(self.bias.is_none_or(|bias| bias.reach() >= longest), "the bias covers the longest sequence");
    }

    fn sequences(self) -> impl Iterator<Item = Sequence<'a>> {
        let (mut row, mut first, width) = (0, 0, self.width());
        self.lengths.iter().map(move |&n| {
            let qkv = &self.qkv[row * 3 * width..][..n * 3 * width];
            let sequence = Sequence { shared: self, qkv, n, first };
            row += n;
            first += self.heads * n * n;
            sequence
        })
    }

    /// Computes all sequences: the probabilities (before dropout) and the result, rows of `heads · head_width`.
    ///
    /// # Panics
    /// When the shapes do not agree, or a sequence is longer than the bias reaches.
    pub fn forward(self, probabilities: &mut [f32], out: &mut [f32]) {
        self.check(probabilities.len(), out.len());
        let parts = split(probabilities, self.lengths.iter().map(|n| self.heads * n * n));
        let outs = split(out, self.lengths.iter().map(|n| n * self.width()));
        let jobs: Vec<_> = self.sequences().zip(parts).zip(outs).collect();
        jobs.into_par_iter().for_each_init(Scratch::default, |scratch, ((sequence, probabilities), out)| {
            Forward { sequence, probabilities, out, scratch }.dispatch();
        });
    }

    /// Computes the gradients of all sequences.
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn backward(self, grad: AttentionGrad<'_>) {
        self.check(grad.probabilities.len(), grad.out.len());
        assert_eq!(grad.qkv.len(), self.qkv.len(), "one shape");
        let qkvs = split(grad.qkv, self.lengths.iter().map(|n| n * 3 * self.width()));
        let mut rows = 0;
        let jobs: Vec<_> = self
            .sequences()
            .zip(qkvs)
            .map(|(sequence, grad_qkv)| {
                let probabilities = &grad.probabilities[sequence.first..][..self.heads * sequence.n * sequence.n];
                let grad_out = &grad.out[rows * self.width()..][..sequence.n * self.width()];
                rows += sequence.n;
                (sequence, probabilities, grad_out, grad_qkv)
            })
            .collect();
        let wanted = grad.bias.is_some();
        let of_bias: Vec<Vec<f32>> = jobs
            .into_par_iter()
            .map_init(Scratch::default, |scratch, (sequence, probabilities, grad_out, grad_qkv)| {
                let n = sequence.n;
                let mut distances = vec![0.0; if wanted { self.heads * (2 * n - 1) } else { 0 }];
                Backward { sequence, probabilities, grad_out, grad_qkv, distances: &mut distances, scratch }.dispatch();
                distances
            })
            .collect();
        if let (Some(sums), Some(bias)) = (grad.bias, self.bias) {
            let table = 2 * bias.reach() - 1;
            for (part, n) in of_bias.iter().zip(self.lengths) {
                for (head, part) in part.chunks_exact(2 * n - 1).enumerate() {
                    super::add_scaled(part, 1.0, &mut sums[head * table + bias.reach() - n..][..2 * n - 1]);
                }
            }
        }
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    panels: Vec<f32>,
    /// Probabilities after dropout.
    dropped: Vec<f32>,
    scores: Vec<f32>,
    turned: Turned,
}

impl Sequence<'_> {
    /// The head's probabilities after dropout: as they are when there is none.
    #[inline(always)]
    fn drop<'p>(&self, head: usize, probabilities: &'p [f32], dropped: &'p mut Vec<f32>) -> &'p [f32] {
        let Some(dropout) = self.shared.dropout else { return probabilities };
        dropped.clear();
        dropped.extend_from_slice(probabilities);
        dropout.apply(dropped, self.first + head * self.n * self.n);
        dropped
    }
}

struct Forward<'a, 's> {
    sequence: Sequence<'a>,
    probabilities: &'a mut [f32],
    out: &'a mut [f32],
    scratch: &'s mut Scratch,
}

impl SimdOp for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (sequence, n) = (&self.sequence, self.sequence.n);
        let (width, head_width) = (sequence.shared.width(), sequence.shared.head_width);
        let panel = NV * isa.f32().len();
        for (head, scores) in self.probabilities.chunks_exact_mut((n * n).max(1)).enumerate() {
            let column = head * head_width;
            let Scratch { panels, dropped, .. } = &mut *self.scratch;
            pack_keys(&sequence.qkv[width + column..], 3 * width, n, head_width, panel, panels);
            let queries = Left { values: &sequence.qkv[column..], stride: 3 * width, rows: n, k: head_width };
            multiply(isa, queries, panels, n, score_scale(head_width), scores, n);
            for (query, row) in scores.chunks_exact_mut(n).enumerate() {
                if let Some(bias) = sequence.shared.bias {
                    row.iter_mut().zip(bias.row(head, query, n)).for_each(|(x, b)| *x += b);
                }
                Softmax::new_mut(row).eval(isa);
            }
            let weights = sequence.drop(head, scores, dropped);
            pack_values(&sequence.qkv[2 * width + column..], 3 * width, n, head_width, panel, panels);
            let weights = Left { values: weights, stride: n, rows: n, k: n };
            multiply(isa, weights, panels, head_width, 1.0, &mut self.out[column..], width);
        }
    }
}

struct Backward<'a, 's> {
    sequence: Sequence<'a>,
    probabilities: &'a [f32],
    grad_out: &'a [f32],
    grad_qkv: &'a mut [f32],
    /// Per head: the sum of the scores' gradients at each distance; empty when not wanted.
    distances: &'a mut [f32],
    scratch: &'s mut Scratch,
}

impl SimdOp for Backward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (sequence, n) = (&self.sequence, self.sequence.n);
        let (width, head_width) = (sequence.shared.width(), sequence.shared.head_width);
        let scale = score_scale(head_width);
        let (panel, wide) = (NV * isa.f32().len(), 3 * width);
        for (head, probabilities) in self.probabilities.chunks_exact((n * n).max(1)).enumerate() {
            let column = head * head_width;
            let Scratch { panels, dropped, scores, turned } = &mut *self.scratch;
            let [queries, keys, values] = [0, 1, 2].map(|part| &sequence.qkv[part * width + column..]);
            let grad_out = &self.grad_out[column..];

            // Of the values: Pᵀ·dO.
            let weights = sequence.drop(head, probabilities, dropped);
            let of_values = turned_product(isa, weights, grad_out, [width, n, head_width], 1.0, turned);
            untranspose(of_values, n, head_width, &mut self.grad_qkv[2 * width + column..], wide);

            // Of the probabilities: dO·Vᵀ; of the scores: through the softmax.
            scores.resize(n * n, 0.0);
            pack_keys(values, wide, n, head_width, panel, panels);
            let left = Left { values: grad_out, stride: width, rows: n, k: head_width };
            multiply(isa, left, panels, n, 1.0, scores, n);
            if let Some(dropout) = sequence.shared.dropout {
                dropout.apply(scores, sequence.first + head * n * n);
            }
            for (p, grad) in probabilities.chunks_exact(n).zip(scores.chunks_exact_mut(n)) {
                softmax_backward(isa, p, grad);
            }
            if !self.distances.is_empty() {
                let sums = &mut self.distances[head * (2 * n - 1)..][..2 * n - 1];
                for (query, grad) in scores.chunks_exact(n).enumerate() {
                    super::add_scaled(grad, 1.0, &mut sums[n - 1 - query..][..n]);
                }
            }

            // Of the queries: dS·K; of the keys: dSᵀ·Q.
            pack_values(keys, wide, n, head_width, panel, panels);
            let left = Left { values: scores, stride: n, rows: n, k: n };
            multiply(isa, left, panels, head_width, scale, &mut self.grad_qkv[column..], wide);
            let of_keys = turned_product(isa, scores, queries, [wide, n, head_width], scale, turned);
            untranspose(of_keys, n, head_width, &mut self.grad_qkv[width + column..], wide);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    struct Case<'a> {
        lengths: &'a [usize],
        heads: usize,
        width: usize,
        bias: &'a dyn Fn(usize, isize) -> f64,
        dropout: Option<Dropout>,
    }

    /// Attention in f64.
    fn naive(case: &Case<'_>, qkv: &[f64]) -> Vec<f64> {
        let (heads, width, d) = (case.heads, case.width, case.heads * case.width);
        let mut out = Vec::new();
        let (mut start, mut place) = (0, 0);
        for &n in case.lengths {
            for i in 0..n {
                for h in 0..heads {
                    let at = |row: usize, part: usize, c: usize| qkv[(start + row) * 3 * d + part * d + h * width + c];
                    let weights: Vec<f64> = (0..n)
                        .map(|j| {
                            let dot: f64 = (0..width).map(|c| at(i, 0, c) * at(j, 1, c)).sum();
                            (dot / (width as f64).sqrt() + (case.bias)(h, j as isize - i as isize)).exp()
                        })
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    let kept = |j: usize| {
                        let index = place + (h * n + i) * n + j;
                        case.dropout.map_or(1.0, |dropout| f64::from(dropout.factor(index as u32)))
                    };
                    for c in 0..width {
                        out.push((0..n).map(|j| weights[j] / sum * kept(j) * at(j, 2, c)).sum());
                    }
                }
            }
            start += n;
            place += heads * n * n;
        }
        out
    }

    #[test]
    fn forward_and_backward_match_the_definition_and_its_finite_differences() {
        let lengths = [1, 16, 7, 33, 2];
        let rows: usize = lengths.iter().sum();
        for (heads, width) in [(2, 32), (3, 20), (1, 1)] {
            let table = noise(10, heads * 100);
            let relative = |h: usize, d: isize| f64::from(table[h * 100 + (d + 50) as usize]);
            let biased = RelativeBias::new(heads, 40, |h, d| relative(h, d) as f32);
            for (bias, dropout) in [(None, None), (Some(&biased), Dropout::new(0.2, 5, [1, 2, 3]))] {
                let none = |_: usize, _: isize| 0.0;
                let case = Case {
                    lengths: &lengths,
                    heads,
                    width,
                    bias: if bias.is_some() { &relative } else { &none },
                    dropout,
                };
                let d = heads * width;
                let qkv: Vec<f32> = noise(9, rows * 3 * d).iter().map(|x| x * 2.0).collect();
                let seed = noise(11, rows * d);
                let attention =
                    AttentionTrain { qkv: &qkv, lengths: &lengths, heads, head_width: width, bias, dropout };
                let mut probabilities = vec![f32::NAN; AttentionTrain::probabilities(&lengths, heads)];
                let mut out = vec![f32::NAN; rows * d];
                attention.forward(&mut probabilities, &mut out);
                let wide: Vec<f64> = qkv.iter().map(|x| f64::from(*x)).collect();
                let want: Vec<f32> = naive(&case, &wide).iter().map(|x| *x as f32).collect();
                assert!(largest_difference(&format!("attention {heads}×{width}"), &out, &want) < 2e-5);

                let mut grad = vec![f32::NAN; qkv.len()];
                let mut of_bias = vec![0.0; heads * (2 * 40 - 1)];
                attention.backward(AttentionGrad {
                    probabilities: &probabilities,
                    out: &seed,
                    qkv: &mut grad,
                    bias: bias.map(|_| &mut of_bias[..]),
                });
                let value = |case: &Case<'_>, qkv: &[f64]| -> f64 {
                    naive(case, qkv).iter().zip(&seed).map(|(y, s)| y * f64::from(*s)).sum()
                };
                let mut worst = 0f64;
                for i in (0..grad.len()).step_by(grad.len() / 60 + 1) {
                    let [up, down] = [1e-5, -1e-5].map(|h| {
                        let mut moved = wide.clone();
                        moved[i] += h;
                        value(&case, &moved)
                    });
                    worst = worst.max((f64::from(grad[i]) - (up - down) / 2e-5).abs());
                }
                if bias.is_some() {
                    for (h, distance) in [(0, 0isize), (heads - 1, -3), (0, 20), (heads - 1, 1)] {
                        let [up, down] = [1e-5, -1e-5].map(|step| {
                            let moved = |head: usize, d: isize| {
                                relative(head, d) + if (head, d) == (h, distance) { step } else { 0.0 }
                            };
                            value(&Case { bias: &moved, ..case }, &wide)
                        });
                        let got = of_bias[h * 79 + (distance + 39) as usize];
                        worst = worst.max((f64::from(got) - (up - down) / 2e-5).abs());
                    }
                }
                println!("attention backward {heads}×{width}: largest difference {worst:.2e}");
                assert!(worst < 5e-5);
            }
        }
    }
}
