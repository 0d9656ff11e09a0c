//! Small models in this process: catalogue and pull, tokenise, encode, generate, batch; reads artifacts that `adapt`
//! writes. Never computes gradients.

pub mod adapted;
pub mod artifact;
mod backend;
pub mod catalogue;
pub mod classifier;
pub mod encoder;
pub mod extractor;
pub mod generate;
pub mod head;
pub mod installed;
pub mod labeller;
pub mod pull;
pub mod regressor;
pub mod service;
pub mod table;
pub mod tags;
pub mod tokens;
mod windows;
pub mod wordpiece;
pub mod words;

#[cfg(test)]
mod testing;
