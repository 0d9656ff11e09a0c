//! Leakage: rows that a model may have seen in training and is measured on.

use crate::{Row, near::near_between};
use std::collections::HashMap;

/// One test row that is, or nearly is, in the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaked {
    /// Position in the training rows.
    pub train: usize,
    /// Position in the test rows.
    pub test: usize,
    /// 1 when the texts are the same but for case and white space, else their similarity.
    pub similarity: f64,
    /// Whether both have the same label or reference.
    pub same_gold: bool,
}

/// What training and test rows have in common.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Leakage {
    /// Test rows whose text is in the training rows.
    pub exact: Vec<Leaked>,
    /// Test rows whose text is nearly in the training rows, and not exactly.
    pub near: Vec<Leaked>,
}

/// Finds the test rows that the training rows hold.
#[must_use]
pub fn leakage(train: &[Row], test: &[Row]) -> Leakage {
    let mut by_hash: HashMap<String, usize> = HashMap::new();
    for (index, row) in train.iter().enumerate() {
        by_hash.entry(row.content_hash()).or_insert(index);
    }
    let leaked = |train_at: usize, test_at: usize, similarity: f64| Leaked {
        train: train_at,
        test: test_at,
        similarity,
        same_gold: train[train_at].gold() == test[test_at].gold(),
    };
    let mut found = Leakage::default();
    let mut rest = Vec::new();
    for (index, row) in test.iter().enumerate() {
        match by_hash.get(&row.content_hash()) {
            Some(&at) => found.exact.push(leaked(at, index, 1.0)),
            None => rest.push(index),
        }
    }
    let left: Vec<&str> = train.iter().map(|row| row.text.as_str()).collect();
    let right: Vec<&str> = rest.iter().map(|&index| test[index].text.as_str()).collect();
    found.near =
        near_between(&left, &right).into_iter().map(|p| leaked(p.first, rest[p.second], p.similarity)).collect();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str, label: &str) -> Row {
        Row { text: text.into(), label: Some(label.into()), ..Row::default() }
    }

    #[test]
    fn exact_and_near_copies_are_told_apart_and_labels_compared() {
        let train = [row("When will my new card arrive in the post?", "arrival"), row("something else", "other")];
        let test = [
            row("when will my new card  arrive in the post?", "arrival"),
            row("When will my new cards arrive in the post?", "delay"),
            row("How do I top up by cheque?", "topup"),
        ];
        let found = leakage(&train, &test);
        assert_eq!(found.exact.iter().map(|l| (l.train, l.test, l.same_gold)).collect::<Vec<_>>(), [(0, 0, true)]);
        assert_eq!(found.near.iter().map(|l| (l.train, l.test, l.same_gold)).collect::<Vec<_>>(), [(0, 1, false)]);
    }
}
