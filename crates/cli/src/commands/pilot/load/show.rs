//! The figures of a load measurement on the terminal and as JSON.

use super::LoadArgs;
use crate::{
    chart::{Chart, Scale, Series},
    terminal::{self, heading, say, table},
};
use serde_json::{Value, json};
use understudy_advise::cost::dollars;
use understudy_pilot::load::{Budget, Measured, Offered, Report};
use understudy_stats::Bound;

pub(super) fn offered(measured: &Measured) -> String {
    match measured.offered {
        Offered::Users(1) => "1 user".to_owned(),
        Offered::Users(users) => format!("{users} users"),
        Offered::Rate(rate) => format!("{rate:.1}/s"),
    }
}

/// The step with the highest throughput.
pub(super) fn highest(report: &Report) -> Option<&Measured> {
    report.closed.iter().max_by(|a, b| a.per_second().total_cmp(&b.per_second()))
}

/// What was found in a line, and whether it is good news.
pub(super) fn verdict(args: &LoadArgs, report: &Report) -> (String, bool) {
    let highest = highest(report);
    let line = match (args.within_ms, report.most_users, highest) {
        (Some(limit), Some(users), _) => format!("{users} users with 95 % of the answers within {limit} ms"),
        (Some(limit), None, _) => format!("not even {} within {limit} ms at the 95th percentile", args.users[0]),
        (None, _, Some(best)) if best.per_second() <= 0.0 => {
            format!("no answer came within a step of {} s; measure longer ones with --seconds", args.seconds)
        }
        (None, _, Some(best)) => format!("at most {:.1} answers a second, with {}", best.per_second(), offered(best)),
        (None, _, None) => "nothing was measured".to_owned(),
    };
    let good = match args.within_ms {
        Some(_) => report.most_users.is_some(),
        None => highest.is_some_and(|best| best.per_second() > 0.0),
    };
    (line, good)
}

pub(super) fn show(args: &LoadArgs, report: &Report, budget: &Budget) {
    let (line, good) = verdict(args, report);
    say(terminal::verdict(&line, good));
    heading("Users who ask again as soon as they have their answer");
    say(steps("users", &report.closed, args.within_ms));
    if !report.open.is_empty() {
        heading("Requests that arrive whether or not earlier ones are answered (Poisson)");
        say(steps("rate/s", &report.open, args.within_ms));
    }
    heading("Saturation");
    if let Some(users) = report.saturation_users {
        say(format_args!(
            "  from {users:.1} users on they wait for each other (highest throughput × time of a lone request)"
        ));
    }
    if let Some(fit) = &report.scalability {
        let peak = match fit.peak_users {
            Some(peak) => format!("throughput falls beyond {peak:.0} users"),
            None => "throughput does not fall in this range".to_owned(),
        };
        say(format_args!(
            "  universal scalability law: contention {:.4}, coherence {:.6}, R² {:.3} over {} steps; {peak}",
            fit.sigma, fit.kappa, fit.r_squared, fit.n
        ));
    }
    if let (Some(limit), Some(rate)) = (args.within_ms, report.most_rate) {
        say(format_args!("  highest arrival rate measured within {limit} ms: {rate:.1}/s"));
    }
    say("");
    for line in chart(report).lines() {
        say(line);
    }
    let (money, unknown) = budget.money();
    let unpriced = if unknown > 0 { format!(", {unknown} answers of unknown cost beside it") } else { String::new() };
    say(format_args!("\n  {} requests, {}{unpriced}", budget.requests(), dollars(money)));
    if report.out_of_budget {
        say(terminal::verdict("  ended early: what may be spent was spent", false));
    }
    for measured in report.closed.iter().chain(&report.open) {
        if let Some(error) = &measured.first_error {
            say(format_args!("  {}: {} failed; the first: failed to {error}", offered(measured), measured.failed()));
        }
    }
}

pub(super) fn ms(x: f64) -> String {
    match x {
        x if !x.is_finite() => "∞".to_owned(),
        x if x < 10.0 => format!("{x:.2}"),
        x if x < 100.0 => format!("{x:.1}"),
        x => format!("{x:.0}"),
    }
}

