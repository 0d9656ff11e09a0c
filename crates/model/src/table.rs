//! Static embeddings: a vector for each token, summed over a text and brought to length 1. No layers, no attention:
//! microseconds a text.
//!
//! The folder is laid out as Python's model2vec expects (`model.safetensors` with `embeddings`, `tokenizer.json`,
//! `config.json`). Rows for pairs of neighbouring tokens may stand beside it in a file of their own (`pairs.safetensors`);
//! model2vec does not read them.

use crate::wordpiece::Pieces;
use safetensors::{Dtype as TensorType, SafeTensors};
use std::path::Path;
use understudy_core::{Error, Result};

/// File of the vectors.
pub const VECTORS: &str = "model.safetensors";
/// File of the tokeniser.
pub const TOKENIZER: &str = "tokenizer.json";
/// File of the pairs.
pub const PAIRS: &str = "pairs.safetensors";
/// Name of the tensor in [`VECTORS`].
pub const EMBEDDINGS: &str = "embeddings";
/// Stands for the beginning of a text in a pair.
pub const BEGIN: u32 = u32::MAX - 1;
/// Stands for its end.
pub const END: u32 = u32::MAX;
/// An empty slot of the index.
const NONE: u32 = u32::MAX;
/// Bytes for each token that are looked at: longer texts are cut before they are tokenised.
const BYTES_A_TOKEN: usize = 16;

/// A key for two neighbours.
#[must_use]
pub fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Pairs of neighbouring tokens and the rows that stand for them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// Keys, rising.
    keys: Vec<u64>,
    /// Open addressing over `keys`; the length is a power of two, or 0.
    index: Vec<u32>,
}

impl Pairs {
    /// Takes keys; they are sorted, and each is kept once.
    #[must_use]
    pub fn new(mut keys: Vec<u64>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(1 << 28);
        if keys.is_empty() {
            return Self::default();
        }
        let mut index = vec![NONE; (keys.len() * 3).next_power_of_two()];
        for (at, key) in keys.iter().enumerate() {
            let mut slot = slot(*key, index.len());
            while index[slot] != NONE {
                slot = (slot + 1) & (index.len() - 1);
            }
            index[slot] = u32::try_from(at).unwrap_or(NONE);
        }
        Self { keys, index }
    }

    /// The keys, rising.
    #[must_use]
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Position of a key.
    #[must_use]
    pub fn find(&self, key: u64) -> Option<u32> {
        if self.index.is_empty() {
            return None;
        }
        let mut slot = slot(key, self.index.len());
        loop {
            let at = self.index[slot];
            if at == NONE || self.keys[at as usize] == key {
                return (at != NONE).then_some(at);
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
    }

    /// Appends the rows that `ids` stand for, numbered from `first`: one for each known pair, borders included.
    pub fn rows(&self, ids: &[u32], first: u32, out: &mut Vec<u32>) {
        if self.index.is_empty() {
            return;
        }
        let mut left = BEGIN;
        for right in ids.iter().copied().chain([END]) {
            out.extend(self.find(pair(left, right)).map(|at| first + at));
            left = right;
        }
    }
}

fn slot(key: u64, length: usize) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (length - 1)
}

/// A table with its tokeniser.
pub struct TokenTable {
    pieces: Pieces,
    pairs: Pairs,
    /// One row for each token, then one for each pair.
    vectors: Vec<f32>,
    tokens: u32,
    width: usize,
    max_tokens: usize,
}

/// A text as a table sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Vector of length 1; 0 where no token is known.
    pub vector: Vec<f32>,
    /// Tokens read.
    pub tokens: usize,
    /// True when the text went on.
    pub truncated: bool,
}

impl TokenTable {
    /// Puts a table together: one row of `width` numbers for each token of the tokeniser, then one for each pair.
    ///
    /// # Errors
    /// `Data` when the numbers are not that many or one is not finite.
    pub fn new(pieces: Pieces, pairs: Pairs, vectors: Vec<f32>, width: usize, max_tokens: usize) -> Result<Self> {
        let rows = pieces.vocabulary() + pairs.keys.len();
        if width == 0 || vectors.len() != rows * width {
            return Err(Error::data(format!(
                "load token table: {} numbers are not {rows} rows of {width}, one for each token and pair",
                vectors.len()
            )));
        }
        if !vectors.iter().all(|x| x.is_finite()) {
            return Err(Error::data("load token table: a number is not finite"));
        }
        let tokens = u32::try_from(pieces.vocabulary()).map_err(|e| Error::data(e.to_string()))?;
        Ok(Self { pieces, pairs, vectors, tokens, width, max_tokens })
    }

