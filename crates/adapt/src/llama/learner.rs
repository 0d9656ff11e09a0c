//! Generative models as learners of the loop in [`crate::finetune`].

use crate::device::Device;
use crate::encoder::{Gradients, Parameter};
use crate::finetune::{At, Data, Evaluation, Finetuned, Judged, Learner, Optimiser, Pull, Run, Tunable, train};
use crate::llama::batch::{Batch, Example};
use crate::llama::network::LlamaNetwork;
use crate::llama::params::{CheckedLlamaParams, LlamaParams};
use crate::llama::pass::Pass;
use sha2::{Digest, Sha256};
use understudy_core::{Error, Result, Seed};
use understudy_kernels::train::Loss;

/// Fine-tunes a model.
///
/// # Errors
/// `Invalid` when an example does not fit the model, there are none, the loss leaves the finite numbers, or the checkpoint
/// is of another run; `Data` when a checkpoint cannot be read or written.
pub fn fit(
    params: &CheckedLlamaParams,
    network: LlamaNetwork,
    data: Data<'_, Example>,
    seed: Seed,
    run: Run<'_>,
) -> Result<Finetuned<LlamaNetwork>> {
    let params = &params.0;
    let pull = |_: &Parameter| Pull { rate: params.rate, decay: params.weight_decay };
    let optimiser = Optimiser::new(&network, pull, params.clip, 0.0);
    let learner = Generative { network, params, pass: Pass::on(run.device)?, device: run.device };
    train(learner, optimiser, params.pace(), data, seed, run)
}

impl Tunable for LlamaNetwork {
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

struct Generative<'a> {
    network: LlamaNetwork,
    params: &'a LlamaParams,
    pass: Pass,
    device: Device,
}

impl Learner for Generative<'_> {
    type Example = Example;
    type Network = LlamaNetwork;

    fn network(&self) -> &LlamaNetwork {
        &self.network
    }

    fn network_mut(&mut self) -> &mut LlamaNetwork {
        &mut self.network
    }

    fn into_network(self) -> LlamaNetwork {
        self.network
    }

    fn accepts(&self, example: &Example) -> Result<()> {
        let n = example.tokens.len();
        if example.answer == 0 || example.answer >= n {
            return Err(Error::invalid("use the example: it needs a prompt and an answer"));
        }
        if !(example.weight.is_finite() && example.weight >= 0.0) {
            return Err(Error::invalid("use the example: its weight must be a number of at least 0"));
        }
        let most = self.network.positions();
        if n > most {
            return Err(Error::invalid(format!("use the example: it has {n} tokens, more than {most}")));
        }
        match example.tokens.iter().find(|token| **token as usize >= self.network.config().vocabulary) {
            Some(token) => Err(Error::invalid(format!("use the example: the model has no token {token}"))),
            None => Ok(()),
        }
    }

    fn tokens(example: &Example) -> usize {
        example.tokens.len()
    }

    /// What the tokens of its answer count.
    fn weight(&self, example: &Example) -> f64 {
        f64::from(example.weight) * example.answer_tokens() as f64
    }

    fn learn(&mut self, part: &[&Example], _: At, scale: f64, gradients: &mut Gradients) -> Loss {
        self.network.loss_and_gradients(&Batch::new(part.iter().copied()), scale, &mut self.pass, gradients)
    }

    fn judge(&mut self, part: &[&Example]) -> Judged {
        let batch = Batch::new(part.iter().copied());
        let (loss, right) = self.network.loss(&batch, &mut self.pass);
        Judged { loss, right, n: batch.targets() as u64 }
    }

    fn trouble(&mut self) -> Option<Error> {
        self.pass.trouble()
    }

    /// By the loss: the likeliest token of most places is right early on.
    fn better(one: &Evaluation, other: &Evaluation) -> bool {
        one.loss < other.loss
    }

    fn fingerprint(&self) -> Result<String> {
        let params = serde_json::to_string(&(self.params, self.network.lora()))
            .map_err(|e| Error::internal(format!("write training parameters: {e}")))?;
        let mut hash = Sha256::new();
        for parameter in self.network.parameters() {
            let bytes: Vec<u8> = parameter.values().iter().flat_map(|x| x.to_le_bytes()).collect();
            hash.update(&bytes);
        }
        let adapters = understudy_core::hash::hex(&hash.finalize());
        let device = self.device.noted().unwrap_or_default();
        Ok(format!("{params} {} {adapters}{device}", self.network.base_hash()))
    }

    fn describe(example: &Example, hash: &mut Sha256) {
        hash.update([example.tokens.len() as u64, example.answer as u64].map(u64::to_le_bytes).concat());
        example.tokens.iter().for_each(|id| hash.update(id.to_le_bytes()));
        hash.update(example.weight.to_le_bytes());
    }
}
