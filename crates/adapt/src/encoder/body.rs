//! Which parameter is what in an encoder, read from a Hugging Face folder.

use crate::encoder::parameters::{Kind, Parameter};
use std::path::Path;
use understudy_core::{Error, Result};
use understudy_kernels::{Pooling, RelativeBias};
use understudy_model::encoder::{
    config::{Architecture, Config},
    names::relative_bucket,
    weights::{self, Weights},
};

/// A linear layer's parameters: `outputs × inputs` weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dense {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}

/// A layer norm's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
}

/// One layer's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) qkv: Dense,
    pub(crate) attended: Dense,
    pub(crate) attention_norm: Norm,
    pub(crate) inner: Dense,
    pub(crate) outer: Dense,
    pub(crate) output_norm: Norm,
}

/// An encoder as places in a list of parameters.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) config: Config,
    pub(crate) words: usize,
    pub(crate) positions: usize,
    pub(crate) types: Option<usize>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<Layer>,
    /// The table of relative positions, buckets × heads (MPNet).
    pub(crate) relative: Option<usize>,
}

impl Body {
    /// Reads a folder's encoder; all parameters are trained until somebody freezes them.
    pub(crate) fn load(dir: &Path) -> Result<(Self, Vec<Parameter>)> {
        let config = Config::load(dir)?;
        let bytes = weights::read(dir)?;
        let weights = Weights::parse(dir, &bytes)?;
        if weights.quantised() {
            return Err(Error::invalid(format!(
                "train {}: its weights are quantised; train the model that they were made from, and quantise again",
                dir.display()
            )));
        }
        let mut reader = Reader { weights: &weights, parameters: Vec::new() };
        let width = config.width;
        let names = config.architecture.names();
        let embedding = |reader: &mut Reader<'_, '_>, name: &str, rows| {
            reader.add(&[format!("embeddings.{name}.weight")], &[rows, width], Kind::Embedding, 0)
        };
        let words = embedding(&mut reader, "word_embeddings", config.vocabulary)?;
        let positions = embedding(&mut reader, "position_embeddings", config.positions)?;
        let types = match config.architecture {
            Architecture::Bert => Some(embedding(&mut reader, "token_type_embeddings", config.token_types)?),
            Architecture::Mpnet | Architecture::DistilBert => None,
        };
        let norm = reader.norm("embeddings.LayerNorm".to_owned(), width, 0)?;
        let mut layers = Vec::new();
        for i in 0..config.layers {
            let name = |part: &str| format!("{}.{i}.{part}", names.layer);
            let depth = i + 1;
            layers.push(Layer {
                qkv: reader.dense(&names.qkv.map(name), width, width, depth)?,
                attended: reader.dense(&[name(names.attended)], width, width, depth)?,
                attention_norm: reader.norm(name(names.attention_norm), width, depth)?,
                inner: reader.dense(&[name(names.inner)], config.inner_width, width, depth)?,
                outer: reader.dense(&[name(names.outer)], width, config.inner_width, depth)?,
                output_norm: reader.norm(name(names.output_norm), width, depth)?,
            });
        }
        let relative = match config.architecture {
            Architecture::Mpnet => {
                let shape = [config.relative_buckets, config.heads];
                let name = "encoder.relative_attention_bias.weight".to_owned();
                Some(reader.add(&[name], &shape, Kind::Embedding, 0)?)
            }
            Architecture::Bert | Architecture::DistilBert => None,
        };
        let parameters = reader.parameters;
        Ok((Self { config, words, positions, types, norm, layers, relative }, parameters))
    }

    pub(crate) fn pooling(&self) -> Pooling {
        self.config.pooling
    }

    pub(crate) fn head_width(&self) -> usize {
        self.config.width / self.config.heads
    }

    /// The most tokens of a window that the table of positions has rows for.
    pub(crate) fn reach(&self) -> usize {
        self.config.positions - self.config.first_position
    }

    /// The table of relative positions as attention reads it.
    pub(crate) fn relative_bias(&self, parameters: &[Parameter]) -> Option<RelativeBias> {
        let table = &parameters[self.relative?].values;
        let (buckets, heads) = (self.config.relative_buckets, self.config.heads);
        let bias = |head: usize, distance: isize| table[relative_bucket(distance, buckets) * heads + head];
        Some(RelativeBias::new(heads, self.reach(), bias))
    }

    /// Adds a gradient that is laid out by distance to one laid out by bucket.
    pub(crate) fn add_relative(&self, by_distance: &[f32], table: &mut [f32]) {
        let (buckets, heads, reach) = (self.config.relative_buckets, self.config.heads, self.reach());
        for (head, row) in by_distance.chunks_exact(2 * reach - 1).enumerate() {
            for (i, grad) in row.iter().enumerate() {
                let distance = i.cast_signed() - (reach.cast_signed() - 1);
                table[relative_bucket(distance, buckets) * heads + head] += grad;
            }
        }
    }
}

struct Reader<'a, 'b> {
    weights: &'a Weights<'b>,
    parameters: Vec<Parameter>,
}

impl Reader<'_, '_> {
    fn add(&mut self, names: &[String], shape: &[usize], kind: Kind, depth: usize) -> Result<usize> {
        let mut values = Vec::with_capacity(names.len() * shape.iter().product::<usize>());
        for name in names {
            values.extend(self.weights.get(name, shape)?);
        }
        let names = names.to_vec();
        self.parameters.push(Parameter { names, shape: shape.to_vec(), values, kind, depth, trained: true });
        Ok(self.parameters.len() - 1)
    }

    fn dense(&mut self, parts: &[String], outputs: usize, inputs: usize, depth: usize) -> Result<Dense> {
        let of = |end: &str| -> Vec<String> { parts.iter().map(|part| format!("{part}.{end}")).collect() };
        let weight = self.add(&of("weight"), &[outputs, inputs], Kind::Weight, depth)?;
        let bias = self.add(&of("bias"), &[outputs], Kind::Bias, depth)?;
        Ok(Dense { weight, bias, outputs: outputs * parts.len(), inputs })
    }

    fn norm(&mut self, name: String, width: usize, depth: usize) -> Result<Norm> {
        let weight = self.add(&[format!("{name}.weight")], &[width], Kind::Bias, depth)?;
        let bias = self.add(&[format!("{name}.bias")], &[width], Kind::Bias, depth)?;
        Ok(Norm { weight, bias })
    }
}
