//! The search for the loosest threshold that passes, shared by certification and its simulation.
//!
//! The grid is tested from strict to loose and the search stops at the first threshold that fails (fixed-sequence
//! testing). One threshold passes when "the mean loss is above ε" is rejected at δ: by the exact binomial test for
//! losses that either happen or not, by betting for graded ones.
//!
//! Counting whole losses over all requests, no valid procedure passes more: counts only grow with the threshold, so
//! "everything up to here passes" is "this one passes", and the exact test is the most powerful one of a probability.

use understudy_core::{LossKind, Per};
use understudy_stats::{binomial, hedged};

/// Smallest share of items that look for the start of a search over kept answers.
const SCOUTS: f64 = 0.1;
/// The search over kept answers starts where about this many times the least possible number is kept.
const START: f64 = 2.0;

/// An item on the grid: the strictest threshold that keeps it (the grid's size: none does), and its loss if kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Coded {
    pub(crate) first: u16,
    pub(crate) loss: f64,
}

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Search {
    /// Thresholds of the grid.
    pub(crate) size: usize,
    pub(crate) loss: LossKind,
    pub(crate) per: Per,
    pub(crate) epsilon: f64,
}

/// What a threshold did: items kept, losses above 0 among them, their sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Count {
    pub(crate) kept: u64,
    pub(crate) losses: u64,
    pub(crate) sum: f64,
}

/// Counts at each threshold.
pub(crate) fn count(items: &[Coded], size: usize) -> Vec<Count> {
    let mut counts = vec![Count::default(); size + 1];
    for item in items {
        let count = &mut counts[usize::from(item.first)];
        count.kept += 1;
        count.losses += u64::from(item.loss > 0.0);
        count.sum += item.loss;
    }
    for i in 1..size {
        let before = counts[i - 1];
        counts[i].kept += before.kept;
        counts[i].losses += before.losses;
        counts[i].sum += before.sum;
    }
    counts.truncate(size);
    counts
}

impl Search {
    /// The items that are tested. Over kept answers the first of them only tell where to start, because a search from
    /// the strictest threshold on would fail for want of kept answers.
    pub(crate) fn tested<'a>(&self, items: &'a [Coded]) -> &'a [Coded] {
        match self.per {
            Per::Request => items,
            Per::Kept => &items[scouts(items.len())..],
        }
    }

    /// Index of the certified threshold: among those that keep the same items as the loosest that passed the strictest,
    /// which promises least about items between; never one before the start, which was not tested.
    pub(crate) fn certified(&self, items: &[Coded], delta: f64) -> Option<usize> {
        let chosen = self.choose(items, delta)?;
        let counts = count(self.tested(items), self.size);
        let start = self.first(items, delta)?;
        let changes = |&i: &usize| counts[i].kept > if i == start { 0 } else { counts[i - 1].kept };
        (start..=chosen).rev().find(changes)
    }

    /// The first threshold that is tested.
    fn first(&self, items: &[Coded], delta: f64) -> Option<usize> {
        match self.per {
            Per::Request => Some(0),
            Per::Kept => self.start(&items[..scouts(items.len())], self.tested(items).len(), delta),
        }
    }

    /// Index of the loosest threshold in the unbroken run of passes, with `items` in random order.
    pub(crate) fn choose(&self, items: &[Coded], delta: f64) -> Option<usize> {
        let tested = self.tested(items);
        let counts = count(tested, self.size);
        let n = tested.len() as u64;
        let level = 1.0 - delta;
        let start = self.first(items, delta)?;
        // A threshold that keeps no item more than the one before passes as that one did.
        let new = |i: usize| i == start || counts[i].kept > counts[i - 1].kept;
        let passes: Box<dyn Fn(usize) -> bool> = match (self.loss.is_binary(), self.per) {
            (true, Per::Request) => {
                let allowed = binomial::most_allowed(n, self.epsilon, level)?;
                let counts = &counts;
                Box::new(move |i| counts[i].losses <= allowed)
            }
            (true, Per::Kept) => Box::new(|i| {
                !new(i)
                    || (counts[i].kept > 0 && binomial::cdf(counts[i].losses, counts[i].kept, self.epsilon) <= delta)
            }),
            (false, _) => Box::new(|i| !new(i) || self.claim().refuted(self.values(tested, i).into_iter(), delta)),
        };
        understudy_stats::sequence::last_rejected(self.size - start, |i| passes(start + i)).map(|i| start + i)
    }

    /// Where a search over kept answers starts, from the scouts' confidences alone.
    fn start(&self, scouts: &[Coded], tested: usize, delta: f64) -> Option<usize> {
        let least = delta.ln() / (1.0 - self.epsilon).ln();
        let share = START * least / tested.max(1) as f64;
        let counts = count(scouts, self.size);
        (0..self.size).find(|&i| counts[i].kept as f64 >= share * scouts.len() as f64 && counts[i].kept > 0)
    }

    /// What betting refutes: that the mean loss is at least ε.
    fn claim(&self) -> hedged::Claim {
        let low = if self.loss == LossKind::Difference { -1.0 } else { 0.0 };
        hedged::Claim { low, high: 1.0, at_least: self.epsilon }
    }

    /// The values whose mean is the loss at a threshold.
    fn values(&self, tested: &[Coded], threshold: usize) -> Vec<f64> {
        let kept = |item: &Coded| usize::from(item.first) <= threshold;
        match self.per {
            Per::Request => tested.iter().map(|item| if kept(item) { item.loss } else { 0.0 }).collect(),
            Per::Kept => tested.iter().filter(|item| kept(item)).map(|item| item.loss).collect(),
        }
    }

    /// Upper confidence limit of the loss at a threshold, at level 1 − `delta` for this threshold alone.
    pub(crate) fn bound(&self, tested: &[Coded], threshold: usize, count: Count, delta: f64) -> f64 {
        let n = if self.per == Per::Kept { count.kept } else { tested.len() as u64 };
        if n == 0 {
            return 1.0;
        }
        if self.loss.is_binary() {
            return binomial::upper(count.losses, n, 1.0 - delta);
        }
        let claim = self.claim();
        hedged::upper(&self.values(tested, threshold), claim.low, claim.high, delta)
    }

    /// The loss of a threshold on a whole population.
    pub(crate) fn true_loss(&self, count: Count, population: usize) -> f64 {
        let n = if self.per == Per::Kept { count.kept as f64 } else { population as f64 };
        if n > 0.0 { count.sum / n } else { 0.0 }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn scouts(n: usize) -> usize {
    (n as f64 * SCOUTS).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_tested_is_not_certified() {
        // The scouts keep little at strict thresholds, so that the search starts at the third; what is tested keeps all
        // its items at the first.
        let item = |first: u16| Coded { first, loss: 0.0 };
        let mut items = vec![item(2); 100];
        items.extend(vec![item(0); 900]);
        let search = Search { size: 4, loss: LossKind::Regret, per: Per::Kept, epsilon: 0.05 };
        assert_eq!(search.choose(&items, 0.05), Some(3));
        assert_eq!(search.certified(&items, 0.05), Some(2));
        let all = Search { per: Per::Request, ..search };
        assert_eq!(all.certified(&items[100..], 0.05), Some(0));
    }
}