    /// Reads a folder.
    ///
    /// # Errors
    /// `Data` when a file is missing or does not hold what it should.
    pub fn read(dir: &Path, max_tokens: usize) -> Result<Self> {
        let pieces = Pieces::load(&dir.join(TOKENIZER))?;
        let (mut vectors, shape) = floats(&dir.join(VECTORS), EMBEDDINGS)?;
        let width = shape.get(1).copied().unwrap_or(0);
        let mut pairs = Pairs::default();
        let path = dir.join(PAIRS);
        if path.exists() {
            let bytes = std::fs::read(&path).map_err(|e| Error::data(format!("read {}: {e}", path.display())))?;
            let wrong = |what: String| Error::data(format!("read {}: {what}", path.display()));
            let tensors = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
            let keys = tensors.tensor("pairs").map_err(|e| wrong(e.to_string()))?;
            if keys.dtype() != TensorType::U64 {
                return Err(wrong("`pairs` is not U64".into()));
            }
            let keys: Vec<u64> = keys.data().as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
            if !keys.is_sorted_by(|a, b| a < b) {
                return Err(wrong("`pairs` do not rise".into()));
            }
            pairs = Pairs::new(keys);
            vectors.extend(floats(&path, EMBEDDINGS)?.0);
        }
        Self::new(pieces, pairs, vectors, width, max_tokens)
    }

    /// Length of an embedding.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The tokens of the beginning of a text that have a row, then the pairs among them; and whether the text went on.
    ///
    /// # Errors
    /// `Data` when the tokeniser cannot represent the text.
    pub fn rows(&self, text: &str) -> Result<(Vec<u32>, bool)> {
        rows(&self.pieces, &self.pairs, text, self.max_tokens).map(|(rows, _, more)| (rows, more))
    }

    /// Embeds a text.
    ///
    /// # Errors
    /// `Data` when the tokeniser cannot represent the text.
    pub fn embed(&self, text: &str) -> Result<Embedded> {
        let (rows, tokens, truncated) = rows(&self.pieces, &self.pairs, text, self.max_tokens)?;
        debug_assert!(rows.iter().all(|row| (*row as usize) < self.vectors.len() / self.width), "a row for each id");
        let mut vector = vec![0.0_f32; self.width];
        for row in rows {
            let row = &self.vectors[row as usize * self.width..][..self.width];
            vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > f32::MIN_POSITIVE {
            vector.iter_mut().for_each(|x| *x /= length);
        }
        Ok(Embedded { vector, tokens, truncated })
    }

    /// How many of the rows are tokens; the others are pairs.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.tokens
    }
}

/// Rows of a text: known tokens, then pairs (numbered after the vocabulary); the number of tokens; whether it went on.
///
/// # Errors
/// `Data` when the tokeniser cannot represent the text.
pub fn rows(pieces: &Pieces, pairs: &Pairs, text: &str, max_tokens: usize) -> Result<(Vec<u32>, usize, bool)> {
    let mut end = text.len().min(max_tokens.saturating_mul(BYTES_A_TOKEN));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut ids = Vec::with_capacity(2 * end.min(4096) / 3 + 8);
    pieces.ids(&text[..end], &mut ids)?;
    // As model2vec: words that are not known say nothing.
    if let Some(unknown) = pieces.unknown() {
        ids.retain(|id| *id != unknown);
    }
    let truncated = end < text.len() || ids.len() > max_tokens;
    ids.truncate(max_tokens);
    let tokens = ids.len();
    if !pairs.keys.is_empty() {
        let mut found = Vec::with_capacity(tokens + 1);
        pairs.rows(&ids, u32::try_from(pieces.vocabulary()).unwrap_or(u32::MAX), &mut found);
        ids.extend(found);
    }
    Ok((ids, tokens, truncated))
}

fn floats(path: &Path, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
    let wrong = |what: String| Error::data(format!("read {}: {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
    let tensor = tensors.tensor(name).map_err(|_| wrong(format!("it has no tensor `{name}`")))?;
    if tensor.dtype() != TensorType::F32 || tensor.shape().len() != 2 {
        return Err(wrong(format!("`{name}` is {:?} {:?}, expected rows of F32", tensor.dtype(), tensor.shape())));
    }
    let numbers = tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok((numbers, tensor.shape().to_vec()))
}
