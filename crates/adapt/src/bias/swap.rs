//! Counterfactual texts: the same text about somebody else, by words that come in pairs.

use std::collections::HashMap;
use understudy_core::{Error, Result};

/// Pairs of words of one kind; the first of each stands on one side, the second on the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// What the pairs are about.
    pub kind: String,
    /// The pairs, in lower case.
    pub pairs: Vec<(String, String)>,
    /// Whether English grammar decides on `his`, `him`, `her` and `hers`.
    english: bool,
}

/// What joins the parts of one word.
const JOINS: [char; 2] = ['-', '\''];

/// English words for men and for women. `her` is told apart by what follows it; names of persons are not among them.
const GENDER: &[(&str, &str)] = &[
    ("he", "she"),
    ("himself", "herself"),
    ("man", "woman"),
    ("men", "women"),
    ("boy", "girl"),
    ("boys", "girls"),
    ("male", "female"),
    ("males", "females"),
    ("father", "mother"),
    ("dad", "mom"),
    ("son", "daughter"),
    ("sons", "daughters"),
    ("brother", "sister"),
    ("brothers", "sisters"),
    ("husband", "wife"),
    ("boyfriend", "girlfriend"),
    ("uncle", "aunt"),
    ("nephew", "niece"),
    ("grandfather", "grandmother"),
    ("grandson", "granddaughter"),
    ("mr", "mrs"),
    ("sir", "madam"),
    ("gentleman", "lady"),
    ("gentlemen", "ladies"),
    ("king", "queen"),
    ("actor", "actress"),
    ("waiter", "waitress"),
    ("guy", "gal"),
];

/// Words after which `her` was an object: it becomes `him`, and `his` before anything else.
const AFTER_OBJECT: &[&str] = &[
    "a", "about", "after", "again", "all", "and", "as", "at", "away", "back", "because", "before", "but", "by",
    "during", "for", "from", "he", "how", "i", "if", "in", "into", "is", "it", "next", "of", "off", "on", "or", "out",
    "over", "she", "so", "some", "than", "that", "the", "there", "they", "this", "to", "too", "until", "up", "very",
    "was", "we", "what", "when", "where", "while", "why", "with", "without", "would", "you",
];

/// The built-in words of a kind.
///
/// # Errors
/// `Invalid` when there are none of this kind.
pub fn built_in(kind: &str) -> Result<Words> {
    if kind != "gender" {
        return Err(Error::invalid(format!(
            "swap words of kind `{kind}`: built in is `gender`; name a file of pairs instead"
        )));
    }
    let own = |&(a, b): &(&str, &str)| (a.to_owned(), b.to_owned());
    Ok(Words { kind: kind.to_owned(), pairs: GENDER.iter().map(own).collect(), english: true })
}

/// Words from a text with a pair a line, separated by a tab, a comma or a semicolon; `#` starts a comment.
///
/// # Errors
/// `Data`, with the line, when a line is no pair, or a word comes twice.
pub fn from_lines(kind: &str, text: &str) -> Result<Words> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let words: Vec<String> = line.split(['\t', ',', ';']).map(|word| word.trim().to_lowercase()).collect();
        let part = |part: &str| !part.is_empty() && part.chars().all(char::is_alphanumeric);
        let one_word = |word: &String| word.split(JOINS).all(part);
        let [a, b] = words.as_slice() else {
            return Err(Error::data(format!("read swaps, line {}: write two words with a comma between", i + 1)));
        };
        if a == b || !one_word(a) || !one_word(b) {
            return Err(Error::data(format!("read swaps, line {}: `{a}` and `{b}` are not two single words", i + 1)));
        }
        if pairs.iter().any(|(x, y)| [a, b].iter().any(|word| *word == x || *word == y)) {
            return Err(Error::data(format!("read swaps, line {}: a word may stand in one pair only", i + 1)));
        }
        pairs.push((a.clone(), b.clone()));
    }
    if pairs.is_empty() {
        return Err(Error::data("read swaps: there are no pairs"));
    }
    Ok(Words { kind: kind.to_owned(), pairs, english: false })
}

