//! The forward pass, which keeps what the backward pass reads.

use crate::device::Device;
use crate::encoder::batch::Batch;
use crate::encoder::body::{Dense, Layer, Norm};
use crate::encoder::gates::Importance;
use crate::encoder::network::Network;
use crate::encoder::options::Noise;
use crate::encoder::parameters::Gradients;
use crate::encoder::readout::Read;
use rayon::prelude::*;
use understudy_core::{Error, Result};
use understudy_kernels::train::Mat;
use understudy_kernels::train::{
    AttentionTrain, Dropout, NormForward, ProductOptions, Right, gather_rows, gelu_forward, product,
};

/// Where dropout happens in a layer; the number is part of the place that decides what is dropped.
pub(crate) mod site {
    pub(crate) const EMBEDDINGS: u64 = 0;
    pub(crate) const ATTENTION: u64 = 1;
    pub(crate) const ATTENDED: u64 = 2;
    pub(crate) const OUTER: u64 = 3;
    pub(crate) const HEAD: u64 = 4;
}

/// Buffers of one pass over a batch, kept from step to step: what forward computes and backward reads.
#[derive(Default)]
pub struct Pass {
    /// Input of each layer, and after them the output of the last: rows of `width`.
    pub(crate) x: Vec<Vec<f32>>,
    pub(crate) layers: Vec<Saved>,
    /// Normalised rows and scales of the embeddings' norm.
    pub(crate) embedded: Vec<f32>,
    pub(crate) embedded_scales: Vec<f32>,
    pub(crate) read: Read,
    pub(crate) grad: Grads,
    /// Where the backward pass adds up how much heads and units matter, when that is asked for.
    pub(crate) gates: Option<Importance>,
    /// Computes the layers in place of what is above.
    pub(crate) elsewhere: Option<Box<dyn Layers>>,
}

/// An encoder's layers, computed somewhere else.
pub(crate) trait Layers: Send {
    /// The states of all tokens. Where it fails they are no numbers, and [`Layers::trouble`] says why.
    fn encode(&mut self, network: &Network, batch: &Batch<'_>, noise: Option<&Noise>, states: &mut Vec<f32>);

    /// Adds what a gradient of the last pass's states makes of every trained parameter.
    fn backward(&mut self, network: &Network, grad: &[f32], gradients: &mut Gradients);

    /// What went wrong since this was asked last.
    fn trouble(&mut self) -> Option<Error>;
}

impl Pass {
    /// Buffers of passes whose layers are computed on a device.
    ///
    /// # Errors
    /// `Invalid` when this build has no such device, `Unavailable` when there is none.
    pub fn on(device: Device) -> Result<Self> {
        device.check()?;
        #[cfg(feature = "candle")]
        let elsewhere = super::elsewhere::Elsewhere::open(device)?.map(|on| Box::new(on) as Box<dyn Layers>);
        #[cfg(not(feature = "candle"))]
        let elsewhere = None;
        Ok(Self { elsewhere, ..Self::default() })
    }

    /// What went wrong on the device since this was asked last; the numbers since then are none.
    pub fn trouble(&mut self) -> Option<Error> {
        self.elsewhere.as_mut().and_then(|elsewhere| elsewhere.trouble())
    }

    /// The outputs of the last batch, one row for each text (or token).
    #[must_use]
    pub fn outputs(&self) -> &[f32] {
        &self.read.outputs
    }
}

/// What one layer's backward pass needs.
#[derive(Default)]
pub(crate) struct Saved {
    pub(crate) qkv: Vec<f32>,
    pub(crate) probabilities: Vec<f32>,
    pub(crate) context: Vec<f32>,
    /// Normalised rows of the attention's norm.
    pub(crate) attended: Vec<f32>,
    pub(crate) attended_scales: Vec<f32>,
    pub(crate) y: Vec<f32>,
    /// Before GELU.
    pub(crate) inner: Vec<f32>,
    /// After GELU.
    pub(crate) gelu: Vec<f32>,
    /// Normalised rows of the output's norm.
    pub(crate) outer: Vec<f32>,
    pub(crate) outer_scales: Vec<f32>,
}

/// Gradients of activations.
#[derive(Default)]
pub(crate) struct Grads {
    pub(crate) x: Vec<f32>,
    pub(crate) dropped: Vec<f32>,
    pub(crate) inner: Vec<f32>,
    pub(crate) context: Vec<f32>,
    pub(crate) qkv: Vec<f32>,
    pub(crate) by_distance: Vec<f32>,
}

/// `buffer` with length n; what it holds is left over and will be overwritten.
pub(crate) fn sized(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    buffer.resize(n, 0.0);
    buffer
}

/// Applies dropout to a whole activation.
pub(crate) fn drop_all(dropout: Option<Dropout>, x: &mut [f32]) {
    const BLOCK: usize = 1 << 14;
    if let Some(dropout) = dropout {
        x.par_chunks_mut(BLOCK).enumerate().for_each(|(i, x)| dropout.apply(x, i * BLOCK));
    }
}

impl Network {
    /// The states of all tokens, rows of `width`, without dropout where `noise` is `None`.
    pub(crate) fn encode<'p>(&self, batch: &Batch<'_>, noise: Option<&Noise>, pass: &'p mut Pass) -> &'p [f32] {
        let (width, layers) = (self.body.config.width, self.body.layers.len());
        pass.x.resize_with(layers + 1, Vec::new);
        if let Some(elsewhere) = &mut pass.elsewhere {
            elsewhere.encode(self, batch, noise, &mut pass.x[layers]);
            return &pass.x[layers];
        }
        pass.layers.resize_with(layers, Saved::default);
        self.embed(batch, noise, pass);
        for (i, layer) in self.body.layers.iter().enumerate() {
            let (before, after) = pass.x.split_at_mut(i + 1);
            let rows = batch.ids.len();
            self.layer(layer, i, batch, noise, &before[i], &mut pass.layers[i], sized(&mut after[0], rows * width));
        }
        &pass.x[layers]
    }

