//! Labels of a data set that are probably wrong: confident learning over a linear classifier on words that has not seen
//! the row it judges (cross-validation). Needs no model and no network, so it can be said before
//! anything is measured or trained. Candidates are for a person to look at, not to be relabelled unseen.

use crate::{Row, clean::text_hash};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Seed, hash::unit_interval};
use understudy_learn::{confident, linear::Linear, sparse::Sparse, tfidf::Tfidf};
use understudy_stats::binomial;

/// Parts that are judged in turn by a fit to the others.
const FOLDS: usize = 5;
/// Rows below which nothing can be learned that would be worth saying.
const LEAST_ROWS: usize = 100;
/// Rows that are looked at; more would take minutes.
const MOST_ROWS: usize = 20_000;
/// Places of words.
const BITS: u32 = 15;
/// Penalty of the linear models: scikit-learn's default for text, where vectors have length 1.
const L2: f64 = 1.0;
/// Sharpness of the softmax over the linear scores that are tried.
const SHARPNESS: [f64; 8] = [2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0];

/// A share with its exact (Clopper–Pearson) 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// The share, in [0, 1].
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Rows.
    pub n: u64,
}

impl Share {
    fn of(k: u64, n: u64) -> Self {
        let bound = binomial::interval(k, n, 0.95);
        Self { estimate: bound.estimate, low: bound.low, high: bound.high, n }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Doubts {
    /// Rows that were looked at.
    pub n: u64,
    /// Share of them on which the classifier says what the label says.
    pub agreement: Share,
    /// Share of them whose label is doubted.
    pub share: Share,
    /// The surest first.
    pub candidates: Vec<Doubt>,
}

/// One doubtful label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Doubt {
    /// The row.
    pub id: String,
    /// Its line in the file.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// The given label.
    pub label: String,
    /// What the classifier says.
    pub suggested: String,
    /// Probability of the suggested label minus that of the given one, by the classifier.
    pub margin: f64,
}

/// Looks for doubtful labels; `None` with fewer than 100 labelled rows, fewer than two labels, or one for every other
/// row: free text.
#[must_use]
pub fn find(rows: &[Row], seed: Seed) -> Option<Doubts> {
    let seed = seed.derive("doubts").0;
    let place = |row: &Row| unit_interval(&format!("{seed}:{}", row.content_hash()));
    let mut rows: Vec<(f64, &Row, &str)> =
        rows.iter().filter_map(|row| Some((place(row), row, row.label.as_deref()?.trim()))).collect();
    if rows.len() > MOST_ROWS {
        // By another draw than the folds: the least of that one would all be in the first fold.
        rows.sort_by_cached_key(|(_, row, _)| {
            (text_hash(&format!("{seed} sample {}", row.content_hash())), row.id.clone())
        });
        rows.truncate(MOST_ROWS);
    }
    let mut names: Vec<&str> = rows.iter().map(|(_, _, label)| *label).collect();
    names.sort_unstable();
    names.dedup();
    if rows.len() < LEAST_ROWS || names.len() < 2 || names.len() > rows.len() / 2 {
        return None;
    }
    let at: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (*name, i)).collect();
    let labels: Vec<usize> = rows.iter().map(|(_, _, label)| at[label]).collect();
    // By content: a copy with the same wrong label must not vouch for it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the number of folds")]
    let folds: Vec<usize> = rows.iter().map(|(place, ..)| ((place * FOLDS as f64) as usize).min(FOLDS - 1)).collect();
    let texts: Vec<&str> = rows.iter().map(|(_, row, _)| row.text.as_str()).collect();
    let scores = held_out(&texts, &labels, &folds, names.len());
    let probabilities = probabilities(&scores, &labels);
    let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
    let agreed = probabilities.iter().zip(&labels).filter(|(row, label)| best(row) == Some(**label)).count() as u64;
    let found = confident::candidates(&labels, &probabilities);
    let mut candidates: Vec<Doubt> = found
        .iter()
        .map(|c| {
            let (_, row, label) = &rows[c.row];
            Doubt {
                id: row.id.clone(),
                line: row.line,
                text: row.text.clone(),
                label: (*label).to_owned(),
                suggested: names[c.suggested].to_owned(),
                margin: probabilities[c.row][c.suggested] - c.self_confidence,
            }
        })
        .collect();
    candidates.sort_by(|a, b| b.margin.total_cmp(&a.margin).then(a.line.cmp(&b.line)));
    let n = rows.len() as u64;
    Some(Doubts { n, agreement: Share::of(agreed, n), share: Share::of(found.len() as u64, n), candidates })
}

