//! How a run goes, whatever is trained.

use crate::finetune::schedule::Schedule;
use understudy_core::{Error, Result};

/// The part of the parameters that the loop reads; [`FinetuneParams`](crate::finetune::FinetuneParams) says what each
/// means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) epochs: usize,
    pub(crate) batch: usize,
    pub(crate) pass_tokens: usize,
    pub(crate) warmup: f64,
    pub(crate) schedule: Schedule,
    pub(crate) patience: usize,
    pub(crate) seconds: f64,
}

/// A field, whether it is as it should be, and how that is.
pub(crate) type Check = (&'static str, bool, &'static str);

pub(crate) fn positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

pub(crate) fn at_least_zero(x: f64) -> bool {
    x.is_finite() && x >= 0.0
}

pub(crate) fn share(x: f64) -> bool {
    (0.0..1.0).contains(&x)
}

impl Pace {
    /// Checks these fields and those that only one kind of training has.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub(crate) fn check(&self, others: &[Check]) -> Result<()> {
        let own = [
            ("epochs", self.epochs > 0, "it must be at least 1"),
            ("batch", self.batch > 0, "it must be at least 1"),
            ("pass_tokens", self.pass_tokens > 0, "it must be at least 1"),
            ("warmup", share(self.warmup), "it must be in [0, 1)"),
            ("seconds", at_least_zero(self.seconds), "it must not be negative"),
        ];
        match own.iter().chain(others).find(|(_, fine, _)| !fine) {
            None => Ok(()),
            Some((field, _, what)) => {
                Err(Error::invalid(format!("use training parameter `{field}`: {what}")).with_param(*field))
            }
        }
    }
}
