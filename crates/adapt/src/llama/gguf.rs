//! Reads GGUF files (version 2 and 3): metadata of the simple types, and tensors of plain floats. Quantised tensors are
//! turned into floats by llama.cpp beforehand ([`Gguf::open_floats`]), so that every type it knows can be trained on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use understudy_core::{Error, Result};
use understudy_model::generate::{FileType, Importance, quantise};

/// Longest string, and most entries of an array, that a sound file has.
const MOST: u64 = 1 << 28;

/// A value of the metadata. Arrays are passed over.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
    Other,
}

/// A tensor in the file.
#[derive(Debug, Clone)]
struct Entry {
    /// Fastest first, as the format has it.
    shape: Vec<usize>,
    kind: u32,
    offset: u64,
}

/// A file's head, and access to its tensors.
pub(crate) struct Gguf {
    file: BufReader<File>,
    values: BTreeMap<String, Value>,
    /// Where each value lies, its type in front, in the file's order.
    places: Vec<(String, Range<u64>)>,
    tensors: BTreeMap<String, Entry>,
    /// Where the tensors' numbers begin.
    data: u64,
    name: String,
}

const F32: u32 = 0;
const F16: u32 = 1;
const BF16: u32 = 30;

impl Gguf {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound` when there is none, `Data` when it is not sound.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!("read {name}: there is no such file")),
            _ => Error::data(format!("read {name}: {e}")),
        })?;
        let mut this = Self {
            file: BufReader::with_capacity(1 << 20, file),
            values: BTreeMap::new(),
            places: Vec::new(),
            tensors: BTreeMap::new(),
            data: 0,
            name,
        };
        this.head().map_err(|e| e.context(format!("read {}", this.name)))?;
        Ok(this)
    }

    /// Opens a file of any type: one with quantised tensors is written as floats to `scratch` first (4 bytes for each
    /// parameter).
    ///
    /// # Errors
    /// As [`Gguf::open`]; `Data` when llama.cpp cannot turn it into floats.
    pub(crate) fn open_floats(path: &Path, scratch: &Path) -> Result<Self> {
        let file = Self::open(path)?;
        if file.tensors.values().all(|entry| [F32, F16, BF16].contains(&entry.kind)) {
            return Ok(file);
        }
        quantise(path, scratch, FileType::F32, &Importance::new())?;
        Self::open(scratch)
    }

    fn head(&mut self) -> Result<()> {
        let mut magic = [0; 4];
        self.bytes(&mut magic)?;
        let version = self.u32()?;
        if &magic != b"GGUF" || !(2..=3).contains(&version) {
            return Err(Error::data("it is no GGUF file of version 2 or 3"));
        }
        let (tensors, values) = (self.u64()?, self.u64()?);
        for _ in 0..values {
            let key = self.string()?;
            let began = self.place()?;
            let kind = self.u32()?;
            let value = self.value(kind)?;
            let ended = self.place()?;
            self.places.push((key.clone(), began..ended));
            self.values.insert(key, value);
        }
        for _ in 0..tensors {
            let name = self.string()?;
            let dimensions = self.u32()?;
            if dimensions > 4 {
                return Err(Error::data(format!("tensor {name} has {dimensions} dimensions")));
            }
            let mut shape = Vec::new();
            for _ in 0..dimensions {
                shape.push(usize::try_from(self.u64()?).unwrap_or(usize::MAX));
            }
            let (kind, offset) = (self.u32()?, self.u64()?);
            self.tensors.insert(name, Entry { shape, kind, offset });
        }
        let alignment = match self.values.get("general.alignment") {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "stored as u32")]
            Some(Value::Number(x)) if *x >= 1.0 => *x as u64,
            _ => 32,
        };
        self.data = self.place()?.next_multiple_of(alignment);
        Ok(())
    }

    fn place(&mut self) -> Result<u64> {
        self.file.stream_position().map_err(|e| Error::data(e.to_string()))
    }

    fn bytes(&mut self, to: &mut [u8]) -> Result<()> {
        self.file.read_exact(to).map_err(|e| Error::data(format!("it ends too early ({e})")))
    }

    fn u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn string(&mut self) -> Result<String> {
        let length = self.u64()?;
        if length > MOST {
            return Err(Error::data("a string is longer than any sound file has"));
        }
        let mut text = Vec::new();
        let read = (&mut self.file).take(length).read_to_end(&mut text);
        if read.map_err(|e| Error::data(e.to_string()))? as u64 != length {
            return Err(Error::data("it ends too early"));
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        let mut take = |n: usize| -> Result<[u8; 8]> {
            let mut bytes = [0; 8];
            self.bytes(&mut bytes[..n])?;
            Ok(bytes)
        };
        let low = |b: [u8; 8]| [b[0], b[1], b[2], b[3]];
        Ok(match kind {
            0 => Value::Number(f64::from(take(1)?[0])),
            1 => Value::Number(f64::from(i8::from_le_bytes([take(1)?[0]]))),
            2 => {
                let bytes = take(2)?;
                Value::Number(f64::from(u16::from_le_bytes([bytes[0], bytes[1]])))
            }
            3 | 7 => {
                take(if kind == 3 { 2 } else { 1 })?;
                Value::Other
            }
            4 => Value::Number(f64::from(u32::from_le_bytes(low(take(4)?)))),
            5 => Value::Number(f64::from(i32::from_le_bytes(low(take(4)?)))),
            6 => Value::Number(f64::from(f32::from_le_bytes(low(take(4)?)))),
            8 => Value::Text(self.string()?),
            9 => {
                let (kind, n) = (self.u32()?, self.u64()?);
                if kind == 9 || n > MOST {
                    return Err(Error::data("an array is nested, or longer than any sound file has"));
                }
                for _ in 0..n {
                    self.value(kind)?;
                }
                Value::Other
            }
            10 => Value::Number(u64::from_le_bytes(take(8)?) as f64),
            11 => Value::Number(i64::from_le_bytes(take(8)?) as f64),
            12 => Value::Number(f64::from_le_bytes(take(8)?)),
            other => return Err(Error::data(format!("a value has type {other}, which is not known"))),
        })
    }

    /// True when the metadata has a value for `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A number of the metadata.
    pub(crate) fn number(&self, key: &str) -> Result<f64> {
        match self.values.get(key) {
            Some(Value::Number(x)) => Ok(*x),
            _ => Err(Error::data(format!("read {}: it has no number `{key}`", self.name))),
        }
    }

