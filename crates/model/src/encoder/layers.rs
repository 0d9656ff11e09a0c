//! The transformer itself: embeddings, layers, pooling.

use super::chunk_len;
use super::config::{Architecture, Config};
use super::names::relative_bucket;
use super::packed::Table;
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
    words: Table,
    /// Row i is what the i-th token of a text gets: its position's vector plus that of token type 0.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    head_width: usize,
    bias: Option<RelativeBias>,
}

struct Layer {
    /// Attention heads; pruned ones are left out.
    heads: usize,
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
        let (width, head_width) = (config.width, config.width / config.heads);
        let norm = |name: &str| -> Result<LayerNorm> {
            let [weight, bias] = ["weight", "bias"].map(|part| weights.get(&format!("{name}.{part}"), &[width]));
            Ok(LayerNorm::new(weight?, bias?, config.epsilon))
        };
        let names = config.architecture.names();
        let layer = |i: usize| -> Result<Layer> {
            let read = |part: &str, outputs: usize, inputs: usize| -> Result<(Vec<f32>, Vec<f32>)> {
                let name = format!("{}.{i}.{part}", names.layer);
                let weight = weights.get(&format!("{name}.weight"), &[outputs, inputs])?;
                Ok((weight, weights.get(&format!("{name}.bias"), &[outputs])?))
            };
            let linear = |part: &str, outputs: usize, inputs: usize| -> Result<Linear> {
                let (w, b) = read(part, outputs, inputs)?;
                Ok(Linear::new(&w, &b, dtype))
            };
            let (w, b) = read(names.attended, width, width)?;
            let heads = live_heads(config, &w);
            let attended = Linear::new(&of_heads(&w, &heads, head_width), &b, dtype);
            let (mut w, mut b) = (Vec::new(), Vec::new());
            for part in names.qkv {
                let (weight, bias) = read(part, width, width)?;
                w.extend(of_heads(&weight, &heads, head_width * width));
                b.extend(of_heads(&bias, &heads, head_width));
            }
            let qkv = Linear::new(&w, &b, dtype);
            let norm = |part: &str| norm(&format!("{}.{i}.{part}", names.layer));
            Ok(Layer {
                heads: heads.iter().filter(|live| **live).count(),
                qkv,
                attended,
                attention_norm: norm(names.attention_norm)?,
                inner: linear(names.inner, config.inner_width, width)?,
                outer: linear(names.outer, width, config.inner_width)?,
                output_norm: norm(names.output_norm)?,
            })
        };
        // Before anything is made by the numbers of the configuration, the tensors confirm them.
        let positions = positions(config, weights)?;
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
            words: weights.table("embeddings.word_embeddings.weight", [config.vocabulary, width])?,
            positions,
            norm: norm("embeddings.LayerNorm")?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            head_width,
            bias,
        })
    }

    /// Length of an embedding.
    pub(super) fn width(&self) -> usize {
        self.norm.width()
    }

    /// Embeds texts together: rows of a chunk of their windows, end to end, through all layers.
    pub(super) fn embed(&self, batch: &[Tokens], pooling: Pooling, buffers: &mut Buffers) -> Vec<Vec<f32>> {
        let windows: Vec<&[u32]> = batch.iter().flat_map(Tokens::windows).collect();
        let mut pooled = Vec::with_capacity(windows.len());
        let mut rest = windows.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunk_len(rest.iter().map(|window| window.len())));
            let mut rows = self.states(chunk, buffers);
            for window in chunk {
                let (of_window, others) = rows.split_at(window.len() * self.width());
                pooled.push(pool(of_window, self.width(), pooling));
                rows = others;
            }
            rest = after;
        }
        let mut pooled = pooled.into_iter();
        let of_text = |text: &Tokens| {
            let mut windows = pooled.by_ref().take(text.windows().count());
            // Their sum points where their mean does.
            let mut vector = windows.next().unwrap_or_default();
            for window in windows {
                vector.iter_mut().zip(window).for_each(|(to, x)| *to += x);
            }
            l2_normalize(&mut vector);
            vector
        };
        batch.iter().map(of_text).collect()
    }

    /// The states of all tokens of windows that pass together, end to end.
    pub(super) fn states<'b>(&self, windows: &[&[u32]], buffers: &'b mut Buffers) -> &'b [f32] {
        let width = self.width();
        let Buffers { x, y, qkv, context, inner, lengths, linear, attention } = buffers;
        lengths.clear();
        lengths.extend(windows.iter().map(|window| window.len()));
        let rows: usize = lengths.iter().sum();
        x.clear();
        for window in windows {
            assert!(window.len() * width <= self.positions.len(), "tokenised for this model");
            for (id, position) in window.iter().zip(self.positions.chunks_exact(width)) {
                self.words.add_row(*id as usize, position, x);
            }
        }
        self.norm.forward(x);
        for layer in &self.layers {
            let (heads, head_width) = (layer.heads, self.head_width);
            layer.qkv.forward(x, Activation::Identity, sized(qkv, rows * 3 * heads * head_width), linear);
            let context = sized(context, rows * heads * head_width);
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
        x
    }
}

/// Which heads do anything: one whose columns of the projection after attention are all zero was pruned. One is always
/// kept, and with relative positions (a table for all heads) all are.
fn live_heads(config: &Config, attended: &[f32]) -> Vec<bool> {
    let head_width = config.width / config.heads;
    let mut live = vec![config.architecture == Architecture::Mpnet; config.heads];
    for row in attended.chunks_exact(config.width) {
        for (live, part) in live.iter_mut().zip(row.chunks_exact(head_width)) {
            *live |= part.iter().any(|w| *w != 0.0);
        }
    }
    if live.iter().all(|live| !live) {
        live[0] = true;
    }
    live
}

/// The parts of `part` numbers each that belong to live heads; they come around again for each row.
fn of_heads(numbers: &[f32], live: &[bool], part: usize) -> Vec<f32> {
    let parts = numbers.chunks_exact(part).zip(live.iter().cycle()).filter(|(_, live)| **live);
    parts.flat_map(|(part, _)| part.iter().copied()).collect()
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
