//! Multi-head self-attention over a batch of sequences laid end to end: no padding, each sequence sees only itself.
//!
//! Per sequence and head the keys are turned into panels, then a few queries at a time go the whole way (scores,
//! softmax, weighted sum of the values), so that the scores never leave the first-level cache.

use crate::activation::ExpNegative;
use crate::gemm::{store_part, tile};
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};

/// Below every score that can occur, and its exponential is nothing beside the largest score's, which is 1.
const MASKED: f32 = -1e30;

/// Attention over queries, keys and values that lie side by side in each row.
pub struct Attention<'a> {
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
    /// Rows of `heads · head_width`.
    pub out: &'a mut [f32],
}

/// A learned bias of the scores that depends on head and distance only.
#[derive(Debug, Clone)]
pub struct RelativeBias {
    /// Per head: the bias at distance −(reach − 1) … reach − 1.
    table: Vec<f32>,
    reach: usize,
}

impl RelativeBias {
    /// Tabulates `bias(head, key position − query position)` for sequences of up to `reach` tokens.
    #[must_use]
    pub fn new(heads: usize, reach: usize, bias: impl Fn(usize, isize) -> f32) -> Self {
        let width = (2 * reach).saturating_sub(1);
        let table = (0..heads)
            .flat_map(|head| (0..width).map(move |i| (head, i.cast_signed() - reach.cast_signed() + 1)))
            .map(|(head, distance)| bias(head, distance))
            .collect();
        Self { table, reach }
    }

    /// The most tokens of a sequence.
    #[must_use]
    pub fn reach(&self) -> usize {
        self.reach
    }

    /// Per head, the bias at distance −(reach − 1) … reach − 1.
    #[must_use]
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// The biases of one query against keys 0 … n − 1.
    #[inline(always)]
    pub(crate) fn row(&self, head: usize, query: usize, n: usize) -> &[f32] {
        &self.table[head * (2 * self.reach - 1) + self.reach - 1 - query..][..n]
    }
}

/// Buffers that a thread reuses from call to call.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

impl Attention<'_> {
    /// Computes all sequences.
    ///
    /// # Panics
    /// When the shapes do not agree, or a sequence is longer than the bias reaches.
    pub fn forward(self, scratch: &mut AttentionScratch) {
        let rows: usize = self.lengths.iter().sum();
        let width = self.heads * self.head_width;
        assert!(self.qkv.len() == rows * 3 * width && self.out.len() == rows * width, "rows in, rows out");
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        assert!(self.bias.is_none_or(|bias| bias.reach >= longest), "the bias covers the longest sequence");
        if rows > 0 && width > 0 {
            Forward { attention: self, scratch }.dispatch();
        }
    }
}

struct Forward<'a, 's> {
    attention: Attention<'a>,
    scratch: &'s mut AttentionScratch,
}

impl SimdOp for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            8 => self.run::<I, 6>(isa),
            _ => self.run::<I, 8>(isa),
        }
    }
}

/// Vectors per panel: with two, the values of a head of 32 fill one AVX-512 panel.
const NV: usize = 2;

impl Forward<'_, '_> {
    #[inline(always)]
    fn run<I: Isa, const MR: usize>(self, isa: I) {
        let Self { attention, scratch } = self;
        let (head_width, width) = (attention.head_width, attention.heads * attention.head_width);
        let panel = NV * isa.f32().len();
        let mut start = 0;
        for &n in attention.lengths {
            let qkv = &attention.qkv[start * 3 * width..][..n * 3 * width];
            let out = &mut attention.out[start * width..][..n * width];
            for head in 0..attention.heads {
                let column = head * head_width;
                pack_keys(&qkv[width + column..], 3 * width, n, head_width, panel, &mut scratch.keys);
                pack_values(&qkv[2 * width + column..], 3 * width, n, head_width, panel, &mut scratch.values);
                let mut job = Head {
                    queries: &qkv[column..],
                    query_stride: 3 * width,
                    n,
                    head_width,
                    keys: &scratch.keys,
                    values: &scratch.values,
                    bias: attention.bias.map(|bias| (bias, head)),
                    scores: &mut scratch.scores,
                    out: &mut out[column..],
                    out_stride: width,
                };
                job.run::<I, MR>(isa);
            }
            start += n;
        }
    }
}

