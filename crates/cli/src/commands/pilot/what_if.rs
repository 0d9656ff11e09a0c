//! `understudy pilot what-if`: what another threshold would have kept and lost, from a task's recorded live traffic.

use crate::{commands::Context, deployed::Deployed, terminal, terminal::say, terminal::table};
use clap::Args;
use serde_json::json;
use understudy_core::{Error, Result};
use understudy_pilot::offpolicy::{Decision, Estimate, certify_audited, what_if};
use understudy_stats::Bound;
use understudy_store::{DecisionRow, Store, StoreOptions};

const LEVEL: f64 = 0.95;

#[derive(Debug, Args)]
pub(crate) struct WhatIfArgs {
    /// A task of the configuration
    #[arg(long, value_name = "NAME")]
    task: String,
    /// Thresholds on the small model's confidence
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.99,0.98,0.95,0.9,0.8,0.7,0.5")]
    thresholds: Vec<f64>,
}

/// Runs `understudy pilot what-if`.
pub(super) async fn run(args: WhatIfArgs, context: &Context) -> Result<()> {
    let config = context.config()?;
    let Some(task) = config.tasks.iter().find(|task| task.spec.name.as_str() == args.task) else {
        let file = context.config_path.display();
        return Err(Error::not_found(format!("estimate thresholds: {file} has no [task.{}]", args.task)));
    };
    let options = StoreOptions { durability: config.store.durability, ..StoreOptions::default() };
    let store = Store::open_existing(&config.store.path, options)?;
    let spec = &task.spec;
    let Some(deployed) = Deployed::of(task, &config, &store).await? else {
        return Err(Error::invalid(format!("estimate thresholds of task `{}`: it has no small model", spec.name)));
    };
    let rows = store.decisions(&spec.name).await?;
    let decisions: Vec<Decision> = rows
        .iter()
        .filter(|row| row.small_hash.as_ref() == Some(&deployed.hash))
        // Confidences of another gate, or of none, are on another scale.
        .filter(|row| row.gate.as_deref() == deployed.gate.as_ref().map(|gate| gate.hash()))
        // Without any answer of the large model there was nothing to keep or to lose.
        .filter(|row| row.kept || row.lost.is_some())
        .map(decision)
        .collect();
    if decisions.is_empty() {
        return Err(Error::invalid(format!(
            "estimate thresholds of task `{}`: its small model has answered no recorded request yet",
            spec.name
        )));
    }
    let mut thresholds = args.thresholds;
    thresholds.sort_by(|a, b| b.total_cmp(a));
    thresholds.dedup();
    let estimates = what_if(&decisions, &thresholds, LEVEL)?;
    let certified = certify_audited(&decisions, &thresholds, spec.epsilon, spec.delta)?;
    show(&estimates, decisions.len());
    let (epsilon, confidence) = (percent(spec.epsilon), percent(1.0 - spec.delta));
    say(match certified {
        Some(threshold) => {
            format!("At {confidence} confidence the loss is at most {epsilon} down to threshold {threshold}.")
        }
        None => format!("None of them is shown to lose at most {epsilon} at {confidence} confidence."),
    });
    if !context.json {
        return Ok(());
    }
    let bound = |b: &Bound| json!({ "estimate": b.estimate, "low": b.low, "high": b.high, "level": b.level });
    let rows: Vec<_> = estimates
        .iter()
        .map(|e| {
            json!({
                "threshold": e.threshold,
                "kept": bound(&e.kept),
                "seen": e.seen,
                "unjudged": e.unjudged,
                "inverse_propensity": bound(&e.inverse_propensity),
                "self_normalised": e.self_normalised.map(|b| b.estimate),
                "self_normalised_interval": e.self_normalised.as_ref().map(bound),
                "doubly_robust": bound(&e.doubly_robust),
            })
        })
        .collect();
    terminal::json(&json!({ "n": decisions.len(), "estimates": rows, "certified_threshold": certified }))
}

/// A kept answer is judged where it was audited; any other where the large model answered too, which it did for sure.
fn decision(row: &DecisionRow) -> Decision {
    let lost = row.lost.map(|lost| f64::from(u8::from(lost)));
    let confidence = row.confidence.map(understudy_core::Confidence::get);
    let (loss, probability) = match row.kept {
        true => (lost.filter(|_| row.audited), row.audit_probability.unwrap_or(0.0)),
        false => (lost, if lost.is_some() { 1.0 } else { 0.0 }),
    };
    let unjudged = row.kept && row.audited && row.lost.is_none();
    Decision { confidence, loss: loss.filter(|_| probability > 0.0), probability, unjudged }
}

fn show(estimates: &[Estimate], n: usize) {
    say(format!(
        "{n} recorded requests that the small model answered; losses per request, {} intervals",
        percent(LEVEL)
    ));
    // An unbiased estimate of a share near 0 falls below it now and then; --json has it as it is.
    let interval = |b: &Bound| format!("{} ({} to {})", percent(b.estimate.max(0.0)), percent(b.low), percent(b.high));
    let rows = estimates.iter().map(|e| {
        vec![
            format!("{}", e.threshold),
            interval(&e.kept),
            e.seen.to_string(),
            e.unjudged.to_string(),
            interval(&e.inverse_propensity),
            e.self_normalised.as_ref().map_or_else(|| "-".to_owned(), interval),
            interval(&e.doubly_robust),
        ]
    });
    let heads = ["threshold", "kept", "judged", "no verdict", "loss, by 1/p", "self-normalised", "doubly robust"];
    say(table(&heads, &[0, 2, 3], rows));
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
