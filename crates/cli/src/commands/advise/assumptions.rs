//! Flags about costs, what they make of the assumptions, and how assumptions are shown.

use crate::terminal::{say, table};
use clap::Args;
use serde_json::{Value, json};
use understudy_advise::{
    Answers, Assumptions, Choice, Ownership,
    answers::Work,
    break_even,
    break_even::{BreakEven, Point, curve},
    cost::{dollars, thousands},
    costs::{Costs, Setting, Writes},
    fit::{self, SmallModel},
    ownership,
    use_cases::UseCase,
};
use understudy_core::{Error, Money, Result};
use understudy_model::catalogue::{Catalogue, Kind};
use understudy_upstream::prices;

/// The large model that is assumed when none is named.
const LARGE: &str = "gpt-5.2";

#[derive(Debug, Clone, Default, Args)]
pub(super) struct CostFlags {
    /// Requests a month
    #[arg(long, value_name = "N", conflicts_with = "requests_per_day", help_heading = "Costs")]
    requests_per_month: Option<u64>,
    /// Requests a day; a month has 365/12 days
    #[arg(long, value_name = "N", help_heading = "Costs")]
    requests_per_day: Option<u64>,
    /// Tokens in, a request
    #[arg(long, value_name = "N", help_heading = "Costs")]
    input_tokens: Option<u64>,
    /// Tokens out, a request
    #[arg(long, value_name = "N", help_heading = "Costs")]
    output_tokens: Option<u64>,
    /// Tokens in that the provider reads from its cache
    #[arg(long, value_name = "N", help_heading = "Costs")]
    cached_tokens: Option<u64>,
    /// The large model, as the price table calls it
    #[arg(long, value_name = "NAME", help_heading = "Costs")]
    large: Option<String>,
    /// Its price instead of the table's, in USD per million tokens
    #[arg(long, value_name = "IN/OUT", help_heading = "Costs")]
    large_price: Option<String>,
    /// The small model, by its name in the catalogue
    #[arg(long, value_name = "NAME", help_heading = "Costs")]
    small: Option<String>,
    /// Requests a second that one machine answers with the small model
    #[arg(long, value_name = "N", help_heading = "Costs")]
    capacity: Option<f64>,
    /// The busiest second beside the average one
    #[arg(long, value_name = "X", help_heading = "Costs")]
    peak_factor: Option<f64>,
    /// Share of the requests that the small model answers in a hybrid
    #[arg(long, value_name = "SHARE", help_heading = "Costs")]
    local_share: Option<f64>,
    /// Share of its answers that the large model audits
    #[arg(long, value_name = "SHARE", help_heading = "Costs")]
    audit: Option<f64>,
    /// Rent of one machine
    #[arg(long, value_name = "USD", help_heading = "Costs")]
    machine_usd_month: Option<f64>,
    /// Power of one machine, where it is paid on top of the rent
    #[arg(long, value_name = "W", help_heading = "Costs")]
    watts: Option<f64>,
    /// Price of a kilowatt-hour
    #[arg(long, value_name = "USD", help_heading = "Costs")]
    usd_per_kwh: Option<f64>,
    /// Labels that training and certifying take
    #[arg(long, value_name = "N", help_heading = "Costs")]
    labels: Option<u64>,
    /// Price of a label
    #[arg(long, value_name = "USD", help_heading = "Costs")]
    usd_per_label: Option<f64>,
    /// Hours that a machine trains
    #[arg(long, value_name = "H", help_heading = "Costs")]
    training_hours: Option<f64>,
    /// Hours of work to set a small model up
    #[arg(long, value_name = "H", help_heading = "Costs")]
    setup_hours: Option<f64>,
    /// Hours of work a month that a small model takes
    #[arg(long, value_name = "H", help_heading = "Costs")]
    operation_hours: Option<f64>,
    /// Price of an hour of work
    #[arg(long, value_name = "USD", help_heading = "Costs")]
    usd_per_hour: Option<f64>,
    /// Months over which what is paid once is spread
    #[arg(long, value_name = "N", help_heading = "Costs")]
    horizon_months: Option<u64>,
}

