//! Small models in this process: catalogue and pull, tokenise, encode, generate, batch; reads artifacts that `adapt`
//! writes. Never computes gradients.

pub mod artifact;
pub mod head;
pub mod generate;
pub mod catalogue;
pub mod installed;
pub mod pull;
pub mod tokens;
pub mod encoder;
pub mod service;
pub mod classifier;
