//! A generative model in candle's operations. Norms, softmax and rotation are put together from operations that have a
//! gradient. The head over the vocabulary has a gradient by hand, a block of rows at a time: it would not fit otherwise.

use crate::device::{Device, Layout, Store, softmax};
use crate::encoder::Gradients;
use crate::llama::batch::{Batch, weighted};
use crate::llama::dense::Dense;
use crate::llama::network::{LlamaNetwork, SCORED};
use crate::llama::pass::Passes;
use candle_core::{D, Result as CandleResult, Tensor};
use understudy_core::{Error, Result};
use understudy_kernels::train::Loss;

/// A model on a device.
pub(crate) struct Elsewhere {
    store: Store,
    frozen: Option<Frozen>,
}

/// What is not trained.
struct Frozen {
    table: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    /// Vocabulary × width.
    scorer: Tensor,
    /// Positions × half a head.
    cosines: Tensor,
    sines: Tensor,
}

struct Layer {
    attention_norm: Tensor,
    qkv: Linear,
    attended: Linear,
    feed_norm: Tensor,
    gate_up: Linear,
    down: Linear,
}

struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Elsewhere {
    /// Opens a device; `None` for the kernels here.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open(name: Device) -> Result<Option<Self>> {
        Ok(Store::open(name)?.map(|store| Self { store, frozen: None }))
    }

    fn bring(&mut self, network: &LlamaNetwork) -> CandleResult<()> {
        if self.frozen.is_none() {
            self.frozen = Some(Frozen::of(network, &self.store)?);
        }
        self.store.bring(&network.parameters, network.version, |_| true)
    }

    /// The loss, how many targets are the likeliest tokens, and, with a scale, the gradients.
    fn pass(
        &mut self,
        network: &LlamaNetwork,
        batch: &Batch,
        learn: Option<(f64, &mut Gradients)>,
    ) -> CandleResult<(Loss, u64)> {
        self.bring(network)?;
        let frozen = self.frozen.as_ref().expect("it was just brought");
        let forward = Forward { on: &self.store, frozen, network, layout: Layout::of(&batch.lengths) };
        let rows = forward.run(batch)?;
        let (mut loss, mut right, mut grads) = (Loss::default(), 0, Vec::new());
        for (block, targets) in batch.targets.chunks(SCORED).enumerate() {
            let weights = &batch.weights[block * SCORED..][..targets.len()];
            let picked = rows.narrow(0, block * SCORED, targets.len())?.detach();
            let scores = picked.matmul(&frozen.scorer.t()?)?;
            let target = Tensor::new(targets, &self.store.device)?;
            let best = scores.argmax(D::Minus1)?.to_vec1::<u32>()?;
            right += best.iter().zip(targets).map(|(best, target)| u64::from(best == target)).sum::<u64>();
            let chances = softmax(&scores)?;
            let most = scores.max_keepdim(D::Minus1)?;
            let all = (scores.broadcast_sub(&most)?.exp()?.sum_keepdim(D::Minus1)?.log()? + most)?;
            let one = (all - scores.gather(&target.unsqueeze(1)?, 1)?)?.flatten_all()?.to_vec1::<f32>()?;
            for (one, weight) in one.into_iter().zip(weights) {
                loss += weighted(Loss { sum: f64::from(one), weight: 1.0 }, *weight);
            }
            if let Some((scale, _)) = &learn {
                // (p − 1 at the target) · scorer, for each row as much as it counts.
                let of = (chances.matmul(&frozen.scorer)? - frozen.scorer.index_select(&target, 0)?)?;
                #[expect(clippy::cast_possible_truncation, reason = "computed in f64, used in f32")]
                let scales = weights.iter().map(|weight| (scale * f64::from(*weight)) as f32).collect::<Vec<f32>>();
                grads.push(of.broadcast_mul(&Tensor::from_vec(scales, (targets.len(), 1), &self.store.device)?)?);
            }
        }
        if let (Some((_, gradients)), false) = (learn, grads.is_empty()) {
            self.store.backward((&rows, &Tensor::cat(&grads, 0)?), &network.parameters, gradients)?;
        }
        Ok((loss, right))
    }

    fn or_fail(&mut self, done: CandleResult<(Loss, u64)>) -> (Loss, u64) {
        done.unwrap_or_else(|e| {
            self.store.fail(&e);
            (Loss { sum: f64::NAN, weight: 1.0 }, 0)
        })
    }
}

