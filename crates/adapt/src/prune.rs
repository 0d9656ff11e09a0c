//! Takes whole layers, attention heads and feed-forward units out of an encoder. What remains is an encoder of its own, in
//! the same layout: every layer has the same number of units, so that stock libraries load it. Heads have no number of
//! their own in that layout; those that go are zeros, which stock libraries compute and `model` leaves out.
//!
//! Which to take out is measured: layers by what the loss becomes without them, one after the other, heads and units by
//! [`Importance`]. What the model lost is then brought back by training ([`crate::encoder::Guide`]).

use crate::encoder::{Example, Importance, Network, Objective, folder_files};
use crate::tensors::{self, Data, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};
use understudy_core::{Error, Result};
use understudy_model::encoder::{
    config::Config,
    weights::{self, FILE, Weights},
};

/// What is to remain; `None` keeps all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Size {
    /// Layers.
    pub layers: Option<usize>,
    /// Attention heads of each layer.
    pub heads: Option<usize>,
    /// Feed-forward units of each layer.
    pub units: Option<usize>,
}

/// What remains, by position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Layers, ascending.
    pub layers: Vec<usize>,
    /// Heads of each layer that is kept, ascending; empty keeps all.
    pub heads: Vec<Vec<usize>>,
    /// Units of each layer that is kept, ascending; empty keeps all.
    pub units: Vec<Vec<usize>>,
}

impl Size {
    /// Checks the size against an encoder.
    ///
    /// # Errors
    /// `Invalid` when it keeps nothing, more than there is, or all of everything.
    pub fn check(self, config: &Config) -> Result<()> {
        let parts = [
            ("layers", self.layers, config.layers),
            ("heads", self.heads, config.heads),
            ("ffn", self.units, config.inner_width),
        ];
        for (name, wanted, there) in parts {
            if let Some(wanted) = wanted.filter(|n| *n == 0 || *n > there) {
                let what = format!("prune: the encoder has {there} {name}; {wanted} cannot remain");
                return Err(Error::invalid(what).with_param(name));
            }
        }
        if parts.iter().all(|(_, wanted, there)| wanted.is_none_or(|n| n == *there)) {
            return Err(Error::invalid("prune: say how many --layers, --heads or units (--ffn) are to remain"));
        }
        Ok(())
    }
}

/// The layers that remain when, again and again, the one goes without which the loss of `examples` is the least; and that
/// loss after each.
#[must_use]
pub fn layers(
    network: &mut Network,
    keep: usize,
    examples: &[Example],
    objective: &Objective,
) -> (Vec<usize>, Vec<f64>) {
    let mut kept: Vec<usize> = (0..network.layers()).collect();
    let mut losses = Vec::new();
    while kept.len() > keep.max(1) {
        let without = |at: usize| -> Vec<usize> { [&kept[..at], &kept[at + 1..]].concat() };
        let tried = (0..kept.len()).map(|at| (network.loss_with_layers(&without(at), examples, objective), at));
        let tried: Vec<(f64, usize)> = tried.collect();
        let (loss, at) = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("there is more than one layer");
        kept.remove(at);
        losses.push(loss);
    }
    (kept, losses)
}

/// Positions of the `keep` greatest numbers of each list, ascending; none where all are kept.
#[must_use]
pub fn most_important(importance: &[Vec<f64>], keep: Option<usize>) -> Vec<Vec<usize>> {
    let Some(keep) = keep.filter(|keep| importance.iter().any(|of| *keep < of.len())) else { return Vec::new() };
    let kept = importance.iter().map(|of| {
        let mut order: Vec<usize> = (0..of.len()).collect();
        order.sort_by(|&a, &b| of[b].total_cmp(&of[a]).then(a.cmp(&b)));
        order.truncate(keep);
        order.sort_unstable();
        order
    });
    kept.collect()
}

/// What remains of a network of which `importance` was measured, all its layers kept.
#[must_use]
pub fn narrowed(importance: &Importance, size: Size) -> Kept {
    Kept {
        layers: (0..importance.heads.len()).collect(),
        heads: most_important(&importance.heads, size.heads),
        units: most_important(&importance.units, size.units),
    }
}

