//! Words, pairs of words and pieces of words as a sparse vector: hashed, weighted by rarity, of length 1.
//!
//! Frequencies are damped (1 + ln count) and multiplied by ln((1 + n) / (1 + n₍t₎)) + 1 as in scikit-learn's
//! `TfidfVectorizer(sublinear_tf=True)`; places come from a hash instead of a vocabulary, so that a text costs the same
//! whatever was seen before.

use crate::sparse::Sparse;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Letters of a piece of a word.
const PIECE: usize = 4;
/// Bytes of a text that are read: decisions must not wait for the end of a book.
const MOST_BYTES: usize = 16 * 1024;

/// Rarities of hashed terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tfidf {
    /// Inverse document frequency of each place; the length is a power of two.
    idf: Vec<f32>,
}

impl Tfidf {
    /// Learns the rarities from texts, over `2^bits` places.
    ///
    /// # Panics
    /// When `bits` is not in 1…24.
    #[must_use]
    pub fn fit<'a>(texts: impl IntoIterator<Item = &'a str>, bits: u32) -> Self {
        assert!((1..=24).contains(&bits), "between 2 and 16 million places");
        let mut seen = vec![0_u32; 1 << bits];
        let mut n = 0_u32;
        for text in texts {
            n += 1;
            counts(text, seen.len()).keys().for_each(|&place| seen[place as usize] += 1);
        }
        #[expect(clippy::cast_possible_truncation, reason = "weights of seven digits are enough")]
        let idf = |count: u32| ((f64::from(1 + n) / f64::from(1 + count)).ln() + 1.0) as f32;
        Self { idf: seen.into_iter().map(idf).collect() }
    }

    /// Places there are.
    #[must_use]
    pub fn width(&self) -> usize {
        self.idf.len()
    }

    /// The vector of a text, of length 1 (0 for a text without words).
    #[must_use]
    pub fn vector(&self, text: &str) -> Sparse {
        let mut row: Sparse = counts(text, self.idf.len())
            .into_iter()
            .map(|(place, count)| (place, (1.0 + count.ln()) * self.idf[place as usize]))
            .collect();
        let length = row.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|(_, value)| *value /= length.max(f32::MIN_POSITIVE));
        row
    }
}

/// How often each place occurs.
fn counts(text: &str, width: usize) -> BTreeMap<u32, f32> {
    let mut end = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let lower = text[..end].to_lowercase();
    let mut places = Vec::new();
    let mask = width as u64 - 1;
    #[expect(clippy::cast_possible_truncation, reason = "the mask leaves at most 24 bits")]
    let mut count = |hash: u64| places.push(((hash ^ (hash >> 29)) & mask) as u32);
    let mut before: Option<&str> = None;
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        count(hash(WORD, &[word]));
        if let Some(before) = before {
            count(hash(PAIR, &[before, word]));
        }
        let starts: Vec<usize> = word.char_indices().map(|(i, _)| i).chain([word.len()]).collect();
        for window in starts.windows(PIECE + 1) {
            count(hash(PART, &[&word[window[0]..window[PIECE]]]));
        }
        before = Some(word);
    }
    places.sort_unstable();
    let mut counts = BTreeMap::new();
    places.into_iter().for_each(|place| *counts.entry(place).or_insert(0.0) += 1.0);
    counts
}

const WORD: u64 = 1;
const PAIR: u64 = 2;
const PART: u64 = 3;

/// FNV-1a over the kind and the words, which a space keeps apart.
fn hash(kind: u64, words: &[&str]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ kind;
    for word in words {
        for byte in word.bytes().chain([b' ']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::product;

    #[test]
    fn rare_words_weigh_more_and_the_vector_has_length_one() {
        let texts = ["the cat sat", "the dog sat", "the owl flew", "the the the"];
        let tfidf = Tfidf::fit(texts, 16);
        let vector = |text: &str| tfidf.vector(text);
        assert!(texts.iter().all(|text| (product(&vector(text), &vector(text)) - 1.0).abs() < 1e-5));
        let likeness = |a: &str, b: &str| product(&vector(a), &vector(b));
        assert!(likeness("the cat", "a cat") > likeness("the cat", "the dog"));
        assert!(vector("").is_empty() && vector("?!").is_empty());
        assert!(likeness("runs", "runner") < 1e-9 && likeness("walking", "walkers") > 0.05);
    }

    #[test]
    fn weights_follow_the_formula() {
        let tfidf = Tfidf::fit(["a b", "a"], 20);
        // "b" and "a b" are in one of two texts, "a" in both.
        let (rare, common) = ((3.0_f32 / 2.0).ln() + 1.0, 1.0_f32);
        let length = (common * common + 2.0 * rare * rare).sqrt();
        let mut values: Vec<f32> = tfidf.vector("a b").into_iter().map(|(_, value)| value).collect();
        values.sort_by(f32::total_cmp);
        let expected = [common / length, rare / length, rare / length];
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
    }
}
