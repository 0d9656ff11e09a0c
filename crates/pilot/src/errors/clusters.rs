//! Groups of prompts with similar words: TF-IDF vectors, spherical k-means (I. Dhillon and D. Modha, 2001) started by
//! k-means++. Each group is named by its weightiest words, which is why the words are kept instead of hashed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use std::collections::{BTreeMap, HashMap};
use understudy_core::Seed;

/// Rows a cluster should have on average.
const ROWS: usize = 60;
/// Clusters at most: more cannot be read.
const MOST: usize = 12;
const ROUNDS: usize = 30;
/// Words in a cluster's name.
const NAME: usize = 4;
/// Words of the vocabulary, the most frequent that are not everywhere.
const VOCABULARY: usize = 5000;

/// A sparse vector of length 1: (word, weight), words ascending.
type Sparse = Vec<(usize, f64)>;

/// The name of each text's cluster; `None` for texts without words of the vocabulary, and for all where there are too
/// few texts for two clusters.
#[must_use]
pub fn names(texts: &[&str], seed: Seed) -> Vec<Option<String>> {
    let k = (texts.len() / ROWS).min(MOST);
    if k < 2 {
        return vec![None; texts.len()];
    }
    let (vocabulary, vectors) = vectors(texts);
    let used: Vec<usize> = (0..vectors.len()).filter(|&i| !vectors[i].is_empty()).collect();
    if used.len() < k {
        return vec![None; texts.len()];
    }
    let points: Vec<&Sparse> = used.iter().map(|&i| &vectors[i]).collect();
    let mut rng = ChaCha12Rng::seed_from_u64(seed.derive("clusters").0);
    let (members, centres) = clustered(&points, k, vocabulary.len(), &mut rng);
    let titles: Vec<String> = centres.iter().enumerate().map(|(c, centre)| title(c, centre, &vocabulary)).collect();
    let mut found = vec![None; texts.len()];
    for (&row, &cluster) in used.iter().zip(&members) {
        found[row] = Some(titles[cluster].clone());
    }
    found
}

/// The vocabulary and each text's vector. Words in a single text cannot make a group, words in all texts tell nothing:
/// their weight ln((1 + n) / (1 + n₍t₎)) is 0.
fn vectors(texts: &[&str]) -> (Vec<String>, Vec<Sparse>) {
    let counts: Vec<BTreeMap<String, u32>> = texts.iter().map(|text| counted(text)).collect();
    let mut documents: BTreeMap<&str, u32> = BTreeMap::new();
    counts.iter().flat_map(BTreeMap::keys).for_each(|word| *documents.entry(word).or_default() += 1);
    let n = texts.len() as f64;
    let mut words: Vec<(&str, u32)> =
        documents.into_iter().filter(|(_, in_texts)| *in_texts > 1 && f64::from(*in_texts) < 0.9 * n).collect();
    words.sort_by_key(|(_, in_texts)| std::cmp::Reverse(*in_texts));
    words.truncate(VOCABULARY);
    words.sort_unstable();
    let place: HashMap<&str, (usize, f64)> = words
        .iter()
        .enumerate()
        .map(|(i, (word, in_texts))| (*word, (i, ((1.0 + n) / (1.0 + f64::from(*in_texts))).ln())))
        .collect();
    let vector = |counts: &BTreeMap<String, u32>| {
        let weight = |(word, count): (&String, &u32)| {
            let (i, idf) = place.get(word.as_str())?;
            Some((*i, (1.0 + f64::from(*count).ln()) * idf))
        };
        let mut row: Sparse = counts.iter().filter_map(weight).collect();
        let length = row.iter().map(|(_, w)| w * w).sum::<f64>().sqrt();
        row.iter_mut().for_each(|(_, w)| *w /= length);
        row
    };
    let vectors = counts.iter().map(vector).collect();
    (words.into_iter().map(|(word, _)| word.to_owned()).collect(), vectors)
}

