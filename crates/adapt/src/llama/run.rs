//! The loop: steps of AdamW over shuffled examples, checkpoints, early stopping with the best adapter kept.

use crate::encoder::Gradients;
use crate::finetune::{Ended, Evaluation, Progress, Record, Run};
use crate::llama::batch::{Batch, Example};
use crate::llama::checkpoint;
use crate::llama::network::LlamaNetwork;
use crate::llama::params::{CheckedLlamaParams, LlamaParams};
use crate::llama::pass::Pass;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use understudy_core::{Error, Result, Seed};
use understudy_kernels::train::{AdamW, Loss, Moments};

/// Examples to learn from, and examples that only decide when to stop.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// Examples to learn from.
    pub train: &'a [Example],
    /// Examples that choose the best adapter; may be empty.
    pub held_out: &'a [Example],
}

/// A fine-tuned model and how it came about.
pub struct Adapted {
    /// The model with the best adapter, or the last where nothing was held out.
    pub network: LlamaNetwork,
    /// Each epoch.
    pub history: Vec<Record>,
    /// Mean loss of each step.
    pub losses: Vec<f64>,
    /// Steps done.
    pub steps: u64,
    /// The step the adapter is of.
    pub kept_step: u64,
    /// Why it ended.
    pub ended: Ended,
    /// Time it took, over all resumptions.
    pub elapsed: Duration,
    /// Examples learned from, each epoch anew.
    pub samples: u64,
}

/// Weights that were best so far.
pub(crate) struct Best {
    pub(crate) step: u64,
    pub(crate) evaluation: Evaluation,
    pub(crate) weights: Vec<Vec<f32>>,
}

/// All that changes during a run, beside the adapters.
pub(crate) struct State {
    pub(crate) step: u64,
    pub(crate) moments: Vec<Moments>,
    pub(crate) best: Option<Best>,
    pub(crate) since_best: usize,
    pub(crate) losses: Vec<f64>,
    pub(crate) records: Vec<Record>,
    pub(crate) elapsed_ms: u64,
}

/// Fine-tunes a model.
///
/// # Errors
/// `Invalid` when an example does not fit the model, there are none, the loss leaves the finite numbers, or the checkpoint
/// is of another run; `Data` when a checkpoint cannot be read or written.
pub fn fit<'a>(
    params: &'a CheckedLlamaParams,
    network: LlamaNetwork,
    data: Data<'a>,
    seed: Seed,
    run: Run<'a>,
) -> Result<Adapted> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(run.threads)
        .build()
        .map_err(|e| Error::internal(format!("start the training threads: {e}")))?;
    pool.install(|| Loop::new(&params.0, network, data, seed, run)?.run())
}

struct Loop<'a> {
    params: &'a LlamaParams,
    network: LlamaNetwork,
    data: Data<'a>,
    seed: Seed,
    run: Run<'a>,
    state: State,
    fingerprint: String,
    pass: Pass,
    gradients: Gradients,
    began: Duration,
    written: Duration,
    before: Duration,
    samples: u64,
}

impl<'a> Loop<'a> {
    fn new(params: &'a LlamaParams, network: LlamaNetwork, data: Data<'a>, seed: Seed, run: Run<'a>) -> Result<Self> {
        if data.train.is_empty() {
            return Err(Error::invalid("train: there are no examples to learn from"));
        }
        for (part, examples) in [("example", data.train), ("held-out example", data.held_out)] {
            for (i, example) in examples.iter().enumerate() {
                accepts(&network, example).map_err(|e| e.context(format!("train on {part} {}", i + 1)))?;
            }
        }
        let moments = network.parameters().iter().map(|p| Moments::zeros(p.values().len())).collect();
        let state = State {
            step: 0,
            moments,
            best: None,
            since_best: 0,
            losses: Vec::new(),
            records: Vec::new(),
            elapsed_ms: 0,
        };
        let now = run.clock.monotonic();
        let gradients = Gradients::new(network.parameters());
        let mut this = Self {
            params,
            network,
            data,
            seed,
            run,
            state,
            fingerprint: String::new(),
            pass: Pass::default(),
            gradients,
            began: now,
            written: now,
            before: Duration::ZERO,
            samples: 0,
        };
        if let Some(checkpoints) = this.run.checkpoints {
            this.fingerprint = checkpoint::fingerprint(params, &this.network, [data.train, data.held_out], seed)?;
            checkpoint::read(checkpoints.path, &mut this.network, &mut this.state, &this.fingerprint)?;
            this.before = Duration::from_millis(this.state.elapsed_ms);
        }
        this.network.refresh();
        Ok(this)
    }

