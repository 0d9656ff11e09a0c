//! Writes GGUF files (version 3) of floats: what llama.cpp reads adapters from.

use std::io::{self, Write};

/// A value of the metadata.
pub(crate) enum Value<'a> {
    F32(f32),
    Text(&'a str),
}

/// A tensor; its shape has the fastest dimension first.
pub(crate) struct Tensor<'a> {
    pub(crate) name: String,
    pub(crate) shape: [usize; 2],
    pub(crate) values: std::borrow::Cow<'a, [f32]>,
}

const ALIGNMENT: usize = 32;
/// Codes of value types in the format.
const F32: u32 = 6;
const TEXT: u32 = 8;

/// Writes metadata and tensors.
pub(crate) fn write_to(to: &mut impl Write, values: &[(&str, Value<'_>)], tensors: &[Tensor<'_>]) -> io::Result<()> {
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
        match value {
            Value::F32(x) => {
                head.extend(F32.to_le_bytes());
                head.extend(x.to_le_bytes());
            }
            Value::Text(value) => {
                head.extend(TEXT.to_le_bytes());
                text(&mut head, value);
            }
        }
    }
    let mut offset = 0;
    for tensor in tensors {
        text(&mut head, &tensor.name);
        head.extend(2u32.to_le_bytes());
        tensor.shape.iter().for_each(|d| head.extend((*d as u64).to_le_bytes()));
        // Type 0 is F32.
        head.extend(0u32.to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += (4 * tensor.values.len()).next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    to.write_all(&head)?;
    for tensor in tensors {
        let mut bytes: Vec<u8> = tensor.values.iter().flat_map(|x| x.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        to.write_all(&bytes)?;
    }
    Ok(())
}
