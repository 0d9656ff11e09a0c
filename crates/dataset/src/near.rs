//! Near duplicates: texts that differ in a word, a case or a full stop. Candidates come from MinHash with banding
//! (Broder 1997; Leskovec, Rajaraman and Ullman, *Mining of Massive Datasets*, ch. 3), and every pair that is reported
//! was compared exactly: a reported pair is near; a few near pairs may be missed.

use rayon::prelude::*;

/// Jaccard similarity of character 4-grams from which two texts count as nearly the same.
pub const SIMILAR: f64 = 0.8;

const GRAM: usize = 4;
const BANDS: usize = 20;
const ROWS: usize = 5;
/// Texts of a band's bucket that each new one is compared with; more would be quadratic on templates.
const COMPARED: usize = 24;

/// One pair of positions, the earlier first, and their similarity in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Position of the earlier text.
    pub first: usize,
    /// Position of the later one.
    pub second: usize,
    /// Jaccard similarity of their character 4-grams.
    pub similarity: f64,
}

/// For each text that is nearly the same as an earlier one: the pair with the most similar of those. Texts that are
/// equal but for case and white space count as well, with similarity 1. Ordered by `second`.
#[must_use]
pub fn near_duplicates(texts: &[&str]) -> Vec<Pair> {
    find(texts, 0)
}

/// For each text of `right` that is nearly the same as one of `left`: the pair with the most similar of those;
/// `first` counts in `left` and `second` in `right`.
#[must_use]
pub fn near_between(left: &[&str], right: &[&str]) -> Vec<Pair> {
    let all: Vec<&str> = left.iter().chain(right).copied().collect();
    let between = find(&all, left.len());
    between.into_iter().map(|pair| Pair { second: pair.second - left.len(), ..pair }).collect()
}

/// Jaccard similarity of the character 4-grams of two texts, in [0, 1]; 0 where one has no letter and no digit.
#[must_use]
pub fn similarity(a: &str, b: &str) -> f64 {
    jaccard(&shingles(a), &shingles(b))
}

/// With `boundary` > 0, texts before it are only looked for and those after it only look.
///
/// Only the folded signatures stay in memory, 160 bytes a text; the grams of texts that share a band are made again.
fn find(texts: &[&str], boundary: usize) -> Vec<Pair> {
    let keys: Vec<Option<[u64; BANDS]>> = texts
        .par_iter()
        .map(|text| {
            let set = shingles(text);
            (!set.is_empty()).then(|| band_keys(&set))
        })
        .collect();
    let mut best: Vec<Option<(usize, f64)>> = vec![None; texts.len()];
    for band in 0..BANDS {
        let mut places: Vec<(u64, usize)> =
            keys.iter().enumerate().filter_map(|(index, keys)| Some((keys.as_ref()?[band], index))).collect();
        places.par_sort_unstable();
        // Every text is in one bucket of a band, so buckets can be looked at side by side.
        let buckets: Vec<&[(u64, usize)]> = places.chunk_by(|a, b| a.0 == b.0).filter(|b| b.len() > 1).collect();
        let found: Vec<(usize, (usize, f64))> =
            buckets.par_iter().flat_map_iter(|bucket| in_bucket(texts, bucket, boundary, &best)).collect();
        for (index, pair) in found {
            best[index] = Some(pair);
        }
    }
    let pair = |(second, found): (usize, Option<(usize, f64)>)| {
        found.map(|(first, similarity)| Pair { first, second, similarity })
    };
    best.into_iter().enumerate().filter_map(pair).collect()
}

/// Better matches than the known ones, among the texts that share a band.
fn in_bucket(
    texts: &[&str],
    bucket: &[(u64, usize)],
    boundary: usize,
    best: &[Option<(usize, f64)>],
) -> Vec<(usize, (usize, f64))> {
    let mut kept: Vec<(usize, Option<Vec<u64>>)> = Vec::new();
    let mut better = Vec::new();
    for &(_, index) in bucket {
        let mut own = None;
        let mut found = best[index];
        if index >= boundary {
            for (other, set) in &mut kept {
                if found.is_some_and(|(at, s)| at == *other || s >= 1.0) {
                    continue;
                }
                let own = own.get_or_insert_with(|| shingles(texts[index]));
                let similarity = jaccard(set.get_or_insert_with(|| shingles(texts[*other])), own);
                if similarity >= SIMILAR && found.is_none_or(|(_, s)| similarity > s) {
                    found = Some((*other, similarity));
                }
            }
        }
        if found != best[index] {
            better.extend(found.map(|found| (index, found)));
        }
        if (boundary == 0 || index < boundary) && kept.len() < COMPARED {
            kept.push((index, own));
        }
    }
    better
}

