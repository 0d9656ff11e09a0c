//! BERT's tokenisation at a few microseconds a text, for models whose own work takes no longer.
//!
//! Covers `tokenizer.json` files that are plain BERT WordPiece (as MiniLM's, MPNet's and BGE's): characters are cleaned
//! and lowered, words split at white space and punctuation, and each word is cut greedily into the longest known pieces,
//! which a trie finds in one walk. Words of other characters than ASCII go to the `tokenizers` crate word by word (its
//! normalisation looks at nothing beyond a word); texts in which an added token such as `[SEP]` appears, and files of
//! any other kind, go there as a whole. The tests hold it against that crate, token for token.

use serde_json::Value;
use std::path::Path;
use understudy_core::{Error, Result};

/// No such node or token.
const NONE: u32 = u32::MAX;

/// A tokeniser without special tokens around the text.
pub struct Pieces {
    inner: tokenizers::Tokenizer,
    fast: Option<Fast>,
    unknown: Option<u32>,
    vocabulary: usize,
}

/// What plain BERT WordPiece needs.
struct Fast {
    trie: Trie,
    unknown: u32,
    /// What becomes of each ASCII character.
    classes: [Class; 128],
    /// Added tokens, and the bytes that they begin with.
    added: Vec<String>,
    begins: [bool; 256],
    /// Characters above which a word is unknown.
    longest_word: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Taken out; what is around it grows together.
    Dropped,
    Space,
    /// A word of its own.
    Punctuation,
    /// Part of a word, as this byte.
    Letter(u8),
}

