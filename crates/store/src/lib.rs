//! What Understudy remembers: traces, artifacts, certificates, feedback.

pub mod trace;

pub use trace::{Call, Ending, Route, Trace};
