//! How good a network is on examples it does not learn from.

use crate::encoder::{Batch, Example, Network, Objective, Pass, Target};
use crate::finetune::batches::passes;
use serde::{Deserialize, Serialize};
use understudy_kernels::train::Loss;

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
pub(super) fn evaluate(
    network: &Network,
    examples: &[Example],
    objective: &Objective,
    pass_tokens: usize,
    pass: &mut Pass,
) -> Evaluation {
    let all: Vec<&Example> = examples.iter().collect();
    let (mut loss, mut right, mut n) = (Loss::default(), 0u64, 0u64);
    for part in passes(&all, pass_tokens) {
        let batch = Batch::new(part.iter().copied());
        loss += network.loss(&batch, objective, pass);
        let classes = part.iter().flat_map(|example| match &example.target {
            Target::Class(class) => vec![Some(*class)],
            Target::Tokens(classes) => classes.clone(),
            Target::Labels(_) | Target::Values(_) => Vec::new(),
        });
        for (row, class) in pass.outputs().chunks_exact(network.outputs()).zip(classes) {
            if let Some(class) = class {
                n += 1;
                right += u64::from(likeliest(row) == class);
            }
        }
    }
    let accuracy = (n > 0).then(|| right as f64 / n as f64);
    let n = if n > 0 { n } else { examples.len() as u64 };
    Evaluation { loss: loss.sum / loss.weight.max(f64::MIN_POSITIVE), accuracy, n }
}

/// Position of the greatest number, the first of equals.
fn likeliest(row: &[f32]) -> usize {
    let best =
        row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, x)| if *x > best.1 { (i, *x) } else { best });
    best.0
}
