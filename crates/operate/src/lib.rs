//! Judging what is in operation: whether a certificate still holds.
//!
//! Pure decisions from recorded evidence. Refuses to read the store, to change a deployment and to look at the clock:
//! callers hand in what was recorded and carry out the verdict.

pub mod audit;

pub use audit::{Evidence, Monitor, Observation, Verdict, judge};
