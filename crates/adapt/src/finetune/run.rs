//! The loop.

use crate::encoder::{Batch, Example, Gradients, Guide, Guided, Network, Noise, Objective, Pass};
use crate::finetune::batches::{grouped, order, passes};
use crate::finetune::checkpoint;
use crate::finetune::evaluate::{Evaluation, evaluate};
use crate::finetune::optimiser::{Optimiser, diverged};
use crate::finetune::params::{CheckedFinetuneParams, FinetuneParams};
use serde::{Deserialize, Serialize};
use std::{ops::ControlFlow, path::Path, time::Duration};
use understudy_core::{Clock, Error, Result, Seed};
use understudy_kernels::train::Loss;

/// Examples to learn from, and examples that only decide when to stop.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// Examples to learn from.
    pub train: &'a [Example],
    /// Examples that choose the best weights; may be empty.
    pub held_out: &'a [Example],
    /// A teacher to follow beside the examples' targets.
    pub guide: Option<&'a Guide>,
}

/// Where and how often the state is written.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoints<'a> {
    /// The file. One of the same run is resumed from; it stays after the end.
    pub path: &'a Path,
    /// Time between two writes.
    pub every: Duration,
}

/// What a run needs beside parameters and data.
pub struct Run<'a> {
    /// Time, for checkpoints, budget and progress.
    pub clock: &'a dyn Clock,
    /// Threads; 0 for as many as there are cores. The result does not depend on it.
    pub threads: usize,
    /// Is told after every step; may end the run, which then keeps what it has.
    pub progress: &'a mut (dyn FnMut(&Progress) -> ControlFlow<()> + Send),
    /// Where the state is kept.
    pub checkpoints: Option<Checkpoints<'a>>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run, if nothing ends it before.
    pub steps: u64,
    /// Epoch of this step, from 0.
    pub epoch: usize,
    /// Mean loss of this step's examples.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Examples per second since the run (or its resumption) began.
    pub samples_per_s: f64,
    /// Time left at this speed, if nothing ends the run before.
    pub left: Duration,
    /// Quality on the held-out examples, when they were just evaluated.
    pub held_out: Option<Evaluation>,
}

/// One epoch of the history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps done at its end.
    pub step: u64,
    /// Which epoch, from 0.
    pub epoch: usize,
    /// Mean loss of its steps.
    pub loss: f64,
    /// Quality on the held-out examples at its end.
    pub held_out: Option<Evaluation>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All epochs are done.
    Finished,
    /// The held-out examples got no better.
    Early,
    /// The time is up.
    Time,
    /// The progress callback said so.
    Interrupted,
}

/// A fine-tuned network and how it came about.
pub struct Finetuned {
    /// The network with the best weights, or the last where nothing was held out.
    pub network: Network,
    /// Each epoch.
    pub history: Vec<Record>,
    /// Steps done.
    pub steps: u64,
    /// The step the weights are of.
    pub kept_step: u64,
    /// Why it ended.
    pub ended: Ended,
    /// Time it took, over all resumptions.
    pub elapsed: Duration,
}

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
    /// Sum of the mean losses of this epoch's steps so far.
    pub(super) loss: f64,
    pub(super) records: Vec<Record>,
    pub(super) elapsed_ms: u64,
}

impl CheckedFinetuneParams {
    /// Fine-tunes a network.
    ///
    /// # Errors
    /// `Invalid` when an example does not fit the network, there are none, the loss leaves the finite numbers, or the
    /// checkpoint is of another run; `Data` when a checkpoint cannot be read or written.
    pub fn fit<'a>(&'a self, network: Network, data: Data<'a>, seed: Seed, run: Run<'a>) -> Result<Finetuned> {
        // A pool of its own: the calling thread may belong to one that other kernels keep at a single thread.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(run.threads)
            .build()
            .map_err(|e| Error::internal(format!("start the training threads: {e}")))?;
        pool.install(|| Loop::new(&self.0, network, data, seed, run)?.run())
    }
}