    fn steps_per_epoch(&self) -> u64 {
        self.data.train.len().div_ceil(self.params.batch) as u64
    }

    fn steps(&self) -> u64 {
        self.steps_per_epoch() * self.params.epochs as u64
    }

    fn elapsed(&self) -> Duration {
        self.before + self.run.clock.monotonic().saturating_sub(self.began)
    }

    fn run(mut self) -> Result<Adapted> {
        let ended = self.epochs()?;
        self.checkpoint()?;
        let (steps, mut kept_step) = (self.state.step, self.state.step);
        if let Some(best) = self.state.best.take() {
            for (index, weights) in best.weights.iter().enumerate() {
                self.network.values_mut(index).copy_from_slice(weights);
            }
            self.network.refresh();
            kept_step = best.step;
        }
        let (elapsed, state) = (self.elapsed(), self.state);
        let samples = (steps * self.params.batch as u64).min(self.data.train.len() as u64 * self.params.epochs as u64);
        let (history, losses) = (state.records, state.losses);
        Ok(Adapted { network: self.network, history, losses, steps, kept_step, ended, elapsed, samples })
    }

    fn epochs(&mut self) -> Result<Ended> {
        let per_epoch = self.steps_per_epoch();
        while self.state.step < self.steps() {
            if self.exhausted() {
                return Ok(Ended::Early);
            }
            let epoch = usize::try_from(self.state.step / per_epoch).unwrap_or(usize::MAX);
            let order = order(self.data.train.len(), self.seed, epoch);
            let done = usize::try_from(self.state.step % per_epoch).unwrap_or(usize::MAX);
            for batch in order.chunks(self.params.batch).skip(done) {
                let examples: Vec<&Example> = batch.iter().map(|&i| &self.data.train[i]).collect();
                let (loss, gradient_norm) = self.step(&examples)?;
                self.samples += examples.len() as u64;
                self.state.losses.push(loss);
                let closes = self.state.step.is_multiple_of(per_epoch);
                let held_out = if closes { self.close(epoch) } else { None };
                let now = self.run.clock.monotonic();
                if self.run.checkpoints.is_some_and(|c| now.saturating_sub(self.written) >= c.every) {
                    self.checkpoint()?;
                }
                let progress = self.progress(epoch, loss, gradient_norm, held_out);
                if (self.run.progress)(&progress).is_break() {
                    return Ok(Ended::Interrupted);
                }
                if self.params.seconds > 0.0 && self.elapsed().as_secs_f64() >= self.params.seconds {
                    if !closes {
                        self.close(epoch);
                    }
                    return Ok(Ended::Time);
                }
            }
        }
        Ok(if self.exhausted() { Ended::Early } else { Ended::Finished })
    }

    fn exhausted(&self) -> bool {
        self.params.patience > 0 && self.state.since_best >= self.params.patience
    }

