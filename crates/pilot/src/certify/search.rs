//! The search for the loosest threshold that passes, shared by certification and its simulation.
//!
//! The grid is tested from strict to loose and the search stops at the first threshold that fails (fixed-sequence
//! testing). One threshold passes when "the mean loss is above ε" is rejected at δ, by one of two tests:
//!
//! - **Counting**: the exact binomial test, for losses that either happen or not. A graded loss L in [0, 1] becomes one
//!   that happens with probability L, by a coin tossed beforehand: its mean is the same, so the test stays exact.
//! - **Betting** ([`hedged::Claim`]), for graded losses that are all small, and for differences. It gains from a small
//!   variance, and pays for being valid at every moment.
//!
//! Which of the two suits graded losses is told by a few items that take no further part.
//!
//! Counting whole losses over all requests, no valid procedure passes more: counts only grow with the threshold, so
//! "everything up to here passes" is "this one passes", and the exact test is the most powerful one of a probability.

use rand::{Rng, RngExt};
use understudy_core::{LossKind, Per};
use understudy_stats::{binomial, hedged};

/// Share of the items that look for the start of a search over kept answers.
const SCOUTS: f64 = 0.1;
/// Share of the items that tell how large graded losses are.
const SIZERS: f64 = 0.05;
/// Betting keeps more than counting where losses, weighted by themselves, are smaller than this on average: at the mean ε
/// that matters their variance is near this share of ε. Simulated with losses of one size from .1 to 1, ε of 1 and 5 %,
/// 1,500 and 4,000 items: the two cross between .6 and .8 in all four cases, and lie within a point of each other there.
const SMALL_LOSSES: f64 = 0.7;
/// The search over kept answers starts where about this many times the least possible number is kept.
const START: f64 = 2.0;

/// An item on the grid: the strictest threshold that keeps it (the grid's size: none does), its loss if kept, and the
/// coin in [0, 1) below whose value a graded loss counts as none; 0 for whole losses, which need no coin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Coded {
    pub(crate) first: u16,
    pub(crate) loss: f64,
    pub(crate) coin: f64,
}

/// How one threshold is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    Counting,
    Betting,
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

/// What a threshold did: items kept, losses above 0 among them, those that the coins let happen, their sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Count {
    pub(crate) kept: u64,
    pub(crate) losses: u64,
    pub(crate) happened: u64,
    pub(crate) sum: f64,
}

/// Counts at each threshold.
pub(crate) fn count(items: &[Coded], size: usize) -> Vec<Count> {
    let mut counts = vec![Count::default(); size + 1];
    for item in items {
        let count = &mut counts[usize::from(item.first)];
        count.kept += 1;
        count.losses += u64::from(item.loss > 0.0);
        count.happened += u64::from(item.coin < item.loss);
        count.sum += item.loss;
    }
    for i in 1..size {
        let before = counts[i - 1];
        counts[i].kept += before.kept;
        counts[i].losses += before.losses;
        counts[i].happened += before.happened;
        counts[i].sum += before.sum;
    }
    counts.truncate(size);
    counts
}

impl Search {
    /// Tosses the coins of graded losses.
    pub(crate) fn toss(&self, items: &mut [Coded], rng: &mut impl Rng) {
        if self.loss == LossKind::GradedRegret {
            for item in items {
                item.coin = rng.random();
            }
        }
    }

