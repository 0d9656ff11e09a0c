//! The gate of a cascade: which answers of the small model are kept.

pub mod fitted;
pub mod served;
pub mod signals;
mod text;

pub use fitted::FittedGate;

use std::sync::Arc;
use understudy_core::{Answer, Certificate, Confidence};

/// Decides about the small model's answer. What serves has a certificate; the other two ask "what if" in replay.
#[derive(Debug, Clone, PartialEq)]
pub enum Gate {
    /// Keeps what a certificate allows.
    Certified(Arc<Certificate>),
    /// Keeps answers of at least this confidence; nobody has certified it.
    AtLeast(Confidence),
    /// Keeps every answer: the router alone decides.
    Open,
}

impl Gate {
    /// Whether the answer is kept. Behind a threshold, an answer without a confidence never is.
    #[must_use]
    pub fn keeps(&self, answer: &Answer) -> bool {
        match self {
            Self::Certified(certificate) => answer.confidence.is_some_and(|c| certificate.allows(c)),
            Self::AtLeast(threshold) => answer.confidence.is_some_and(|c| c >= *threshold),
            Self::Open => true,
        }
    }

    /// The certificate in force.
    #[must_use]
    pub fn certificate(&self) -> Option<&Arc<Certificate>> {
        match self {
            Self::Certified(certificate) => Some(certificate),
            Self::AtLeast(_) | Self::Open => None,
        }
    }
}
