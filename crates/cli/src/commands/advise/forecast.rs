//! `understudy advise forecast`: what a hybrid would cost and how fast it would be, with intervals.

use super::evidence::{Evidence, EvidenceFlags};
use crate::{
    commands::Context,
    terminal::{self, percent, say, table},
};
use clap::Args;
use serde_json::json;
use understudy_advise::{
    Forecast,
    cost::{dollars, thousands},
    forecast::{self, Interval, Policy, Target},
};
use understudy_core::{Error, Money, Result};

#[derive(Debug, Args)]
pub(super) struct ForecastArgs {
    #[command(flatten)]
    evidence: EvidenceFlags,
    /// Requests to forecast
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
}

/// Runs `understudy advise forecast`.
pub(super) async fn run(args: &ForecastArgs, context: &Context) -> Result<()> {
    let Some(evidence) = Evidence::gather(&args.evidence, context).await? else {
        return Err(Error::invalid(
            "forecast: name what was recorded: --task NAME, or --outcomes FILE --small-name NAME --large-name NAME",
        ));
    };
    if evidence.rows.is_empty() {
        return Err(Error::data(format!(
            "forecast from {}: it has no requests that both models saw; traffic in shadow mode has",
            evidence.source
        )));
    }
    let Some(threshold) = evidence.threshold else {
        return Err(Error::data(format!(
            "forecast from {}: {}; --threshold P asks what would be all the same",
            evidence.source, evidence.threshold_from
        )));
    };
    let policy = Policy { threshold, audit: evidence.audit };
    let next = forecast::forecast(&evidence.rows, policy, Target::Next(args.requests))?;
    let recorded = match evidence.billed {
        Some((requests, large_total)) if requests > next.n => {
            Some(forecast::forecast(&evidence.rows, policy, Target::Billed { requests, large_total })?)
        }
        _ => None,
    };
    say(terminal::verdict(
        &format!(
            "{} of {} saved: {} instead of {} for {} requests",
            percent(next.saved.estimate),
            "the cost",
            usd(next.total_usd.estimate),
            usd(next.large_per_request_usd.estimate * args.requests as f64),
            thousands(args.requests)
        ),
        next.saved.estimate > 0.0,
    ));
    say(format_args!("from {}; threshold {threshold:.6}: {}\n", evidence.source, evidence.threshold_from));
    say_forecast(&next);
    if let Some(f) = &recorded {
        say(format_args!(
            "\n  The recorded requests themselves would have cost {}, given what the large model cost on all of them.",
            range(&f.total_usd, usd)
        ));
    }
    say(format_args!(
        "\n  {} requests stray by ± {} around their own expectation; no forecast is closer. To know that expectation to \
         ± 2 % takes {} rows; there are {}.",
        thousands(args.requests),
        percent(next.noise),
        thousands(next.rows_for_two_percent),
        thousands(next.n)
    ));
    say("  Assumed: the requests to come are like the ones recorded, and models are as fast as they were.");
    if !context.json {
        return Ok(());
    }
    terminal::json(&json!({
        "evidence": evidence.json(), "threshold": threshold, "audit": evidence.audit, "forecast": next,
        "recorded": recorded,
    }))
}

/// A forecast as a table.
pub(super) fn say_forecast(f: &Forecast) {
    let header = format!("{} requests, 95 % intervals", thousands(f.n));
    say(table(&[header.as_str(), ""], &[1], facts(f).into_iter().map(|(name, value)| vec![name, value])));
}

/// A forecast, line by line.
pub(super) fn facts(f: &Forecast) -> Vec<(String, String)> {
    let ms = |x: f64| format!("{x:.0} ms");
    let known =
        |interval: &Option<Interval>| interval.as_ref().map_or_else(|| "not known".to_owned(), |i| range(i, ms));
    [
        ("answered by the small model", range(&f.kept, percent)),
        ("cost of a request", range(&f.cost_per_request_usd, usd)),
        ("  of it audits", range(&f.audits_per_request_usd, usd)),
        ("cost of a request, large alone", range(&f.large_per_request_usd, usd)),
        ("saved", range(&f.saved, percent)),
        ("all the requests to come", range(&f.total_usd, usd)),
        ("time to an answer, p50", known(&f.latency_ms_p50)),
        ("time to an answer, p95", known(&f.latency_ms_p95)),
        ("time to an answer, p99", known(&f.latency_ms_p99)),
        ("large alone, p50", known(&f.large_latency_ms_p50)),
        ("large alone, p95", known(&f.large_latency_ms_p95)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn usd(x: f64) -> String {
    Money::from_usd(x).map_or_else(|_| "beyond count".to_owned(), dollars)
}

fn range(interval: &Interval, show: impl Fn(f64) -> String) -> String {
    let end = |end: Option<f64>| end.map_or_else(|| "?".to_owned(), &show);
    format!("{} [{}, {}]", show(interval.estimate), end(interval.low), end(interval.high))
}