/// The files of the encoder in `folder` with only what is kept, by their path below the folder.
///
/// # Errors
/// `NotFound` or `Data` when the folder holds no supported encoder; `Invalid` when its weights are quantised.
pub fn files(folder: &Path, kept: &Kept) -> Result<BTreeMap<String, Vec<u8>>> {
    let config = Config::load(folder)?;
    let bytes = weights::read(folder)?;
    let base = Weights::parse(folder, &bytes)?;
    if base.quantised() {
        let what = "its weights are quantised; prune the model that they were made from, then quantise";
        return Err(Error::invalid(format!("prune {}: {what}", folder.display())));
    }
    let cut = Cut { layers: format!("{}{}.", base.prefix(), config.architecture.names().layer), config, kept };
    let mut written = Vec::new();
    let mut names = base.tensors().names();
    names.sort_unstable();
    for name in names.into_iter().filter(|name| !name.ends_with("position_ids")) {
        let tensor = base.tensors().tensor(name).map_err(|e| Error::data(format!("read tensor {name}: {e}")))?;
        let values = base.get(name.strip_prefix(base.prefix()).unwrap_or(name), tensor.shape())?;
        written.extend(cut.tensor(Pruned { name: name.to_owned(), shape: tensor.shape().to_vec(), values })?);
    }
    let tensors: Vec<Tensor<'_>> = written
        .iter()
        .map(|t| Tensor { name: t.name.clone(), shape: t.shape.clone(), data: Data::F32(&t.values) })
        .collect();
    let mut weights = Vec::new();
    tensors::write_to(&mut weights, &tensors, &[("format", "pt")])
        .map_err(|e| Error::internal(format!("write weights to memory: {e}")))?;
    let mut files = folder_files(folder)?;
    if let Some(bytes) = files.get_mut("config.json") {
        *bytes = changed(bytes, kept)?;
    }
    files.insert(FILE.to_owned(), weights);
    Ok(files)
}

/// A tensor on its way to the smaller encoder.
struct Pruned {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// What is kept of an encoder's tensors.
struct Cut<'a> {
    config: Config,
    kept: &'a Kept,
    /// What the names of the layers' tensors begin with.
    layers: String,
}

impl Cut<'_> {
    /// What becomes of a tensor; `None` when its layer goes.
    fn tensor(&self, mut tensor: Pruned) -> Result<Option<Pruned>> {
        let found = tensor.name.strip_prefix(&self.layers).and_then(|rest| rest.split_once('.'));
        let Some((index, part)) = found.map(|(index, part)| (index.to_owned(), part.to_owned())) else {
            return Ok(Some(tensor));
        };
        let index: usize = index.parse().map_err(|e| Error::data(format!("read tensor {}: {e}", tensor.name)))?;
        let Some(at) = self.kept.layers.iter().position(|layer| *layer == index) else { return Ok(None) };
        tensor.name = format!("{}{at}.{part}", self.layers);
        let stem = part.rsplit_once('.').map_or(&*part, |(stem, _)| stem);
        if let Some(units) = self.kept.units.get(at) {
            self.units(stem, units, &mut tensor);
        }
        if let Some(heads) = self.kept.heads.get(at) {
            self.heads(stem, heads, &mut tensor);
        }
        Ok(Some(tensor))
    }

    /// Takes feed-forward units out of one of the two matrices that they lie between.
    fn units(&self, stem: &str, units: &[usize], tensor: &mut Pruned) {
        let names = self.config.architecture.names();
        let Pruned { shape, values, .. } = tensor;
        if stem == names.inner {
            *values = rows(values, shape[0], units);
            shape[0] = units.len();
        } else if stem == names.outer && shape.len() == 2 {
            *values = columns(values, shape[1], units);
            shape[1] = units.len();
        }
    }

    /// Makes zeros of the heads that go: rows of queries, keys and values, columns of what reads them.
    fn heads(&self, stem: &str, heads: &[usize], tensor: &mut Pruned) {
        let (names, width) = (self.config.architecture.names(), self.config.width);
        let goes = |i: usize| !heads.contains(&(i / (width / self.config.heads)));
        let values = &mut tensor.values;
        if names.qkv.contains(&stem) {
            let row = values.len() / width;
            values.chunks_exact_mut(row).enumerate().filter(|(i, _)| goes(*i)).for_each(|(_, row)| row.fill(0.0));
        } else if stem == names.attended && tensor.shape.len() == 2 {
            for row in values.chunks_exact_mut(width) {
                row.iter_mut().enumerate().filter(|(i, _)| goes(*i)).for_each(|(_, x)| *x = 0.0);
            }
        }
    }
}

/// `config.json` with the new numbers, under the names that it has for them.
fn changed(config: &[u8], kept: &Kept) -> Result<Vec<u8>> {
    let mut config: Value =
        serde_json::from_slice(config).map_err(|e| Error::data(format!("read config.json: {e}")))?;
    let mut set = |names: [&str; 2], value: usize| {
        for name in names {
            if let Some(old) = config.get_mut(name) {
                *old = value.into();
            }
        }
    };
    set(["num_hidden_layers", "n_layers"], kept.layers.len());
    if let Some(units) = kept.units.first() {
        set(["intermediate_size", "hidden_dim"], units.len());
    }
    let mut json = serde_json::to_vec_pretty(&config).expect("it was JSON before");
    json.push(b'\n');
    Ok(json)
}

fn rows(values: &[f32], count: usize, kept: &[usize]) -> Vec<f32> {
    let width = values.len() / count.max(1);
    kept.iter().flat_map(|&i| values[i * width..][..width].iter().copied()).collect()
}

fn columns(values: &[f32], width: usize, kept: &[usize]) -> Vec<f32> {
    values.chunks_exact(width).flat_map(|row| kept.iter().map(|&i| row[i])).collect()
}

#[cfg(test)]
mod tests;
