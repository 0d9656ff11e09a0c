//! What a generative model lost by being written in fewer bits: perplexity, exact answers, divergence and flips on rows
//! that taught it nothing, each beside the same model at 16 bits.
//!
//! Nothing is generated but the first model's answers. A greedy answer equals a given one exactly when every token of the
//! given one is the likeliest after those before it; so one pass over the right answer says whether it would have been
//! written, and one over the first model's answer whether the second would have written the same.

use crate::llama::batch::Example;
use crate::logits::{likeliest, log_sum};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Error, Result, Seed};
use understudy_model::artifact::Metric;
use understudy_stats::{Bound, binomial, bootstrap, paired};

/// Level of the intervals.
const LEVEL: f64 = 0.95;
/// Numbers of the first model's distributions that are held: half a gigabyte.
const HELD: usize = 1 << 27;

/// What one model makes of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Scored {
    /// Sum over the right answer's tokens, in nats.
    loss: f64,
    /// Tokens of the right answer.
    tokens: u64,
    /// The right answer is what it writes.
    right: bool,
    /// Divergence from the first model, summed over the tokens.
    kl: f64,
    /// Tokens where the likeliest one is another than the first model's.
    token_flips: u64,
    /// It writes something else than the first model.
    flipped: bool,
}

/// A row as the first model has it.
struct Row {
    example: Example,
    log_probabilities: Vec<f32>,
    /// Prompt and its own answer; `None` when that is the right one.
    own: Option<Example>,
    scored: Scored,
}

/// The first model's answers to rows: what others are compared with.
pub struct Reference {
    rows: Vec<Row>,
    vocabulary: usize,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fidelity {
    /// Of the right answers' tokens, of the first model (bootstrap over rows).
    pub perplexity_before: Metric,
    /// Of the second.
    pub perplexity: Metric,
    /// Share of rows whose greedy answer is exactly the right one, of the first model (Wilson's interval).
    pub accuracy_before: Metric,
    /// Of the second.
    pub accuracy: Metric,
    /// Accuracy of the first minus that of the second (Newcombe's interval for paired proportions).
    pub loss: Metric,
    /// Mean divergence KL(first ‖ second) in nats a token (bootstrap over rows).
    pub kl: Metric,
    /// Share of rows whose greedy answer is another (Wilson's interval).
    pub flips: Metric,
    /// Share of tokens whose likeliest one is another (bootstrap over rows).
    pub token_flips: Metric,
}

impl Fidelity {
    /// All of them by name.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, Metric> {
        let all = [
            ("perplexity_before", self.perplexity_before),
            ("perplexity", self.perplexity),
            ("accuracy_before", self.accuracy_before),
            ("accuracy", self.accuracy),
            ("loss", self.loss),
            ("kl", self.kl),
            ("flips", self.flips),
            ("token_flips", self.token_flips),
        ];
        all.map(|(name, metric)| (name.to_owned(), metric)).into()
    }
}

impl Reference {
    /// Lets the first model judge rows: `logits` gives the scores before each token of an answer, `answer` its own answer
    /// to a prompt of at most so many tokens. Rows after those that fill half a gigabyte are left out.
    ///
    /// # Errors
    /// What the two report; `Internal` when there are other scores than tokens; `Invalid` without rows.
    pub fn measure(
        examples: &[Example],
        vocabulary: usize,
        mut logits: impl FnMut(&Example) -> Result<Vec<f32>>,
        mut answer: impl FnMut(&[u32], usize) -> Result<Vec<u32>>,
    ) -> Result<Self> {
        let (mut rows, mut held) = (Vec::new(), 0);
        for example in examples {
            held += example.answer_tokens() * vocabulary;
            if held > HELD && !rows.is_empty() {
                break;
            }
            let found = logits(example)?;
            let mut log_probabilities = Vec::with_capacity(found.len());
            let mut scored = score(example, &found, vocabulary, None)?;
            for row in found.chunks_exact(vocabulary) {
                let norm = log_sum(row);
                #[expect(clippy::cast_possible_truncation, reason = "half a gigabyte is enough")]
                log_probabilities.extend(row.iter().map(|x| (f64::from(*x) - norm) as f32));
            }
            let prompt = &example.tokens[..example.answer];
            scored.kl = 0.0;
            let own = if scored.right {
                None
            } else {
                // Longer answers are compared as far as this.
                let own = answer(prompt, 2 * example.answer_tokens() + 16)?;
                (!own.is_empty()).then(|| Example::new([prompt, &own].concat(), example.answer))
            };
            rows.push(Row { example: example.clone(), log_probabilities, own, scored });
        }
        if rows.is_empty() {
            return Err(Error::invalid("compare models: there are no rows to compare them on"));
        }
        Ok(Self { rows, vocabulary })
    }

