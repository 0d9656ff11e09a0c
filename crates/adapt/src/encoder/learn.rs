//! From a batch to its outputs, its loss and its gradients.

use crate::encoder::batch::{Batch, Example, Target};
use crate::encoder::forward::{Pass, sized};
use crate::encoder::guide::Follow;
use crate::encoder::network::Network;
use crate::encoder::objective::Objective;
use crate::encoder::options::Noise;
use crate::encoder::parameters::Gradients;
use crate::encoder::readout::Read;
use understudy_kernels::train::{Loss, supervised_contrast};

impl Network {
    /// The outputs of a batch, one row for each text (or token), without dropout.
    pub fn outputs_of<'p>(&self, batch: &Batch<'_>, pass: &'p mut Pass) -> &'p [f32] {
        self.run(batch, None, pass);
        &pass.read.outputs
    }

    /// The vectors that the head reads, one row for each text (or token), without dropout.
    pub fn vectors_of<'p>(&self, batch: &Batch<'_>, pass: &'p mut Pass) -> &'p [f32] {
        self.run(batch, None, pass);
        &pass.read.vectors
    }

    pub(crate) fn run(&self, batch: &Batch<'_>, noise: Option<&Noise>, pass: &mut Pass) {
        self.encode(batch, noise, pass);
        let Pass { x, read, .. } = pass;
        let states = &x[self.body.layers.len()];
        self.readout.forward(&self.parameters, batch, states, noise.and_then(Noise::head), read);
    }

    /// The loss of a batch (sum over its examples) without dropout and without a second head's.
    pub fn loss(&self, batch: &Batch<'_>, objective: &Objective, pass: &mut Pass) -> Loss {
        self.run(batch, None, pass);
        if let Objective::Contrast { temperature, .. } = objective {
            return contrast(batch, *temperature, 0.0, &mut pass.read);
        }
        let read = &mut pass.read;
        let n = read.outputs.len();
        objective.loss(batch, &read.outputs, self.outputs(), 0.0, sized(&mut read.grad, n))
    }

    /// Adds the gradient of `scale` times the loss of a batch to `gradients` and returns the loss, a second head's included.
    pub fn loss_and_gradients(
        &self,
        batch: &Batch<'_>,
        objective: &Objective,
        noise: Option<&Noise>,
        scale: f64,
        pass: &mut Pass,
        gradients: &mut Gradients,
    ) -> Loss {
        self.run(batch, noise, pass);
        let read = &mut pass.read;
        if let Objective::Contrast { temperature, .. } = objective {
            let loss = contrast(batch, *temperature, scale, read);
            self.readout.input_backward(read);
            self.states_backward(batch, noise, None, pass, gradients);
            return loss;
        }
        let n = read.outputs.len();
        let mut loss = objective.loss(batch, &read.outputs, self.outputs(), scale, sized(&mut read.grad, n));
        if let Some(second) = &self.readout.second {
            loss.sum += second.loss(&self.parameters, batch, scale, read);
        }
        self.backward_all(batch, noise, None, pass, gradients);
        loss
    }

    /// From the gradient of the outputs to all others, with a teacher's states where there is one.
    pub(crate) fn backward_all(
        &self,
        batch: &Batch<'_>,
        noise: Option<&Noise>,
        follow: Option<&Follow<'_>>,
        pass: &mut Pass,
        gradients: &mut Gradients,
    ) {
        let read = &mut pass.read;
        self.readout.backward(&self.parameters, noise.and_then(Noise::head), read, gradients);
        self.states_backward(batch, noise, follow, pass, gradients);
    }

    /// From the gradient of the vectors that the head reads to those below.
    fn states_backward(
        &self,
        batch: &Batch<'_>,
        noise: Option<&Noise>,
        follow: Option<&Follow<'_>>,
        pass: &mut Pass,
        gradients: &mut Gradients,
    ) {
        let read = &pass.read;
        if self.lowest <= self.body.layers.len() {
            self.readout.spread(batch, read, &mut pass.grad.x);
            match &mut pass.elsewhere {
                Some(elsewhere) => elsewhere.backward(self, &pass.grad.x, gradients),
                None => self.backward(batch, noise, follow, pass, gradients),
            }
        }
    }
}

/// The contrast of a batch's vectors, whose gradient goes where the head's would.
fn contrast(batch: &Batch<'_>, temperature: f64, scale: f64, read: &mut Read) -> Loss {
    let class = |example: &&Example| match &example.target {
        Target::Class(class) => *class,
        Target::Shares(_) | Target::Labels(_) | Target::Values(_) | Target::Tokens(_) => usize::MAX,
    };
    let classes: Vec<usize> = batch.examples.iter().map(class).collect();
    let n = read.vectors.len();
    supervised_contrast(&read.vectors, &classes, temperature, scale, sized(&mut read.grad_input, n))
}
