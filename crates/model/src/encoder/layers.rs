//! The transformer itself: embeddings, layers, pooling.

use super::config::{Architecture, Config};
use super::names::relative_bucket;
use super::weights::Weights;
use crate::tokens::Tokens;
use understudy_core::Result;
use understudy_kernels::{
    Activation, Attention, AttentionScratch, Dtype, LayerNorm, Linear, LinearScratch, Pooling, RelativeBias,
    l2_normalize, pool,
};

/// All weights of an encoder, packed.
pub(super) struct Body {
    /// vocabulary × width.
    words: Vec<f32>,
    /// Row i is what the i-th token of a text gets: its position's vector plus that of token type 0.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: usize,
    bias: Option<RelativeBias>,
}

struct Layer {
    /// Queries, keys and values in one product.
    qkv: Linear,
    attended: Linear,
    attention_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    output_norm: LayerNorm,
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Buffers {
    /// The residual stream.
    x: Vec<f32>,
    y: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    inner: Vec<f32>,
    lengths: Vec<usize>,
    linear: LinearScratch,
    attention: AttentionScratch,
}

impl Body {
    /// Reads and packs all weights.
    pub(super) fn load(config: &Config, weights: &Weights<'_>, dtype: Dtype) -> Result<Self> {
        let width = config.width;
        let norm = |name: &str| -> Result<LayerNorm> {
            let [weight, bias] = ["weight", "bias"].map(|part| weights.get(&format!("{name}.{part}"), &[width]));
            Ok(LayerNorm::new(weight?, bias?, config.epsilon))
        };
        let names = config.architecture.names();
        let layer = |i: usize| -> Result<Layer> {
            let linear = |parts: &[&str], outputs: usize, inputs: usize| -> Result<Linear> {
                let (mut w, mut b) = (Vec::new(), Vec::new());
                for part in parts {
                    let name = format!("{}.{i}.{part}", names.layer);
                    w.extend(weights.get(&format!("{name}.weight"), &[outputs, inputs])?);
                    b.extend(weights.get(&format!("{name}.bias"), &[outputs])?);
                }
                Ok(Linear::new(&w, &b, dtype))
            };
            let norm = |part: &str| norm(&format!("{}.{i}.{part}", names.layer));
            Ok(Layer {
                qkv: linear(&names.qkv, width, width)?,
                attended: linear(&[names.attended], width, width)?,
                attention_norm: norm(names.attention_norm)?,
                inner: linear(&[names.inner], config.inner_width, width)?,
                outer: linear(&[names.outer], width, config.inner_width)?,
                output_norm: norm(names.output_norm)?,
            })
        };
        let bias = match config.architecture {
            Architecture::Mpnet => {
                let shape = [config.relative_buckets, config.heads];
                let table = weights.get("encoder.relative_attention_bias.weight", &shape)?;
                let bias = |head: usize, distance: isize| {
                    table[relative_bucket(distance, config.relative_buckets) * config.heads + head]
                };
                Some(RelativeBias::new(config.heads, config.positions - config.first_position, bias))
            }
            Architecture::Bert | Architecture::DistilBert => None,
        };
        Ok(Self {
            words: weights.get("embeddings.word_embeddings.weight", &[config.vocabulary, width])?,
            positions: positions(config, weights)?,
            norm: norm("embeddings.LayerNorm")?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            heads: config.heads,
            bias,
        })
    }

    /// Length of an embedding.
    pub(super) fn width(&self) -> usize {
        self.norm.width()
    }

    /// Embeds texts together: rows of all texts, end to end, through all layers.
    pub(super) fn embed(&self, batch: &[Tokens], pooling: Pooling, buffers: &mut Buffers) -> Vec<Vec<f32>> {
        let width = self.width();
        let Buffers { x, y, qkv, context, inner, lengths, linear, attention } = buffers;
        lengths.clear();
        lengths.extend(batch.iter().map(Tokens::len));
        let rows: usize = lengths.iter().sum();
        x.clear();
        for text in batch {
            assert!(text.len() * width <= self.positions.len(), "tokenised for this model");
            for (id, position) in text.ids().iter().zip(self.positions.chunks_exact(width)) {
                let word = &self.words[*id as usize * width..][..width];
                x.extend(word.iter().zip(position).map(|(word, position)| word + position));
            }
        }
        self.norm.forward(x);
        for layer in &self.layers {
            layer.qkv.forward(x, Activation::Identity, sized(qkv, rows * 3 * width), linear);
            let context = sized(context, rows * width);
            let (heads, head_width) = (self.heads, width / self.heads);
            let bias = self.bias.as_ref();
            Attention { qkv, lengths, heads, head_width, bias, out: context }.forward(attention);
            let y = sized(y, rows * width);
            layer.attended.forward(context, Activation::Identity, y, linear);
            layer.attention_norm.forward_add(y, x);
            let inner = sized(inner, rows * layer.inner.outputs());
            layer.inner.forward(y, Activation::Gelu, inner, linear);
            layer.outer.forward(inner, Activation::Identity, x, linear);
            layer.output_norm.forward_add(x, y);
        }
        let mut from = 0;
        let pooled = lengths.iter().map(|n| {
            let mut vector = pool(&x[from * width..][..n * width], width, pooling);
            from += n;
            l2_normalize(&mut vector);
            vector
        });
        pooled.collect()
    }
}

/// `buffer` with length n; what it holds is left over and will be overwritten.
fn sized(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    buffer.resize(n, 0.0);
    buffer
}

/// The vectors that depend on a token's place only, for as many places as a text may have.
fn positions(config: &Config, weights: &Weights<'_>) -> Result<Vec<f32>> {
    let width = config.width;
    let table = weights.get("embeddings.position_embeddings.weight", &[config.positions, width])?;
    let mut used = table[config.first_position * width..].to_vec();
    if config.architecture == Architecture::Bert {
        let types = weights.get("embeddings.token_type_embeddings.weight", &[config.token_types, width])?;
        for row in used.chunks_exact_mut(width) {
            row.iter_mut().zip(&types).for_each(|(x, kind)| *x += kind);
        }
    }
    Ok(used)
}
