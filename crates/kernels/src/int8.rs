//! The int8 product: per-channel symmetric int8 weights times per-row u8 activations, whose range runs from the row's
//! least to its greatest number (after GELU nearly all are positive: a range symmetric about zero would waste half).
//!
//! The product itself is `rten-gemm`'s, which picks VNNI, AVX2, dot-product or matrix-multiply instructions. That
//! crate spreads over rayon's threads by itself; [`single_threaded_executor`] stops it, because here every caller is one of many
//! workers.

use crate::activation::Gelu;
use crate::linear::Activation;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::ops::{BitOps, FloatOps, NarrowSaturate, NumOps, ToFloat};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};
use rten_tensor::NdTensorView;

/// Rows whose products are summed in one go: their i32 sums (1536 columns) and inputs stay in the second-level cache.
const ROWS: usize = 64;

thread_local!(static EXECUTOR: GemmExecutor<u8, i8, i32> = single_threaded_executor());

/// An executor whose rayon calls stay on this thread: the thread becomes the only one of a pool of its own. A thread
/// that already belongs to a pool is left as it is.
fn single_threaded_executor() -> GemmExecutor<u8, i8, i32> {
    if rayon::current_thread_index().is_none() {
        // A failure leaves rayon's global pool in charge, which is slower but right. The pool object goes, the
        // thread's membership stays until the thread ends.
        drop(rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build());
    }
    GemmExecutor::new()
}

/// The name of the instruction set that the int8 product uses here, for reports.
#[must_use]
pub fn instruction_set() -> String {
    EXECUTOR.with(|executor| executor.kernel_name().to_owned())
}

/// int8 weights, packed for this machine.
pub(crate) struct Weights {
    packed: PackedBMatrix<i8>,
    scales: Vec<f32>,
    /// Sum of each channel's weights: what one step of a row's zero point adds to the products.
    sums: Vec<i32>,
    inputs: usize,
    outputs: usize,
}

/// Buffers of the int8 product.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    values: Vec<u8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    zero_points: Vec<i32>,
}

impl Weights {
    /// Quantises `rows` (outputs × inputs), each row with its own scale.
    pub(crate) fn new(rows: &[f32], outputs: usize, inputs: usize) -> Self {
        // Without VNNI, pairs of products are summed in 16 bits and would saturate with 8-bit weights; with 7 bits
        // 2 · 255 · 63 fits.
        let most = if EXECUTOR.with(GemmExecutor::may_saturate) { 63.0 } else { 127.0 };
        let mut values = Vec::with_capacity(rows.len());
        let mut scales = Vec::with_capacity(outputs);
        for row in rows.chunks_exact(inputs.max(1)) {
            let largest = row.iter().fold(0f32, |a, x| a.max(x.abs())).max(f32::MIN_POSITIVE);
            let scale = largest / most;
            scales.push(scale);
            #[expect(clippy::cast_possible_truncation, reason = "in [-127, 127] by the choice of scale")]
            values.extend(row.iter().map(|w| (w / scale).round_ties_even() as i8));
        }
        let sums = values.chunks_exact(inputs.max(1)).map(|row| row.iter().map(|w| i32::from(*w)).sum()).collect();
        let view = NdTensorView::from_data([outputs, inputs], values.as_slice());
        let packed = EXECUTOR.with(|executor| executor.prepack_b(view.transposed()));
        Self { packed, scales, sums, inputs, outputs }
    }

    /// `out = activation(x · wᵀ + bias)`.
    pub(crate) fn product(
        &self,
        x: &[f32],
        bias: &[f32],
        activation: Activation,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let rows = ROWS.min(out.len() / self.outputs.max(1));
        grow(&mut scratch.values, rows * self.inputs);
        grow(&mut scratch.scales, rows);
        grow(&mut scratch.sums, rows * self.outputs);
        grow(&mut scratch.zero_points, rows);
        EXECUTOR.with(|executor| {
            for (x, out) in x.chunks(ROWS * self.inputs).zip(out.chunks_mut(ROWS * self.outputs)) {
                let rows = out.len() / self.outputs;
                let values = &mut scratch.values[..rows * self.inputs];
                let scales = &mut scratch.scales[..rows];
                let sums = &mut scratch.sums[..rows * self.outputs];
                let zero_points = &mut scratch.zero_points[..rows];
                Quantize { x, columns: self.inputs, values, scales, zero_points }.dispatch();
                let a = NdTensorView::from_data([rows, self.inputs], &*values);
                // The zero points are taken off afterwards: rten-gemm 0.27 applies those of the first rows to all.
                executor
                    .gemm(sums, GemmInputA::Unpacked(a), GemmInputB::Packed(&self.packed), GemmOptions::default())
                    .expect("the shapes agree by construction");
                Dequantize { sums, row_scales: scales, zero_points, weights: self, bias, activation, out }.dispatch();
            }
        });
    }
}

fn grow<T: Clone + Default>(buffer: &mut Vec<T>, n: usize) {
    if buffer.len() < n {
        buffer.resize(n, T::default());
    }
}

