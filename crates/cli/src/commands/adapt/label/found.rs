//! What labelling found: the file of labels, how far they can be trusted, and what a person sees.

use super::{LabelArgs, Labelled};
use crate::{
    commands::{pilot::data::cut, shown},
    terminal::{heading, percent, say, table, verdict},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, io::Write as _, path::Path};
use understudy_core::Result;
use understudy_dataset::write::write_file;
use understudy_pilot::run::{
    Ended,
    votes::{Agreement, agreement},
};

/// Texts without a valid label that are shown.
const SHOWN: usize = 3;

/// Writes the texts that have a label, one JSON object a line.
pub(super) fn write(out: &Path, teacher: &str, samples: u8, labelled: &Labelled<'_>) -> Result<()> {
    write_file(out, |file| {
        for (row, vote, confidence) in &labelled.votes {
            let Some(vote) = vote else { continue };
            let mut object = Map::new();
            object.insert("text".into(), json!(row.text));
            // What was there is worth more than what the model says; both are written.
            object.insert("label".into(), json!(row.label.as_ref().unwrap_or(&vote.label)));
            if row.label.is_some() {
                object.insert("teacher_label".into(), json!(vote.label));
            }
            object.insert("teacher".into(), json!(teacher));
            if samples > 1 {
                object.insert("shares".into(), json!(vote.shares));
            }
            if let Some(confidence) = confidence {
                object.insert("confidence".into(), json!(confidence));
            }
            serde_json::to_writer(&mut *file, &Value::Object(object))?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// How far the labels can be trusted.
pub(super) struct Found {
    labelled: usize,
    invalid: usize,
    by_label: BTreeMap<String, usize>,
    with_gold: Option<Agreement>,
    with_itself: Option<Agreement>,
}

impl Found {
    pub(super) fn of(labelled: &Labelled<'_>, checked: Option<&[(String, String)]>) -> Self {
        let votes = || labelled.votes.iter().filter_map(|(row, vote, _)| Some((*row, vote.as_ref()?)));
        let gold: Vec<(&str, &str)> =
            votes().filter_map(|(row, vote)| Some((row.label.as_deref()?, vote.label.as_str()))).collect();
        let checked: Vec<(&str, &str)> =
            checked.unwrap_or_default().iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut by_label = BTreeMap::new();
        votes().for_each(|(_, vote)| *by_label.entry(vote.label.clone()).or_default() += 1);
        Self {
            labelled: votes().count(),
            invalid: labelled.votes.len() - votes().count(),
            by_label,
            with_gold: agreement(&gold),
            with_itself: agreement(&checked),
        }
    }

    pub(super) fn json(&self, args: &LabelArgs, labelled: &Labelled<'_>, spent: f64) -> Value {
        let bound = |found: &Option<Agreement>| {
            found.as_ref().map(|a| {
                json!({ "n": a.n, "rate": a.rate.estimate, "low": a.rate.low, "high": a.rate.high, "kappa": a.kappa })
            })
        };
        json!({
            "out": shown(&args.out), "teacher": args.model, "labelled": self.labelled, "invalid": self.invalid,
            "failed": labelled.failed, "resumed": labelled.resumed, "ended": labelled.ended, "by_label": self.by_label,
            "agreement_with_labels": bound(&self.with_gold), "agreement_with_itself": bound(&self.with_itself),
            "cost_usd": spent,
        })
    }
}

pub(super) fn show(args: &LabelArgs, labelled: &Labelled<'_>, found: &Found, spent: f64) {
    heading(&format!("Labels of {}", args.model));
    say(format_args!("  {} texts labelled, ${spent:.4} spent; {}", found.labelled, shown(&args.out)));
    if labelled.resumed > 0 {
        say(format_args!("  {} of {} answers were there already", labelled.resumed, labelled.asked));
    }
    let mut lines = Vec::new();
    for (what, found) in
        [("labels that were there", &found.with_gold), ("itself, labels turned round", &found.with_itself)]
    {
        if let Some(a) = found {
            let kappa = a.kappa.map_or_else(String::new, |kappa| format!("{kappa:.2}"));
            let interval = format!("{} to {}", percent(a.rate.low), percent(a.rate.high));
            lines.push(vec![what.to_owned(), a.n.to_string(), percent(a.rate.estimate), interval, kappa]);
        }
    }
    if !lines.is_empty() {
        say(table(&["agrees with", "texts", "rate", "95 %", "kappa"], &[1, 2, 3, 4], lines));
    }
    if found.invalid > 0 {
        let said: Vec<String> =
            labelled.invented.iter().take(SHOWN).map(|text| format!("`{}`", cut(text, 40))).collect();
        let what =
            format!("{} texts got none of the labels and are left out, such as {}", found.invalid, said.join(", "));
        say(format_args!("  {}", verdict(&what, false)));
    }
    if let Some(error) = &labelled.first_error {
        say(format_args!(
            "  {}",
            verdict(&format!("{} requests failed; the first: failed to {error}", labelled.failed), false)
        ));
    }
    // Where it was given up, the command ends with that error.
    if labelled.ended == Ended::CostCap {
        let what = "the budget is used up; the same command with a higher --max-cost-usd goes on";
        say(format_args!("  {}", verdict(what, false)));
    }
}
