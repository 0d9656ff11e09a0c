//! The layers in candle's operations. Norms and softmax are put together from operations that have a gradient: candle's own
//! have none.

use crate::device::{Device, Layout, Store, softmax};
use crate::encoder::body::{Dense, Norm};
use crate::encoder::forward::{Layers, site};
use crate::encoder::{Batch, Gradients, Network, Noise};
use candle_core::{D, Result as CandleResult, Tensor};
use understudy_core::{Error, Result};
use understudy_kernels::train::Dropout;
use understudy_model::encoder::names::relative_bucket;

/// An encoder's layers on a device, and what its last pass left for the way back.
pub(crate) struct Elsewhere {
    store: Store,
    /// The states of the last pass.
    states: Option<Tensor>,
}

impl Elsewhere {
    /// Opens a device; `None` for the kernels here.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open(name: Device) -> Result<Option<Self>> {
        Ok(Store::open(name)?.map(|store| Self { store, states: None }))
    }
}

impl Layers for Elsewhere {
    fn encode(&mut self, network: &Network, batch: &Batch<'_>, noise: Option<&Noise>, states: &mut Vec<f32>) {
        self.states = None;
        // The head stays here.
        let layers = network.layers();
        let brought = self.store.bring(&network.parameters, network.version, |p| p.depth() <= layers);
        let done = brought.and_then(|()| {
            let found = Forward { on: &self.store, network, layout: Layout::of(&batch.lengths) }.run(batch, noise)?;
            let numbers = found.flatten_all()?.to_vec1::<f32>()?;
            Ok((found, numbers))
        });
        match done {
            Ok((found, numbers)) => {
                self.states = Some(found);
                *states = numbers;
            }
            Err(e) => {
                self.store.fail(&e);
                states.clear();
                states.resize(batch.ids.len() * network.width(), f32::NAN);
            }
        }
    }

    fn backward(&mut self, network: &Network, grad: &[f32], gradients: &mut Gradients) {
        let Some(states) = self.states.take() else { return };
        let grad = Tensor::from_slice(grad, states.shape(), &self.store.device);
        let done = grad.and_then(|grad| self.store.backward((&states, &grad), &network.parameters, gradients));
        done.unwrap_or_else(|e| self.store.fail(&e));
    }

    fn trouble(&mut self) -> Option<Error> {
        self.store.trouble()
    }
}

struct Forward<'a> {
    on: &'a Store,
    network: &'a Network,
    layout: Layout,
}

