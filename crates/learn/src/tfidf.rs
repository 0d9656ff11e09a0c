//! Words as a sparse vector: hashed, weighted by rarity, of length 1. A word that only one text had is left out: it says
//! nothing about another. Pairs and pieces of words were tried and added nothing.
//!
//! Frequencies are damped (1 + ln count) and multiplied by ln((1 + n) / (1 + n₍t₎)) + 1 as in scikit-learn's
//! `TfidfVectorizer(sublinear_tf=True)`; places come from a hash instead of a vocabulary, so that a text costs the same
//! whatever was seen before.

use crate::sparse::Sparse;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Texts that must have had a word.
const LEAST_TEXTS: u32 = 2;
/// Bytes of a text that are read: decisions must not wait for the end of a book.
const MOST_BYTES: usize = 16 * 1024;

/// Rarities of hashed terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tfidf {
    /// Inverse document frequency of each place, 0 for one that too few texts had; the length is a power of two.
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
        let rarity = |count: u32| ((f64::from(1 + n) / f64::from(1 + count)).ln() + 1.0) as f32;
        let idf = |count: u32| if count < LEAST_TEXTS { 0.0 } else { rarity(count) };
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
            .filter(|(_, value)| *value > 0.0)
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
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        count(hash(word));
    }
    places.sort_unstable();
    let mut counts = BTreeMap::new();
    places.into_iter().for_each(|place| *counts.entry(place).or_insert(0.0) += 1.0);
    counts
}

/// FNV-1a.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::product;

    #[test]
    fn rare_words_weigh_more_and_the_vector_has_length_one() {
        let texts = ["the cat sat", "the dog sat", "the dog ran", "the cat flew"];
        let tfidf = Tfidf::fit(texts, 16);
        let vector = |text: &str| tfidf.vector(text);
        assert!(texts.iter().all(|text| (product(&vector(text), &vector(text)) - 1.0).abs() < 1e-5));
        let likeness = |a: &str, b: &str| product(&vector(a), &vector(b));
        assert!(likeness("the cat", "a cat") > likeness("the cat", "the dog"));
        assert!(vector("").is_empty() && vector("?!").is_empty() && vector("flew ran unheard").is_empty());
    }

    #[test]
    fn weights_follow_the_formula() {
        let tfidf = Tfidf::fit(["a b b", "a", "a b"], 20);
        // "a" is in three of three texts, "b" in two.
        let (common, rare) = (1.0_f32, (4.0_f32 / 3.0).ln() + 1.0);
        let twice = (1.0 + 2.0_f32.ln()) * rare;
        let length = (common * common + twice * twice).sqrt();
        let mut values: Vec<f32> = tfidf.vector("b a b").into_iter().map(|(_, value)| value).collect();
        values.sort_by(f32::total_cmp);
        assert!(values.iter().zip([common / length, twice / length]).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
    }
}
