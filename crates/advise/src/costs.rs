//! What is said about costs, in flags or in the `[cost]` table of a file, and the assumptions that come of it. What is
//! not said is assumed, and every assumption can name its origin.

use crate::{
    cost::Span,
    fit::{Machine, Speed},
    ownership::Assumptions,
};
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Money, Price, Result};

/// Values as they are given. Absent means assumed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Costs {
    /// Requests a month.
    pub requests_per_month: Option<u64>,
    /// Requests a day; a month has 365/12 days.
    pub requests_per_day: Option<u64>,
    /// Tokens in, a request.
    pub input_tokens: Option<u64>,
    /// Tokens out, a request.
    pub output_tokens: Option<u64>,
    /// Tokens in that the provider reads from its cache.
    pub cached_tokens: Option<u64>,
    /// The large model, as the price table calls it.
    pub large: Option<String>,
    /// Its price instead of the table's: `IN/OUT` in USD per million tokens.
    pub large_price: Option<String>,
    /// The small model of the catalogue.
    pub small: Option<String>,
    /// Requests a second on one machine.
    pub capacity_per_s: Option<f64>,
    /// The busiest second beside the average one.
    pub peak_factor: Option<f64>,
    /// Share answered by the small model in a hybrid.
    pub local_share: Option<f64>,
    /// Share of its answers that are audited.
    pub audit: Option<f64>,
    /// Rent of one machine.
    pub machine_usd_month: Option<f64>,
    /// Power of one machine, where it is paid on top.
    pub watts: Option<f64>,
    /// Price of a kilowatt-hour.
    pub usd_per_kwh: Option<f64>,
    /// Labels that training and certifying take.
    pub labels: Option<u64>,
    /// Price of a label.
    pub usd_per_label: Option<f64>,
    /// Hours that a machine trains.
    pub training_hours: Option<f64>,
    /// Hours of work to set a small model up.
    pub setup_hours: Option<f64>,
    /// Hours of work a month that a small model takes.
    pub operation_hours: Option<f64>,
    /// Price of an hour of work.
    pub usd_per_hour: Option<f64>,
    /// Months over which what is paid once is spread.
    pub horizon_months: Option<u64>,
}

/// What the answers and the catalogue contribute.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Typical tokens of the use case: in, out.
    pub tokens: Option<[u64; 2]>,
    /// The machine.
    pub machine: Machine,
    /// The small model and its speed there; none when no model fits.
    pub small: Option<(String, Speed)>,
    /// The large model where none is named.
    pub large: &'static str,
    /// Labelled examples at hand.
    pub labelled: u64,
    /// Whether the small model writes; a classifier does not.
    pub writes: Writes,
}

/// Whether the small model writes text or picks a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It writes as many tokens as the large one.
    Text,
    /// It picks a label.
    Label,
}

/// Where given values come from.
const GIVEN: &str = "given";

macro_rules! each_or {
    ($a:ident, $b:ident, $($field:ident),+ $(,)?) => { Self { $($field: $a.$field.or($b.$field)),+ } };
}

