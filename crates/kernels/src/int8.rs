//! The int8 product: per-channel symmetric int8 weights times per-row u8 activations with zero point 128.
//!
//! The product itself is `rten-gemm`'s, which picks VNNI, AVX2, dot-product or matrix-multiply instructions. That
//! crate spreads over rayon's threads by itself; [`single_threaded_executor`] stops it, because here every caller is one of many
//! workers.

use crate::activation::Gelu;
use crate::linear::Activation;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix, QuantParams};
use rten_simd::ops::{BitOps, FloatOps, NarrowSaturate, NumOps, ToFloat};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};
use rten_tensor::NdTensorView;

/// The u8 that stands for zero.
const ZERO_POINT: u8 = 128;
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
    inputs: usize,
    outputs: usize,
}

/// Buffers of the int8 product.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    values: Vec<u8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    zero_points: Vec<u8>,
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
        let view = NdTensorView::from_data([outputs, inputs], values.as_slice());
        let packed = EXECUTOR.with(|executor| executor.prepack_b(view.transposed()));
        Self { packed, scales, inputs, outputs }
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
        scratch.zero_points.resize(rows.max(scratch.zero_points.len()), ZERO_POINT);
        EXECUTOR.with(|executor| {
            for (x, out) in x.chunks(ROWS * self.inputs).zip(out.chunks_mut(ROWS * self.outputs)) {
                let rows = out.len() / self.outputs;
                let values = &mut scratch.values[..rows * self.inputs];
                let scales = &mut scratch.scales[..rows];
                let sums = &mut scratch.sums[..rows * self.outputs];
                Quantize { x, columns: self.inputs, values, scales }.dispatch();
                let a = NdTensorView::from_data([rows, self.inputs], &*values);
                let options = GemmOptions {
                    a_quant: Some(QuantParams { zero_point: &scratch.zero_points[..rows] }),
                    ..GemmOptions::default()
                };
                executor
                    .gemm(sums, GemmInputA::Unpacked(a), GemmInputB::Packed(&self.packed), options)
                    .expect("the shapes agree by construction");
                Dequantize { sums, row_scales: scales, scales: &self.scales, bias, activation, out }.dispatch();
            }
        });
    }
}

fn grow<T: Clone + Default>(buffer: &mut Vec<T>, n: usize) {
    if buffer.len() < n {
        buffer.resize(n, T::default());
    }
}

/// Symmetric quantisation of each row by its largest magnitude.
struct Quantize<'a> {
    x: &'a [f32],
    columns: usize,
    values: &'a mut [u8],
    scales: &'a mut [f32],
}

impl SimdOp for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let rows = self.x.chunks_exact(self.columns).zip(self.values.chunks_exact_mut(self.columns));
        for ((x, values), scale) in rows.zip(self.scales) {
            let largest = largest_magnitude(isa, x);
            *scale = largest / 127.0;
            quantize_row(isa, x, 127.0 / largest, values);
        }
    }
}

#[inline(always)]
fn largest_magnitude<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let f = isa.f32();
    let lanes = f.len();
    let mut most = [f.splat(1e-9); 4];
    let (body, tail) = x.split_at(x.len() / (4 * lanes) * (4 * lanes));
    for x in body.chunks_exact(4 * lanes) {
        let x = f.load_many::<4>(x);
        for i in 0..4 {
            most[i] = f.max(most[i], f.abs(x[i]));
        }
    }
    let most = f.max(f.max(most[0], most[1]), f.max(most[2], most[3]));
    let most = most.to_array().into_iter().fold(0f32, f32::max);
    tail.iter().fold(most, |most, x| most.max(x.abs()))
}

#[inline(always)]
fn quantize_row<I: Isa>(isa: I, x: &[f32], inverse_scale: f32, values: &mut [u8]) {
    let (f, int, short) = (isa.f32(), isa.i32(), isa.i16());
    let lanes = f.len();
    let (inverse, zero_point) = (f.splat(inverse_scale), int.splat(i32::from(ZERO_POINT)));
    let body = x.len() / (4 * lanes) * (4 * lanes);
    for (x, to) in x[..body].chunks_exact(4 * lanes).zip(values[..body].chunks_exact_mut(4 * lanes)) {
        let x = f.load_many::<4>(x).map(|x| int.add(f.to_int_round(f.mul(x, inverse)), zero_point));
        let low = int.narrow_saturate(x[0], x[1]);
        let high = int.narrow_saturate(x[2], x[3]);
        isa.u8().store(short.narrow_saturate(low, high), to);
    }
    for (x, to) in x[body..].iter().zip(&mut values[body..]) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in [1, 255]: |x·inverse| ≤ 127")]
        let value = ((x * inverse_scale).round_ties_even() + f32::from(ZERO_POINT)) as u8;
        *to = value;
    }
}

/// `out = activation(sums · row scale · channel scale + bias)`.
struct Dequantize<'a> {
    sums: &'a [i32],
    row_scales: &'a [f32],
    scales: &'a [f32],
    bias: &'a [f32],
    activation: Activation,
    out: &'a mut [f32],
}

impl SimdOp for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (f, int) = (isa.f32(), isa.i32());
        let (lanes, n) = (f.len(), self.scales.len());
        let body = n / lanes * lanes;
        let rows = self.sums.chunks_exact(n).zip(self.out.chunks_exact_mut(n));
        for ((sums, out), row_scale) in rows.zip(self.row_scales) {
            let scale = f.splat(*row_scale);
            let vectors = sums.chunks_exact(lanes).zip(out.chunks_exact_mut(lanes));
            let channels = self.scales.chunks_exact(lanes).zip(self.bias.chunks_exact(lanes));
            for ((sums, out), (channel, bias)) in vectors.zip(channels) {
                let x = f.mul(int.to_float(int.load(sums)), scale);
                let mut y = f.mul_add(x, f.load(channel), f.load(bias));
                if self.activation == Activation::Gelu {
                    y = Gelu.eval(isa, y);
                }
                f.store(y, out);
            }
            for i in body..n {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "the sums stay below 2^24 up to k = 520 and lose 2^-24 of themselves beyond"
                )]
                let x = sums[i] as f32 * row_scale * self.scales[i] + self.bias[i];
                out[i] = if self.activation == Activation::Gelu { Gelu.scalar_eval(x) } else { x };
            }
        }
    }
}