    /// Rows that are compared.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Compares a second model, whose scores `logits` gives.
    ///
    /// # Errors
    /// What `logits` reports; `Internal` when it gives other scores than tokens.
    pub fn compare(&self, mut logits: impl FnMut(&Example) -> Result<Vec<f32>>, seed: Seed) -> Result<Fidelity> {
        let mut after = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let found = logits(&row.example)?;
            let mut scored = score(&row.example, &found, self.vocabulary, Some(&row.log_probabilities))?;
            scored.flipped = match &row.own {
                None => !scored.right,
                Some(own) => !score(own, &logits(own)?, self.vocabulary, None)?.right,
            };
            after.push(scored);
        }
        Ok(self.summary(&after, seed))
    }

    fn summary(&self, after: &[Scored], seed: Seed) -> Fidelity {
        let (n, before) = (after.len() as u64, self.rows.iter().map(|row| row.scored).collect::<Vec<_>>());
        let count = |of: &dyn Fn(&Scored, &Scored) -> bool| {
            before.iter().zip(after).filter(|(before, after)| of(before, after)).count() as u64
        };
        let both = count(&|a, b| a.right && b.right);
        let (only_before, only_after) = (count(&|a, b| a.right && !b.right), count(&|a, b| !a.right && b.right));
        let metric = |bound: Bound| Metric { estimate: bound.estimate, low: bound.low, high: bound.high, n };
        let share = |k| metric(binomial::wilson(k, n, LEVEL));
        let a_token = |name: &str, of: &[Scored], sum: fn(&Scored) -> f64| {
            let mut rng = ChaCha12Rng::seed_from_u64(seed.derive(name).0);
            let mean = |drawn: &[usize]| {
                let tokens: u64 = drawn.iter().map(|i| of[*i].tokens).sum();
                drawn.iter().map(|i| sum(&of[*i])).sum::<f64>() / tokens as f64
            };
            let bound = bootstrap::percentile(of.len(), bootstrap::RESAMPLES, LEVEL, &mut rng, mean);
            metric(bound.expect("every answer has a token"))
        };
        let exp = |m: Metric| Metric { estimate: m.estimate.exp(), low: m.low.exp(), high: m.high.exp(), n };
        Fidelity {
            perplexity_before: exp(a_token("perplexity", &before, |row| row.loss)),
            perplexity: exp(a_token("perplexity", after, |row| row.loss)),
            accuracy_before: share(both + only_before),
            accuracy: share(both + only_after),
            loss: metric(paired::difference(both, only_after, only_before, n, LEVEL)),
            kl: a_token("kl", after, |row| row.kl),
            flips: share(count(&|_, b| b.flipped)),
            token_flips: a_token("token flips", after, |row| row.token_flips as f64),
        }
    }
}

