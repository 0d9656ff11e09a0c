//! ROUGE-1, -2, -L and -Lsum, equal to Google's `rouge-score` to the last bit: the same tokens, the same stems, and the
//! same operations on floats in the same order (C.-Y. Lin, *ROUGE: a package for automatic evaluation of summaries*,
//! 2004).

use super::porter;
use serde::Serialize;
use std::collections::HashMap;

/// Whether words of more than three letters are stemmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stemming {
    /// Words as they are.
    None,
    /// Porter's stems, as NLTK makes them.
    Porter,
}

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Score {
    /// Share of the prediction that the target has.
    pub precision: f64,
    /// Share of the target that the prediction has.
    pub recall: f64,
    /// Harmonic mean; 0 when both are.
    pub f: f64,
}

impl Score {
    fn new(precision: f64, recall: f64) -> Self {
        let sum = precision + recall;
        // rouge-score multiplies in this order; another order differs in the last bit.
        let f = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Self { precision, recall, f }
    }
}

/// All four scores of one prediction.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Rouge {
    /// Words in common.
    pub rouge1: Score,
    /// Pairs of neighbouring words in common.
    pub rouge2: Score,
    /// Longest common subsequence of words.
    pub rouge_l: Score,
    /// The union of the longest common subsequences of sentences, one sentence a line.
    pub rouge_lsum: Score,
}

/// Scores a prediction against a target.
#[must_use]
pub fn rouge(target: &str, prediction: &str, stemming: Stemming) -> Rouge {
    let mut words = Words::default();
    let target_tokens = words.tokens(target, stemming);
    let prediction_tokens = words.tokens(prediction, stemming);
    let target_lines = words.lines(target, stemming);
    let prediction_lines = words.lines(prediction, stemming);
    Rouge {
        rouge1: ngrams(&target_tokens, &prediction_tokens, 1),
        rouge2: ngrams(&target_tokens, &prediction_tokens, 2),
        rouge_l: longest(&target_tokens, &prediction_tokens),
        rouge_lsum: summary(&target_lines, &prediction_lines, words.0.len()),
    }
}

/// For each score the best over several targets, as `score_multi` does.
///
/// # Panics
/// Without targets.
#[must_use]
pub fn best(targets: &[&str], prediction: &str, stemming: Stemming) -> Rouge {
    assert!(!targets.is_empty(), "a prediction is scored against a target");
    let better = |a: Score, b: Score| if b.f > a.f { b } else { a };
    targets
        .iter()
        .map(|target| rouge(target, prediction, stemming))
        .reduce(|a, b| Rouge {
            rouge1: better(a.rouge1, b.rouge1),
            rouge2: better(a.rouge2, b.rouge2),
            rouge_l: better(a.rouge_l, b.rouge_l),
            rouge_lsum: better(a.rouge_lsum, b.rouge_lsum),
        })
        .expect("there is a target")
}

/// Words as numbers: equal words, equal numbers.
#[derive(Default)]
struct Words(HashMap<String, usize>);

impl Words {
    /// Lower case, runs of a–z and 0–9, stems of words of more than three letters.
    fn tokens(&mut self, text: &str, stemming: Stemming) -> Vec<usize> {
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())).filter(|w| !w.is_empty());
        words
            .map(|word| {
                let stemmed = stemming == Stemming::Porter && word.len() > 3;
                let word = if stemmed { porter::stem(word) } else { word.into() };
                let next = self.0.len();
                *self.0.entry(word.into_owned()).or_insert(next)
            })
            .collect()
    }

    fn lines(&mut self, text: &str, stemming: Stemming) -> Vec<Vec<usize>> {
        text.split('\n').filter(|line| !line.is_empty()).map(|line| self.tokens(line, stemming)).collect()
    }
}

fn ngrams(target: &[usize], prediction: &[usize], n: usize) -> Score {
    let mut counts: HashMap<&[usize], usize> = HashMap::new();
    target.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    let mut common = 0;
    for gram in prediction.windows(n) {
        if let Some(left) = counts.get_mut(gram)
            && *left > 0
        {
            *left -= 1;
            common += 1;
        }
    }
    let share = |tokens: &[usize]| f64::from(common) / (tokens.len() + 1).saturating_sub(n).max(1) as f64;
    Score::new(share(prediction), share(target))
}

fn longest(target: &[usize], prediction: &[usize]) -> Score {
    if target.is_empty() || prediction.is_empty() {
        return Score::default();
    }
    let (mut row, mut above) = (vec![0_u32; prediction.len() + 1], vec![0_u32; prediction.len() + 1]);
    for word in target {
        std::mem::swap(&mut row, &mut above);
        for (j, other) in prediction.iter().enumerate() {
            row[j + 1] = if word == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
        }
    }
    let length = f64::from(row[prediction.len()]);
    Score::new(length / prediction.len() as f64, length / target.len() as f64)
}

/// The positions in `target` of one longest common subsequence, the one that rouge-score reads out of its table.
fn mark_longest(target: &[usize], prediction: &[usize], marks: &mut [bool]) {
    let width = prediction.len() + 1;
    let mut table = vec![0_u32; (target.len() + 1) * width];
    for (i, word) in target.iter().enumerate() {
        for (j, other) in prediction.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if word == other {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j) = (target.len(), prediction.len());
    while i > 0 && j > 0 {
        if target[i - 1] == prediction[j - 1] {
            marks[i - 1] = true;
            (i, j) = (i - 1, j - 1);
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
}

fn summary(target: &[Vec<usize>], prediction: &[Vec<usize>], words: usize) -> Score {
    let total = |lines: &[Vec<usize>]| lines.iter().map(Vec::len).sum::<usize>();
    let (in_target, in_prediction) = (total(target), total(prediction));
    if in_target == 0 || in_prediction == 0 {
        return Score::default();
    }
    let counted = |lines: &[Vec<usize>]| {
        let mut left = vec![0_usize; words];
        lines.iter().flatten().for_each(|&word| left[word] += 1);
        left
    };
    let (mut left_target, mut left_prediction) = (counted(target), counted(prediction));
    let mut hits = 0_u32;
    for line in target {
        let mut marks = vec![false; line.len()];
        prediction.iter().for_each(|other| mark_longest(line, other, &mut marks));
        for (&word, _) in line.iter().zip(&marks).filter(|(_, marked)| **marked) {
            if left_target[word] > 0 && left_prediction[word] > 0 {
                hits += 1;
                left_target[word] -= 1;
                left_prediction[word] -= 1;
            }
        }
    }
    Score::new(f64::from(hits) / in_prediction as f64, f64::from(hits) / in_target as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readmes_example_of_rouge_score_comes_out() {
        let target = "The quick brown fox jumps over the lazy dog";
        let prediction = "The quick brown dog jumps on the log.";
        let r = rouge(target, prediction, Stemming::Porter);
        assert!((r.rouge1.precision - 0.75).abs() < 1e-15 && (r.rouge1.recall - 6.0 / 9.0).abs() < 1e-15);
        assert!((r.rouge_l.precision - 0.625).abs() < 1e-15 && (r.rouge_l.recall - 5.0 / 9.0).abs() < 1e-15);
        assert_eq!(rouge("", prediction, Stemming::None), Rouge::default());
        assert_eq!(rouge("!!", "", Stemming::None), Rouge::default());
        let two = best(&["nothing of it", target], prediction, Stemming::Porter);
        assert_eq!(two.rouge1, r.rouge1);
    }
}