    /// A text of the metadata.
    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(Error::data(format!("read {}: it has no text `{key}`", self.name))),
        }
    }

    /// The values of the metadata whose keys are `wanted`, as they lie in the file: type, then value.
    pub(crate) fn raw_values(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Vec<u8>)>> {
        let places: Vec<_> = self.places.iter().filter(|(key, _)| wanted(key)).cloned().collect();
        let mut found = Vec::with_capacity(places.len());
        for (key, place) in places {
            let failed = |e: std::io::Error| Error::data(format!("read {}: {e}", self.name));
            self.file.seek(SeekFrom::Start(place.start)).map_err(failed)?;
            let mut bytes = vec![0; usize::try_from(place.end - place.start).unwrap_or(0)];
            self.bytes(&mut bytes)?;
            found.push((key, bytes));
        }
        Ok(found)
    }

    /// A list of texts of the metadata; `None` when there is none.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>> {
        // Type of the value (9, an array), type of its entries (8, texts), their number.
        if !self.enter(key, 8)? {
            return Ok(None);
        }
        let n = self.u64()?;
        (0..n.min(MOST)).map(|_| self.string()).collect::<Result<_>>().map(Some)
    }

    /// A list of small numbers of the metadata; `None` when there is none.
    pub(crate) fn integers(&mut self, key: &str) -> Result<Option<Vec<i32>>> {
        if !self.enter(key, 5)? {
            return Ok(None);
        }
        let n = self.u64()?;
        let one = |this: &mut Self| this.u32().map(|x| i32::from_le_bytes(x.to_le_bytes()));
        (0..n.min(MOST)).map(|_| one(self)).collect::<Result<_>>().map(Some)
    }

    /// Goes to the entries of an array of this type.
    fn enter(&mut self, key: &str, of: u32) -> Result<bool> {
        let Some(place) = self.places.iter().find(|(name, _)| name == key).map(|(_, place)| place.start) else {
            return Ok(false);
        };
        self.file.seek(SeekFrom::Start(place)).map_err(|e| Error::data(format!("read {}: {e}", self.name)))?;
        Ok(self.u32()? == 9 && self.u32()? == of)
    }

    /// Rows of a tensor, when it is there.
    pub(crate) fn rows(&self, name: &str) -> Option<usize> {
        self.tensors.get(name).and_then(|entry| entry.shape.get(1)).copied()
    }

    /// A tensor's numbers, row-major; `None` when there is no such tensor.
    pub(crate) fn floats(&mut self, name: &str, expected: usize) -> Result<Option<Vec<f32>>> {
        let Some(entry) = self.tensors.get(name).cloned() else { return Ok(None) };
        let wrong = |what: String| Error::data(format!("read {}: tensor {name} {what}", self.name));
        let count = entry.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count != Some(expected) {
            return Err(wrong(format!("has shape {:?}, not {expected} numbers", entry.shape)));
        }
        let width = if entry.kind == F32 { 4 } else { 2 };
        if ![F32, F16, BF16].contains(&entry.kind) {
            return Err(wrong(format!("is of type {}, not plain floats", entry.kind)));
        }
        let failed = |e: std::io::Error| Error::data(format!("read tensor {name}: {e}"));
        self.file.seek(SeekFrom::Start(self.data + entry.offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        let read = (&mut self.file).take((expected * width) as u64).read_to_end(&mut bytes).map_err(failed)?;
        if read != expected * width {
            return Err(Error::data(format!("read {}: it ends within tensor {name}", self.name)));
        }
        Ok(Some(match entry.kind {
            F32 => crate::tensors::floats(&bytes),
            F16 => bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            _ => bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        }))
    }
}
