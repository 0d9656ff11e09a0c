//! The race: all entrants answer a few rows, the better ones more, the best all of them.
//!
//! Successive halving by what may be spent (K. Jamieson and A. Talwalkar, 2016): each rung doubles the rows; the first,
//! which tries everybody, may take three quarters, each other an equal part of what is left, and as many go on as it pays
//! for. Whoever is worse than the leader in a paired test
//! goes at once (races: O. Maron and A. Moore, 1994). The tests only save requests: a wrong drop loses a chance, and
//! nothing is claimed before rows that had no part in the race have judged.

use super::examples::Examples;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use std::ops::Range;
use understudy_core::{Result, Seed};
use understudy_stats::{paired, permutation};

/// Rows of the first rung.
pub const FIRST: usize = 16;
/// Two-sided p-value below which an entrant that is behind the leader is out.
const DROPPED: f64 = 0.1;
/// Sign patterns that are drawn for graded answers.
const DRAWS: u32 = 2_000;

/// What an answer was worth and what its prompt took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// In [0, 1].
    pub quality: f64,
    /// Tokens of the prompt; 0 where unknown.
    pub tokens: u64,
}

/// Why nothing more is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The requests that were allowed are made.
    Calls,
    /// The time that was allowed is over.
    Time,
    /// The money that was allowed is spent.
    Cost,
}

/// What became of asking an entrant about some rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// All are answered, in their order.
    Scores(Vec<Score>),
    /// The model does not take this prompt, such as one that is too long.
    Failed(String),
    /// Nothing more may be asked.
    Stopped(Stop),
}

/// Where an entrant is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "why")]
pub enum State {
    /// Still there.
    Racing,
    /// Worse than the leader, p-value.
    Worse(f64),
    /// There was not enough budget for it.
    Unaffordable,
    /// The model failed.
    Failed(String),
}

/// One prompt of the race.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrant {
    /// Position of its instruction.
    pub instruction: usize,
    /// Its examples.
    pub examples: Examples,
    /// One score a row, from the first row on.
    pub scores: Vec<Score>,
    /// Where it is.
    pub state: State,
}

impl Entrant {
    /// One that was asked nothing yet.
    #[must_use]
    pub fn new(instruction: usize, examples: Examples) -> Self {
        Self { instruction, examples, scores: Vec::new(), state: State::Racing }
    }

    /// Mean quality over the first `n` rows; 0 without any.
    #[must_use]
    pub fn mean(&self, n: usize) -> f64 {
        let scores = &self.scores[..n.min(self.scores.len())];
        scores.iter().map(|score| score.quality).sum::<f64>() / scores.len().max(1) as f64
    }

    /// Mean tokens of a prompt.
    #[must_use]
    pub fn tokens(&self) -> f64 {
        self.scores.iter().map(|score| score.tokens as f64).sum::<f64>() / self.scores.len().max(1) as f64
    }
}

/// All entrants, and what asking them may take.
pub struct Track<A> {
    /// Everybody who ever ran.
    pub entrants: Vec<Entrant>,
    /// Requests made.
    pub calls: usize,
    /// Requests that may be made.
    pub most: usize,
    /// Why it ended early.
    pub stop: Option<Stop>,
    ask: A,
    seed: Seed,
}

impl<A: AsyncFnMut(&Entrant, Range<usize>) -> Result<Reply>> Track<A> {
    /// An empty track; `ask` puts an entrant's prompt to the model for rows of that range.
    pub fn new(most: usize, seed: Seed, ask: A) -> Self {
        Self { entrants: Vec::new(), calls: 0, most, stop: None, ask, seed }
    }

    /// Lets a prompt enter; its number.
    pub fn enter(&mut self, entrant: Entrant) -> usize {
        self.entrants.push(entrant);
        self.entrants.len() - 1
    }

    /// Requests that may still be made.
    pub fn left(&self) -> usize {
        self.most.saturating_sub(self.calls)
    }