    /// The items that are tested; those before them only tell how.
    pub(crate) fn tested<'a>(&self, items: &'a [Coded]) -> &'a [Coded] {
        &items[self.scouts(items).len()..]
    }

    /// The first items of a random order. Over kept answers they tell where to start, because a search from the strictest
    /// threshold on would fail for want of kept answers; of graded losses, which test to use.
    fn scouts<'a>(&self, items: &'a [Coded]) -> &'a [Coded] {
        let share = match (self.per, self.loss) {
            (Per::Kept, _) => SCOUTS,
            (Per::Request, LossKind::GradedRegret) => SIZERS,
            (Per::Request, _) => 0.0,
        };
        &items[..portion(items.len(), share)]
    }

    /// The test for these items. Without a loss among the scouts, losses are counted.
    pub(crate) fn test(&self, items: &[Coded]) -> Test {
        match self.loss {
            LossKind::Regret | LossKind::Disagreement => Test::Counting,
            LossKind::Difference => Test::Betting,
            LossKind::GradedRegret => {
                let kept = |item: &&Coded| usize::from(item.first) < self.size;
                let (sum, squares) =
                    self.scouts(items).iter().filter(kept).fold((0.0, 0.0), |(sum, squares), item| {
                        (sum + item.loss, item.loss.mul_add(item.loss, squares))
                    });
                if squares < SMALL_LOSSES * sum { Test::Betting } else { Test::Counting }
            }
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
            Per::Kept => self.start(self.scouts(items), self.tested(items).len(), delta),
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
        let passes: Box<dyn Fn(usize) -> bool> = match (self.test(items), self.per) {
            (Test::Counting, Per::Request) => {
                let allowed = binomial::most_allowed(n, self.epsilon, level)?;
                let counts = &counts;
                Box::new(move |i| counts[i].happened <= allowed)
            }
            (Test::Counting, Per::Kept) => Box::new(|i| {
                !new(i)
                    || (counts[i].kept > 0 && binomial::cdf(counts[i].happened, counts[i].kept, self.epsilon) <= delta)
            }),
            (Test::Betting, _) => {
                Box::new(|i| !new(i) || self.claim().refuted(self.values(tested, i).into_iter(), delta))
            }
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

    /// Upper confidence limit of the loss at a threshold by `test`, at level 1 − `delta` for this threshold alone.
    pub(crate) fn bound(&self, test: Test, tested: &[Coded], threshold: usize, count: Count, delta: f64) -> f64 {
        let n = if self.per == Per::Kept { count.kept } else { tested.len() as u64 };
        if n == 0 {
            return 1.0;
        }
        match test {
            Test::Counting => binomial::upper(count.happened, n, 1.0 - delta),
            Test::Betting => {
                let claim = self.claim();
                hedged::upper(&self.values(tested, threshold), claim.low, claim.high, delta)
            }
        }
    }

    /// The loss of a threshold on a whole population.
    pub(crate) fn true_loss(&self, count: Count, population: usize) -> f64 {
        let n = if self.per == Per::Kept { count.kept as f64 } else { population as f64 };
        if n > 0.0 { count.sum / n } else { 0.0 }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn portion(n: usize, share: f64) -> usize {
    (n as f64 * share).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn what_was_not_tested_is_not_certified() {
        // The scouts keep little at strict thresholds, so that the search starts at the third; what is tested keeps all
        // its items at the first.
        let item = |first: u16| Coded { first, loss: 0.0, coin: 0.0 };
        let mut items = vec![item(2); 100];
        items.extend(vec![item(0); 900]);
        let search = Search { size: 4, loss: LossKind::Regret, per: Per::Kept, epsilon: 0.05 };
        assert_eq!(search.choose(&items, 0.05), Some(3));
        assert_eq!(search.certified(&items, 0.05), Some(2));
        let all = Search { per: Per::Request, ..search };
        assert_eq!(all.certified(&items[100..], 0.05), Some(0));
    }

    #[test]
    fn small_graded_losses_are_bet_on_and_large_ones_counted() {
        let search = Search { size: 4, loss: LossKind::GradedRegret, per: Per::Request, epsilon: 0.05 };
        let test = |sizes: [f64; 4]| {
            let items = (0..400_usize).map(|i| Coded { first: 0, loss: sizes[i % 4], coin: 0.0 });
            search.test(&items.collect::<Vec<_>>())
        };
        assert_eq!(test([0.0, 0.1, 0.0, 0.2]), Test::Betting);
        assert_eq!(test([0.0, 1.0, 0.0, 0.5]), Test::Counting);
        assert_eq!(test([0.0; 4]), Test::Counting);
        let whole = Search { loss: LossKind::Regret, ..search };
        assert_eq!(whole.tested(&[Coded { first: 0, loss: 0.0, coin: 0.0 }; 100]).len(), 100);
        assert_eq!(search.tested(&[Coded { first: 0, loss: 0.0, coin: 0.0 }; 100]).len(), 95);
    }

    #[test]
    fn a_coin_lets_a_graded_loss_happen_as_often_as_it_is_large() {
        let search = Search { size: 1, loss: LossKind::GradedRegret, per: Per::Request, epsilon: 0.05 };
        let mut items = vec![Coded { first: 0, loss: 0.3, coin: 0.0 }; 20_000];
        search.toss(&mut items, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
        let share = count(&items, 1)[0].happened as f64 / 20_000.0;
        assert!((share - 0.3).abs() < 0.01, "{share}");
    }
}
