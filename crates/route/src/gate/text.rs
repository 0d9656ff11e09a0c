//! What can be counted in an answer's text, and whether two answers say the same. Made for English; on other languages
//! the word lists find nothing and the counts still hold.

/// Words with which a text takes something back or leaves it open.
const HEDGES: [&str; 22] = [
    "maybe",
    "perhaps",
    "possibly",
    "probably",
    "might",
    "may",
    "could",
    "unsure",
    "uncertain",
    "unclear",
    "likely",
    "seems",
    "approximately",
    "assume",
    "assuming",
    "however",
    "but",
    "although",
    "depends",
    "think",
    "believe",
    "guess",
];

/// Phrases with which a model declines to answer.
const REFUSALS: [&str; 16] = [
    "i cannot",
    "i can't",
    "i can not",
    "i am unable",
    "i'm unable",
    "i am not able",
    "i'm not able",
    "i don't know",
    "i do not know",
    "i don't have",
    "i do not have",
    "as an ai",
    "i'm sorry",
    "i apologi",
    "not enough information",
    "cannot be determined",
];

/// Marks after which a text states its result.
const CLAIMS: [&str; 6] = ["answer is", "answer:", "answer =", "ans =", "ans=", "####"];

/// Longest answer that is compared as it stands; of a longer one the stated result is.
const SHORT: usize = 200;
/// Longest claim.
const CLAIM: usize = 40;

/// Lower case without articles and punctuation: what remains is compared.
pub(super) fn normalise(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let plain: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '/' | '_') { c } else { ' ' })
        .collect();
    for word in plain.split_whitespace() {
        let word = word.trim_end_matches('.');
        if word.is_empty() || matches!(word, "a" | "an" | "the") {
            continue;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    // A lone article is an answer too ("A" of a multiple choice).
    if words.is_empty() { plain.trim().trim_end_matches('.').to_owned() } else { words }
}

/// The result an answer states, in a form in which equal results are equal strings.
pub(super) fn stated(answer: &str) -> String {
    if let Some((_, tail)) = answer.rsplit_once("####") {
        return numbers(tail).next().map_or_else(|| normalise(tail), canonical);
    }
    if answer.len() <= SHORT {
        let plain = normalise(answer);
        return if is_number(&plain) { canonical(&plain) } else { plain };
    }
    let claimed = claims(answer).last().map(normalise);
    claimed.unwrap_or_else(|| numbers(answer).last().map_or_else(|| normalise(answer), canonical))
}

/// How far two stated results agree: 1 when they are equal, else the F1 of their words where they have several.
pub(super) fn agreement(a: &str, b: &str) -> f64 {
    if a == b {
        return 1.0;
    }
    let (mut a, mut b): (Vec<&str>, Vec<&str>) = (a.split(' ').collect(), b.split(' ').collect());
    if a.len() <= 2 && b.len() <= 2 {
        return 0.0;
    }
    a.sort_unstable();
    b.sort_unstable();
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, common) = (i + 1, j + 1, common + 1),
        }
    }
    2.0 * f64::from(common) / (a.len() + b.len()) as f64
}

/// Results that a text claims on its way, as it claims them.
pub(super) fn claims(text: &str) -> impl Iterator<Item = &str> {
    // ASCII lower case keeps every byte in its place.
    let lower = text.to_ascii_lowercase();
    let mut starts: Vec<usize> = CLAIMS
        .iter()
        .flat_map(|mark| lower.match_indices(mark).map(|(at, _)| at + mark.len()).collect::<Vec<_>>())
        .collect();
    starts.sort_unstable();
    starts.into_iter().filter_map(move |start| {
        let tail = text[start..].trim_start_matches([' ', ':', '(', '=']);
        let end = tail.find(['\n', '(', ')']).unwrap_or(tail.len());
        let sentence = tail[..end].split(". ").next().unwrap_or_default();
        let claim = sentence.trim();
        (!claim.is_empty() && claim.len() <= CLAIM).then_some(claim)
    })
}

/// Whether the claims of a text differ.
pub(super) fn contradicts_itself(text: &str) -> bool {
    let mut claimed = claims(text).map(normalise);
    claimed.next().is_some_and(|first| claimed.any(|other| other != first))
}

/// Hedging words.
pub(super) fn hedges(text: &str) -> usize {
    words(text).filter(|word| HEDGES.iter().any(|hedge| word.eq_ignore_ascii_case(hedge))).count()
}

