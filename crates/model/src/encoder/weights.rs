//! Tensors by name out of `model.safetensors`, as f32.

use super::packed::{Packed, SCALE, Table};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::{Path, PathBuf};
use understudy_core::{Error, Result};

/// File name of the weights.
pub const FILE: &str = "model.safetensors";
/// The one tensor that every supported model has under the same name, up to a prefix.
const LANDMARK: &str = "embeddings.word_embeddings.weight";

/// The bytes of a folder's weights.
///
/// # Errors
/// `NotFound` when there are none, `Data` when they cannot be read.
pub fn read(dir: &Path) -> Result<Vec<u8>> {
    let file = dir.join(FILE);
    std::fs::read(&file).map_err(|e| {
        let message = format!("read weights {}: {e}; weights in other formats must be converted first", file.display());
        match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(message),
            _ => Error::data(message),
        }
    })
}

/// A parsed weights file.
pub struct Weights<'a> {
    file: PathBuf,
    tensors: SafeTensors<'a>,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// Parses the header and finds the prefix of the encoder's tensors (`bert.`, `0.auto_model.`, none …).
    ///
    /// # Errors
    /// `Data` when the bytes are no such file.
    pub fn parse(dir: &Path, bytes: &'a [u8]) -> Result<Self> {
        let file = dir.join(FILE);
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|e| Error::data(format!("read weights {}: {e}", file.display())))?;
        let landmark = tensors.names().into_iter().find(|name| name.ends_with(LANDMARK));
        let prefix = landmark
            .map(|name| name[..name.len() - LANDMARK.len()].to_owned())
            .ok_or_else(|| Error::data(format!("read weights {}: no tensor is called {LANDMARK}", file.display())))?;
        Ok(Self { file, tensors, prefix })
    }

    /// What precedes the names of the encoder's tensors in the file.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// All tensors of the file, under their full names.
    #[must_use]
    pub fn tensors(&self) -> &SafeTensors<'a> {
        &self.tensors
    }

    /// A tensor of exactly this shape.
    ///
    /// # Errors
    /// `Data` when there is none, or it has another shape or an unsupported number type.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let full = format!("{}{name}", self.prefix);
        let fail = |what: String| {
            let file = self.file.display();
            Error::data(format!("read weights {file}: tensor {full} of shape {shape:?}: {what}"))
        };
        let tensor = self
            .tensors
            .tensor(&full)
            // Checkpoints from TensorFlow's time call the layer norm's parameters gamma and beta.
            .or_else(|e| old_name(&full).map_or(Err(e), |old| self.tensors.tensor(&old)))
            .map_err(|_| fail("there is none".to_owned()))?;
        if let Some(packed) = self.packed(&full, &tensor, shape).map_err(|e| fail(e.to_string()))? {
            return Ok(packed.floats());
        }
        if tensor.shape() != shape {
            return Err(fail(format!("the file has {:?}", tensor.shape())));
        }
        let data = tensor.data();
        let pairs = || data.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
        match tensor.dtype() {
            Dtype::F32 => Ok(data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::BF16 => Ok(pairs().map(|b| f32::from_bits(u32::from(b) << 16)).collect()),
            Dtype::F16 => Ok(pairs().map(f16_to_f32).collect()),
            other => Err(fail(format!("it holds {other:?}; supported are F32, F16 and BF16"))),
        }
    }
}

impl Weights<'_> {
    /// A matrix whose rows are looked up one by one, in as many bits as the file has.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Table> {
        let full = format!("{}{name}", self.prefix);
        if let Ok(tensor) = self.tensors.tensor(&full) {
            let packed = self.packed(&full, &tensor, &shape);
            let packed = packed.map_err(|e| e.context(format!("read weights {}: {full}", self.file.display())))?;
            if let Some(packed) = packed {
                return Ok(Table::Packed(packed));
            }
        }
        Ok(Table::Floats { values: self.get(name, &shape)?, columns: shape[1] })
    }

    /// Whether some matrices have fewer bits than training needs.
    #[must_use]
    pub fn quantised(&self) -> bool {
        self.tensors.names().iter().any(|name| name.ends_with(SCALE))
    }

    fn packed(&self, full: &str, tensor: &TensorView<'_>, shape: &[usize]) -> Result<Option<Packed>> {
        let [rows, columns] = *shape else { return Ok(None) };
        let Ok(scales) = self.tensors.tensor(&format!("{full}{SCALE}")) else { return Ok(None) };
        let types = (tensor.dtype(), scales.dtype());
        let packed = match types {
            (Dtype::I8, Dtype::F32) => Packed::eight(tensor.data(), scales.data(), [rows, columns]),
            (Dtype::U8, Dtype::F16) => Packed::four(tensor.data(), scales.data(), [rows, columns]),
            _ => Err(Error::data(format!("its numbers and scales are {types:?}; known are I8 with F32, U8 with F16"))),
        };
        packed.map(Some)
    }
}

fn old_name(name: &str) -> Option<String> {
    let (stem, parameter) = name.rsplit_once("LayerNorm.")?;
    let old = if parameter == "weight" { "gamma" } else { "beta" };
    Some(format!("{stem}LayerNorm.{old}"))
}

/// IEEE 754 half precision to single, exact.
#[must_use]
pub fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half) & 0x3ff;
    let magnitude = match exponent {
        // Subnormal: fraction · 2^-24.
        #[expect(clippy::cast_precision_loss, reason = "ten bits")]
        0 => (fraction as f32 * 2f32.powi(-24)).to_bits(),
        0x1f => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_the_numbers_they_stand_for() {
        let cases: [(u16, f32); 7] = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
        ];
        for (half, want) in cases {
            assert_eq!(f16_to_f32(half).to_bits(), want.to_bits(), "{half:#06x}");
        }
        assert!(f16_to_f32(0x7e00).is_nan());
    }
}
