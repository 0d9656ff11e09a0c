//! A frozen model and its adapters as one thing that maps batches to losses and gradients.

use crate::encoder::{Gradients, Kind, Parameter};
use crate::llama::batch::{Batch, weighted};
use crate::llama::config::LlamaConfig;
use crate::llama::dense::{Adapters, Dense, Part, grown};
use crate::llama::importance::Read;
use crate::llama::lora::{LlamaLora, LlamaTarget};
use crate::llama::pass::{LayerState, Pass};
use crate::llama::weights::{LayerWeights, Weights};
use crate::logits::{likeliest, log_sum};
use crate::lora::start;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use understudy_core::{Result, Seed, hash::hex};
use understudy_kernels::train::{
    CausalAttention, Direction, Loss, Mat, Output, ProductOptions, Right, Rotary, cross_entropy, gather_rows, product,
    rms_backward, rms_forward, scale_columns, scatter_add_rows, swiglu_backward, swiglu_forward,
};

/// Rows of scores over the vocabulary that are held at a time.
pub(crate) const SCORED: usize = 128;

pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) qkv: Dense,
    pub(crate) attended: Dense,
    pub(crate) feed_norm: Vec<f32>,
    pub(crate) gate_up: Dense,
    pub(crate) down: Dense,
}

/// A frozen model with adapters.
pub struct LlamaNetwork {
    pub(crate) config: LlamaConfig,
    pub(crate) lora: LlamaLora,
    pub(crate) table: Vec<f32>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    pub(crate) output: Option<Vec<f32>>,
    pub(crate) factors: Vec<f32>,
    rotary: Rotary,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) interleaved: bool,
    pub(crate) family: String,
    /// Over the frozen numbers.
    base_hash: String,
    /// Counts the changes of the adapters.
    pub(crate) version: u64,
}

impl LlamaNetwork {
    /// Puts adapters on a model: A uniform in ±1/√inputs, as PEFT has it, B zero. Texts may have up to `positions`
    /// tokens.
    ///
    /// # Errors
    /// `Invalid` when the LoRA parameters are out of range.
    pub fn new(weights: Weights, lora: LlamaLora, seed: Seed, positions: usize) -> Result<Self> {
        lora.check()?;
        let base_hash = hash(&weights);
        let Weights { config, table, layers, norm, output, factors, interleaved, family } = weights;
        let positions = positions.min(config.positions);
        let rotary = Rotary::new(config.head_width, config.theta, &factors, positions);
        let mut random = ChaCha8Rng::seed_from_u64(seed.derive("lora").0);
        let (mut parameters, width) = (Vec::new(), config.width);
        let layers = layers.into_iter().enumerate().map(|(depth, layer)| {
            let LayerWeights { attention_norm, qkv, attended, feed_norm, gate_up, down } = layer;
            let mut dense = |linear, inputs, parts: &[(LlamaTarget, usize)]| {
                let mut dense = Dense::new(linear, inputs);
                dense.adapters = attach(&mut parameters, &mut random, &lora, depth, &dense, parts);
                dense
            };
            let (q, kv) = (config.heads * config.head_width, config.kv_heads * config.head_width);
            let (inner, all) = (config.inner, LlamaTarget::ALL);
            Layer {
                attention_norm,
                qkv: dense(qkv, width, &[(all[0], q), (all[1], kv), (all[2], kv)]),
                attended: dense(attended, q, &[(all[3], width)]),
                feed_norm,
                gate_up: dense(gate_up, width, &[(all[4], inner), (all[5], inner)]),
                down: dense(down, inner, &[(all[6], width)]),
            }
        });
        let layers = layers.collect();
        Ok(Self {
            config,
            lora,
            table,
            layers,
            norm,
            output,
            factors,
            rotary,
            parameters,
            interleaved,
            family,
            base_hash,
            version: 0,
        })
    }

    /// The shape of the model.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// How it is adapted.
    #[must_use]
    pub fn lora(&self) -> &LlamaLora {
        &self.lora
    }

