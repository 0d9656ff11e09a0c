//! Several tasks at once: certificates that hold together.

use super::{CertifyArgs, object, percent, show};
use crate::{compose, terminal, terminal::say};
use serde_json::json;
use std::collections::BTreeMap;
use understudy_core::{Outcome, Result, Seed};
use understudy_pilot::{Grid, Member, certify_family, simulate_family};

/// Certifies each task of the files, so that all certificates hold together at 1 − δ.
pub(super) fn run(args: &CertifyArgs, json: bool) -> Result<()> {
    let mut tasks: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
    for file in &args.outcomes {
        let outcomes = compose::read_outcomes(file)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let file = name.split('.').next().unwrap_or_default().to_owned();
        for outcome in outcomes {
            let task = if args.by_task { outcome.task.clone() } else { file.clone() };
            tasks.entry(task).or_default().push(outcome);
        }
    }
    let mut members = Vec::new();
    for (task, outcomes) in &tasks {
        let (items, loss) = args.items(outcomes)?;
        members.push(Member { items, terms: args.terms(task, loss) });
    }
    let (rule, grid) = (args.rule(), Grid::default());
    let reports = certify_family(&members, args.delta, rule, &grid)?;
    for (member, report) in members.iter().zip(&reports) {
        terminal::heading(member.terms.task.as_str());
        show(report, &member.terms);
    }
    say(format!("All certificates together are wrong with probability at most {}.", percent(args.delta)));
    let simulation = args
        .simulate
        .map(|runs| simulate_family(&members, args.delta, rule, runs, Seed(args.seed), &grid))
        .transpose()?;
    if let Some(out) = simulation {
        let share = out.violation_share;
        terminal::heading("Simulation");
        say(format!(
            "{} families of calibration sets drawn from these outcomes: {} with a wrong certificate ({}, 95 % interval {} \
             to {}; allowed {}); kept on average {}",
            out.runs,
            out.violations,
            percent(share.estimate),
            percent(share.low),
            percent(share.high),
            percent(args.delta),
            percent(out.kept)
        ));
    }
    if !json {
        return Ok(());
    }
    let tasks: serde_json::Map<_, _> = members
        .iter()
        .zip(&reports)
        .map(|(member, report)| (member.terms.task.to_string(), object(report, None)))
        .collect();
    let all: usize = members.iter().map(|member| member.items.len()).sum();
    let kept = |report: &understudy_pilot::Report| report.certificate().map_or(0.0, |c| c.kept);
    let kept: f64 = members.iter().zip(&reports).map(|(m, r)| kept(r) * m.items.len() as f64).sum();
    terminal::json(&json!({
        "tasks": tasks,
        "certificate": null,
        "delta": args.delta,
        "violations": simulation.map(|s| s.violations),
        "runs": simulation.map(|s| s.runs),
        "kept": simulation.map_or(kept / all.max(1) as f64, |s| s.kept),
        "kept_best_fixed": null,
    }))
}
