//! Drawing the next token from logits: penalties, grammar, temperature, nucleus, and log-probabilities.
//!
//! Sampling is ours and not llama.cpp's so that one seed means one stream of random numbers on every platform and
//! release, and so that a grammar that leaves no token is an error: llama.cpp ends the process there.

use super::grammar::Constraint;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use understudy_core::{Error, Result, request::Sampling};

/// Most alternatives that log-probabilities come with (the limit that OpenAI's API has, too).
const MAX_ALTERNATIVES: usize = 20;

/// Draws the tokens of one answer.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f32,
    top_p: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    /// How often each token was drawn.
    counts: BTreeMap<usize, u16>,
    rng: ChaCha8Rng,
    constraint: Option<Constraint>,
    alternatives: Option<usize>,
}

/// ln p of a token and of the likeliest ones.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logprobs {
    pub(super) logprob: f32,
    pub(super) top: Vec<(usize, f32)>,
}

impl Sampler {
    /// # Errors
    /// `Invalid` when a number is out of its range.
    pub(super) fn new(
        sampling: &Sampling,
        temperature: f32,
        seed: u64,
        constraint: Option<Constraint>,
    ) -> Result<Self> {
        let number = |name: &str, value: Option<f32>, default: f32, low: f32, high: f32| {
            let value = value.unwrap_or(default);
            if (low..=high).contains(&value) {
                Ok(value)
            } else {
                Err(Error::invalid(format!("sample with {name} {value}: use a number from {low} to {high}"))
                    .with_param(name))
            }
        };
        let temperature = number("temperature", sampling.temperature, temperature, 0.0, 100.0)?;
        let top_p = number("top_p", sampling.top_p, 1.0, 0.0, 1.0)?;
        let frequency_penalty = number("frequency_penalty", sampling.frequency_penalty, 0.0, -2.0, 2.0)?;
        let presence_penalty = number("presence_penalty", sampling.presence_penalty, 0.0, -2.0, 2.0)?;
        let alternatives = sampling.logprobs.map(usize::from);
        if alternatives.is_some_and(|k| k > MAX_ALTERNATIVES) {
            return Err(Error::invalid(format!("give that many alternatives: at most {MAX_ALTERNATIVES}"))
                .with_param("top_logprobs"));
        }
        Ok(Self {
            temperature,
            top_p,
            frequency_penalty,
            presence_penalty,
            counts: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            constraint,
            alternatives,
        })
    }

    /// Draws a token.
    ///
    /// # Errors
    /// `Invalid` when the grammar leaves no token of the vocabulary, `Internal` when the model's output has no number.
    pub(super) fn sample(&mut self, logits: &[f32]) -> Result<usize> {
        let penalised;
        let mut scores = logits;
        if (self.frequency_penalty != 0.0 || self.presence_penalty != 0.0) && !self.counts.is_empty() {
            let mut changed = logits.to_vec();
            for (&token, &count) in &self.counts {
                changed[token] -= f32::from(count) * self.frequency_penalty + self.presence_penalty;
            }
            penalised = changed;
            scores = &penalised;
        }
        let mut token = self.draw(scores)?;
        // Rejection first: a full pass of the grammar over the vocabulary costs milliseconds, and the unconstrained
        // choice is mostly right. A rejected draw is repeated from the allowed tokens only, which gives each allowed
        // token its probability among the allowed ones (without a nucleus; with one, the nucleus is then taken anew).
        if let Some(constraint) = &mut self.constraint
            && !constraint.allows(token)
        {
            let masked = constraint.mask(scores);
            token = self.draw(&masked).map_err(|_| {
                Error::invalid("continue the answer: the grammar leaves no token of this model's vocabulary")
                    .with_param("grammar")
            })?;
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
        }
        let count = self.counts.entry(token).or_default();
        *count = count.saturating_add(1);
        Ok(token)
    }

    /// Log-probabilities when they were asked for: of the model's own distribution, before penalties, grammar and
    /// temperature.
    pub(super) fn logprobs(&self, logits: &[f32], token: usize) -> Option<Logprobs> {
        self.alternatives.map(|k| logprobs(logits, token, k))
    }

