//! An encoder and its head as one thing that maps batches to losses and gradients.

use crate::encoder::batch::{Example, Target};
use crate::encoder::body::Body;
use crate::encoder::lora::{self, Adapter, LoraParams};
use crate::encoder::objective::Objective;
use crate::encoder::options::{HeadShape, NetworkOptions, Scope};
use crate::encoder::parameters::Parameter;
use crate::encoder::readout::{Level, Readout};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use understudy_core::{Error, Result, hash::hex};
use understudy_kernels::train::{Mat, Packed};
use understudy_kernels::{Pooling, RelativeBias};

/// A frozen weight laid out for both directions.
pub(crate) struct Both {
    pub(crate) forward: Packed,
    pub(crate) backward: Packed,
}

/// An encoder with a head.
pub struct Network {
    pub(crate) folder: PathBuf,
    pub(crate) body: Body,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) readout: Readout,
    pub(crate) adapters: Vec<Adapter>,
    pub(crate) lora: Option<LoraParams>,
    /// Weights with their adapters added, by parameter.
    pub(crate) merged: Vec<Option<Vec<f32>>>,
    /// Layouts of frozen weights, by parameter.
    pub(crate) packed: Vec<Option<Both>>,
    pub(crate) relative: Option<RelativeBias>,
    /// The lowest depth at which anything is trained.
    pub(crate) lowest: usize,
    /// Counts the changes of its numbers.
    pub(crate) version: u64,
}

impl Network {
    /// Reads the encoder of a Hugging Face folder and puts a head on it.
    ///
    /// # Errors
    /// `NotFound` or `Data` when the folder does not hold a supported encoder, `Invalid` when the options make no sense.
    pub fn load(folder: &Path, options: &NetworkOptions) -> Result<Self> {
        let HeadShape { outputs, hidden, level } = options.head;
        if outputs == 0 || hidden == Some(0) {
            return Err(Error::invalid("build a network: its head needs at least one output and one hidden number"));
        }
        let (body, mut parameters) = Body::load(folder)?;
        let adapters = match &options.scope {
            Scope::Head => {
                parameters.iter_mut().for_each(|p| p.trained = false);
                Vec::new()
            }
            Scope::Full { words, frozen_layers } => {
                if *frozen_layers > body.layers.len() {
                    let n = body.layers.len();
                    return Err(Error::invalid(format!("freeze {frozen_layers} layers: the encoder has {n}")));
                }
                for parameter in &mut parameters {
                    parameter.trained = *frozen_layers == 0 || parameter.depth > *frozen_layers;
                }
                parameters[body.words].trained &= *words;
                Vec::new()
            }
            Scope::Lora(params) => {
                params.check()?;
                parameters.iter_mut().for_each(|p| p.trained = false);
                lora::attach(&body, &mut parameters, params, options.seed)
            }
        };
        let lowest = parameters.iter().filter(|p| p.trained).map(|p| p.depth).min();
        let lowest = lowest.unwrap_or(body.layers.len() + 1);
        let (depth, shape) = (body.layers.len() + 1, [outputs, body.config.width]);
        let readout = Readout::new(&mut parameters, shape, hidden, level, body.pooling(), depth, options.seed);
        let lora = match &options.scope {
            Scope::Lora(params) => Some(params.clone()),
            Scope::Head | Scope::Full { .. } => None,
        };
        let (merged, packed) = (parameters.iter().map(|_| None).collect(), parameters.iter().map(|_| None).collect());
        let folder = folder.to_owned();
        let relative = body.relative_bias(&parameters);
        let mut network =
            Self { folder, body, parameters, readout, adapters, lora, merged, packed, relative, lowest, version: 0 };
        network.pack();
        network.refresh();
        Ok(network)
    }

    /// Puts a linear head's numbers in place: `outputs × width` weights and `outputs` biases.
    ///
    /// # Errors
    /// `Invalid` when the shapes are others, or the head has a hidden layer.
    pub fn set_head(&mut self, weights: &[f32], bias: &[f32]) -> Result<()> {
        let output = self.readout.output;
        if self.readout.hidden.is_some()
            || weights.len() != output.outputs * output.inputs
            || bias.len() != output.outputs
        {
            return Err(Error::invalid("start from a head: it is of another shape than the network's"));
        }
        self.parameters[output.weight].values.copy_from_slice(weights);
        self.parameters[output.bias].values.copy_from_slice(bias);
        Ok(())
    }

    /// The head's output layer: weights (outputs × inputs) and biases.
    #[must_use]
    pub fn head(&self) -> (&[f32], &[f32]) {
        let output = self.readout.output;
        (&self.parameters[output.weight].values, &self.parameters[output.bias].values)
    }

