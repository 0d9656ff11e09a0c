//! The learning rate over a run.

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up, as a factor of the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Not at all.
    Constant,
    /// In a straight line to zero.
    Linear,
    /// Along half a cosine to zero.
    Cosine,
}

impl Schedule {
    /// The factor when a share `done` in [0, 1] of the run is behind, `warmup` of which rises in a straight line.
    #[must_use]
    pub fn factor(self, done: f64, warmup: f64) -> f64 {
        let done = done.clamp(0.0, 1.0);
        if done < warmup {
            return done / warmup;
        }
        let falling = (done - warmup) / (1.0 - warmup);
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - falling,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * falling).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_zero() {
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            assert!(schedule.factor(0.0, 0.1).abs() < 1e-12 && (schedule.factor(0.05, 0.1) - 0.5).abs() < 1e-12);
            assert!(
                (schedule.factor(0.1, 0.1) - 1.0).abs() < 1e-12 && (schedule.factor(0.55, 0.1) - 0.5).abs() < 1e-12
            );
            assert!(schedule.factor(1.0, 0.1).abs() < 1e-12 && (schedule.factor(0.0, 0.0) - 1.0).abs() < 1e-12);
        }
        assert!((Schedule::Constant.factor(0.9, 0.0) - 1.0).abs() < 1e-12);
    }
}
