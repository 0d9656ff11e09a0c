//! An encoder's weights in fewer bits: half precision, 8 bits with a scale for each row, 4 bits with a scale for each
//! group of columns. Writes the layout that [`understudy_model::encoder::packed`] reads.
//!
//! Matrices of layers and the table of words are quantised; what is small (norms, biases) stays in f32, positions go to
//! half precision. Weights of 8 bits are the very numbers that the int8 kernel computes with. There is no product of 4
//! bits: such weights are unpacked when they are loaded, so that they save disk and transfer, not time.

use crate::encoder::folder_files;
use crate::tensors::{self, Data, Tensor};
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};
use understudy_core::{Error, Result};
use understudy_model::encoder::{
    packed::{GROUP, SCALE},
    weights::{self, FILE, Weights},
};

/// Bits of a matrix's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bits {
    /// As it is.
    Kept,
    /// Half precision.
    Half,
    /// 8, a scale for each row.
    Eight,
    /// 4, a scale for each group of [`GROUP`] columns.
    Four,
}

/// What becomes of an encoder's matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precision {
    /// The matrices of its layers.
    pub layers: Bits,
    /// Its table of words.
    pub words: Bits,
}

/// The files of the encoder in `folder`, with weights of that precision, by their path below the folder.
///
/// # Errors
/// `NotFound` or `Data` when the folder holds no supported encoder; `Invalid` when its weights are quantised already.
pub fn encode(folder: &Path, precision: Precision) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = folder_files(folder)?;
    let bytes = weights::read(folder)?;
    if precision == (Precision { layers: Bits::Kept, words: Bits::Kept }) {
        files.insert(FILE.to_owned(), bytes);
        return Ok(files);
    }
    let base = Weights::parse(folder, &bytes)?;
    if base.quantised() {
        return Err(Error::invalid(format!(
            "quantise {}: its weights are quantised already; start from the model that they were made from",
            folder.display()
        )));
    }
    let mut owned = Vec::new();
    let mut names = base.tensors().names();
    names.sort_unstable();
    // A pooler is no part of what is served, and takes a hundredth of the file.
    for name in names.into_iter().filter(|name| !name.contains("pooler.") && !name.ends_with("position_ids")) {
        let tensor = base.tensors().tensor(name).map_err(|e| Error::data(format!("read tensor {name}: {e}")))?;
        let short = name.strip_prefix(base.prefix()).unwrap_or(name);
        let bits = bits_of(short, tensor.shape(), precision);
        let values = base.get(short, tensor.shape())?;
        owned.extend(packed(name, &values, &tensor, bits));
    }
    let tensors: Vec<Tensor<'_>> = owned
        .iter()
        .map(|(name, shape, dtype, bytes)| Tensor {
            name: name.clone(),
            shape: shape.clone(),
            data: Data::Raw(dtype, bytes),
        })
        .collect();
    let mut weights = Vec::new();
    tensors::write_to(&mut weights, &tensors, &[("format", "pt")])
        .map_err(|e| Error::internal(format!("write weights to memory: {e}")))?;
    files.insert(FILE.to_owned(), weights);
    Ok(files)
}

fn bits_of(name: &str, shape: &[usize], precision: Precision) -> Bits {
    let [_, columns] = *shape else {
        return if precision.layers == Bits::Half { Bits::Half } else { Bits::Kept };
    };
    let whole_groups = columns.is_multiple_of(GROUP);
    let wanted = if name.contains("word_embeddings") {
        precision.words
    } else if name.contains("embeddings.") || name.contains("relative_attention_bias") {
        Bits::Half
    } else {
        precision.layers
    };
    if wanted == Bits::Four && !whole_groups { Bits::Eight } else { wanted }
}

