//! The circuit breaker: an upstream that keeps failing is left alone for a while, then tried with one request.
//!
//! A pure state machine: time comes in as an argument.

use std::time::Duration;

/// When to stop asking, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Consecutive failures that open the breaker, at least 1.
    pub failures: u32,
    /// How long it stays open the first time; doubled each time the probe fails.
    pub cooldown: Duration,
    /// Longest time that it stays open.
    pub max_cooldown: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 5, cooldown: Duration::from_secs(2), max_cooldown: Duration::from_secs(60) }
    }
}

/// One upstream's breaker.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests pass; so many failed in a row.
    Closed { failures: u32 },
    /// No request passes until then; the next cooldown will last so long.
    Open { until: Duration, next: Duration },
    /// One request is on its way to find out.
    HalfOpen { next: Duration },
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: State::Closed { failures: 0 } }
    }

    /// Asks to send a request at `now`. Whoever is admitted reports back once: [`Breaker::succeeded`],
    /// [`Breaker::failed`] or [`Breaker::abandoned`].
    ///
    /// # Errors
    /// The time to wait, when no request may be sent.
    pub fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until, .. } if now < until => Err(until - now),
            State::Open { next, .. } => {
                self.state = State::HalfOpen { next };
                Ok(())
            }
            State::HalfOpen { .. } => Err(self.policy.cooldown),
        }
    }

    /// The upstream answered.
    pub fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// The upstream failed at `now`.
    pub fn failed(&mut self, now: Duration) {
        let open = |cooldown: Duration| State::Open {
            until: now + cooldown.min(self.policy.max_cooldown),
            next: (cooldown * 2).min(self.policy.max_cooldown),
        };
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.policy.failures => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => open(self.policy.cooldown),
            State::HalfOpen { next } => open(next),
            // A probe that was abandoned first and then judged.
            State::Open { until, next } if until <= now => open(next),
            // A request that was sent before it opened: it says nothing new.
            open @ State::Open { .. } => open,
        };
    }

    /// The request ended without a verdict on the upstream: its caller left, or the answer was about the request.
    pub fn abandoned(&mut self, now: Duration) {
        if let State::HalfOpen { next } = self.state {
            // The next request probes again.
            self.state = State::Open { until: now, next };
        }
    }

    /// Whether requests are held back at `now`.
    #[must_use]
    pub fn is_open(&self, now: Duration) -> bool {
        matches!(self.state, State::Open { until, .. } if now < until) || matches!(self.state, State::HalfOpen { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn breaker() -> Breaker {
        Breaker::new(BreakerPolicy { failures: 2, cooldown: s(10), max_cooldown: s(25) })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut b = breaker();
        b.failed(s(0));
        b.succeeded();
        b.failed(s(0));
        assert!(b.admit(s(0)).is_ok());
        b.failed(s(1));
        assert_eq!(b.admit(s(2)), Err(s(9)));
    }

    #[test]
    fn one_probe_decides_and_cooldowns_double_up_to_the_limit() {
        let mut b = breaker();
        b.failed(s(0));
        b.failed(s(0));
        assert!(b.admit(s(10)).is_ok(), "the probe");
        assert!(b.admit(s(10)).is_err(), "only one");
        b.failed(s(10));
        assert_eq!(b.admit(s(10)), Err(s(20)));
        assert!(b.admit(s(30)).is_ok());
        b.failed(s(30));
        assert_eq!(b.admit(s(30)), Err(s(25)));
        assert!(b.admit(s(55)).is_ok());
        b.succeeded();
        b.failed(s(56));
        assert!(!b.is_open(s(56)));
    }

    #[test]
    fn a_probe_whose_caller_left_does_not_block_the_next() {
        let mut b = breaker();
        b.failed(s(0));
        b.failed(s(0));
        assert!(b.admit(s(10)).is_ok());
        b.abandoned(s(11));
        assert!(b.admit(s(11)).is_ok());
    }

    #[test]
    fn a_probe_that_ran_out_of_time_counts_as_failed() {
        let mut b = breaker();
        b.failed(s(0));
        b.failed(s(0));
        assert!(b.admit(s(10)).is_ok());
        b.abandoned(s(12));
        b.failed(s(12));
        assert_eq!(b.admit(s(12)), Err(s(20)));
    }

    #[test]
    fn late_failures_do_not_prolong_an_open_breaker() {
        let mut b = breaker();
        for at in [0, 0, 5] {
            b.failed(s(at));
        }
        assert!(b.admit(s(10)).is_ok());
    }
}