impl Words {
    /// The text with every word of the pairs replaced by its partner, and the side its words were on; `None` when there is
    /// none of them, or when both sides are spoken of, so that it has no side.
    #[must_use]
    pub fn swap(&self, text: &str) -> Option<Swapped> {
        let partner: HashMap<&str, (&str, Side)> = self
            .pairs
            .iter()
            .flat_map(|(a, b)| [(a.as_str(), (b.as_str(), Side::First)), (b.as_str(), (a.as_str(), Side::Second))])
            .collect();
        let joins = self.pairs.iter().flat_map(|(a, b)| [a, b]).map(|word| word.matches(JOINS).count()).max();
        let joins = joins.unwrap_or(0);
        let mut swapped = String::with_capacity(text.len() + 16);
        let mut side = None;
        let pieces = pieces(text);
        let mut rest = pieces.as_slice();
        while !rest.is_empty() {
            // The longest word that is in the pairs; `mother-in-law` is read in parts where it is not.
            let found = (0..=joins).rev().find_map(|joins| {
                let word = joined(rest, joins)?;
                let lower = word.to_lowercase();
                let (partner, of) = self.pronoun(&lower, rest).or_else(|| partner.get(lower.as_str()).copied())?;
                Some((2 * joins + 1, in_case_of(&word, partner), of))
            });
            let Some((n, word, of)) = found else {
                swapped.push_str(rest[0]);
                rest = &rest[1..];
                continue;
            };
            if side.is_some_and(|side| side != of) {
                return None;
            }
            side = Some(of);
            swapped.push_str(&word);
            rest = &rest[n..];
        }
        side.map(|side| Swapped { text: swapped, side })
    }

    /// The partner and the side of a pronoun that begins these pieces, by what follows.
    fn pronoun(&self, word: &str, pieces: &[&str]) -> Option<(&'static str, Side)> {
        match word {
            "his" | "him" if self.english => Some(("her", Side::First)),
            "hers" if self.english => Some(("his", Side::Second)),
            "her" if self.english => {
                // What follows directly, but for white space: a full stop ends the object.
                let directly = pieces.get(1).is_some_and(|p| p.trim().is_empty());
                let next = pieces[1..].iter().find(|p| p.chars().next().is_some_and(char::is_alphanumeric));
                let object = !directly || next.is_none_or(|w| AFTER_OBJECT.contains(&w.to_lowercase().as_str()));
                Some((if object { "him" } else { "his" }, Side::Second))
            }
            _ => None,
        }
    }
}

/// Which word of the pairs a text had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// The text about somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swapped {
    /// The text.
    pub text: String,
    /// The side of the original.
    pub side: Side,
}

impl Swapped {
    /// Original and counterfactual, the first side first.
    #[must_use]
    pub fn ordered(self, original: &str) -> [String; 2] {
        match self.side {
            Side::First => [original.to_owned(), self.text],
            Side::Second => [self.text, original.to_owned()],
        }
    }
}

