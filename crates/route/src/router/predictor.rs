//! Predicting a number from a prompt: the gain in quality of asking the large model, or one model's quality.

use super::Design;
use serde::{Deserialize, Serialize};
use understudy_learn::{groups::Groups, linear, neighbours::Neighbours};

/// What is known of a request before anything is generated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prompt<'a> {
    /// The text.
    pub text: &'a str,
    /// Subject or slice, where the application names one.
    pub group: Option<&'a str>,
    /// Unit-length embedding of the text, where one was made.
    pub embedding: Option<&'a [f32]>,
}

/// A fitted predictor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// A line in the logarithm of the length in bytes.
    Length {
        /// Change for each unit of ln(1 + bytes).
        slope: f64,
        /// Value of an empty text.
        intercept: f64,
    },
    /// The shrunken mean of the group.
    Group(Groups),
    /// The mean of the nearest training prompts by embedding.
    Knn {
        /// The training prompts.
        neighbours: Neighbours,
        /// How many are near.
        k: usize,
        /// Value of a prompt without an embedding.
        otherwise: f64,
    },
    /// A linear model of the blocks in its design.
    Linear {
        /// The features.
        design: Design,
        /// Their weights.
        weights: linear::Linear,
    },
}

impl Predictor {
    /// The predicted number.
    #[must_use]
    pub fn predict(&self, prompt: &Prompt<'_>) -> f64 {
        match self {
            Self::Length { slope, intercept } => intercept + slope * (1.0 + prompt.text.len() as f64).ln(),
            Self::Group(groups) => groups.mean(prompt.group),
            Self::Knn { neighbours, k, otherwise } => {
                prompt.embedding.map_or(*otherwise, |embedding| neighbours.mean(embedding, *k))
            }
            Self::Linear { design, weights } => weights.predict(&design.row(prompt)),
        }
    }

    /// Whether it needs the prompt's embedding.
    #[must_use]
    pub fn wants_embedding(&self) -> bool {
        match self {
            Self::Length { .. } | Self::Group(_) => false,
            Self::Knn { .. } => true,
            Self::Linear { design, .. } => design.wants_embedding(),
        }
    }
}
