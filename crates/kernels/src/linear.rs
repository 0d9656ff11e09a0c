//! The linear layer: y = activation(x·Wᵀ + b) with weights packed once for this machine.

use crate::gemm::{Panels, Product};
use crate::int8;
use rten_simd::SimdOp;

/// Number format of the weights and of the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// 8-bit integers: per-channel weights, per-row activations scaled as they come. A quarter of the memory.
    Int8,
}

impl Dtype {
    /// The name in reports and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

/// What follows the product, in the same pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// The exact (erf) GELU.
    Gelu,
}

/// A linear layer of `outputs` × `inputs` weights.
pub struct Linear {
    weights: Weights,
    bias: Vec<f32>,
    inputs: usize,
}

enum Weights {
    F32(Panels),
    Int8(int8::Weights),
}

/// Buffers that a thread reuses from call to call.
#[derive(Debug, Default)]
pub struct LinearScratch {
    int8: int8::Scratch,
}

impl Linear {
    /// Packs `weights` (outputs × inputs, row-major, as frameworks store them); `bias` has one number per output.
    ///
    /// # Panics
    /// When `weights` is not `bias.len()` whole rows.
    #[must_use]
    pub fn new(weights: &[f32], bias: &[f32], dtype: Dtype) -> Self {
        let outputs = bias.len();
        let inputs = weights.len() / outputs.max(1);
        assert_eq!(weights.len(), inputs * outputs, "one row of weights for each output");
        let weights = match dtype {
            Dtype::F32 => Weights::F32(Panels::from_transposed(weights, outputs, inputs)),
            Dtype::Int8 => Weights::Int8(int8::Weights::new(weights, outputs, inputs)),
        };
        Self { weights, bias: bias.to_vec(), inputs }
    }

    /// Length of an input row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Computes all rows of `x` (rows × inputs) into `out` (rows × outputs).
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn forward(&self, x: &[f32], activation: Activation, out: &mut [f32], scratch: &mut LinearScratch) {
        let rows = out.len() / self.outputs().max(1);
        assert!(x.len() == rows * self.inputs && out.len() == rows * self.outputs(), "rows in, rows out");
        if out.is_empty() {
            return;
        }
        match &self.weights {
            Weights::F32(panels) => Product { a: x, panels, bias: &self.bias, activation, out }.dispatch(),
            Weights::Int8(weights) => weights.product(x, &self.bias, activation, out, &mut scratch.int8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, naive_linear, noise};

    fn outputs(dtype: Dtype, rows: usize, inputs: usize, outputs: usize) -> (Vec<f32>, Vec<f32>) {
        let (x, w, b) = (noise(1, rows * inputs), noise(2, outputs * inputs), noise(3, outputs));
        let mut got = vec![f32::NAN; rows * outputs];
        Linear::new(&w, &b, dtype).forward(&x, Activation::Identity, &mut got, &mut LinearScratch::default());
        (got, naive_linear(&x, &w, &b, inputs))
    }

    /// Shapes with every kind of remainder: rows 1–17, widths that are no multiple of a vector.
    fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
        let rows = (1..=17).map(|rows| (rows, 40, 50));
        rows.chain([(130, 384, 1152), (16, 1536, 384), (3, 1, 1), (70, 33, 7), (9, 100, 97)])
    }

    #[test]
    fn f32_products_of_all_shapes_match_the_naive_product() {
        for (rows, inputs, columns) in shapes() {
            let (got, want) = outputs(Dtype::F32, rows, inputs, columns);
            let worst = largest_difference(&format!("f32 {rows}×{inputs}×{columns}"), &got, &want);
            assert!(worst < 2e-6 * inputs as f32 + 1e-6);
        }
    }

    #[test]
    fn int8_products_of_all_shapes_err_by_rounding_only() {
        for (rows, inputs, columns) in shapes() {
            let (got, want) = outputs(Dtype::Int8, rows, inputs, columns);
            let worst = largest_difference(&format!("int8 {rows}×{inputs}×{columns}"), &got, &want);
            // Each product of two numbers in [−1, 1) errs by at most half a step of each, (1/127 + 1/63)/2, and the
            // errors of a sum are independent: six standard deviations of their sum.
            assert!(worst < 6.0 * 0.5 * (1.0 / 127.0 + 1.0 / 63.0) * (inputs as f32 / 3.0).sqrt() + 0.01);
        }
    }

    #[test]
    fn gelu_in_the_same_pass_equals_gelu_afterwards() {
        for dtype in [Dtype::F32, Dtype::Int8] {
            let (x, w, b) = (noise(4, 19 * 70), noise(5, 100 * 70), noise(6, 100));
            let linear = Linear::new(&w, &b, dtype);
            let (mut fused, mut plain) = (vec![0.0; 19 * 100], vec![0.0; 19 * 100]);
            let mut scratch = LinearScratch::default();
            linear.forward(&x, Activation::Gelu, &mut fused, &mut scratch);
            linear.forward(&x, Activation::Identity, &mut plain, &mut scratch);
            crate::gelu(&mut plain);
            assert!(largest_difference(dtype.as_str(), &fused, &plain) < 1e-5);
        }
    }

    #[test]
    fn a_row_of_zeros_gives_the_bias() {
        for dtype in [Dtype::F32, Dtype::Int8] {
            let (w, b) = (noise(5, 20 * 30), noise(6, 20));
            let mut out = vec![f32::NAN; 20];
            let linear = Linear::new(&w, &b, dtype);
            linear.forward(&[0.0; 30], Activation::Identity, &mut out, &mut LinearScratch::default());
            assert!(largest_difference(dtype.as_str(), &out, &b) < 1e-6);
        }
    }
}
