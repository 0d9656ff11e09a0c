//! BLEU equal to sacrebleu's: mteval's 13a tokens, exponential smoothing, orders 1 to 4 (M. Post, *A call for clarity
//! in reporting BLEU scores*, 2018).

use super::is_python_space;
use serde::Serialize;
use std::collections::HashMap;

const ORDERS: usize = 4;

/// Which orders enter the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    /// All four: corpora.
    All,
    /// Those that the answer is long enough for: single sentences (`effective_order`).
    Effective,
}

/// A score and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bleu {
    /// 0 to 100.
    pub score: f64,
    /// Precision of each order, 0 to 100.
    pub precisions: [f64; ORDERS],
    /// Factor for answers shorter than their references, at most 1.
    pub brevity_penalty: f64,
    /// Words of the answers.
    pub answer_len: u64,
    /// Words of the references closest in length.
    pub reference_len: u64,
}

/// BLEU of a corpus: each answer against its references.
///
/// # Panics
/// When the slices differ in length or an answer has no reference.
#[must_use]
pub fn corpus_bleu(references: &[Vec<&str>], answers: &[&str]) -> Bleu {
    assert_eq!(references.len(), answers.len(), "references for each answer");
    let counts: Vec<Counts> = references.iter().zip(answers).map(|(refs, answer)| Counts::of(refs, answer)).collect();
    Counts::sum(&counts).score(Orders::All)
}

/// BLEU of one answer.
///
/// # Panics
/// When there is no reference.
#[must_use]
pub fn sentence_bleu(references: &[&str], answer: &str) -> Bleu {
    Counts::of(references, answer).score(Orders::Effective)
}

/// What an answer adds to its corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    correct: [u64; ORDERS],
    total: [u64; ORDERS],
    answer_len: u64,
    reference_len: u64,
}

impl Counts {
    /// Counts one answer against its references.
    ///
    /// # Panics
    /// When there is no reference.
    #[must_use]
    pub fn of(references: &[&str], answer: &str) -> Self {
        assert!(!references.is_empty(), "an answer is scored against a reference");
        let answer = tokens(answer);
        let references: Vec<Vec<String>> = references.iter().map(|text| tokens(text)).collect();
        let distance = |len: u64| (len.abs_diff(answer.len() as u64), len);
        let closest = references.iter().map(|tokens| tokens.len() as u64).min_by_key(|&len| distance(len));
        let mut counts =
            Self { answer_len: answer.len() as u64, reference_len: closest.unwrap_or(0), ..Self::default() };
        for n in 1..=ORDERS {
            let mut most: HashMap<&[String], u64> = HashMap::new();
            for reference in &references {
                let mut own: HashMap<&[String], u64> = HashMap::new();
                for gram in reference.windows(n) {
                    let count = own.entry(gram).or_default();
                    *count += 1;
                    let best = most.entry(gram).or_default();
                    *best = (*best).max(*count);
                }
            }
            for gram in answer.windows(n) {
                counts.total[n - 1] += 1;
                if let Some(left) = most.get_mut(gram)
                    && *left > 0
                {
                    *left -= 1;
                    counts.correct[n - 1] += 1;
                }
            }
        }
        counts
    }

    /// Adds up.
    #[must_use]
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, one| {
            for n in 0..ORDERS {
                sum.correct[n] += one.correct[n];
                sum.total[n] += one.total[n];
            }
            sum.answer_len += one.answer_len;
            sum.reference_len += one.reference_len;
            sum
        })
    }

    /// The score.
    #[must_use]
    pub fn score(&self, orders: Orders) -> Bleu {
        let brevity_penalty = match (self.answer_len, self.reference_len) {
            (0, 1..) => 0.0,
            (answer, reference) if answer < reference => (1.0 - reference as f64 / answer as f64).exp(),
            _ => 1.0,
        };
        let mut bleu = Bleu {
            score: 0.0,
            precisions: [0.0; ORDERS],
            brevity_penalty,
            answer_len: self.answer_len,
            reference_len: self.reference_len,
        };
        if self.correct.iter().all(|&count| count == 0) {
            return bleu;
        }
        let (mut smooth, mut used) = (1.0, ORDERS);
        for n in 0..ORDERS {
            if self.total[n] == 0 {
                break;
            }
            if orders == Orders::Effective {
                used = n + 1;
            }
            bleu.precisions[n] = if self.correct[n] == 0 {
                smooth *= 2.0;
                100.0 / (smooth * self.total[n] as f64)
            } else {
                100.0 * self.correct[n] as f64 / self.total[n] as f64
            };
        }
        // sacrebleu's floor of the logarithm of 0.
        let log = |p: f64| if p > 0.0 { p.ln() } else { -9_999_999_999.0 };
        let mean = bleu.precisions[..used].iter().map(|&p| log(p)).sum::<f64>() / used as f64;
        bleu.score = brevity_penalty * mean.exp();
        bleu
    }
}

/// mteval-v13a's tokens.
#[must_use]
pub fn tokens(text: &str) -> Vec<String> {
    let mut line =
        text.trim_end_matches(is_python_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if line.contains('&') {
        line = line.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    }
    let line: Vec<char> = format!(" {line} ").chars().collect();
    let line = spaced(&line);
    let line = rewritten(&line, |a, b| !a.is_ascii_digit() && is_stop(b), |a, b| [a, ' ', b, ' ']);
    let line = rewritten(&line, |a, b| is_stop(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    let line = rewritten(&line, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' ']);
    let line: String = line.into_iter().collect();
    line.split(is_python_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn is_stop(c: char) -> bool {
    c == '.' || c == ','
}

/// Puts spaces around punctuation and symbols, except period, comma, dash and apostrophe.
fn spaced(line: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(line.len() * 2);
    for &c in line {
        if matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/') {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

/// Replaces pairs of neighbours from the left, each character at most once, as a regular expression does.
fn rewritten(line: &[char], fits: impl Fn(char, char) -> bool, with: impl Fn(char, char) -> [char; 4]) -> Vec<char> {
    let mut out = Vec::with_capacity(line.len() * 2);
    let mut at = 0;
    while at < line.len() {
        match line.get(at + 1) {
            Some(&next) if fits(line[at], next) => {
                out.extend(with(line[at], next));
                at += 2;
            }
            _ => {
                out.push(line[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_13a() {
        let expected = ["Say", ",", "1,000.5", "-", "2", "items", "...", "&", "don't", "(", "ok", ")", "."];
        let found = tokens("Say, 1,000.5-2 items... &amp; don't (ok). ");
        // Periods in a row come apart one by one.
        let expected: Vec<&str> =
            expected.iter().flat_map(|t| if *t == "..." { vec![".", ".", "."] } else { vec![*t] }).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn short_and_empty_answers_have_a_score() {
        assert!(sentence_bleu(&["a b"], "a b").score > 99.9);
        assert!(corpus_bleu(&[vec!["a b"]], &["a b"]).score < 1e-9);
        assert!(sentence_bleu(&["a b"], "").score.abs() < 1e-15 && sentence_bleu(&[""], "x").score.abs() < 1e-15);
    }
}
