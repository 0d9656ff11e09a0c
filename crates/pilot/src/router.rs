//! Routers from recorded outcomes: predictors of the gain of asking the large model, compared by cross-validation
//! with the trivial ones, and the choice between them.
//!
//! The target is the gain in quality (large minus small), not the small model's quality: a request that both get wrong
//! is not worth delegating. Every fit is linear or a mean with strong shrinkage, because one row says little: the
//! gain is mostly noise. A router that falls behind the trivial ones on the user's own rows, or repeats them, is not used, and
//! where no gain could be measured the report says so.

mod fit;
mod select;

pub use fit::{Example, examples, fit};
pub use select::{Choice, Contender, Selection, apgr, out_of_fold, select};

use understudy_core::{Error, Result};

/// What a router is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The length of the prompt. Trivial.
    Length,
    /// The shrunken mean of the prompt's group. Trivial.
    Group,
    /// The prompt's words. Trivial.
    Tfidf,
    /// The nearest prompts by embedding.
    Knn,
    /// The embedding and the shape of the text.
    Linear,
    /// Group and shape of the text, and the words where no groups are recorded: no model runs.
    Static,
    /// The same and the embedding.
    Stack,
}

impl Kind {
    /// Every kind, trivial ones first, then by what a decision costs.
    pub const ALL: [Self; 7] =
        [Self::Length, Self::Group, Self::Tfidf, Self::Static, Self::Knn, Self::Linear, Self::Stack];

    /// Its name on the command line and in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Group => "group",
            Self::Tfidf => "tfidf",
            Self::Knn => "knn",
            Self::Linear => "linear",
            Self::Static => "static",
            Self::Stack => "stack",
        }
    }

    /// Whether it is one of the baselines that a router has to beat.
    #[must_use]
    pub const fn is_trivial(self) -> bool {
        matches!(self, Self::Length | Self::Group | Self::Tfidf)
    }

    /// Whether it reads embeddings.
    #[must_use]
    pub const fn wants_embedding(self) -> bool {
        matches!(self, Self::Knn | Self::Linear | Self::Stack)
    }

    /// Whether it holds what the trivial ones know and is drawn to it: the more noise, the more it is the group mean.
    #[must_use]
    pub const fn is_drawn_to_trivial(self) -> bool {
        matches!(self, Self::Static | Self::Stack)
    }

    /// Reads a name.
    ///
    /// # Errors
    /// `Invalid`, naming the kinds there are.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            let kinds = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid(format!("use router `{name}`: give auto or one of {kinds}"))
        })
    }
}

#[cfg(test)]
mod tests;
