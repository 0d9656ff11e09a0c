//! Names: runs of capitalised words, as English writes them.

use super::dates::MONTHS;
use std::{collections::BTreeSet, ops::Range};

/// Words that are capitalised without being names, beside the months.
const COMMON: &[&str] = &[
    "i",
    "i'm",
    "i'd",
    "i'll",
    "i've",
    "ok",
    "mr",
    "mrs",
    "ms",
    "dr",
    "prof",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "yes",
    "no",
    "a",
    "an",
    "the",
    "and",
    "or",
    "but",
    "not",
    "he",
    "she",
    "it",
    "they",
    "we",
    "you",
    "his",
    "her",
    "their",
    "this",
    "that",
    "these",
    "those",
    "in",
    "on",
    "at",
    "of",
    "for",
    "to",
    "if",
];

/// Every name, in order.
///
/// A capital at the start of a sentence says nothing: such a word counts only with a further capital behind it, when it
/// is capitalised elsewhere within a sentence, or when it has capitals inside ("NASA", "McKay", "iPhone").
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let words: Vec<Range<usize>> = super::spans_of_words(text).collect();
    let starts: Vec<bool> = (0..words.len())
        .map(|i| starts_sentence(text, i.checked_sub(1).map(|b| words[b].clone()), &words[i]))
        .collect();
    // A title in capitals throughout has no names that could be told from its other words.
    let shouted = |i: usize| {
        let near = words[i.saturating_sub(2)..(i + 3).min(words.len())].iter().map(|w| &text[w.clone()]);
        let capitals =
            near.filter(|w| w.chars().count() > 1 && w.chars().all(|c| !c.is_lowercase() && c.is_alphabetic()));
        capitals.count() > 2
    };
    let word = |i: usize| super::bare(&text[words[i].clone()]);
    let capital = |i: usize| {
        let lower = word(i).to_lowercase();
        let is_common = COMMON.contains(&lower.as_str()) || MONTHS.contains(&lower.as_str());
        !is_common && word(i).starts_with(char::is_uppercase) && word(i).chars().any(char::is_alphabetic)
    };
    let inner =
        |i: usize| word(i).chars().count() > 1 && word(i).chars().skip(1).any(char::is_uppercase) && !shouted(i);
    let known: BTreeSet<&str> = (0..words.len()).filter(|&i| capital(i) && !starts[i]).map(word).collect();
    let counts = |i: usize| inner(i) || (capital(i) && !shouted(i) && word(i).chars().count() > 1);

    let mut found = Vec::new();
    let mut i = 0;
    while i < words.len() {
        if !counts(i) {
            i += 1;
            continue;
        }
        let mut last = i;
        while last + 1 < words.len()
            && counts(last + 1)
            && !starts[last + 1]
            && matches!(&text[words[last].end..words[last + 1].start], " " | "-" | ". " | "'" | " & ")
        {
            last += 1;
        }
        // The first word of a sentence is left out of the run unless something speaks for it.
        let spoken_for = inner(i) || known.contains(word(i)) || (last > i && title(word(i)));
        let first = if starts[i] && !spoken_for { i + 1 } else { i };
        if first <= last {
            found.push(words[first].start..words[last].start + word(last).len());
        }
        i = last + 1;
    }
    found
}

/// Whether a first word with a capital behind it is likely part of the name: it is no word that opens sentences.
fn title(word: &str) -> bool {
    const OPENERS: &[&str] = &[
        "after",
        "also",
        "although",
        "as",
        "because",
        "before",
        "besides",
        "both",
        "by",
        "can",
        "did",
        "do",
        "does",
        "during",
        "each",
        "every",
        "from",
        "has",
        "have",
        "here",
        "how",
        "however",
        "is",
        "my",
        "our",
        "since",
        "so",
        "some",
        "then",
        "there",
        "thus",
        "under",
        "until",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "why",
        "will",
        "with",
        "your",
        "dear",
        "please",
        "all",
        "any",
        "according",
        "patient",
    ];
    !OPENERS.contains(&word.to_lowercase().as_str())
}

/// Whether nothing, a sentence's end, a new line, a bullet or an opening quote stands before the word.
fn starts_sentence(text: &str, before: Option<Range<usize>>, word: &Range<usize>) -> bool {
    let Some(before) = before else { return true };
    let gap = &text[before.end..word.start];
    if gap.contains(['\n', '!', '?', ':', '"', '“', '„', '«', '•', '(', ';', '|', '>']) {
        return true;
    }
    // A full stop behind an abbreviation or an initial ends no sentence.
    let abbreviated = ["mr", "mrs", "ms", "dr", "prof", "st", "vs", "no", "jr", "sr"];
    let last = text[before].to_lowercase();
    gap.contains('.') && !(last.chars().count() == 1 || abbreviated.contains(&last.as_str()))
}