impl Costs {
    /// These values where they are given, else `other`'s.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        // A volume in one unit replaces a volume in the other.
        let other = match self.requests_per_month.is_some() || self.requests_per_day.is_some() {
            true => Self { requests_per_month: None, requests_per_day: None, ..other },
            false => other,
        };
        each_or!(
            self,
            other,
            requests_per_month,
            requests_per_day,
            input_tokens,
            output_tokens,
            cached_tokens,
            large,
            large_price,
            small,
            capacity_per_s,
            peak_factor,
            local_share,
            audit,
            machine_usd_month,
            watts,
            usd_per_kwh,
            labels,
            usd_per_label,
            training_hours,
            setup_hours,
            operation_hours,
            usd_per_hour,
            horizon_months,
        )
    }

    /// The assumptions: what is given, else what the setting says, else a starting point. `price_of` looks a model up in
    /// the price table, and says where the price comes from.
    ///
    /// # Errors
    /// `Invalid`, naming the value; what `price_of` says of an unknown model.
    pub fn assume(&self, setting: &Setting, price_of: impl Fn(&str) -> Result<(Price, String)>) -> Result<Assumptions> {
        let mut a = Assumptions::default();
        let usd = |name: &'static str, value: f64| {
            Money::from_usd(value).map_err(|e| e.context(format!("read {name}")).with_param(name))
        };
        if let Some([input, output]) = setting.tokens {
            (a.usage.input_tokens, a.usage.output_tokens) = (input, output);
            a.basis.insert("input-tokens", "typical of the use case".to_owned());
            a.basis.insert("output-tokens", "typical of the use case".to_owned());
        }
        if let Some(n) = self.input_tokens {
            a.usage.input_tokens = n;
            a.basis.insert("input-tokens", GIVEN.to_owned());
        }
        if let Some(n) = self.output_tokens {
            a.usage.output_tokens = n;
            a.basis.insert("output-tokens", GIVEN.to_owned());
        }
        if let Some(n) = self.cached_tokens {
            a.usage.cached_input_tokens = n.min(a.usage.input_tokens);
            a.basis.insert("cached-tokens", GIVEN.to_owned());
        }
        match (self.requests_per_month, self.requests_per_day) {
            (Some(n), _) => {
                a.requests_per_month = n;
                a.basis.insert("requests-per-month", GIVEN.to_owned());
            }
            (None, Some(n)) => {
                let month = Span::AVERAGE_MONTH;
                a.requests_per_month = n
                    .checked_mul(month.units)
                    .map(|n| (n + month.of / 2) / month.of)
                    .ok_or_else(|| Error::invalid("read requests-per-day: it is too large"))?;
                a.basis.insert("requests-per-month", "given a day, times 365/12".to_owned());
            }
            (None, None) => {}
        }
        a.large = self.large.clone().unwrap_or_else(|| setting.large.to_owned());
        if self.large.is_some() {
            a.basis.insert("large", GIVEN.to_owned());
        }
        match &self.large_price {
            Some(text) => {
                a.large_price = parse_price(text)?;
                a.basis.insert("large-price", GIVEN.to_owned());
            }
            None => {
                let (price, from) = price_of(&a.large)?;
                a.large_price = price;
                a.basis.insert("large-price", from);
            }
        }
        let output = if setting.writes == Writes::Text { a.usage.output_tokens } else { 0 };
        if let Some((name, speed)) = &setting.small {
            a.small.clone_from(name);
            a.capacity_per_s = speed.requests_per_s(a.usage.input_tokens, output);
            a.basis.insert("capacity", "interpolated from measurements on 2 cores".to_owned());
        }
        a.machine_month = usd("machine-usd-month", setting.machine.usd_month)?;
        a.watts = setting.machine.watts;
        a.labels_at_hand = setting.labelled;
        let numbers: [(&'static str, Option<f64>, &mut f64); 7] = [
            ("capacity", self.capacity_per_s, &mut a.capacity_per_s),
            ("peak-factor", self.peak_factor, &mut a.peak_factor),
            ("local-share", self.local_share, &mut a.local_share),
            ("audit", self.audit, &mut a.audit),
            ("watts", self.watts, &mut a.watts),
            ("training-hours", self.training_hours, &mut a.training_hours),
            ("setup-hours", self.setup_hours, &mut a.setup_hours.1),
        ];
        for (name, given, place) in numbers {
            if let Some(value) = given {
                *place = value;
                a.basis.insert(name, GIVEN.to_owned());
            }
        }
        if let Some(hours) = self.operation_hours {
            a.operation_hours.1 = hours;
            a.basis.insert("operation-hours", GIVEN.to_owned());
        }
        let amounts: [(&'static str, Option<f64>, &mut Money); 4] = [
            ("machine-usd-month", self.machine_usd_month, &mut a.machine_month),
            ("usd-per-kwh", self.usd_per_kwh, &mut a.kwh),
            ("usd-per-label", self.usd_per_label, &mut a.label),
            ("usd-per-hour", self.usd_per_hour, &mut a.hour),
        ];
        for (name, given, place) in amounts {
            if let Some(value) = given {
                *place = usd(name, value)?;
                a.basis.insert(name, GIVEN.to_owned());
            }
        }
        if let Some(labels) = self.labels {
            a.labels = labels;
            a.basis.insert("labels", GIVEN.to_owned());
        }
        if let Some(months) = self.horizon_months {
            a.horizon_months = months;
            a.basis.insert("horizon-months", GIVEN.to_owned());
        }
        a.check()?;
        Ok(a)
    }
}