    /// Most tokens of a text.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.rotary.positions()
    }

    /// The adapters' numbers: all that is trained.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The numbers of a parameter, to be changed; [`LlamaNetwork::refresh`] makes the changes count.
    pub fn values_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.parameters[index].values
    }

    /// Takes over what was changed.
    pub fn refresh(&mut self) {
        self.version += 1;
        for layer in &mut self.layers {
            for dense in [&mut layer.qkv, &mut layer.attended, &mut layer.gate_up, &mut layer.down] {
                if let Some(adapters) = &mut dense.adapters {
                    adapters.refresh(&self.parameters);
                }
            }
        }
    }

    #[cfg(feature = "candle")]
    pub(crate) fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    /// SHA-256 over the frozen numbers.
    #[must_use]
    pub fn base_hash(&self) -> &str {
        &self.base_hash
    }

    /// The last layer's rows, in `pass.stream`.
    pub(crate) fn forward(&self, batch: &Batch, pass: &mut Pass) {
        let (config, rows) = (&self.config, batch.ids.len());
        let (width, inner) = (config.width, config.inner);
        let Pass { layers, stream, normed, wide, thin, squares, .. } = pass;
        let mut observe = |depth: usize, read: Read, rows: &[f32]| {
            if let Some(squares) = squares {
                squares.add(depth, read, rows);
            }
        };
        layers.resize_with(config.layers, LayerState::default);
        let stream = grown(stream, rows * width);
        gather_rows(&self.table, width, &batch.ids, stream);
        let normed = grown(normed, rows * width);
        for (depth, (layer, state)) in self.layers.iter().zip(layers).enumerate() {
            let kept = grown(&mut state.attention_rows, rows * width);
            let scales = grown(&mut state.attention_scales, rows);
            rms_forward(stream, &layer.attention_norm, config.epsilon, scales, kept, normed);
            observe(depth, Read::Attention, normed);
            let qkv = grown(&mut state.qkv, rows * config.qkv());
            layer.qkv.forward(&self.parameters, normed, Output::Replace, thin, qkv);
            let turned = config.heads + config.kv_heads;
            self.rotary.rotate(qkv, config.qkv(), turned, &batch.places, Direction::Forward);
            let attended = grown(&mut state.attended, rows * config.heads * config.head_width);
            attention(config, qkv, &batch.lengths).forward(attended);
            observe(depth, Read::Attended, attended);
            layer.attended.forward(&self.parameters, attended, Output::Add, thin, stream);

            let kept = grown(&mut state.feed_rows, rows * width);
            let scales = grown(&mut state.feed_scales, rows);
            rms_forward(stream, &layer.feed_norm, config.epsilon, scales, kept, normed);
            observe(depth, Read::Feed, normed);
            let gate_up = grown(&mut state.gate_up, rows * 2 * inner);
            layer.gate_up.forward(&self.parameters, normed, Output::Replace, thin, gate_up);
            let wide = grown(wide, rows * inner);
            swiglu_forward(gate_up, inner, wide);
            observe(depth, Read::Inner, wide);
            layer.down.forward(&self.parameters, wide, Output::Add, thin, stream);
        }
    }

    /// The normed rows before the batch's targets, in `pass.picked_normed`.
    pub(crate) fn pick(&self, batch: &Batch, pass: &mut Pass) {
        let (width, picked) = (self.config.width, batch.targets());
        let Pass { stream, picked: rows, picked_rows, picked_scales, picked_normed, .. } = pass;
        let rows = grown(rows, picked * width);
        gather_rows(&stream[..batch.ids.len() * width], width, &batch.rows, rows);
        let (kept, scales) = (grown(picked_rows, picked * width), grown(picked_scales, picked));
        rms_forward(rows, &self.norm, self.config.epsilon, scales, kept, grown(picked_normed, picked * width));
    }

    /// Rows of the vocabulary that score the normed rows.
    fn scorer(&self) -> Mat<'_> {
        let values = self.output.as_deref().unwrap_or(&self.table);
        Mat::new(values, self.config.vocabulary, self.config.width)
    }

    /// Scores of the targets of a batch, `SCORED` rows at a time.
    fn scores(&self, targets: &[u32], pass: &mut Pass, mut each: impl FnMut(usize, &[u32], &[f32], &mut Vec<f32>)) {
        let width = self.config.width;
        let Pass { picked_normed, logits, logits_grad, .. } = pass;
        for (block, targets) in targets.chunks(SCORED).enumerate() {
            let rows = &picked_normed[block * SCORED * width..][..targets.len() * width];
            let logits = grown(logits, targets.len() * self.config.vocabulary);
            let rows = Mat::new(rows, targets.len(), width);
            product(rows, Right::Plain(self.scorer().t()), ProductOptions::default(), logits);
            each(block * SCORED, targets, logits, logits_grad);
        }
    }

    /// Weighted sum of the losses of the answers' tokens, and how many of them are the likeliest ones.
    pub fn loss(&self, batch: &Batch, pass: &mut Pass) -> (Loss, u64) {
        if let Some(elsewhere) = &mut pass.elsewhere {
            return elsewhere.loss(self, batch);
        }
        self.forward(batch, pass);
        self.pick(batch, pass);
        let (mut loss, mut right, vocabulary) = (Loss::default(), 0, self.config.vocabulary);
        self.scores(&batch.targets, pass, |first, targets, logits, _| {
            let rows: Vec<(f64, u64)> = logits
                .par_chunks_exact(vocabulary)
                .zip(targets)
                .map(|(row, target)| {
                    let target = *target as usize;
                    (-log_softmax(row)[target], u64::from(likeliest(row) == target))
                })
                .collect();
            for ((one, hit), weight) in rows.into_iter().zip(&batch.weights[first..]) {
                loss += weighted(Loss { sum: one, weight: 1.0 }, *weight);
                right += hit;
            }
        });
        (loss, right)
    }

    /// Natural logarithms of the probabilities of every token before each target of a batch: rows of the vocabulary.
    pub fn log_probabilities(&self, batch: &Batch, pass: &mut Pass) -> Vec<f64> {
        self.forward(batch, pass);
        self.pick(batch, pass);
        let mut all = Vec::with_capacity(batch.targets() * self.config.vocabulary);
        self.scores(&batch.targets, pass, |_, _, logits, _| {
            let rows: Vec<Vec<f64>> = logits.par_chunks_exact(self.config.vocabulary).map(log_softmax).collect();
            rows.into_iter().for_each(|mut row| all.append(&mut row));
        });
        all
    }

    /// Weighted sum of the losses of the answers' tokens; adds the gradient of `scale` times that sum.
    pub fn loss_and_gradients(&self, batch: &Batch, scale: f64, pass: &mut Pass, gradients: &mut Gradients) -> Loss {
        if let Some(elsewhere) = &mut pass.elsewhere {
            return elsewhere.learn(self, batch, scale, gradients);
        }
        self.forward(batch, pass);
        self.pick(batch, pass);
        let (width, vocabulary, rows) = (self.config.width, self.config.vocabulary, batch.ids.len());
        let mut loss = Loss::default();
        let mut picked_grad = std::mem::take(&mut pass.picked_grad);
        let of_picked = grown(&mut picked_grad, batch.targets() * width);
        self.scores(&batch.targets, pass, |first, targets, logits, grads| {
            let grads = grown(grads, logits.len());
            let parts: Vec<Loss> = logits
                .par_chunks_exact(vocabulary)
                .zip(grads.par_chunks_exact_mut(vocabulary))
                .zip(targets)
                .zip(&batch.weights[first..])
                .map(|(((row, grad), target), weight)| {
                    let scale = scale * f64::from(*weight);
                    weighted(cross_entropy(row, &[Some(*target as usize)], &[], 0.0, scale, grad), *weight)
                })
                .collect();
            parts.into_iter().for_each(|part| loss += part);
            let out = &mut of_picked[first * width..][..targets.len() * width];
            let grads = Mat::new(grads, targets.len(), vocabulary);
            product(grads, Right::Plain(self.scorer()), ProductOptions::default(), out);
        });
        let Pass { stream, picked, picked_rows, picked_scales, .. } = pass;
        let n = batch.targets();
        // The rows themselves are not needed any more: their room takes their gradient.
        let picked = &mut picked[..n * width];
        picked.fill(0.0);
        rms_backward(&picked_rows[..n * width], &picked_scales[..n], &self.norm, of_picked, picked);
        let stream = &mut stream[..rows * width];
        stream.fill(0.0);
        scatter_add_rows(picked, width, &batch.rows, stream);
        pass.picked_grad = picked_grad;
        self.backward(batch, pass, gradients);
        loss
    }

    /// From the gradient of the last layer's rows, in `pass.stream`, to those of the adapters.
    fn backward(&self, batch: &Batch, pass: &mut Pass, gradients: &mut Gradients) {
        let (config, rows) = (&self.config, batch.ids.len());
        let (width, inner, qkv_width) = (config.width, config.inner, config.qkv());
        let Pass { layers, stream, normed, wide, wide_grad, narrow, thin, .. } = pass;
        let (stream, normed) = (&mut stream[..rows * width], grown(normed, rows * width));
        let wide = grown(wide, rows * inner);
        let narrow = grown(narrow, rows * width.max(config.heads * config.head_width));
        for (depth, (layer, state)) in self.layers.iter().zip(layers).enumerate().rev() {
            let gate_up = &mut state.gate_up[..rows * 2 * inner];
            swiglu_forward(gate_up, inner, wide);
            let of_wide = grown(wide_grad, rows * inner);
            layer.down.backward(&self.parameters, wide, stream, Some(of_wide), thin, gradients);
            swiglu_backward(gate_up, inner, of_wide);
            let kept = &state.feed_rows[..rows * width];
            scale_columns(kept, &layer.feed_norm, normed);
            let of_rows = &mut narrow[..rows * width];
            layer.gate_up.backward(&self.parameters, normed, gate_up, Some(of_rows), thin, gradients);
            rms_backward(kept, &state.feed_scales[..rows], &layer.feed_norm, of_rows, stream);

            let attended = &state.attended[..rows * config.heads * config.head_width];
            let of_attended = &mut narrow[..attended.len()];
            layer.attended.backward(&self.parameters, attended, stream, Some(of_attended), thin, gradients);
            let of_qkv = grown(wide_grad, rows * qkv_width);
            attention(config, &state.qkv[..rows * qkv_width], &batch.lengths).backward(of_attended, of_qkv);
            let turned = config.heads + config.kv_heads;
            self.rotary.rotate(of_qkv, qkv_width, turned, &batch.places, Direction::Backward);
            let kept = &state.attention_rows[..rows * width];
            scale_columns(kept, &layer.attention_norm, normed);
            let of_rows = &mut narrow[..rows * width];
            // Below the first layer there is nothing to learn.
            let wanted = (depth > 0).then_some(&mut *of_rows);
            layer.qkv.backward(&self.parameters, normed, of_qkv, wanted, thin, gradients);
            if depth > 0 {
                rms_backward(kept, &state.attention_scales[..rows], &layer.attention_norm, of_rows, stream);
            }
        }
    }
}

