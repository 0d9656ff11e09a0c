//! Small models in this process: catalogue and pull, tokenise, encode, generate, batch; reads artifacts that `adapt`
//! writes. Never computes gradients.

pub mod artifact;
pub mod generate;
pub mod head;
