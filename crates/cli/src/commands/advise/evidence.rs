//! Measurements that replace assumptions: recorded outcomes, a task's traces, the result of a pilot.

use super::cost::read_text;
use crate::{clock::SystemClock, commands::Context, compose};
use clap::Args;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use understudy_advise::{
    Assumptions, Forecast, Observed,
    costs::parse_price,
    forecast::{self, Policy, Target},
    ownership::Measured,
};
use understudy_core::{Clock, Error, Money, Outcome, Price, Result, Usage, hash::sha256_hex, outcome::RecordedAnswer};
use understudy_pilot::{Grid, Loss, Rule, Terms, certify_scored, scored_from_outcomes};
use understudy_store::{Call, Route, Store, StoreOptions, Trace, TraceFilter};
use understudy_upstream::prices;

/// Milliseconds in an average month.
const MONTH_MS: f64 = 365.0 / 12.0 * 24.0 * 3600.0 * 1000.0;

#[derive(Debug, Clone, Args)]
pub(super) struct EvidenceFlags {
    /// Recorded outcomes of both models, one JSON object a line; `.zst` is unpacked
    #[arg(long, value_name = "FILE", requires_all = ["small_name", "large_name"], help_heading = "Measurements")]
    outcomes: Option<PathBuf>,
    /// The small model's name in the outcomes or the result
    #[arg(long, value_name = "NAME", help_heading = "Measurements")]
    small_name: Option<String>,
    /// The large model's name in the outcomes or the result
    #[arg(long, value_name = "NAME", help_heading = "Measurements")]
    large_name: Option<String>,
    /// A task of the configuration: its recorded traffic
    #[arg(long, value_name = "NAME", conflicts_with = "outcomes", help_heading = "Measurements")]
    task: Option<String>,
    /// The result of `understudy pilot run`: result.json
    #[arg(
        long, value_name = "FILE", conflicts_with_all = ["outcomes", "task"], requires = "large_name",
        help_heading = "Measurements"
    )]
    from_run: Option<PathBuf>,
    /// Keep answers from this confidence on, instead of what the evidence certifies
    #[arg(long, value_name = "P", help_heading = "Measurements")]
    threshold: Option<f64>,
    /// Largest loss a request for the certificate
    #[arg(long, value_name = "E", default_value_t = 0.02, help_heading = "Measurements")]
    epsilon: f64,
    /// Probability with which the certificate may be wrong
    #[arg(long, value_name = "D", default_value_t = 0.05, help_heading = "Measurements")]
    delta: f64,
    /// Share of kept answers that are audited in the forecast
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, help_heading = "Measurements")]
    audit_share: f64,
    /// Price of the small model where outcomes have tokens and no cost: a name, IN/OUT, or `local`
    #[arg(long, value_name = "PRICE", help_heading = "Measurements")]
    small_tokens: Option<String>,
    /// Price of the large model where outcomes have tokens and no cost: a name or IN/OUT
    #[arg(long, value_name = "PRICE", help_heading = "Measurements")]
    large_tokens: Option<String>,
}

/// What was measured, ready for a forecast.
pub(super) struct Evidence {
    /// Where it comes from, in words.
    pub(super) source: String,
    /// Rows with both models' parts.
    pub(super) rows: Vec<Observed>,
    /// The threshold: given, certified, or none.
    pub(super) threshold: Option<f64>,
    /// Why there is none, or where it comes from.
    pub(super) threshold_from: String,
    /// Share of audits.
    pub(super) audit: f64,
    /// Requests a month, where the evidence has times.
    pub(super) requests_per_month: Option<u64>,
    /// Mean tokens of the large model, where they are known.
    pub(super) usage: Option<Usage>,
    /// The bill of the large model over all requests, where more is known of it than of the small one.
    pub(super) billed: Option<(u64, Money)>,
    /// Mean cost of the large model from a pilot, which has no rows.
    large_mean: Option<Money>,
}

