//! Total cost of ownership of each choice: tokens, audits, machines, energy, operations, and once: setting up,
//! annotation, training. Every number that goes in is an assumption with a name and an origin.

use crate::{
    cost::{Span, bill},
    framework::Choice,
};
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Error, Money, Price, Result, Usage};

/// Hours in an average month: 365 / 12 days.
pub const HOURS_PER_MONTH: f64 = 730.0;
/// Share of a machine's capacity that is planned for; the rest absorbs what the peak factor does not.
const FILL: f64 = 0.7;

/// What the costs rest on. [`Assumptions::default`] is a starting point; `basis` says where each value comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumptions {
    /// Requests a month.
    pub requests_per_month: u64,
    /// The busiest second beside the average one, at least 1.
    pub peak_factor: f64,
    /// Tokens of one request.
    pub usage: Usage,
    /// The large model's name in the price table, or whatever names it.
    pub large: String,
    /// Its price.
    pub large_price: Price,
    /// The small model's name.
    pub small: String,
    /// Requests a second that one machine answers with it.
    pub capacity_per_s: f64,
    /// Share of the requests that the small model answers in a hybrid, in [0, 1].
    pub local_share: f64,
    /// Share of its answers that the large model audits, in [0, 1].
    pub audit: f64,
    /// Rent of one machine a month.
    pub machine_month: Money,
    /// Power of one machine in watts, where it is paid on top of the rent.
    pub watts: f64,
    /// Price of a kilowatt-hour.
    pub kwh: Money,
    /// Labels that training and certifying take.
    pub labels: u64,
    /// Labels at hand.
    pub labels_at_hand: u64,
    /// Price of one label.
    pub label: Money,
    /// Hours that a machine trains.
    pub training_hours: f64,
    /// Hours of work to set up: a large model alone, and on top of it a small one.
    pub setup_hours: (f64, f64),
    /// Hours of work a month: a large model alone, and a small one beside it or alone.
    pub operation_hours: (f64, f64),
    /// Price of an hour of work.
    pub hour: Money,
    /// Months over which what is paid once is spread.
    pub horizon_months: u64,
    /// What was measured a request, in place of tokens and prices.
    pub measured: Option<Measured>,
    /// Where values come from, by name: `flag`, `file`, `use case`, `measured …`. What is not in it is assumed.
    pub basis: BTreeMap<&'static str, String>,
}

/// Costs of a request as measured or forecast from measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// The large model alone.
    pub large: Money,
    /// The hybrid, without audits.
    pub hybrid: Money,
    /// Its audits.
    pub audits: Money,
}

impl Default for Assumptions {
    fn default() -> Self {
        let usd = |usd: i64| Money::from_nanos(usd * 1_000_000_000);
        let cents = |cents: i64| Money::from_nanos(cents * 10_000_000);
        Self {
            requests_per_month: 100_000,
            peak_factor: 4.0,
            usage: Usage { input_tokens: 500, output_tokens: 100, ..Usage::default() },
            large: String::new(),
            large_price: Price::LOCAL,
            small: String::new(),
            capacity_per_s: 10.0,
            local_share: 0.7,
            audit: 0.01,
            machine_month: usd(50),
            watts: 0.0,
            kwh: cents(15),
            labels: 2000,
            labels_at_hand: 0,
            label: cents(10),
            training_hours: 1.0,
            setup_hours: (8.0, 24.0),
            operation_hours: (1.0, 3.0),
            hour: usd(80),
            horizon_months: 12,
            measured: None,
            basis: BTreeMap::new(),
        }
    }
}

/// One line of the bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// `tokens`, `audits`, `machines`, `energy`, `operations`, `set-up`, `annotation`, `training`.
    pub name: &'static str,
    /// USD a month, in nano-dollars.
    pub month: Money,
    /// USD once, in nano-dollars.
    pub once: Money,
}

/// What one choice costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ownership {
    /// Which.
    pub choice: Choice,
    /// Every line.
    pub items: Vec<Item>,
    /// Machines that run the small model.
    pub machines: u64,
    /// Kilowatt-hours a month of these machines; the large model's energy is not known and not counted.
    pub kwh_month: f64,
    /// A month of running.
    pub month: Money,
    /// What is paid once.
    pub once: Money,
    /// The first year: twelve months and what is paid once.
    pub first_year: Money,
    /// A month with what is paid once spread over the horizon.
    pub month_spread: Money,
    /// The same for one request.
    pub per_query: Money,
}

