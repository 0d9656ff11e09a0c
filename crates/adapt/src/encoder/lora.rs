//! Low-rank adapters of encoders.
//!
//! The sum W + α/r · B·A is formed once for each step and packed, because that costs less than passing every token through two more
//! products. Hence there is no dropout between x and A.

use crate::encoder::body::{Body, Dense};
use crate::encoder::parameters::{Gradients, Kind, Parameter};
use crate::lora::{Lora, start};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use understudy_core::Seed;
use understudy_kernels::train::{Mat, Output, ProductOptions, Right, product};

/// A linear layer that gets an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraTarget {
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// The projection after attention.
    Output,
    /// The wide half of the feed-forward part.
    Up,
    /// The other half.
    Down,
}

/// How to adapt an encoder.
pub type LoraParams = Lora<LoraTarget>;

impl Default for LoraParams {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: vec![LoraTarget::Query, LoraTarget::Value] }
    }
}

/// One adapter: `outputs` rows of a weight from `first` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adapter {
    /// The weight it adds to.
    pub(crate) of: usize,
    /// First of its rows there: keys begin after the queries.
    pub(crate) first: usize,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// rank × inputs.
    pub(crate) a: usize,
    /// outputs × rank.
    pub(crate) b: usize,
}

/// Adds adapters to `parameters`: A uniform in ±1/√inputs, as PEFT has it, B zero.
pub(crate) fn attach(body: &Body, parameters: &mut Vec<Parameter>, params: &LoraParams, seed: Seed) -> Vec<Adapter> {
    let mut random = ChaCha8Rng::seed_from_u64(seed.derive("lora").0);
    let mut adapters = Vec::new();
    for layer in &body.layers {
        for target in &params.targets {
            let (dense, part, parts) = match target {
                LoraTarget::Query => (layer.qkv, 0, 3),
                LoraTarget::Key => (layer.qkv, 1, 3),
                LoraTarget::Value => (layer.qkv, 2, 3),
                LoraTarget::Output => (layer.attended, 0, 1),
                LoraTarget::Up => (layer.inner, 0, 1),
                LoraTarget::Down => (layer.outer, 0, 1),
            };
            let (outputs, inputs, rank) = (dense.outputs / parts, dense.inputs, params.rank);
            let base = &parameters[dense.weight];
            let (name, depth) = (base.names[part].trim_end_matches(".weight").to_owned(), base.depth);
            let mut add = |end: &str, shape: [usize; 2], values: Vec<f32>| {
                parameters.push(Parameter {
                    names: vec![format!("{name}.{end}.weight")],
                    shape: shape.to_vec(),
                    values,
                    kind: Kind::Weight,
                    depth,
                    trained: true,
                });
                parameters.len() - 1
            };
            let a = add("lora_A", [rank, inputs], start(&mut random, rank, inputs));
            let b = add("lora_B", [outputs, rank], vec![0.0; outputs * rank]);
            let scale = params.scale();
            adapters.push(Adapter { of: dense.weight, first: part * outputs, outputs, inputs, rank, scale, a, b });
        }
    }
    adapters
}

impl Adapter {
    /// Adds α/r · B·A to its rows of `weight`.
    pub(crate) fn add_to(&self, parameters: &[Parameter], weight: &mut [f32]) {
        let rows = &mut weight[self.first * self.inputs..][..self.outputs * self.inputs];
        let b = Mat::new(&parameters[self.b].values, self.outputs, self.rank);
        let a = Right::Plain(Mat::new(&parameters[self.a].values, self.rank, self.inputs));
        product(b, a, ProductOptions { alpha: self.scale, output: Output::Add, bias: None }, rows);
    }

    /// The gradients of A and B, given those of the layer's outputs and its inputs.
    pub(crate) fn backward(
        &self,
        parameters: &[Parameter],
        dense: Dense,
        grad: &[f32],
        x: &[f32],
        gradients: &mut Gradients,
    ) {
        let rows = grad.len() / dense.outputs;
        let grad = Mat::strided(&grad[self.first..], rows, self.outputs, dense.outputs);
        let x = Mat::new(x, rows, self.inputs);
        let scaled = |output| ProductOptions { alpha: self.scale, output, bias: None };
        let mut thin = vec![0.0; rows * self.rank];

        let a = Mat::new(&parameters[self.a].values, self.rank, self.inputs);
        product(x, Right::Plain(a.t()), ProductOptions::default(), &mut thin);
        let (output, of_b) = gradients.product(self.b);
        product(grad.t(), Right::Plain(Mat::new(&thin, rows, self.rank)), scaled(output), of_b);

        let b = Mat::new(&parameters[self.b].values, self.outputs, self.rank);
        product(grad, Right::Plain(b), ProductOptions::default(), &mut thin);
        let (output, of_a) = gradients.product(self.a);
        product(Mat::new(&thin, rows, self.rank).t(), Right::Plain(x), scaled(output), of_a);
    }
}
