//! TF-IDF over words and word pairs: the likeness of texts without any model. Few-shot examples are picked by it, and
//! the simplest classifier that deserves the name stands on it.

use std::collections::BTreeMap;

/// A sparse vector of unit length: (term, weight), sorted by term.
pub type Vector = Vec<(u32, f32)>;

/// The terms of a collection with their inverse document frequencies.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    terms: BTreeMap<String, u32>,
    idf: Vec<f32>,
}

impl Vocabulary {
    /// Counts the terms of texts; idf is smoothed: ln((1 + n) / (1 + df)) + 1.
    pub fn of<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let mut frequency: BTreeMap<String, u32> = BTreeMap::new();
        let mut n = 0u32;
        for text in texts {
            n += 1;
            let mut terms = terms_of(text);
            terms.sort_unstable();
            terms.dedup();
            terms.into_iter().for_each(|term| *frequency.entry(term).or_default() += 1);
        }
        let mut vocabulary = Self::default();
        for (index, (term, df)) in (0u32..).zip(frequency) {
            vocabulary.idf.push(((1.0 + n as f32) / (1.0 + df as f32)).ln() + 1.0);
            vocabulary.terms.insert(term, index);
        }
        vocabulary
    }

    /// The vector of a text; terms that the collection lacks are left out.
    #[must_use]
    pub fn vector(&self, text: &str) -> Vector {
        let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
        for term in terms_of(text) {
            if let Some(&index) = self.terms.get(&term) {
                *counts.entry(index).or_default() += 1.0;
            }
        }
        let mut vector: Vector =
            counts.into_iter().map(|(i, tf)| (i, (1.0 + tf.ln()) * self.idf[i as usize])).collect();
        let norm = vector.iter().map(|(_, w)| w * w).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|(_, w)| *w /= norm.max(1e-12));
        vector
    }
}

/// Cosine of two unit vectors.
#[must_use]
pub fn cosine(a: &[(u32, f32)], b: &[(u32, f32)]) -> f32 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    while i < a.len() && j < b.len() {
        match a[i].0.cmp(&b[j].0) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                sum += a[i].1 * b[j].1;
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    sum
}

/// Texts that can be searched by likeness.
#[derive(Debug, Clone)]
pub struct Index {
    vocabulary: Vocabulary,
    vectors: Vec<Vector>,
    /// For each term the texts that have it, with its weight.
    postings: Vec<Vec<(u32, f32)>>,
}

impl Index {
    /// Indexes texts.
    #[must_use]
    pub fn of(texts: &[&str]) -> Self {
        let vocabulary = Vocabulary::of(texts.iter().copied());
        let vectors: Vec<Vector> = texts.iter().map(|text| vocabulary.vector(text)).collect();
        let mut postings = vec![Vec::new(); vocabulary.idf.len()];
        for (text, vector) in (0u32..).zip(&vectors) {
            vector.iter().for_each(|&(term, weight)| postings[term as usize].push((text, weight)));
        }
        Self { vocabulary, vectors, postings }
    }

    /// The `k` most similar texts, most similar first: (position, cosine). Texts that share no term are left out.
    #[must_use]
    pub fn nearest(&self, text: &str, k: usize) -> Vec<(usize, f32)> {
        let mut scores = vec![0.0f32; self.vectors.len()];
        for (term, weight) in self.vocabulary.vector(text) {
            self.postings[term as usize].iter().for_each(|&(at, other)| scores[at as usize] += weight * other);
        }
        let mut found: Vec<(usize, f32)> = scores.into_iter().enumerate().filter(|(_, s)| *s > 0.0).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(k);
        found
    }

    /// Cosine of two of the texts.
    #[must_use]
    pub fn between(&self, a: usize, b: usize) -> f32 {
        cosine(&self.vectors[a], &self.vectors[b])
    }
}

/// Words and pairs of neighbours, in lower case.
fn terms_of(text: &str) -> Vec<String> {
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect();
    let pairs: Vec<String> = words.windows(2).map(|pair| pair.join(" ")).collect();
    words.into_iter().chain(pairs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_postings_give_the_same_as_comparing_vectors() {
        let texts = ["my card is lost", "where is my new card", "top up by cheque", "the card is lost again", ""];
        let index = Index::of(&texts);
        for query in ["card lost", "cheque", "my card is lost", "nothing known"] {
            let vector = index.vocabulary.vector(query);
            let mut naive: Vec<(usize, f32)> =
                (0..texts.len()).map(|i| (i, cosine(&vector, &index.vectors[i]))).collect();
            naive.retain(|(_, s)| *s > 0.0);
            naive.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let found = index.nearest(query, 10);
            assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), naive.iter().map(|f| f.0).collect::<Vec<_>>());
            assert!(found.iter().zip(&naive).all(|(a, b)| (a.1 - b.1).abs() < 1e-5));
        }
        assert!((index.nearest(texts[0], 1)[0].1 - 1.0).abs() < 1e-5);
    }
}