impl Passes for Elsewhere {
    fn loss(&mut self, network: &LlamaNetwork, batch: &Batch) -> (Loss, u64) {
        let done = self.pass(network, batch, None);
        self.or_fail(done)
    }

    fn learn(&mut self, network: &LlamaNetwork, batch: &Batch, scale: f64, gradients: &mut Gradients) -> Loss {
        let done = self.pass(network, batch, Some((scale, gradients)));
        self.or_fail(done).0
    }

    fn trouble(&mut self) -> Option<Error> {
        self.store.trouble()
    }
}

impl Frozen {
    fn of(network: &LlamaNetwork, store: &Store) -> CandleResult<Self> {
        let (config, device) = (&network.config, &store.device);
        let vector = |values: &[f32]| Tensor::from_slice(values, values.len(), device);
        let matrix = |values: &[f32], columns: usize| {
            Tensor::from_slice(values, (values.len() / columns.max(1), columns), device)
        };
        let linear = |dense: &Dense| -> CandleResult<Linear> {
            let (weight, bias) = dense.frozen();
            Ok(Linear { weight: matrix(weight, dense.inputs)?, bias: bias.map(vector).transpose()? })
        };
        let layer = |layer: &crate::llama::network::Layer| -> CandleResult<Layer> {
            Ok(Layer {
                attention_norm: vector(&layer.attention_norm)?,
                qkv: linear(&layer.qkv)?,
                attended: linear(&layer.attended)?,
                feed_norm: vector(&layer.feed_norm)?,
                gate_up: linear(&layer.gate_up)?,
                down: linear(&layer.down)?,
            })
        };
        let table = matrix(&network.table, config.width)?;
        let scorer = match &network.output {
            Some(output) => matrix(output, config.width)?,
            None => table.clone(),
        };
        let angles = matrix(network.rotary().table(), config.head_width)?;
        let half = config.head_width / 2;
        Ok(Self {
            layers: network.layers.iter().map(layer).collect::<CandleResult<_>>()?,
            norm: vector(&network.norm)?,
            cosines: angles.narrow(1, 0, half)?.contiguous()?,
            sines: angles.narrow(1, half, half)?.contiguous()?,
            table,
            scorer,
        })
    }
}

struct Forward<'a> {
    on: &'a Store,
    frozen: &'a Frozen,
    network: &'a LlamaNetwork,
    layout: Layout,
}