    fn embed(&self, batch: &Batch<'_>, noise: Option<&Noise>, pass: &mut Pass) {
        let (rows, width) = (batch.ids.len(), self.body.config.width);
        let sum = sized(&mut pass.embedded, rows * width);
        gather_rows(&self.parameters[self.body.words].values, width, &batch.ids, sum);
        let places = &self.parameters[self.body.positions].values[self.body.config.first_position * width..];
        let kind = self.body.types.map(|types| &self.parameters[types].values[..width]);
        for (row, place) in sum.chunks_exact_mut(width).zip(&batch.places) {
            let place = &places[*place as usize * width..][..width];
            row.iter_mut().zip(place).for_each(|(x, p)| *x += p);
            if let Some(kind) = kind {
                row.iter_mut().zip(kind).for_each(|(x, k)| *x += k);
            }
        }
        let out = sized(&mut pass.x[0], rows * width);
        self.normalise(self.body.norm, sum, None, None, sized(&mut pass.embedded_scales, rows), out);
        drop_all(noise.and_then(|noise| noise.hidden(0, site::EMBEDDINGS)), out);
    }

    #[expect(clippy::too_many_arguments, reason = "one layer's inputs, buffers and output")]
    fn layer(
        &self,
        layer: &Layer,
        index: usize,
        batch: &Batch<'_>,
        noise: Option<&Noise>,
        x: &[f32],
        saved: &mut Saved,
        out: &mut [f32],
    ) {
        let (rows, width, heads) = (batch.ids.len(), self.body.config.width, self.body.config.heads);
        let qkv = sized(&mut saved.qkv, rows * 3 * width);
        self.dense(layer.qkv, x, qkv);
        let probabilities = AttentionTrain::probabilities(&batch.lengths, heads);
        let context = sized(&mut saved.context, rows * width);
        self.attention(qkv, batch, noise, index).forward(sized(&mut saved.probabilities, probabilities), context);
        let attended = sized(&mut saved.attended, rows * width);
        self.dense(layer.attended, context, attended);
        let y = sized(&mut saved.y, rows * width);
        let dropout = noise.and_then(|noise| noise.hidden(index, site::ATTENDED));
        self.normalise(layer.attention_norm, attended, Some(x), dropout, sized(&mut saved.attended_scales, rows), y);
        let inner = sized(&mut saved.inner, rows * layer.inner.outputs);
        self.dense(layer.inner, y, inner);
        let gelu = sized(&mut saved.gelu, rows * layer.inner.outputs);
        gelu_forward(inner, gelu);
        let outer = sized(&mut saved.outer, rows * width);
        self.dense(layer.outer, gelu, outer);
        let dropout = noise.and_then(|noise| noise.hidden(index, site::OUTER));
        self.normalise(layer.output_norm, outer, Some(y), dropout, sized(&mut saved.outer_scales, rows), out);
    }

    /// The attention of a layer over its queries, keys and values.
    pub(crate) fn attention<'a>(
        &'a self,
        qkv: &'a [f32],
        batch: &'a Batch<'_>,
        noise: Option<&Noise>,
        layer: usize,
    ) -> AttentionTrain<'a> {
        AttentionTrain {
            qkv,
            lengths: &batch.lengths,
            heads: self.body.config.heads,
            head_width: self.body.head_width(),
            bias: self.relative.as_ref(),
            dropout: noise.and_then(|noise| noise.attention(layer)),
        }
    }

    /// y = x·Wᵀ + b.
    fn dense(&self, dense: Dense, x: &[f32], out: &mut [f32]) {
        let rows = out.len() / dense.outputs;
        let right = match &self.packed[dense.weight] {
            Some(packed) => Right::Packed(&packed.forward),
            None => Right::Plain(Mat::new(self.weight(dense.weight), dense.outputs, dense.inputs).t()),
        };
        let bias = Some(&self.parameters[dense.bias].values[..]);
        product(Mat::new(x, rows, dense.inputs), right, ProductOptions { bias, ..Default::default() }, out);
    }

    fn normalise(
        &self,
        norm: Norm,
        x: &mut [f32],
        residual: Option<&[f32]>,
        dropout: Option<Dropout>,
        scales: &mut [f32],
        out: &mut [f32],
    ) {
        let [weight, bias] = [norm.weight, norm.bias].map(|index| &self.parameters[index].values[..]);
        NormForward { x, residual, dropout, weight, bias, epsilon: self.body.config.epsilon, scales, out }.run();
    }
}
