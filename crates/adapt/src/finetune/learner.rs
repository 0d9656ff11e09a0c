//! What the loop asks of what it trains.

use crate::encoder::{Gradients, Parameter};
use crate::finetune::batches::order;
use crate::finetune::evaluate::Evaluation;
use sha2::Sha256;
use understudy_core::{Error, Result, Seed};
use understudy_kernels::train::Loss;

/// Numbers that an optimiser changes.
pub trait Tunable {
    /// All of them, in a fixed order; those that are not trained stay as they are.
    fn parameters(&self) -> &[Parameter];

    /// The numbers of one parameter, to change them.
    fn values_mut(&mut self, index: usize) -> &mut [f32];

    /// Brings what is derived from the numbers up to date; called after every change.
    fn refresh(&mut self);
}

/// Where a pass stands: what its dropout is drawn from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) seed: Seed,
    /// Steps done before this one.
    pub(crate) step: u64,
    /// Number of the pass within the step.
    pub(crate) pass: u64,
}

/// What a network did right on some examples.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Judged {
    pub(crate) loss: Loss,
    /// Texts or tokens whose likeliest class is the right one.
    pub(crate) right: u64,
    /// Texts or tokens that have a right class.
    pub(crate) n: u64,
}

/// A network with what it learns by. The loop knows no more of it than this.
pub(crate) trait Learner {
    /// A text with what is to come out.
    type Example;
    /// What is trained.
    type Network: Tunable;

    fn network(&self) -> &Self::Network;

    fn network_mut(&mut self) -> &mut Self::Network;

    fn into_network(self) -> Self::Network;

    /// Checks that an example can be learned from.
    fn accepts(&self, example: &Self::Example) -> Result<()>;

    /// Tokens of an example: what decides how many pass through the network together.
    fn tokens(example: &Self::Example) -> usize;

    /// How much an example counts in a mean.
    fn weight(&self, example: &Self::Example) -> f64;

    /// The order of the examples in an epoch: a function of seed and epoch alone.
    fn order(&self, examples: &[Self::Example], seed: Seed, epoch: usize) -> Vec<usize> {
        order(examples.len(), seed, epoch)
    }

    /// The loss of a pass; adds the gradient of `scale` times its sum.
    fn learn(&mut self, part: &[&Self::Example], at: At, scale: f64, gradients: &mut Gradients) -> Loss;

    /// The same without learning from it.
    fn judge(&mut self, part: &[&Self::Example]) -> Judged;

    /// What went wrong where it computes since this was asked last.
    fn trouble(&mut self) -> Option<Error> {
        None
    }

    /// True when the first is better.
    fn better(one: &Evaluation, other: &Evaluation) -> bool;

    /// Everything but examples and seed that decides the result, before the first step.
    fn fingerprint(&self) -> Result<String>;

    /// The same of an example.
    fn describe(example: &Self::Example, hash: &mut Sha256);
}