pub(super) fn with_interval(bound: Option<Bound>) -> String {
    let end = |x: f64| if x.is_finite() { ms(x) } else { "?".to_owned() };
    bound.map_or_else(|| "-".to_owned(), |b| format!("{} [{}, {}]", ms(b.estimate), end(b.low), end(b.high)))
}

fn steps(first: &str, all: &[Measured], within_ms: Option<f64>) -> impl std::fmt::Display {
    let rows = all.iter().map(|measured| {
        let load = match measured.offered {
            Offered::Users(users) => users.to_string(),
            Offered::Rate(rate) => format!("{rate:.1}"),
        };
        let throughput = measured.throughput().map_or_else(
            || format!("{:.1}", measured.per_second()),
            |b| format!("{:.1} [{:.1}, {:.1}]", b.estimate, b.low, b.high),
        );
        vec![
            load,
            with_interval(measured.quantile_ms(0.5)),
            with_interval(measured.quantile_ms(0.95)),
            with_interval(measured.quantile_ms(0.99)),
            throughput,
            measured.failed().to_string(),
            measured.answered().to_string(),
            note(measured, within_ms).to_owned(),
        ]
    });
    table(&[first, "p50 ms", "p95 ms", "p99 ms", "answers/s", "failed", "n", ""], &[0, 1, 2, 3, 4, 5, 6], rows)
}

/// What is to be said of a step beside its figures.
pub(super) fn note(measured: &Measured, within_ms: Option<f64>) -> &'static str {
    match within_ms {
        _ if measured.is_overloaded() => "overloaded",
        Some(limit) if measured.holds(limit) => "holds",
        _ => "",
    }
}

fn chart(report: &Report) -> Chart<'static> {
    let series = |mark, name: &str, q: f64| Series {
        mark,
        name: name.to_owned(),
        points: report
            .closed
            .iter()
            .filter_map(|m| Some((m.offered.users()? as f64, m.quantile_ms(q)?.estimate)))
            .collect(),
    };
    Chart {
        x_title: "users",
        y_title: "ms",
        x: Scale::Log,
        y: Scale::Log,
        x_label: |x| format!("{x:.0}"),
        y_label: ms,
        series: vec![series('.', "p50", 0.5), series('#', "p95", 0.95)],
    }
}

pub(super) fn object(args: &LoadArgs, report: &Report, budget: &Budget) -> Value {
    let finite = |x: f64| x.is_finite().then_some(x);
    let bound = |b: Option<Bound>| {
        b.map(|b| json!({ "estimate": finite(b.estimate), "low": finite(b.low), "high": finite(b.high) }))
    };
    let step = |m: &Measured| {
        json!({
            "users": m.offered.users(), "rate": m.offered.rate(), "n": m.answered(), "failed": m.failed(),
            "errors": m.errors, "latency_ms_p50": bound(m.quantile_ms(0.5)), "latency_ms_p95": bound(m.quantile_ms(0.95)),
            "latency_ms_p99": bound(m.quantile_ms(0.99)), "per_second": m.per_second(),
            "per_second_interval": bound(m.throughput()), "output_tokens": m.output_tokens, "seconds": m.seconds,
            "overloaded": m.is_overloaded(),
        })
    };
    let (money, unknown) = budget.money();
    json!({
        "model": args.model, "within_ms": args.within_ms, "most_users": report.most_users, "most_rate": report.most_rate,
        "saturation_users": report.saturation_users,
        "scalability": report.scalability.map(|s| json!({
            "lambda": s.lambda, "sigma": s.sigma, "kappa": s.kappa, "peak_users": s.peak_users,
            "r_squared": s.r_squared, "n": s.n,
        })),
        "closed": report.closed.iter().map(step).collect::<Vec<_>>(),
        "open": report.open.iter().map(step).collect::<Vec<_>>(),
        "requests": budget.requests(), "cost_usd": money.usd(), "unknown_cost": unknown,
        "out_of_budget": report.out_of_budget,
    })
}