/// Name, shape, number type and bytes of the one or two tensors that a tensor becomes.
type Written = (String, Vec<usize>, &'static str, Vec<u8>);

fn packed(name: &str, values: &[f32], tensor: &TensorView<'_>, bits: Bits) -> Vec<Written> {
    let shape = tensor.shape().to_vec();
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let halves = |values: &[f32]| values.iter().flat_map(|x| half(*x).to_le_bytes()).collect::<Vec<u8>>();
    let name = name.to_owned();
    match bits {
        Bits::Kept => vec![(name, shape, "F32", floats(values))],
        Bits::Half => vec![(name, shape, "F16", halves(values))],
        Bits::Eight => {
            let (numbers, scales) = eight(values, shape[1]);
            let rows = vec![shape[0]];
            vec![(name.clone(), shape, "I8", numbers), (name + SCALE, rows, "F32", floats(&scales))]
        }
        Bits::Four => {
            let (numbers, scales) = four(values);
            let (half_row, groups) = (vec![shape[0], shape[1] / 2], vec![shape[0], shape[1] / GROUP]);
            let scales: Vec<u8> = scales.iter().flat_map(|x| x.to_le_bytes()).collect();
            vec![(name.clone(), half_row, "U8", numbers), (name + SCALE, groups, "F16", scales)]
        }
    }
}

/// Each row over its largest number, as the int8 kernel does it.
fn eight(values: &[f32], columns: usize) -> (Vec<u8>, Vec<f32>) {
    let (mut numbers, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
    for row in values.chunks_exact(columns.max(1)) {
        let scale = row.iter().fold(0f32, |a, x| a.max(x.abs())).max(f32::MIN_POSITIVE) / 127.0;
        scales.push(scale);
        #[expect(clippy::cast_possible_truncation, reason = "in [-127, 127] by the choice of scale")]
        numbers.extend(row.iter().map(|w| ((w / scale).round_ties_even() as i8).cast_unsigned()));
    }
    (numbers, scales)
}

/// Each group with the scale, in half precision, that leaves the least squared error of some that are tried.
fn four(values: &[f32]) -> (Vec<u8>, Vec<u16>) {
    let (mut numbers, mut scales) = (Vec::with_capacity(values.len() / 2), Vec::new());
    for group in values.chunks_exact(GROUP) {
        let largest = group.iter().fold(0f32, |a, x| if x.abs() > a.abs() { *x } else { a });
        let error = |scale: f32| group.iter().map(|w| (w - level(*w, scale) * scale).powi(2)).sum::<f32>();
        let mut best = (f32::INFINITY, 0u16);
        // The largest number is at −8, or is cut to let the others have finer steps.
        for share in 0..=24 {
            let scale = -largest / (5.6 + 0.1 * share as f32);
            let q = |w: &f32| level(*w, scale);
            let squares: f32 = group.iter().map(|w| q(w).powi(2)).sum();
            let fitted = group.iter().map(|w| w * q(w)).sum::<f32>() / squares.max(f32::MIN_POSITIVE);
            for scale in [scale, fitted] {
                let stored = half(scale);
                let error = error(unhalf(stored));
                if error < best.0 {
                    best = (error, stored);
                }
            }
        }
        let scale = unhalf(best.1);
        scales.push(best.1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in [0, 15]")]
        let nibble = |w: f32| (level(w, scale) + 8.0) as u8;
        numbers.extend(group.as_chunks::<2>().0.iter().map(|[a, b]| nibble(*a) | nibble(*b) << 4));
    }
    (numbers, scales)
}

/// The whole number in [−8, 7] nearest to w / scale.
fn level(w: f32, scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { (w / scale).round_ties_even().clamp(-8.0, 7.0) }
}

/// The nearest half-precision number, ties to even; too large ones become the largest.
#[expect(clippy::cast_possible_truncation, reason = "fields of a half")]
fn half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = x.abs();
    if magnitude >= 65504.0 {
        return sign | 0x7bff;
    }
    if magnitude < 2f32.powi(-14) {
        // Subnormal: steps of 2^-24.
        return sign | (magnitude * 2f32.powi(24)).round_ties_even() as u32 as u16;
    }
    let rounded = (bits & 0x7fff_ffff) + 0x0fff + (bits >> 13 & 1);
    sign | ((rounded >> 13) - (112 << 10)) as u16
}

fn unhalf(half: u16) -> f32 {
    weights::f16_to_f32(half)
}

#[cfg(test)]
mod tests;
