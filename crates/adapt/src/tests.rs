//! What tests of several modules share.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use understudy_core::{Clock, Timestamp};

/// A clock that goes on by a second each time it is read.
#[derive(Default)]
pub(crate) struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
