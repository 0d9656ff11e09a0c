//! What a small model would do to a task's traffic, before it does: items from recorded outcomes, certification,
//! simulation of the certificate itself, and accuracies side by side.
//!
//! Refuses to train and to look at the clock. Callers: the command line, the benches and the demo.

pub mod cascades;
pub mod certify;
pub mod compare;
pub mod gate;
pub mod grid;
pub mod items;
pub mod metrics;
pub mod replay;
pub mod report;
pub mod run;
pub mod sequential;
pub mod simulate;

pub use certify::{Point, Refusal, Report, Terms, Verdict, certify};
pub use compare::{Comparison, compare};
pub use grid::Grid;
pub use items::{Item, from_outcomes};
pub use simulate::{Simulation, simulate};
