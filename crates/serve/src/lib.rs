//! The gateway: an OpenAI-compatible HTTP API in front of small and large models.
//!
//! A request runs through [`api`] (wire format, keys) and `pipeline` (task, plan, cascade, trace). The picture of
//! models, tasks and certificates is a [`state::Snapshot`] that a reload replaces as a whole; who builds it, from which
//! configuration and store, is not known here. This crate decides nothing about learning: it records what happened.
//!
//! Invariant: the trace of a request is committed before the last byte of its answer is handed over.

pub mod api;
mod client;
mod metrics;
mod pipeline;
mod record;
pub mod server;
mod small;
pub mod state;
pub mod texts;

pub use api::router;
pub use server::{Server, bind};
pub use state::{Shared, Snapshot};
