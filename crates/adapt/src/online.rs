//! Learning while serving: a student that starts from nothing, answers what it is sure of, and asks the large model
//! for the rest. What it asks is what it learns from.
//!
//! A pure state machine: embeddings and answers arrive, decisions leave. It never sees an answer of the large model to
//! a request that it kept. **It holds no certificate**: its threshold follows an estimate of how often it disagrees
//! with the large model, not a bound. `understudy pilot stream` runs it over a recording to forecast the learning
//! phase.

mod answers;
mod fixed;
pub mod forecast;
mod student;

pub use fixed::Fixed;

use answers::Answers;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use student::{Linear, Reading, Views, present};
use understudy_core::{Error, Result, Seed};

/// Parts of the answers that are held out in turn to learn how far the student can be believed.
const FOLDS: usize = 5;
/// Requests that stand for the traffic when the threshold is chosen: the latest.
const POOL: usize = 4000;
/// Weight of the belief that the estimated disagreement is right, in disagreements, when audits find more of them. Fewer
/// change nothing: a handful of lucky audits must not loosen the threshold.
const TRUST: f64 = 5.0;
/// Standard errors by which the estimate of disagreement is raised: what rests on few disagreements counts as worse.
const CAUTION: f64 = 2.0;

/// How to learn from a stream, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineParams {
    /// Largest share of all requests that may be answered otherwise than the large model would, as estimated; in
    /// (0, 1).
    pub budget: f64,
    /// Least chance of agreement of an answer that is kept, in [0, 1]: ½ is "more likely than not".
    pub least_agreement: f64,
    /// Share of the requests that would be kept and are asked all the same, to learn whether keeping was right; in
    /// [0, 1).
    pub audit: f64,
    /// Answers before the first fit, at least 2.
    pub first: usize,
    /// Answers between fits, as a share of the answers so far; above 0.
    pub growth: f64,
    /// Fewest answers between fits, at least 1.
    pub step: usize,
}

impl Default for OnlineParams {
    fn default() -> Self {
        Self { budget: 0.1, least_agreement: 0.68, audit: 0.01, first: 30, growth: 0.15, step: 20 }
    }
}

/// Parameters that can be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckedOnlineParams(OnlineParams);

impl OnlineParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(self) -> Result<CheckedOnlineParams> {
        let wrong = |field: &str, what: &str| {
            Err(Error::invalid(format!("use stream parameter `{field}`: {what}")).with_param(field))
        };
        if !(self.budget > 0.0 && self.budget < 1.0) {
            return wrong("budget", "it must lie between 0 and 1");
        }
        if !(0.0..=1.0).contains(&self.least_agreement) {
            return wrong("least_agreement", "it must be from 0 to 1");
        }
        if !(0.0..1.0).contains(&self.audit) {
            return wrong("audit", "it must be at least 0 and below 1");
        }
        if self.first < 2 {
            return wrong("first", "it must be at least 2");
        }
        if !(self.growth.is_finite() && self.growth > 0.0) {
            return wrong("growth", "it must be a positive number");
        }
        if self.step == 0 {
            return wrong("step", "it must be at least 1");
        }
        Ok(CheckedOnlineParams(self))
    }
}

/// Why the large model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no student yet.
    Cold,
    /// Agreement is not likely enough.
    Unsure,
    /// It would have been kept, and was drawn for an audit.
    Audit,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision<'a> {
    /// The student answers.
    Keep {
        /// Its answer.
        answer: &'a str,
        /// Estimated chance that the large model says the same.
        agreement: f64,
    },
    /// The large model answers, and [`Online::learn`] takes the answer.
    Ask(Reason),
}

/// A request of the latest traffic.
#[derive(Debug, Clone)]
struct Seen {
    embedding: Vec<f32>,
    /// Its row among the answers, where the large model was asked.
    row: Option<usize>,
}

/// The student and what it stands on.
#[derive(Debug, Clone)]
struct Student {
    linear: Linear,
    rows: Vec<usize>,
    present: Vec<bool>,
    reading: Reading,
    threshold: f64,
}

/// What audits found: requests that would have been kept.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Audits {
    /// Audits answered.
    pub n: usize,
    /// Those on which the large model said something else.
    pub disagreements: usize,
    /// Disagreements that the student expected among them.
    pub expected: f64,
}

/// Learning from a stream.
#[derive(Debug)]
pub struct Online {
    params: OnlineParams,
    answers: Answers,
    folds: Vec<Linear>,
    student: Option<Student>,
    pool: Vec<Seen>,
    fitted_at: usize,
    /// Class and chance of agreement of the request that is being audited.
    audited: Option<(usize, f64)>,
    audits: Audits,
    rng: ChaCha8Rng,
}

impl Online {
    /// A student that knows nothing, for embeddings of `dimensions` numbers and unit length.
    #[must_use]
    pub fn new(params: CheckedOnlineParams, dimensions: usize, seed: Seed) -> Self {
        Self {
            params: params.0,
            answers: Answers::new(dimensions),
            folds: vec![Linear::default(); FOLDS],
            student: None,
            pool: Vec::new(),
            fitted_at: 0,
            audited: None,
            audits: Audits::default(),
            rng: ChaCha8Rng::seed_from_u64(seed.derive("audits").0),
        }
    }

