//! The report of a run: verdict, models side by side, paired comparison, both together, trust, errors, data.

mod evidence;
mod judge;

use super::{Ended, Figures, Judged, Plan, Task, verdict::Finding, verdict::Tried};
use crate::prompts::FIXED;
use crate::{
    metrics::Metric,
    report::{
        Block, Cell, Column, Figure, KeyFigure, Report, Section, Table, Tone,
        charts::{self, Axis, Interval, Spot},
        numbers::{count, dollars, duration, percent, significant},
    },
};

/// What the report says about the data.
#[derive(Debug, Clone, Default)]
pub struct DataCard {
    /// The file.
    pub name: String,
    /// SHA-256 of what the rows ask and what is right.
    pub hash: String,
    /// Facts in the order in which they are shown: (name, value).
    pub facts: Vec<(String, String)>,
}

/// What stands around a run.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// Name of the run.
    pub title: String,
    /// The data.
    pub data: DataCard,
    /// Commands that give the figures again: (what, command).
    pub commands: Vec<(String, String)>,
    /// Largest accepted loss, for plots.
    pub epsilon: f64,
    /// When it was written, for people.
    pub written: String,
}

/// Lays the report out.
#[must_use]
pub fn page(
    plan: &Plan,
    tried: &[Tried<'_>],
    finding: Option<&Finding>,
    judged: Option<&Judged>,
    setting: &Setting,
) -> Report {
    let mut sections = vec![models(plan, tried)];
    if let Some(finding) = finding {
        sections.extend(evidence::paired(plan, finding, setting.epsilon));
        sections.extend(evidence::together(finding, tried, setting.epsilon));
    }
    sections.extend(judged.map(judge::section));
    sections.extend(evidence::trust(tried));
    let recommended = finding.map(|f| f.recommended.as_str());
    let shown = tried.iter().find(|t| Some(t.candidate.name.as_str()) == recommended).or(tried.first());
    if let Some(shown) = shown {
        sections.extend(evidence::errors(plan, tried, shown));
    }
    sections.push(data(plan, setting));
    let mut figures = finding.map_or_else(Vec::new, |f| first_screen(plan, tried, f));
    figures.extend(judged.and_then(judge::key_figure));
    let (verdict, lead) = said(finding, judged);
    Report {
        title: setting.title.clone(),
        verdict,
        tone: if finding.is_none() && judged.is_none() { Tone::Bad } else { Tone::Plain },
        lead,
        figures,
        sections,
        commands: setting.commands.clone(),
        written: setting.written.clone(),
    }
}

/// The verdict and what it rests on: measured quality where rows say what is right, else the judge.
#[must_use]
pub fn said(finding: Option<&Finding>, judged: Option<&Judged>) -> (String, String) {
    let sentences =
        |j: &Judged| j.pairs.iter().map(|p| p.sentence(&j.model, &j.baseline)).collect::<Vec<_>>().join(" ");
    match (finding, judged) {
        (Some(f), None) => (f.sentence.clone(), f.because.clone()),
        (Some(f), Some(j)) => (f.sentence.clone(), format!("{} {}", f.because, sentences(j))),
        (None, Some(j)) => {
            let first = j.pairs.first().map_or_else(String::new, |p| p.sentence(&j.model, &j.baseline));
            let rest = if j.pairs.len() > 1 { sentences(j) } else { String::new() };
            let lead = format!("{rest} No row says what is right: the judge's preference is all there is.");
            (first, lead.trim().to_owned())
        }
        (None, None) => (
            "No model could be measured.".to_owned(),
            "No row says what is right, so the answers are in outcomes.jsonl and nothing is judged.".to_owned(),
        ),
    }
}

fn first_screen(plan: &Plan, tried: &[Tried<'_>], finding: &Finding) -> Vec<KeyFigure> {
    let of = |name: &str| tried.iter().find(|t| t.candidate.name == name).and_then(|t| t.figures.as_ref());
    let Some(figures) = of(&finding.recommended) else { return Vec::new() };
    let mut shown = Vec::new();
    let what = plan.task.main_metric().1;
    if let Some(main) = figures.main(plan.task) {
        shown.push(KeyFigure {
            name: format!("{}: {what}", finding.recommended),
            number: percent(main.estimate, 1),
            note: format!("95 % interval {}, on {} rows", range(main, 1), count(main.n)),
        });
    }
    if let Some(ms) = figures.speed.latency_ms_p50 {
        let p95 = figures
            .speed
            .latency_ms_p95
            .map_or_else(String::new, |m| format!("; 95 % within {}", duration(m.estimate)));
        shown.push(KeyFigure {
            name: "Half of its answers within".into(),
            number: duration(ms.estimate),
            note: format!("on this machine{p95}"),
        });
    }
    let cost = |f: &Figures| f.speed.cost_usd_mean.map(|m| m.estimate * 1000.0);
    let base = of(&finding.baseline).and_then(cost).filter(|_| finding.baseline != finding.recommended);
    shown.push(match cost(figures) {
        Some(usd) => KeyFigure {
            name: "1,000 answers cost".into(),
            number: dollars(usd),
            note: match base {
                Some(base) => format!("{} with {}; local compute is not counted", dollars(base), finding.baseline),
                None => "price per token; local compute is not counted".into(),
            },
        },
        None => KeyFigure {
            name: "1,000 answers cost".into(),
            number: "unknown".into(),
            note: "no price is known for this model".into(),
        },
    });
    if let Some(together) = &finding.together {
        let (number, note) = match &together.certificate {
            Some(c) => (
                percent(c.kept, 1),
                format!(
                    "certified: loss at most {} with {} confidence",
                    percent(c.epsilon, 1),
                    percent(1.0 - c.delta, 1)
                ),
            ),
            None => ("–".to_owned(), "no certificate on these rows; see below".to_owned()),
        };
        shown.push(KeyFigure { name: format!("{} may keep before {}", together.name, finding.baseline), number, note });
    }
    shown
}

fn models(plan: &Plan, tried: &[Tried<'_>]) -> Section {
    let names = shown_metrics(plan);
    let mut columns = vec![Column::text("model"), Column::number("n")];
    columns.extend(names.iter().map(|(_, title)| Column::number(title)));
    columns.extend(["p50", "p95", "tokens/s", "1,000 cost"].map(Column::number));
    let row = |t: &Tried<'_>| {
        let mut row = vec![Cell::with(t.candidate.name.clone(), t.candidate.what.clone()).strong()];
        let figures = t.figures.as_ref();
        row.push(Cell::with(count(figures.map_or(0, |f| f.n)), ended(t)));
        for (name, _) in &names {
            row.push(figures.and_then(|f| f.metrics.get(*name)).map_or_else(|| "–".into(), |m| metric(name, m)));
        }
        let speed = figures.map(|f| f.speed);
        let ms = |m: Option<Metric>| {
            m.map_or_else(
                || "–".into(),
                |m| {
                    Cell::with(
                        duration(m.estimate),
                        match m.low.is_finite() && m.high.is_finite() {
                            true => format!("{} – {}", duration(m.low), duration(m.high)),
                            false => String::new(),
                        },
                    )
                },
            )
        };
        row.push(ms(speed.and_then(|s| s.latency_ms_p50)));
        row.push(ms(speed.and_then(|s| s.latency_ms_p95)));
        let rate = speed.and_then(|s| s.tokens_per_s).filter(|m| m.estimate > 0.0);
        row.push(rate.map_or_else(
            || "–".into(),
            |m| Cell::new(if m.estimate < 10.0 { format!("{:.1}", m.estimate) } else { format!("{:.0}", m.estimate) }),
        ));
        let cost = speed.and_then(|s| s.cost_usd_mean);
        row.push(cost.map_or_else(|| "unknown".into(), |m| Cell::new(dollars(m.estimate * 1000.0))));
        row
    };
    let table = Table {
        columns,
        rows: tried.iter().map(row).collect(),
        note:
            "Small print: 95 % intervals (accuracy exact, means and F1 by bootstrap, latencies from order statistics). \
               Latencies were measured on this machine at the stated number of requests at a time."
                .into(),
        ..Table::default()
    };
    let mut blocks = Vec::new();
    let what = plan.task.main_metric().1;
    let mains: Vec<(&Tried<'_>, Metric)> =
        tried.iter().filter_map(|t| Some((t, *t.figures.as_ref()?.main(plan.task)?))).collect();
    if mains.len() > 1 {
        let one = |(t, m): &(&Tried<'_>, Metric)| Interval {
            name: t.candidate.name.clone(),
            estimate: m.estimate,
            low: m.low,
            high: m.high,
            note: format!("n = {}", count(m.n)),
        };
        let rows: Vec<Interval> = mains.iter().map(one).collect();
        let low = rows.iter().map(|r| r.low).fold(1.0, f64::min);
        let axis = share_axis(what, low);
        let best =
            mains.iter().max_by(|a, b| a.1.estimate.total_cmp(&b.1.estimate)).map_or("", |b| &b.0.candidate.name);
        let mut plots = vec![Figure {
            title: format!("{best} has the best answers"),
            how: "Each dot is a model's figure over its rows, the line its 95 % interval.".into(),
            svg: charts::intervals(&format!("{what} of each model with intervals"), axis, &rows, None),
        }];
        let spots: Vec<Spot> = mains
            .iter()
            .filter_map(|(t, m)| {
                let ms = t.figures.as_ref()?.speed.latency_ms_p50?.estimate;
                let note = t.candidate.what.clone();
                Some(Spot { name: t.candidate.name.clone(), at: (ms.max(1e-3), m.estimate), note })
            })
            .collect();
        if spots.len() > 1 {
            let values: Vec<f64> = spots.iter().map(|s| s.at.0).collect();
            let x = charts::latency_axis("half of the answers within, logarithmic", &values);
            plots.push(Figure {
                title: "What quality costs in time".into(),
                how: "Up is better, left is faster.".into(),
                svg: charts::scatter("Quality against median latency", x, share_axis(what, low), &spots),
            });
        }
        blocks.push(Block::Plots(plots));
    }
    blocks.push(Block::Table(table));
    Section { title: "The models".into(), intro: String::new(), blocks }
}

/// An axis of shares from a round value below `low` to 1.
fn share_axis(name: &str, low: f64) -> Axis<'_> {
    let from = ((low - 0.03) * 10.0).floor().max(0.0) / 10.0;
    Axis {
        name,
        range: (from, 1.0),
        log: false,
        label: &|v| percent(v, if (v * 100.0 - (v * 100.0).round()).abs() < 1e-9 { 0 } else { 1 }),
    }
}

fn shown_metrics(plan: &Plan) -> Vec<(&'static str, &'static str)> {
    match plan.task {
        Task::Classify if plan.out_of_scope.is_some() => vec![
            ("accuracy", "right"),
            ("in_scope_accuracy", "in scope"),
            ("out_of_scope_recall", "out of scope found"),
            ("ece", "calibration error"),
        ],
        Task::Classify => vec![("accuracy", "right"), ("macro_f1", "macro F1"), ("ece", "calibration error")],
        Task::Labels => vec![("micro_f1", "label F1"), ("macro_f1", "macro F1"), ("exact_match", "whole lists")],
        Task::Regress => {
            vec![("closeness", "closeness"), ("mae", "mean error"), ("r2", "R²"), ("spearman", "rank correlation")]
        }
        Task::Extract => vec![("micro_f1", "field F1"), ("exact_match", "exact"), ("json_valid", "valid JSON")],
        Task::Answer => vec![("token_f1", "token F1"), ("exact_match", "exact"), ("rouge_l", "ROUGE-L")],
        Task::Summarise => vec![
            ("rouge1", "ROUGE-1"),
            ("rouge2", "ROUGE-2"),
            ("rouge_l", "ROUGE-L"),
            ("answers_with_hallucination", "with made-up facts"),
        ],
        Task::Generate => vec![("rouge_l", "ROUGE-L"), ("token_f1", "token F1"), ("bleu", "BLEU")],
    }
}

fn metric(name: &str, m: &Metric) -> Cell {
    match name {
        "mae" => Cell::with(significant(m.estimate), format!("{} – {}", significant(m.low), significant(m.high))),
        "ece" | "r2" | "spearman" => Cell::with(format!("{:.3}", m.estimate), format!("{:.3} – {:.3}", m.low, m.high)),
        "bleu" => Cell::with(format!("{:.1}", m.estimate), format!("{:.1} – {:.1}", m.low, m.high)),
        _ => Cell::with(percent(m.estimate, 1), range(m, 1)),
    }
}

/// An interval in per cent.
fn range(m: &Metric, decimals: usize) -> String {
    format!("{:.decimals$} – {}", m.low * 100.0, percent(m.high, decimals))
}

/// Why a model saw fewer rows, and what failed.
fn ended(t: &Tried<'_>) -> String {
    let mut notes = Vec::new();
    match &t.answers.ended {
        Ended::Done => {}
        Ended::Decided(decision) => notes.push(format!("stopped early: {decision:?}").to_lowercase()),
        Ended::CostCap => notes.push("stopped by the cost cap".to_owned()),
        Ended::Failing(_) => notes.push("given up: it kept failing".to_owned()),
    }
    if let Some(limit) = t.candidate.limit {
        notes.push(format!("first {} rows", count(limit as u64)));
    }
    if t.answers.failed > 0 {
        notes.push(format!("{} failed", t.answers.failed));
    }
    notes.join(", ")
}

fn data(plan: &Plan, setting: &Setting) -> Section {
    let mut facts = vec![("file".to_owned(), setting.data.name.clone())];
    facts.extend(setting.data.facts.iter().cloned());
    if plan.task == Task::Classify {
        facts.push(("labels".into(), format!("{}: {}", plan.labels.len(), listed(&plan.labels))));
    }
    if plan.shots > 0 {
        facts.push((
            "examples in each prompt".into(),
            match plan.shots_by.as_str() {
                FIXED => format!("{}, always the same", plan.shots),
                by => format!("{}, similar to the row (by {by}) and different from each other", plan.shots),
            },
        ));
    }
    facts.push(("SHA-256 of the rows".into(), setting.data.hash.clone()));
    let prompt = super::prompt::instruction(plan);
    let prompt = plan.instruction.clone().unwrap_or(prompt);
    let mut blocks = vec![Block::Sheet(facts)];
    if !prompt.is_empty() {
        blocks.push(Block::Fold("What models that take instructions were told".into(), vec![Block::Text(prompt)]));
    }
    Section { title: "The data".into(), intro: String::new(), blocks }
}

fn listed(labels: &[String]) -> String {
    const SHOWN: usize = 12;
    let more = if labels.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", labels.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}
