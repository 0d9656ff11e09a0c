//! From which volume on a small model pays: the smallest number of requests a month at which a choice costs no more
//! than the large model alone, with what is paid once spread over the horizon.

use crate::{
    framework::Choice,
    ownership::{Assumptions, ownership},
};
use serde::Serialize;
use understudy_core::{Money, Result};

/// The largest volume that is looked at: a trillion requests a month.
const MOST: u64 = 1_000_000_000_000;

/// Where a choice begins to pay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakEven {
    /// The choice, against the large model alone.
    pub choice: Choice,
    /// Smallest volume in requests a month at which it costs no more; none when there is none below a trillion, or
    /// when amounts end before.
    pub requests_per_month: Option<u64>,
    /// Months until what is saved at the assumed volume has paid for what is paid once; none when nothing is saved.
    pub months_to_repay: Option<f64>,
}

/// What every choice costs a month at one volume, with what is paid once spread over the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Requests a month.
    pub requests_per_month: u64,
    /// Small alone.
    pub small: Money,
    /// Hybrid.
    pub hybrid: Money,
    /// Large alone.
    pub large: Money,
}

impl Point {
    /// What one choice costs.
    #[must_use]
    pub const fn cost(&self, choice: Choice) -> Money {
        match choice {
            Choice::Small => self.small,
            Choice::Hybrid => self.hybrid,
            Choice::Large => self.large,
        }
    }
}

/// Finds the break-even of a choice against the large model alone.
///
/// Between two machine counts costs are linear in the volume, so that each such piece holds at most one crossing; the
/// first piece that has one decides.
///
/// # Errors
/// `Invalid` when an assumption is out of range.
pub fn break_even(choice: Choice, assumptions: &Assumptions) -> Result<BreakEven> {
    let (ours, theirs) = (ownership(choice, assumptions)?, ownership(Choice::Large, assumptions)?);
    let saved = (theirs.month - ours.month).usd();
    let months_to_repay = (saved > 0.0).then(|| (ours.once - theirs.once).usd().max(0.0) / saved);
    Ok(BreakEven { choice, requests_per_month: smallest(choice, assumptions), months_to_repay })
}

/// Whether the choice costs no more than the large model; `None` where the amounts leave the ledger's range.
fn pays(choice: Choice, assumptions: &Assumptions, volume: u64) -> Option<bool> {
    let at = assumptions.at(volume);
    let ours = ownership(choice, &at).ok()?;
    let theirs = ownership(Choice::Large, &at).ok()?;
    Some(ours.month_spread <= theirs.month_spread)
}

fn smallest(choice: Choice, assumptions: &Assumptions) -> Option<u64> {
    let mut from = 1;
    while from <= MOST {
        let to = last_with_as_many_machines(assumptions, from);
        if pays(choice, assumptions, from)? {
            return Some(from);
        }
        if pays(choice, assumptions, to).unwrap_or(false) {
            return first(from, to, |volume| pays(choice, assumptions, volume).unwrap_or(false));
        }
        // Where a full machine does not earn its rent, ten thousand of them do not either.
        if assumptions.machines(to) > 10_000 {
            return None;
        }
        from = to + 1;
    }
    None
}

fn last_with_as_many_machines(assumptions: &Assumptions, from: u64) -> u64 {
    let machines = assumptions.machines(from);
    first(from, MOST + 1, |volume| assumptions.machines(volume) > machines).unwrap_or(MOST + 1) - 1
}

/// The first volume in `low..=high` for which `holds`, given that it holds from there on; none when it never does.
fn first(low: u64, high: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (low, high);
    if !holds(high) {
        return None;
    }
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    Some(low)
}

/// Costs over volumes: every half decade from a hundredth of the assumed volume to a hundred times it, and the break-even
/// points themselves where they are given.
///
/// # Errors
/// `Invalid` when an assumption is out of range; volumes whose cost leaves the ledger's range are left out.
pub fn curve(assumptions: &Assumptions, also: &[u64]) -> Result<Vec<Point>> {
    assumptions.check()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; saturates")]
    let steps = (-8..=8)
        .map(|step| ((assumptions.requests_per_month as f64) * 10f64.powf(f64::from(step) / 4.0)).round() as u64);
    let mut volumes: Vec<u64> =
        steps.chain(also.iter().copied()).filter(|volume| (1..=MOST).contains(volume)).collect();
    volumes.sort_unstable();
    volumes.dedup();
    let point = |volume: u64| -> Result<Point> {
        let at = assumptions.at(volume);
        let cost = |choice| ownership(choice, &at).map(|o| o.month_spread);
        Ok(Point {
            requests_per_month: volume,
            small: cost(Choice::Small)?,
            hybrid: cost(Choice::Hybrid)?,
            large: cost(Choice::Large)?,
        })
    };
    Ok(volumes.into_iter().filter_map(|volume| point(volume).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::blended;
    use proptest::prelude::*;
    use understudy_core::Usage;

    fn assumptions(large_usd: f64, capacity_per_s: f64, machine_usd: f64) -> Assumptions {
        Assumptions {
            usage: Usage { input_tokens: 1000, output_tokens: 0, ..Usage::default() },
            large_price: blended(Money::from_usd(large_usd).expect("small")),
            capacity_per_s,
            machine_month: Money::from_usd(machine_usd).expect("small"),
            ..Assumptions::default()
        }
    }

    #[test]
    fn at_the_break_even_it_pays_and_one_request_earlier_it_does_not() {
        for choice in [Choice::Small, Choice::Hybrid] {
            let a = assumptions(5.0, 50.0, 50.0);
            let volume = break_even(choice, &a).expect("valid").requests_per_month.expect("it pays at some volume");
            assert_eq!((pays(choice, &a, volume), pays(choice, &a, volume - 1)), (Some(true), Some(false)));
        }
    }

    #[test]
    fn a_machine_that_never_earns_its_rent_never_breaks_even() {
        // $0.00001 a request against a machine that does 0.1 requests a second for $500.
        let out = break_even(Choice::Small, &assumptions(0.01, 0.1, 500.0)).expect("valid");
        assert_eq!((out.requests_per_month, out.months_to_repay), (None, None));
    }

    #[test]
    fn the_curve_holds_the_volumes_that_were_asked_for() {
        let points = curve(&assumptions(5.0, 50.0, 50.0), &[123_456]).expect("valid");
        assert!(points.iter().any(|p| p.requests_per_month == 123_456));
        assert!(
            points.windows(2).all(|w| w[0].requests_per_month < w[1].requests_per_month && w[0].large <= w[1].large)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Trying every volume on a coarse scale never finds an earlier one.
        #[test]
        fn no_smaller_volume_pays(price in 0.01f64..50.0, capacity in 0.01f64..100.0, machine in 1.0f64..1000.0) {
            let a = assumptions(price, capacity, machine);
            let found = break_even(Choice::Hybrid, &a).expect("valid").requests_per_month;
            let mut volume = 1.0f64;
            while volume < 1e9 {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e9")]
                let v = volume as u64;
                if found.is_none_or(|found| v < found) && pays(Choice::Hybrid, &a, v) == Some(true) {
                    prop_assert!(false, "{v} pays, found {found:?}");
                }
                volume *= 1.07;
            }
        }
    }
}