/// Quantises each row over its own range, which always includes zero.
struct Quantize<'a> {
    x: &'a [f32],
    columns: usize,
    values: &'a mut [u8],
    scales: &'a mut [f32],
    zero_points: &'a mut [i32],
}

impl SimdOp for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let rows = self.x.chunks_exact(self.columns).zip(self.values.chunks_exact_mut(self.columns));
        for ((x, values), (scale, zero)) in rows.zip(self.scales.iter_mut().zip(self.zero_points)) {
            let (least, greatest) = range(isa, x);
            *scale = ((greatest - least) / 255.0).max(1e-12);
            #[expect(clippy::cast_possible_truncation, reason = "in [0, 255]: least ≤ 0 and the scale is of the range")]
            let zero_point = (-least / *scale).round_ties_even() as i32;
            *zero = zero_point;
            quantize_row(isa, x, 1.0 / *scale, zero_point, values);
        }
    }
}

/// The least and the greatest of the numbers and zero.
#[inline(always)]
fn range<I: Isa>(isa: I, x: &[f32]) -> (f32, f32) {
    let f = isa.f32();
    let lanes = f.len();
    let (mut least, mut greatest) = ([f.zero(); 4], [f.zero(); 4]);
    let (body, tail) = x.split_at(x.len() / (4 * lanes) * (4 * lanes));
    for x in body.chunks_exact(4 * lanes) {
        let x = f.load_many::<4>(x);
        for i in 0..4 {
            least[i] = f.min(least[i], x[i]);
            greatest[i] = f.max(greatest[i], x[i]);
        }
    }
    let least = f.min(f.min(least[0], least[1]), f.min(least[2], least[3]));
    let greatest = f.max(f.max(greatest[0], greatest[1]), f.max(greatest[2], greatest[3]));
    let least = least.to_array().into_iter().chain(tail.iter().copied()).fold(0f32, f32::min);
    let greatest = greatest.to_array().into_iter().chain(tail.iter().copied()).fold(0f32, f32::max);
    (least, greatest)
}

#[inline(always)]
fn quantize_row<I: Isa>(isa: I, x: &[f32], inverse_scale: f32, zero_point: i32, values: &mut [u8]) {
    let (f, int, short) = (isa.f32(), isa.i32(), isa.i16());
    let lanes = f.len();
    let (inverse, zero) = (f.splat(inverse_scale), int.splat(zero_point));
    let body = x.len() / (4 * lanes) * (4 * lanes);
    for (x, to) in x[..body].chunks_exact(4 * lanes).zip(values[..body].chunks_exact_mut(4 * lanes)) {
        let x = f.load_many::<4>(x).map(|x| int.add(f.to_int_round(f.mul(x, inverse)), zero));
        let low = int.narrow_saturate(x[0], x[1]);
        let high = int.narrow_saturate(x[2], x[3]);
        isa.u8().store(short.narrow_saturate(low, high), to);
    }
    for (x, to) in x[body..].iter().zip(&mut values[body..]) {
        #[expect(clippy::cast_possible_truncation, reason = "within the range that 255 steps cover, and clamped")]
        let value = ((x * inverse_scale).round_ties_even() as i32 + zero_point).clamp(0, 255);
        *to = u8::try_from(value).expect("clamped to a byte");
    }
}

/// `out = activation((sums − zero point · channel sum) · row scale · channel scale + bias)`.
struct Dequantize<'a> {
    sums: &'a [i32],
    row_scales: &'a [f32],
    zero_points: &'a [i32],
    weights: &'a Weights,
    bias: &'a [f32],
    activation: Activation,
    out: &'a mut [f32],
}

impl SimdOp for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (f, int) = (isa.f32(), isa.i32());
        let (lanes, n) = (f.len(), self.weights.outputs);
        let body = n / lanes * lanes;
        let (scales, channel_sums) = (&self.weights.scales, &self.weights.sums);
        let rows = self.sums.chunks_exact(n).zip(self.out.chunks_exact_mut(n));
        for ((sums, out), (row_scale, zero_point)) in rows.zip(self.row_scales.iter().zip(self.zero_points)) {
            let (scale, zero) = (f.splat(*row_scale), int.splat(*zero_point));
            let vectors = sums.chunks_exact(lanes).zip(out.chunks_exact_mut(lanes));
            let channels = scales.chunks_exact(lanes).zip(channel_sums.chunks_exact(lanes));
            for (((sums, out), (channel, channel_sum)), bias) in
                vectors.zip(channels).zip(self.bias.chunks_exact(lanes))
            {
                let sum = int.sub(int.load(sums), int.mul(zero, int.load(channel_sum)));
                let mut y = f.mul_add(f.mul(int.to_float(sum), scale), f.load(channel), f.load(bias));
                if self.activation == Activation::Gelu {
                    y = Gelu.eval(isa, y);
                }
                f.store(y, out);
            }
            for i in body..n {
                #[expect(clippy::cast_precision_loss, reason = "loses at most 2^-24 of itself, far below a step")]
                let sum = (sums[i] - zero_point * channel_sums[i]) as f32;
                let y = sum * row_scale * scales[i] + self.bias[i];
                out[i] = if self.activation == Activation::Gelu { Gelu.scalar_eval(y) } else { y };
            }
        }
    }
}
