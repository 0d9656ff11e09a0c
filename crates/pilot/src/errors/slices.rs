//! Slices of the rows in which the small model errs more (or less) than elsewhere.
//!
//! Slices are made without looking at the errors (by group, length, order, language, words), each is compared with all
//! other rows (Fisher's exact test, Newcombe's interval), and Benjamini and Hochberg's procedure over all slices keeps
//! the expected share of false alarms among those called different.

use super::{Row, clusters};
use crate::metrics::{LEVEL, Metric};
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::Seed;
use understudy_stats::{independent, multiplicity};
use whatlang::detect;

/// Rows below which a slice is not looked at.
pub const LEAST: usize = 20;

/// What a slice is made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The outcomes' own groups.
    Group,
    /// The gold label.
    Label,
    /// Characters of the prompt, in quarters.
    Length,
    /// The order of the rows, in quarters: time, where the file is in order of time.
    Order,
    /// The language of the prompt, as trigrams tell it.
    Language,
    /// Similar words.
    Cluster,
}

/// One slice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// What it is made by.
    pub kind: Kind,
    /// Which one.
    pub name: String,
    /// Rows.
    pub n: u64,
    /// The small model's errors in it.
    pub errors: Metric,
    /// Its errors in all other rows.
    pub errors_elsewhere: Metric,
    /// The large model's errors in it.
    pub errors_large: Option<Metric>,
    /// Errors in it minus errors elsewhere.
    pub difference: Metric,
    /// Fisher's exact test.
    pub p: f64,
    /// After Benjamini and Hochberg's correction over all slices.
    pub p_adjusted: f64,
    /// Whether it is called worse than the rest.
    pub worse: bool,
}

/// All slices, the surest excess of errors first.
pub(super) fn find(rows: &[Row<'_>], false_discovery: f64, seed: Seed) -> Vec<Slice> {
    let parts: [(Kind, Vec<Option<String>>); 6] = [
        (Kind::Group, rows.iter().map(|row| row.outcome.group.clone()).collect()),
        (Kind::Label, rows.iter().map(|row| row.outcome.label.clone()).collect()),
        (Kind::Length, lengths(rows)),
        (Kind::Order, quarters(rows.len())),
        (Kind::Language, rows.iter().map(|row| language(&row.outcome.prompt)).collect()),
        (Kind::Cluster, clusters::names(&rows.iter().map(|row| row.outcome.prompt.as_str()).collect::<Vec<_>>(), seed)),
    ];
    let mut found = Vec::new();
    for (kind, names) in parts {
        let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, name) in names.iter().enumerate() {
            if let Some(name) = name {
                members.entry(name).or_default().push(i);
            }
        }
        let large_enough = |m: &Vec<usize>| m.len() >= LEAST && rows.len() - m.len() >= LEAST;
        found
            .extend(members.iter().filter(|(_, m)| large_enough(m)).filter_map(|(name, m)| slice(rows, kind, name, m)));
    }
    let adjusted = multiplicity::benjamini_hochberg(&found.iter().map(|slice| slice.p).collect::<Vec<_>>());
    for (slice, p) in found.iter_mut().zip(adjusted) {
        slice.p_adjusted = p;
        slice.worse = p <= false_discovery && slice.difference.estimate > 0.0;
    }
    found.sort_by(|a, b| b.worse.cmp(&a.worse).then(a.p.total_cmp(&b.p)));
    found
}

fn slice(rows: &[Row<'_>], kind: Kind, name: &str, members: &[usize]) -> Option<Slice> {
    let errors = |wrong: &dyn Fn(&Row<'_>) -> bool| members.iter().filter(|&&i| wrong(&rows[i])).count() as u64;
    let wrong = errors(&|row| row.wrong);
    let (n, all) = (members.len() as u64, rows.len() as u64);
    let elsewhere = rows.iter().filter(|row| row.wrong).count() as u64 - wrong;
    let judged = errors(&|row| row.large_wrong.is_some());
    Some(Slice {
        kind,
        name: name.to_owned(),
        n,
        errors: Metric::wilson(wrong, n)?,
        errors_elsewhere: Metric::wilson(elsewhere, all - n)?,
        errors_large: Metric::wilson(errors(&|row| row.large_wrong == Some(true)), judged),
        difference: Metric::new(independent::difference(wrong, n, elsewhere, all - n, LEVEL), n),
        p: independent::fisher(wrong, n, elsewhere, all - n),
        p_adjusted: 1.0,
        worse: false,
    })
}

/// Quarters by the characters of the prompt; equal lengths fall together.
fn lengths(rows: &[Row<'_>]) -> Vec<Option<String>> {
    let length: Vec<usize> = rows.iter().map(|row| row.outcome.prompt.chars().count()).collect();
    let mut sorted = length.clone();
    sorted.sort_unstable();
    let cuts: Vec<usize> = (1..4).map(|q| sorted[q * sorted.len() / 4]).collect();
    let name = |length: usize| match cuts.iter().filter(|cut| length >= **cut).count() {
        0 => format!("below {} characters", cuts[0]),
        3 => format!("{} characters and more", cuts[2]),
        q => format!("{} to {} characters", cuts[q - 1], cuts[q].saturating_sub(1)),
    };
    length.into_iter().map(|length| Some(name(length))).collect()
}

fn quarters(n: usize) -> Vec<Option<String>> {
    const NAMES: [&str; 4] = ["first quarter", "second quarter", "third quarter", "last quarter"];
    (0..n).map(|i| Some(NAMES[i * 4 / n].to_owned())).collect()
}

/// The language of a prompt, where the trigrams are clear about it.
fn language(prompt: &str) -> Option<String> {
    let info = detect(prompt)?;
    Some(if info.is_reliable() { info.lang().eng_name().to_owned() } else { "unclear".to_owned() })
}
