//! Texts (or windows of them) of a batch side by side, each padded to the longest: the shape that a device wants. What is dropped is decided by
//! places in the batch as it lies end to end.

use rayon::prelude::*;
use understudy_kernels::train::Dropout;

/// How a batch lies.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) windows: usize,
    /// Tokens of the longest window: the columns of each.
    pub(crate) longest: usize,
    pub(crate) lengths: Vec<usize>,
    /// Of each token of the batch, its place among the padded ones.
    pub(crate) rows: Vec<u32>,
}

impl Layout {
    #[expect(clippy::cast_possible_truncation, reason = "a batch has fewer than 2³² tokens")]
    pub(crate) fn of(lengths: &[usize]) -> Self {
        let (windows, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        let rows = lengths.iter().enumerate();
        let rows = rows.flat_map(|(window, n)| (0..*n).map(move |i| (window * longest + i) as u32)).collect();
        Self { windows, longest, lengths: lengths.to_vec(), rows }
    }

    /// Rows with padding.
    pub(crate) fn padded(&self) -> usize {
        self.windows * self.longest
    }

    /// Numbers of the batch's tokens, with 0 in the padding.
    pub(crate) fn pad(&self, values: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut padded = vec![0; self.padded()];
        self.rows.iter().zip(values).for_each(|(row, value)| padded[*row as usize] = value);
        padded
    }

    /// What is added to the scores of keys: nothing, or so much for padding that its probability is zero.
    pub(crate) fn keys(&self) -> Vec<f32> {
        let mut keys = vec![-1e30; self.padded()];
        self.rows.iter().for_each(|row| keys[*row as usize] = 0.0);
        keys
    }

    /// The factors of a dropout of states, rows of `width`.
    #[expect(clippy::cast_possible_truncation, reason = "an activation has fewer than 2³² numbers")]
    pub(crate) fn states(&self, dropout: Dropout, width: usize) -> Vec<f32> {
        let mut factors = vec![0.0; self.padded() * width];
        let firsts: Vec<usize> = self.firsts(|n| n * width);
        factors.par_chunks_mut(self.longest * width).zip(&firsts).zip(&self.lengths).for_each(|((part, first), n)| {
            let part = part[..n * width].iter_mut();
            part.enumerate().for_each(|(i, factor)| *factor = dropout.factor((first + i) as u32));
        });
        factors
    }

    /// The factors of a dropout of attention's probabilities: windows × heads × queries × keys.
    #[expect(clippy::cast_possible_truncation, reason = "an activation has fewer than 2³² numbers")]
    pub(crate) fn probabilities(&self, dropout: Dropout, heads: usize) -> Vec<f32> {
        let square = self.longest * self.longest;
        let mut factors = vec![0.0; self.windows * heads * square];
        let firsts: Vec<usize> = self.firsts(|n| heads * n * n);
        factors.par_chunks_mut(heads * square).zip(&firsts).zip(&self.lengths).for_each(|((part, first), &n)| {
            for (head, part) in part.chunks_exact_mut(square).enumerate() {
                for (query, row) in part.chunks_exact_mut(self.longest).enumerate().take(n) {
                    let first = first + (head * n + query) * n;
                    row.iter_mut().take(n).enumerate().for_each(|(i, f)| *f = dropout.factor((first + i) as u32));
                }
            }
        });
        factors
    }

    /// Where each window's numbers begin when it has so many for n tokens.
    fn firsts(&self, numbers: impl Fn(usize) -> usize) -> Vec<usize> {
        let mut next = 0;
        let first = |n: &usize| {
            let first = next;
            next += numbers(*n);
            first
        };
        self.lengths.iter().map(first).collect()
    }
}
