//! The thresholds that a certification tries, from strict to loose.

use understudy_core::{Error, Result};

/// Thresholds on confidence, strictly falling.
///
/// The guarantee needs a grid that does not depend on the outcomes of the calibration items. The default is fixed for
/// all tasks; a grid made from another split, the training items' confidences say, is as good.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid(Vec<f64>);

impl Default for Grid {
    /// 1, then steps of 0.02 in log-odds from 18 (1 − 1.5e-8) down to −6 (0.0025), then 0. Even in log-odds, because
    /// confident models crowd near 1; a fine grid costs nothing, as every threshold is tested at the full level.
    fn default() -> Self {
        let steps = (-300..=900).rev().map(|step| 1.0 / (1.0 + (-f64::from(step) / 50.0).exp()));
        Self(std::iter::once(1.0).chain(steps).chain(std::iter::once(0.0)).collect())
    }
}

impl Grid {
    /// A grid of the caller's own.
    ///
    /// # Errors
    /// `Invalid` when it is empty, does not fall strictly, or leaves [0, 1].
    pub fn new(thresholds: Vec<f64>) -> Result<Self> {
        let falls = thresholds.windows(2).all(|pair| pair[0] > pair[1]);
        let inside = thresholds.iter().all(|t| (0.0..=1.0).contains(t));
        if thresholds.is_empty() || !falls || !inside {
            return Err(Error::invalid("use a threshold grid: give probabilities in [0, 1] that fall strictly"));
        }
        Ok(Self(thresholds))
    }

    /// The thresholds, strict to loose.
    #[must_use]
    pub fn thresholds(&self) -> &[f64] {
        &self.0
    }

    /// Index of the strictest threshold that keeps `confidence`; `None` when none does.
    #[must_use]
    pub fn first_keeping(&self, confidence: f64) -> Option<usize> {
        let index = self.0.partition_point(|&threshold| threshold > confidence);
        (index < self.0.len()).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_falls_strictly_and_resolves_confidences_near_one() {
        let grid = Grid::new(Grid::default().0).expect("falls strictly inside [0, 1]");
        let index = |p: f64| grid.first_keeping(p).expect("0 keeps everything");
        assert_eq!((index(1.0), grid.thresholds()[index(0.0)]), (0, 0.0));
        assert!(index(1.0 - 1e-6) < index(1.0 - 1.2e-6) && index(1.0 - 1.2e-6) < index(0.5));
        assert!(Grid::new(vec![0.5, 0.5]).is_err() && Grid::new(vec![]).is_err() && Grid::new(vec![2.0]).is_err());
    }

    #[test]
    fn first_keeping_agrees_with_comparing_one_by_one() {
        let grid = Grid::default();
        for step in 0..=1000 {
            let confidence = f64::from(step) / 1000.0;
            let naive = grid.thresholds().iter().position(|&t| confidence >= t);
            assert_eq!(grid.first_keeping(confidence), naive);
        }
    }
}