impl Evidence {
    /// Reads what the flags name; none when they name nothing.
    pub(super) async fn gather(flags: &EvidenceFlags, context: &Context) -> Result<Option<Self>> {
        match (&flags.outcomes, &flags.task, &flags.from_run) {
            (Some(file), ..) => outcomes(file, flags).map(Some),
            (_, Some(task), _) => traces(task, flags, context).await.map(Some),
            (_, _, Some(file)) => result(file, flags).map(Some),
            (None, None, None) => Ok(None),
        }
    }

    /// The forecast of the next `requests`; none where nothing is kept or nothing has rows.
    pub(super) fn forecast(&self, requests: u64) -> Result<Option<Forecast>> {
        let Some(threshold) = self.threshold else { return Ok(None) };
        let policy = Policy { threshold, audit: self.audit };
        forecast::forecast(&self.rows, policy, Target::Next(requests)).map(Some)
    }

    /// Puts what was measured in the place of assumptions.
    pub(super) fn apply(&self, a: &mut Assumptions) {
        let mut basis = |name: &'static str| a.basis.insert(name, format!("measured: {}", self.source));
        if let Some(usage) = self.usage {
            a.usage = usage;
            basis("input-tokens");
            basis("output-tokens");
        }
        if let Some(n) = self.requests_per_month {
            a.requests_per_month = n.max(1);
            basis("requests-per-month");
        }
        let money = |usd: f64| Money::from_usd(usd).unwrap_or(Money::ZERO);
        if let Ok(Some(f)) = self.forecast(a.requests_per_month) {
            a.local_share = f.kept.estimate;
            a.audit = self.audit;
            basis("local-share");
            basis("large-price");
            a.measured = Some(Measured {
                large: money(f.large_per_request_usd.estimate),
                hybrid: money(f.cost_per_request_usd.estimate - f.audits_per_request_usd.estimate),
                audits: money(f.audits_per_request_usd.estimate),
            });
        } else if let Some(large) = self.large_mean {
            basis("large-price");
            let part = |share: f64| large.scaled(share).unwrap_or(Money::ZERO);
            a.measured =
                Some(Measured { large, hybrid: part(1.0 - a.local_share), audits: part(a.local_share * a.audit) });
        } else if !self.rows.is_empty() {
            a.local_share = 0.0;
            basis("local-share");
        }
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "source": self.source, "n": self.rows.len(), "threshold": self.threshold,
            "threshold_from": self.threshold_from, "requests_per_month": self.requests_per_month,
        })
    }
}

/// A price for tokens: `local`, `IN/OUT`, or a model's name.
fn price(text: Option<&str>) -> Result<Option<Price>> {
    match text {
        None => Ok(None),
        Some("local") => Ok(Some(Price::LOCAL)),
        Some(text) if text.split('/').all(|part| part.trim().parse::<f64>().is_ok()) => parse_price(text).map(Some),
        Some(name) => prices::find(name).map(|row| Some(row.price)),
    }
}

/// What an answer cost: as recorded, else by its tokens; never zero by omission.
fn cost(answer: &RecordedAnswer, price: Option<Price>, of: &str, flag: &str) -> Result<Money> {
    match (answer.cost_usd, price, answer.tokens_in, answer.tokens_out) {
        (Some(usd), ..) => Money::from_usd(usd),
        (None, Some(price), ..) if price == Price::LOCAL => Ok(Money::ZERO),
        (None, Some(price), Some(input_tokens), Some(output_tokens)) => {
            Ok(price.cost(&Usage { input_tokens, output_tokens, ..Usage::default() }))
        }
        (None, None, ..) => Err(Error::data(format!(
            "forecast: the outcomes do not say what `{of}` cost; give its price with {flag} NAME, IN/OUT or, for a model of \
             your own, `local`"
        ))),
        (None, Some(_), ..) => {
            Err(Error::data(format!("forecast: the outcomes have neither cost nor tokens of `{of}`")))
        }
    }
}