impl Pieces {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// `Data` when it cannot be read.
    pub fn load(file: &Path) -> Result<Self> {
        let fail = |e: &dyn std::fmt::Display| Error::data(format!("read tokeniser {}: {e}", file.display()));
        let bytes = std::fs::read(file).map_err(|e| fail(&e))?;
        Self::from_bytes(&bytes).map_err(|e| e.context(format!("read tokeniser {}", file.display())))
    }

    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// `Data` when they hold no tokeniser.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::data(e.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::data(e.to_string()))?;
        let file: Value = serde_json::from_slice(bytes).map_err(|e| Error::data(e.to_string()))?;
        let unknown = file["model"]["unk_token"].as_str().and_then(|token| inner.token_to_id(token));
        // Ids may have gaps: their number says nothing about the largest.
        let vocabulary = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Ok(Self { fast: Fast::of(&file), inner, unknown, vocabulary })
    }

    /// The id of words that are not known.
    #[must_use]
    pub fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// Largest id it can produce, plus one.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The `tokenizers` crate's own tokeniser, without padding and truncation.
    pub(crate) fn crates(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Whether the fast way is taken.
    #[must_use]
    pub fn is_fast(&self) -> bool {
        self.fast.is_some()
    }

    /// Appends the ids of a text, unknown words included.
    ///
    /// # Errors
    /// `Data` when the tokeniser cannot represent the text.
    pub fn ids(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        match &self.fast {
            Some(fast) if !fast.has_added(text) => fast.ids(text, out, |word, out| self.whole(word, out)),
            _ => self.whole(text, out),
        }
    }

    /// The crate's own way.
    fn whole(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|e| Error::data(format!("tokenise a text of {} bytes: {e}", text.len())))?;
        out.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

impl Fast {
    /// `None` when the file asks for anything that is not done here.
    fn of(file: &Value) -> Option<Self> {
        let (normalizer, model) = (&file["normalizer"], &file["model"]);
        let plain = normalizer["type"] == "BertNormalizer"
            && normalizer["clean_text"] == true
            && file["pre_tokenizer"]["type"] == "BertPreTokenizer"
            && model["type"] == "WordPiece"
            && model["continuing_subword_prefix"] == "##";
        if !plain {
            return None;
        }
        let lower = normalizer["lowercase"].as_bool()?;
        let mut added = Vec::new();
        for token in file["added_tokens"].as_array().map_or(&[][..], Vec::as_slice) {
            // Such tokens are looked for in other ways than as they stand.
            if ["single_word", "lstrip", "rstrip", "normalized"].iter().any(|field| token[*field] != false) {
                return None;
            }
            added.push(token["content"].as_str().filter(|content| !content.is_empty())?.to_owned());
        }
        let mut begins = [false; 256];
        added.iter().for_each(|token| begins[usize::from(token.as_bytes()[0])] = true);
        let mut trie = Trie::new();
        for (token, id) in model["vocab"].as_object()? {
            let id = u32::try_from(id.as_u64()?).ok()?;
            match token.strip_prefix("##") {
                Some(rest) if !rest.is_empty() => trie.insert(CONTINUED, rest.as_bytes(), id),
                _ => trie.insert(START, token.as_bytes(), id),
            }
        }
        let unknown = model["vocab"][model["unk_token"].as_str()?].as_u64()?;
        Some(Self {
            trie: trie.packed(),
            unknown: u32::try_from(unknown).ok()?,
            classes: std::array::from_fn(|byte| class(u8::try_from(byte).unwrap_or(0), lower)),
            added,
            begins,
            longest_word: usize::try_from(model["max_input_chars_per_word"].as_u64()?).ok()?,
        })
    }

    fn has_added(&self, text: &str) -> bool {
        text.bytes().any(|byte| self.begins[usize::from(byte)]) && self.added.iter().any(|token| text.contains(token))
    }

    fn ids(
        &self,
        text: &str,
        out: &mut Vec<u32>,
        mut other: impl FnMut(&str, &mut Vec<u32>) -> Result<()>,
    ) -> Result<()> {
        let bytes = text.as_bytes();
        let mut word = Vec::with_capacity(32);
        let mut at = 0;
        while at < bytes.len() {
            // What lies between ASCII white space is looked at as one: all of it ASCII, or not.
            let space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            if space(bytes[at]) {
                at += 1;
                continue;
            }
            let end = bytes[at..].iter().position(|byte| space(*byte)).map_or(bytes.len(), |length| at + length);
            if bytes[at..end].is_ascii() {
                for byte in &bytes[at..end] {
                    match self.classes[usize::from(*byte)] {
                        Class::Letter(letter) => word.push(letter),
                        Class::Dropped => {}
                        Class::Space => self.word(&mut word, out),
                        Class::Punctuation => {
                            self.word(&mut word, out);
                            word.push(*byte);
                            self.word(&mut word, out);
                        }
                    }
                }
                self.word(&mut word, out);
            } else {
                // Cut at ASCII bytes only, so these are ends of characters.
                other(&text[at..end], out)?;
            }
            at = end;
        }
        Ok(())
    }

    /// Cuts a word into pieces and empties it.
    fn word(&self, word: &mut Vec<u8>, out: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let before = out.len();
        let (mut at, mut root) = (0, START);
        while at < word.len() && word.len() <= self.longest_word {
            let Some((length, id)) = self.trie.longest(root, &word[at..]) else { break };
            out.push(id);
            at += length;
            root = CONTINUED;
        }
        if at < word.len() {
            out.truncate(before);
            out.push(self.unknown);
        }
        word.clear();
    }
}

fn class(byte: u8, lower: bool) -> Class {
    match byte {
        b' ' | b'\t' | b'\n' | b'\r' => Class::Space,
        byte if byte.is_ascii_control() => Class::Dropped,
        byte if byte.is_ascii_punctuation() => Class::Punctuation,
        byte if lower => Class::Letter(byte.to_ascii_lowercase()),
        byte => Class::Letter(byte),
    }
}

/// Node from which words begin.
const START: u32 = 0;
/// Node from which their further pieces begin.
const CONTINUED: u32 = 1;

/// Known pieces by their bytes. An edge is found by hashing node and byte.
struct Trie {
    /// Node · 256 + byte of each slot, [`NONE`] when empty; the length is a power of two.
    edges: Vec<u32>,
    /// The node each edge leads to.
    ends: Vec<u32>,
    /// Token of each node.
    tokens: Vec<u32>,
    filled: usize,
}

impl Trie {
    fn new() -> Self {
        Self { edges: vec![NONE; 1 << 10], ends: vec![NONE; 1 << 10], tokens: vec![NONE; 2], filled: 0 }
    }

    fn slot(&self, edge: u32) -> usize {
        let mut slot = edge.wrapping_mul(0x9e37_79b1) as usize >> 7 & (self.edges.len() - 1);
        while self.edges[slot] != edge && self.edges[slot] != NONE {
            slot = (slot + 1) & (self.edges.len() - 1);
        }
        slot
    }

    fn insert(&mut self, root: u32, piece: &[u8], id: u32) {
        let mut node = root;
        for byte in piece {
            // Room for 2²⁴ nodes: a hundred times BERT's vocabulary.
            let edge = node << 8 | u32::from(*byte);
            let mut slot = self.slot(edge);
            if self.edges[slot] == NONE {
                if self.filled * 2 > self.edges.len() {
                    self.grow(self.edges.len() * 2);
                    slot = self.slot(edge);
                }
                self.edges[slot] = edge;
                self.ends[slot] = u32::try_from(self.tokens.len()).unwrap_or(NONE);
                self.tokens.push(NONE);
                self.filled += 1;
            }
            node = self.ends[slot];
        }
        self.tokens[node as usize] = id;
    }

    fn grow(&mut self, length: usize) {
        let edges = std::mem::replace(&mut self.edges, vec![NONE; length]);
        let ends = std::mem::replace(&mut self.ends, vec![NONE; length]);
        for (edge, end) in edges.into_iter().zip(ends).filter(|(edge, _)| *edge != NONE) {
            let slot = self.slot(edge);
            self.edges[slot] = edge;
            self.ends[slot] = end;
        }
    }

    /// With a quarter of the slots filled: most walks look at one slot for each byte.
    fn packed(mut self) -> Self {
        self.grow((self.filled * 4).next_power_of_two());
        self
    }

    /// The longest known beginning of `bytes` from `root`: its length and token.
    fn longest(&self, root: u32, bytes: &[u8]) -> Option<(usize, u32)> {
        let (mut node, mut found) = (root, None);
        for (at, byte) in bytes.iter().enumerate() {
            let slot = self.slot(node << 8 | u32::from(*byte));
            if self.edges[slot] == NONE {
                break;
            }
            node = self.ends[slot];
            if self.tokens[node as usize] != NONE {
                found = Some((at + 1, self.tokens[node as usize]));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
