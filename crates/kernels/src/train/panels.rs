//! What the two kinds of attention that train have in common: products of a strided matrix with packed panels, both
//! ways through a head, the softmax, the division among threads.

use crate::attention::pack_values;
use crate::gemm::{store_part, tile};
use rten_simd::Isa;
use rten_simd::ops::{BitOps, NumOps};

/// Cuts a slice into parts of the given lengths.
pub(super) fn split(mut rest: &mut [f32], lengths: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
    lengths
        .map(|n| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(n);
            rest = after;
            part
        })
        .collect()
}

/// Vectors per panel, as in the kernel that serves.
pub(super) const NV: usize = 2;

/// Rows of the left-hand side.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) k: usize,
}

/// `out = scale · left · panels`, `columns` wide, rows `stride` apart.
#[inline(always)]
pub(super) fn multiply<I: Isa>(
    isa: I,
    left: Left<'_>,
    panels: &[f32],
    columns: usize,
    scale: f32,
    out: &mut [f32],
    stride: usize,
) {
    match isa.f32().len() {
        8 => multiply_by::<I, 6>(isa, left, panels, columns, scale, out, stride),
        _ => multiply_by::<I, 8>(isa, left, panels, columns, scale, out, stride),
    }
}

#[inline(always)]
fn multiply_by<I: Isa, const MR: usize>(
    isa: I,
    left: Left<'_>,
    panels: &[f32],
    columns: usize,
    scale: f32,
    out: &mut [f32],
    stride: usize,
) {
    let width = NV * isa.f32().len();
    let tiles = left.rows.div_ceil(MR);
    for (i, panel) in panels.chunks_exact((width * left.k).max(1)).enumerate() {
        let columns = width.min(columns - i * width);
        for tile in 0..tiles {
            let (from, to) = (tile * left.rows / tiles, (tile + 1) * left.rows / tiles);
            let a = &left.values[from * left.stride..];
            let out = &mut out[from * stride + i * width..];
            let place = Place { columns, scale, out, stride };
            match to - from {
                1 => block::<I, 1>(isa, a, left, panel, place),
                2 => block::<I, 2>(isa, a, left, panel, place),
                3 => block::<I, 3>(isa, a, left, panel, place),
                4 => block::<I, 4>(isa, a, left, panel, place),
                5 => block::<I, 5>(isa, a, left, panel, place),
                6 => block::<I, 6>(isa, a, left, panel, place),
                7 => block::<I, 7>(isa, a, left, panel, place),
                _ => block::<I, MR>(isa, a, left, panel, place),
            }
        }
    }
}

struct Place<'a> {
    columns: usize,
    scale: f32,
    out: &'a mut [f32],
    stride: usize,
}

#[inline(always)]
fn block<I: Isa, const MR: usize>(isa: I, a: &[f32], left: Left<'_>, panel: &[f32], place: Place<'_>) {
    let f = isa.f32();
    let sums = tile::<I, MR, NV>(isa, a, left.stride, left.k, panel);
    let scale = f.splat(place.scale);
    for (row, sums) in sums.iter().enumerate() {
        let out = &mut place.out[row * place.stride..][..place.columns];
        for (x, out) in sums.iter().zip(out.chunks_mut(f.len())) {
            store_part(f, f.mul(*x, scale), out);
        }
    }
}

/// The transpose of `rows` rows that begin `stride` apart.
#[inline(always)]
fn transpose(x: &[f32], stride: usize, rows: usize, columns: usize, out: &mut Vec<f32>) {
    out.resize(rows * columns, 0.0);
    for row in 0..rows {
        for (column, x) in x[row * stride..][..columns].iter().enumerate() {
            out[column * rows + row] = *x;
        }
    }
}

/// Writes a transposed result (columns × rows) to rows that begin `stride` apart.
#[inline(always)]
pub(super) fn untranspose(x: &[f32], rows: usize, columns: usize, out: &mut [f32], stride: usize) {
    for row in 0..rows {
        for (column, out) in out[row * stride..][..columns].iter_mut().enumerate() {
            *out = x[column * rows + row];
        }
    }
}

/// Buffers of [`turned_product`].
#[derive(Default)]
pub(super) struct Turned {
    panels: Vec<f32>,
    transposed: Vec<f32>,
    result: Vec<f32>,
}

/// `scale · (weightsᵀ · x)ᵀ` of square `weights` and `x`, as many rows of `columns` numbers `stride` apart: columns × rows.
/// Computed as xᵀ · weights, because square weights are packed by copying rows.
#[inline(always)]
pub(super) fn turned_product<'t, I: Isa>(
    isa: I,
    weights: &[f32],
    x: &[f32],
    [stride, rows, columns]: [usize; 3],
    scale: f32,
    turned: &'t mut Turned,
) -> &'t [f32] {
    let Turned { panels, transposed, result } = turned;
    pack_values(weights, rows, rows, rows, NV * isa.f32().len(), panels);
    transpose(x, stride, rows, columns, transposed);
    result.resize(rows * columns, 0.0);
    let left = Left { values: transposed, stride: rows, rows: columns, k: rows };
    multiply(isa, left, panels, rows, scale, result, rows);
    &result[..rows * columns]
}

/// 1 / √head width.
#[expect(clippy::cast_precision_loss, reason = "a head has a few hundred numbers at most")]
pub(super) fn score_scale(head_width: usize) -> f32 {
    1.0 / (head_width as f32).sqrt()
}

/// Gradient with respect to a softmax's inputs, in place of that with respect to its results p: p · (g − Σ p·g).
#[inline(always)]
pub(super) fn softmax_backward<I: Isa>(isa: I, p: &[f32], grad: &mut [f32]) {
    let f = isa.f32();
    let lanes = f.len();
    let body = p.len() / lanes * lanes;
    let mut sums = f.zero();
    for (p, g) in p.chunks_exact(lanes).zip(grad.chunks_exact(lanes)) {
        sums = f.mul_add(f.load(p), f.load(g), sums);
    }
    let rest: f32 = p[body..].iter().zip(&grad[body..]).map(|(p, g)| p * g).sum();
    let mean = f.sum(sums) + rest;
    p.iter().zip(grad).for_each(|(p, g)| *g = p * (*g - mean));
}
