//! What a run needs and what it tells.

use crate::device::Device;
use crate::finetune::evaluate::Evaluation;
use serde::{Deserialize, Serialize};
use std::{ops::ControlFlow, path::Path, time::Duration};
use understudy_core::Clock;

/// Examples to learn from, and examples that only decide when to stop.
#[derive(Debug)]
pub struct Data<'a, E> {
    /// Examples to learn from.
    pub train: &'a [E],
    /// Examples that choose the best weights; may be empty.
    pub held_out: &'a [E],
}

impl<E> Clone for Data<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Data<'_, E> {}

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
    /// Where passes are computed.
    pub device: Device,
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
pub struct Finetuned<N> {
    /// The network with the best weights, or the last where nothing was held out.
    pub network: N,
    /// Each epoch.
    pub history: Vec<Record>,
    /// Mean loss of each step.
    pub losses: Vec<f64>,
    /// Steps done.
    pub steps: u64,
    /// The step the weights are of.
    pub kept_step: u64,
    /// Why it ended.
    pub ended: Ended,
    /// Time it took, over all resumptions.
    pub elapsed: Duration,
    /// Examples learned from, each epoch anew.
    pub samples: u64,
}
