//! What a pilot says: the verdict and a table on the terminal, the result as JSON, the setting of the report.

use super::{Outcome, RunArgs, data::Material};
use crate::{
    commands::shown,
    report::{command_line, quoted, written},
    terminal::{self, heading, note, say, table},
};
use serde_json::{Value, json};
use std::path::Path;
use understudy_core::Timestamp;
use understudy_pilot::{
    metrics::Metric,
    report::numbers::{dollars, duration, significant},
    run::{
        Finding, Judged, Plan, Task,
        page::{self, DataCard, Setting},
        verdict::Tried,
    },
};

/// The day, in UTC.
pub(super) fn day(now: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
    time.to_string().chars().take(10).collect()
}

pub(super) fn setting(
    args: &RunArgs,
    material: &Material,
    out: &Path,
    plan: &Plan,
    finding: Option<&Finding>,
    now: Timestamp,
) -> Setting {
    let outcomes = quoted(shown(&out.join("outcomes.jsonl")));
    let mut commands = vec![
        ("All figures (a finished run reads its journal and asks nothing again)".to_owned(), command_line()),
        ("The data card".to_owned(), data_command(args)),
    ];
    if let Some(together) = finding.and_then(|f| Some((f, f.together.as_ref()?))) {
        let (small, large) = (quoted(together.1.name.clone()), quoted(together.0.baseline.clone()));
        commands.push((
            "The certificate, and how often certificates like it are wrong".to_owned(),
            format!(
                "understudy pilot certify --outcomes {outcomes} --small {small} --large {large} --epsilon {} --delta {} \
                 --simulate 1000",
                args.epsilon,
                together.1.certificate.as_ref().map_or(args.delta, |c| c.delta)
            ),
        ));
    }
    Setting {
        title: format!("pilot: {} on {}", plan.task.as_str(), material.stem),
        data: DataCard { name: args.data.clone(), hash: material.hash.clone(), facts: material.facts.clone() },
        commands,
        epsilon: args.epsilon,
        written: written(now),
    }
}

fn data_command(args: &RunArgs) -> String {
    let against = args.train.as_ref().map_or_else(String::new, |train| format!(" --against {}", quoted(train.clone())));
    format!("understudy pilot data {}{against}", quoted(args.data.clone()))
}

/// The run as one object.
pub(super) fn result(plan: &Plan, outcome: &Outcome<'_>, setting: &Setting, out: &Path) -> Value {
    let Outcome { tried, finding, judged } = outcome;
    let finding = finding.as_ref();
    let model = |t: &Tried<'_>| {
        let mut object = t.figures.as_ref().map(understudy_pilot::run::Figures::object).unwrap_or_default();
        object.insert("what".into(), json!(t.candidate.what));
        object.insert("ended".into(), json!(t.answers.ended));
        object.insert("failed".into(), json!(t.answers.failed));
        object.insert("resumed".into(), json!(t.answers.resumed));
        if let Some(figures) = &t.figures {
            object.insert("classes".into(), json!(figures.classes));
            object.insert("fields".into(), json!(figures.fields));
            object.insert("reliability".into(), json!(figures.reliability));
        }
        (t.candidate.name.clone(), Value::from(object))
    };
    json!({
        "task": plan.task,
        "verdict": finding.map(|f| f.sentence.as_str()),
        "because": finding.map(|f| f.because.as_str()),
        "recommended": finding.map(|f| f.recommended.as_str()),
        "baseline": finding.map(|f| f.baseline.as_str()),
        "models": tried.iter().map(model).collect::<serde_json::Map<_, _>>(),
        "paired": finding.map(|f| &f.paired),
        "judge": judged,
        "certificate": finding.and_then(|f| f.together.as_ref()?.certificate.as_ref()),
        "certificate_refusal": finding.and_then(|f| f.together.as_ref()?.refusal.as_ref()),
        "data": {
            "name": setting.data.name,
            "hash": setting.data.hash,
            "facts": setting.data.facts.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<serde_json::Map<_, _>>(),
            "labels": plan.labels,
        },
        "commands": setting.commands.iter().map(|(_, command)| command).collect::<Vec<_>>(),
        "report": out.join("report.html"),
        "outcomes": out.join("outcomes.jsonl"),
    })
}