impl CostFlags {
    /// In the terms of `advise`.
    pub(super) fn costs(&self) -> Costs {
        let flags = self.clone();
        Costs {
            requests_per_month: flags.requests_per_month,
            requests_per_day: flags.requests_per_day,
            input_tokens: flags.input_tokens,
            output_tokens: flags.output_tokens,
            cached_tokens: flags.cached_tokens,
            large: flags.large,
            large_price: flags.large_price,
            small: flags.small,
            capacity_per_s: flags.capacity,
            peak_factor: flags.peak_factor,
            local_share: flags.local_share,
            audit: flags.audit,
            machine_usd_month: flags.machine_usd_month,
            watts: flags.watts,
            usd_per_kwh: flags.usd_per_kwh,
            labels: flags.labels,
            usd_per_label: flags.usd_per_label,
            training_hours: flags.training_hours,
            setup_hours: flags.setup_hours,
            operation_hours: flags.operation_hours,
            usd_per_hour: flags.usd_per_hour,
            horizon_months: flags.horizon_months,
        }
    }
}

/// The catalogue's models in the terms of `advise`.
pub(super) fn small_models() -> Vec<SmallModel> {
    let kind = |kind| match kind {
        Kind::Encoder => Some(fit::Kind::Encoder),
        Kind::Generative => Some(fit::Kind::Generative),
        Kind::Dataset => None,
    };
    Catalogue::embedded()
        .entries()
        .iter()
        .filter_map(|entry| {
            Some(SmallModel {
                name: entry.name.clone(),
                kind: kind(entry.kind)?,
                parameters: entry.parameters?,
                bytes: entry.size(),
                context: entry.context,
                languages: entry.languages.clone(),
                licence: entry.licence.clone(),
                about: entry.about.clone(),
            })
        })
        .collect()
}

/// The assumptions that answers, use case and flags make.
pub(super) fn assume(answers: &Answers, case: Option<&UseCase>, models: &[SmallModel]) -> Result<Assumptions> {
    let machine = fit::machine(answers.infrastructure.as_deref());
    let tokens = case.map(|case| case.tokens);
    let [input, output] = tokens.unwrap_or([500, 100]);
    let small = match &answers.cost.small {
        Some(name) => {
            let entry = Catalogue::embedded().find(name)?;
            let model = models.iter().find(|model| model.name == entry.name).ok_or_else(|| {
                Error::invalid(format!("use `{name}` as the small model: it is a data set")).with_param("small")
            })?;
            Some((model.name.clone(), fit::speed(model, machine)))
        }
        None => fit::candidates(models, answers, input, output).first().map(|c| (c.name.clone(), c.speed)),
    };
    let setting = Setting {
        tokens,
        machine,
        small,
        large: LARGE,
        labelled: answers.labelled.unwrap_or(0),
        writes: if answers.work == Some(Work::Classify) { Writes::Label } else { Writes::Text },
    };
    answers.cost.assume(&setting, |name| {
        let row = prices::find(name)?;
        let from = match row.disputed {
            true => format!("price table, disputed: {}", row.dispute()),
            false => "price table".to_owned(),
        };
        Ok((row.price, from))
    })
}

/// Every choice's costs, and from where on a small model pays.
pub(super) struct Costing {
    pub(super) assumptions: Assumptions,
    pub(super) choices: Vec<Ownership>,
    pub(super) break_even: Vec<BreakEven>,
    pub(super) curve: Vec<Point>,
}

impl Costing {
    pub(super) fn new(assumptions: Assumptions) -> Result<Self> {
        let choices = Choice::ALL.into_iter().map(|c| ownership(c, &assumptions)).collect::<Result<Vec<_>>>()?;
        let break_even: Vec<BreakEven> = [Choice::Hybrid, Choice::Small]
            .into_iter()
            .map(|choice| break_even(choice, &assumptions))
            .collect::<Result<_>>()?;
        let also: Vec<u64> = break_even.iter().filter_map(|b| b.requests_per_month).collect();
        let curve = curve(&assumptions, &also)?;
        Ok(Self { assumptions, choices, break_even, curve })
    }

