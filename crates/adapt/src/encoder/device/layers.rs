//! The layers in candle's operations. Norms and softmax are put together from operations that have a gradient: candle's own
//! have none and do not say so, which is why a trained parameter without one is an error.

use super::Device;
use super::layout::Layout;
use crate::encoder::body::{Dense, Norm};
use crate::encoder::forward::site;
use crate::encoder::{Batch, Gradients, Network, Noise, Parameter};
use candle_core::{D, Device as Candle, Result as CandleResult, Tensor, Var};
use understudy_core::{Error, Result};
use understudy_kernels::train::Dropout;
use understudy_model::encoder::names::relative_bucket;

/// An encoder's parameters on a device, and what its last pass left for the way back.
pub(crate) struct Elsewhere {
    name: Device,
    device: Candle,
    /// By parameter; none for those of the head.
    held: Vec<Option<Held>>,
    /// Which state of the network they are of.
    version: Option<u64>,
    /// The states of the last pass.
    states: Option<Tensor>,
    failed: Option<Error>,
}

enum Held {
    Frozen(Tensor),
    Trained(Var),
}

impl Held {
    fn tensor(&self) -> &Tensor {
        match self {
            Self::Frozen(tensor) => tensor,
            Self::Trained(variable) => variable.as_tensor(),
        }
    }
}

impl Elsewhere {
    /// Opens a device; `None` for the kernels here.
    ///
    /// # Errors
    /// `Invalid` when this build has no such device, `Unavailable` when there is none.
    pub(crate) fn open(name: Device) -> Result<Option<Self>> {
        name.check()?;
        let device = match name {
            Device::Cpu => return Ok(None),
            Device::Candle => Ok(Candle::Cpu),
            Device::Cuda(n) => Candle::new_cuda(n),
            Device::Metal(n) => Candle::new_metal(n),
        };
        let device = device.map_err(|e| {
            Error::unavailable(format!(
                "train on `{name}`: {e}; is there such a device, with its driver? `cpu` needs none"
            ))
        })?;
        Ok(Some(Self { name, device, held: Vec::new(), version: None, states: None, failed: None }))
    }

    /// The states of all tokens. Where the device fails they are no numbers, and [`Self::trouble`] says why.
    pub(crate) fn encode(
        &mut self,
        network: &Network,
        batch: &Batch<'_>,
        noise: Option<&Noise>,
        states: &mut Vec<f32>,
    ) {
        self.states = None;
        let done = self.bring(network).and_then(|()| {
            let found = Forward { on: self, network, layout: Layout::of(batch) }.run(batch, noise)?;
            let numbers = found.flatten_all()?.to_vec1::<f32>()?;
            Ok((found, numbers))
        });
        match done {
            Ok((found, numbers)) => {
                self.states = Some(found);
                *states = numbers;
            }
            Err(e) => {
                self.fail(&e);
                states.clear();
                states.resize(batch.ids.len() * network.width(), f32::NAN);
            }
        }
    }

    /// Adds what a gradient of the last pass's states makes of every trained parameter.
    pub(crate) fn backward(&mut self, network: &Network, grad: &[f32], gradients: &mut Gradients) {
        let Some(states) = self.states.take() else { return };
        let done = (|| {
            let grad = Tensor::from_slice(grad, states.shape(), &self.device)?;
            let found = (states * grad)?.sum_all()?.backward()?;
            for (index, held) in self.held.iter().enumerate() {
                let Some(Held::Trained(variable)) = held else { continue };
                let Some(of) = found.get(variable) else {
                    let name = &network.parameters[index].names[0];
                    return Err(candle_core::Error::msg(format!("parameter {name} got no gradient")));
                };
                let of = of.flatten_all()?.to_vec1::<f32>()?;
                gradients.sum(index).iter_mut().zip(of).for_each(|(sum, g)| *sum += g);
            }
            Ok(())
        })();
        done.unwrap_or_else(|e| self.fail(&e));
    }

    /// What went wrong since this was asked last.
    pub(crate) fn trouble(&mut self) -> Option<Error> {
        self.failed.take()
    }

    fn fail(&mut self, e: &candle_core::Error) {
        // Without the trace: the first line says what failed.
        let what = e.to_string();
        let what = what.lines().next().unwrap_or_default();
        let remedy = "with too little memory, take a smaller --batch or --max-tokens";
        self.failed.get_or_insert_with(|| Error::internal(format!("compute on `{}`: {what}; {remedy}", self.name)));
    }

    /// Brings over what changed since the last pass: all at first, then what is trained.
    fn bring(&mut self, network: &Network) -> CandleResult<()> {
        if self.version == Some(network.version) {
            return Ok(());
        }
        let body = network.layers() + 1;
        if self.version.is_none() {
            let hold = |p: &Parameter| -> CandleResult<Option<Held>> {
                if p.depth() >= body {
                    return Ok(None);
                }
                let tensor = Tensor::from_slice(p.values(), shape(p), &self.device)?;
                Ok(Some(if p.trained() { Held::Trained(Var::from_tensor(&tensor)?) } else { Held::Frozen(tensor) }))
            };
            self.held = network.parameters.iter().map(hold).collect::<CandleResult<_>>()?;
        } else {
            for (held, p) in self.held.iter().zip(&network.parameters) {
                if let Some(Held::Trained(variable)) = held {
                    variable.set(&Tensor::from_slice(p.values(), shape(p), &self.device)?)?;
                }
            }
        }
        self.version = Some(network.version);
        Ok(())
    }

    fn tensor(&self, index: usize) -> &Tensor {
        self.held[index].as_ref().expect("a parameter of the body").tensor()
    }
}

/// The shape of a parameter as one tensor: its parts are rows of it.
fn shape(p: &Parameter) -> Vec<usize> {
    let mut shape = p.shape().to_vec();
    shape[0] *= p.names().len();
    shape
}

struct Forward<'a> {
    on: &'a Elsewhere,
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
        let most = scores.max_keepdim(D::Minus1)?.detach();
        let powers = scores.broadcast_sub(&most)?.exp()?;
        let mut weights = powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?;
        if let Some(dropout) = dropout {
            let factors = self.layout.probabilities(dropout, heads);
            weights = (&weights * Tensor::from_vec(factors, weights.shape(), &self.on.device)?)?;
        }
        weights.matmul(&values)?.transpose(1, 2)?.reshape((windows * n, width))
    }
}
