//! Duplicates and contradictions: what counts as the same text, and which copy stays.

use crate::Example;
use std::collections::BTreeMap;
use understudy_core::hash::sha256_hex;

/// SHA-256 of the text with runs of white space as one space and in lower case: what counts as the same text.
#[must_use]
pub fn text_hash(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    sha256_hex(words.join(" ").as_bytes())
}

/// One text with several labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Ids of the examples.
    pub ids: Vec<String>,
    /// Their labels, in the same order.
    pub labels: Vec<String>,
    /// The label of the majority, which was kept; `None` when there is none and the text was left out.
    pub kept: Option<String>,
}

/// Examples without duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// One example per text, ordered by the text's hash: the order in the file does not matter.
    pub examples: Vec<Example>,
    /// Examples that repeated an earlier text and its label, or lost against a majority.
    pub duplicates: usize,
    /// Texts with several labels.
    pub conflicts: Vec<Conflict>,
}

impl Cleaned {
    /// SHA-256 over texts and labels, whatever their order in the file.
    #[must_use]
    pub fn data_hash(&self) -> String {
        let line = |e: &Example| format!("{} {}\n", text_hash(&e.text), sha256_hex(e.label.as_bytes()));
        sha256_hex(self.examples.iter().map(line).collect::<String>().as_bytes())
    }
}

/// Keeps one example per text. Where labels contradict each other the majority wins; without one the text goes.
#[must_use]
pub fn clean(examples: Vec<Example>) -> Cleaned {
    let total = examples.len();
    let mut by_text: BTreeMap<String, Vec<Example>> = BTreeMap::new();
    for example in examples {
        by_text.entry(text_hash(&example.text)).or_default().push(example);
    }
    let mut cleaned = Cleaned { examples: Vec::with_capacity(by_text.len()), duplicates: 0, conflicts: Vec::new() };
    let mut left_out = 0;
    for mut same in by_text.into_values() {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for example in &same {
            *votes.entry(&example.label).or_default() += 1;
        }
        let most = votes.values().copied().max().unwrap_or(0);
        let mut winners = votes.iter().filter(|(_, count)| **count == most).map(|(label, _)| (*label).to_owned());
        let winner = winners.next();
        let kept = winner.filter(|_| winners.next().is_none());
        if votes.len() > 1 {
            cleaned.conflicts.push(Conflict {
                ids: same.iter().map(|e| e.id.clone()).collect(),
                labels: same.iter().map(|e| e.label.clone()).collect(),
                kept: kept.clone(),
            });
        }
        match kept.and_then(|label| same.iter().position(|e| e.label == label)) {
            Some(at) => cleaned.examples.push(same.swap_remove(at)),
            None => left_out += same.len(),
        }
    }
    cleaned.duplicates = total - cleaned.examples.len() - left_out;
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(id: &str, text: &str, label: &str) -> Example {
        Example { id: id.into(), text: text.into(), label: label.into() }
    }

    #[test]
    fn duplicates_go_majorities_win_and_ties_are_left_out() {
        let cleaned = clean(vec![
            example("1", "Hello  world", "a"),
            example("2", "hello world\n", "a"),
            example("3", "HELLO WORLD", "b"),
            example("4", "tie", "a"),
            example("5", "tie", "b"),
            example("6", "other", "b"),
        ]);
        let mut left: Vec<_> = cleaned.examples.iter().map(|e| (e.id.as_str(), e.label.as_str())).collect();
        left.sort_unstable();
        assert_eq!(left, [("1", "a"), ("6", "b")]);
        assert_eq!(cleaned.duplicates, 2);
        let mut kept: Vec<_> = cleaned.conflicts.iter().map(|c| c.kept.as_deref()).collect();
        kept.sort_unstable();
        assert_eq!(kept, [None, Some("a")]);
    }

    #[test]
    fn the_data_hash_does_not_depend_on_the_order_of_the_file() {
        let rows = vec![example("1", "x", "a"), example("2", "y", "b"), example("3", "z", "a")];
        let hash = clean(rows.clone()).data_hash();
        assert_eq!(hash, clean(rows.iter().rev().cloned().collect()).data_hash());
        let mut other = rows;
        other[0].label = "b".into();
        assert_ne!(hash, clean(other).data_hash());
    }
}
