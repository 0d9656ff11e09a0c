//! `understudy advise cost`: a query, a month, a year; the total cost of ownership; break-even by volume.

use super::{
    assumptions::{self, CostFlags, Costing},
    evidence::{Evidence, EvidenceFlags},
};
use crate::{
    chart::{Chart, Scale, Series},
    commands::Context,
    terminal::{self, heading, say, table},
};
use clap::Args;
use std::path::{Path, PathBuf};
use understudy_advise::{
    Answers, Choice, Ownership,
    cost::{dollars, thousands},
    use_cases,
};
use understudy_core::{Error, Money, Result};

#[derive(Debug, Args)]
pub(super) struct CostArgs {
    /// Start from a known use case
    #[arg(long, value_name = "NAME")]
    use_case: Option<String>,
    /// Answers and costs in TOML
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    costs: CostFlags,
    #[command(flatten)]
    evidence: EvidenceFlags,
}

/// Reads a text file: one that is not there is not found, one that is no text is bad data.
pub(super) fn read_text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|e| {
        let what = format!("read {}: {e}", file.display());
        let error = match e.kind() {
            std::io::ErrorKind::InvalidData => Error::data(format!("{what}; save it as UTF-8")),
            _ => Error::not_found(what),
        };
        error.with_param("file")
    })
}

/// Reads answers from a file.
pub(super) fn read_answers(file: Option<&PathBuf>) -> Result<Answers> {
    let Some(file) = file else { return Ok(Answers::default()) };
    let text = read_text(file)?;
    Answers::parse(&text).map_err(|e| e.context(file.display()))
}

/// Runs `understudy advise cost`.
pub(super) async fn run(args: &CostArgs, context: &Context) -> Result<()> {
    let mut answers = read_answers(args.file.as_ref())?;
    answers.cost = args.costs.costs().or(answers.cost);
    let name = args.use_case.clone().or(answers.use_case.clone());
    let case = name.as_deref().map(use_cases::find).transpose()?;
    let answers = match case {
        Some(case) => answers.or(case.answers.clone()),
        None => answers,
    };
    let evidence = Evidence::gather(&args.evidence, context).await?;
    let mut assumptions = assumptions::assume(&answers, case, &assumptions::small_models())?;
    if let Some(evidence) = &evidence {
        evidence.apply(&mut assumptions);
    }
    let costing = Costing::new(assumptions)?;
    say(verdict(&costing));
    show(&costing);
    heading("Assumptions");
    costing.say_assumptions();
    if context.json { terminal::json(&costing.json()) } else { Ok(()) }
}

/// The cheapest choice at the assumed volume, in a line.
fn verdict(costing: &Costing) -> String {
    let cheapest = costing.choices.iter().min_by_key(|o| o.month_spread).expect("three choices");
    let large = costing.choices.iter().find(|o| o.choice == Choice::Large).expect("three choices");
    let volume = thousands(costing.assumptions.requests_per_month);
    let line = if cheapest.choice == Choice::Large {
        format!("at {volume} requests a month the large model alone costs least: {}", dollars(large.month_spread))
    } else {
        format!(
            "at {volume} requests a month {} costs least: {} against {} for the large model",
            cheapest.choice.as_str(),
            dollars(cheapest.month_spread),
            dollars(large.month_spread)
        )
    };
    terminal::verdict(&line, cheapest.choice != Choice::Large)
}

/// Costs, break-even and the chart.
pub(super) fn show(costing: &Costing) {
    heading("Costs");
    let names = ["tokens", "audits", "machines", "energy", "operations", "set-up", "annotation", "training"];
    let cell = |o: &Ownership, name: &str| {
        o.items.iter().find(|item| item.name == name).map_or_else(String::new, |item| {
            if item.once > Money::ZERO { format!("{} once", dollars(item.once)) } else { dollars(item.month) }
        })
    };
    let line = |title: &str, of: &dyn Fn(&Ownership) -> String| {
        std::iter::once(title.to_owned()).chain(costing.choices.iter().map(of)).collect::<Vec<String>>()
    };
    let used = |name: &&str| costing.choices.iter().any(|o| o.items.iter().any(|i| i.name == *name));
    let mut rows: Vec<Vec<String>> =
        names.iter().filter(|name| used(name)).map(|name| line(name, &|o| cell(o, name))).collect();
    rows.push(line("a month", &|o| dollars(o.month)));
    rows.push(line("once", &|o| dollars(o.once)));
    rows.push(line("first year", &|o| dollars(o.first_year)));
    rows.push(line("a query, all in", &|o| dollars(o.per_query)));
    say(table(&["USD", "small", "hybrid", "large"], &[1, 2, 3], rows));
    heading("Break-even against the large model alone");
    for b in &costing.break_even {
        let from = match b.requests_per_month {
            Some(1) => "at any volume".to_owned(),
            Some(n) => format!("from {} requests a month", thousands(n)),
            None => "at no volume: a machine costs more than the tokens that it saves".to_owned(),
        };
        let repaid = match b.months_to_repay {
            Some(0.0) => String::new(),
            Some(months) => format!("; at the assumed volume set-up is repaid after {months:.1} months"),
            None => "; at the assumed volume it saves nothing".to_owned(),
        };
        say(format_args!("  {:<7} {from}{repaid}", b.choice.as_str()));
    }
    say("");
    for line in chart(costing).lines() {
        say(line);
    }
}

fn chart(costing: &Costing) -> Chart<'static> {
    let series = |choice: Choice, mark: char| Series {
        mark,
        name: choice.as_str().to_owned(),
        points: costing.curve.iter().map(|p| (p.requests_per_month as f64, p.cost(choice).usd())).collect(),
    };
    Chart {
        x_title: "requests a month",
        y_title: "USD a month, set-up spread",
        x: Scale::Log,
        y: Scale::Log,
        x_label: short,
        y_label: |y| format!("${}", short(y)),
        series: vec![series(Choice::Large, '#'), series(Choice::Hybrid, '+'), series(Choice::Small, '.')],
    }
}

/// A number in three digits: `950`, `12K`, `3.4M`.
pub(super) fn short(x: f64) -> String {
    let (value, unit) = match x.abs() {
        x if x >= 1e9 => (1e9, "B"),
        x if x >= 1e6 => (1e6, "M"),
        x if x >= 1e3 => (1e3, "K"),
        _ => (1.0, ""),
    };
    let scaled = x / value;
    let digits = usize::from(scaled.abs() < 10.0 && scaled.fract().abs() > 0.05);
    format!("{scaled:.digits$}{unit}")
}