/// Reads a price `IN/OUT` or `IN/OUT/CACHED` in USD per million tokens.
///
/// # Errors
/// `Invalid` when it is not two or three numbers of at least 0, or both are 0: free is a local model, not a price.
pub fn parse_price(text: &str) -> Result<Price> {
    let wrong = || {
        Error::invalid(format!("read the price `{text}`: give IN/OUT in USD per million tokens, such as 1.75/14"))
            .with_param("large-price")
    };
    let parts: Vec<f64> = text
        .split('/')
        .map(|part| part.trim().parse().ok().filter(|x: &f64| x.is_finite() && *x >= 0.0))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let (input, output, cached) = match parts[..] {
        [input, output] => (input, output, input),
        [input, output, cached] => (input, output, cached),
        _ => return Err(wrong()),
    };
    if input + output <= 0.0 {
        return Err(wrong());
    }
    Ok(Price {
        input_per_million: Money::from_usd(input)?,
        cached_input_per_million: Money::from_usd(cached)?,
        output_per_million: Money::from_usd(output)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::MACHINES;

    fn setting() -> Setting {
        let speed = Speed { read: 1000.0, write_alone: 10.0, write_together: 100.0 };
        Setting {
            tokens: Some([1000, 100]),
            machine: MACHINES[1],
            small: Some(("tiny".into(), speed)),
            large: "big",
            labelled: 0,
            writes: Writes::Text,
        }
    }

    fn price(_: &str) -> Result<(Price, String)> {
        Ok((parse_price("1/2")?, "table".into()))
    }

    #[test]
    fn what_is_given_goes_before_what_is_typical() {
        let given = Costs { output_tokens: Some(50), requests_per_day: Some(1200), ..Costs::default() };
        let a = given.assume(&setting(), price).expect("valid");
        assert_eq!((a.usage.input_tokens, a.usage.output_tokens, a.requests_per_month), (1000, 50, 36_500));
        assert_eq!(
            (a.basis["output-tokens"].as_str(), a.basis["input-tokens"].as_str()),
            (GIVEN, "typical of the use case")
        );
        assert!((a.capacity_per_s - 1.0 / 1.5).abs() < 1e-9);
        let label = Setting { writes: Writes::Label, ..setting() };
        assert!((given.assume(&label, price).expect("valid").capacity_per_s - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_volume_in_one_unit_replaces_the_other() {
        let flags = Costs { requests_per_day: Some(1), ..Costs::default() };
        let merged = flags.or(Costs { requests_per_month: Some(9), audit: Some(0.2), ..Costs::default() });
        assert_eq!((merged.requests_per_month, merged.requests_per_day, merged.audit), (None, Some(1), Some(0.2)));
    }

    #[test]
    fn a_price_is_never_zero_by_mistake() {
        for bad in ["", "1", "0/0", "a/b", "-1/2", "1/2/3/4", "nan/1"] {
            assert!(parse_price(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_price("1.75/14").expect("valid").output_per_million, Money::from_nanos(14_000_000_000));
        let unknown = |name: &str| Err(Error::not_found(format!("find the price of `{name}`")));
        assert!(Costs::default().assume(&setting(), unknown).is_err());
    }
}