impl Assumptions {
    /// The same at another volume.
    #[must_use]
    pub fn at(&self, requests_per_month: u64) -> Self {
        Self { requests_per_month, ..self.clone() }
    }

    /// Machines for a volume: its busiest second over what a machine is planned for, at least one.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; saturates")]
    pub fn machines(&self, requests_per_month: u64) -> u64 {
        let average = requests_per_month as f64 / (HOURS_PER_MONTH * 3600.0);
        ((average * self.peak_factor / (self.capacity_per_s * FILL)).ceil() as u64).max(1)
    }

    /// Checks every number.
    ///
    /// # Errors
    /// `Invalid`, naming the assumption.
    pub fn check(&self) -> Result<()> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let amount = |x: f64| x.is_finite() && x >= 0.0;
        let checks = [
            ("requests-per-month", self.requests_per_month > 0),
            ("peak-factor", self.peak_factor.is_finite() && self.peak_factor >= 1.0),
            ("capacity", positive(self.capacity_per_s)),
            ("local-share", share(self.local_share)),
            ("audit", share(self.audit)),
            ("watts", amount(self.watts)),
            ("training-hours", amount(self.training_hours)),
            ("setup-hours", amount(self.setup_hours.0) && amount(self.setup_hours.1)),
            ("operation-hours", amount(self.operation_hours.0) && amount(self.operation_hours.1)),
            ("horizon-months", self.horizon_months > 0),
            ("prices", [self.machine_month, self.kwh, self.label, self.hour].iter().all(|m| *m >= Money::ZERO)),
        ];
        match checks.iter().find(|(_, good)| !good) {
            Some((name, _)) => Err(Error::invalid(format!(
                "use the assumption {name}: it is out of range (shares lie in [0, 1], factors start at 1, amounts at 0)"
            ))
            .with_param(*name)),
            None => Ok(()),
        }
    }
}

/// The total cost of one choice.
///
/// # Errors
/// `Invalid` when an assumption is out of range or an amount beyond 9.2 billion dollars.
pub fn ownership(choice: Choice, a: &Assumptions) -> Result<Ownership> {
    a.check()?;
    let (small, large) = (choice != Choice::Large, choice != Choice::Small);
    let machines = if small { a.machines(a.requests_per_month) } else { 0 };
    let kwh_month = machines as f64 * a.watts * HOURS_PER_MONTH / 1000.0;
    let hours = |(base, more): (f64, f64)| match choice {
        Choice::Large => base,
        // The large model's part is there in a hybrid, too.
        Choice::Hybrid => base + more,
        Choice::Small => more,
    };
    let missing = a.labels.saturating_sub(a.labels_at_hand);
    // In a hybrid the large model's recorded answers are the labels; they were paid as answers.
    let annotation = if choice == Choice::Small { a.label.times(missing)? } else { Money::ZERO };
    let training = if small { a.machine_month.scaled(a.training_hours / HOURS_PER_MONTH)? } else { Money::ZERO };
    let (tokens, audits) = tokens(choice, a)?;
    let month = |name, month| Item { name, month, once: Money::ZERO };
    let once = |name, once| Item { name, month: Money::ZERO, once };
    let all = [
        (large, month("tokens", tokens)),
        (choice == Choice::Hybrid, month("audits", audits)),
        (small, month("machines", a.machine_month.times(machines)?)),
        (small, month("energy", a.kwh.scaled(kwh_month)?)),
        (true, month("operations", a.hour.scaled(hours(a.operation_hours))?)),
        (true, once("set-up", a.hour.scaled(hours(a.setup_hours))?)),
        (small, once("annotation", annotation)),
        (small, once("training", training)),
    ];
    let items: Vec<Item> = all.into_iter().filter(|(there, _)| *there).map(|(_, item)| item).collect();
    let running: Money = items.iter().map(|item| item.month).sum();
    let paid_once: Money = items.iter().map(|item| item.once).sum();
    let month_spread = running + paid_once.scaled(1.0 / a.horizon_months as f64)?;
    Ok(Ownership {
        choice,
        machines,
        kwh_month,
        month: running,
        once: paid_once,
        first_year: running.times(12)? + paid_once,
        month_spread,
        per_query: month_spread.scaled(1.0 / a.requests_per_month as f64)?,
        items,
    })
}