fn attention<'a>(config: &LlamaConfig, qkv: &'a [f32], lengths: &'a [usize]) -> CausalAttention<'a> {
    let LlamaConfig { heads, kv_heads, head_width, .. } = *config;
    CausalAttention { qkv, lengths, heads, kv_heads, head_width }
}

/// Adds a layer's adapters to `parameters`.
fn attach(
    parameters: &mut Vec<Parameter>,
    random: &mut ChaCha8Rng,
    lora: &LlamaLora,
    depth: usize,
    dense: &Dense,
    parts: &[(LlamaTarget, usize)],
) -> Option<Adapters> {
    let wanted: Vec<LlamaTarget> = parts.iter().map(|part| part.0).filter(|t| lora.targets.contains(t)).collect();
    if wanted.is_empty() {
        return None;
    }
    let name = |target: &LlamaTarget, end: &str| format!("model.layers.{depth}.{}.{end}.weight", target.names().1);
    let mut add = |names: Vec<String>, shape: [usize; 2], values: Vec<f32>| {
        let kind = Kind::Weight;
        parameters.push(Parameter { names, shape: shape.to_vec(), values, kind, depth: depth + 1, trained: true });
        parameters.len() - 1
    };
    let start = start(random, wanted.len() * lora.rank, dense.inputs);
    let names = wanted.iter().map(|target| name(target, "lora_A")).collect();
    let a = add(names, [lora.rank, dense.inputs], start);
    let (mut first, mut adapted) = (0, Vec::new());
    for (target, outputs) in parts {
        if wanted.contains(target) {
            let shape = [*outputs, lora.rank];
            let b = add(vec![name(target, "lora_B")], shape, vec![0.0; outputs * lora.rank]);
            adapted.push(Part { first, b });
        }
        first += outputs;
    }
    Some(Adapters::new(lora.rank, lora.scale(), a, adapted, dense.outputs))
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let norm = log_sum(row);
    row.iter().map(|x| f64::from(*x) - norm).collect()
}

/// SHA-256 over all numbers and the shape.
fn hash(weights: &Weights) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{:?} {}", weights.config, weights.family));
    let mut add = |values: &[f32]| {
        for block in values.chunks(1 << 14) {
            let bytes: Vec<u8> = block.iter().flat_map(|x| x.to_le_bytes()).collect();
            hash.update(&bytes);
        }
    };
    for values in [&weights.table, &weights.norm, &weights.factors] {
        add(values);
    }
    if let Some(output) = &weights.output {
        add(output);
    }
    for layer in &weights.layers {
        add(&layer.attention_norm);
        add(&layer.feed_norm);
        for linear in [&layer.qkv, &layer.attended, &layer.gate_up, &layer.down] {
            add(&linear.weight);
            add(linear.bias.as_deref().unwrap_or_default());
        }
    }
    hex(&hash.finalize())
}