    /// All parameters, in a fixed order.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The numbers of one parameter, to change them; [`Network::refresh`] must follow before the next pass.
    pub fn values_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.parameters[index].values
    }

    /// Length of a token's vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.body.config.width
    }

    /// Number of layers.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.body.layers.len()
    }

    /// The most tokens of a window.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.body.config.max_tokens
    }

    /// Numbers that come out for each text or token.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.readout.output.outputs
    }

    /// What the head reads.
    #[must_use]
    pub fn level(&self) -> Level {
        self.readout.level
    }

    /// How token vectors become one.
    #[must_use]
    pub fn pooling(&self) -> Pooling {
        self.readout.pooling
    }

    /// SHA-256 of all trained numbers.
    #[must_use]
    pub fn hash(&self) -> String {
        self.digest(|p| p.trained)
    }

    /// SHA-256 of all numbers, frozen or not.
    pub(crate) fn digest(&self, of: impl Fn(&Parameter) -> bool) -> String {
        let mut hash = Sha256::new();
        for parameter in self.parameters.iter().filter(|p| of(p)) {
            for name in &parameter.names {
                hash.update(name.as_bytes());
            }
            for block in parameter.values.chunks(4096) {
                let bytes: Vec<u8> = block.iter().flat_map(|x| x.to_le_bytes()).collect();
                hash.update(&bytes);
            }
        }
        hex(&hash.finalize())
    }

    /// Brings what is derived from trained numbers (merged weights, tabulated biases) up to date. To be called after
    /// every change of [`Network::values_mut`].
    pub fn refresh(&mut self) {
        self.version += 1;
        if self.body.relative.is_some_and(|table| self.parameters[table].trained) {
            self.relative = self.body.relative_bias(&self.parameters);
        }
        let mut changed: Vec<usize> = self.adapters.iter().map(|adapter| adapter.of).collect();
        changed.dedup();
        for index in changed {
            let mut weight = self.merged[index].take().unwrap_or_default();
            weight.clear();
            weight.extend_from_slice(&self.parameters[index].values);
            for adapter in self.adapters.iter().filter(|adapter| adapter.of == index) {
                adapter.add_to(&self.parameters, &mut weight);
            }
            self.packed[index] = Some(self.both(index, &weight));
            self.merged[index] = Some(weight);
        }
    }

    /// Packs frozen weights of layers that take part in the backward pass or come before it.
    fn pack(&mut self) {
        let adapted: Vec<usize> = self.adapters.iter().map(|adapter| adapter.of).collect();
        for layer in self.body.layers.clone() {
            for index in [layer.qkv.weight, layer.attended.weight, layer.inner.weight, layer.outer.weight] {
                if !self.parameters[index].trained && !adapted.contains(&index) {
                    self.packed[index] = Some(self.both(index, &self.parameters[index].values));
                }
            }
        }
    }

    fn both(&self, index: usize, weight: &[f32]) -> Both {
        let inputs = self.parameters[index].shape[1];
        let matrix = Mat::new(weight, weight.len() / inputs, inputs);
        Both { forward: Packed::new(matrix.t()), backward: Packed::new(matrix) }
    }

    /// A weight as the forward pass uses it.
    pub(crate) fn weight(&self, index: usize) -> &[f32] {
        self.merged[index].as_deref().unwrap_or(&self.parameters[index].values)
    }

    /// Checks that an example can pass through this network under `objective`.
    ///
    /// # Errors
    /// `Invalid`, saying what is wrong with it.
    pub fn accepts(&self, example: &Example, objective: &Objective) -> Result<()> {
        let wrong = |what: String| Err(Error::invalid(what));
        if example.windows.is_empty() || example.windows.iter().any(Vec::is_empty) {
            return wrong("it has no tokens".to_owned());
        }
        if let Some(n) = example.windows.iter().map(Vec::len).find(|n| *n > self.body.reach()) {
            return wrong(format!("{n} tokens in a row are more than the encoder's {} places", self.body.reach()));
        }
        if example.windows.iter().flatten().any(|id| *id as usize >= self.body.config.vocabulary) {
            return wrong("it has a token outside the encoder's vocabulary".to_owned());
        }
        if !objective.accepts(&example.target, self.outputs()) {
            return wrong(format!("its target does not fit {} outputs and this kind of training", self.outputs()));
        }
        if matches!(objective, Objective::Contrast { .. }) && self.level() != Level::UnitVector {
            return wrong("contrast needs a head that reads vectors of unit length".to_owned());
        }
        if let Some(columns) = &example.second {
            let of = self.readout.second.map_or(0, |second| second.linear.outputs);
            if columns.iter().any(|column| *column as usize >= of) || matches!(objective, Objective::Contrast { .. }) {
                return wrong(format!(
                    "what its second head is to learn does not fit {of} outputs and this kind of training"
                ));
            }
        }
        if let Target::Tokens(classes) = &example.target
            && (self.level() != Level::Tokens || classes.len() != example.tokens())
        {
            return wrong("it needs one class (or none) for each token, and a head that reads tokens".to_owned());
        }
        Ok(())
    }
}
