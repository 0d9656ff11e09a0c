//! Matrices that a file holds in 8 or 4 bits a number. What `adapt quantize` writes is read here.
//!
//! Beside the tensor `X` (I8 of the matrix's shape, or U8 of half as many columns, the even column in the low half of a
//! byte, 8 added) lies `X_scale`: F32, one a row, for 8 bits; F16, one for each [`GROUP`] columns of a row, for 4 bits.
//! A number is its integer times its scale.

use super::weights::f16_to_f32;
use understudy_core::{Error, Result};

/// Columns that share a scale in 4 bits.
pub const GROUP: usize = 32;
/// What the name of a matrix's scales adds to the matrix's.
pub const SCALE: &str = "_scale";

/// A matrix in few bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    bits: Bits,
    values: Vec<u8>,
    scales: Vec<f32>,
    columns: usize,
}

/// How many bits a number has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bits {
    Eight,
    Four,
}

impl Packed {
    /// Wraps a row-major matrix of I8 with one scale a row.
    ///
    /// # Errors
    /// `Data` when the shapes do not agree.
    pub fn eight(values: &[u8], scales: &[u8], shape: [usize; 2]) -> Result<Self> {
        let [rows, columns] = shape;
        let scales: Vec<f32> = scales.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Self::new(Bits::Eight, values, scales, [rows, columns], [rows.saturating_mul(columns), rows])
    }

    /// Wraps a row-major matrix of pairs of 4-bit numbers with an F16 scale for each [`GROUP`] columns.
    ///
    /// # Errors
    /// `Data` when the shapes do not agree.
    pub fn four(values: &[u8], scales: &[u8], shape: [usize; 2]) -> Result<Self> {
        let [rows, columns] = shape;
        if !columns.is_multiple_of(GROUP) {
            return Err(Error::data(format!("{columns} columns are not groups of {GROUP}")));
        }
        let scales = scales.as_chunks::<2>().0.iter().map(|b| f16_to_f32(u16::from_le_bytes(*b))).collect();
        let numbers = rows.saturating_mul(columns);
        Self::new(Bits::Four, values, scales, shape, [numbers / 2, numbers / GROUP])
    }

    fn new(bits: Bits, values: &[u8], scales: Vec<f32>, shape: [usize; 2], want: [usize; 2]) -> Result<Self> {
        if [values.len(), scales.len()] != want {
            let found = format!("{} bytes and {} scales", values.len(), scales.len());
            return Err(Error::data(format!("it has {found}, not the {} and {} of its shape", want[0], want[1])));
        }
        if scales.iter().any(|scale| !scale.is_finite()) {
            return Err(Error::data("a scale is not a finite number"));
        }
        Ok(Self { bits, values: values.to_vec(), scales, columns: shape[1] })
    }

    /// Writes a row as floats.
    ///
    /// # Panics
    /// When there is no such row, or `out` is not as long as one.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.columns, "room for one row");
        match self.bits {
            Bits::Eight => {
                let values = &self.values[row * self.columns..][..self.columns];
                let scale = self.scales[row];
                out.iter_mut().zip(values).for_each(|(out, v)| *out = f32::from(v.cast_signed()) * scale);
            }
            Bits::Four => {
                let values = &self.values[row * self.columns / 2..][..self.columns / 2];
                let scales = &self.scales[row * (self.columns / GROUP)..];
                let groups = out.chunks_exact_mut(GROUP).zip(values.chunks_exact(GROUP / 2)).zip(scales);
                for ((out, values), scale) in groups {
                    for (pair, v) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                        *pair = [v & 15, v >> 4].map(|v| (f32::from(v) - 8.0) * scale);
                    }
                }
            }
        }
    }

    /// The whole matrix as floats.
    #[must_use]
    pub fn floats(&self) -> Vec<f32> {
        let rows = match self.bits {
            Bits::Eight => self.scales.len(),
            Bits::Four => self.scales.len() * GROUP / self.columns.max(1),
        };
        let mut out = vec![0.0; rows * self.columns];
        out.chunks_exact_mut(self.columns.max(1)).enumerate().for_each(|(i, row)| self.row(i, row));
        out
    }
}

/// Rows that are looked up one by one, as many bits a number as the file has.
#[derive(Debug, Clone, PartialEq)]
pub enum Table {
    /// Floats.
    Floats {
        /// Row-major.
        values: Vec<f32>,
        /// Length of a row.
        columns: usize,
    },
    /// 8 or 4 bits.
    Packed(Packed),
}

impl Table {
    /// Appends the sum of a row and `other`.
    ///
    /// # Panics
    /// When there is no such row.
    pub(super) fn add_row(&self, row: usize, other: &[f32], out: &mut Vec<f32>) {
        match self {
            Self::Floats { values, columns } => {
                let row = &values[row * columns..][..*columns];
                out.extend(row.iter().zip(other).map(|(a, b)| a + b));
            }
            Self::Packed(packed) => {
                let from = out.len();
                out.resize(from + packed.columns, 0.0);
                packed.row(row, &mut out[from..]);
                out[from..].iter_mut().zip(other).for_each(|(x, b)| *x += b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_halves_of_bytes_are_the_numbers_they_stand_for() {
        let scales: Vec<u8> = [0.5f32, 2.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let eight = Packed::eight(&[1, 255, 127, 129], &scales, [2, 2]).unwrap();
        assert_eq!(eight.floats(), [0.5, -0.5, 254.0, -254.0]);
        // 1.0 in half precision is 0x3c00.
        let four = Packed::four(&[0x0f; 16], &[0x00, 0x3c], [1, 32]).unwrap();
        assert_eq!(four.floats()[..3], [7.0, -8.0, 7.0]);
        let mut out = Vec::new();
        Table::Packed(four).add_row(0, &[1.0; 32], &mut out);
        assert_eq!(out[..2], [8.0, -7.0]);
    }

    #[test]
    fn shapes_that_do_not_agree_and_scales_that_are_no_numbers_are_refused() {
        let one = 1f32.to_le_bytes();
        assert!(Packed::eight(&[1, 2, 3], &one, [1, 4]).is_err());
        assert!(Packed::eight(&[1, 2], &f32::NAN.to_le_bytes(), [1, 2]).is_err());
        assert!(Packed::four(&[0; 16], &[0, 0], [1, 33]).is_err());
        assert!(Packed::four(&[0; 15], &[0, 0], [1, 32]).is_err());
    }
}
