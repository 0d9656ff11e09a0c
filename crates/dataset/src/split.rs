//! Division by content: the part of a row depends on its text and the seed alone. A text is never in two parts, and rows
//! that come or go move no other.

use understudy_core::{Error, Result, Seed, hash::unit_interval};

/// What a row is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Learning, and examples in prompts.
    Train,
    /// Setting thresholds and temperatures.
    Calibrate,
    /// Measuring; nothing else sees it.
    Test,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Calibrate, Self::Test];

    /// The name in files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Calibrate => "calibrate",
            Self::Test => "test",
        }
    }
}

/// Shares of the parts; what is left trains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    calibrate: f64,
    test: f64,
}

impl Shares {
    /// Shares to calibrate and to test with, each in [0, 1) and less than 1 together.
    ///
    /// # Errors
    /// `Invalid` when they are not.
    pub fn new(calibrate: f64, test: f64) -> Result<Self> {
        let fine = |share: f64| (0.0..1.0).contains(&share);
        if fine(calibrate) && fine(test) && calibrate + test < 1.0 {
            Ok(Self { calibrate, test })
        } else {
            let what = format!("divide the data: {calibrate} to calibrate and {test} to test leave nothing to train");
            Err(Error::invalid(what))
        }
    }
}

/// The part of the row whose text has the hash `hash` ([`crate::text_hash`] or [`crate::Row::content_hash`]).
#[must_use]
pub fn part_of(hash: &str, shares: Shares, seed: Seed) -> Part {
    let u = unit_interval(&format!("{}:{hash}", seed.derive("parts").0));
    if u < shares.test {
        Part::Test
    } else if u < shares.test + shares.calibrate {
        Part::Calibrate
    } else {
        Part::Train
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_hash;

    #[test]
    fn shares_are_met_and_each_text_always_has_the_same_part() {
        let shares = Shares::new(0.2, 0.3).unwrap();
        let part = |text: &str| part_of(&text_hash(text), shares, Seed(7));
        let n = 10_000;
        let count = |wanted| (0..n).filter(|i| part(&format!("text {i}")) == wanted).count();
        assert!((2_800..3_200).contains(&count(Part::Test)) && (1_800..2_200).contains(&count(Part::Calibrate)));
        assert_eq!(part("Hello  World"), part("hello world"));
        let moved = (0..n).filter(|i| {
            let hash = text_hash(&format!("text {i}"));
            part_of(&hash, shares, Seed(7)) != part_of(&hash, shares, Seed(8))
        });
        assert!(moved.count() > n / 3, "the seed matters");
        assert!(
            Shares::new(0.5, 0.5).is_err() && Shares::new(-0.1, 0.5).is_err() && Shares::new(f64::NAN, 0.1).is_err()
        );
    }
}
