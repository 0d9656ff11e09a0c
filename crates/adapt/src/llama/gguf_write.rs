//! Writes GGUF files (version 3) of floats: adapters and whole models, as llama.cpp reads them.

use std::borrow::Cow;
use std::io::{self, Write};

/// A value of the metadata.
pub(crate) enum Value<'a> {
    F32(f32),
    U32(u32),
    Text(&'a str),
    /// Type and value as they lie in another file.
    Raw(&'a [u8]),
}

/// How a tensor's numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floats {
    F32,
    F16,
}

/// A tensor; its shape has the fastest dimension first.
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) floats: Floats,
}

impl Tensor {
    fn bytes(&self) -> usize {
        let width = if self.floats == Floats::F32 { 4 } else { 2 };
        (width * self.shape.iter().product::<usize>()).next_multiple_of(ALIGNMENT)
    }
}

const ALIGNMENT: usize = 32;

/// Writes metadata and tensors; `numbers` gives those of the tensor at an index when its turn comes, so that no more than
/// one has to be in memory.
pub(crate) fn write_to<'a>(
    to: &mut impl Write,
    values: &[(&str, Value<'_>)],
    tensors: &[Tensor],
    mut numbers: impl FnMut(usize) -> Cow<'a, [f32]>,
) -> io::Result<()> {
    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((values.len() as u64).to_le_bytes());
    let text = |head: &mut Vec<u8>, text: &str| {
        head.extend((text.len() as u64).to_le_bytes());
        head.extend(text.as_bytes());
    };
    for (key, value) in values {
        text(&mut head, key);
        // The codes of the types in the format: 4, 6, 8.
        match value {
            Value::U32(x) => {
                head.extend(4u32.to_le_bytes());
                head.extend(x.to_le_bytes());
            }
            Value::F32(x) => {
                head.extend(6u32.to_le_bytes());
                head.extend(x.to_le_bytes());
            }
            Value::Text(value) => {
                head.extend(8u32.to_le_bytes());
                text(&mut head, value);
            }
            Value::Raw(bytes) => head.extend(*bytes),
        }
    }
    let mut offset = 0;
    for tensor in tensors {
        text(&mut head, &tensor.name);
        head.extend(u32::try_from(tensor.shape.len()).unwrap_or(u32::MAX).to_le_bytes());
        tensor.shape.iter().for_each(|d| head.extend((*d as u64).to_le_bytes()));
        let kind: u32 = if tensor.floats == Floats::F32 { 0 } else { 1 };
        head.extend(kind.to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes();
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    to.write_all(&head)?;
    for (index, tensor) in tensors.iter().enumerate() {
        let numbers = numbers(index);
        let mut bytes: Vec<u8> = match tensor.floats {
            Floats::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Floats::F16 => numbers.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
        };
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        debug_assert_eq!(bytes.len(), tensor.bytes(), "{} has as many numbers as its shape says", tensor.name);
        to.write_all(&bytes)?;
    }
    Ok(())
}
