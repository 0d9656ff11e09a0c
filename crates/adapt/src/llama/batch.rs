//! Conversations as token ids, and batches of them laid end to end.

use understudy_kernels::train::Loss;

/// A prompt and the answer to be learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Token ids: the prompt as it is served, then the answer with the token that ends it.
    pub tokens: Vec<u32>,
    /// Where the answer begins: at least 1.
    pub answer: usize,
    /// What the loss of each token of the answer counts, at least 0: 1 for all tokens alike; 1 / number of tokens for all
    /// answers alike, however long.
    pub weight: f32,
}

impl Example {
    /// A prompt and an answer whose tokens count 1 each.
    #[must_use]
    pub fn new(tokens: Vec<u32>, answer: usize) -> Self {
        Self { tokens, answer, weight: 1.0 }
    }

    /// The same with an answer that counts `weight` as a whole.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a weight and a number of tokens")]
    pub fn counting(self, weight: f64) -> Self {
        let weight = weight as f32 / self.answer_tokens().max(1) as f32;
        Self { weight, ..self }
    }

    /// Tokens of the answer, its end included.
    #[must_use]
    pub fn answer_tokens(&self) -> usize {
        self.tokens.len().saturating_sub(self.answer)
    }
}

/// Examples that pass through the network together.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub(crate) ids: Vec<u32>,
    /// Place of each token in its text.
    pub(crate) places: Vec<u32>,
    pub(crate) lengths: Vec<usize>,
    /// Rows before a token of an answer.
    pub(crate) rows: Vec<u32>,
    /// The tokens after these rows.
    pub(crate) targets: Vec<u32>,
    /// What each of them counts.
    pub(crate) weights: Vec<f32>,
}

impl Batch {
    /// Lays examples end to end. The last token of each predicts nothing and is left out.
    #[must_use]
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Self {
        let mut batch = Self::default();
        for example in examples {
            let Some((last, seen)) = example.tokens.split_last() else { continue };
            let first = batch.ids.len();
            batch.ids.extend(seen);
            batch.places.extend((0u32..).take(seen.len()));
            batch.lengths.push(seen.len());
            for place in example.answer.max(1)..=seen.len() {
                batch.rows.push(u32::try_from(first + place - 1).unwrap_or(u32::MAX));
                batch.targets.push(*example.tokens.get(place).unwrap_or(last));
                batch.weights.push(example.weight);
            }
        }
        batch
    }

    /// Tokens of answers in it.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.targets.len()
    }
}

/// A token's loss as it counts.
pub(crate) fn weighted(loss: Loss, weight: f32) -> Loss {
    let weight = f64::from(weight);
    Loss { sum: loss.sum * weight, weight: loss.weight * weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_before_an_answers_tokens_predict_them() {
        let a = Example::new(vec![7, 8, 9, 10], 2).counting(0.5);
        let b = Example::new(vec![1, 2], 1);
        let batch = Batch::new([&a, &b]);
        assert_eq!((batch.ids, batch.places), (vec![7, 8, 9, 1], vec![0, 1, 2, 0]));
        assert_eq!((batch.lengths, batch.rows, batch.targets), (vec![3, 1], vec![1, 2, 3], vec![9, 10, 2]));
        assert_eq!(batch.weights, [0.25, 0.25, 1.0]);
    }
}