/// Keys as panels of `panel` columns (keys) by `head_width` rows, zeros beyond the last key.
#[inline(always)]
pub(crate) fn pack_keys(keys: &[f32], stride: usize, n: usize, head_width: usize, panel: usize, packed: &mut Vec<f32>) {
    packed.resize(n.div_ceil(panel) * panel * head_width, 0.0);
    for (i, to) in packed.chunks_exact_mut(panel * head_width).enumerate() {
        let columns = panel.min(n - i * panel);
        if columns < panel {
            to.fill(0.0);
        }
        for column in 0..columns {
            let key = &keys[(i * panel + column) * stride..][..head_width];
            for (to, x) in to.chunks_exact_mut(panel).zip(key) {
                to[column] = *x;
            }
        }
    }
}

/// Values as panels of `panel` columns (numbers of the head) by n rows, zeros beyond the head's width.
#[inline(always)]
pub(crate) fn pack_values(
    values: &[f32],
    stride: usize,
    n: usize,
    head_width: usize,
    panel: usize,
    packed: &mut Vec<f32>,
) {
    packed.resize(head_width.div_ceil(panel) * panel * n, 0.0);
    for (i, to) in packed.chunks_exact_mut(panel * n).enumerate() {
        let columns = panel.min(head_width - i * panel);
        for (row, to) in to.chunks_exact_mut(panel).enumerate() {
            to[..columns].copy_from_slice(&values[row * stride + i * panel..][..columns]);
            to[columns..].fill(0.0);
        }
    }
}

/// One head of one sequence.
struct Head<'a> {
    queries: &'a [f32],
    query_stride: usize,
    n: usize,
    head_width: usize,
    keys: &'a [f32],
    values: &'a [f32],
    bias: Option<(&'a RelativeBias, usize)>,
    scores: &'a mut Vec<f32>,
    out: &'a mut [f32],
    out_stride: usize,
}

impl Head<'_> {
    #[inline(always)]
    fn run<I: Isa, const MR: usize>(&mut self, isa: I) {
        let panel = NV * isa.f32().len();
        self.scores.resize(MR * self.n.div_ceil(panel) * panel, 0.0);
        let tiles = self.n.div_ceil(MR);
        for tile in 0..tiles {
            let (from, to) = (tile * self.n / tiles, (tile + 1) * self.n / tiles);
            match to - from {
                1 => self.block::<I, 1>(isa, from),
                2 => self.block::<I, 2>(isa, from),
                3 => self.block::<I, 3>(isa, from),
                4 => self.block::<I, 4>(isa, from),
                5 => self.block::<I, 5>(isa, from),
                6 => self.block::<I, 6>(isa, from),
                7 => self.block::<I, 7>(isa, from),
                _ => self.block::<I, MR>(isa, from),
            }
        }
    }

    #[inline(always)]
    fn block<I: Isa, const MR: usize>(&mut self, isa: I, first: usize) {
        let f = isa.f32();
        let (lanes, panel) = (f.len(), NV * f.len());
        let padded = self.n.div_ceil(panel) * panel;

        let queries = &self.queries[first * self.query_stride..];
        for (i, keys) in self.keys.chunks_exact(panel * self.head_width).enumerate() {
            let scores = tile::<I, MR, NV>(isa, queries, self.query_stride, self.head_width, keys);
            for (row, scores) in scores.iter().enumerate() {
                let to = &mut self.scores[row * padded + i * panel..][..panel];
                for (x, to) in scores.iter().zip(to.chunks_exact_mut(lanes)) {
                    f.store(*x, to);
                }
            }
        }

        #[expect(clippy::cast_precision_loss, reason = "a head has a few hundred numbers at most")]
        let scale = 1.0 / (self.head_width as f32).sqrt();
        let mut inverse_sums = [0f32; MR];
        for (row, inverse_sum) in inverse_sums.iter_mut().enumerate() {
            let scores = &mut self.scores[row * padded..][..padded];
            let scale = match self.bias {
                None => scale,
                Some((bias, head)) => {
                    for (x, b) in scores.iter_mut().zip(bias.row(head, first + row, self.n)) {
                        *x = *x * scale + b;
                    }
                    1.0
                }
            };
            scores[self.n..].fill(MASKED);
            *inverse_sum = 1.0 / exponentials(isa, scores, scale);
        }

        for (i, values) in self.values.chunks_exact(panel * self.n).enumerate() {
            let sums = tile::<I, MR, NV>(isa, self.scores, padded, self.n, values);
            let columns = panel.min(self.head_width - i * panel);
            for (row, (sums, inverse)) in sums.iter().zip(inverse_sums).enumerate() {
                let out = &mut self.out[(first + row) * self.out_stride + i * panel..][..columns];
                for (x, out) in sums.iter().zip(out.chunks_mut(lanes)) {
                    store_part(f, f.mul(*x, f.splat(inverse)), out);
                }
            }
        }
    }
}

