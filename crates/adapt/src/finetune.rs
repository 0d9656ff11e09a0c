//! Fine-tunes a network: parameters → checked → fitted.
//!
//! One loop for all that is trained by gradients, over the little that it asks of a learner: batches, the optimiser,
//! early stopping with the best weights kept, checkpoints from which a run that was killed goes on to the same final
//! numbers. Encoders are learners here, generative models in [`crate::llama`]. Everything that decides the result is a
//! function of parameters, data, starting weights, seed and the number of the step; time comes in through a
//! [`Clock`](understudy_core::Clock) and only decides when to write a checkpoint and, where the user set a budget, when to
//! stop. Prints nothing: a progress callback is told. Called by the commands.

mod batches;
mod checkpoint;
mod encoders;
mod evaluate;
mod learner;
mod optimiser;
mod pace;
mod params;
mod progress;
mod run;
mod schedule;

pub use evaluate::Evaluation;
pub use learner::Tunable;
pub(crate) use learner::{At, Judged, Learner};
pub use optimiser::Optimiser;
pub(crate) use optimiser::Pull;
pub(crate) use pace::{Pace, at_least_zero, positive};
pub use params::{CheckedFinetuneParams, FinetuneParams};
pub use progress::{Checkpoints, Data, Ended, Finetuned, Progress, Record, Run};
pub(crate) use run::train;
pub use schedule::Schedule;

#[cfg(test)]
mod tests;
