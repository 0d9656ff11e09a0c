//! Encoders as learners.

use crate::device::Device;
use crate::encoder::{
    Batch, Example, Gradients, Guide, Guided, Kind, Network, Noise, Objective, Parameter, Pass, Target,
};
use crate::finetune::batches::{grouped, order};
use crate::finetune::evaluate::Evaluation;
use crate::finetune::learner::{At, Judged, Learner, Tunable};
use crate::finetune::optimiser::{Optimiser, Pull};
use crate::finetune::params::{CheckedFinetuneParams, FinetuneParams};
use crate::finetune::progress::{Data, Finetuned, Run};
use crate::finetune::run::train;
use crate::logits::likeliest;
use sha2::{Digest, Sha256};
use understudy_core::{Error, Result, Seed};
use understudy_kernels::train::Loss;

impl CheckedFinetuneParams {
    /// Fine-tunes a network.
    ///
    /// # Errors
    /// `Invalid` when an example does not fit the network, there are none, the loss leaves the finite numbers, or the
    /// checkpoint is of another run; `Data` when a checkpoint cannot be read or written.
    pub fn fit(
        &self,
        network: Network,
        data: Data<'_, Example>,
        seed: Seed,
        run: Run<'_>,
    ) -> Result<Finetuned<Network>> {
        self.train(network, None, data, seed, run)
    }

    /// The same under a teacher, which the network follows beside the examples' targets.
    ///
    /// # Errors
    /// As [`Self::fit`], and `Invalid` when the teacher is of another shape.
    pub fn follow(
        &self,
        network: Network,
        guide: &Guide,
        data: Data<'_, Example>,
        seed: Seed,
        run: Run<'_>,
    ) -> Result<Finetuned<Network>> {
        guide.fits(&network)?;
        if run.device != Device::Cpu {
            return Err(Error::invalid(format!("follow a teacher on `{}`: that is done on `cpu` only", run.device)));
        }
        self.train(network, Some(guide), data, seed, run)
    }

    fn train(
        &self,
        network: Network,
        guide: Option<&Guide>,
        data: Data<'_, Example>,
        seed: Seed,
        run: Run<'_>,
    ) -> Result<Finetuned<Network>> {
        let pass = Pass::on(run.device)?;
        through(pass, network, &self.0, guide, data, seed, run)
    }
}

fn through(
    pass: Pass,
    network: Network,
    params: &FinetuneParams,
    guide: Option<&Guide>,
    data: Data<'_, Example>,
    seed: Seed,
    run: Run<'_>,
) -> Result<Finetuned<Network>> {
    let optimiser = params.optimiser(&network);
    let learner = Encoder { network, params, guide, pass, guided: Guided::default(), device: run.device };
    train(learner, optimiser, params.pace(), data, seed, run)
}

impl FinetuneParams {
    /// The optimiser before the first step: the head learns at its own rate, each layer more slowly than the one above
    /// it, and norms and biases do not decay.
    #[must_use]
    pub fn optimiser(&self, network: &Network) -> Optimiser {
        let top = network.layers() + 1;
        let pull = |parameter: &Parameter| {
            let below = i32::try_from(top - parameter.depth()).unwrap_or(i32::MAX);
            let rate = match below {
                0 => self.head_rate,
                below => self.rate * self.layer_decay.powi(below - 1),
            };
            Pull { rate, decay: if parameter.kind() == Kind::Bias { 0.0 } else { self.weight_decay } }
        };
        Optimiser::new(network, pull, self.clip, self.average)
    }
}

impl Tunable for Network {
    fn parameters(&self) -> &[Parameter] {
        self.parameters()
    }

    fn values_mut(&mut self, index: usize) -> &mut [f32] {
        self.values_mut(index)
    }

    fn refresh(&mut self) {
        self.refresh();
    }
}

/// An encoder, its objective and its teacher.
struct Encoder<'a> {
    network: Network,
    params: &'a FinetuneParams,
    guide: Option<&'a Guide>,
    pass: Pass,
    guided: Guided,
    device: Device,
}

