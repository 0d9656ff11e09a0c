//! What a small model would do to a task's traffic, before it does: items from recorded outcomes, certification,
//! simulation of the certificate itself, and accuracies side by side.
//!
//! Refuses to train and to look at the clock. Callers: the command line, the benches and the demo.

pub mod cascades;
pub mod certify;
pub mod compare;
pub mod errors;
pub mod gate;
pub mod grid;
pub mod items;
pub mod load;
pub mod metrics;
pub mod offpolicy;
pub mod prompts;
pub mod replay;
pub mod report;
pub mod router;
pub mod run;
pub mod sequential;
pub mod simulate;
pub mod stepdown;

pub use certify::family::{FamilySimulation, Member, certify_family, simulate_family};
pub use certify::{Point, Refusal, Report, Rule, Terms, Verdict, certify, certify_scored};
pub use compare::{Comparison, compare};
pub use grid::Grid;
pub use items::{Item, Loss, Scored, from_outcomes, scored_from_outcomes};
pub use simulate::{Simulation, ceiling, simulate, simulate_scored};