/// The verdict first, then the table, then where the report is.
pub(super) fn people(plan: &Plan, outcome: &Outcome<'_>, out: &Path) {
    let Outcome { tried, finding, judged } = outcome;
    let (verdict, because) = page::said(finding.as_ref(), judged.as_ref());
    let good = finding.as_ref().is_some_and(|f| f.recommended != f.baseline || tried.len() == 1);
    say(terminal::verdict(&verdict, good));
    say(because);
    let (main, what) = plan.task.main_metric();
    let extra: &[(&str, &str)] = match plan.task {
        Task::Classify => &[("macro_f1", "macro F1"), ("ece", "ECE")],
        Task::Labels => &[("macro_f1", "macro F1"), ("exact_match", "whole lists")],
        Task::Regress => &[("mae", "mean error"), ("r2", "R²"), ("spearman", "ranks")],
        Task::Extract => &[("exact_match", "exact"), ("json_valid", "valid JSON")],
        Task::Summarise => &[("rouge1", "ROUGE-1"), ("answers_with_hallucination", "made up")],
        Task::Answer | Task::Generate => &[("exact_match", "exact"), ("rouge_l", "ROUGE-L")],
    };
    let mut header = vec!["model", "n", what, "95 % interval"];
    header.extend(extra.iter().map(|(_, title)| *title));
    header.extend(["p50", "p95", "1,000 cost"]);
    let right: Vec<usize> = (1..header.len()).collect();
    let row = |t: &Tried<'_>| {
        let figures = t.figures.as_ref();
        let metric = |name: &str| figures.and_then(|f| f.metrics.get(name));
        let share = |m: Option<&Metric>| m.map_or_else(|| "–".to_owned(), |m| terminal::percent(m.estimate));
        let mut row = vec![t.candidate.name.clone(), figures.map_or(0, |f| f.n).to_string(), share(metric(main))];
        row.push(metric(main).map_or_else(String::new, |m| format!("{:.1} – {:.1}", m.low * 100.0, m.high * 100.0)));
        for (name, _) in extra {
            row.push(match *name {
                "mae" => metric(name).map_or_else(|| "–".to_owned(), |m| significant(m.estimate)),
                "ece" | "r2" | "spearman" => {
                    metric(name).map_or_else(|| "–".to_owned(), |m| format!("{:.3}", m.estimate))
                }
                name => share(metric(name)),
            });
        }
        let speed = figures.map(|f| f.speed);
        let ms = |m: Option<Metric>| m.map_or_else(|| "–".to_owned(), |m| duration(m.estimate));
        row.push(ms(speed.and_then(|s| s.latency_ms_p50)));
        row.push(ms(speed.and_then(|s| s.latency_ms_p95)));
        let cost = speed.and_then(|s| s.cost_usd_mean);
        row.push(cost.map_or_else(|| "unknown".to_owned(), |m| dollars(m.estimate * 1000.0)));
        row
    };
    heading("Models");
    say(table(&header, &right, tried.iter().map(row)));
    if let Some(judged) = judged {
        judge(judged);
    }
    for t in tried {
        note(format_args!("  {}: {}", t.candidate.name, t.candidate.what));
    }
    say(format_args!("\nreport   {}", shown(&out.join("report.html"))));
    say(format_args!("answers  {}", shown(&out.join("outcomes.jsonl"))));
}

/// What the judge said about each model, and how far it agrees with itself.
fn judge(judged: &Judged) {
    heading(&format!("Judged by {} against {}", judged.model, judged.baseline));
    let share = |m: Option<Metric>| {
        m.map_or_else(
            || "–".to_owned(),
            |m| format!("{:.0} % ({:.0} – {:.0})", m.estimate * 100.0, m.low * 100.0, m.high * 100.0),
        )
    };
    let row = |p: &understudy_pilot::run::preference::Preferred| {
        let r = &p.report;
        let mut row = vec![p.name.clone()];
        row.extend([r.pairs, r.wins, r.losses, r.ties, p.identical, r.unreadable].map(|n| n.to_string()));
        row.extend([share(r.agreement), share(r.position_bias)]);
        row
    };
    let header = ["model", "pairs", "won", "lost", "tied", "same", "unread", "agrees with itself", "votes for a place"];
    say(table(&header, &[1, 2, 3, 4, 5, 6, 7, 8], judged.pairs.iter().map(row)));
    let cost = judged.cost_usd.map_or_else(|| "at an unknown price".to_owned(), |usd| format!("for {}", dollars(usd)));
    note(format_args!("  {} verdicts {cost}, {} of them from before", judged.asked, judged.resumed));
}

/// Opens the report; that no browser is there is no error of the pilot.
pub(super) fn open(report: &Path) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let null = std::process::Stdio::null;
    let started = std::process::Command::new(opener).arg(report).stdin(null()).stdout(null()).stderr(null()).spawn();
    if started.is_err() {
        note(format_args!("  no browser could be started; open {} yourself", report.display()));
    }
}