impl Learner for Encoder<'_> {
    type Example = Example;
    type Network = Network;

    fn network(&self) -> &Network {
        &self.network
    }

    fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    fn into_network(self) -> Network {
        self.network
    }

    fn accepts(&self, example: &Example) -> Result<()> {
        self.network.accepts(example, &self.params.objective)
    }

    fn tokens(example: &Example) -> usize {
        example.tokens()
    }

    fn weight(&self, example: &Example) -> f64 {
        self.params.objective.weight(&example.target)
    }

    fn order(&self, examples: &[Example], seed: Seed, epoch: usize) -> Vec<usize> {
        match self.params.objective {
            Objective::Contrast { together, .. } => grouped(examples, together, seed, epoch),
            _ => order(examples.len(), seed, epoch),
        }
    }

    fn learn(&mut self, part: &[&Example], at: At, scale: f64, gradients: &mut Gradients) -> Loss {
        let (hidden, head) = (self.params.dropout, self.params.head_dropout);
        let seed = at.seed.derive("dropout").0;
        let noise = Noise { seed, step: at.step, pass: at.pass, hidden, attention: hidden, head };
        let (objective, pass) = (&self.params.objective, &mut self.pass);
        let batch = Batch::new(part.iter().copied());
        match self.guide {
            None => self.network.loss_and_gradients(&batch, objective, Some(&noise), scale, pass, gradients),
            Some(guide) => {
                let guide = (guide, &mut self.guided);
                self.network.guided_loss_and_gradients(&batch, objective, guide, Some(&noise), scale, pass, gradients)
            }
        }
    }

    fn judge(&mut self, part: &[&Example]) -> Judged {
        let loss = self.network.loss(&Batch::new(part.iter().copied()), &self.params.objective, &mut self.pass);
        let (mut right, mut n) = (0, 0);
        let classes = part.iter().flat_map(|example| match &example.target {
            Target::Class(class) => vec![Some(*class)],
            Target::Shares(shares) => vec![Some(likeliest(shares))],
            Target::Tokens(classes) => classes.clone(),
            Target::Labels(_) | Target::Values(_) => Vec::new(),
        });
        for (row, class) in self.pass.outputs().chunks_exact(self.network.outputs()).zip(classes) {
            if let Some(class) = class {
                n += 1;
                right += u64::from(likeliest(row) == class);
            }
        }
        Judged { loss, right, n }
    }

    fn trouble(&mut self) -> Option<Error> {
        self.pass.trouble()
    }

    fn better(one: &Evaluation, other: &Evaluation) -> bool {
        one.beats(other)
    }

    fn fingerprint(&self) -> Result<String> {
        let params = serde_json::to_string(self.params)
            .map_err(|e| Error::internal(format!("write training parameters: {e}")))?;
        let guide = self.guide.map(Guide::fingerprint).unwrap_or_default();
        let device = self.device.noted().unwrap_or_default();
        let second = self.network.second_weight().map_or_else(String::new, |weight| format!(" second {weight}"));
        Ok(format!("{params} {guide} {} {}{second}{device}", self.network.digest(|_| true), self.network.hash()))
    }

    fn describe(example: &Example, hash: &mut Sha256) {
        for window in &example.windows {
            hash.update((window.len() as u64).to_le_bytes());
            window.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        match &example.target {
            Target::Class(class) => hash.update((*class as u64).to_le_bytes()),
            Target::Shares(x) | Target::Labels(x) | Target::Values(x) => {
                x.iter().for_each(|x| hash.update(x.to_le_bytes()))
            }
            Target::Tokens(classes) => {
                classes.iter().for_each(|c| hash.update(c.map_or(u64::MAX, |c| c as u64).to_le_bytes()));
            }
        }
        if let Some(columns) = &example.second {
            hash.update(b"second");
            columns.iter().for_each(|column| hash.update(column.to_le_bytes()));
        }
    }
}

/// A run whose passes are these.
#[cfg(test)]
pub(super) fn fit_through(
    pass: Pass,
    network: Network,
    params: &FinetuneParams,
    data: Data<'_, Example>,
    run: Run<'_>,
) -> Result<Finetuned<Network>> {
    through(pass, network, params, None, data, Seed(3), run)
}

/// The quality of a network, as the loop finds it.
#[cfg(test)]
pub(super) fn evaluation(network: Network, params: &FinetuneParams, examples: &[Example]) -> Evaluation {
    let (pass, guided) = (Pass::default(), Guided::default());
    let mut learner = Encoder { network, params, guide: None, pass, guided, device: Device::Cpu };
    super::evaluate::evaluate(&mut learner, examples, params.pass_tokens)
}
