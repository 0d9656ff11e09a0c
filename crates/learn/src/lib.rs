//! Small classical learners as pure functions of numbers: optimisers and the models that routers, gates and heads are
//! made of.
//!
//! Knows no request, no model and no file. Everything is deterministic given its seed.

pub mod boost;
pub mod cholesky;
pub mod confident;
pub mod eigen;
pub mod groups;
pub mod isotonic;
pub mod lbfgs;
pub mod linear;
pub mod logistic;
pub mod maxent;
pub mod neighbours;
pub mod ngrams;
pub mod ridge;
pub mod sparse;
pub mod tfidf;