fn outcomes(file: &Path, flags: &EvidenceFlags) -> Result<Evidence> {
    let (small, large) = (flags.small_name.clone().unwrap_or_default(), flags.large_name.clone().unwrap_or_default());
    let all = compose::read_outcomes(file)?;
    let (items, loss) = scored_from_outcomes(&all, &small, &large, Loss::Auto)?;
    let prices = (price(flags.small_tokens.as_deref())?, price(flags.large_tokens.as_deref())?);
    let one = |outcome: &Outcome| -> Option<Result<Observed>> {
        let (s, l) = (outcome.models.get(&small)?, outcome.models.get(&large)?);
        let row = || {
            Ok(Observed {
                confidence: s.score(),
                small_cost: cost(s, prices.0, &small, "--small-tokens")?,
                small_ms: s.latency_ms,
                large: Some((cost(l, prices.1, &large, "--large-tokens")?, l.latency_ms)),
                probability: 1.0,
            })
        };
        Some(row())
    };
    let rows: Vec<Observed> = all.iter().filter_map(one).collect::<Result<_>>()?;
    let (threshold, threshold_from) = match flags.threshold {
        Some(threshold) => (Some(threshold), "given".to_owned()),
        None => {
            let terms = Terms {
                task: all[0].task.as_str().into(),
                small: small.as_str().into(),
                small_hash: sha256_hex(small.as_bytes()),
                large: large.as_str().into(),
                epsilon: flags.epsilon,
                delta: flags.delta,
                loss,
                issued: SystemClock::new().now(),
            };
            let report = certify_scored(&items, &terms, Rule::default(), &Grid::default())?;
            match report.certificate() {
                Some(c) => (
                    Some(c.threshold.get()),
                    format!("certified: loss at most {} with {} confidence", flags.epsilon, 1.0 - flags.delta),
                ),
                None => (None, format!("not certified at a loss of {} from {} items", flags.epsilon, items.len())),
            }
        }
    };
    let tokens: Vec<(u64, u64)> =
        all.iter().filter_map(|o| o.models.get(&large)).filter_map(|l| l.tokens_in.zip(l.tokens_out)).collect();
    Ok(Evidence {
        source: format!("{} outcomes of {}", rows.len(), file.display()),
        usage: mean_usage(&tokens),
        rows,
        threshold,
        threshold_from,
        audit: flags.audit_share,
        requests_per_month: None,
        billed: None,
        large_mean: None,
    })
}

fn mean_usage(tokens: &[(u64, u64)]) -> Option<Usage> {
    let n = u64::try_from(tokens.len()).ok().filter(|n| *n > 0)?;
    let (input, output) = tokens.iter().fold((0u64, 0u64), |sum, t| (sum.0 + t.0, sum.1 + t.1));
    Some(Usage { input_tokens: (input + n / 2) / n, output_tokens: (output + n / 2) / n, ..Usage::default() })
}