fn score(example: &Example, logits: &[f32], vocabulary: usize, before: Option<&[f32]>) -> Result<Scored> {
    let targets = &example.tokens[example.answer..];
    if vocabulary == 0 || logits.len() != targets.len() * vocabulary || targets.is_empty() {
        return Err(Error::internal("compare models: one gives other scores than the answer has tokens"));
    }
    let mut scored = Scored { tokens: targets.len() as u64, right: true, ..Scored::default() };
    for (at, (row, target)) in logits.chunks_exact(vocabulary).zip(targets).enumerate() {
        let (norm, best, target) = (log_sum(row), likeliest(row), *target as usize);
        scored.loss += norm - f64::from(row[target]);
        scored.right &= best == target;
        let Some(before) = before.map(|before| &before[at * vocabulary..][..vocabulary]) else { continue };
        let kl: f64 = before
            .iter()
            .zip(row)
            .map(|(p, q)| {
                let (p, q) = (f64::from(*p), f64::from(*q) - norm);
                p.exp() * (p - q)
            })
            .sum();
        scored.kl += kl.max(0.0);
        scored.token_flips += u64::from(best != likeliest(before));
    }
    Ok(scored)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A "model" over three tokens that is `sure` of the token after x being x + 1 (mod 3).
    fn model(sure: f32) -> impl Fn(&Example) -> Result<Vec<f32>> {
        move |example| {
            let last = &example.tokens[example.answer - 1..example.tokens.len() - 1];
            Ok(last
                .iter()
                .flat_map(|x| (0..3).map(|t| if t == (x + 1) % 3 { sure } else { 0.0 }).collect::<Vec<_>>())
                .collect())
        }
    }

    fn examples() -> Vec<Example> {
        // The second one's right answer is not what the model writes.
        vec![Example::new(vec![0, 1, 2], 1), Example::new(vec![0, 1, 0], 1)]
    }

    fn writes(prompt: &[u32], most: usize) -> Result<Vec<u32>> {
        let last = prompt[prompt.len() - 1];
        Ok((1..=2).take(most).map(|i| (last + i) % 3).collect())
    }

    #[test]
    fn a_model_against_itself_changes_nothing_and_another_one_what_it_changes() {
        let reference = Reference::measure(&examples(), 3, model(2.0), writes).unwrap();
        let same = reference.compare(model(2.0), Seed(1)).unwrap();
        assert_eq!((same.loss.estimate, same.flips.estimate, same.token_flips.estimate), (0.0, 0.0, 0.0));
        assert!(same.kl.estimate < 1e-6 && (same.perplexity.estimate - same.perplexity_before.estimate).abs() < 1e-9);
        assert!((same.accuracy.estimate - 0.5).abs() < 1e-12);
        // Less sure, the same answers: the divergence by its formula.
        let weaker = reference.compare(model(1.0), Seed(1)).unwrap();
        assert_eq!((weaker.loss.estimate, weaker.flips.estimate), (0.0, 0.0));
        let p = |sure: f64| [sure.exp() / (sure.exp() + 2.0), 1.0 / (sure.exp() + 2.0)];
        let ([a, b], [c, d]) = (p(2.0), p(1.0));
        let kl = a * (a / c).ln() + 2.0 * b * (b / d).ln();
        assert!((weaker.kl.estimate - kl).abs() < 1e-6, "{} and {kl}", weaker.kl.estimate);
        // Sure of the opposite: every answer flips, and the right one is lost.
        let other = reference.compare(model(-2.0), Seed(1)).unwrap();
        assert_eq!((other.flips.estimate, other.token_flips.estimate, other.loss.estimate), (1.0, 1.0, 0.5));
        assert!(other.perplexity.estimate > other.perplexity_before.estimate);
    }

    #[test]
    fn scores_that_fit_no_answer_and_no_rows_at_all_are_errors() {
        assert!(Reference::measure(&[], 3, model(1.0), writes).is_err());
        let reference = Reference::measure(&examples(), 3, model(1.0), writes).unwrap();
        assert!(reference.compare(|_| Ok(vec![0.0; 4]), Seed(1)).is_err());
    }
}