/// Scores of every label for every row, by a fit that has not seen the row.
fn held_out(texts: &[&str], labels: &[usize], folds: &[usize], classes: usize) -> Vec<Vec<f64>> {
    let mut scores = vec![vec![0.0; classes]; texts.len()];
    for fold in 0..FOLDS {
        let (train, test): (Vec<usize>, Vec<usize>) = (0..texts.len()).partition(|&i| folds[i] != fold);
        if train.is_empty() {
            continue;
        }
        let words = Tfidf::fit(train.iter().map(|&i| texts[i]), BITS);
        let rows: Vec<Sparse> = train.iter().map(|&i| words.vector(texts[i])).collect();
        let tested: Vec<Sparse> = test.iter().map(|&i| words.vector(texts[i])).collect();
        let by_class: Vec<Vec<f64>> = (0..classes)
            .into_par_iter()
            .map(|class| {
                let targets: Vec<f64> = train.iter().map(|&i| f64::from(u8::from(labels[i] == class))).collect();
                let fit = Linear::fit(&rows, words.width(), &targets, L2);
                tested.iter().map(|row| fit.predict(row)).collect()
            })
            .collect();
        for (at, &i) in test.iter().enumerate() {
            for (class, column) in by_class.iter().enumerate() {
                scores[i][class] = column[at];
            }
        }
    }
    scores
}

/// A softmax over the scores, as sharp as makes the given labels likeliest.
pub(crate) fn probabilities(scores: &[Vec<f64>], labels: &[usize]) -> Vec<Vec<f64>> {
    let softmax = |row: &[f64], sharpness: f64| -> Vec<f64> {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut row: Vec<f64> = row.iter().map(|s| (sharpness * (s - most)).exp()).collect();
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|p| *p /= sum);
        row
    };
    let likelihood = |sharpness: f64| -> f64 {
        scores.iter().zip(labels).map(|(row, &label)| softmax(row, sharpness)[label].max(1e-12).ln()).sum()
    };
    let best = SHARPNESS.into_iter().max_by(|a, b| likelihood(*a).total_cmp(&likelihood(*b))).unwrap_or(1.0);
    scores.iter().map(|row| softmax(row, best)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use std::{collections::BTreeSet, path::PathBuf};

    /// Changes 5 % of the labels, and holds what is found against what was changed.
    fn found_of_planted(mut rows: Vec<Row>, what: &str) -> (f64, f64) {
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(5);
        let mut names: Vec<String> = rows.iter().filter_map(|row| row.label.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let mut planted = BTreeSet::new();
        for row in &mut rows {
            if rng.random_range(0..20) == 0 {
                let other = names[rng.random_range(0..names.len())].clone();
                if row.label.as_ref() != Some(&other) {
                    planted.insert(row.id.clone());
                    row.label = Some(other);
                }
            }
        }
        let doubts = find(&rows, Seed(1)).expect("enough rows");
        let hits = doubts.candidates.iter().filter(|d| planted.contains(&d.id)).count() as f64;
        let (recall, precision) = (hits / planted.len() as f64, hits / doubts.candidates.len().max(1) as f64);
        println!(
            "{what}: {} planted among {} rows, {} candidates: recall {recall:.3}, precision {precision:.3}",
            planted.len(),
            rows.len(),
            doubts.candidates.len()
        );
        assert!(doubts.candidates.windows(2).all(|pair| pair[0].margin >= pair[1].margin), "the surest come first");
        (recall, precision)
    }

    #[test]
    fn planted_errors_among_topics_of_words_are_found() {
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(2);
        let row = |i: usize| {
            let topic = i % 6;
            // Half of the words belong to the topic, the others to all.
            let words: Vec<String> = (0..10)
                .map(|w| match w % 2 {
                    0 => format!("t{topic}x{}", rng.random_range(0..30)),
                    _ => format!("all{}", rng.random_range(0..200)),
                })
                .collect();
            let label = Some(format!("topic {topic}"));
            Row { id: i.to_string(), line: i + 1, text: words.join(" "), label, ..Row::default() }
        };
        let rows: Vec<Row> = (0..900).map(row).collect();
        let (recall, precision) = found_of_planted(rows, "topics");
        assert!(recall >= 0.75 && precision >= 0.9, "recall {recall}, precision {precision}");
        assert!(find(&[], Seed(1)).is_none());
    }

    #[test]
    fn of_many_rows_a_part_is_looked_at_in_every_fold() {
        let row = |i: usize| Row {
            id: i.to_string(),
            line: i + 1,
            text: format!("topic{} common{} word{i}", i % 3, i % 50),
            label: Some(format!("topic {}", i % 3)),
            ..Row::default()
        };
        let rows: Vec<Row> = (0..MOST_ROWS + 5_000).map(row).collect();
        let doubts = find(&rows, Seed(1)).expect("enough rows");
        assert_eq!(doubts.n, MOST_ROWS as u64);
        assert!(doubts.agreement.estimate > 0.99 && doubts.candidates.is_empty(), "{:?}", doubts.agreement);
    }

    #[test]
    fn planted_errors_in_real_questions_are_found() {
        #[expect(clippy::disallowed_methods, reason = "tests find the data folder by the environment")]
        let data = std::env::var("UNDERSTUDY_DATA")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").to_owned());
        let file = PathBuf::from(data).join("classification/banking77/test.jsonl");
        if !file.exists() {
            println!("skipped: {} is missing", file.display());
            return;
        }
        let read = crate::read(&file, &crate::Fields::default()).expect("it is well formed");
        let (recall, precision) = found_of_planted(read.rows, "Banking77, 77 intents");
        assert!(recall >= 0.6 && precision >= 0.2, "recall {recall}, precision {precision}");
    }
}
