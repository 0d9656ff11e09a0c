//! The optimiser over a network's trained parameters: each with its own rate and decay.

use crate::encoder::{Gradients, Parameter};
use crate::finetune::learner::Tunable;
use rayon::prelude::*;
use understudy_core::{Error, Result};
use understudy_kernels::train::{AdamW, Moments};

/// Numbers that one thread averages at a time.
const BLOCK: usize = 1 << 14;

/// How fast a parameter learns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull {
    /// Highest learning rate.
    pub(crate) rate: f64,
    /// Decoupled weight decay.
    pub(crate) decay: f64,
}

/// The state of training: what a checkpoint holds beside the weights.
#[derive(Clone)]
pub struct Optimiser {
    pub(super) step: u64,
    /// Empty for frozen parameters.
    pub(super) moments: Vec<Moments>,
    /// Averages over the weights of all steps; empty when there is no averaging.
    pub(super) averages: Vec<Vec<f32>>,
    pulls: Vec<Pull>,
    /// The gradient is shortened to this norm; 0 for never.
    clip: f64,
    /// Decay of the averages.
    average: f64,
}

impl Optimiser {
    /// The state before the first step.
    pub(crate) fn new(network: &impl Tunable, pull: impl Fn(&Parameter) -> Pull, clip: f64, average: f64) -> Self {
        let parameters = network.parameters();
        let moments = |p: &Parameter| Moments::zeros(if p.trained() { p.values().len() } else { 0 });
        let start = |p: &Parameter| if p.trained() { p.values().to_vec() } else { Vec::new() };
        Self {
            step: 0,
            moments: parameters.iter().map(moments).collect(),
            averages: if average > 0.0 { parameters.iter().map(start).collect() } else { Vec::new() },
            pulls: parameters.iter().map(pull).collect(),
            clip,
            average,
        }
    }

    /// One step at `factor` of the highest rates. Returns the norm of the gradient before clipping.
    ///
    /// # Errors
    /// `Invalid` when the gradient is not finite.
    pub fn update(&mut self, network: &mut impl Tunable, gradients: &mut Gradients, factor: f64) -> Result<f64> {
        gradients.settle();
        let norm = gradients.norm();
        if !norm.is_finite() {
            return Err(diverged(self.step + 1, "the gradient"));
        }
        self.step += 1;
        #[expect(clippy::cast_possible_truncation, reason = "a factor of at most 1")]
        let scale = if self.clip > 0.0 { (self.clip / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 };
        for (index, (moments, pull)) in self.moments.iter_mut().zip(&self.pulls).enumerate() {
            if !network.parameters()[index].trained() {
                continue;
            }
            let (weights, grad) = (network.values_mut(index), gradients.get(index));
            AdamW::default().step(weights, grad, moments, pull.rate * factor, pull.decay, scale, self.step);
        }
        network.refresh();
        self.average(network);
        Ok(norm)
    }

    fn average(&mut self, network: &impl Tunable) {
        // Early steps count for less than the decay says, or the start would weigh on a short run.
        let warm = (1.0 + self.step as f64) / (10.0 + self.step as f64);
        #[expect(clippy::cast_possible_truncation, reason = "a share")]
        let keep = self.average.min(warm) as f32;
        for (average, parameter) in self.averages.iter_mut().zip(network.parameters()) {
            let blocks = average.par_chunks_mut(BLOCK).zip(parameter.values().par_chunks(BLOCK));
            blocks.for_each(|(average, weights)| {
                average.iter_mut().zip(weights).for_each(|(a, w)| *a = keep * *a + (1.0 - keep) * w);
            });
        }
    }

    /// Exchanges the network's weights for their averages, and back when called again. Without averaging it does
    /// nothing.
    pub(super) fn swap(&mut self, network: &mut impl Tunable) {
        if self.averages.is_empty() {
            return;
        }
        for (index, average) in self.averages.iter_mut().enumerate() {
            if !average.is_empty() {
                average.swap_with_slice(network.values_mut(index));
            }
        }
        network.refresh();
    }
}

/// The error of a run whose numbers left the finite.
pub(super) fn diverged(step: u64, what: &str) -> Error {
    Error::invalid(format!(
        "train: {what} is not finite at step {step}; lower the learning rate (`rate`, `head_rate`) or clip more (`clip`)"
    ))
}
