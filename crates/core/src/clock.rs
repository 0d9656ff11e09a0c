//! Time as an argument. The system's clock is read in one place, the composition in `cli`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Wall-clock time in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Wall-clock time, for records.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary fixed start that never goes back, for durations.
    fn monotonic(&self) -> Duration;
}
