//! Text to token ids, cut to what the model reads.
//!
//! Padding and truncation that `tokenizer.json` may carry are switched off: the encoder needs no padding, and how much
//! a model reads is the caller's choice. A long text costs no more than its readable beginning.

use std::path::Path;
use understudy_core::{Error, Result};

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    truncated: bool,
}

impl Tokens {
    /// Wraps ids that some other tokeniser made, special tokens included.
    ///
    /// # Errors
    /// `Invalid` when there are none.
    pub fn from_ids(ids: Vec<u32>) -> Result<Self> {
        if ids.is_empty() {
            return Err(Error::invalid("embed a text of no tokens: give at least one"));
        }
        Ok(Self { ids, truncated: false })
    }

    /// The ids, special tokens included.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of tokens, special ones included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one token")]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True when the text went on after the last token.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

/// A model's tokeniser with its limit.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `max_tokens` counts special tokens too.
    ///
    /// # Errors
    /// `Data` when it cannot be read.
    pub fn load(file: &Path, max_tokens: usize) -> Result<Self> {
        let fail = |e: &dyn std::fmt::Display| Error::data(format!("read tokeniser {}: {e}", file.display()));
        let bytes = std::fs::read(file).map_err(|e| fail(&e))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| fail(&e))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| fail(&e))?;
        Ok(Self { inner, max_tokens })
    }

    /// Largest id it can produce, plus one.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The most tokens that [`Tokenizer::tokenize`] returns.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Tokenises the beginning of `text`.
    ///
    /// # Errors
    /// `Data` when the tokeniser cannot represent the text.
    pub fn tokenize(&self, text: &str) -> Result<Tokens> {
        // Most words of most languages take fewer bytes than this for each token, so one try is the rule.
        let mut bytes = self.max_tokens * 8;
        loop {
            let head = readable_head(text, bytes);
            let encoding = self
                .inner
                .encode_fast(head, true)
                .map_err(|e| Error::data(format!("tokenise a text of {} bytes: {e}", text.len())))?;
            if encoding.len() > self.max_tokens || head.len() == text.len() {
                return Ok(self.cut(&encoding));
            }
            bytes *= 2;
        }
    }

    /// Cuts out of the middle: what the tokeniser puts at the end (`[SEP]`) stays at the end.
    fn cut(&self, encoding: &tokenizers::Encoding) -> Tokens {
        let ids = encoding.get_ids();
        if ids.len() <= self.max_tokens {
            return Tokens { ids: ids.to_vec(), truncated: false };
        }
        let closing = encoding.get_special_tokens_mask().iter().rev().take_while(|special| **special == 1).count();
        let closing = closing.min(self.max_tokens);
        let mut kept = ids[..self.max_tokens - closing].to_vec();
        kept.extend_from_slice(&ids[ids.len() - closing..]);
        Tokens { ids: kept, truncated: true }
    }
}

/// About `bytes` of the beginning of `text`, ending at white space so that no word is cut: the tokens of the head are
/// the first tokens of the whole.
fn readable_head(text: &str, bytes: usize) -> &str {
    let mut limit = bytes;
    while limit < text.len() {
        let end = text.floor_char_boundary(limit);
        match text[..end].rfind(char::is_whitespace) {
            // A space in the first half only: the second half is one word, which only its end can tell.
            Some(space) if space > end / 2 => return &text[..space],
            _ => limit *= 2,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(max_tokens: usize) -> Tokenizer {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder/bert/tokenizer.json");
        Tokenizer::load(Path::new(file), max_tokens).unwrap()
    }

    #[test]
    fn a_long_text_gives_the_first_tokens_of_the_whole_and_keeps_its_closing_token() {
        let words = ["red", "fish", "unseenword", "blue,", "x", "\n\n\t", "the"];
        let text: String = (0..5000).map(|i| format!("{} ", words[i * i % words.len()])).collect();
        let whole = tokenizer(usize::MAX / 16).tokenize(&text).unwrap();
        assert!(!whole.truncated());
        for max in [3, 8, 64, 300] {
            let cut = tokenizer(max).tokenize(&text).unwrap();
            assert!(cut.truncated() && cut.len() == max);
            assert_eq!(cut.ids()[..max - 1], whole.ids()[..max - 1]);
            assert_eq!(cut.ids().last(), whole.ids().last());
        }
    }

    #[test]
    fn a_short_text_is_whole_even_when_the_file_asks_for_padding() {
        let tokens = tokenizer(16).tokenize("red fish").unwrap();
        assert_eq!((tokens.len(), tokens.truncated()), (4, false));
    }

    #[test]
    fn the_head_never_cuts_a_word() {
        assert_eq!(readable_head("aa bb cc dd", 7), "aa bb");
        assert_eq!(readable_head("a bbbbbbbbbbbbbb", 4), "a bbbbbbbbbbbbbb");
        assert_eq!(readable_head("short", 100), "short");
    }
}
