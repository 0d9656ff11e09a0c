//! Words, neighbouring words and pieces of words as a sparse vector: the features of a linear text classifier.
//!
//! As scikit-learn's union of `TfidfVectorizer(ngram_range=(1, 2))` over words and `TfidfVectorizer(analyzer="char_wb",
//! ngram_range=(2, 5))`, both with `sublinear_tf=True`, each block of length 1 before they are joined. Only terms that
//! several training texts had are known, by a 64-bit hash of what they say: nothing that was learnt from can be read
//! back, and two terms never share a place in practice (10⁶ terms: one chance in 3 · 10⁷).

use crate::sparse::Sparse;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Bytes of a text that are read: an answer must not wait for the end of a book.
pub const MOST_BYTES: usize = 16 * 1024;
/// Terms that are counted at a time while learning; rare ones are forgotten above it.
const MOST_COUNTED: usize = 1 << 23;
/// Where hashes of words and of pieces begin: FNV's offset, and another number.
const WORD: u64 = 0xcbf2_9ce4_8422_2325;
const PIECE: u64 = 0x9e37_79b9_7f4a_7c15;
/// An empty slot of the index.
const NONE: u32 = u32::MAX;

/// Which terms there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NgramParams {
    /// Longest run of words, at least 1.
    pub words: u32,
    /// Shortest piece of a word, in characters, its borders included.
    pub shortest_piece: u32,
    /// Longest piece; 0 takes none.
    pub longest_piece: u32,
    /// Texts that must have had a term.
    pub least_texts: u32,
    /// Most terms that are known; those that more texts had go first.
    pub most_terms: u32,
}

impl Default for NgramParams {
    fn default() -> Self {
        Self { words: 2, shortest_piece: 2, longest_piece: 5, least_texts: 2, most_terms: 1 << 18 }
    }
}

/// Known terms and their rarities.
#[derive(Debug, Clone, PartialEq)]
pub struct Ngrams {
    params: NgramParams,
    /// Hashes, first those of words, then those of pieces, each part rising.
    terms: Vec<u64>,
    /// Inverse document frequency of each.
    idf: Vec<f32>,
    /// How many of them are words.
    words: usize,
    /// Open addressing over `terms`; the length is a power of two.
    index: Vec<u32>,
}

