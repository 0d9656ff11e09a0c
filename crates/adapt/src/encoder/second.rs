//! A second head, there during training only: it says of each text which of many things hold (which words a teacher's
//! reasons for the label have), reads what the first head reads, and so shapes the encoder below both (Hsieh et al.,
//! *Distilling step-by-step*, arXiv 2305.02301, whose second task is to write the reasons). Nothing of it is saved.

use crate::encoder::batch::Batch;
use crate::encoder::forward::sized;
use crate::encoder::network::Network;
use crate::encoder::parameters::{Kind, Parameter};
use crate::encoder::readout::{Level, Linear, Read};
use understudy_core::{Error, Result};
use understudy_kernels::train::binary_cross_entropy;

/// A second head's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondHead {
    /// The share of texts in which each thing holds, in (0, 1): what it says before it has learned.
    pub shares: Vec<f64>,
    /// What the binary cross-entropy, summed over all things, is multiplied with before it is added to the loss.
    pub weight: f64,
}

/// The second head as places in a list of parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Second {
    pub(crate) linear: Linear,
    pub(crate) weight: f64,
}

impl Network {
    /// Adds a second head; examples say in `second` what holds of them.
    ///
    /// # Errors
    /// `Invalid` when there is one already, the first head reads tokens, or a number is out of range.
    pub fn add_second(&mut self, head: &SecondHead) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(format!("add a second head: {what}")));
        if self.readout.second.is_some() || self.readout.level == Level::Tokens {
            return wrong("there is one already, or the first reads tokens");
        }
        if !(head.weight.is_finite() && head.weight > 0.0) {
            return wrong("its weight must be a positive number");
        }
        if head.shares.is_empty() || !head.shares.iter().all(|p| *p > 0.0 && *p < 1.0) {
            return wrong("it needs shares between 0 and 1");
        }
        let (outputs, inputs) = (head.shares.len(), self.readout.width);
        #[expect(clippy::cast_possible_truncation, reason = "a bias of the order of 1")]
        let bias = head.shares.iter().map(|p| (p / (1.0 - p)).ln() as f32).collect();
        let mut add = |end: &str, shape: Vec<usize>, values: Vec<f32>, kind| {
            let (names, depth) = (vec![format!("second.{end}")], self.body.layers.len() + 1);
            self.parameters.push(Parameter { names, shape, values, kind, depth, trained: true });
            self.merged.push(None);
            self.packed.push(None);
            self.parameters.len() - 1
        };
        let weight = add("weight", vec![outputs, inputs], vec![0.0; outputs * inputs], Kind::Weight);
        let bias = add("bias", vec![outputs], bias, Kind::Bias);
        self.readout.second = Some(Second { linear: Linear { weight, bias, outputs, inputs }, weight: head.weight });
        Ok(())
    }

    /// The weight of the second head's loss, where there is one.
    pub(crate) fn second_weight(&self) -> Option<f64> {
        self.readout.second.map(|second| second.weight)
    }

    /// What the second head says of each text of a batch: numbers whose sigmoid is how likely each thing holds. Without
    /// dropout; empty when there is no second head.
    #[cfg(test)]
    pub(crate) fn second_outputs_of<'p>(&self, batch: &Batch<'_>, pass: &'p mut crate::encoder::Pass) -> &'p [f32] {
        self.run(batch, None, pass);
        pass.read.second.clear();
        if let Some(second) = self.readout.second {
            second.forward(&self.parameters, &mut pass.read);
        }
        &pass.read.second
    }
}

impl Second {
    fn forward(&self, parameters: &[Parameter], read: &mut Read) {
        let rows = read.input.len() / self.linear.inputs;
        self.linear.forward(parameters, &read.input, sized(&mut read.second, rows * self.linear.outputs));
    }

    /// The weighted loss of a batch that has passed the network; leaves the gradient of `scale` times it in
    /// `read.second_grad`. Texts of which nothing is known lose nothing.
    pub(crate) fn loss(&self, parameters: &[Parameter], batch: &Batch<'_>, scale: f64, read: &mut Read) -> f64 {
        self.forward(parameters, read);
        let columns = self.linear.outputs;
        // The kernel's loss is a mean over columns.
        let weight = self.weight * columns as f64;
        let n = read.second.len();
        let grad = sized(&mut read.second_grad, n);
        let (mut sum, mut targets) = (0.0, vec![0.0f32; columns]);
        for ((row, grad), example) in
            read.second.chunks_exact(columns).zip(grad.chunks_exact_mut(columns)).zip(&batch.examples)
        {
            let Some(held) = &example.second else {
                grad.fill(0.0);
                continue;
            };
            targets.fill(0.0);
            held.iter().for_each(|column| targets[*column as usize] = 1.0);
            sum += weight * binary_cross_entropy(row, &targets, columns, &[], scale * weight, grad).sum;
        }
        sum
    }
}
