//! Several tasks at once: certificates that hold together.

use super::{CertifyArgs, object, percent, show};
use crate::{compose, terminal, terminal::say};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use understudy_core::{Error, Outcome, Result, Seed};
use understudy_pilot::{Grid, Member, certify_family, simulate_family};

/// Certifies each task of the files, so that all certificates hold together at 1 − δ.
pub(super) fn run(args: &CertifyArgs, json: bool) -> Result<()> {
    let mut files = Vec::new();
    for file in &args.outcomes {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.push((name.split('.').next().unwrap_or_default().to_owned(), compose::read_outcomes(file)?));
    }
    let tasks = divided(files, args.by_task)?;
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
             to {}; allowed {}); kept on average {} ({} to {})",
            out.runs,
            out.violations,
            percent(share.estimate),
            percent(share.low),
            percent(share.high),
            percent(args.delta),
            percent(out.kept.estimate),
            percent(out.kept.low),
            percent(out.kept.high)
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
        "kept": simulation.map_or(kept / all.max(1) as f64, |s| s.kept.estimate),
        "kept_interval": simulation.map(|s| json!({ "low": s.kept.low, "high": s.kept.high })),
        "kept_best_fixed": null,
    }))
}

/// The outcomes of each task: of a file, by the beginning of its name, or `by_task` as the rows say. A row that came twice
/// would count twice.
///
/// # Errors
/// `Invalid` when two files have one name; `Data` when an id comes twice within a task.
fn divided(files: Vec<(String, Vec<Outcome>)>, by_task: bool) -> Result<BTreeMap<String, Vec<Outcome>>> {
    let mut tasks: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (file, outcomes) in files {
        if !by_task && tasks.contains_key(&file) {
            let what = format!("certify several tasks: two of the files are called `{file}`");
            return Err(Error::invalid(format!("{what}; rename one, or tell tasks apart by the rows with --by-task")));
        }
        for outcome in outcomes {
            let task = if by_task { outcome.task.clone() } else { file.clone() };
            if !ids.insert((task.clone(), outcome.id.clone())) {
                let what = format!("certify several tasks: task `{task}` has the row `{}` twice", outcome.id);
                return Err(Error::data(format!("{what}; name each file once and give each row an id of its own")));
            }
            tasks.entry(task).or_default().push(outcome);
        }
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, task: &str, ids: [&str; 2]) -> (String, Vec<Outcome>) {
        let row = |id: &str| Outcome { id: id.to_owned(), task: task.to_owned(), ..Outcome::default() };
        (name.to_owned(), ids.map(row).to_vec())
    }

    #[test]
    fn files_of_one_name_and_rows_that_come_twice_are_refused_instead_of_merged() {
        let says = |files: &[(String, Vec<Outcome>)], by_task: bool| {
            divided(files.to_vec(), by_task).expect_err("refused").to_string()
        };
        let (one, two) = (file("a", "t", ["1", "2"]), file("a", "t", ["3", "4"]));
        assert!(says(&[one.clone(), two.clone()], false).contains("called `a`"));
        assert!(says(&[one.clone(), file("b", "t", ["2", "5"])], true).contains("row `2` twice"));
        assert_eq!(divided(vec![one.clone(), two], true).expect("told apart")["t"].len(), 4);
        assert_eq!(divided(vec![one, file("b", "t", ["1", "2"])], false).expect("two tasks").len(), 2);
    }
}