/// Words of three letters or more in lower case, at most the first 10,000 bytes of them.
fn counted(text: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    let end = text.char_indices().map(|(i, _)| i).find(|i| *i >= 10_000).unwrap_or(text.len());
    for word in text[..end].split(|c: char| !c.is_alphabetic()).filter(|word| word.chars().count() > 2) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    counts
}

/// Which cluster each point is in, and the clusters' centres.
fn clustered(points: &[&Sparse], k: usize, width: usize, rng: &mut ChaCha12Rng) -> (Vec<usize>, Vec<Vec<f64>>) {
    let mut centres = started(points, k, width, rng);
    let mut members = vec![usize::MAX; points.len()];
    for _ in 0..ROUNDS {
        let next: Vec<usize> = points.iter().map(|point| nearest(point, &centres)).collect();
        if next == members {
            break;
        }
        members = next;
        for centre in &mut centres {
            centre.fill(0.0);
        }
        for (point, &cluster) in points.iter().zip(&members) {
            point.iter().for_each(|(i, w)| centres[cluster][*i] += w);
        }
        centres.iter_mut().for_each(|centre| normalise(centre));
    }
    (members, centres)
}

/// k-means++: each next centre is drawn with the distance to the nearest one so far as its weight.
fn started(points: &[&Sparse], k: usize, width: usize, rng: &mut ChaCha12Rng) -> Vec<Vec<f64>> {
    let dense = |point: &Sparse| {
        let mut centre = vec![0.0; width];
        point.iter().for_each(|(i, w)| centre[*i] = *w);
        centre
    };
    let mut centres = vec![dense(points[rng.random_range(0..points.len())])];
    let mut distance = vec![f64::INFINITY; points.len()];
    while centres.len() < k {
        let last = &centres[centres.len() - 1];
        for (distance, point) in distance.iter_mut().zip(points) {
            *distance = distance.min((1.0 - likeness(point, last)).max(0.0));
        }
        let mut left = rng.random_range(0.0..1.0) * distance.iter().sum::<f64>();
        let drawn = distance.iter().position(|d| {
            left -= d;
            left < 0.0
        });
        centres.push(dense(points[drawn.unwrap_or(0)]));
    }
    centres
}

fn likeness(point: &Sparse, centre: &[f64]) -> f64 {
    point.iter().map(|(i, w)| w * centre[*i]).sum()
}

fn nearest(point: &Sparse, centres: &[Vec<f64>]) -> usize {
    let likenesses = centres.iter().map(|centre| likeness(point, centre));
    likenesses.enumerate().fold((0, f64::NEG_INFINITY), |best, (c, l)| if l > best.1 { (c, l) } else { best }).0
}

fn normalise(centre: &mut [f64]) {
    let length = centre.iter().map(|w| w * w).sum::<f64>().sqrt();
    if length > 0.0 {
        centre.iter_mut().for_each(|w| *w /= length);
    }
}

fn title(number: usize, centre: &[f64], vocabulary: &[String]) -> String {
    let mut order: Vec<usize> = (0..centre.len()).filter(|&i| centre[i] > 0.0).collect();
    order.sort_by(|&a, &b| centre[b].total_cmp(&centre[a]));
    let words: Vec<&str> = order.iter().take(NAME).map(|&i| vocabulary[i].as_str()).collect();
    format!("{}: {}", number + 1, words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_about_different_things_part_and_the_name_says_about_what() {
        let texts: Vec<String> = (0..180)
            .map(|i| match i % 3 {
                0 => format!("please refund the invoice payment number {i}"),
                1 => format!("my parcel delivery is late again {i}"),
                _ => format!("cannot log in, the password reset fails {i}"),
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = names(&texts, Seed(1));
        for (i, name) in found.iter().enumerate() {
            assert_eq!(name, &found[i % 3], "text {i}");
        }
        assert!(found[0] != found[1] && found[1] != found[2] && found[0] != found[2]);
        assert!(found[0].as_deref().is_some_and(|name| name.contains("refund") || name.contains("invoice")));
        assert!(names(&texts[..10], Seed(1)).iter().all(Option::is_none));
    }
}
