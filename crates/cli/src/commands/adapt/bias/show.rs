//! The audit as tables and as a section of the model's card.

use super::Audit;
use crate::terminal::{self, percent, say, table};
use understudy_adapt::{
    bias::{
        pairs::Flips,
        slices::{Slice, SliceAudit},
    },
    card::{self, CARD},
};
use understudy_core::{Error, Result};
use understudy_model::artifact::{Artifact, Metric};

/// Leanings that are shown for each kind of pairs.
const LEANINGS: usize = 5;

fn interval(metric: &Metric) -> String {
    format!("{} [{:.1}, {:.1}]", percent(metric.estimate), metric.low * 100.0, metric.high * 100.0)
}

fn points(metric: &Metric) -> String {
    format!("{:+.1} [{:+.1}, {:+.1}]", metric.estimate * 100.0, metric.low * 100.0, metric.high * 100.0)
}

/// What the audit says under its tables.
const READING: &str = "Intervals are at 95 %, each on its own; p-values after Holm's correction over all lines of their table.\n\
                       \"No difference shown\" is not \"no difference\": the interval says how large one could be.";

pub(super) fn show(audit: &Audit) {
    if let Some(found) = &audit.slices {
        show_slices(found);
    }
    if !audit.pairs.is_empty() {
        show_pairs(audit);
    }
    say(format!("\n{READING}"));
}

/// The audit as a section of the artifact's card.
pub(super) fn write_card(artifact: &Artifact, audit: &Audit) -> Result<()> {
    let path = artifact.dir().join(CARD);
    let failed = |e: std::io::Error| Error::data(format!("write the model card {}: {e}", path.display()));
    let card = match std::fs::read_to_string(&path) {
        Ok(card) => card,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => card::card(artifact.manifest(), artifact.hash()),
        Err(e) => return Err(failed(e)),
    };
    let audited = card::with_audit(&card, &section(audit));
    let mut file = tempfile::NamedTempFile::new_in(artifact.dir()).map_err(failed)?;
    std::io::Write::write_all(&mut file, audited.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|e| failed(e.error))?;
    terminal::note(format_args!("card     {}", crate::commands::shown(&path)));
    Ok(())
}

fn section(audit: &Audit) -> String {
    let mut lines = Vec::new();
    // A cell may not end its own row.
    let cell = |text: &str| text.replace(['|', '\n', '\r'], " ");
    if let Some(found) = &audit.slices {
        lines.push(format!("All {} rows: {} wrong.\n", found.n, interval(&found.errors)));
        lines.push(
            "| slice | n | wrong | against elsewhere | against teacher | |\n|---|---:|---:|---:|---:|---|".to_owned(),
        );
        for s in &found.slices {
            let change = s.change.as_ref().map_or_else(|| "–".to_owned(), points);
            let (name, wrong, difference) = (cell(&s.name), interval(&s.errors), points(&s.difference));
            lines.push(format!(
                "| {} = {name} | {} | {wrong} | {difference} | {change} | {} |",
                cell(&s.field),
                s.n,
                verdict(s)
            ));
        }
        for s in &found.too_small {
            let about = match s.elsewhere {
                Some(n) => format!("only {n} rows elsewhere to compare with"),
                None => format!("too small to judge; {} needed", s.needed),
            };
            lines.push(format!("| {} = {} | {} | – | – | – | {about} |", cell(&s.field), cell(&s.name), s.n));
        }
        lines.push(String::new());
    }
    if !audit.pairs.is_empty() {
        lines.push(
            "| pairs of texts about | n | answers differ | the teacher's | |\n|---|---:|---:|---:|---|".to_owned(),
        );
        for f in &audit.pairs {
            let teacher = f.teacher_flips.as_ref().map_or_else(|| "–".to_owned(), interval);
            lines.push(format!(
                "| {} | {} | {} | {teacher} | {} |",
                cell(&f.kind),
                f.n,
                interval(&f.flips),
                leaning(f)
            ));
        }
        lines.push(String::new());
    }
    lines.push(READING.to_owned());
    lines.join("\n")
}

fn verdict(slice: &Slice) -> &'static str {
    match (slice.worse, slice.worse_than_teacher) {
        (true, true) => "worse than elsewhere and than the teacher",
        (true, false) => "worse than elsewhere",
        (false, true) => "worse than the teacher",
        (false, false) if slice.better => "better than elsewhere",
        (false, false) => "no difference shown",
    }
}

fn leaning(flips: &Flips) -> &'static str {
    if flips.too_small {
        "too few pairs to judge"
    } else if flips.leanings.iter().any(|leaning| leaning.shown) {
        "leans to one side"
    } else {
        "no leaning shown"
    }
}

fn show_slices(found: &SliceAudit) {
    terminal::heading("Errors by slice");
    let teacher = found.teacher_errors.as_ref().map_or_else(String::new, |m| format!("; its teacher {}", interval(m)));
    say(format!("all {} rows: {} wrong{teacher}", found.n, interval(&found.errors)));
    let rows = found.slices.iter().map(|slice| {
        vec![
            format!("{} = {}", slice.field, slice.name),
            slice.n.to_string(),
            interval(&slice.errors),
            points(&slice.difference),
            format!("{:.4}", slice.p),
            slice.change.as_ref().map_or_else(|| "–".to_owned(), points),
            slice.change_p.map_or_else(|| "–".to_owned(), |p| format!("{p:.4}")),
            verdict(slice).to_owned(),
        ]
    });
    let header = ["slice", "n", "wrong", "against elsewhere", "p", "against teacher", "p", ""];
    say(table(&header, &[1, 2, 3, 4, 5, 6], rows));
    for (field, without) in found.without.iter().filter(|(_, n)| **n > 0) {
        say(format!("{without} rows have no `{field}` and are in none of its slices"));
    }
    if !found.too_small.is_empty() {
        terminal::heading("Not judged");
        let rows = found.too_small.iter().map(|s| {
            let lacks = s.elsewhere.map_or_else(
                || format!("{} rows for ± 5 points", s.needed),
                |n| format!("only {n} rows elsewhere to compare with"),
            );
            vec![format!("{} = {}", s.field, s.name), s.n.to_string(), lacks]
        });
        say(table(&["slice", "n", "lacks"], &[1], rows));
    }
}

fn show_pairs(audit: &Audit) {
    terminal::heading("Answers that change with who is spoken of");
    let rows = audit.pairs.iter().map(|flips| {
        let or_dash =
            |m: &Option<Metric>, shown: fn(&Metric) -> String| m.as_ref().map_or_else(|| "–".to_owned(), shown);
        vec![
            flips.kind.clone(),
            flips.n.to_string(),
            interval(&flips.flips),
            or_dash(&flips.teacher_flips, interval),
            or_dash(&flips.change, points),
            leaning(flips).to_owned(),
        ]
    });
    say(table(&["pairs", "n", "answers differ", "teacher's", "change", ""], &[1, 2, 3, 4], rows));
    let leanings = audit.pairs.iter().flat_map(|flips| {
        flips.leanings.iter().filter(|l| l.shown).take(LEANINGS).map(|l| {
            vec![
                flips.kind.clone(),
                l.label.clone(),
                l.only_first.to_string(),
                l.only_second.to_string(),
                points(&l.difference),
                format!("{:.4}", l.p),
            ]
        })
    });
    let leanings: Vec<Vec<String>> = leanings.collect();
    if !leanings.is_empty() {
        let header = ["pairs", "answer", "only the first", "only the second", "second minus first", "p"];
        say(table(&header, &[2, 3, 4, 5], leanings));
    }
}
