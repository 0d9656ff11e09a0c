//! Which model may answer a request, and what to do when it has answered.
//!
//! Pure: no IO, no clock, no randomness of its own. `serve` drives a [`Cascade`] live and `pilot` drives the same one
//! over recorded answers, so the code that predicts the savings is the code that makes them.
//!
//! Order of decisions: the task ([`matching`]), hard constraints ([`constraints`]), the router ([`router`]), then the
//! cascade with its gate ([`cascade`]).

pub mod cascade;
pub mod constraints;
pub mod gate;
pub mod matching;
pub mod plan;
pub mod policy;
pub mod router;
pub mod stages;

pub use cascade::{Cascade, Decision, Step, Tier};
pub use gate::Gate;
pub use matching::{Target, target};
pub use plan::{Large, Plan, Reason, Small, plan, rehearse};
pub use router::{Advice, AlwaysTry, Router, UpTo};