impl Forward<'_> {
    /// The normed rows before the batch's targets.
    fn run(&self, batch: &Batch) -> CandleResult<Tensor> {
        let Self { frozen, network, layout, .. } = self;
        let (device, inner) = (&self.on.device, network.config.inner);
        let ids = Tensor::from_vec(layout.pad(batch.ids.iter().copied()), layout.padded(), device)?;
        let mut x = frozen.table.index_select(&ids, 0)?;
        let future = self.future()?;
        for (layer, dense) in frozen.layers.iter().zip(&network.layers) {
            let qkv = self.dense(&layer.qkv, &dense.qkv, &self.norm(&x, &layer.attention_norm)?)?;
            x = (&x + self.dense(&layer.attended, &dense.attended, &self.attention(&qkv, &future)?)?)?;
            let gate_up = self.dense(&layer.gate_up, &dense.gate_up, &self.norm(&x, &layer.feed_norm)?)?;
            let wide = (gate_up.narrow(1, 0, inner)?.silu()? * gate_up.narrow(1, inner, inner)?)?;
            x = (x + self.dense(&layer.down, &dense.down, &wide)?)?;
        }
        let rows: Vec<u32> = batch.rows.iter().map(|row| layout.rows[*row as usize]).collect();
        self.norm(&x.index_select(&Tensor::new(&rows[..], device)?, 0)?, &frozen.norm)
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> CandleResult<Tensor> {
        let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.network.config.epsilon))?;
        x.broadcast_div(&mean.sqrt()?)?.broadcast_mul(weight)
    }

    /// A linear layer with its adapters.
    fn dense(&self, linear: &Linear, dense: &Dense, x: &Tensor) -> CandleResult<Tensor> {
        let mut y = x.matmul(&linear.weight.t()?)?;
        if let Some(bias) = &linear.bias {
            y = y.broadcast_add(bias)?;
        }
        let Some(adapters) = &dense.adapters else { return Ok(y) };
        let low = x.matmul(&self.on.tensor(adapters.a).t()?)?;
        for (i, part) in adapters.parts.iter().enumerate() {
            let b = self.on.tensor(part.b);
            let low = low.narrow(1, i * adapters.rank, adapters.rank)?;
            let added = (low.matmul(&b.t()?)? * f64::from(adapters.scale))?;
            let after = dense.outputs - part.first - b.dim(0)?;
            y = (y + added.pad_with_zeros(1, part.first, after)?)?;
        }
        Ok(y)
    }

    /// What keeps a token from seeing those after it; padding comes after all of them.
    fn future(&self) -> CandleResult<Tensor> {
        let n = self.layout.longest;
        let seen = |i: usize| if i % n <= i / n { 0.0 } else { -1e30_f32 };
        Tensor::from_vec((0..n * n).map(seen).collect::<Vec<f32>>(), (1, 1, n, n), &self.on.device)
    }

    /// Turns queries or keys: texts × heads × tokens × numbers.
    fn rotated(&self, x: &Tensor) -> CandleResult<Tensor> {
        let (n, half) = (self.layout.longest, x.dim(D::Minus1)? / 2);
        let (cosines, sines) = (self.frozen.cosines.narrow(0, 0, n)?, self.frozen.sines.narrow(0, 0, n)?);
        let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
        let first = (a.broadcast_mul(&cosines)? - b.broadcast_mul(&sines)?)?;
        let second = (b.broadcast_mul(&cosines)? + a.broadcast_mul(&sines)?)?;
        Tensor::cat(&[first, second], 3)
    }

    fn attention(&self, qkv: &Tensor, future: &Tensor) -> CandleResult<Tensor> {
        let (texts, n) = (self.layout.windows, self.layout.longest);
        let config = &self.network.config;
        let (heads, pairs, wide) = (config.heads, config.kv_heads, config.head_width);
        let part = |first: usize, heads: usize| {
            let of = qkv.narrow(1, first * wide, heads * wide)?.reshape((texts, n, heads, wide))?;
            of.transpose(1, 2)?.contiguous()
        };
        // Several queries share a key.
        let shared = |x: Tensor| {
            let times = heads / pairs;
            x.unsqueeze(2)?.broadcast_as((texts, pairs, times, n, wide))?.reshape((texts, heads, n, wide))
        };
        let queries = self.rotated(&part(0, heads)?)?;
        let keys = shared(self.rotated(&part(heads, pairs)?)?)?;
        let values = shared(part(heads + pairs, pairs)?)?;
        let scores = (queries.matmul(&keys.t()?)? / (wide as f64).sqrt())?.broadcast_add(future)?;
        softmax(&scores)?.matmul(&values)?.transpose(1, 2)?.reshape((texts * n, heads * wide))
    }
}

#[cfg(test)]
mod tests {
    use crate::device::Device;
    use crate::encoder::Gradients;
    use crate::llama::tests::{examples, network, noise, small};
    use crate::llama::{Batch, Pass};

    #[test]
    fn a_device_computes_what_the_kernels_compute() {
        let mut examples = examples(7);
        examples[1] = examples[1].clone().counting(3.0);
        let batch = Batch::new(&examples);
        for biased in [false, true] {
            let mut network = network(biased, small());
            let mut noise = noise(11);
            let mut device = Pass::on(Device::Candle).unwrap();
            // The second time after a change: the device must have noticed.
            for _ in 0..2 {
                for index in 0..network.parameters().len() {
                    let n = network.parameters()[index].values().len();
                    network.values_mut(index).copy_from_slice(&noise(n, 0.4));
                }
                network.refresh();
                let mut pass = Pass::default();
                let [mut here, mut there] = [0; 2].map(|_| Gradients::new(network.parameters()));
                let one = network.loss_and_gradients(&batch, 0.3, &mut pass, &mut here);
                let other = network.loss_and_gradients(&batch, 0.3, &mut device, &mut there);
                assert!(device.trouble().is_none());
                assert!((one.sum - other.sum).abs() < 1e-5 * one.sum && (one.weight - other.weight).abs() < 1e-9);
                let (one, other) = (network.loss(&batch, &mut pass), network.loss(&batch, &mut device));
                assert!((one.0.sum - other.0.sum).abs() < 1e-5 * one.0.sum && one.1 == other.1);
                here.settle();
                there.settle();
                let mut worst = 0.0_f32;
                for index in 0..network.parameters().len() {
                    let (a, b) = (here.get(index), there.get(index));
                    let largest = a.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                    let apart = a.iter().zip(b).fold(0.0_f32, |m, (x, y)| m.max((x - y).abs()));
                    worst = worst.max(apart / largest);
                }
                println!("biased {biased}: largest difference of a gradient {worst:.1e}");
                assert!(worst < 2e-5);
            }
        }
    }
}