impl Ngrams {
    /// Learns which terms there are and how rare they are.
    #[must_use]
    pub fn fit<'a>(texts: impl IntoIterator<Item = &'a str>, params: NgramParams) -> Self {
        let mut seen: HashMap<(bool, u64), u32> = HashMap::new();
        let (mut n, mut here) = (0_u32, Vec::new());
        for text in texts {
            n += 1;
            here.clear();
            each(text, params, |piece, hash| here.push((piece, hash)));
            here.sort_unstable();
            here.dedup();
            here.iter().for_each(|term| *seen.entry(*term).or_insert(0) += 1);
            if seen.len() > MOST_COUNTED {
                seen.retain(|_, count| *count > 1);
            }
        }
        let mut known: Vec<((bool, u64), u32)> =
            seen.into_iter().filter(|(_, count)| *count >= params.least_texts).collect();
        known.sort_unstable_by_key(|&(term, count)| (std::cmp::Reverse(count), term));
        known.truncate(params.most_terms as usize);
        known.sort_unstable();
        let words = known.partition_point(|((piece, _), _)| !piece);
        #[expect(clippy::cast_possible_truncation, reason = "weights of seven digits are enough")]
        let idf = |count: u32| ((f64::from(1 + n) / f64::from(1 + count)).ln() + 1.0) as f32;
        let idf = known.iter().map(|(_, count)| idf(*count)).collect();
        Self::indexed(params, known.into_iter().map(|((_, hash), _)| hash).collect(), idf, words)
    }

    /// Puts together what [`Ngrams::terms`], [`Ngrams::idf`] and [`Ngrams::words`] gave; `None` when they do not fit.
    #[must_use]
    pub fn from_parts(params: NgramParams, terms: Vec<u64>, idf: Vec<f32>, words: usize) -> Option<Self> {
        let rising = |part: &[u64]| part.is_sorted_by(|a, b| a < b);
        let fits = terms.len() == idf.len()
            && terms.len() < 1 << 30
            && words <= terms.len()
            && rising(&terms[..words])
            && rising(&terms[words..])
            && idf.iter().all(|idf| idf.is_finite() && *idf > 0.0)
            && (1..=8).contains(&params.words)
            && params.longest_piece <= 16;
        fits.then(|| Self::indexed(params, terms, idf, words))
    }

    fn indexed(params: NgramParams, terms: Vec<u64>, idf: Vec<f32>, words: usize) -> Self {
        let mut index = vec![NONE; (2 * terms.len()).next_power_of_two().max(4)];
        for (at, hash) in terms.iter().enumerate() {
            let mut slot = slot(*hash, index.len());
            while index[slot] != NONE {
                slot = (slot + 1) & (index.len() - 1);
            }
            #[expect(clippy::cast_possible_truncation, reason = "fewer than 2³⁰ terms")]
            {
                index[slot] = at as u32;
            }
        }
        Self { params, terms, idf, words, index }
    }

    /// Which terms were looked for.
    #[must_use]
    pub fn params(&self) -> NgramParams {
        self.params
    }

    /// Hashes of the known terms, words before pieces.
    #[must_use]
    pub fn terms(&self) -> &[u64] {
        &self.terms
    }

    /// Inverse document frequency of each known term.
    #[must_use]
    pub fn idf(&self) -> &[f32] {
        &self.idf
    }

    /// How many of the known terms are words; the others are pieces.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words
    }

    /// Places of the vectors, one for each known term.
    #[must_use]
    pub fn width(&self) -> usize {
        self.terms.len()
    }

    /// The vector of a text: of length 1, or 0 when it has no known term.
    #[must_use]
    pub fn vector(&self, text: &str) -> Sparse {
        let mut places = Vec::with_capacity(text.len().min(MOST_BYTES) * 4);
        each(text, self.params, |piece, hash| places.extend(self.place(piece, hash)));
        places.sort_unstable();
        let mut row: Sparse = Vec::with_capacity(places.len());
        let mut lengths = [0.0_f32; 2];
        for same in places.chunk_by(|a, b| a == b) {
            let at = same[0] as usize;
            #[expect(clippy::cast_precision_loss, reason = "a text has at most thousands of terms")]
            let value = if same.len() == 1 { 1.0 } else { 1.0 + (same.len() as f32).ln() } * self.idf[at];
            lengths[usize::from(at >= self.words)] += value * value;
            row.push((same[0], value));
        }
        // Both blocks count the same; one that is empty leaves its share to the other.
        let blocks = if lengths.iter().all(|length| *length > 0.0) { 2.0_f32 } else { 1.0 };
        let scales = lengths.map(|length| 1.0 / (length * blocks).sqrt().max(f32::MIN_POSITIVE));
        row.iter_mut().for_each(|(place, value)| *value *= scales[usize::from(*place as usize >= self.words)]);
        row
    }

    fn place(&self, piece: bool, hash: u64) -> Option<u32> {
        let mut slot = slot(hash, self.index.len());
        loop {
            let at = self.index[slot];
            if at == NONE {
                return None;
            }
            // A word and a piece may have the same hash; the part of the list tells them apart.
            if self.terms[at as usize] == hash && (at as usize >= self.words) == piece {
                return Some(at);
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the mask leaves what fits")]
fn slot(hash: u64, length: usize) -> usize {
    ((hash ^ (hash >> 32)) as usize) & (length - 1)
}

/// Gives every term of the beginning of `text`, again and again where it repeats: whether it is a piece, and its hash.
fn each(text: &str, params: NgramParams, mut give: impl FnMut(bool, u64)) {
    let mut end = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let lower = text[..end].to_lowercase();
    // Runs of letters and digits, alone and with their neighbours.
    let mut before: Vec<u64> = Vec::with_capacity(params.words as usize);
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        before.push(WORD);
        for run in &mut before {
            *run = word.bytes().fold(*run, fnv);
            give(false, mixed(*run));
            *run = fnv(*run, b' ');
        }
        if before.len() == params.words as usize {
            before.remove(0);
        }
    }
    if params.longest_piece == 0 {
        return;
    }
    // Pieces of what stands between white space, with a space at either end, as `char_wb`.
    let mut padded = String::with_capacity(64);
    for token in lower.split_whitespace() {
        padded.clear();
        padded.push(' ');
        padded.push_str(token);
        padded.push(' ');
        for (start, _) in padded.char_indices() {
            let (mut hash, mut from) = (PIECE, start);
            for (n, (at, c)) in (1..=params.longest_piece).zip(padded[start..].char_indices()) {
                let to = start + at + c.len_utf8();
                hash = padded.as_bytes()[from..to].iter().copied().fold(hash, fnv);
                from = to;
                if n >= params.shortest_piece {
                    give(true, mixed(hash));
                }
            }
        }
    }
}

fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Spreads what FNV leaves in the upper bits (the finaliser of SplitMix64). One to one, so nothing collides that did
/// not before.
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::product;
    use proptest::prelude::*;

    fn all(text: &str, params: NgramParams) -> Vec<(bool, u64)> {
        let mut terms = Vec::new();
        each(text, params, |piece, hash| terms.push((piece, hash)));
        terms
    }

    /// The terms as text, found in the plainest way.
    fn naive(text: &str, params: NgramParams) -> Vec<(bool, String)> {
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let mut terms = Vec::new();
        for n in 1..=params.words as usize {
            terms.extend(words.windows(n).map(|run| (false, run.join(" "))));
        }
        for token in lower.split_whitespace() {
            let padded: Vec<char> = format!(" {token} ").chars().collect();
            for n in params.shortest_piece..=params.longest_piece {
                terms.extend(padded.windows(n as usize).map(|piece| (true, piece.iter().collect())));
            }
        }
        terms
    }

    proptest! {
        #[test]
        fn terms_are_those_found_in_the_plainest_way(text in "[a-cÄß€ .!\\n]{0,40}", words in 1u32..4, longest in 2u32..6) {
            let params = NgramParams { words, longest_piece: longest, ..NgramParams::default() };
            let hash = |(piece, term): (bool, String)| {
                (piece, mixed(term.bytes().fold(if piece { PIECE } else { WORD }, fnv)))
            };
            let mut want: Vec<_> = naive(&text, params).into_iter().map(hash).collect();
            let mut found = all(&text, params);
            want.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, want);
        }

        #[test]
        fn any_text_has_a_vector_of_length_one_or_none(text in "\\PC{0,60}") {
            let ngrams = Ngrams::fit(["the red fish", "the blue fish", &text, &text], NgramParams::default());
            let vector = ngrams.vector(&text);
            prop_assert!(vector.is_empty() || (product(&vector, &vector) - 1.0).abs() < 1e-5);
            prop_assert!(vector.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn weights_follow_the_formula() {
        let params = NgramParams { words: 1, longest_piece: 0, least_texts: 1, ..NgramParams::default() };
        let ngrams = Ngrams::fit(["a b b", "a", "a b"], params);
        let (common, rare) = (1.0_f32, (4.0_f32 / 3.0).ln() + 1.0);
        let twice = (1.0 + 2.0_f32.ln()) * rare;
        let length = (common * common + twice * twice).sqrt();
        let mut values: Vec<f32> = ngrams.vector("B a b unknown").into_iter().map(|(_, value)| value).collect();
        values.sort_by(f32::total_cmp);
        assert!(values.iter().zip([common / length, twice / length]).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
    }

    #[test]
    fn rare_terms_are_left_out_and_the_commonest_stay_when_there_are_too_many() {
        let texts = ["x1 y1", "x1 y1", "x1 z1"];
        let words = |least_texts, most_terms| {
            let params = NgramParams { words: 1, longest_piece: 0, least_texts, most_terms, ..NgramParams::default() };
            Ngrams::fit(texts, params)
        };
        assert_eq!((words(1, 9).width(), words(2, 9).width(), words(1, 1).width()), (3, 2, 1));
        assert_eq!(words(1, 1).vector("x1").len(), 1);
    }

    #[test]
    fn parts_give_back_the_same_and_broken_ones_nothing() {
        let ngrams = Ngrams::fit(["red fish", "red fish two"], NgramParams::default());
        let parts = |terms: &[u64], idf: &[f32], words| {
            Ngrams::from_parts(ngrams.params(), terms.to_vec(), idf.to_vec(), words)
        };
        assert_eq!(parts(ngrams.terms(), ngrams.idf(), ngrams.words()), Some(ngrams.clone()));
        assert_eq!(parts(&ngrams.terms()[1..], ngrams.idf(), ngrams.words()), None);
        assert_eq!(parts(ngrams.terms(), ngrams.idf(), ngrams.width() + 1), None);
        let mut turned = ngrams.terms().to_vec();
        turned.reverse();
        assert_eq!(parts(&turned, ngrams.idf(), ngrams.words()), None);
    }
}
