//! The nouns that every other crate speaks: requests, answers, money, outcomes, certificates, errors.
//!
//! Pure values: this crate does no IO, reads no clock and starts no task. It knows no provider's JSON either; a wire
//! body passes through it as opaque bytes ([`request::WireBody`]).

pub mod answer;
pub mod backend;
pub mod certificate;
pub mod clock;
pub mod error;
pub mod hash;
pub mod id;
pub mod money;
pub mod outcome;
pub mod request;
pub mod seed;
pub mod task;

pub use answer::{Answer, Confidence, FinishReason, TokenLogprob, Usage};
pub use backend::{AnswerStream, Backend, Capabilities, Embedder, Event, Place};
pub use certificate::{Certificate, LossKind, Per};
pub use clock::{Clock, Timestamp};
pub use error::{Error, ErrorKind, Result};
pub use id::{ModelName, TaskName, TraceId};
pub use money::{Money, Price};
pub use outcome::{Outcome, RecordedAnswer};
pub use request::{Message, Request, Role};
pub use seed::Seed;
pub use task::{Mode, TaskSpec};
