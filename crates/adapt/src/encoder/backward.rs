//! The backward pass: from the gradient of the states to those of the parameters. Nothing is computed for what is
//! frozen, nor below the lowest layer that is trained.

use crate::encoder::batch::Batch;
use crate::encoder::body::{Dense, Norm};
use crate::encoder::forward::{Grads, Pass, Saved, drop_all, site, sized};
use crate::encoder::guide::Follow;
use crate::encoder::network::Network;
use crate::encoder::options::Noise;
use crate::encoder::parameters::Gradients;
use understudy_kernels::train::{
    AttentionGrad, Dropout, Mat, NormBackward, Output, ProductOptions, Right, add_column_sums, gelu_backward, product,
    scatter_add_rows,
};

impl Network {
    /// Adds to `gradients` what the gradient of the states (in `pass.grad.x`) makes of every trained parameter.
    pub(crate) fn backward(
        &self,
        batch: &Batch<'_>,
        noise: Option<&Noise>,
        follow: Option<&Follow<'_>>,
        pass: &mut Pass,
        gradients: &mut Gradients,
    ) {
        for index in (0..self.body.layers.len()).rev() {
            if index + 1 < self.lowest {
                return;
            }
            if let Some(follow) = follow {
                follow.add(index, &pass.x[index + 1], self.body.config.width, &mut pass.grad.x);
            }
            let below = self.lowest <= index;
            self.layer_backward(index, below, batch, noise, pass, gradients);
        }
        if self.lowest == 0 {
            self.embed_backward(batch, noise, pass, gradients);
        }
    }

    /// One layer; `below` says whether the gradient of its input is needed.
    fn layer_backward(
        &self,
        index: usize,
        below: bool,
        batch: &Batch<'_>,
        noise: Option<&Noise>,
        pass: &mut Pass,
        gradients: &mut Gradients,
    ) {
        let layer = &self.body.layers[index];
        let rows = batch.ids.len();
        let (x, saved) = (&pass.x[index], &pass.layers[index]);
        let Grads { x: grad, dropped, inner, context, qkv, by_distance } = &mut pass.grad;
        let Saved { probabilities, attended, attended_scales, y, gelu, outer, outer_scales, .. } = saved;

        self.norm_backward(layer.output_norm, outer, outer_scales, grad, gradients);
        let of_outer = dropped_grad(noise.and_then(|noise| noise.hidden(index, site::OUTER)), grad, dropped);
        let inner = sized(inner, rows * layer.inner.outputs);
        self.input_grad(layer.outer, of_outer, Output::Replace, inner);
        if let Some(gates) = &mut pass.gates {
            gates.add_units(index, &batch.lengths, gelu, inner);
        }
        self.weight_grad(layer.outer, of_outer, gelu, gradients);
        gelu_backward(&saved.inner, inner);
        self.weight_grad(layer.inner, inner, y, gradients);
        self.input_grad(layer.inner, inner, Output::Add, grad);

        self.norm_backward(layer.attention_norm, attended, attended_scales, grad, gradients);
        let of_attended = dropped_grad(noise.and_then(|noise| noise.hidden(index, site::ATTENDED)), grad, dropped);
        let context = sized(context, rows * layer.attended.inputs);
        self.input_grad(layer.attended, of_attended, Output::Replace, context);
        if let Some(gates) = &mut pass.gates {
            gates.add_heads(index, self.body.config.heads, &batch.lengths, &saved.context, context);
        }
        self.weight_grad(layer.attended, of_attended, &saved.context, gradients);
        let qkv = sized(qkv, rows * layer.qkv.outputs);
        let relative = self.body.relative.filter(|table| gradients.wanted(*table));
        if relative.is_some() {
            by_distance.clear();
            by_distance.resize(self.body.config.heads * (2 * self.body.reach() - 1), 0.0);
        }
        self.attention(&saved.qkv, batch, noise, index).backward(AttentionGrad {
            probabilities,
            out: context,
            qkv,
            bias: relative.map(|_| &mut by_distance[..]),
        });
        if let Some(table) = relative {
            self.body.add_relative(by_distance, gradients.sum(table));
        }
        self.weight_grad(layer.qkv, qkv, x, gradients);
        if below {
            self.input_grad(layer.qkv, qkv, Output::Add, grad);
        }
    }

    fn embed_backward(&self, batch: &Batch<'_>, noise: Option<&Noise>, pass: &mut Pass, gradients: &mut Gradients) {
        let (width, body) = (self.body.config.width, &self.body);
        let grad = &mut pass.grad.x;
        drop_all(noise.and_then(|noise| noise.hidden(0, site::EMBEDDINGS)), grad);
        self.norm_backward(body.norm, &pass.embedded, &pass.embedded_scales, grad, gradients);
        if gradients.wanted(body.words) {
            scatter_add_rows(grad, width, &batch.ids, gradients.sum(body.words));
        }
        if gradients.wanted(body.positions) {
            let table = &mut gradients.sum(body.positions)[body.config.first_position * width..];
            scatter_add_rows(grad, width, &batch.places, table);
        }
        if let Some(types) = body.types.filter(|types| gradients.wanted(*types)) {
            add_column_sums(grad, &mut gradients.sum(types)[..width]);
        }
    }

    fn norm_backward(
        &self,
        norm: Norm,
        normalised: &[f32],
        scales: &[f32],
        grad: &mut [f32],
        gradients: &mut Gradients,
    ) {
        let learned = gradients.wanted(norm.weight).then(|| {
            let [weight, bias] = gradients.sums([norm.weight, norm.bias]);
            (weight, bias)
        });
        let weight = &self.parameters[norm.weight].values;
        NormBackward { normalised, scales, weight, grad, learned }.run();
    }

    /// dX (+)= dY·W.
    fn input_grad(&self, dense: Dense, grad: &[f32], output: Output, out: &mut [f32]) {
        let rows = grad.len() / dense.outputs;
        let right = match &self.packed[dense.weight] {
            Some(packed) => Right::Packed(&packed.backward),
            None => Right::Plain(Mat::new(self.weight(dense.weight), dense.outputs, dense.inputs)),
        };
        product(Mat::new(grad, rows, dense.outputs), right, ProductOptions { output, ..Default::default() }, out);
    }

    /// dW += dYᵀ·X and db += Σ dY, or what the adapters of a frozen weight need.
    fn weight_grad(&self, dense: Dense, grad: &[f32], x: &[f32], gradients: &mut Gradients) {
        let rows = grad.len() / dense.outputs;
        if gradients.wanted(dense.weight) {
            let (output, out) = gradients.product(dense.weight);
            let left = Mat::new(grad, rows, dense.outputs).t();
            let right = Right::Plain(Mat::new(x, rows, dense.inputs));
            product(left, right, ProductOptions { output, ..Default::default() }, out);
        }
        if gradients.wanted(dense.bias) {
            add_column_sums(grad, gradients.sum(dense.bias));
        }
        for adapter in self.adapters.iter().filter(|adapter| adapter.of == dense.weight) {
            adapter.backward(&self.parameters, dense, grad, x, gradients);
        }
    }
}

/// The gradient behind dropout: a copy where something is dropped, because the residual sum goes on with the whole.
fn dropped_grad<'a>(dropout: Option<Dropout>, grad: &'a [f32], copy: &'a mut Vec<f32>) -> &'a [f32] {
    if dropout.is_none() {
        return grad;
    }
    copy.clear();
    copy.extend_from_slice(grad);
    drop_all(dropout, copy);
    copy
}
