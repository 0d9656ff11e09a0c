//! The f32 matrix product: one register tile that both the linear layers and attention are built from.
//!
//! The right-hand side lies in *panels*: blocks of `width` columns, each stored row after row, so that one step of the
//! product loads a few whole vectors. The left-hand side is read where it lies, one broadcast per row and step. With
//! encoder shapes (k ≤ 3072) a panel stays in the second-level cache while all rows pass by, so the loops need no
//! further blocking.

use crate::activation::Gelu;
use crate::linear::Activation;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};

/// A k × n matrix in panels, the last one filled up with zeros.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    data: Vec<f32>,
    k: usize,
    n: usize,
    width: usize,
}

impl Panels {
    /// Packs the transpose of `rows` (n × k, row-major): the layout in which frameworks store linear weights.
    pub(crate) fn from_transposed(rows: &[f32], n: usize, k: usize) -> Self {
        assert_eq!(rows.len(), n * k, "n × k weights");
        let width = LinearWidth.dispatch();
        let mut data = vec![0.0; n.div_ceil(width) * k * width];
        for (row, weights) in rows.chunks_exact(k.max(1)).enumerate() {
            let (panel, column) = (row / width, row % width);
            let panel = &mut data[panel * k * width..][..k * width];
            for (to, w) in panel.chunks_exact_mut(width).zip(weights) {
                to[column] = *w;
            }
        }
        Self { data, k, n, width }
    }
}

/// Columns of a panel of linear weights on this machine: three vectors where there are 32 registers, else two.
struct LinearWidth;

impl SimdOp for LinearWidth {
    type Output = usize;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> usize {
        match isa.f32().len() {
            8 => 2 * 8,
            lanes => 3 * lanes,
        }
    }
}

/// The product of `MR` rows of `a` (the first at its start, `stride` apart, `k` long) with one panel of `NV` vectors.
#[inline(always)]
pub(crate) fn tile<I: Isa, const MR: usize, const NV: usize>(
    isa: I,
    a: &[f32],
    stride: usize,
    k: usize,
    panel: &[f32],
) -> [[I::F32; NV]; MR] {
    let f = isa.f32();
    let width = NV * f.len();
    let rows: [&[f32]; MR] = std::array::from_fn(|i| &a[i * stride..][..k]);
    let mut sums = [[f.zero(); NV]; MR];
    for (p, b) in panel.chunks_exact(width).take(k).enumerate() {
        let b = f.load_many::<NV>(b);
        for i in 0..MR {
            let x = f.splat(rows[i][p]);
            for j in 0..NV {
                sums[i][j] = f.mul_add(x, b[j], sums[i][j]);
            }
        }
    }
    sums
}

/// Stores the first `to.len()` lanes of `x`, at most all of them.
#[inline(always)]
pub(crate) fn store_part<S: Simd<Elem = f32>, O: BitOps<f32, Simd = S>>(f: O, x: S, to: &mut [f32]) {
    if to.len() >= f.len() {
        f.store(x, to);
    } else {
        for (to, x) in to.iter_mut().zip(x.to_array()) {
            *to = x;
        }
    }
}

/// `out = activation(a · panels + bias)`, with `a` m × k and `out` m × n, row-major.
pub(crate) struct Product<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) panels: &'a Panels,
    pub(crate) bias: &'a [f32],
    pub(crate) activation: Activation,
    pub(crate) out: &'a mut [f32],
}

impl SimdOp for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            8 => self.run::<I, 6, 2>(isa),
            _ => self.run::<I, 8, 3>(isa),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<I: Isa, const MR: usize, const NV: usize>(mut self, isa: I) {
        let Panels { k, n, width, .. } = *self.panels;
        assert!(width == NV * isa.f32().len() && self.bias.len() == n, "packed for this machine");
        let m = self.out.len() / n.max(1);
        assert!(self.a.len() == m * k && self.out.len() == m * n, "m × k in, m × n out");
        if m == 0 || n == 0 {
            return;
        }
        // Tiles of nearly equal height: 16 rows make 8 + 8, 17 make 6 + 6 + 5, and no tile is left with one row.
        let tiles = m.div_ceil(MR);
        for panel in 0..n.div_ceil(width) {
            for tile in 0..tiles {
                let (from, to) = (tile * m / tiles, (tile + 1) * m / tiles);
                match to - from {
                    1 => self.block::<I, 1, NV>(isa, from, panel),
                    2 => self.block::<I, 2, NV>(isa, from, panel),
                    3 => self.block::<I, 3, NV>(isa, from, panel),
                    4 => self.block::<I, 4, NV>(isa, from, panel),
                    5 => self.block::<I, 5, NV>(isa, from, panel),
                    6 => self.block::<I, 6, NV>(isa, from, panel),
                    7 => self.block::<I, 7, NV>(isa, from, panel),
                    _ => self.block::<I, MR, NV>(isa, from, panel),
                }
            }
        }
    }

    #[inline(always)]
    fn block<I: Isa, const MR: usize, const NV: usize>(&mut self, isa: I, row: usize, panel: usize) {
        let f = isa.f32();
        let Panels { k, n, width, .. } = *self.panels;
        let data = &self.panels.data[panel * k * width..][..k * width];
        let sums = tile::<I, MR, NV>(isa, &self.a[row * k..], k, k, data);
        let column = panel * width;
        let columns = width.min(n - column);
        let bias = &self.bias[column..][..columns];
        for (i, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(row + i) * n + column..][..columns];
            for ((x, bias), out) in sums.iter().zip(bias.chunks(f.len())).zip(out.chunks_mut(f.len())) {
                store_part(f, f.add(*x, f.load_pad(bias).0), out);
            }
        }
        if self.activation == Activation::Gelu {
            // A pass of its own: the tile just written is still in the first-level cache, and the coefficients would
            // not fit into the registers beside the sums.
            for i in 0..MR {
                let out = &mut self.out[(row + i) * n + column..][..columns];
                for out in out.chunks_mut(f.len()) {
                    store_part(f, Gelu.eval(isa, f.load_pad(out).0), out);
                }
            }
        }
    }
}
