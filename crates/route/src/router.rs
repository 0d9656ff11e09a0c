//! The router: a guess, before anything is generated, whether asking the small model is worth its time.
//!
//! Here are the seam, the routers that need no training, and in the submodules the predict side of trained ones: a
//! [`Predictor`] of the gain in quality, and a [`Trained`] router around it as it is saved to a file. `pilot` fits them.

mod design;
mod predictor;
pub mod shape;
mod trained;

pub use design::{Design, Priors};
pub use predictor::{Predictor, Prompt};
pub use trained::{FORMAT, Precision, Reading, Trained};

use understudy_core::Request;

/// What a router advises for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Ask the small model; its gate decides about the answer.
    TrySmall,
    /// Do not waste time on the small model.
    GoLarge,
}

/// Predicts from the request alone. It may only save time: what is kept is decided by the gate under the certificate,
/// so a bad router costs money, never quality.
pub trait Router: Send + Sync {
    /// Advice for one request whose hard constraints hold.
    fn advise(&self, request: &Request) -> Advice;
}

/// Always tries the small model: right where it takes milliseconds and costs nothing, as a classifier does.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlwaysTry;

impl Router for AlwaysTry {
    fn advise(&self, _request: &Request) -> Advice {
        Advice::TrySmall
    }
}

/// Tries the small model on inputs up to a size: beyond it, a model that reads only the head of a text rarely passes
/// its gate.
#[derive(Debug, Clone, Copy)]
pub struct UpToBytes(pub usize);

impl Router for UpToBytes {
    fn advise(&self, request: &Request) -> Advice {
        let bytes = request.input.as_ref().map_or_else(|| request.text_bytes(), String::len);
        if bytes <= self.0 { Advice::TrySmall } else { Advice::GoLarge }
    }
}

/// Tries the small model where all of several routers would.
pub struct Unanimous(pub Vec<Box<dyn Router>>);

impl Router for Unanimous {
    fn advise(&self, request: &Request) -> Advice {
        let all = self.0.iter().all(|router| router.advise(request) == Advice::TrySmall);
        if all { Advice::TrySmall } else { Advice::GoLarge }
    }
}

/// Tries the small model where the predicted gain of asking the large one is at most `limit`. The gain is in quality
/// per request (1 = the large model is right and the small one wrong), predicted by whatever router there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpTo {
    /// Predicted gain of this request.
    pub gain: f64,
    /// Largest gain that is given up.
    pub limit: f64,
}

impl Router for UpTo {
    fn advise(&self, _request: &Request) -> Advice {
        if self.gain <= self.limit { Advice::TrySmall } else { Advice::GoLarge }
    }
}
