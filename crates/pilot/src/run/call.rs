//! One paid request: rate, budget and time of everything that is asked under way at once. Used for the models that are
//! tried and for the judge, so that one cap holds for both.

use super::{Candidate, Plan, Sleep};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use understudy_core::{Answer, Backend, Clock, Error, ErrorKind, Money, RecordedAnswer, Request, Result, Usage};

/// Failures in a row after which a model is given up.
pub(super) const FAILURES: usize = 10;

/// What the requests under way share.
pub(super) struct Gauge<'a> {
    clock: &'a dyn Clock,
    sleep: &'a Sleep,
    per_minute: Option<u32>,
    spent: AtomicI64,
    cap: Option<i64>,
    capped: AtomicBool,
    stopped: AtomicBool,
    next_start: Mutex<Duration>,
}

impl<'a> Gauge<'a> {
    /// A gauge that goes on from what is spent.
    ///
    /// # Errors
    /// `Invalid` when the cap is no amount.
    pub(super) fn new(plan: &Plan, spent: Money, clock: &'a dyn Clock, sleep: &'a Sleep) -> Result<Self> {
        Ok(Self {
            clock,
            sleep,
            per_minute: plan.per_minute,
            spent: AtomicI64::new(spent.nanos()),
            cap: plan.max_cost_usd.map(|usd| Money::from_usd(usd).map(Money::nanos)).transpose()?,
            capped: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            next_start: Mutex::new(Duration::ZERO),
        })
    }

    /// Spent until now.
    pub(super) fn spent(&self) -> Money {
        Money::from_nanos(self.spent.load(Ordering::SeqCst))
    }

    /// Whether a request was held back because of the cap.
    pub(super) fn is_capped(&self) -> bool {
        self.capped.load(Ordering::SeqCst)
    }

    /// Nothing more is asked; what is under way is waited for.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Takes `most` nano-dollars out of the budget, if they are still there.
    fn reserve(&self, most: i64) -> bool {
        let Some(cap) = self.cap else { return true };
        let taken = self.spent.fetch_add(most, Ordering::SeqCst) + most;
        if taken > cap {
            self.spent.fetch_sub(most, Ordering::SeqCst);
            self.capped.store(true, Ordering::SeqCst);
            return false;
        }
        true
    }

    fn settle(&self, reserved: i64, cost: i64) {
        let reserved = if self.cap.is_some() { reserved } else { 0 };
        self.spent.fetch_add(cost - reserved, Ordering::SeqCst);
    }

    /// Asks once, and reads the answer with `recorded`; `None` when nothing is asked any more.
    ///
    /// # Errors
    /// Those of the model.
    pub(super) async fn ask(
        &self,
        candidate: &Candidate,
        backend: &dyn Backend,
        request: &Request,
        recorded: impl FnOnce(&Answer) -> RecordedAnswer,
    ) -> Result<Option<RecordedAnswer>> {
        if self.stopped.load(Ordering::SeqCst) {
            return Ok(None);
        }
        // At least three bytes a token, and the longest answer: what it can cost at most, about.
        let most = Usage {
            input_tokens: request.text_bytes().div_ceil(3) as u64 + 16,
            output_tokens: u64::from(request.sampling.max_tokens.unwrap_or(0)),
            ..Usage::default()
        };
        let reserved = candidate.price.map_or(0, |price| price.cost(&most).nanos());
        if !self.reserve(reserved) {
            return Ok(None);
        }
        if let Some(per_minute) = self.per_minute {
            let wait = {
                let mut next = self.next_start.lock().unwrap_or_else(PoisonError::into_inner);
                let now = self.clock.monotonic();
                let start = (*next).max(now);
                *next = start + Duration::from_secs(60) / per_minute.max(1);
                start.saturating_sub(now)
            };
            (self.sleep)(wait).await;
        }
        let began = self.clock.monotonic();
        let answer = backend.answer(request).await;
        let took = self.clock.monotonic().saturating_sub(began);
        let answer = answer.inspect_err(|_| self.settle(reserved, 0))?;
        let cost = candidate.price.map(|price| price.cost(&answer.usage));
        self.settle(reserved, cost.map_or(0, Money::nanos));
        Ok(Some(RecordedAnswer {
            cost_usd: cost.map(Money::usd),
            latency_ms: Some(took.as_secs_f64() * 1000.0),
            ..recorded(&answer)
        }))
    }
}

/// The first requests go one after the other, until one is answered: a wrong key or a server that is down shall not
/// cost a hundred failures.
#[derive(Default)]
pub(super) struct Opening {
    said: Option<String>,
}

impl Opening {
    /// Requests that are watched.
    pub(super) const REQUESTS: usize = 2;

    /// Whether every other request would fail like this one: refused for good, or twice the same outage.
    pub(super) fn is_hopeless(&mut self, error: &Error) -> bool {
        let said = error.to_string();
        match error.kind() {
            ErrorKind::Denied | ErrorKind::Refused | ErrorKind::NotFound => true,
            ErrorKind::Unavailable => self.said.replace(said.clone()) == Some(said),
            _ => false,
        }
    }
}