    /// One step of the optimiser. Returns the mean loss and the norm of the gradient.
    fn step(&mut self, examples: &[&Example]) -> Result<(f64, f64)> {
        let answers: usize = examples.iter().map(|example| example.answer_tokens()).sum();
        let scale = 1.0 / answers.max(1) as f64;
        self.gradients.clear();
        let mut loss = Loss::default();
        for part in passes(examples, self.params.pass_tokens) {
            let batch = Batch::new(part);
            loss += self.network.loss_and_gradients(&batch, scale, &mut self.pass, &mut self.gradients);
        }
        let (mean, step) = (loss.sum * scale, self.state.step + 1);
        self.gradients.settle();
        let norm = self.gradients.norm();
        if !(mean.is_finite() && norm.is_finite()) {
            return Err(Error::invalid(format!(
                "train: the loss is not finite at step {step}; lower the learning rate (`rate`) or clip more (`clip`)"
            )));
        }
        let params = self.params;
        #[expect(clippy::cast_possible_truncation, reason = "a factor of at most 1")]
        let clip = if params.clip > 0.0 { (params.clip / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 };
        let rate = params.rate * params.schedule.factor(self.done(), params.warmup);
        for (index, moments) in self.state.moments.iter_mut().enumerate() {
            let (weights, grad) = (self.network.values_mut(index), self.gradients.get(index));
            AdamW::default().step(weights, grad, moments, rate, params.weight_decay, clip, step);
        }
        self.state.step = step;
        self.network.refresh();
        Ok((mean, norm))
    }

    /// The share of the run that is behind when this step's rate applies.
    fn done(&self) -> f64 {
        let by_steps = (self.state.step as f64 + 0.5) / self.steps() as f64;
        if self.params.seconds > 0.0 {
            by_steps.max(self.elapsed().as_secs_f64() / self.params.seconds)
        } else {
            by_steps
        }
    }

    /// Ends an epoch: evaluates, keeps the best adapter, writes the history.
    fn close(&mut self, epoch: usize) -> Option<Evaluation> {
        let step = self.state.step;
        let first = usize::try_from(self.steps_per_epoch() * epoch as u64).unwrap_or(usize::MAX);
        let of_epoch = self.state.losses.get(first..).unwrap_or_default();
        let loss = of_epoch.iter().sum::<f64>() / of_epoch.len().max(1) as f64;
        let mut held_out = None;
        if !self.data.held_out.is_empty() {
            let evaluation = evaluate(&self.network, self.data.held_out, self.params.pass_tokens, &mut self.pass);
            if self.state.best.as_ref().is_none_or(|best| evaluation.loss < best.evaluation.loss) {
                let weights = self.network.parameters().iter().map(|p| p.values().to_vec()).collect();
                self.state.best = Some(Best { step, evaluation, weights });
                self.state.since_best = 0;
            } else {
                self.state.since_best += 1;
            }
            held_out = Some(evaluation);
        }
        self.state.records.push(Record { step, epoch, loss, held_out });
        held_out
    }

    fn checkpoint(&mut self) -> Result<()> {
        let Some(checkpoints) = self.run.checkpoints else { return Ok(()) };
        self.state.elapsed_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        checkpoint::write(checkpoints.path, &self.network, &self.state, &self.fingerprint)?;
        self.written = self.run.clock.monotonic();
        Ok(())
    }

    fn progress(&self, epoch: usize, loss: f64, gradient_norm: f64, held_out: Option<Evaluation>) -> Progress {
        let (step, steps) = (self.state.step, self.steps());
        let seconds = self.run.clock.monotonic().saturating_sub(self.began).as_secs_f64();
        let samples_per_s = if seconds > 0.0 { self.samples as f64 / seconds } else { 0.0 };
        let left = (steps - step) as f64 * self.params.batch as f64 / samples_per_s.max(1e-9);
        let mut left = Duration::try_from_secs_f64(if samples_per_s > 0.0 { left } else { 0.0 }).unwrap_or_default();
        if self.params.seconds > 0.0 {
            let budget = Duration::try_from_secs_f64(self.params.seconds).unwrap_or(Duration::MAX);
            left = left.min(budget.saturating_sub(self.elapsed()));
        }
        Progress { step, steps, epoch, loss, gradient_norm, samples_per_s, left, held_out }
    }
}

/// Says whether a model can learn from an example.
fn accepts(network: &LlamaNetwork, example: &Example) -> Result<()> {
    let n = example.tokens.len();
    if example.answer == 0 || example.answer >= n {
        return Err(Error::invalid("use the example: it needs a prompt and an answer"));
    }
    if n > network.positions() {
        return Err(Error::invalid(format!("use the example: it has {n} tokens, more than {}", network.positions())));
    }
    match example.tokens.iter().find(|token| **token as usize >= network.config().vocabulary) {
        Some(token) => Err(Error::invalid(format!("use the example: the model has no token {token}"))),
        None => Ok(()),
    }
}

/// Mean loss of the answers' tokens and the share of them that are the likeliest ones.
pub(crate) fn evaluate(network: &LlamaNetwork, examples: &[Example], tokens: usize, pass: &mut Pass) -> Evaluation {
    let all: Vec<&Example> = examples.iter().collect();
    let (mut loss, mut right) = (Loss::default(), 0);
    for part in passes(&all, tokens) {
        let (of_part, hits) = network.loss(&Batch::new(part), pass);
        loss += of_part;
        right += hits;
    }
    let n = loss.weight.max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let count = loss.weight as u64;
    Evaluation { loss: loss.sum / n, accuracy: Some(right as f64 / n), n: count }
}

/// The order of the examples in an epoch: a function of seed and epoch, so that a resumed run finds its place.
fn order(n: usize, seed: Seed, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.derive(&format!("order {epoch}")).0));
    order
}

/// Cuts a batch into passes of at most `tokens` tokens, each with at least one example.
pub(crate) fn passes<'e>(batch: &[&'e Example], tokens: usize) -> Vec<Vec<&'e Example>> {
    let (mut passes, mut used): (Vec<Vec<&Example>>, usize) = (Vec::new(), 0);
    for example in batch {
        let n = example.tokens.len();
        if passes.is_empty() || used + n > tokens {
            passes.push(Vec::new());
            used = 0;
        }
        used += n;
        passes.last_mut().expect("one was just added when there was none").push(example);
    }
    passes
}
