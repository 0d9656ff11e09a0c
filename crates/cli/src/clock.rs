//! The system's clock: the one place that reads it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use understudy_core::{Clock, Seed, Timestamp};

/// Wall-clock and monotonic time of this machine.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the clock's home")]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the clock's home")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A seed that differs from start to start: trace ids and audit draws must not repeat.
pub(crate) fn fresh_seed() -> Seed {
    Seed(rand::random())
}