    /// Decides about a request.
    ///
    /// # Errors
    /// `Invalid` when the embedding has another length, or holds a number that is not finite.
    pub fn observe(&mut self, embedding: &[f32]) -> Result<Decision<'_>> {
        if embedding.len() != self.answers.dimensions() || !embedding.iter().all(|x| x.is_finite()) {
            return Err(Error::invalid(format!(
                "observe request: its embedding is not {} finite numbers",
                self.answers.dimensions()
            )));
        }
        if self.pool.len() == 2 * POOL {
            self.pool.drain(..POOL);
        }
        self.pool.push(Seen { embedding: embedding.to_vec(), row: None });
        self.audited = None;
        let Some(student) = &self.student else { return Ok(Decision::Ask(Reason::Cold)) };
        let (class, agreement) = student.read(&self.answers, embedding);
        if agreement < student.threshold {
            return Ok(Decision::Ask(Reason::Unsure));
        }
        if self.rng.random::<f64>() < self.params.audit {
            self.audited = Some((class, agreement));
            return Ok(Decision::Ask(Reason::Audit));
        }
        Ok(Decision::Keep { answer: self.answers.class(class), agreement })
    }

    /// Takes the large model's answer to the request that was observed last. `name` is the embedding of the answer
    /// read as a text; it is used when the answer is new. Returns whether the student was fitted anew.
    ///
    /// # Errors
    /// `Invalid` when nothing was observed or its answer was taken already, or the name's embedding has another length.
    pub fn learn(&mut self, answer: &str, name: Option<&[f32]>) -> Result<bool> {
        if name.is_some_and(|name| name.len() != self.answers.dimensions()) {
            return Err(Error::invalid("learn answer: the embedding of its name has another length"));
        }
        let Some(seen) = self.pool.last_mut().filter(|seen| seen.row.is_none()) else {
            return Err(Error::invalid("learn answer: no request waits for one"));
        };
        let row = self.answers.push(&seen.embedding, answer, name);
        seen.row = Some(row);
        if let Some((class, agreement)) = self.audited.take() {
            self.audits.n += 1;
            self.audits.expected += 1.0 - agreement;
            self.audits.disagreements += usize::from(class != self.answers.label(row));
        }
        let n = self.answers.len();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of answers")]
        let next = match self.fitted_at {
            0 => self.params.first,
            at => at + self.params.step.max((at as f64 * self.params.growth) as usize),
        };
        if n < next || self.answers.classes() < 2 {
            return Ok(false);
        }
        self.refit();
        Ok(true)
    }

    /// What the student as it stands would answer, and the chance that the large model says the same; `None` before the
    /// first fit. Nothing is remembered.
    #[must_use]
    pub fn predict(&self, embedding: &[f32]) -> Option<(&str, f64)> {
        let (class, agreement) = self.student.as_ref()?.read(&self.answers, embedding);
        Some((self.answers.class(class), agreement))
    }

    /// Answers of the large model so far.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.answers.len()
    }

    /// Least chance of agreement that is kept now; `None` before the first fit.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        self.student.as_ref().map(|student| student.threshold)
    }

    /// What the audits found.
    #[must_use]
    pub fn audits(&self) -> Audits {
        self.audits
    }

    /// Fits the student to all answers, and reads from held-out answers how far it can be believed.
    fn refit(&mut self) {
        let answers = &self.answers;
        let n = answers.len();
        let all: Vec<usize> = (0..n).collect();
        let before = self.student.take();
        let mut linear = before.map_or_else(Linear::default, |student| student.linear);
        let (parts, ()) = rayon::join(
            || {
                let part = |(fold, model): (usize, &mut Linear)| {
                    let (out, rest): (Vec<usize>, Vec<usize>) = (0..n).partition(|row| row % FOLDS == fold);
                    model.refit(answers, &rest);
                    let present = present(answers, &rest);
                    let view =
                        |&row: &usize| (row, Views::new(model, answers, &rest, &present, answers.embedding(row)));
                    out.iter().map(view).collect::<Vec<_>>()
                };
                self.folds.par_iter_mut().enumerate().map(part).collect::<Vec<_>>()
            },
            || linear.refit(answers, &all),
        );
        let mut held_out: Vec<(usize, Views)> = parts.into_iter().flatten().collect();
        held_out.sort_by_key(|(row, _)| *row);
        let views: Vec<Views> = held_out.into_iter().map(|(_, views)| views).collect();
        let reading = Reading::fit(&views, answers.labels());
        let mut student = Student { linear, present: present(answers, &all), rows: all, reading, threshold: 1.0 };
        let latest = &self.pool[self.pool.len().saturating_sub(POOL)..];
        let agreements: Vec<f64> = latest
            .par_iter()
            .map(|seen| match seen.row {
                Some(row) => student.reading.read(&views[row]).1,
                None => student.read(answers, &seen.embedding).1,
            })
            .collect();
        let held_out = views.iter().zip(answers.labels());
        let disagreements = held_out.filter(|(views, label)| student.reading.read(views).0 != **label).count();
        let audited = (self.audits.disagreements as f64 + TRUST) / (self.audits.expected + TRUST);
        let audited = audited.max(1.0);
        let worse = audited * (1.0 + CAUTION / (disagreements.max(1) as f64).sqrt());
        let least = 1.0 - (1.0 - self.params.least_agreement) / worse;
        student.threshold = threshold(agreements, self.params.budget / audited).max(least);
        self.student = Some(student);
        self.fitted_at = n;
    }
}

impl Student {
    fn read(&self, answers: &Answers, embedding: &[f32]) -> (usize, f64) {
        self.reading.read(&Views::new(&self.linear, answers, &self.rows, &self.present, embedding))
    }
}

/// The lowest threshold at which the disagreements expected among what is kept are at most `budget` of all requests.
fn threshold(mut agreements: Vec<f64>, budget: f64) -> f64 {
    agreements.sort_by(|a, b| b.total_cmp(a));
    let allowed = budget * agreements.len() as f64;
    let mut expected = 0.0;
    for agreement in &agreements {
        expected += 1.0 - agreement;
        if expected > allowed {
            // This one is too much; so is everything like it.
            return agreement.next_up();
        }
    }
    0.0
}

#[cfg(test)]
mod tests;
