//! A frozen linear layer with the adapters of its parts.
//!
//! Queries, keys and values are one product, and so are gates and ups. Their adapters read the same input: their A lie one
//! below the other in one matrix, their B are the blocks of another, so that adapters cost two thin products a layer.

use crate::encoder::{Gradients, Parameter};
use crate::llama::weights::Linear;
use std::borrow::Cow;
use understudy_kernels::train::{Mat, Output, ProductOptions, Right, product};

/// One part that is adapted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// First of its outputs.
    pub(crate) first: usize,
    /// Index of B, outputs × rank.
    pub(crate) b: usize,
}

/// The adapters of one layer.
#[derive(Debug, Clone)]
pub(crate) struct Adapters {
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// Index of all A, one below the other: (parts · rank) × inputs.
    pub(crate) a: usize,
    pub(crate) parts: Vec<Part>,
    /// All B times `scale`, each in its block: outputs × (parts · rank).
    block: Vec<f32>,
}

impl Adapters {
    pub(crate) fn new(rank: usize, scale: f32, a: usize, parts: Vec<Part>, outputs: usize) -> Self {
        let block = vec![0.0; outputs * parts.len() * rank];
        Self { rank, scale, a, parts, block }
    }

    fn thin(&self) -> usize {
        self.parts.len() * self.rank
    }

    /// Takes B's numbers over; to be called whenever they have changed.
    pub(crate) fn refresh(&mut self, parameters: &[Parameter]) {
        let (thin, rank) = (self.thin(), self.rank);
        for (i, part) in self.parts.iter().enumerate() {
            let rows = self.block[part.first * thin..].chunks_mut(thin);
            for (row, b) in rows.zip(parameters[part.b].values.chunks_exact(rank)) {
                row[i * rank..][..rank].iter_mut().zip(b).for_each(|(to, b)| *to = self.scale * b);
            }
        }
    }
}

/// A frozen linear layer.
pub(crate) struct Dense {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    pub(crate) adapters: Option<Adapters>,
}

/// Buffers of adapters.
#[derive(Default)]
pub(crate) struct Thin {
    rows: Vec<f32>,
    block: Vec<f32>,
}

impl Dense {
    pub(crate) fn new(linear: Linear, inputs: usize) -> Self {
        let outputs = linear.weight.len() / inputs.max(1);
        Self { inputs, outputs, weight: linear.weight, bias: linear.bias, adapters: None }
    }

    /// Weights (outputs × inputs) and biases without the adapters.
    #[cfg(feature = "candle")]
    pub(crate) fn frozen(&self) -> (&[f32], Option<&[f32]>) {
        (&self.weight, self.bias.as_deref())
    }

    fn weight(&self) -> Mat<'_> {
        Mat::new(&self.weight, self.outputs, self.inputs)
    }

    /// The rows of weights from `first` on, the adapter of that part added.
    pub(crate) fn merged(&self, parameters: &[Parameter], first: usize, outputs: usize) -> Cow<'_, [f32]> {
        let rows = &self.weight[first * self.inputs..][..outputs * self.inputs];
        let Some(adapters) = &self.adapters else { return Cow::Borrowed(rows) };
        let Some((i, part)) = adapters.parts.iter().enumerate().find(|(_, part)| part.first == first) else {
            return Cow::Borrowed(rows);
        };
        let (rank, mut sum) = (adapters.rank, rows.to_vec());
        let a = &parameters[adapters.a].values[i * rank * self.inputs..][..rank * self.inputs];
        let options = ProductOptions { output: Output::Add, alpha: adapters.scale, ..Default::default() };
        let b = Mat::new(&parameters[part.b].values, outputs, rank);
        product(b, Right::Plain(Mat::new(a, rank, self.inputs)), options, &mut sum);
        Cow::Owned(sum)
    }

    /// The offsets of the outputs from `first` on.
    pub(crate) fn offsets(&self, first: usize, outputs: usize) -> Option<&[f32]> {
        self.bias.as_deref().map(|bias| &bias[first..][..outputs])
    }

    /// Writes or adds the layer's outputs for rows of inputs.
    pub(crate) fn forward(
        &self,
        parameters: &[Parameter],
        x: &[f32],
        output: Output,
        thin: &mut Thin,
        out: &mut [f32],
    ) {
        let rows = x.len() / self.inputs;
        let input = Mat::new(x, rows, self.inputs);
        let options = ProductOptions { output, bias: self.bias.as_deref(), ..Default::default() };
        product(input, Right::Plain(self.weight().t()), options, out);
        if let Some(adapters) = &self.adapters {
            let n = adapters.thin();
            let down = grown(&mut thin.rows, rows * n);
            let a = Mat::new(&parameters[adapters.a].values, n, self.inputs);
            product(input, Right::Plain(a.t()), ProductOptions::default(), down);
            let block = Mat::new(&adapters.block, self.outputs, n);
            let add = ProductOptions { output: Output::Add, ..Default::default() };
            product(Mat::new(down, rows, n), Right::Plain(block.t()), add, out);
        }
    }

    /// The gradients of the adapters and, where it is wanted, of the inputs.
    pub(crate) fn backward(
        &self,
        parameters: &[Parameter],
        x: &[f32],
        grad: &[f32],
        grad_x: Option<&mut [f32]>,
        thin: &mut Thin,
        gradients: &mut Gradients,
    ) {
        let rows = x.len() / self.inputs;
        let grad = Mat::new(grad, rows, self.outputs);
        let mut grad_x = grad_x;
        if let Some(grad_x) = grad_x.as_deref_mut() {
            product(grad, Right::Plain(self.weight()), ProductOptions::default(), grad_x);
        }
        let Some(adapters) = &self.adapters else { return };
        let (n, rank, x) = (adapters.thin(), adapters.rank, Mat::new(x, rows, self.inputs));
        let a = Mat::new(&parameters[adapters.a].values, n, self.inputs);
        let Thin { rows: narrow, block: whole } = thin;
        let narrow = grown(narrow, rows * n);

        // Of B: the blocks of gradᵀ · (x·Aᵀ).
        product(x, Right::Plain(a.t()), ProductOptions::default(), narrow);
        let whole = grown(whole, self.outputs * n);
        let scaled = ProductOptions { alpha: adapters.scale, ..Default::default() };
        product(grad.t(), Right::Plain(Mat::new(narrow, rows, n)), scaled, whole);
        for (i, part) in adapters.parts.iter().enumerate() {
            let to = gradients.sum(part.b);
            let from = whole[part.first * n..].chunks_exact(n);
            for (to, from) in to.chunks_exact_mut(rank).zip(from) {
                to.iter_mut().zip(&from[i * rank..][..rank]).for_each(|(to, x)| *to += x);
            }
        }

        // Of A: (grad · B)ᵀ · x; of the inputs: grad · B · A.
        let block = Mat::new(&adapters.block, self.outputs, n);
        product(grad, Right::Plain(block), ProductOptions::default(), narrow);
        let narrow = Mat::new(narrow, rows, n);
        let (output, of_a) = gradients.product(adapters.a);
        product(narrow.t(), Right::Plain(x), ProductOptions { output, ..Default::default() }, of_a);
        if let Some(grad_x) = grad_x {
            let add = ProductOptions { output: Output::Add, ..Default::default() };
            product(narrow, Right::Plain(a), add, grad_x);
        }
    }
}

/// The first `n` numbers of a buffer that is grown where it is too short.
pub(crate) fn grown(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    &mut buffer[..n]
}