/// Hashes of the character 4-grams of the text's words, sorted and unique. Shorter texts are one gram.
fn shingles(text: &str) -> Vec<u64> {
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let chars: Vec<char> = words.join(" ").chars().collect();
    if chars.is_empty() {
        return Vec::new();
    }
    let mut grams: Vec<u64> = match chars.len() < GRAM {
        true => vec![hash(&chars)],
        false => chars.windows(GRAM).map(hash).collect(),
    };
    grams.sort_unstable();
    grams.dedup();
    grams
}

fn hash(chars: &[char]) -> u64 {
    chars.iter().fold(0, |hash, c| mix(hash.rotate_left(21) ^ (*c as u64 + 1)))
}

/// The MinHash signature, folded band by band.
fn band_keys(set: &[u64]) -> [u64; BANDS] {
    let mut keys = [0u64; BANDS];
    for (band, key) in keys.iter_mut().enumerate() {
        for row in 0..ROWS {
            let salt = mix((band * ROWS + row) as u64 + 1);
            let least = set.iter().map(|gram| mix(gram ^ salt)).min().unwrap_or(0);
            *key = mix(key.rotate_left(7) ^ least);
        }
    }
    keys
}

/// The finaliser of SplitMix64: a fixed, well mixing permutation.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Jaccard similarity of two sorted sets.
fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut both) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, both) = (i + 1, j + 1, both + 1),
        }
    }
    both as f64 / (a.len() + b.len() - both).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_changes_are_found_and_other_sentences_are_not() {
        let texts = [
            "My card payment was declined in the shop yesterday, why is that?",
            "How do I change my PIN?",
            "my card payment was declined in the shop yesterday why is that",
            "My card payments was declined in the shop yesterday, why is that?",
            "My card was stolen in the shop yesterday, what now?",
            "",
            "!!",
        ];
        let pairs = near_duplicates(&texts);
        assert_eq!(pairs.iter().map(|p| (p.first, p.second)).collect::<Vec<_>>(), [(0, 2), (0, 3)]);
        assert!(pairs[0].similarity >= 1.0 && pairs[1].similarity < 1.0);
        let between = near_between(&texts[..2], &texts[2..]);
        assert_eq!(between.iter().map(|p| (p.first, p.second)).collect::<Vec<_>>(), [(0, 0), (0, 1)]);
    }

    proptest! {
        /// Against the naive comparison of all pairs: nothing reported is wrong, and what is clearly near is found.
        #[test]
        fn agrees_with_comparing_all_pairs(seeds in proptest::collection::vec((0u8..12, 0usize..40), 2..24)) {
            let texts: Vec<String> = seeds
                .iter()
                .map(|(base, cut)| {
                    let words: Vec<String> = (0..24).map(|w| format!("w{}x{w}", base / 3)).collect();
                    let skip = if *cut < 24 { *cut } else { 99 };
                    words.iter().enumerate().filter(|(w, _)| *w != skip).map(|(_, t)| t.clone()).collect::<Vec<_>>().join(" ")
                })
                .collect();
            let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
            let found = near_duplicates(&refs);
            let sets: Vec<Vec<u64>> = refs.iter().map(|t| shingles(t)).collect();
            for second in 0..refs.len() {
                let best = (0..second).map(|first| jaccard(&sets[first], &sets[second])).fold(0.0, f64::max);
                let reported = found.iter().find(|p| p.second == second);
                if let Some(pair) = reported {
                    prop_assert!(pair.similarity >= SIMILAR && pair.similarity <= best + 1e-12);
                }
                // At 0.95 the chance to share no band of five is below 1e-12.
                prop_assert!(best < 0.95 || reported.is_some(), "missed {best}");
            }
        }
    }
}
