//! What a data set holds, at a glance: counts, labels, lengths, duplicates, contradictions.

use crate::{Dataset, near::near_duplicates};
use std::collections::{BTreeMap, BTreeSet};

/// Labels that are few enough to be classes: at most this many different golds, and few beside the rows.
const MOST_CLASSES: usize = 500;

/// Facts about a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Rows.
    pub n: usize,
    /// Rows with a label or a reference.
    pub with_gold: usize,
    /// Labels with their counts, the most frequent first; empty when rows have none.
    pub labels: Vec<(String, usize)>,
    /// Characters of the texts: shortest, median, longest.
    pub characters: (usize, usize, usize),
    /// Rows whose text an earlier row has.
    pub duplicates: usize,
    /// Rows whose text an earlier row nearly has.
    pub near_duplicates: usize,
    /// Groups of rows with the same text and different golds, as ids; label-error candidates.
    pub contradictions: Vec<Vec<String>>,
    /// Rows nearly equal to an earlier one with another gold, as pairs of ids; label-error candidates.
    pub near_contradictions: Vec<(String, String)>,
}

/// Looks at a data set.
#[must_use]
pub fn summarise(data: &Dataset) -> Summary {
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    for label in data.rows.iter().filter_map(|row| row.label.as_deref()) {
        *labels.entry(label).or_default() += 1;
    }
    let mut labels: Vec<(String, usize)> = labels.into_iter().map(|(label, n)| (label.to_owned(), n)).collect();
    labels.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if labels.len() > MOST_CLASSES {
        labels.clear();
    }
    let mut characters: Vec<usize> = data.rows.iter().map(|row| row.text.chars().count()).collect();
    characters.sort_unstable();
    let at = |index: usize| characters.get(index).copied().unwrap_or(0);
    let mut same: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, row) in data.rows.iter().enumerate() {
        same.entry(row.content_hash()).or_default().push(index);
    }
    let differ = |rows: &[usize]| rows.iter().map(|&i| data.rows[i].gold()).collect::<BTreeSet<_>>().len() > 1;
    let ids = |rows: &Vec<usize>| rows.iter().map(|&i| data.rows[i].id.clone()).collect::<Vec<_>>();
    let first: BTreeSet<usize> = same.values().map(|rows| rows[0]).collect();
    let texts: Vec<&str> =
        data.rows.iter().enumerate().map(|(i, r)| if first.contains(&i) { r.text.as_str() } else { "" }).collect();
    let near = near_duplicates(&texts);
    let near_contradictions = near.iter().filter(|p| data.rows[p.first].gold() != data.rows[p.second].gold());
    Summary {
        n: data.rows.len(),
        with_gold: data.rows.iter().filter(|row| row.gold().is_some()).count(),
        labels,
        characters: (at(0), at(characters.len() / 2), at(characters.len().saturating_sub(1))),
        duplicates: data.rows.len() - same.len(),
        near_duplicates: near.len(),
        contradictions: same.values().filter(|rows| differ(rows)).map(ids).collect(),
        near_contradictions: near_contradictions
            .map(|p| (data.rows[p.first].id.clone(), data.rows[p.second].id.clone()))
            .collect(),
    }
}
