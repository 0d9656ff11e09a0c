//! What training minimises.

use crate::encoder::batch::{Batch, Example, Target};
use serde::{Deserialize, Serialize};
use understudy_kernels::train::{self, Loss};

/// The loss on the outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Softmax cross-entropy: one class for each text, or for each token; or how likely each class of a text is. Texts
    /// with a class and texts with shares may be mixed.
    Classes {
        /// Share of the target that is spread over all classes, in [0, 1).
        smoothing: f64,
        /// Weight of each class; empty for none.
        weights: Vec<f32>,
    },
    /// Divergence from a teacher's probabilities.
    Teacher {
        /// Temperature at which they were computed, and at which the student's are.
        temperature: f64,
    },
    /// Binary cross-entropy of each label.
    Labels {
        /// Weight of the positive part of each label; empty for none.
        weights: Vec<f32>,
    },
    /// Squared error.
    Values,
    /// Vectors of a class lie together, and apart from others' (supervised contrast). The head has no part in it; it is
    /// fitted afterwards. Batches are made of groups of a class.
    Contrast {
        /// Likeness is exp(u·v / temperature).
        temperature: f64,
        /// Examples of a class in a group; at least 2.
        together: usize,
    },
}

impl Objective {
    /// True when a target is of the kind that this objective reads, for a head of so many outputs.
    #[must_use]
    pub fn accepts(&self, target: &Target, outputs: usize) -> bool {
        match (self, target) {
            (Self::Classes { .. } | Self::Contrast { .. }, Target::Class(class)) => *class < outputs,
            (Self::Classes { .. }, Target::Shares(shares)) => {
                let whole = shares.iter().map(|p| f64::from(*p)).sum::<f64>();
                let each = shares.iter().all(|p| (0.0..=1.0).contains(p));
                shares.len() == outputs && each && (whole - 1.0).abs() < 1e-3
            }
            (Self::Classes { .. }, Target::Tokens(classes)) => classes.iter().flatten().all(|class| *class < outputs),
            (Self::Teacher { .. } | Self::Labels { .. }, Target::Labels(labels)) => {
                labels.len() == outputs && labels.iter().all(|p| (0.0..=1.0).contains(p))
            }
            (Self::Values, Target::Values(values)) => values.len() == outputs && values.iter().all(|x| x.is_finite()),
            _ => false,
        }
    }

    /// How much an example counts in a mean.
    #[must_use]
    pub fn weight(&self, target: &Target) -> f64 {
        let Self::Classes { weights, .. } = self else { return 1.0 };
        let of = |class: &usize| weights.get(*class).map_or(1.0, |w| f64::from(*w));
        match target {
            Target::Class(class) => of(class),
            Target::Shares(shares) => train::shares_weight(shares, weights),
            Target::Tokens(classes) => classes.iter().flatten().map(of).sum(),
            Target::Labels(_) | Target::Values(_) => 1.0,
        }
    }

    /// The loss of a batch's outputs, and the gradient of `scale` times its sum.
    pub(crate) fn loss(
        &self,
        batch: &Batch<'_>,
        outputs: &[f32],
        columns: usize,
        scale: f64,
        grad: &mut [f32],
    ) -> Loss {
        let numbers = || -> Vec<f32> {
            let of = |target: &'_ Target| match target {
                Target::Shares(x) | Target::Labels(x) | Target::Values(x) => x.clone(),
                Target::Class(_) | Target::Tokens(_) => Vec::new(),
            };
            batch.examples.iter().flat_map(|example| of(&example.target)).collect()
        };
        let soft = |example: &&Example| matches!(example.target, Target::Shares(_));
        match self {
            Self::Classes { smoothing, weights } if batch.examples.iter().any(soft) => {
                let rows = outputs.chunks_exact(columns).zip(grad.chunks_exact_mut(columns));
                let mut loss = Loss::default();
                for ((row, grad), example) in rows.zip(&batch.examples) {
                    loss += match &example.target {
                        Target::Shares(shares) => {
                            train::cross_entropy_to_shares(row, shares, columns, weights, *smoothing, scale, grad)
                        }
                        Target::Class(class) => {
                            train::cross_entropy(row, &[Some(*class)], weights, *smoothing, scale, grad)
                        }
                        Target::Labels(_) | Target::Values(_) | Target::Tokens(_) => Loss::default(),
                    };
                }
                loss
            }
            Self::Classes { smoothing, weights } => {
                let of = |target: &'_ Target| match target {
                    Target::Class(class) => vec![Some(*class)],
                    Target::Tokens(classes) => classes.clone(),
                    Target::Shares(_) | Target::Labels(_) | Target::Values(_) => Vec::new(),
                };
                let targets: Vec<_> = batch.examples.iter().flat_map(|example| of(&example.target)).collect();
                train::cross_entropy(outputs, &targets, weights, *smoothing, scale, grad)
            }
            Self::Teacher { temperature } => {
                train::kl_to_teacher(outputs, &numbers(), columns, *temperature, scale, grad)
            }
            Self::Labels { weights } => train::binary_cross_entropy(outputs, &numbers(), columns, weights, scale, grad),
            Self::Values => train::squared_error(outputs, &numbers(), columns, scale, grad),
            // Nothing on the outputs: it is the vectors' (`Network::contrast`).
            Self::Contrast { .. } => {
                grad.fill(0.0);
                Loss::default()
            }
        }
    }
}
