//! The report of errors: where the small model goes wrong, and what to do about it.

use super::{interval, kind, one_line};
use understudy_pilot::{
    errors::{
        Report as Found,
        ambiguous::Reason,
        slices::{Kind, Slice},
    },
    metrics::Metric,
    report::{
        Block, Cell, Column, Figure, KeyFigure, Report, Section, Table,
        charts::{self, Axis, Interval},
        numbers::{count, percent},
    },
};

/// Slices and confusions that are shown.
const SHOWN: usize = 15;

/// Lays the page out.
pub(super) fn page(found: &Found) -> Report {
    let worse: Vec<&Slice> = found.slices.iter().filter(|slice| slice.worse).collect();
    let wrong = percent(found.errors.estimate, 1);
    let verdict = match worse.as_slice() {
        [] => format!("{} is wrong on {wrong} of the rows, nowhere clearly more than elsewhere.", found.small),
        [one, ..] => format!("{} is wrong on {wrong} of the rows, most of all where {}.", found.small, place(one)),
    };
    let beside = match (&found.large, &found.errors_large) {
        (Some(large), Some(m)) => format!("{large} is wrong on {} of them. ", percent(m.estimate, 1)),
        _ => String::new(),
    };
    let lead = format!(
        "{beside}{} of {} groups of rows have more errors than the rest, with the share of false alarms among them held \
         down.{}",
        worse.len(),
        found.slices.len(),
        found.label_errors.as_ref().filter(|labels| labels.share.estimate > 0.0).map_or_else(String::new, |labels| {
            format!(" {} of the labels are themselves doubtful.", percent(labels.share.estimate, 1))
        })
    );
    let mut sections = vec![slices(found)];
    sections.extend(confusions(found));
    sections.extend(unclear(found));
    sections.extend(doubts(found));
    sections.extend(examples(found));
    Report {
        title: format!("errors of {}", found.small),
        verdict,
        lead,
        figures: key_figures(found, worse.len()),
        sections,
        ..Report::default()
    }
}

fn place(slice: &Slice) -> String {
    match (slice.kind, slice.name.split_once(": ")) {
        // A cluster is numbered and named by its words.
        (Kind::Cluster, Some((_, words))) => format!("it reads like “{}”", one_line(words, 40)),
        _ => format!("{} is {}", kind(slice.kind), one_line(&slice.name, 40)),
    }
}

fn key_figures(found: &Found, worse: usize) -> Vec<KeyFigure> {
    let figure = |name: String, number: String, note: String| KeyFigure { name, number, note };
    let note =
        |m: &Metric| format!("95 % interval {:.1} – {}, on {} rows", m.low * 100.0, percent(m.high, 1), count(m.n));
    let mut figures =
        vec![figure(format!("{}: wrong", found.small), percent(found.errors.estimate, 1), note(&found.errors))];
    if let (Some(large), Some(m)) = (&found.large, &found.errors_large) {
        figures.push(figure(format!("{large}: wrong"), percent(m.estimate, 1), note(m)));
    }
    figures.push(figure(
        "groups that err more".into(),
        worse.to_string(),
        format!("of {} looked at", found.slices.len()),
    ));
    if let Some(labels) = &found.label_errors {
        figures.push(figure("doubtful labels".into(), percent(labels.share.estimate, 1), note(&labels.share)));
    }
    figures
}

fn slices(found: &Found) -> Section {
    let shown: Vec<&Slice> = found.slices.iter().take(SHOWN).collect();
    let rows: Vec<Interval> = shown
        .iter()
        .map(|s| Interval {
            name: format!("{} {}", kind(s.kind), one_line(&s.name, 26)),
            estimate: s.errors.estimate,
            low: s.errors.low,
            high: s.errors.high,
            note: format!("{} rows, elsewhere {}", count(s.n), percent(s.errors_elsewhere.estimate, 1)),
        })
        .collect();
    let most = rows.iter().map(|r| r.high).fold(found.errors.estimate, f64::max);
    let axis = Axis {
        name: "share of rows that are wrong",
        range: (0.0, (most * 1.05).min(1.0)),
        log: false,
        label: &|v| percent(v, 0),
    };
    let mut blocks = Vec::new();
    if !rows.is_empty() {
        blocks.push(Block::Plots(vec![Figure {
            title: "Errors by group of rows".into(),
            how: "The surest differences first; the dashed line is the mean over all rows. Groups overlap: one cause may show in \
                  several."
                .into(),
            svg: charts::intervals("Errors by slice", axis, &rows, Some((found.errors.estimate, "all rows"))),
        }]));
    }
    let row = |s: &&Slice| {
        let difference = &s.difference;
        vec![
            Cell::with(one_line(&s.name, 60), kind(s.kind)),
            count(s.n).into(),
            Cell::new(interval(&s.errors)),
            percent(s.errors_elsewhere.estimate, 1).into(),
            s.errors_large.map_or_else(|| "–".into(), |m| Cell::new(percent(m.estimate, 1))),
            Cell::with(
                format!("{:+.1}", difference.estimate * 100.0),
                format!("{:+.1} to {:+.1}", difference.low * 100.0, difference.high * 100.0),
            ),
            Cell::new(if s.p_adjusted < 1e-4 { "< 0.0001".to_owned() } else { format!("{:.4}", s.p_adjusted) }),
            Cell { strong: s.worse, ..Cell::new(if s.worse { "worse" } else { "" }) },
        ]
    };
    let mut columns = vec![Column::text("group")];
    columns.extend(["rows", "wrong", "elsewhere", "large model", "difference", "p, corrected"].map(Column::number));
    columns.push(Column::text(""));
    blocks.push(Block::Table(Table {
        columns,
        rows: shown.iter().map(row).collect(),
        note:
            "Fisher's exact test against all other rows, corrected for the number of groups (Benjamini and Hochberg). \
               Groups of words are clusters made without looking at errors."
                .into(),
        ..Table::default()
    }));
    Section { title: "Where it errs more".into(), intro: String::new(), blocks }
}