struct Loop<'a> {
    params: &'a FinetuneParams,
    network: Network,
    data: Data<'a>,
    seed: Seed,
    run: Run<'a>,
    state: State,
    fingerprint: String,
    pass: Pass,
    guided: Guided,
    gradients: Gradients,
    began: Duration,
    written: Duration,
    /// Time of earlier parts of the run.
    before: Duration,
    /// Examples since this part began.
    samples: u64,
}

impl<'a> Loop<'a> {
    fn new(params: &'a FinetuneParams, network: Network, data: Data<'a>, seed: Seed, run: Run<'a>) -> Result<Self> {
        if data.train.is_empty() {
            return Err(Error::invalid("train: there are no examples to learn from"));
        }
        for (part, examples) in [("example", data.train), ("held-out example", data.held_out)] {
            for (i, example) in examples.iter().enumerate() {
                let context = || format!("train on {part} {}", i + 1);
                network.accepts(example, &params.objective).map_err(|e| e.context(context()))?;
            }
        }
        if let Some(guide) = data.guide {
            guide.fits(&network)?;
        }
        let optimiser = Optimiser::new(&network, params);
        let state = State { optimiser, best: None, since_best: 0, loss: 0.0, records: Vec::new(), elapsed_ms: 0 };
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
            guided: Guided::default(),
            gradients,
            began: now,
            written: now,
            before: Duration::ZERO,
            samples: 0,
        };
        if let Some(checkpoints) = this.run.checkpoints {
            this.fingerprint = checkpoint::fingerprint(params, &this.network, &data, seed)?;
            checkpoint::read(checkpoints.path, &mut this.network, &mut this.state, &this.fingerprint)?;
            this.before = Duration::from_millis(this.state.elapsed_ms);
        }
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

    fn run(mut self) -> Result<Finetuned> {
        let ended = self.epochs()?;
        self.checkpoint()?;
        let steps = self.state.optimiser.step;
        let kept_step = match self.state.best.take() {
            Some(best) => {
                for (index, weights) in best.weights.iter().enumerate().filter(|(_, w)| !w.is_empty()) {
                    self.network.values_mut(index).copy_from_slice(weights);
                }
                self.network.refresh();
                best.step
            }
            None => {
                self.state.optimiser.swap(&mut self.network);
                steps
            }
        };
        let elapsed = self.elapsed();
        Ok(Finetuned { network: self.network, history: self.state.records, steps, kept_step, ended, elapsed })
    }

    fn epochs(&mut self) -> Result<Ended> {
        let per_epoch = self.steps_per_epoch();
        while self.state.optimiser.step < self.steps() {
            if self.exhausted() {
                return Ok(Ended::Early);
            }
            let epoch = usize::try_from(self.state.optimiser.step / per_epoch).unwrap_or(usize::MAX);
            let order = match self.params.objective {
                Objective::Contrast { together, .. } => grouped(self.data.train, together, self.seed, epoch),
                _ => order(self.data.train.len(), self.seed, epoch),
            };
            let done = usize::try_from(self.state.optimiser.step % per_epoch).unwrap_or(usize::MAX);
            for batch in order.chunks(self.params.batch).skip(done) {
                let examples: Vec<&Example> = batch.iter().map(|&i| &self.data.train[i]).collect();
                let (loss, gradient_norm) = self.step(&examples)?;
                self.samples += examples.len() as u64;
                self.state.loss += loss;
                let held_out =
                    if self.state.optimiser.step.is_multiple_of(per_epoch) { self.close(epoch) } else { None };
                let now = self.run.clock.monotonic();
                if self.run.checkpoints.is_some_and(|c| now.saturating_sub(self.written) >= c.every) {
                    self.checkpoint()?;
                }
                let progress = self.progress(epoch, loss, gradient_norm, held_out);
                if (self.run.progress)(&progress).is_break() {
                    return Ok(Ended::Interrupted);
                }
                if self.params.seconds > 0.0 && self.elapsed().as_secs_f64() >= self.params.seconds {
                    if !self.state.optimiser.step.is_multiple_of(per_epoch) {
                        // The weights of a cut epoch count too.
                        self.close(epoch);
                    }
                    return Ok(Ended::Time);
                }
            }
        }
        Ok(if self.exhausted() { Ended::Early } else { Ended::Finished })
    }

