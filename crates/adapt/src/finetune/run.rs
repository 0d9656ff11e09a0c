//! The loop: steps of the optimiser over shuffled examples, checkpoints, early stopping with the best weights kept.

use crate::encoder::{Gradients, Parameter};
use crate::finetune::batches::passes;
use crate::finetune::checkpoint;
use crate::finetune::evaluate::{Evaluation, evaluate};
use crate::finetune::learner::{At, Learner, Tunable};
use crate::finetune::optimiser::{Optimiser, diverged};
use crate::finetune::pace::Pace;
use crate::finetune::progress::{Data, Ended, Finetuned, Progress, Record, Run};
use std::time::Duration;
use understudy_core::{Error, Result, Seed};
use understudy_kernels::train::Loss;

/// Weights that were best so far.
#[derive(Clone)]
pub(super) struct Best {
    pub(super) step: u64,
    pub(super) evaluation: Evaluation,
    pub(super) weights: Vec<Vec<f32>>,
}

/// All that changes during a run.
pub(super) struct State {
    pub(super) optimiser: Optimiser,
    pub(super) best: Option<Best>,
    /// Evaluations since the best.
    pub(super) since_best: usize,
    /// Mean loss of each step.
    pub(super) losses: Vec<f64>,
    pub(super) records: Vec<Record>,
    pub(super) elapsed_ms: u64,
}

/// Trains what a learner holds, on threads of its own: the calling thread may belong to a pool that other kernels keep at
/// a single one.
///
/// # Errors
/// `Invalid` when an example does not fit the network, there are none, the loss leaves the finite numbers, or the
/// checkpoint is of another run; `Data` when a checkpoint cannot be read or written.
pub(crate) fn train<L: Learner + Send>(
    learner: L,
    optimiser: Optimiser,
    pace: Pace,
    data: Data<'_, L::Example>,
    seed: Seed,
    run: Run<'_>,
) -> Result<Finetuned<L::Network>>
where
    L::Example: Sync,
    L::Network: Send,
{
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(run.threads)
        .build()
        .map_err(|e| Error::internal(format!("start the training threads: {e}")))?;
    pool.install(|| Loop::new(learner, optimiser, pace, data, seed, run)?.run())
}

struct Loop<'d, 'r, L: Learner> {
    learner: L,
    pace: Pace,
    data: Data<'d, L::Example>,
    seed: Seed,
    run: Run<'r>,
    state: State,
    fingerprint: String,
    gradients: Gradients,
    began: Duration,
    written: Duration,
    /// Time of earlier parts of the run.
    before: Duration,
    /// Examples since this part began.
    samples: u64,
}

impl<'d, 'r, L: Learner> Loop<'d, 'r, L> {
    fn new(
        learner: L,
        optimiser: Optimiser,
        pace: Pace,
        data: Data<'d, L::Example>,
        seed: Seed,
        run: Run<'r>,
    ) -> Result<Self> {
        if data.train.is_empty() {
            return Err(Error::invalid("train: there are no examples to learn from"));
        }
        for (part, examples) in [("example", data.train), ("held-out example", data.held_out)] {
            for (i, example) in examples.iter().enumerate() {
                learner.accepts(example).map_err(|e| e.context(format!("train on {part} {}", i + 1)))?;
            }
        }
        let state =
            State { optimiser, best: None, since_best: 0, losses: Vec::new(), records: Vec::new(), elapsed_ms: 0 };
        let now = run.clock.monotonic();
        let gradients = Gradients::new(learner.network().parameters());
        let mut this = Self {
            learner,
            pace,
            data,
            seed,
            run,
            state,
            fingerprint: String::new(),
            gradients,
            began: now,
            written: now,
            before: Duration::ZERO,
            samples: 0,
        };
        if let Some(checkpoints) = this.run.checkpoints {
            this.fingerprint = checkpoint::fingerprint(&this.learner, &data, seed)?;
            checkpoint::read(checkpoints.path, this.learner.network_mut(), &mut this.state, &this.fingerprint)?;
            this.before = Duration::from_millis(this.state.elapsed_ms);
        }
        this.learner.network_mut().refresh();
        Ok(this)
    }

