//! How low-rank adapters (Hu et al., arXiv 2106.09685) are shaped, whatever they are put on: a frozen weight W becomes
//! W + α/r · B·A, and only A and B are trained.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result};

/// How to adapt; `T` names the linear layers that there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lora<T> {
    /// Rows of A, 1 to 1024.
    pub rank: usize,
    /// The adapter counts α / rank times.
    pub alpha: f64,
    /// What is adapted.
    pub targets: Vec<T>,
}

impl<T: Ord + Copy> Lora<T> {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &str, what: &str| {
            Err(Error::invalid(format!("use LoRA parameter `{field}`: {what}")).with_param(field))
        };
        if !(1..=1024).contains(&self.rank) {
            return wrong("rank", "it must be 1 to 1024");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return wrong("alpha", "it must be a positive number");
        }
        let mut targets = self.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() || targets.len() < self.targets.len() {
            return wrong("targets", "it must name at least one layer, and each once");
        }
        Ok(())
    }

    /// What the adapter's product is multiplied with.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a factor of the order of 1")]
    pub fn scale(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }
}

/// The numbers that A starts from, `rows × inputs`: uniform in ±1/√inputs, as PEFT has it. B starts at zero.
pub(crate) fn start(random: &mut ChaCha8Rng, rows: usize, inputs: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand inputs")]
    let reach = 1.0 / (inputs as f32).sqrt();
    (0..rows * inputs).map(|_| random.random_range(-reach..reach)).collect()
}