/// Whether the text declines to answer.
pub(super) fn refuses(text: &str) -> bool {
    let lower = text.to_ascii_lowercase().replace('’', "'");
    REFUSALS.iter().any(|phrase| lower.contains(phrase))
}

/// Whether the text breaks off: it ends neither with punctuation nor with a bracket or number.
pub(super) fn breaks_off(text: &str) -> bool {
    !text.trim_end().ends_with(|c: char| c.is_ascii_digit() || ".!?)]}>`\"'。！？".contains(c))
}

/// Sentences, counted by their ends.
pub(super) fn sentences(text: &str) -> usize {
    let mut count = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if matches!(c, '。' | '！' | '？')
            || (matches!(c, '.' | '!' | '?') && chars.peek().is_none_or(|c| c.is_whitespace()))
        {
            count += 1;
        }
    }
    count
}

/// Share of the words that were said before.
pub(super) fn repetition(text: &str) -> f64 {
    let lower = text.to_lowercase();
    let mut all: Vec<&str> = lower.split_whitespace().collect();
    let total = all.len().max(1);
    all.sort_unstable();
    all.dedup();
    1.0 - all.len().max(1) as f64 / total as f64
}

/// Whether the text is a JSON object or array, fenced or bare.
pub(super) fn is_json(text: &str) -> bool {
    let bare = text.trim().trim_start_matches("```json").trim_start_matches("```").trim_end_matches("```").trim();
    bare.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(bare).is_ok()
}

/// Numbers as they are written.
pub(super) fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = (at..bytes.len()).find(|&i| bytes[i].is_ascii_digit())?;
        let inside = |i: usize| {
            let digit_follows = bytes.get(i + 1).is_some_and(u8::is_ascii_digit);
            bytes[i].is_ascii_digit() || (matches!(bytes[i], b',' | b'.') && digit_follows)
        };
        let end = (start..bytes.len()).find(|&i| !inside(i)).unwrap_or(bytes.len());
        at = end;
        let from = if start > 0 && bytes[start - 1] == b'-' { start - 1 } else { start };
        Some(&text[from..end])
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty())
}

fn is_number(text: &str) -> bool {
    numbers(text).next().is_some_and(|number| number.len() == text.len())
}

/// 1,200 and 1200.0 are the same number.
fn canonical(number: &str) -> String {
    let plain = number.replace(',', "");
    plain.parse::<f64>().map_or(plain, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_results_are_equal_strings() {
        for (a, b) in [
            ("The Beatles.", "beatles"),
            ("Step 1: 5 × 3 = 15\n#### 1,200", "1200.0"),
            ("A", "a."),
            (&format!("{} The answer is (H).", "We refer to an encyclopaedia on ethics. ".repeat(6)), "H"),
            (&format!("{} so 18 ducks remain", "x ".repeat(120)), "18"),
            ("-3", "-3.0"),
        ] {
            assert_eq!(stated(a), stated(b), "{a} and {b}");
        }
        assert_ne!(stated("A"), stated("B"));
        assert_ne!(stated("3-3"), stated("3"));
    }

    #[test]
    fn agreement_is_graded_for_phrases_and_plain_for_words() {
        assert!(agreement("paris", "london").abs() < 1e-15);
        assert!((agreement("by raising their quills", "raising their quills slowly") - 0.75).abs() < 1e-15);
        assert!((agreement("x y z", "x y z") - 1.0).abs() < 1e-15);
    }

    #[test]
    fn counts_see_what_a_reader_sees() {
        let text = "Maybe it is 12, but I think the answer is (B). However, the answer is (C)";
        assert_eq!((hedges(text), sentences(text)), (4, 1));
        assert!(contradicts_itself(text) && !contradicts_itself("The answer is B. Answer: b"));
        assert!(refuses("I’m sorry, I cannot help") && !refuses("Paris"));
        assert!(breaks_off("and then the") && !breaks_off("done."));
        assert!(is_json("```json\n{\"a\": [1]}\n```") && !is_json("{\"a\": ") && !is_json("12"));
        assert!((repetition("a b a b") - 0.5).abs() < 1e-15);
        assert_eq!(numbers("-1,200.5 and 3.").collect::<Vec<_>>(), ["-1,200.5", "3"]);
    }

    #[test]
    fn any_text_can_be_measured() {
        for text in ["", "####", "answer is", "é answer: é", "…", "1.", "İ answer is x", "----9", "\u{0}"] {
            let _ = (stated(text), hedges(text), refuses(text), breaks_off(text), sentences(text), repetition(text));
            let _ = (is_json(text), contradicts_itself(text), agreement(&stated(text), ""));
        }
    }
}
