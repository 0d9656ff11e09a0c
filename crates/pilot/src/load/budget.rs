//! What a measurement may spend: requests and money. A request is admitted only when the dearest answer so far, for it
//! and for everything under way, still fits.

use std::sync::{Mutex, PoisonError};
use understudy_core::Money;

/// The most that may be spent; none is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Requests, warm-up included.
    pub requests: Option<u64>,
    /// Money.
    pub money: Option<Money>,
}

/// What was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Spent {
    admitted: u64,
    under_way: u64,
    money: Money,
    dearest: Money,
    /// Answers whose cost is unknown.
    unknown: u64,
    refused: bool,
}

/// Limits and what was spent of them, shared by every user.
#[derive(Debug, Default)]
pub struct Budget {
    limits: Limits,
    spent: Mutex<Spent>,
}

impl Budget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, spent: Mutex::default() }
    }

    /// Asks to send one request. Whoever is admitted reports back with [`Budget::done`].
    #[must_use]
    pub fn admit(&self) -> bool {
        let mut spent = self.lock();
        let requests = self.limits.requests.is_none_or(|most| spent.admitted < most);
        let money = self.limits.money.is_none_or(|most| {
            let reserved = spent.dearest.times(spent.under_way + 1).unwrap_or(Money::from_nanos(i64::MAX));
            // Nothing is known of the first answer's cost: it goes alone.
            let first = spent.dearest == Money::ZERO && spent.under_way > 0 && spent.admitted == spent.under_way;
            spent.money + reserved <= most && !first
        });
        if requests && money {
            spent.admitted += 1;
            spent.under_way += 1;
        } else if !(requests && spent.under_way > 0) {
            // With answers under way there may be room again when they cost less than feared.
            spent.refused = true;
        }
        requests && money
    }

    /// Reports an answer, or a failure, which costs nothing.
    pub fn done(&self, cost: Option<Money>, answered: bool) {
        let mut spent = self.lock();
        spent.under_way -= 1;
        match cost {
            Some(cost) => {
                spent.money = spent.money + cost;
                spent.dearest = spent.dearest.max(cost);
            }
            None => spent.unknown += u64::from(answered),
        }
    }

    /// Whether a request was refused for good.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.lock().refused
    }

    /// Money spent, and the number of answers of unknown cost that are not in it.
    #[must_use]
    pub fn money(&self) -> (Money, u64) {
        let spent = self.lock();
        (spent.money, spent.unknown)
    }

    /// Requests sent.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.lock().admitted
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: Option<u64>, nanos: Option<i64>) -> Budget {
        Budget::new(Limits { requests, money: nanos.map(Money::from_nanos) })
    }

    #[test]
    fn no_more_requests_are_sent_than_allowed() {
        let budget = limits(Some(2), None);
        assert!(budget.admit() && budget.admit() && !budget.admit());
        assert!(budget.is_spent());
        assert_eq!(budget.requests(), 2);
    }

    #[test]
    fn money_is_reserved_for_what_is_under_way() {
        let budget = limits(None, Some(100));
        assert!(budget.admit());
        assert!(!budget.admit(), "the first answer goes alone: its cost is not known");
        assert!(!budget.is_spent());
        budget.done(Some(Money::from_nanos(30)), true);
        // 30 spent; two more at 30 fit, a third would not.
        assert!(budget.admit() && budget.admit() && !budget.admit());
        assert!(!budget.is_spent(), "those under way may turn out cheaper");
        budget.done(Some(Money::from_nanos(1)), true);
        assert!(budget.admit());
        budget.done(Some(Money::from_nanos(30)), true);
        budget.done(Some(Money::from_nanos(30)), true);
        assert!(!budget.admit() && budget.is_spent());
        assert!(budget.money().0 <= Money::from_nanos(100));
    }

    #[test]
    fn a_failure_costs_nothing_and_an_unknown_cost_is_counted() {
        let budget = limits(None, None);
        assert!(budget.admit() && budget.admit());
        budget.done(None, false);
        budget.done(None, true);
        assert_eq!(budget.money(), (Money::ZERO, 1));
    }
}
