//! Low-rank adapters (Hu et al., arXiv 2106.09685): a frozen weight W becomes W + α/r · B·A, and only A and B are
//! trained.
//!
//! The sum is formed once for each step and packed, because that costs less than passing every token through two more
//! products. Hence there is no dropout between x and A.

use crate::encoder::body::{Body, Dense};
use crate::encoder::parameters::{Gradients, Kind, Parameter};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result, Seed};
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

/// How to adapt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraParams {
    /// Rows of A.
    pub rank: usize,
    /// The adapter counts α / rank times.
    pub alpha: f64,
    /// What is adapted.
    pub targets: Vec<LoraTarget>,
}

impl Default for LoraParams {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: vec![LoraTarget::Query, LoraTarget::Value] }
    }
}

impl LoraParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &str, what: &str| {
            Err(Error::invalid(format!("use LoRA parameter `{field}`: {what}")).with_param(field))
        };
        if self.rank == 0 {
            return wrong("rank", "it must be at least 1");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return wrong("alpha", "it must be a positive number");
        }
        let mut targets = self.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() || targets.len() < self.targets.len() {
            return wrong("targets", "it must name at least one layer, and each once");
        }
        Ok(())
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
            #[expect(clippy::cast_precision_loss, reason = "a few thousand inputs")]
            let reach = 1.0 / (inputs as f32).sqrt();
            let start = (0..rank * inputs).map(|_| random.random_range(-reach..reach)).collect();
            let a = add("lora_A", [rank, inputs], start);
            let b = add("lora_B", [outputs, rank], vec![0.0; outputs * rank]);
            #[expect(clippy::cast_possible_truncation, reason = "a factor of the order of 1")]
            let scale = (params.alpha / rank as f64) as f32;
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