impl Forward<'_> {
    /// The states of the batch's tokens, rows of `width`.
    fn run(&self, batch: &Batch<'_>, noise: Option<&Noise>) -> CandleResult<Tensor> {
        let body = &self.network.body;
        let device = &self.on.device;
        let indices = |values: Vec<u32>| Tensor::from_vec(values, self.layout.padded(), device);
        let ids = indices(self.layout.pad(batch.ids.iter().copied()))?;
        let first = u32::try_from(body.config.first_position).unwrap_or_default();
        let places = indices(self.layout.pad(batch.places.iter().map(|place| place + first)))?;
        let mut x = (self.on.tensor(body.words).index_select(&ids, 0)?
            + self.on.tensor(body.positions).index_select(&places, 0)?)?;
        if let Some(types) = body.types {
            x = x.broadcast_add(&self.on.tensor(types).narrow(0, 0, 1)?)?;
        }
        x = self.dropped(self.norm(body.norm, &x)?, noise.and_then(|noise| noise.hidden(0, site::EMBEDDINGS)))?;
        let bias = self.score_bias()?;
        for (index, layer) in body.layers.iter().enumerate() {
            let context = self.attention(&self.dense(layer.qkv, &x)?, &bias, noise.and_then(|n| n.attention(index)))?;
            let attended = self.dense(layer.attended, &context)?;
            let attended = self.dropped(attended, noise.and_then(|noise| noise.hidden(index, site::ATTENDED)))?;
            let y = self.norm(layer.attention_norm, &(attended + x)?)?;
            let inner = self.dense(layer.inner, &y)?.gelu_erf()?;
            let outer = self.dense(layer.outer, &inner)?;
            let outer = self.dropped(outer, noise.and_then(|noise| noise.hidden(index, site::OUTER)))?;
            x = self.norm(layer.output_norm, &(outer + y)?)?;
        }
        x.index_select(&Tensor::new(&self.layout.rows[..], device)?, 0)
    }

    /// y = x·Wᵀ + b, with the adapters of W.
    fn dense(&self, dense: Dense, x: &Tensor) -> CandleResult<Tensor> {
        let mut y = x.matmul(&self.on.tensor(dense.weight).t()?)?.broadcast_add(self.on.tensor(dense.bias))?;
        for adapter in self.network.adapters.iter().filter(|adapter| adapter.of == dense.weight) {
            let low = x.matmul(&self.on.tensor(adapter.a).t()?)?;
            let added = (low.matmul(&self.on.tensor(adapter.b).t()?)? * f64::from(adapter.scale))?;
            let after = dense.outputs - adapter.first - adapter.outputs;
            y = (y + added.pad_with_zeros(1, adapter.first, after)?)?;
        }
        Ok(y)
    }

    fn norm(&self, norm: Norm, x: &Tensor) -> CandleResult<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let scaled = centred.broadcast_div(&(variance + f64::from(self.network.body.config.epsilon))?.sqrt()?)?;
        scaled.broadcast_mul(self.on.tensor(norm.weight))?.broadcast_add(self.on.tensor(norm.bias))
    }

    fn dropped(&self, x: Tensor, dropout: Option<Dropout>) -> CandleResult<Tensor> {
        let Some(dropout) = dropout else { return Ok(x) };
        let factors = self.layout.states(dropout, x.dim(D::Minus1)?);
        &x * Tensor::from_vec(factors, x.shape(), &self.on.device)?
    }

    /// What is added to the scores of all layers: padding is no key, and MPNet's table of relative positions.
    fn score_bias(&self) -> CandleResult<Tensor> {
        let (windows, n) = (self.layout.windows, self.layout.longest);
        let keys = Tensor::from_vec(self.layout.keys(), (windows, 1, 1, n), &self.on.device)?;
        let Some(table) = self.network.body.relative else { return Ok(keys) };
        let (buckets, heads) = (self.network.body.config.relative_buckets, self.network.body.config.heads);
        let bucket = |i: usize| {
            let distance = (i % n).cast_signed() - (i / n).cast_signed();
            u32::try_from(relative_bucket(distance, buckets)).unwrap_or_default()
        };
        let buckets = Tensor::from_vec((0..n * n).map(bucket).collect::<Vec<u32>>(), n * n, &self.on.device)?;
        let by_head = self.on.tensor(table).index_select(&buckets, 0)?.t()?.reshape((1, heads, n, n))?;
        by_head.broadcast_add(&keys)
    }

    fn attention(&self, qkv: &Tensor, bias: &Tensor, dropout: Option<Dropout>) -> CandleResult<Tensor> {
        let (windows, n) = (self.layout.windows, self.layout.longest);
        let (heads, wide) = (self.network.body.config.heads, self.network.body.head_width());
        let width = heads * wide;
        let part = |i: usize| {
            let of = qkv.narrow(1, i * width, width)?.reshape((windows, n, heads, wide))?;
            of.transpose(1, 2)?.contiguous()
        };
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        let scores = (queries.matmul(&keys.t()?)? / (wide as f64).sqrt())?.broadcast_add(bias)?;
        let mut weights = softmax(&scores)?;
        if let Some(dropout) = dropout {
            let factors = self.layout.probabilities(dropout, heads);
            weights = (&weights * Tensor::from_vec(factors, weights.shape(), &self.on.device)?)?;
        }
        weights.matmul(&values)?.transpose(1, 2)?.reshape((windows * n, width))
    }
}
