//! The cheapest cascade of two or three models that holds its promise: a choice among thousands that carries its own
//! certificate.
//!
//! Choosing the cheapest that looks good on a few hundred rows picks the luckiest: it breaks its promise on new traffic
//! more often than not. So the rows are divided. On one part every cascade is rated and a path is laid from safe to
//! cheap ([`search`]); on the other part the cascades of the path are tested in that order, each with an exact binomial
//! test at the full level δ, until the first fails ([`choose`]). The last that passed is certified: the order was fixed
//! before the rows of the test were looked at, so the chance that its true loss exceeds ε is at most δ, however many
//! cascades were rated (fixed-sequence testing; Angelopoulos et al., *Learn then Test*, 2021, section 3). That holds
//! for traffic that is exchangeable with the rows.
//!
//! A loss is regret against always asking the large model: its answer would have been right and the one handed over is
//! wrong. Whoever is asked is paid.

mod choose;
mod population;
mod search;
mod simulate;

pub use choose::{Choice, Refused, Terms, Verdict, choose};
pub use population::Population;
pub use search::{Rated, frontier};
pub use simulate::{Plan, Simulation, simulate};

#[cfg(test)]
mod tests;
