//! The answers a student has: requests that the large model answered, and what it said.

/// Labelled embeddings, in the order in which they came, and the names of the answers.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    dimensions: usize,
    embeddings: Vec<f32>,
    labels: Vec<usize>,
    classes: Vec<String>,
    /// Embedding of each class's name; empty where there is none.
    names: Vec<Vec<f32>>,
}

impl Answers {
    pub(super) fn new(dimensions: usize) -> Self {
        Self { dimensions, embeddings: Vec::new(), labels: Vec::new(), classes: Vec::new(), names: Vec::new() }
    }

    /// Adds an answer. `name` is looked at when the answer is new.
    pub(super) fn push(&mut self, embedding: &[f32], answer: &str, name: Option<&[f32]>) -> usize {
        let class = self.classes.iter().position(|class| class == answer).unwrap_or_else(|| {
            self.classes.push(answer.to_owned());
            self.names.push(name.unwrap_or_default().to_vec());
            self.classes.len() - 1
        });
        self.embeddings.extend_from_slice(embedding);
        self.labels.push(class);
        self.labels.len() - 1
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn classes(&self) -> usize {
        self.classes.len()
    }

    pub(super) fn class(&self, index: usize) -> &str {
        &self.classes[index]
    }

    pub(super) fn label(&self, row: usize) -> usize {
        self.labels[row]
    }

    pub(super) fn labels(&self) -> &[usize] {
        &self.labels
    }

    pub(super) fn embedding(&self, row: usize) -> &[f32] {
        &self.embeddings[row * self.dimensions..][..self.dimensions]
    }

    /// Embedded names of the classes that are `present`; those that came later are not.
    pub(super) fn named<'a>(&'a self, present: &[bool]) -> Vec<(usize, &'a [f32])> {
        let has = |class: &usize| present[*class] && !self.names[*class].is_empty();
        (0..present.len()).filter(has).map(|class| (class, self.names[class].as_slice())).collect()
    }
}
