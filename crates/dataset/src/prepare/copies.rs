//! Copies of a text: exact ones with their contradictions, and near ones.

use super::{Prepared, Reason, Removed, removed};
use crate::{
    Row,
    clean::Conflict,
    near::{SIMILAR, near_duplicates, similarity},
};
use std::collections::BTreeMap;

/// Keeps one row a text, the first with the label that most rows of the text have; without a majority, none.
pub(super) fn exact(rows: &mut Vec<Row>, prepared: &mut Prepared) {
    // Half of the hash tells texts apart and takes a quarter of the room.
    let key = |row: &Row| u128::from_str_radix(&row.content_hash()[..32], 16).expect("a hash is hexadecimal");
    let mut places: Vec<(u128, usize)> = rows.iter().enumerate().map(|(at, row)| (key(row), at)).collect();
    places.sort_unstable();
    let mut gone: Vec<Option<(Reason, String)>> = vec![None; rows.len()];
    for same in places.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
        let mut votes: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        same.iter().for_each(|&(_, at)| *votes.entry(rows[at].label.as_deref()).or_default() += 1);
        let most = votes.values().copied().max().unwrap_or(0);
        let winners: Vec<Option<&str>> = votes.iter().filter(|(_, n)| **n == most).map(|(label, _)| *label).collect();
        let kept = match winners.as_slice() {
            [label] => same.iter().map(|&(_, at)| at).find(|&at| rows[at].label.as_deref() == *label),
            _ => None,
        };
        if votes.len() > 1 {
            prepared.contradictions.push(Conflict {
                ids: same.iter().map(|&(_, at)| rows[at].id.clone()).collect(),
                labels: same.iter().filter_map(|&(_, at)| rows[at].label.clone()).collect(),
                kept: kept.and_then(|at| rows[at].label.clone()),
            });
        }
        for &(_, at) in same.iter().filter(|&&(_, at)| Some(at) != kept) {
            gone[at] = Some(match kept {
                None => (Reason::Contradiction, format!("{} labels", votes.len())),
                Some(kept) if rows[kept].label == rows[at].label => (Reason::Duplicate, rows[kept].id.clone()),
                Some(kept) => (Reason::Outvoted, rows[kept].id.clone()),
            });
        }
    }
    drop_marked(rows, gone, &mut prepared.removed);
    prepared.contradictions.sort_by(|a, b| a.ids.cmp(&b.ids));
}

/// Leaves out rows that nearly repeat one that stays, with the same label. Gives for rows that stay beside a near copy
/// with another label the content hash that both are divided by.
pub(super) fn near(rows: &mut Vec<Row>, prepared: &mut Prepared) -> BTreeMap<String, String> {
    let simple = |row: &Row| row.messages.len() <= 1;
    let texts: Vec<&str> = rows.iter().map(|row| if simple(row) { row.text.as_str() } else { "" }).collect();
    let mut gone: Vec<Option<(Reason, String)>> = vec![None; rows.len()];
    let mut root: Vec<usize> = (0..rows.len()).collect();
    let mut stand_by: Vec<usize> = Vec::new();
    for pair in near_duplicates(&texts) {
        let (first, second) = (root[pair.first], pair.second);
        if rows[first].label != rows[second].label || rows[first].system != rows[second].system {
            prepared.near_contradictions.push((rows[first].id.clone(), rows[second].id.clone()));
            root[second] = first;
            stand_by.push(second);
        } else if first == pair.first || similarity(texts[first], texts[second]) >= SIMILAR {
            // What goes is near to a row that stays, not only to one that went.
            if rows[first].references == rows[second].references || rows[second].label.is_some() {
                gone[second] = Some((Reason::NearDuplicate, rows[first].id.clone()));
            }
            root[second] = first;
        }
    }
    let anchors = stand_by.into_iter().map(|at| (rows[at].id.clone(), rows[root[at]].content_hash())).collect();
    drop_marked(rows, gone, &mut prepared.removed);
    anchors
}

fn drop_marked(rows: &mut Vec<Row>, gone: Vec<Option<(Reason, String)>>, list: &mut Vec<Removed>) {
    let mut gone = gone.into_iter();
    rows.retain(|row| match gone.next().flatten() {
        Some((reason, because)) => {
            list.push(removed(row, reason, because));
            false
        }
        None => true,
    });
}