    /// True when log-probabilities were asked for.
    pub(super) fn wants_logprobs(&self) -> bool {
        self.alternatives.is_some()
    }

    fn draw(&mut self, scores: &[f32]) -> Result<usize> {
        let (best, highest) = argmax(scores);
        if highest == f32::NEG_INFINITY {
            return Err(Error::internal("draw a token: the model's output has no finite number"));
        }
        if self.temperature <= 0.0 {
            return Ok(best);
        }
        let weights: Vec<f32> = scores.iter().map(|&s| ((s - highest) / self.temperature).exp()).collect();
        let total: f64 = weights.iter().map(|&w| f64::from(w)).filter(|w| w.is_finite()).sum();
        let uniform: f64 = self.rng.random();
        if self.top_p >= 1.0 {
            return Ok(pick((0..weights.len()).map(|i| (i, weights[i])), uniform * total).unwrap_or(best));
        }
        let nucleus = nucleus(&weights, total, f64::from(self.top_p));
        let mass: f64 = nucleus.iter().map(|&i| f64::from(weights[i])).sum();
        Ok(pick(nucleus.iter().map(|&i| (i, weights[i])), uniform * mass).unwrap_or(best))
    }
}

/// The first item at which the running sum of weights exceeds `target`.
fn pick(items: impl Iterator<Item = (usize, f32)>, target: f64) -> Option<usize> {
    let mut sum = 0.0;
    let mut last = None;
    for (item, weight) in items {
        if weight > 0.0 {
            sum += f64::from(weight);
            last = Some(item);
            if sum > target {
                break;
            }
        }
    }
    last
}

/// The fewest tokens whose weight reaches `p` of the total, heaviest first (Holtzman et al., *The Curious Case of
/// Neural Text Degeneration*, 2020). At least one.
fn nucleus(weights: &[f32], total: f64, p: f64) -> Vec<usize> {
    // Tokens lighter than (1 − p) / V of the total weigh less than 1 − p together: the nucleus is full before the
    // first of them, and they need not be sorted.
    let floor = (1.0 - p) * total / weights.len() as f64;
    let mut order: Vec<usize> = (0..weights.len()).filter(|&i| f64::from(weights[i]) >= floor).collect();
    order.sort_unstable_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
    let mut sum = 0.0;
    let wanted = p * total;
    let size = order.iter().position(|&i| {
        sum += f64::from(weights[i]);
        sum >= wanted
    });
    order.truncate(size.map_or(order.len(), |last| last + 1));
    order
}

/// Index and value of the largest number; the first of equals. NaN counts as −∞.
pub(super) fn argmax(values: &[f32]) -> (usize, f32) {
    // Blocks of lanes, so that the compiler vectorises the search for the maximum.
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let highest = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let at = values.iter().position(|&v| v.total_cmp(&highest).is_eq()).unwrap_or(0);
    (at, highest)
}

