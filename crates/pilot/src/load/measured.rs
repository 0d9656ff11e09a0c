//! What one step of a measurement saw.

use crate::load::LEVEL;
use std::collections::BTreeMap;
use understudy_core::Error;
use understudy_stats::{Bound, quantile::quantile_of_series};

/// What was offered in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Offered {
    /// So many users in a closed loop.
    Users(usize),
    /// So many arrivals a second in an open loop.
    Rate(f64),
}

impl Offered {
    /// Users, in a closed loop.
    #[must_use]
    pub fn users(self) -> Option<usize> {
        match self {
            Self::Users(users) => Some(users),
            Self::Rate(_) => None,
        }
    }

    /// Arrivals a second, in an open loop.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        match self {
            Self::Users(_) => None,
            Self::Rate(rate) => Some(rate),
        }
    }
}

/// One step: times of the answers in the order in which their requests began, and failures.
#[derive(Debug)]
pub struct Measured {
    /// What was offered.
    pub offered: Offered,
    /// Milliseconds to each answer, by the time at which its request began or should have begun. A request that had no
    /// answer when the step was given up counts as infinite.
    pub latencies_ms: Vec<f64>,
    /// When each of those answers ended, in seconds since counting began; infinite likewise.
    pub ended_s: Vec<f64>,
    /// Failures by the label of their kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub first_error: Option<Error>,
    /// Answers with the target's mark.
    pub marked: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Length of the measurement in seconds.
    pub seconds: f64,
}

impl Measured {
    pub(super) fn empty(offered: Offered) -> Self {
        Self {
            offered,
            latencies_ms: Vec::new(),
            ended_s: Vec::new(),
            errors: BTreeMap::new(),
            first_error: None,
            marked: 0,
            output_tokens: 0,
            seconds: 0.0,
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        *self.errors.entry(error.kind().label()).or_default() += 1;
        self.first_error.get_or_insert(error);
    }

    /// Answers that came.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.latencies_ms.iter().filter(|ms| ms.is_finite()).count()
    }

    /// Requests that failed or had no answer at the end.
    #[must_use]
    pub fn failed(&self) -> u64 {
        let unfinished = (self.latencies_ms.len() - self.answered()) as u64;
        self.errors.values().sum::<u64>() + unfinished
    }

    /// Answers a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.answered() as f64 / self.seconds } else { 0.0 }
    }

    /// Answers a second with an interval from ten pieces of the step; none for fewer than a hundred answers.
    #[must_use]
    pub fn throughput(&self) -> Option<Bound> {
        const PIECES: usize = 10;
        /// Student's t at 97.5 % with nine degrees of freedom.
        const T: f64 = 2.262_157_162_854_099;
        if self.answered() < 100 {
            return None;
        }
        let mut counts = [0.0f64; PIECES];
        for ended in self.ended_s.iter().filter(|s| s.is_finite()) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped into the pieces")]
            let piece = ((ended / self.seconds * PIECES as f64) as usize).min(PIECES - 1);
            counts[piece] += 1.0;
        }
        let piece_s = self.seconds / PIECES as f64;
        let mean = counts.iter().sum::<f64>() / PIECES as f64;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (PIECES - 1) as f64;
        let half = T * (variance / PIECES as f64).sqrt() / piece_s;
        let estimate = mean / piece_s;
        Some(Bound { estimate, low: (estimate - half).max(0.0), high: estimate + half, level: LEVEL })
    }

    /// A quantile of the times in milliseconds; none without an answer. Failures have no time; look at them, too.
    #[must_use]
    pub fn quantile_ms(&self, q: f64) -> Option<Bound> {
        (!self.latencies_ms.is_empty()).then(|| quantile_of_series(&self.latencies_ms, q, LEVEL))
    }

    /// Whether nothing failed and the 95th percentile is within the limit.
    #[must_use]
    pub fn holds(&self, within_ms: f64) -> bool {
        self.failed() == 0 && self.quantile_ms(0.95).is_some_and(|p95| p95.estimate <= within_ms)
    }

    /// Whether answers came slower than they were asked for: the queue grows as long as this goes on.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.offered.rate().is_some_and(|rate| {
            let arrivals = self.latencies_ms.len() as f64 + self.errors.values().sum::<u64>() as f64;
            // Arrivals are random themselves: three standard deviations of a Poisson count are no overload.
            let expected = rate * self.seconds;
            let in_time = self.ended_s.iter().filter(|s| **s <= self.seconds).count() as f64;
            in_time < 0.95 * arrivals.min(expected) - 3.0 * expected.sqrt()
        })
    }
}