/// Replaces each x by e^(scale · (x − largest)) and returns the sum. Whole vectors only.
#[inline(always)]
fn exponentials<I: Isa>(isa: I, x: &mut [f32], scale: f32) -> f32 {
    let f = isa.f32();
    let lanes = f.len();
    let mut most = f.splat(MASKED);
    for x in x.chunks_exact(lanes) {
        most = f.max(most, f.load(x));
    }
    let most = f.splat(most.to_array().into_iter().fold(MASKED, f32::max));
    let scale = f.splat(scale);
    let mut sum = f.zero();
    for x in x.chunks_exact_mut(lanes) {
        let y = ExpNegative.eval(isa, f.mul(f.sub(f.load(x), most), scale));
        sum = f.add(sum, y);
        f.store(y, x);
    }
    f.sum(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    fn naive(
        qkv: &[f32],
        lengths: &[usize],
        heads: usize,
        width: usize,
        bias: impl Fn(usize, isize) -> f32,
    ) -> Vec<f32> {
        let d = heads * width;
        let mut out = Vec::new();
        let mut start = 0;
        for &n in lengths {
            for i in start..start + n {
                for h in 0..heads {
                    let q = &qkv[i * 3 * d + h * width..][..width];
                    let weights: Vec<f64> = (start..start + n)
                        .map(|j| {
                            let k = &qkv[j * 3 * d + d + h * width..][..width];
                            let dot: f64 = q.iter().zip(k).map(|(a, b)| f64::from(a * b)).sum();
                            (dot / (width as f64).sqrt() + f64::from(bias(h, j as isize - i as isize))).exp()
                        })
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    for c in 0..width {
                        let v = |j: usize| f64::from(qkv[(start + j) * 3 * d + 2 * d + h * width + c]);
                        out.push((weights.iter().enumerate().map(|(j, w)| w * v(j)).sum::<f64>() / sum) as f32);
                    }
                }
            }
            start += n;
        }
        out
    }

    #[test]
    fn sequences_of_mixed_lengths_match_the_definition_and_see_only_themselves() {
        let lengths = [1, 16, 7, 33, 65, 128, 2];
        for (heads, width) in [(12, 32), (2, 64), (3, 20), (1, 1)] {
            let rows: usize = lengths.iter().sum();
            let qkv: Vec<f32> = noise(9, rows * 3 * heads * width).iter().map(|x| x * 3.0).collect();
            let mut scratch = AttentionScratch::default();
            let table = noise(10, heads * 400);
            let relative = |h: usize, d: isize| table[h * 400 + (d + 200) as usize];
            for bias in [None, Some(RelativeBias::new(heads, 130, relative))] {
                let mut got = vec![f32::NAN; rows * heads * width];
                let attention = Attention {
                    qkv: &qkv,
                    lengths: &lengths,
                    heads,
                    head_width: width,
                    bias: bias.as_ref(),
                    out: &mut got,
                };
                attention.forward(&mut scratch);
                let want = match bias {
                    None => naive(&qkv, &lengths, heads, width, |_, _| 0.0),
                    Some(_) => naive(&qkv, &lengths, heads, width, relative),
                };
                assert!(largest_difference(&format!("attention {heads}×{width}"), &got, &want) < 2e-5);
            }
        }
    }
}