async fn traces(task: &str, flags: &EvidenceFlags, context: &Context) -> Result<Evidence> {
    let config = context.config()?;
    let options = StoreOptions { durability: config.store.durability, ..StoreOptions::default() };
    let store = Arc::new(Store::open_existing(&config.store.path, options)?);
    let filter = TraceFilter { task: Some(task.into()), ..TraceFilter::default() };
    let mut all = store.traces(&filter).await?;
    all.retain(|trace| trace.error.is_none());
    let (Some(newest), Some(oldest)) = (all.first(), all.last()) else {
        return Err(Error::not_found(format!("forecast task `{task}`: no traffic of it is recorded")));
    };
    // One artifact at a time, behind one gate: the newest. Another one is another model, another gate another scale.
    let judge = |call: &Call| (call.artifact.clone(), call.gate.clone());
    let newest_small = all.iter().find_map(|trace| trace.small_part().map(judge));
    let ours = |trace: &&Trace| trace.small_part().map(judge) == newest_small;
    let rows: Vec<Observed> = all.iter().filter(ours).filter_map(observed).collect();
    let seen = all.iter().find_map(|trace| trace.threshold.map(|t| t.get()));
    // No local answer yet says nothing about the certificate: it may stand and keep nothing.
    let standing =
        store.certificates(Some(&task.into())).await?.into_iter().find(|s| s.intact && s.withdrawn.is_none());
    let standing = standing.map(|state| state.certificate.threshold.get());
    let threshold = flags.threshold.or(seen).or(standing);
    let bills: Vec<Money> = all.iter().filter_map(|trace| trace.large_part().and_then(|call| call.cost)).collect();
    let span_ms = (newest.at.0 - oldest.at.0) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; saturates")]
    let requests_per_month = (span_ms > 0.0).then(|| (all.len() as f64 * MONTH_MS / span_ms).round() as u64);
    let tokens: Vec<(u64, u64)> = all
        .iter()
        .filter_map(Trace::large_part)
        .map(|call| (call.usage.input_tokens, call.usage.output_tokens))
        .collect();
    let complete = bills.len() == all.len() && rows.iter().all(|row| row.large.is_some());
    Ok(Evidence {
        source: format!("{} traces of task {task}, {} with a small model", all.len(), rows.len()),
        usage: mean_usage(&tokens),
        threshold_from: match (flags.threshold, seen, standing) {
            (Some(_), ..) => "given".to_owned(),
            (None, Some(_), _) => "the certificate in force at the newest local answer".to_owned(),
            (None, None, Some(_)) => "the certificate in force; no answer was kept under it yet".to_owned(),
            (None, None, None) => "no certificate was in force; give --threshold".to_owned(),
        },
        billed: complete.then(|| (bills.len() as u64, bills.iter().copied().sum())),
        rows,
        threshold,
        audit: flags.audit_share,
        requests_per_month,
        large_mean: None,
    })
}

/// A trace as a row; none when the small model had no part in it, a cost is unknown, or a kept answer could not be
/// audited.
fn observed(trace: &Trace) -> Option<Observed> {
    let small = trace.small_part().filter(|call| call.error.is_none())?;
    let ms = |us: u64| us as f64 / 1000.0;
    let large = trace.large_part().filter(|call| call.error.is_none());
    let probability = match trace.route {
        Route::Local => trace.audit_probability.filter(|p| *p > 0.0)?,
        _ => 1.0,
    };
    let large = match large {
        Some(call) => Some((call.cost?, Some(ms(call.latency_us)))),
        None => None,
    };
    Some(Observed {
        confidence: small.confidence.map(|c| c.get()),
        small_cost: small.cost?,
        small_ms: Some(ms(small.latency_us)),
        large,
        probability,
    })
}

/// The result of a pilot: the large model's cost a request. It has no rows, so that the share kept stays assumed.
fn result(file: &Path, flags: &EvidenceFlags) -> Result<Evidence> {
    let file = if file.is_dir() { file.join("result.json") } else { file.to_owned() };
    let name = file.display().to_string();
    let text = read_text(&file)?;
    let value: Value = serde_json::from_str(&text).map_err(|e| Error::data(format!("read {name}: {e}")))?;
    let large = flags.large_name.as_deref().unwrap_or_default();
    let Some(model) = value.get("models").and_then(|models| models.get(large)) else {
        let known: Vec<String> = value
            .get("models")
            .and_then(Value::as_object)
            .map_or(Vec::new(), |models| models.keys().cloned().collect());
        return Err(Error::not_found(format!("read {name}: it has no model `{large}`; it has {}", known.join(", "))));
    };
    let number = |key: &str| model.get(key).and_then(Value::as_f64);
    let (Some(n), Some(usd)) = (number("n").filter(|n| *n > 0.0), number("cost_usd")) else {
        return Err(Error::data(format!("read {name}: `{large}` has no n or no cost_usd: its price was not known")));
    };
    Ok(Evidence {
        source: format!("{n} answers of {large} in {name}"),
        rows: Vec::new(),
        threshold: None,
        threshold_from: "a pilot of single models has no threshold; `pilot replay` and `pilot certify` do".to_owned(),
        audit: flags.audit_share,
        requests_per_month: None,
        usage: None,
        billed: None,
        large_mean: Some(Money::from_usd(usd / n)?),
    })
}