    /// True when patience has run out.
    fn exhausted(&self) -> bool {
        self.params.patience > 0 && self.state.since_best >= self.params.patience
    }

    /// One step of the optimiser. Returns the mean loss and the norm of the gradient.
    fn step(&mut self, examples: &[&Example]) -> Result<(f64, f64)> {
        let step = self.state.optimiser.step;
        let objective = &self.params.objective;
        let weight: f64 = examples.iter().map(|example| objective.weight(&example.target)).sum();
        let scale = 1.0 / weight.max(f64::MIN_POSITIVE);
        self.gradients.clear();
        let mut loss = Loss::default();
        for (pass, part) in passes(examples, self.params.pass_tokens).into_iter().enumerate() {
            let noise = Noise {
                seed: self.seed.derive("dropout").0,
                step,
                pass: pass as u64,
                hidden: self.params.dropout,
                attention: self.params.dropout,
                head: self.params.head_dropout,
            };
            let batch = Batch::new(part);
            let (pass, gradients) = (&mut self.pass, &mut self.gradients);
            // A batch of tokens none of which counts teaches nothing.
            if weight > 0.0 {
                let network = &self.network;
                loss += match self.data.guide {
                    None => network.loss_and_gradients(&batch, objective, Some(&noise), scale, pass, gradients),
                    Some(guide) => {
                        let guide = (guide, &mut self.guided);
                        network.guided_loss_and_gradients(
                            &batch,
                            objective,
                            guide,
                            Some(&noise),
                            scale,
                            pass,
                            gradients,
                        )
                    }
                };
            }
        }
        let mean = loss.sum * scale;
        if !mean.is_finite() {
            return Err(diverged(step + 1, "the loss"));
        }
        let done = self.done(step);
        let factor = self.params.schedule.factor(done, self.params.warmup);
        let norm = self.state.optimiser.update(&mut self.network, &mut self.gradients, self.params, factor)?;
        Ok((mean, norm))
    }

    /// The share of the run that is behind when this step's rate applies.
    fn done(&self, step: u64) -> f64 {
        let by_steps = (step as f64 + 0.5) / self.steps() as f64;
        if self.params.seconds > 0.0 {
            by_steps.max(self.elapsed().as_secs_f64() / self.params.seconds)
        } else {
            by_steps
        }
    }

    /// Ends an epoch: evaluates, keeps the best weights, writes the history.
    fn close(&mut self, epoch: usize) -> Option<Evaluation> {
        let step = self.state.optimiser.step;
        let in_epoch = step - self.steps_per_epoch() * epoch as u64;
        let loss = self.state.loss / in_epoch.max(1) as f64;
        self.state.loss = 0.0;
        let mut held_out = None;
        if !self.data.held_out.is_empty() {
            self.state.optimiser.swap(&mut self.network);
            let (params, held) = (self.params, self.data.held_out);
            let evaluation = evaluate(&self.network, held, &params.objective, params.pass_tokens, &mut self.pass);
            if self.state.best.as_ref().is_none_or(|best| evaluation.beats(&best.evaluation)) {
                let weights =
                    |p: &crate::encoder::Parameter| if p.trained() { p.values().to_vec() } else { Vec::new() };
                let weights = self.network.parameters().iter().map(weights).collect();
                self.state.best = Some(Best { step, evaluation, weights });
                self.state.since_best = 0;
            } else {
                self.state.since_best += 1;
            }
            self.state.optimiser.swap(&mut self.network);
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
        let (step, steps) = (self.state.optimiser.step, self.steps());
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
