//! Named numbers and their gradients.

use understudy_kernels::train::{Output, sum_of_squares};

/// What a parameter does, which decides whether weight decay touches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A matrix of a linear layer.
    Weight,
    /// An offset, or the factor of a layer norm: not decayed.
    Bias,
    /// Rows looked up by index.
    Embedding,
}

/// One or more tensors that are trained as one: queries, keys and values are rows of one matrix.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub(crate) names: Vec<String>,
    /// Shape of each named part; all have the same.
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
    pub(crate) kind: Kind,
    /// 0 for embeddings, i + 1 for layer i, layers + 1 for the head.
    pub(crate) depth: usize,
    pub(crate) trained: bool,
}

impl Parameter {
    /// Names of its tensors; its values are theirs, one after the other.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Shape of each of its tensors.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its numbers, row-major.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// What it does.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it lies: 0 for embeddings, i + 1 for layer i, layers + 1 for the head.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Whether training changes it.
    #[must_use]
    pub fn trained(&self) -> bool {
        self.trained
    }
}

/// The gradient of one parameter.
#[derive(Debug, Default, Clone)]
struct Gradient {
    values: Vec<f32>,
    /// Nothing was added since the last clearing; what the values hold is left over.
    stale: bool,
}

/// One gradient for each parameter, empty for those that are frozen.
#[derive(Debug, Default, Clone)]
pub struct Gradients(Vec<Gradient>);

impl Gradients {
    /// Gradients of zero.
    #[must_use]
    pub fn new(parameters: &[Parameter]) -> Self {
        let gradient =
            |p: &Parameter| Gradient { values: vec![0.0; if p.trained { p.values.len() } else { 0 }], stale: true };
        Self(parameters.iter().map(gradient).collect())
    }

    /// Sets all to zero, without touching the memory.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|gradient| gradient.stale = true);
    }

    /// The gradient of the parameter at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> &[f32] {
        &self.0[index].values
    }

    /// True when the parameter is trained.
    pub(crate) fn wanted(&self, index: usize) -> bool {
        !self.0[index].values.is_empty()
    }

    /// The gradient as the output of a product: replaced the first time, added to afterwards.
    pub(crate) fn product(&mut self, index: usize) -> (Output, &mut [f32]) {
        let gradient = &mut self.0[index];
        let output = if std::mem::take(&mut gradient.stale) { Output::Replace } else { Output::Add };
        (output, &mut gradient.values)
    }

    /// The gradient as something to add to.
    pub(crate) fn sum(&mut self, index: usize) -> &mut [f32] {
        let gradient = &mut self.0[index];
        if std::mem::take(&mut gradient.stale) {
            gradient.values.fill(0.0);
        }
        &mut gradient.values
    }

    /// Two at once.
    pub(crate) fn sums(&mut self, indices: [usize; 2]) -> [&mut [f32]; 2] {
        for index in indices {
            self.sum(index);
        }
        let pair = self.0.get_disjoint_mut(indices).expect("two parameters of one layer");
        pair.map(|gradient| &mut gradient.values[..])
    }

    /// Makes sure that every gradient holds what it stands for: zeros where nothing was added.
    pub(crate) fn settle(&mut self) {
        for index in 0..self.0.len() {
            self.sum(index);
        }
    }

    /// The Euclidean norm over all gradients.
    #[must_use]
    pub fn norm(&self) -> f64 {
        self.0.iter().map(|g| if g.stale { 0.0 } else { sum_of_squares(&g.values) }).sum::<f64>().sqrt()
    }
}
