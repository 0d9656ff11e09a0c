//! A teacher that a network follows while it trains: besides the labels, the teacher's softened answers (Hinton et al.,
//! arXiv 1503.02531) and the states of its layers (Jiao et al., arXiv 1909.10351).

use crate::encoder::batch::Batch;
use crate::encoder::forward::{Pass, sized};
use crate::encoder::network::Network;
use crate::encoder::objective::Objective;
use crate::encoder::options::Noise;
use crate::encoder::parameters::Gradients;
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result};
use understudy_kernels::train::{Loss, kl_to_teacher};

/// What counts how much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuideParams {
    /// Share of the labels' own loss, in [0, 1]; the rest is the divergence from the teacher's answers.
    pub labels: f64,
    /// Temperature of both models' answers.
    pub temperature: f64,
    /// Weight of the states: the squared distance from the teacher's, relative to their squared length, mean over tokens
    /// and layers.
    pub states: f64,
}

impl Default for GuideParams {
    fn default() -> Self {
        Self { labels: 0.3, temperature: 2.0, states: 1.0 }
    }
}

/// A teacher.
pub struct Guide {
    teacher: Network,
    layers: Vec<usize>,
    params: GuideParams,
}

/// Buffers of a guided pass.
#[derive(Default)]
pub struct Guided {
    teacher: Pass,
    grad: Vec<f32>,
}

/// The teacher's states during a backward pass.
pub(crate) struct Follow<'a> {
    pub(crate) teacher: &'a Pass,
    pub(crate) layers: &'a [usize],
    /// What the gradient of a token's relative squared distance is multiplied with.
    pub(crate) scale: f64,
}

impl Guide {
    /// A teacher for a network whose layer i follows the teacher's layer `layers[i]`.
    ///
    /// # Errors
    /// `Invalid` when the teacher has no such layer or a parameter is out of range.
    pub fn new(teacher: Network, layers: Vec<usize>, params: GuideParams) -> Result<Self> {
        let GuideParams { labels, temperature, states } = params;
        let fine = (0.0..=1.0).contains(&labels) && temperature.is_finite() && temperature > 0.0;
        if !fine || !states.is_finite() || states < 0.0 {
            return Err(Error::invalid(
                "follow a teacher: `labels` lies in [0, 1], `temperature` is positive, `states` at least 0",
            ));
        }
        if layers.iter().any(|&layer| layer >= teacher.layers()) {
            return Err(Error::invalid(format!("follow a teacher: it has {} layers only", teacher.layers())));
        }
        Ok(Self { teacher, layers, params })
    }

    /// What tells this teacher from others.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{} {:?} {:?}", self.teacher.digest(|_| true), self.layers, self.params)
    }

    /// Checks that a network can follow.
    ///
    /// # Errors
    /// `Invalid` when its shape is another.
    pub(crate) fn fits(&self, network: &Network) -> Result<()> {
        if network.readout.second.is_some() {
            return Err(Error::invalid("follow a teacher: a network with a second head cannot"));
        }
        let same = |of: fn(&Network) -> usize| of(&self.teacher) == of(network);
        if self.layers.len() == network.layers() && same(Network::width) && same(Network::outputs) {
            return Ok(());
        }
        Err(Error::invalid("follow a teacher: it has another width, other outputs, or was told of other layers"))
    }
}

impl Network {
    /// As [`Network::loss_and_gradients`] under a teacher; `loss` is the labels' share and what is learned from the teacher
    /// together.
    #[expect(clippy::too_many_arguments, reason = "loss_and_gradients with a teacher and its buffers")]
    pub fn guided_loss_and_gradients(
        &self,
        batch: &Batch<'_>,
        objective: &Objective,
        guide: (&Guide, &mut Guided),
        noise: Option<&Noise>,
        scale: f64,
        pass: &mut Pass,
        gradients: &mut Gradients,
    ) -> Loss {
        let (guide, buffers) = guide;
        let GuideParams { labels, temperature, states } = guide.params;
        let columns = self.outputs();
        let answers = softened(guide.teacher.outputs_of(batch, &mut buffers.teacher), columns, temperature);
        self.run(batch, noise, pass);
        let read = &mut pass.read;
        let n = read.outputs.len();
        let own = objective.loss(batch, &read.outputs, columns, scale * labels, sized(&mut read.grad, n));
        let grad = sized(&mut buffers.grad, n);
        let taught = kl_to_teacher(&read.outputs, &answers, columns, temperature, scale * (1.0 - labels), grad);
        read.grad.iter_mut().zip(&*grad).for_each(|(sum, g)| *sum += g);
        // All rows of a batch weigh alike, and together as much as its examples.
        let per_token = states * own.weight / (batch.ids.len() * self.layers().max(1)) as f64;
        let mut far = 0.0;
        for (own, theirs) in guide.layers.iter().enumerate() {
            let (x, t) = (&pass.x[own + 1], &buffers.teacher.x[theirs + 1]);
            far += distances(x, t, self.width()).map(|(squared, length)| squared / length).sum::<f64>();
        }
        let follow = Follow { teacher: &buffers.teacher, layers: &guide.layers, scale: scale * per_token };
        self.backward_all(batch, noise, Some(&follow), pass, gradients);
        Loss { sum: labels * own.sum + (1.0 - labels) * taught.sum + per_token * far, weight: own.weight }
    }
}

impl Follow<'_> {
    /// Adds the gradient of the states above layer `layer` to `grad`.
    pub(crate) fn add(&self, layer: usize, x: &[f32], width: usize, grad: &mut [f32]) {
        let teacher = &self.teacher.x[self.layers[layer] + 1];
        let rows = x.chunks_exact(width).zip(teacher.chunks_exact(width)).zip(grad.chunks_exact_mut(width));
        for (((x, t), grad), (_, length)) in rows.zip(distances(x, teacher, width)) {
            #[expect(clippy::cast_possible_truncation, reason = "a gradient")]
            let factor = (2.0 * self.scale / length) as f32;
            grad.iter_mut().zip(x).zip(t).for_each(|((grad, x), t)| *grad += factor * (x - t));
        }
    }
}

/// Of each row: the squared distance, and the squared length of the second.
fn distances<'a>(x: &'a [f32], t: &'a [f32], width: usize) -> impl Iterator<Item = (f64, f64)> + 'a {
    x.chunks_exact(width).zip(t.chunks_exact(width)).map(|(x, t)| {
        let squared: f64 = x.iter().zip(t).map(|(x, t)| f64::from(x - t).powi(2)).sum();
        let length: f64 = t.iter().map(|t| f64::from(*t).powi(2)).sum();
        (squared, length.max(1e-12))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a probability")]
fn softened(outputs: &[f32], columns: usize, temperature: f64) -> Vec<f32> {
    let mut answers = Vec::with_capacity(outputs.len());
    for row in outputs.chunks_exact(columns) {
        let mut row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        understudy_model::head::softmax(&mut row, temperature);
        answers.extend(row.into_iter().map(|p| p as f32));
    }
    answers
}
