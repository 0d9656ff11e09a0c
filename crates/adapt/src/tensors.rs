//! Writes safetensors files: number by number through a buffer, so that a large model is never in memory twice.

use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::{fs::File, path::Path};

/// A tensor to be written.
pub(crate) struct Tensor<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data<'a>,
}

/// Its numbers.
pub(crate) enum Data<'a> {
    /// To be written as F32.
    F32(&'a [f32]),
    /// The same, made when their turn comes.
    Later(Box<dyn Fn() -> Cow<'a, [f32]> + 'a>),
    /// As they lie in another file, with their type's name.
    Raw(&'static str, &'a [u8]),
}

/// Writes tensors and text metadata to `path`, and syncs it.
pub(crate) fn write(path: &Path, tensors: &[Tensor<'_>], metadata: &[(&str, &str)]) -> io::Result<()> {
    let file = File::create(path)?;
    let mut to = BufWriter::with_capacity(1 << 20, &file);
    write_to(&mut to, tensors, metadata)?;
    to.flush()?;
    drop(to);
    file.sync_all()
}

/// Writes tensors and text metadata.
pub(crate) fn write_to(to: &mut impl Write, tensors: &[Tensor<'_>], metadata: &[(&str, &str)]) -> io::Result<()> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        let entries = metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
        header.insert("__metadata__".to_owned(), Value::Object(entries.collect()));
    }
    let mut offset = 0;
    for tensor in tensors {
        let (dtype, bytes) = match &tensor.data {
            Data::F32(values) => ("F32", 4 * values.len()),
            Data::Later(_) => ("F32", 4 * tensor.shape.iter().product::<usize>()),
            Data::Raw(dtype, bytes) => (*dtype, bytes.len()),
        };
        let entry = json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, offset + bytes]});
        header.insert(tensor.name.clone(), entry);
        offset += bytes;
    }
    let mut header = serde_json::to_vec(&header)?;
    // The numbers begin at a multiple of eight, as readers expect.
    header.resize(header.len().next_multiple_of(8), b' ');
    to.write_all(&(header.len() as u64).to_le_bytes())?;
    to.write_all(&header)?;
    for tensor in tensors {
        match &tensor.data {
            Data::F32(values) => write_floats(to, values)?,
            Data::Later(make) => {
                let values = make();
                let n: usize = tensor.shape.iter().product();
                debug_assert_eq!(values.len(), n, "{} has as many numbers as its shape says", tensor.name);
                write_floats(to, &values)?;
            }
            Data::Raw(_, bytes) => to.write_all(bytes)?,
        }
    }
    Ok(())
}

fn write_floats(to: &mut impl Write, values: &[f32]) -> io::Result<()> {
    for block in values.chunks(4096) {
        let bytes: Vec<u8> = block.iter().flat_map(|x| x.to_le_bytes()).collect();
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// The numbers of an F32 tensor.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn what_is_written_reads_back_with_the_official_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 / 7.0).collect();
        let tensors = [
            Tensor { name: "a".into(), shape: vec![100, 100], data: Data::F32(&values) },
            Tensor { name: "b".into(), shape: vec![3], data: Data::Raw("I8", &[1, 2, 3]) },
            Tensor { name: "c".into(), shape: vec![2], data: Data::Later(Box::new(|| Cow::Owned(vec![0.5, 2.0]))) },
            Tensor { name: "empty".into(), shape: vec![0], data: Data::F32(&[]) },
        ];
        write(&path, &tensors, &[("format", "pt")]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert!(floats(read.tensor("a").unwrap().data()) == values);
        assert_eq!(read.tensor("b").unwrap().data(), [1, 2, 3]);
        assert!(floats(read.tensor("c").unwrap().data()) == [0.5, 2.0]);
        assert_eq!(read.tensor("empty").unwrap().shape(), [0]);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    }
}