    /// What a choice costs a month to run.
    pub(super) fn month(&self, choice: Choice) -> Money {
        self.choices.iter().find(|o| o.choice == choice).expect("every choice is there").month
    }

    /// As JSON, amounts in USD.
    pub(super) fn json(&self) -> Value {
        let choice = |o: &Ownership| {
            json!({
                "choice": o.choice, "per_query_usd": o.per_query.usd(), "month_usd": o.month.usd(),
                "once_usd": o.once.usd(), "first_year_usd": o.first_year.usd(),
                "month_spread_usd": o.month_spread.usd(), "machines": o.machines, "kwh_month": o.kwh_month,
                "items": o.items.iter().map(|i| json!({
                    "name": i.name, "month_usd": i.month.usd(), "once_usd": i.once.usd(),
                })).collect::<Vec<_>>(),
            })
        };
        json!({
            "assumptions": self.rows().into_iter().map(|(name, value, basis)| {
                json!({ "name": name, "value": value, "basis": basis })
            }).collect::<Vec<_>>(),
            "choices": self.choices.iter().map(choice).collect::<Vec<_>>(),
            "break_even": self.break_even,
            "curve": self.curve.iter().map(|p| json!({
                "requests_per_month": p.requests_per_month, "small_usd": p.small.usd(),
                "hybrid_usd": p.hybrid.usd(), "large_usd": p.large.usd(),
            })).collect::<Vec<_>>(),
        })
    }

    /// Every assumption: name, value, origin.
    pub(super) fn rows(&self) -> Vec<(&'static str, String, String)> {
        let a = &self.assumptions;
        let price = |name: &str, price: &understudy_core::Price| {
            format!(
                "{name} at {} in, {} out per million tokens",
                dollars(price.input_per_million),
                dollars(price.output_per_million)
            )
        };
        // What was measured is the bill of a request, not the price of a token.
        let large = match &a.measured {
            Some(measured) => format!("{} a request", measured.large),
            None => price(&a.large, &a.large_price),
        };
        let hours = |h: f64| format!("{h} h");
        let rows = [
            ("requests-per-month", thousands(a.requests_per_month)),
            ("input-tokens", thousands(a.usage.input_tokens)),
            ("output-tokens", thousands(a.usage.output_tokens)),
            ("cached-tokens", thousands(a.usage.cached_input_tokens)),
            ("large-price", large),
            ("small", if a.small.is_empty() { "none fits".to_owned() } else { a.small.clone() }),
            ("capacity", format!("{:.2} requests/s on one machine", a.capacity_per_s)),
            ("peak-factor", format!("{}× the average second", a.peak_factor)),
            ("local-share", crate::terminal::percent(a.local_share)),
            ("audit", crate::terminal::percent(a.audit)),
            ("machine-usd-month", dollars(a.machine_month)),
            ("watts", format!("{} W", a.watts)),
            ("usd-per-kwh", dollars(a.kwh)),
            ("labels", format!("{} needed, {} at hand", thousands(a.labels), thousands(a.labels_at_hand))),
            ("usd-per-label", dollars(a.label)),
            ("training-hours", hours(a.training_hours)),
            ("setup-hours", format!("{} h large, {} h small", a.setup_hours.0, a.setup_hours.1)),
            ("operation-hours", format!("{} h large, {} h small a month", a.operation_hours.0, a.operation_hours.1)),
            ("usd-per-hour", dollars(a.hour)),
            ("horizon-months", a.horizon_months.to_string()),
        ];
        rows.into_iter()
            .map(|(name, value)| (name, value, a.basis.get(name).cloned().unwrap_or_else(|| "assumed".to_owned())))
            .collect()
    }

    /// Prints the assumptions.
    pub(super) fn say_assumptions(&self) {
        let rows = self.rows().into_iter().map(|(name, value, basis)| vec![name.to_owned(), value, basis]);
        say(table(&["assumption", "value", "from"], &[], rows));
        say("  Each is a flag (`--requests-per-month 250000`) or a line of [cost] in --file.");
    }
}
