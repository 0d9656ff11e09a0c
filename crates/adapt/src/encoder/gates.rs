//! How much each attention head and each feed-forward unit matters: the first-order Taylor estimate of what the loss
//! would change if its output were nothing (Michel et al., arXiv 1905.10650; Molchanov et al., arXiv 1906.10771). With a
//! gate g = 1 on a structure's output h the estimate is |∂L/∂g| = |Σ h · ∂L/∂h|, summed over a text's tokens, averaged
//! over texts.

use crate::encoder::batch::{Batch, Example};
use crate::encoder::forward::Pass;
use crate::encoder::network::Network;
use crate::encoder::objective::Objective;
use crate::encoder::parameters::Gradients;

/// Importance of each head and unit of each layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Importance {
    /// One number for each attention head, by layer.
    pub heads: Vec<Vec<f64>>,
    /// One number for each feed-forward unit, by layer.
    pub units: Vec<Vec<f64>>,
}

impl Importance {
    pub(crate) fn zeros(layers: usize) -> Self {
        Self { heads: vec![Vec::new(); layers], units: vec![Vec::new(); layers] }
    }

    pub(crate) fn add_units(&mut self, layer: usize, lengths: &[usize], h: &[f32], grad: &[f32]) {
        let columns = h.len() / lengths.iter().sum::<usize>().max(1);
        add(&mut self.units[layer], columns, lengths, h, grad);
    }

    pub(crate) fn add_heads(&mut self, layer: usize, heads: usize, lengths: &[usize], h: &[f32], grad: &[f32]) {
        add(&mut self.heads[layer], heads, lengths, h, grad);
    }
}

/// Adds |Σ h · grad| of each of `parts` equal parts of the rows, the sum going over the rows of each text.
fn add(to: &mut Vec<f64>, parts: usize, lengths: &[usize], h: &[f32], grad: &[f32]) {
    to.resize(parts, 0.0);
    let width = h.len() / lengths.iter().sum::<usize>().max(1);
    let part = width / parts.max(1);
    let (mut from, mut sums) = (0, vec![0.0f64; parts]);
    for n in lengths {
        sums.fill(0.0);
        let rows = from..from + n * width;
        for (h, grad) in h[rows.clone()].chunks_exact(width).zip(grad[rows].chunks_exact(width)) {
            for ((sum, h), grad) in sums.iter_mut().zip(h.chunks_exact(part)).zip(grad.chunks_exact(part)) {
                *sum += h.iter().zip(grad).map(|(h, g)| f64::from(h * g)).sum::<f64>();
            }
        }
        to.iter_mut().zip(&sums).for_each(|(to, sum)| *to += sum.abs());
        from += n * width;
    }
}

impl Network {
    /// The importance of all heads and units for the loss of `examples`, each window counting as a text.
    #[must_use]
    pub fn importance(&self, examples: &[Example], objective: &Objective, at_once: usize) -> Importance {
        let mut pass = Pass { gates: Some(Importance::zeros(self.layers())), ..Pass::default() };
        let mut gradients = Gradients::new(&self.parameters);
        for part in examples.chunks(at_once.max(1)) {
            gradients.clear();
            self.loss_and_gradients(&Batch::new(part), objective, None, 1.0, &mut pass, &mut gradients);
        }
        let mut found = pass.gates.take().unwrap_or_default();
        let n = examples.len().max(1) as f64;
        found.heads.iter_mut().chain(&mut found.units).flatten().for_each(|x| *x /= n);
        found
    }

    /// The mean loss on `examples` of the network with only these layers, in this order.
    ///
    /// # Panics
    /// When there is no such layer.
    #[must_use]
    pub fn loss_with_layers(&mut self, kept: &[usize], examples: &[Example], objective: &Objective) -> f64 {
        let all = self.body.layers.clone();
        self.body.layers = kept.iter().map(|&i| all[i]).collect();
        let (mut pass, mut sum, mut weight) = (Pass::default(), 0.0, 0.0);
        for part in examples.chunks(32) {
            let loss = self.loss(&Batch::new(part), objective, &mut pass);
            sum += loss.sum;
            weight += loss.weight;
        }
        self.body.layers = all;
        sum / f64::max(weight, f64::MIN_POSITIVE)
    }
}
