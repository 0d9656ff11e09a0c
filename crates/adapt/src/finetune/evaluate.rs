//! How good a network is on examples it does not learn from.

use crate::finetune::batches::passes;
use crate::finetune::learner::{Judged, Learner};
use serde::{Deserialize, Serialize};

/// Quality on a set of examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Share of texts (or tokens) whose likeliest class is the right one; none for other kinds of targets.
    pub accuracy: Option<f64>,
    /// Texts (or tokens) it was measured on.
    pub n: u64,
}

impl Evaluation {
    /// True when this is better: more right answers, or as many at a lower loss.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        match (self.accuracy, other.accuracy) {
            (Some(a), Some(b)) if (a - b).abs() > 1e-12 => a > b,
            _ => self.loss < other.loss,
        }
    }
}

/// Measures a network.
pub(super) fn evaluate<L: Learner>(learner: &mut L, examples: &[L::Example], pass_tokens: usize) -> Evaluation {
    let all: Vec<&L::Example> = examples.iter().collect();
    let mut sum = Judged::default();
    for part in passes(&all, L::tokens, pass_tokens) {
        let Judged { loss, right, n } = learner.judge(&part);
        sum.loss += loss;
        sum.right += right;
        sum.n += n;
    }
    let accuracy = (sum.n > 0).then(|| sum.right as f64 / sum.n as f64);
    let n = if sum.n > 0 { sum.n } else { examples.len() as u64 };
    Evaluation { loss: sum.loss.sum / sum.loss.weight.max(f64::MIN_POSITIVE), accuracy, n }
}
