//! Examples as token ids, and batches of them laid end to end.

use crate::encoder::objective::Objective;

/// What an example should come out as.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// One class.
    Class(usize),
    /// A distribution over the classes: how likely each is, as several answers or a teacher's probabilities say.
    Shares(Vec<f32>),
    /// One number in [0, 1] for each label (multi-label), or a teacher's probability of each class.
    Labels(Vec<f32>),
    /// One number for each output (regression).
    Values(Vec<f32>),
    /// A class for each token, none for those that do not count (special tokens, all but the first piece of a word).
    Tokens(Vec<Option<usize>>),
}

/// A text and its target.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Token ids, special tokens included; a long text as several windows, whose vectors are averaged.
    pub windows: Vec<Vec<u32>>,
    /// What it should come out as.
    pub target: Target,
    /// What a second head learns from it ([`crate::encoder::SecondHead`]): the columns that are 1, ascending; `None` where
    /// nothing is known.
    pub second: Option<Vec<u32>>,
}

impl Example {
    /// A text of one or several windows and its target, with nothing for a second head.
    #[must_use]
    pub fn new(windows: Vec<Vec<u32>>, target: Target) -> Self {
        Self { windows, target, second: None }
    }

    /// Number of tokens of all windows.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(Vec::len).sum()
    }
}

/// Examples that pass through the network together.
#[derive(Debug, Default, Clone)]
pub struct Batch<'a> {
    pub(crate) examples: Vec<&'a Example>,
    /// All windows' ids, end to end.
    pub(crate) ids: Vec<u32>,
    /// Place of each token in its window.
    pub(crate) places: Vec<u32>,
    /// Tokens of each window.
    pub(crate) lengths: Vec<usize>,
    /// Windows of each example.
    pub(crate) windows: Vec<usize>,
}

impl<'a> Batch<'a> {
    /// Lays examples end to end.
    #[must_use]
    pub fn new(examples: impl IntoIterator<Item = &'a Example>) -> Self {
        let mut batch = Self { examples: examples.into_iter().collect(), ..Self::default() };
        for example in &batch.examples {
            batch.windows.push(example.windows.len());
            for window in &example.windows {
                batch.ids.extend(window);
                batch.places.extend((0u32..).take(window.len()));
                batch.lengths.push(window.len());
            }
        }
        batch
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// What the losses of these examples are divided by in a mean.
    #[must_use]
    pub fn weight(&self, objective: &Objective) -> f64 {
        self.examples.iter().map(|example| objective.weight(&example.target)).sum()
    }
}
