//! How a network is built, and what is dropped from a pass.

use crate::encoder::forward::site;
use crate::encoder::lora::LoraParams;
use crate::encoder::readout::Level;
use serde::{Deserialize, Serialize};
use understudy_core::Seed;
use understudy_kernels::train::Dropout;

/// Which parameters are trained beside the head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// None: the head alone.
    Head,
    /// The encoder's own, from a layer on.
    Full {
        /// Whether the table of words is trained too: most of a small model's numbers, few of which a data set touches.
        words: bool,
        /// Layers that are frozen, counted from the embeddings; from 1 on all embeddings are frozen too.
        frozen_layers: usize,
    },
    /// Low-rank adapters; everything else is frozen.
    Lora(LoraParams),
}

/// The head on top.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadShape {
    /// Numbers that come out: classes, labels or values.
    pub outputs: usize,
    /// Width of a hidden layer with tanh.
    pub hidden: Option<usize>,
    /// What it reads.
    pub level: Level,
}

/// How to build a network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkOptions {
    /// What is trained.
    pub scope: Scope,
    /// The head.
    pub head: HeadShape,
    /// Seed of the numbers that training starts from.
    pub seed: Seed,
}

/// Dropout of one pass. The same noise gives the same result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Root of the choice.
    pub seed: u64,
    /// Number of the optimiser's step.
    pub step: u64,
    /// Number of the pass within the step.
    pub pass: u64,
    /// Rate behind the embeddings and each half of a layer.
    pub hidden: f32,
    /// Rate of the attention's probabilities.
    pub attention: f32,
    /// Rate before the head.
    pub head: f32,
}

impl Noise {
    fn at(&self, rate: f32, layer: usize, site: u64) -> Option<Dropout> {
        Dropout::new(rate, self.seed, [self.step, self.pass << 32 | layer as u64, site])
    }

    pub(crate) fn hidden(&self, layer: usize, site: u64) -> Option<Dropout> {
        self.at(self.hidden, layer, site)
    }

    pub(crate) fn attention(&self, layer: usize) -> Option<Dropout> {
        self.at(self.attention, layer, site::ATTENTION)
    }

    pub(super) fn head(&self) -> Option<Dropout> {
        self.at(self.head, 0, site::HEAD)
    }
}