    /// Asks `entrant` until it has `n` scores; whether it has them.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn ask(&mut self, entrant: usize, n: usize) -> Result<bool> {
        let have = self.entrants[entrant].scores.len();
        if have >= n {
            return Ok(true);
        }
        if self.stop.is_some() {
            return Ok(false);
        }
        if n - have > self.left() {
            self.stop = Some(Stop::Calls);
            return Ok(false);
        }
        match (self.ask)(&self.entrants[entrant], have..n).await? {
            Reply::Scores(scores) => {
                self.calls += n - have;
                self.entrants[entrant].scores.extend(scores);
                Ok(self.entrants[entrant].scores.len() >= n)
            }
            Reply::Failed(why) => {
                self.calls += 1;
                self.entrants[entrant].state = State::Failed(why);
                Ok(false)
            }
            Reply::Stopped(stop) => {
                self.stop = Some(stop);
                Ok(false)
            }
        }
    }

    /// Races `field` up to `rows` rows with at most `share` requests; those that got through, best first.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn heat(&mut self, mut field: Vec<usize>, rows: usize, share: usize) -> Result<Vec<usize>> {
        let rungs = rungs(rows);
        let mut left = share.min(self.left());
        let mut before = 0;
        for (index, &n) in rungs.iter().enumerate() {
            // The first rung sorts out the hopeless: everybody is tried, if that leaves something for the others.
            let allowance = match (index, rungs.len() - index) {
                (_, 1) => left,
                (0, _) => left - left / 4,
                (_, on) => left / on,
            };
            self.rank(&mut field, before);
            let mut cost = 0;
            let (mut on, mut off) = (Vec::new(), Vec::new());
            for entrant in field {
                let new = n.saturating_sub(self.entrants[entrant].scores.len());
                // Two at least: one alone is no race.
                let fits = cost + new <= allowance || (on.len() < 2 && cost + new <= left);
                if fits {
                    cost += new;
                    on.push(entrant);
                } else {
                    off.push(entrant);
                }
            }
            off.iter().for_each(|&entrant| self.entrants[entrant].state = State::Unaffordable);
            let calls = self.calls;
            let mut through = Vec::new();
            for &entrant in &on {
                if self.ask(entrant, n).await? {
                    through.push(entrant);
                }
            }
            left = left.saturating_sub(self.calls - calls);
            if self.stop.is_some() {
                // Nobody is judged by fewer rows than others.
                self.rank(&mut on, before);
                return Ok(on);
            }
            self.rank(&mut through, n);
            self.drop_worse(&mut through, n);
            (field, before) = (through, n);
        }
        Ok(field)
    }

    /// Best first over the first `n` rows; among equals the shorter prompt, then the earlier one.
    pub fn rank(&self, field: &mut [usize], n: usize) {
        let of = |entrant: usize| &self.entrants[entrant];
        field.sort_by(|&a, &b| {
            (of(b).mean(n).total_cmp(&of(a).mean(n)))
                .then_with(|| of(a).tokens().total_cmp(&of(b).tokens()))
                .then(a.cmp(&b))
        });
    }

    fn drop_worse(&mut self, field: &mut Vec<usize>, n: usize) {
        let Some(&leader) = field.first() else { return };
        let seed = self.seed.derive("race");
        field.retain(|&entrant| {
            let differences: Vec<f64> = self.entrants[entrant].scores[..n]
                .iter()
                .zip(&self.entrants[leader].scores[..n])
                .map(|(own, other)| own.quality - other.quality)
                .collect();
            let p = if differences.iter().sum::<f64>() < 0.0 { p_different(&differences, seed) } else { 1.0 };
            if p <= DROPPED {
                self.entrants[entrant].state = State::Worse(p);
            }
            p > DROPPED
        });
    }
}

/// Numbers of rows after which entrants are compared: doubling up to `rows`.
fn rungs(rows: usize) -> Vec<usize> {
    let mut rungs = vec![FIRST.min(rows)];
    while let Some(&last) = rungs.last()
        && last < rows
    {
        // No small step at the end.
        rungs.push(if last * 3 > rows { rows } else { last * 2 });
    }
    rungs
}

/// Two-sided p-value of equal prompts: McNemar's exact test for right or wrong, sign flips for grades.
fn p_different(differences: &[f64], seed: Seed) -> f64 {
    let whole = |d: &f64| [-1.0, 0.0, 1.0].iter().any(|w| (d - w).abs() < 1e-12);
    if differences.iter().all(whole) {
        let count = |sign: f64| differences.iter().filter(|d| **d * sign > 0.5).count() as u64;
        return paired::mcnemar(count(1.0), count(-1.0));
    }
    permutation::sign_flip(differences, DRAWS, &mut ChaCha12Rng::seed_from_u64(seed.0)).p
}