    fn steps_per_epoch(&self) -> u64 {
        self.data.train.len().div_ceil(self.pace.batch) as u64
    }

    fn steps(&self) -> u64 {
        self.steps_per_epoch() * self.pace.epochs as u64
    }

    fn elapsed(&self) -> Duration {
        self.before + self.run.clock.monotonic().saturating_sub(self.began)
    }

    fn run(mut self) -> Result<Finetuned<L::Network>> {
        let ended = self.epochs()?;
        self.checkpoint()?;
        let steps = self.state.optimiser.step;
        let network = self.learner.network_mut();
        let kept_step = match self.state.best.take() {
            Some(best) => {
                for (index, weights) in best.weights.iter().enumerate().filter(|(_, w)| !w.is_empty()) {
                    network.values_mut(index).copy_from_slice(weights);
                }
                network.refresh();
                best.step
            }
            None => {
                self.state.optimiser.swap(network);
                steps
            }
        };
        let elapsed = self.elapsed();
        // The last batch of an epoch may be smaller.
        let per_epoch = self.steps_per_epoch();
        let samples = steps / per_epoch * self.data.train.len() as u64 + steps % per_epoch * self.pace.batch as u64;
        let State { records: history, losses, .. } = self.state;
        let network = self.learner.into_network();
        Ok(Finetuned { network, history, losses, steps, kept_step, ended, elapsed, samples })
    }

    fn epochs(&mut self) -> Result<Ended> {
        let per_epoch = self.steps_per_epoch();
        while self.state.optimiser.step < self.steps() {
            if self.exhausted() {
                return Ok(Ended::Early);
            }
            let epoch = usize::try_from(self.state.optimiser.step / per_epoch).unwrap_or(usize::MAX);
            let order = self.learner.order(self.data.train, self.seed, epoch);
            let done = usize::try_from(self.state.optimiser.step % per_epoch).unwrap_or(usize::MAX);
            for batch in order.chunks(self.pace.batch).skip(done) {
                let examples: Vec<&L::Example> = batch.iter().map(|&i| &self.data.train[i]).collect();
                let (loss, gradient_norm) = self.step(&examples)?;
                self.samples += examples.len() as u64;
                self.state.losses.push(loss);
                let held_out =
                    if self.state.optimiser.step.is_multiple_of(per_epoch) { self.close(epoch)? } else { None };
                let now = self.run.clock.monotonic();
                if self.run.checkpoints.is_some_and(|c| now.saturating_sub(self.written) >= c.every) {
                    self.checkpoint()?;
                }
                let progress = self.progress(epoch, loss, gradient_norm, held_out);
                if (self.run.progress)(&progress).is_break() {
                    return Ok(Ended::Interrupted);
                }
                if self.pace.seconds > 0.0 && self.elapsed().as_secs_f64() >= self.pace.seconds {
                    if !self.state.optimiser.step.is_multiple_of(per_epoch) {
                        // The weights of a cut epoch count too.
                        self.close(epoch)?;
                    }
                    return Ok(Ended::Time);
                }
            }
        }
        Ok(if self.exhausted() { Ended::Early } else { Ended::Finished })
    }

    /// True when patience has run out.
    fn exhausted(&self) -> bool {
        self.pace.patience > 0 && self.state.since_best >= self.pace.patience
    }

