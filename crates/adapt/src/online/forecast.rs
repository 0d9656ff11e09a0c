//! What would happen if we started today: a recording of the large model's answers as a stream, in a random order,
//! from nothing. The recording is opened only where the student asks.

use super::{Audits, CheckedOnlineParams, Decision, Fixed, Online, Reason};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use understudy_core::{Error, Result, Seed};

/// A recorded request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Embedding of its text, of unit length.
    pub embedding: Vec<f32>,
    /// What the large model answered.
    pub large: String,
    /// The right answer, where it is known. Nothing is learnt from it.
    pub gold: Option<String>,
}

/// A recording, and the embeddings of its answers read as texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recording {
    /// The requests.
    pub requests: Vec<Request>,
    /// Embedding of each answer's name.
    pub names: BTreeMap<String, Vec<f32>>,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Why the large model was asked; `None` when the student answered.
    pub asked: Option<Reason>,
    /// Whether the answer given is the large model's.
    pub agrees: bool,
    /// Whether the answer given is right, where that is known.
    pub right: Option<bool>,
    /// Whether the large model's would have been.
    pub large_right: Option<bool>,
}

/// A whole stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// The requests, in the order in which they came.
    pub steps: Vec<Step>,
    /// What the audits found.
    pub audits: Audits,
}

/// Who answers in a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// The student with its own threshold.
    Online(CheckedOnlineParams),
    /// A linear model that is fitted after every `every` requests, kept from a probability of `threshold` on.
    Fixed {
        /// Probability from which an answer is kept.
        threshold: f64,
        /// Requests between fits.
        every: usize,
    },
}

impl Recording {
    /// A random order of the requests.
    #[must_use]
    pub fn order(&self, seed: Seed) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.requests.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.derive("order").0));
        order
    }

    /// Runs the requests at `order` past `policy`, from nothing. `done` is called after each.
    ///
    /// # Errors
    /// `Invalid` when there are no requests, or their embeddings differ in length or are not finite.
    ///
    /// # Panics
    /// When `order` names a request that does not exist.
    pub fn run(&self, policy: Policy, order: &[usize], seed: Seed, mut done: impl FnMut()) -> Result<Stream> {
        let Some(first) = order.first() else {
            return Err(Error::invalid("run stream: there are no requests"));
        };
        let dimensions = self.requests[*first].embedding.len();
        let mut steps = Vec::with_capacity(order.len());
        let audits = match policy {
            Policy::Online(params) => {
                let mut online = Online::new(params, dimensions, seed);
                for request in order.iter().map(|&i| &self.requests[i]) {
                    let step = match online.observe(&request.embedding)? {
                        Decision::Keep { answer, .. } => request.step(None, answer),
                        Decision::Ask(reason) => {
                            let name = self.names.get(&request.large).map(Vec::as_slice);
                            online.learn(&request.large, name)?;
                            request.step(Some(reason), &request.large)
                        }
                    };
                    steps.push(step);
                    done();
                }
                online.audits()
            }
            Policy::Fixed { threshold, every } => {
                let mut fixed = Fixed::new(threshold, every);
                for (at, request) in order.iter().map(|&i| &self.requests[i]).enumerate() {
                    let step = fixed.observe(&request.embedding)?.map(|answer| request.step(None, answer));
                    steps.push(step.unwrap_or_else(|| {
                        fixed.learn(&request.large);
                        let reason = if at < every { Reason::Cold } else { Reason::Unsure };
                        request.step(Some(reason), &request.large)
                    }));
                    done();
                }
                Audits::default()
            }
        };
        Ok(Stream { steps, audits })
    }
}

impl Request {
    /// The step of a request that is kept with `answer`.
    #[must_use]
    pub fn kept(&self, answer: &str) -> Step {
        self.step(None, answer)
    }

    /// The step of a request that the large model answers.
    #[must_use]
    pub fn asked(&self) -> Step {
        self.step(Some(Reason::Unsure), &self.large)
    }

    fn step(&self, asked: Option<Reason>, answer: &str) -> Step {
        let right = |answer: &str| self.gold.as_deref().map(|gold| gold == answer);
        Step { asked, agrees: answer == self.large, right: right(answer), large_right: right(&self.large) }
    }
}

/// Figures of a stream or a stretch of it. Shares in [0, 1]; `None` where nothing was to be counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally {
    /// Requests.
    pub n: usize,
    /// Share answered by the large model, audits included.
    pub calls: f64,
    /// Share of audits.
    pub audits: f64,
    /// Share of the kept answers that are the large model's too.
    pub agreement: Option<f64>,
    /// Share of all requests that were answered otherwise than the large model would have.
    pub disagreement: f64,
    /// Share of right answers, over the requests whose right answer is known.
    pub accuracy: Option<f64>,
    /// The same, had the large model answered them all.
    pub accuracy_large: Option<f64>,
}

impl Tally {
    /// Counts.
    #[must_use]
    pub fn new(steps: &[Step]) -> Self {
        let count = |wanted: &dyn Fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let n = steps.len();
        let (asked, known) = (count(&|s| s.asked.is_some()), count(&|s| s.right.is_some()));
        Self {
            n,
            calls: share(asked, n).unwrap_or(0.0),
            audits: share(count(&|s| s.asked == Some(Reason::Audit)), n).unwrap_or(0.0),
            agreement: share(count(&|s| s.asked.is_none() && s.agrees), n - asked),
            disagreement: share(count(&|s| !s.agrees), n).unwrap_or(0.0),
            accuracy: share(count(&|s| s.right == Some(true)), known),
            accuracy_large: share(count(&|s| s.large_right == Some(true)), known),
        }
    }

    /// Accuracy lost against always asking, where it is known.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        Some(self.accuracy_large? - self.accuracy?)
    }
}
