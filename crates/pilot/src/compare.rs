//! Small alone, large alone and both together on the same requests; several models against a baseline in [`models`].

pub mod models;
pub(crate) mod pairs;

use understudy_stats::{Bound, binomial, paired};

/// One request on which both models' answers are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Whether the small model's answer was kept, so that it is the answer of both together.
    pub kept: bool,
    /// Whether the small model is right.
    pub small_right: bool,
    /// Whether the large model is right.
    pub large_right: bool,
}

/// Accuracies with exact 95 % intervals, differences with paired ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Requests.
    pub n: u64,
    /// Share of them kept.
    pub kept: Bound,
    /// Loss per request: kept, small wrong, large right.
    pub loss: Bound,
    /// Accuracy of the small model alone.
    pub small: Bound,
    /// Accuracy of the large model alone.
    pub large: Bound,
    /// Accuracy of both together.
    pub together: Bound,
    /// Together minus large.
    pub together_minus_large: Bound,
    /// Small minus large.
    pub small_minus_large: Bound,
    /// Exact McNemar p-value of together against large.
    pub together_vs_large_p: f64,
}

const LEVEL: f64 = 0.95;

/// Compares; `None` without requests.
#[must_use]
pub fn compare(requests: &[Judged]) -> Option<Comparison> {
    if requests.is_empty() {
        return None;
    }
    let n = requests.len() as u64;
    let count = |holds: &dyn Fn(&Judged) -> bool| requests.iter().filter(|r| holds(r)).count() as u64;
    let share = |holds: &dyn Fn(&Judged) -> bool| binomial::interval(count(holds), n, LEVEL);
    let together = |r: &Judged| if r.kept { r.small_right } else { r.large_right };
    let minus_large = |right: &dyn Fn(&Judged) -> bool| {
        let both = count(&|r| right(r) && r.large_right);
        let (only_large, only_other) = (count(&|r| !right(r) && r.large_right), count(&|r| right(r) && !r.large_right));
        (paired::difference(both, only_large, only_other, n, LEVEL), paired::mcnemar(only_large, only_other))
    };
    let (together_minus_large, together_vs_large_p) = minus_large(&together);
    Some(Comparison {
        n,
        kept: share(&|r| r.kept),
        loss: share(&|r| r.kept && !r.small_right && r.large_right),
        small: share(&|r| r.small_right),
        large: share(&|r| r.large_right),
        together: share(&together),
        together_minus_large,
        small_minus_large: minus_large(&|r| r.small_right).0,
        together_vs_large_p,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_takes_the_small_answer_only_where_it_is_kept() {
        let judged = |kept, small_right, large_right| Judged { kept, small_right, large_right };
        let requests = [
            judged(true, true, false),
            judged(true, false, true),
            judged(false, false, true),
            judged(false, true, true),
        ];
        let c = compare(&requests).expect("four requests");
        let rates = [c.small, c.large, c.together, c.kept, c.loss].map(|b| b.estimate);
        let expected = [0.5, 0.75, 0.75, 0.5, 0.25];
        assert!(rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1e-15), "{rates:?}");
        assert!(c.together_minus_large.estimate.abs() < 1e-12 && (c.together_vs_large_p - 1.0).abs() < 1e-12);
        assert!((c.small_minus_large.estimate + 0.25).abs() < 1e-12);
        assert!(compare(&[]).is_none());
    }
}