fn confusions(found: &Found) -> Option<Section> {
    let most = found.confusions.first()?.count as f64;
    let row = |c: &understudy_pilot::errors::Confused| {
        vec![
            Cell::new(one_line(&c.label, 60)),
            Cell::new(one_line(&c.answer, 60)),
            Cell { shade: c.count as f64 / most, ..Cell::new(count(c.count)) },
            Cell::new(interval(&c.share)),
            c.large.map_or_else(|| "–".into(), |n| Cell::new(count(n))),
        ]
    };
    let mut columns = vec![Column::text("right label"), Column::text("answered")];
    columns.extend(["times", "of the label's rows", "large model, same mistake"].map(Column::number));
    let mut blocks = vec![Block::Table(Table {
        columns,
        rows: found.confusions.iter().take(SHOWN).map(row).collect(),
        ..Table::default()
    })];
    if let Some(share) = found.invented_share.filter(|share| share.estimate > 0.0) {
        let some: Vec<String> =
            found.invented.iter().take(5).map(|i| format!("“{}”", one_line(&i.answer, 40))).collect();
        blocks.push(Block::Text(format!(
            "{} of the answers are no label: {}.",
            percent(share.estimate, 1),
            some.join(", ")
        )));
    }
    Some(Section { title: "What it confuses".into(), intro: String::new(), blocks })
}

fn unclear(found: &Found) -> Option<Section> {
    let fact = |a: &understudy_pilot::errors::ambiguous::Ambiguous| {
        let what = match a.reason {
            Reason::BothUnsure => "both models unsure",
            Reason::ModelsSplit => "the models have no majority",
            Reason::AgreedAgainstLabel => "both agree against the label",
        };
        let errors = a.errors.map_or_else(String::new, |m| format!("; wrong there: {}", percent(m.estimate, 1)));
        (what.to_owned(), format!("{} of the rows{errors}; such as {}", interval(&a.share), a.ids.join(", ")))
    };
    let facts: Vec<(String, String)> = found.ambiguous.iter().filter(|a| !a.ids.is_empty()).map(fact).collect();
    (!facts.is_empty()).then(|| Section {
        title: "Prompts without a clear answer".into(),
        intro: String::new(),
        blocks: vec![Block::Sheet(facts)],
    })
}

fn doubts(found: &Found) -> Option<Section> {
    let labels = found.label_errors.as_ref().filter(|labels| !labels.candidates.is_empty())?;
    let row = |d: &understudy_pilot::errors::labels::Doubt| {
        vec![
            Cell::new(d.id.clone()),
            Cell::new(one_line(&d.prompt, 200)),
            Cell::new(d.label.clone()),
            Cell::new(d.suggested.clone()),
            Cell::new(format!("{:.2}", d.self_confidence)),
        ]
    };
    let mut columns = ["row", "prompt", "label", "rather"].map(Column::text).to_vec();
    columns.push(Column::number("P(label)"));
    let table = Table {
        columns,
        rows: labels.candidates.iter().map(row).collect(),
        note: format!(
            "Confident learning over a committee of {} models. Models may share a bias: look before you relabel.",
            labels.models
        ),
        ..Table::default()
    };
    Some(Section {
        title: "Labels that are probably wrong".into(),
        intro: String::new(),
        blocks: vec![Block::Table(table)],
    })
}

fn examples(found: &Found) -> Option<Section> {
    let mut columns = vec![Column::text("prompt"), Column::text("right"), Column::text(&found.small)];
    columns.extend(found.large.as_deref().map(Column::text));
    let said = |text: Option<&String>| text.map_or_else(|| "–".to_owned(), |text| one_line(text, 160));
    let row = |e: &understudy_pilot::errors::Example| {
        let sure = e.small_score.map_or_else(String::new, |score| format!("{score:.2} sure"));
        let mut row =
            vec![Cell::with(one_line(&e.prompt, 240), format!("row {}", e.id)), Cell::new(said(e.label.as_ref()))];
        row.push(Cell::with(said(e.small.as_ref()), sure));
        if found.large.is_some() {
            row.push(Cell::new(said(e.large.as_ref())));
        }
        row
    };
    (!found.examples.is_empty()).then(|| Section {
        title: "Side by side".into(),
        intro: match found.large {
            Some(_) => {
                "rows that the large model gets right and the small one does not, the surest errors first".into()
            }
            None => "the surest errors first".into(),
        },
        blocks: vec![Block::Table(Table {
            columns,
            rows: found.examples.iter().map(row).collect(),
            ..Table::default()
        })],
    })
}
