//! `understudy pilot errors`: where a small model goes wrong.

mod page;

use crate::commands::Context;
use crate::{
    compose,
    report::ReportArg,
    terminal::{self, percent, say, table},
};
use clap::Args;
use std::path::PathBuf;
use understudy_core::{Result, Seed};
use understudy_pilot::{
    errors::{self, Example, Options, Report, ambiguous::Reason, slices::Kind},
    metrics::Metric,
};

/// Lines of the longer tables.
const LINES: usize = 12;

#[derive(Debug, Args)]
pub(crate) struct ErrorsArgs {
    /// Recorded outcomes or the result of `pilot run`, one JSON object a line; `.zst` is unpacked
    #[arg(long, value_name = "FILE")]
    outcomes: PathBuf,
    /// The model whose errors are looked at
    #[arg(long, value_name = "NAME")]
    small: String,
    /// The model beside it
    #[arg(long, value_name = "NAME")]
    large: Option<String>,
    /// The allowed labels, separated by commas; the gold labels of the file when left out
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    labels: Vec<String>,
    /// Expected share of false alarms among the slices called worse
    #[arg(long, value_name = "Q", default_value_t = 0.05)]
    false_discovery: f64,
    /// Examples in each list
    #[arg(long, value_name = "N", default_value_t = 5)]
    examples: usize,
    /// Seed of the clusters
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    report: ReportArg,
}

/// Runs `understudy pilot errors`.
pub(super) fn run(args: &ErrorsArgs, context: &Context) -> Result<()> {
    args.report.check()?;
    let outcomes = compose::read_outcomes(&args.outcomes)?;
    let options = Options {
        small: args.small.clone(),
        large: args.large.clone(),
        labels: args.labels.clone(),
        false_discovery: args.false_discovery,
        examples: args.examples,
        seed: Seed(args.seed),
    };
    let report = errors::report(&outcomes, &options)?;
    show(&report);
    args.report.write(|| page::page(&report), &report)?;
    if context.json { terminal::json(&report) } else { Ok(()) }
}

fn show(report: &Report) {
    say(format!("{} is wrong on {} of {} rows", report.small, interval(&report.errors), report.errors.n));
    if let (Some(large), Some(errors)) = (&report.large, &report.errors_large) {
        say(format!("{large} is wrong on {} of {} rows", interval(errors), errors.n));
    }
    show_slices(report);
    if !report.confusions.is_empty() {
        terminal::heading("Most frequent confusions");
        let rows = report.confusions.iter().take(LINES).map(|c| {
            let large = c.large.map_or_else(String::new, |large| large.to_string());
            vec![short(&c.label, 40), short(&c.answer, 40), c.count.to_string(), interval(&c.share), large]
        });
        say(table(&["label", "answer", "times", "of the label", "large model"], &[2, 3, 4], rows));
    }
    if let Some(share) = &report.invented_share {
        terminal::heading("Answers that are no label");
        say(format!("{} of the answers", interval(share)));
        let rows = report
            .invented
            .iter()
            .take(LINES)
            .map(|i| vec![short(&i.answer.replace('\n', " "), 60), i.count.to_string(), i.ids.join(", ")]);
        if !report.invented.is_empty() {
            say(table(&["answer", "times", "rows"], &[1], rows));
        }
    }
    show_ambiguous(report);
    if let Some(found) = &report.label_errors {
        terminal::heading("Labels that are probably wrong");
        say(format!("{} of the labels, by a committee of {} models", interval(&found.share), found.models));
        let rows = found.candidates.iter().map(|d| {
            let sure = format!("{:.2}", d.self_confidence);
            vec![d.id.clone(), short(&d.label, 30), short(&d.suggested, 30), sure, one_line(&d.prompt, 60)]
        });
        say(table(&["row", "label", "rather", "P(label)", "prompt"], &[3], rows));
    }
    if !report.examples.is_empty() {
        terminal::heading("Side by side");
        report.examples.iter().for_each(|example| show_example(example, report));
    }
}

fn show_slices(report: &Report) {
    let worse = report.slices.iter().filter(|slice| slice.worse).count();
    terminal::heading(&format!("Slices: {worse} of {} err more than the rest", report.slices.len()));
    let rows = report.slices.iter().take(LINES.max(worse)).map(|slice| {
        let mark = if slice.worse { "worse" } else { "" };
        vec![
            format!("{} {}", kind(slice.kind), short(&slice.name, 44)),
            slice.n.to_string(),
            interval(&slice.errors),
            percent(slice.errors_elsewhere.estimate),
            slice.errors_large.map_or_else(String::new, |m| percent(m.estimate)),
            format!(
                "{:+.1} ({:+.1}…{:+.1})",
                slice.difference.estimate * 100.0,
                slice.difference.low * 100.0,
                slice.difference.high * 100.0
            ),
            format!("{:.4}", slice.p_adjusted),
            mark.to_owned(),
        ]
    });
    let header = ["slice", "rows", "errors (95 %)", "elsewhere", "large", "difference (95 %)", "p adjusted", ""];
    say(table(&header, &[1, 2, 3, 4, 5, 6], rows));
}

fn show_ambiguous(report: &Report) {
    if report.ambiguous.is_empty() {
        return;
    }
    terminal::heading("Prompts without a clear answer");
    let rows = report.ambiguous.iter().map(|a| {
        let errors = |metric: Option<Metric>| metric.map_or_else(|| "–".to_owned(), |m| percent(m.estimate));
        let reason = match a.reason {
            Reason::BothUnsure => "both models unsure",
            Reason::ModelsSplit => "the models have no majority",
            Reason::AgreedAgainstLabel => "both agree against the label",
        };
        vec![reason.into(), interval(&a.share), errors(a.errors), errors(a.errors_elsewhere), a.ids.join(", ")]
    });
    say(table(&["", "share (95 %)", "errors there", "elsewhere", "rows"], &[1, 2, 3], rows));
}

fn show_example(example: &Example, report: &Report) {
    say(format!("\n  {}: {}", example.id, one_line(&example.prompt, 300)));
    let label = example.label.as_ref().map(|label| ("label".to_owned(), label.clone()));
    let small = example.small.as_ref().map(|answer| {
        let sure = example.small_score.map_or_else(String::new, |score| format!(" (sure {score:.2})"));
        (report.small.clone(), format!("{}{sure}", one_line(answer, 120)))
    });
    let large =
        example.large.as_ref().zip(report.large.as_ref()).map(|(answer, name)| (name.clone(), one_line(answer, 120)));
    for (name, text) in [label, small, large].into_iter().flatten() {
        say(format!("    {name:<24} {text}"));
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Group => "group",
        Kind::Label => "label",
        Kind::Length => "length",
        Kind::Order => "order",
        Kind::Language => "language",
        Kind::Cluster => "words",
    }
}

fn interval(metric: &Metric) -> String {
    format!("{:.1} % ({:.1}…{:.1})", metric.estimate * 100.0, metric.low * 100.0, metric.high * 100.0)
}

fn one_line(text: &str, most: usize) -> String {
    short(&text.split_whitespace().collect::<Vec<_>>().join(" "), most)
}

fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
