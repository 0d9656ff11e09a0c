//! Conversations as token ids, and batches of them laid end to end.

/// A prompt and the answer to be learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids: the prompt as it is served, then the answer with the token that ends it.
    pub tokens: Vec<u32>,
    /// Where the answer begins: at least 1.
    pub answer: usize,
}

impl Example {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_before_an_answers_tokens_predict_them() {
        let a = Example { tokens: vec![7, 8, 9, 10], answer: 2 };
        let b = Example { tokens: vec![1, 2], answer: 1 };
        let batch = Batch::new([&a, &b]);
        assert_eq!((batch.ids, batch.places), (vec![7, 8, 9, 1], vec![0, 1, 2, 0]));
        assert_eq!((batch.lengths, batch.rows, batch.targets), (vec![3, 1], vec![1, 2, 3], vec![9, 10, 2]));
    }
}
