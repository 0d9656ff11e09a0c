//! From the states of tokens to the outputs of the head, and back: pooling, the mean over windows, unit length, dropout,
//! an optional hidden layer, the linear layer.

use crate::encoder::batch::Batch;
use crate::encoder::forward::{drop_all, sized};
use crate::encoder::parameters::{Gradients, Kind, Parameter};
use crate::encoder::second::Second;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use understudy_core::Seed;
use understudy_kernels::train::{Dropout, Mat, Output, ProductOptions, Right, add_column_sums, product, tanh_backward};
use understudy_kernels::{Pooling, tanh};

/// What the head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// One vector for each text, of unit length: what the encoder that serves hands out.
    UnitVector,
    /// One vector for each text, as pooling leaves it.
    Vector,
    /// The state of each token.
    Tokens,
}

/// A linear layer of the head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}

/// The head as places in a list of parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readout {
    pub(crate) level: Level,
    pub(crate) hidden: Option<Linear>,
    pub(crate) output: Linear,
    pub(crate) pooling: Pooling,
    pub(crate) width: usize,
    /// What else reads the same input while training.
    pub(crate) second: Option<Second>,
}

/// What the backward pass reads.
#[derive(Default)]
pub(crate) struct Read {
    /// What the head read: a row for each text or token, after dropout.
    pub(crate) input: Vec<f32>,
    /// The same before dropout.
    pub(crate) vectors: Vec<f32>,
    /// 1 / length of each vector before it was made one.
    inverse_lengths: Vec<f32>,
    hidden: Vec<f32>,
    pub(crate) outputs: Vec<f32>,
    pub(crate) grad: Vec<f32>,
    grad_hidden: Vec<f32>,
    pub(crate) grad_input: Vec<f32>,
    /// What the second head says, and the gradient of it.
    pub(crate) second: Vec<f32>,
    pub(crate) second_grad: Vec<f32>,
}

impl Readout {
    /// Adds a head to `parameters`: weights normal with deviation 0.02 (BERT's), biases zero.
    pub(crate) fn new(
        parameters: &mut Vec<Parameter>,
        shape: [usize; 2],
        hidden: Option<usize>,
        level: Level,
        pooling: Pooling,
        depth: usize,
        seed: Seed,
    ) -> Self {
        let [outputs, width] = shape;
        let mut random = ChaCha8Rng::seed_from_u64(seed.derive("head").0);
        let mut linear = |name: &str, outputs: usize, inputs: usize| {
            // Twelve uniform numbers: normal enough for a start, and the same on every platform.
            let mut normal = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
            let weights = (0..outputs * inputs).map(|_| 0.02 * normal()).collect();
            let mut add = |end: &str, shape: Vec<usize>, values: Vec<f32>, kind| {
                let names = vec![format!("{name}.{end}")];
                parameters.push(Parameter { names, shape, values, kind, depth, trained: true });
                parameters.len() - 1
            };
            let weight = add("weight", vec![outputs, inputs], weights, Kind::Weight);
            let bias = add("bias", vec![outputs], vec![0.0; outputs], Kind::Bias);
            Linear { weight, bias, outputs, inputs }
        };
        let inner = hidden.map(|hidden| linear("classifier.dense", hidden, width));
        let name = if inner.is_some() { "classifier.out_proj" } else { "classifier" };
        let output = linear(name, outputs, hidden.unwrap_or(width));
        Self { level, hidden: inner, output, pooling, width, second: None }
    }

    /// Fills `read.outputs` from the states.
    pub(crate) fn forward(
        &self,
        parameters: &[Parameter],
        batch: &Batch<'_>,
        states: &[f32],
        dropout: Option<Dropout>,
        read: &mut Read,
    ) {
        match self.level {
            Level::Tokens => {
                read.vectors.clear();
                read.vectors.extend_from_slice(states);
            }
            Level::Vector => self.pool(batch, states, &mut read.vectors),
            Level::UnitVector => {
                self.pool(batch, states, &mut read.vectors);
                read.inverse_lengths.clear();
                for vector in read.vectors.chunks_exact_mut(self.width) {
                    let scale = 1.0 / vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
                    vector.iter_mut().for_each(|x| *x *= scale);
                    read.inverse_lengths.push(scale);
                }
            }
        }
        read.input.clear();
        read.input.extend_from_slice(&read.vectors);
        drop_all(dropout, &mut read.input);
        let rows = read.input.len() / self.width;
        let mut input = &read.input;
        if let Some(hidden) = self.hidden {
            let out = sized(&mut read.hidden, rows * hidden.outputs);
            hidden.forward(parameters, input, out);
            tanh(out);
            input = &read.hidden;
        }
        self.output.forward(parameters, input, sized(&mut read.outputs, rows * self.output.outputs));
    }