/// Words and what is between them.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut inside = None;
    for (at, c) in text.char_indices() {
        let word = c.is_alphanumeric();
        if inside.is_some_and(|inside| inside != word) {
            pieces.push(&text[start..at]);
            start = at;
        }
        inside = Some(word);
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

/// The word that pieces begin with, with so many hyphens and apostrophes in it.
fn joined(pieces: &[&str], joins: usize) -> Option<String> {
    let word = pieces.get(..=2 * joins)?;
    let joined = |between: &&str| between.len() == 1 && between.starts_with(JOINS);
    word.iter().skip(1).step_by(2).all(joined).then(|| word.concat())
}

/// `word` in capitals where `model` is, or with a first capital.
fn in_case_of(model: &str, word: &str) -> String {
    let mut letters = model.chars().filter(|c| !JOINS.contains(c));
    let first = letters.next().is_some_and(char::is_uppercase);
    let rest = letters.clone().next().is_some() && letters.all(char::is_uppercase);
    if first && rest {
        word.to_uppercase()
    } else if first {
        let mut word = word.chars();
        word.next().map(|c| c.to_uppercase().chain(word).collect()).unwrap_or_default()
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_told_about_somebody_else() {
        let words = built_in("gender").expect("built in");
        let swap = |text: &str| words.swap(text).map(|s| s.text);
        assert_eq!(swap("He said his card was lost.").as_deref(), Some("She said her card was lost."));
        assert_eq!(swap("I gave her the card; HER bank knows").as_deref(), Some("I gave him the card; HIS bank knows"));
        assert_eq!(swap("It was her's, not theirs: ask her.").as_deref(), Some("It was him's, not theirs: ask him."));
        assert_eq!(swap("where is my card?"), None);
        assert_eq!(swap("he and she"), None, "both sides: no counterfactual");
        assert!(built_in("age").is_err());
    }

    #[test]
    fn swaps_of_a_file_are_read_and_bad_lines_named() {
        let words = from_lines("age", "young, old # years\n\nboy\tgrandpa\n").expect("two pairs");
        assert_eq!(words.swap("a Young boy").map(|s| s.text).as_deref(), Some("a Old grandpa"));
        for (text, line) in [("a", 1), ("a,b\nb,c", 2), ("a b, c", 1), ("-a,b", 1), ("a,b--c", 1), ("# none", 0)] {
            let error = from_lines("age", text).expect_err("bad").to_string();
            assert!(line == 0 || error.contains(&format!("line {line}")), "{error}");
        }
    }

    #[test]
    fn words_with_hyphens_and_apostrophes_are_found_whole_and_their_parts_where_they_are_in_no_pair() {
        let pairs = "mother-in-law,father-in-law\no'brien,o'connor\nson,daughter";
        let words = from_lines("age", pairs).expect("three pairs");
        let swap = |text: &str| words.swap(text).map(|s| s.text);
        assert_eq!(swap("My mother-in-law's card").as_deref(), Some("My father-in-law's card"));
        assert_eq!(swap("MOTHER-IN-LAW, Mother-in-law").as_deref(), Some("FATHER-IN-LAW, Father-in-law"));
        assert_eq!(swap("my son-in-law O'Brien").as_deref(), Some("my daughter-in-law O'connor"));
        assert_eq!(swap("mother in law; -mother-in").as_deref(), None);
    }

    #[test]
    fn a_file_of_ones_own_gets_no_english_pronouns() {
        let words = from_lines("gender", "er,sie").expect("a pair");
        assert_eq!(words.swap("er sagt his").map(|s| s.text).as_deref(), Some("sie sagt his"));
        assert_eq!(words.swap("ask her"), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the folder of the data sets is named by the environment")]
    fn the_pairs_of_winobias_are_each_others_swaps() {
        let data = std::env::var("UNDERSTUDY_DATA")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into());
        let Ok(text) = std::fs::read_to_string(format!("{data}/bias/winobias/all.jsonl")) else {
            println!("skipped: no WinoBias in {data}");
            return;
        };
        let rows: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        let of = |stereotype: &'static str| {
            rows.iter().filter(move |r| r["stereotype"] == stereotype).filter_map(|r| r["text"].as_str())
        };
        let anti: std::collections::HashSet<&str> = of("anti").collect();
        let words = built_in("gender").expect("built in");
        let (mut n, mut same) = (0, 0);
        for text in of("pro") {
            n += 1;
            same += usize::from(words.swap(text).is_some_and(|s| anti.contains(s.text.as_str())));
        }
        println!("{same} of {n} sentences become their published counterpart");
        assert!(n == 1584 && same * 100 >= n * 95);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,80}") {
            let words = built_in("gender").expect("built in");
            prop_assert_eq!(pieces(&text).concat(), text.clone());
            let _ = words.swap(&text);
        }
    }
}