    /// One step of the optimiser. Returns the mean loss and the norm of the gradient.
    fn step(&mut self, examples: &[&L::Example]) -> Result<(f64, f64)> {
        let step = self.state.optimiser.step;
        let weight: f64 = examples.iter().map(|example| self.learner.weight(example)).sum();
        let scale = 1.0 / weight.max(f64::MIN_POSITIVE);
        self.gradients.clear();
        let mut loss = Loss::default();
        for (pass, part) in (0..).zip(passes(examples, L::tokens, self.pace.pass_tokens)) {
            // A batch of tokens none of which counts teaches nothing.
            if weight > 0.0 {
                let at = At { seed: self.seed, step, pass };
                loss += self.learner.learn(&part, at, scale, &mut self.gradients);
            }
        }
        self.untroubled()?;
        let mean = loss.sum * scale;
        if !mean.is_finite() {
            return Err(diverged(step + 1, "the loss"));
        }
        let factor = self.pace.schedule.factor(self.done(step), self.pace.warmup);
        let norm = self.state.optimiser.update(self.learner.network_mut(), &mut self.gradients, factor)?;
        Ok((mean, norm))
    }

    /// The share of the run that is behind when this step's rate applies.
    fn done(&self, step: u64) -> f64 {
        let by_steps = (step as f64 + 0.5) / self.steps() as f64;
        if self.pace.seconds > 0.0 { by_steps.max(self.elapsed().as_secs_f64() / self.pace.seconds) } else { by_steps }
    }

    /// Ends an epoch: evaluates, keeps the best weights, writes the history.
    fn close(&mut self, epoch: usize) -> Result<Option<Evaluation>> {
        let step = self.state.optimiser.step;
        let first = usize::try_from(self.steps_per_epoch() * epoch as u64).unwrap_or(usize::MAX);
        let of_epoch = self.state.losses.get(first..).unwrap_or_default();
        let loss = of_epoch.iter().sum::<f64>() / of_epoch.len().max(1) as f64;
        let mut held_out = None;
        if !self.data.held_out.is_empty() {
            self.state.optimiser.swap(self.learner.network_mut());
            let evaluation = evaluate(&mut self.learner, self.data.held_out, self.pace.pass_tokens);
            self.untroubled()?;
            if self.state.best.as_ref().is_none_or(|best| L::better(&evaluation, &best.evaluation)) {
                let weights = |p: &Parameter| if p.trained() { p.values().to_vec() } else { Vec::new() };
                let weights = self.learner.network().parameters().iter().map(weights).collect();
                self.state.best = Some(Best { step, evaluation, weights });
                self.state.since_best = 0;
            } else {
                self.state.since_best += 1;
            }
            self.state.optimiser.swap(self.learner.network_mut());
            held_out = Some(evaluation);
        }
        self.state.records.push(Record { step, epoch, loss, held_out });
        Ok(held_out)
    }

    /// Ends the run when the place where it computes is in trouble.
    fn untroubled(&mut self) -> Result<()> {
        self.learner.trouble().map_or(Ok(()), Err)
    }

    fn checkpoint(&mut self) -> Result<()> {
        let Some(checkpoints) = self.run.checkpoints else { return Ok(()) };
        self.state.elapsed_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        checkpoint::write(checkpoints.path, self.learner.network(), &self.state, &self.fingerprint)?;
        self.written = self.run.clock.monotonic();
        Ok(())
    }

    fn progress(&self, epoch: usize, loss: f64, gradient_norm: f64, held_out: Option<Evaluation>) -> Progress {
        let (step, steps) = (self.state.optimiser.step, self.steps());
        let seconds = self.run.clock.monotonic().saturating_sub(self.began).as_secs_f64();
        let samples_per_s = if seconds > 0.0 { self.samples as f64 / seconds } else { 0.0 };
        let left = (steps - step) as f64 * self.pace.batch as f64 / samples_per_s.max(1e-9);
        let mut left = Duration::try_from_secs_f64(if samples_per_s > 0.0 { left } else { 0.0 }).unwrap_or_default();
        if self.pace.seconds > 0.0 {
            let budget = Duration::try_from_secs_f64(self.pace.seconds).unwrap_or(Duration::MAX);
            left = left.min(budget.saturating_sub(self.elapsed()));
        }
        Progress { step, steps, epoch, loss, gradient_norm, samples_per_s, left, held_out }
    }
}