/// Tokens of the large model a month, for answers and for audits.
fn tokens(choice: Choice, a: &Assumptions) -> Result<(Money, Money)> {
    let n = a.requests_per_month;
    if let Some(measured) = a.measured {
        return Ok(match choice {
            Choice::Small => (Money::ZERO, Money::ZERO),
            Choice::Large => (measured.large.times(n)?, Money::ZERO),
            Choice::Hybrid => (measured.hybrid.times(n)?, measured.audits.times(n)?),
        });
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    let part = |share: f64| (n as f64 * share).round() as u64;
    let cost = |requests| bill(&a.large_price, &a.usage, requests, Span::ONE);
    Ok(match choice {
        Choice::Small => (Money::ZERO, Money::ZERO),
        Choice::Large => (cost(n)?, Money::ZERO),
        Choice::Hybrid => (cost(n - part(a.local_share).min(n))?, cost(part(a.local_share * a.audit))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::blended;

    fn usd(x: f64) -> Money {
        Money::from_usd(x).expect("small")
    }

    fn assumptions() -> Assumptions {
        Assumptions {
            requests_per_month: 1_000_000,
            usage: Usage { input_tokens: 1000, output_tokens: 0, ..Usage::default() },
            large_price: blended(usd(10.0)),
            local_share: 0.8,
            watts: 100.0,
            ..Assumptions::default()
        }
    }

    /// A line of the bill: a month, once.
    fn item(of: &Ownership, name: &str) -> (Money, Money) {
        let item = of.items.iter().find(|item| item.name == name).expect("an item");
        (item.month, item.once)
    }

    #[test]
    fn every_line_is_what_the_assumptions_say() {
        let a = assumptions();
        let large = ownership(Choice::Large, &a).expect("valid");
        assert_eq!((item(&large, "tokens"), large.machines), ((usd(10_000.0), Money::ZERO), 0));
        assert_eq!(large.month, usd(10_080.0));
        assert_eq!((large.once, large.first_year), (usd(640.0), usd(12.0 * 10_080.0 + 640.0)));

        let hybrid = ownership(Choice::Hybrid, &a).expect("valid");
        assert_eq!(item(&hybrid, "tokens").0, usd(2000.0));
        assert_eq!(item(&hybrid, "audits").0, usd(80.0));
        assert_eq!((hybrid.machines, item(&hybrid, "machines").0), (1, usd(50.0)));
        assert_eq!(item(&hybrid, "energy").0, usd(0.1 * 730.0 * 0.15));
        assert_eq!((item(&hybrid, "operations").0, item(&hybrid, "set-up").1), (usd(320.0), usd(2560.0)));
        assert_eq!(item(&hybrid, "annotation").1, usd(0.0));

        let small = ownership(Choice::Small, &a).expect("valid");
        assert_eq!(item(&small, "annotation").1, usd(200.0));
        assert!(small.items.iter().all(|item| item.name != "tokens"));
        assert_eq!(small.per_query, small.month_spread.scaled(1e-6).expect("small"));
    }

    #[test]
    fn a_peak_that_one_machine_does_not_hold_takes_more() {
        let a = Assumptions { capacity_per_s: 1.0, peak_factor: 10.0, ..assumptions() };
        // 1e6 / 2,628,000 s × 10 / 0.7 = 5.4.
        assert_eq!(ownership(Choice::Hybrid, &a).expect("valid").machines, 6);
    }

    #[test]
    fn what_was_measured_replaces_tokens_and_prices() {
        let measured = Some(Measured { large: usd(0.02), hybrid: usd(0.005), audits: usd(0.001) });
        let a = Assumptions { measured, ..assumptions() };
        assert_eq!(item(&ownership(Choice::Large, &a).expect("valid"), "tokens").0, usd(20_000.0));
        assert_eq!(item(&ownership(Choice::Hybrid, &a).expect("valid"), "audits").0, usd(1000.0));
    }

    #[test]
    fn an_assumption_out_of_range_is_named() {
        for (bad, name) in [
            (Assumptions { local_share: 1.2, ..assumptions() }, "local-share"),
            (Assumptions { peak_factor: 0.5, ..assumptions() }, "peak-factor"),
            (Assumptions { requests_per_month: 0, ..assumptions() }, "requests-per-month"),
            (Assumptions { capacity_per_s: f64::NAN, ..assumptions() }, "capacity"),
        ] {
            let error = ownership(Choice::Small, &bad).expect_err("out of range");
            assert_eq!(error.param(), Some(name));
        }
    }
}