/// ln softmax of `token` and of the `k` likeliest tokens, likeliest first. The sum runs in f64.
pub(super) fn logprobs(logits: &[f32], token: usize, k: usize) -> Logprobs {
    let (_, highest) = argmax(logits);
    let highest = f64::from(highest);
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - highest).exp()).filter(|w| w.is_finite()).sum();
    let norm = highest + sum.ln();
    #[expect(clippy::cast_possible_truncation, reason = "log-probabilities are reported in f32")]
    let ln_p = |token: usize| (f64::from(logits[token]) - norm).min(0.0) as f32;
    let mut top: Vec<usize> = Vec::with_capacity(k + 1);
    for (i, &logit) in logits.iter().enumerate() {
        if k == 0 || (top.len() == k && logit <= logits[top[k - 1]]) {
            continue;
        }
        let at = top.partition_point(|&t| logits[t] >= logit);
        top.insert(at, i);
        top.truncate(k);
    }
    Logprobs { logprob: ln_p(token), top: top.into_iter().map(|t| (t, ln_p(t))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(sampling: &Sampling, seed: u64) -> Sampler {
        Sampler::new(sampling, 0.0, seed, None).expect("valid")
    }

    #[test]
    fn argmax_agrees_with_a_plain_loop() {
        for n in [1usize, 5, 16, 17, 100] {
            let values: Vec<f32> = (0..n).map(|i| ((i * 7919) % 101) as f32).collect();
            let plain = (0..n).fold(0, |best, i| if values[i] > values[best] { i } else { best });
            assert_eq!(argmax(&values), (plain, values[plain]));
        }
        assert_eq!(argmax(&[f32::NAN, 1.0]).0, 1);
    }

    #[test]
    fn greedy_takes_the_highest_and_penalties_move_it() {
        let sampling = Sampling { presence_penalty: Some(2.0), ..Sampling::default() };
        let mut s = sampler(&sampling, 0);
        let logits = [1.0, 3.0, 2.0];
        assert_eq!(s.sample(&logits).expect("finite"), 1);
        assert_eq!(s.sample(&logits).expect("finite"), 2);
    }

    #[test]
    fn frequency_penalty_counts_occurrences() {
        let sampling = Sampling { frequency_penalty: Some(1.0), ..Sampling::default() };
        let mut s = sampler(&sampling, 0);
        let drawn: Vec<usize> = (0..4).map(|_| s.sample(&[2.5, 0.0]).expect("finite")).collect();
        assert_eq!(drawn, [0, 0, 0, 1]);
    }

    #[test]
    fn one_seed_is_one_stream() {
        let sampling = Sampling { temperature: Some(1.0), ..Sampling::default() };
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32).collect();
        let draw = |seed| {
            let mut s = sampler(&sampling, seed);
            (0..20).map(|_| s.sample(&logits).expect("finite")).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let sampling = Sampling { temperature: Some(0.5), ..Sampling::default() };
        let mut s = sampler(&sampling, 7);
        let logits = [0.0f32, 0.5, 1.0, f32::NEG_INFINITY];
        let n = 20_000;
        let mut counts = [0u32; 4];
        for _ in 0..n {
            counts[s.sample(&logits).expect("finite")] += 1;
        }
        let weights: Vec<f64> = logits.iter().map(|&l| f64::from(l / 0.5).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let (got, want) = (f64::from(*count) / f64::from(n), weight / total);
            // Four standard deviations of a proportion; the seed is fixed.
            assert!((got - want).abs() <= 4.0 * (want * (1.0 - want) / f64::from(n)).sqrt(), "{got} for {want}");
        }
    }

    #[test]
    fn the_nucleus_is_the_shortest_prefix_of_the_sorted_tokens() {
        let weights = [0.1f32, 0.5, 0.15, 0.25];
        assert_eq!(nucleus(&weights, 1.0, 0.5), [1]);
        assert_eq!(nucleus(&weights, 1.0, 0.6), [1, 3]);
        assert_eq!(nucleus(&weights, 1.0, 0.0), [1]);
        assert_eq!(nucleus(&weights, 1.0, 0.95), [1, 3, 2, 0]);
    }

    #[test]
    fn logprobs_are_the_log_softmax() {
        let logits = [1.0f32, 2.0, 3.0, 0.0];
        let got = logprobs(&logits, 0, 2);
        let norm = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
        assert!((f64::from(got.logprob) - (1.0 - norm)).abs() < 1e-6);
        assert_eq!(got.top.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 1]);
        let all = logprobs(&logits, 0, 4);
        let sum: f64 = all.top.iter().map(|t| f64::from(t.1).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for bad in [
            Sampling { temperature: Some(-1.0), ..Sampling::default() },
            Sampling { top_p: Some(f32::NAN), ..Sampling::default() },
            Sampling { frequency_penalty: Some(3.0), ..Sampling::default() },
            Sampling { logprobs: Some(21), ..Sampling::default() },
        ] {
            assert!(Sampler::new(&bad, 0.0, 0, None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn output_without_a_finite_number_is_an_error() {
        assert!(sampler(&Sampling::default(), 0).sample(&[f32::NAN, f32::NEG_INFINITY]).is_err());
    }
}