    /// From the gradient of the outputs (`read.grad`) to those of the head and of the states.
    pub(crate) fn backward(
        &self,
        parameters: &[Parameter],
        dropout: Option<Dropout>,
        read: &mut Read,
        gradients: &mut Gradients,
    ) {
        let rows = read.input.len() / self.width;
        let grad_input = sized(&mut read.grad_input, rows * self.width);
        if let Some(hidden) = self.hidden {
            let grad_hidden = sized(&mut read.grad_hidden, rows * hidden.outputs);
            let to_hidden = (Output::Replace, &mut *grad_hidden);
            self.output.backward(parameters, &read.hidden, &read.grad, gradients, to_hidden);
            tanh_backward(&read.hidden, grad_hidden);
            let to_input = (Output::Replace, &mut *grad_input);
            hidden.backward(parameters, &read.input, grad_hidden, gradients, to_input);
        } else {
            let to_input = (Output::Replace, &mut *grad_input);
            self.output.backward(parameters, &read.input, &read.grad, gradients, to_input);
        }
        if let Some(Second { linear, .. }) = self.second {
            let to_input = (Output::Add, &mut *grad_input);
            linear.backward(parameters, &read.input, &read.second_grad, gradients, to_input);
        }
        drop_all(dropout, grad_input);
        self.input_backward(read);
    }

    /// Through unit length, in place: (g − u · (u·g)) / length.
    pub(crate) fn input_backward(&self, read: &mut Read) {
        if self.level != Level::UnitVector {
            return;
        }
        let rows = read.grad_input.chunks_exact_mut(self.width).zip(read.vectors.chunks_exact(self.width));
        for ((grad, unit), scale) in rows.zip(&read.inverse_lengths) {
            let along: f32 = grad.iter().zip(unit).map(|(g, u)| g * u).sum();
            grad.iter_mut().zip(unit).for_each(|(g, u)| *g = (*g - along * u) * scale);
        }
    }

    /// From the gradient of the vectors to that of the states.
    pub(crate) fn spread(&self, batch: &Batch<'_>, read: &Read, states: &mut Vec<f32>) {
        let width = self.width;
        if self.level == Level::Tokens {
            states.clear();
            states.extend_from_slice(&read.grad_input);
            return;
        }
        let states = sized(states, batch.ids.len() * width);
        let (mut rest, mut lengths) = (states, batch.lengths.iter());
        for (grad, windows) in read.grad_input.chunks_exact(width).zip(&batch.windows) {
            for n in lengths.by_ref().take(*windows) {
                let (window, after) = std::mem::take(&mut rest).split_at_mut(n * width);
                rest = after;
                match self.pooling {
                    Pooling::Mean => {
                        let share = share(*windows * n);
                        for row in window.chunks_exact_mut(width) {
                            row.iter_mut().zip(grad).for_each(|(to, g)| *to = g * share);
                        }
                    }
                    Pooling::Cls => {
                        let share = share(*windows);
                        window.fill(0.0);
                        window[..width].iter_mut().zip(grad).for_each(|(to, g)| *to = g * share);
                    }
                }
            }
        }
    }

    /// The mean over windows of each window's pooled states.
    fn pool(&self, batch: &Batch<'_>, states: &[f32], vectors: &mut Vec<f32>) {
        let width = self.width;
        vectors.clear();
        vectors.resize(batch.windows.len() * width, 0.0);
        let (mut rest, mut lengths) = (states, batch.lengths.iter());
        for (vector, windows) in vectors.chunks_exact_mut(width).zip(&batch.windows) {
            for n in lengths.by_ref().take(*windows) {
                let (window, after) = rest.split_at(n * width);
                rest = after;
                let (rows, share) = match self.pooling {
                    Pooling::Mean => (window, share(*windows * n)),
                    Pooling::Cls => (&window[..width], share(*windows)),
                };
                for row in rows.chunks_exact(width) {
                    vector.iter_mut().zip(row).for_each(|(to, x)| *to += x * share);
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a text has a few thousand tokens at most")]
fn share(n: usize) -> f32 {
    1.0 / n as f32
}

impl Linear {
    pub(crate) fn forward(&self, parameters: &[Parameter], x: &[f32], out: &mut [f32]) {
        let rows = out.len() / self.outputs;
        let weight = Mat::new(&parameters[self.weight].values, self.outputs, self.inputs);
        let bias = Some(&parameters[self.bias].values[..]);
        let options = ProductOptions { bias, ..Default::default() };
        product(Mat::new(x, rows, self.inputs), Right::Plain(weight.t()), options, out);
    }

    fn backward(
        &self,
        parameters: &[Parameter],
        x: &[f32],
        grad: &[f32],
        gradients: &mut Gradients,
        (to, out): (Output, &mut [f32]),
    ) {
        let rows = grad.len() / self.outputs;
        if gradients.wanted(self.weight) {
            let (output, of_weight) = gradients.product(self.weight);
            let left = Mat::new(grad, rows, self.outputs).t();
            let right = Right::Plain(Mat::new(x, rows, self.inputs));
            product(left, right, ProductOptions { output, ..Default::default() }, of_weight);
            add_column_sums(grad, gradients.sum(self.bias));
        }
        let weight = Mat::new(&parameters[self.weight].values, self.outputs, self.inputs);
        let options = ProductOptions { output: to, ..Default::default() };
        product(Mat::new(grad, rows, self.outputs), Right::Plain(weight), options, out);
    }
}
