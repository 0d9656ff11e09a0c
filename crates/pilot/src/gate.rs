//! Gates from recorded outcomes: the signals of the small model's answers, a committee of learners over them, and the
//! choice between the committee and the best single signal.
//!
//! What a gate is worth is how early it sends those requests on that the large model answers better: the area between
//! its curve and the small model's quality ([`area`]). A committee is drawn towards the best raw signal: where only the
//! small model's own answer was recorded, with the chance that the raw signal is the better of the two as its weight,
//! else with a fixed one. It is dropped for that signal where cross-validation finds it worse by more than one standard
//! error. Fitted gates live in `route`, which reads the same signals from live answers.

pub(crate) mod area;
mod committee;
pub mod evaluate;
mod fit;
mod helpers;
mod table;

pub use evaluate::{Evaluation, Pair, across, apart};
pub use fit::{Choice, Fit, REFUSED, fit, fit_judged};
pub use helpers::Helpers;
pub use table::{Judged, Raw};

use understudy_core::Seed;

/// How to fit a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Which other models' answers the gate looks at.
    pub helpers: Helpers,
    /// What the gate is made of.
    pub kind: Kind,
    /// Folds of the cross-validation, at least 2.
    pub folds: usize,
    /// Seed of folds and trees.
    pub seed: Seed,
}

impl Default for Params {
    fn default() -> Self {
        Self { helpers: Helpers::Auto, kind: Kind::Auto, folds: 5, seed: Seed(1) }
    }
}

/// What a gate is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The committee, unless the best raw signal is clearly better.
    Auto,
    /// The best raw signal, calibrated.
    Raw,
    /// The logistic members alone.
    Logistic,
    /// The trees alone.
    Boosted,
}

impl Kind {
    /// Reads a name.
    ///
    /// # Errors
    /// `Invalid`, naming the kinds there are.
    pub fn parse(name: &str) -> understudy_core::Result<Self> {
        Ok(match name {
            "auto" => Self::Auto,
            "raw" => Self::Raw,
            "logistic" => Self::Logistic,
            "boosted" => Self::Boosted,
            other => {
                let kinds = "auto, raw, logistic or boosted";
                return Err(understudy_core::Error::invalid(format!("use gate `{other}`: give {kinds}")));
            }
        })
    }
}

#[cfg(test)]
mod tests;
