//! The choice among any number of models: predicted quality against price and time, under hard constraints.

/// A model that could answer one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Predicted quality, in [0, 1].
    pub quality: f64,
    /// Expected price in USD, where known.
    pub cost_usd: Option<f64>,
    /// Expected milliseconds, where known.
    pub latency_ms: Option<f64>,
    /// Whether every hard constraint allows it ([`crate::constraints`]).
    pub allowed: bool,
}

/// What price and time are worth in quality.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Trade {
    /// Quality given up for one USD saved on a request, ≥ 0.
    pub lambda: f64,
    /// Quality given up for one second saved, ≥ 0.
    pub mu: f64,
}

impl Trade {
    /// Quality − λ · price − μ · time. `None` for a candidate that may not be asked, or whose price or time counts and
    /// is unknown: what is not known is not free.
    #[must_use]
    pub fn worth(&self, candidate: &Candidate) -> Option<f64> {
        let priced =
            |weight: f64, amount: Option<f64>| if weight > 0.0 { amount.map(|a| weight * a) } else { Some(0.0) };
        let cost = priced(self.lambda, candidate.cost_usd)?;
        let time = priced(self.mu, candidate.latency_ms.map(|ms| ms / 1000.0))?;
        candidate.allowed.then_some(candidate.quality - cost - time)
    }

    /// Place of the candidate of the greatest worth, the first of equals; `None` when none may be asked.
    #[must_use]
    pub fn choose(&self, candidates: &[Candidate]) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (place, candidate) in candidates.iter().enumerate() {
            if let Some(worth) = self.worth(candidate)
                && best.is_none_or(|(_, best)| worth > best)
            {
                best = Some((place, worth));
            }
        }
        best.map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(quality: f64, cost: f64, ms: f64) -> Candidate {
        Candidate { quality, cost_usd: Some(cost), latency_ms: Some(ms), allowed: true }
    }

    #[test]
    fn price_and_time_move_the_choice_and_constraints_overrule_it() {
        let mut models = [candidate(0.6, 0.001, 50.0), candidate(0.8, 0.01, 900.0), candidate(0.9, 0.1, 2000.0)];
        let choose = |lambda, mu, models: &[Candidate]| Trade { lambda, mu }.choose(models);
        assert_eq!(choose(0.0, 0.0, &models), Some(2));
        assert_eq!(choose(2.0, 0.0, &models), Some(1));
        assert_eq!(choose(100.0, 0.0, &models), Some(0));
        assert_eq!(choose(0.0, 1.0, &models), Some(0));
        models[2].allowed = false;
        assert_eq!(choose(0.0, 0.0, &models), Some(1));
        models[1].cost_usd = None;
        assert_eq!(choose(1.0, 0.0, &models), Some(0), "an unknown price is not free");
        assert_eq!(choose(0.0, 0.0, &models), Some(1), "… unless price does not count");
        assert_eq!(choose(0.0, 0.0, &[]), None);
    }
}
