//! Fine-tunes an encoder: parameters → checked → fitted.
//!
//! The loop over batches, the optimiser, early stopping with the best weights kept, checkpoints from which a run that
//! was killed goes on to the same final numbers. Everything that decides the result is a function of parameters, data,
//! starting weights, seed and the number of the step; time comes in through a [`Clock`](understudy_core::Clock) and only
//! decides when to write a checkpoint and, where the user set a budget, when to stop. Prints nothing: a progress
//! callback is told. Called by the commands, over networks of [`crate::encoder`].

mod batches;
mod checkpoint;
mod evaluate;
mod optimiser;
mod params;
mod run;
mod schedule;
mod windows;

pub use evaluate::Evaluation;
pub use optimiser::Optimiser;
pub use params::{CheckedFinetuneParams, FinetuneParams, balanced};
pub use run::{Checkpoints, Data, Ended, Finetuned, Progress, Record, Run};
pub use schedule::Schedule;
pub use windows::{LongTexts, windows};

#[cfg(test)]
mod tests;
