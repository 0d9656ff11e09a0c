//! What a text looks like, as a few numbers: cheap, and known before any model is asked.
//!
//! How long it is and how it is made says something about how hard it is: options that share their words, numbers,
//! negations, many clauses.

/// Names of the features, in order.
pub const NAMES: [&str; 36] = [
    "length",
    "stem_length",
    "options",
    "option_length",
    "option_spread",
    "shortest_option",
    "options_with_numbers",
    "option_words_distinct",
    "option_overlap",
    "words_distinct",
    "word_length",
    "digits",
    "symbols",
    "capitals",
    "not_ascii",
    "lines",
    "sentences",
    "number_in_stem",
    "negation",
    "catch_all_option",
    "question",
    "blank",
    "quotes",
    "yes_or_no",
    "option_overlap_most",
    "option_words_in_stem",
    "longest_option",
    "option_first_words",
    "function_words",
    "option_words",
    "one_word_options",
    "option_commas",
    "semicolon",
    "money_or_percent",
    "person",
    "year_or_name",
];

/// Words that carry grammar, not content: their share tells prose from lists and formulas.
const FUNCTION_WORDS: [&str; 26] = [
    "the", "a", "an", "of", "to", "in", "and", "is", "that", "for", "on", "by", "with", "as", "are", "be", "or", "it",
    "from", "at", "this", "which", "not", "was", "were", "has",
];

/// Bytes of a text that are read.
const MOST_BYTES: usize = 16 * 1024;

/// The features of a text; finite for every text.
#[must_use]
pub fn features(text: &str) -> [f64; NAMES.len()] {
    let mut end = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let (stem, options) = split(text);
    let lengths: Vec<f64> = options.iter().map(|option| option.len() as f64).collect();
    let mean = average(&lengths);
    let spread = average(&lengths.iter().map(|length| (length - mean).powi(2)).collect::<Vec<_>>()).sqrt();
    let of_options =
        |holds: &dyn Fn(&str) -> bool| average(&options.iter().map(|option| flag(holds(option))).collect::<Vec<_>>());
    let per_char = |holds: &dyn Fn(char) -> bool| {
        let (all, some) = text.chars().fold((0.0, 0.0), |(all, some), c| (all + 1.0, some + flag(holds(c))));
        some / f64::max(all, 1.0)
    };
    let stem_words: Vec<&str> = words(stem).collect();
    let sets: Vec<Words> = options.iter().map(|option| set(option)).collect();
    let likeness = likeness(&sets);
    let all_words: Words = sets.iter().flatten().cloned().collect();
    let in_stem = all_words.intersection(&set(stem)).count() as f64 / all_words.len().max(1) as f64;
    let option_words: Vec<f64> = options.iter().map(|option| option.split_whitespace().count() as f64).collect();
    let tokens: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let function = tokens.iter().filter(|token| FUNCTION_WORDS.contains(&token.as_str())).count();
    let lower = stem.to_lowercase();
    [
        (1.0 + text.len() as f64).ln(),
        (1.0 + stem.len() as f64).ln(),
        (1.0 + options.len() as f64).ln(),
        (1.0 + mean).ln(),
        (1.0 + spread).ln(),
        (1.0 + lengths.iter().copied().fold(f64::INFINITY, f64::min).min(1e6)).ln(),
        of_options(&|option| option.contains(|c: char| c.is_ascii_digit())),
        distinct(options.iter().flat_map(|option| option.split_whitespace())),
        average(&likeness),
        distinct(text.split_whitespace()),
        average(&stem_words.iter().map(|word| word.len() as f64).collect::<Vec<_>>()),
        per_char(&|c| c.is_ascii_digit()),
        per_char(&|c| "+-*/=^()[]{}<>$\\|~".contains(c)),
        per_char(&char::is_uppercase),
        per_char(&|c| !c.is_ascii()),
        (1.0 + stem.matches('\n').count() as f64).ln(),
        (1.0 + stem.matches(['.', '!', '?']).count() as f64).ln(),
        flag(stem.contains(|c: char| c.is_ascii_digit())),
        flag(stem_words.iter().any(|word| matches!(*word, "NOT" | "EXCEPT" | "LEAST")) || lower.contains(" except")),
        of_options(&|option| {
            let option = option.to_lowercase();
            option.contains("of the above") || option.contains("of these")
        }),
        flag(stem.trim_end().ends_with('?')),
        flag(stem.contains("__")),
        flag(text.contains(['"', '“'])),
        of_options(&|option| {
            let first = words(option).next().unwrap_or_default().to_lowercase();
            matches!(first.as_str(), "yes" | "no" | "true" | "false")
        }),
        likeness.iter().copied().fold(0.0, f64::max),
        in_stem,
        lengths.iter().copied().fold(0.0, f64::max) / mean.max(1.0),
        distinct(options.iter().filter_map(|option| option.split_whitespace().next())),
        function as f64 / tokens.len().max(1) as f64,
        (1.0 + average(&option_words)).ln(),
        flag(!options.is_empty() && option_words.iter().all(|count| *count < 1.5)),
        options.iter().map(|option| option.matches(',').count() as f64).sum::<f64>() / options.len().max(1) as f64,
        flag(text.contains(';')),
        flag(text.contains(['%', '$'])),
        flag(words(text).any(|word| matches!(word, "he" | "she" | "his" | "her" | "my" | "I"))),
        flag(year_or_name(stem)),
    ]
}

/// A year of the last three centuries, or two capitalised words in a row.
fn year_or_name(stem: &str) -> bool {
    let year = |word: &str| {
        word.len() == 4
            && ["18", "19", "20"].iter().any(|century| word.starts_with(century))
            && word.bytes().all(|byte| byte.is_ascii_digit())
    };
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().is_some_and(char::is_uppercase) && letters.next().is_some_and(char::is_lowercase)
    };
    let tokens: Vec<&str> = stem.split_whitespace().collect();
    words(stem).any(year) || tokens.windows(2).any(|pair| capital(pair[0]) && capital(pair[1]))
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Share of words that were not there before; 1 without words.
fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> f64 {
    let all: Vec<String> = words.map(str::to_lowercase).collect();
    let once: std::collections::BTreeSet<&String> = all.iter().collect();
    if all.is_empty() { 1.0 } else { once.len() as f64 / all.len() as f64 }
}

/// The words of a text in lower case, each once.
type Words = std::collections::BTreeSet<String>;

fn set(text: &str) -> Words {
    words(text).map(str::to_lowercase).collect()
}

/// Likeness (Jaccard) of every two options.
fn likeness(sets: &[Words]) -> Vec<f64> {
    let pairs = sets.iter().enumerate().flat_map(|(i, a)| sets[i + 1..].iter().map(move |b| (a, b)));
    pairs.map(|(a, b)| a.intersection(b).count() as f64 / a.union(b).count().max(1) as f64).collect()
}

/// The question and its lettered options (`A. …`, `B) …`, `C: …`, each on a line of its own), if there are any.
fn split(text: &str) -> (&str, Vec<&str>) {
    let (mut stem, mut options) = (text, Vec::new());
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bytes = line.as_bytes();
        let next = b'A' + u8::try_from(options.len()).unwrap_or(u8::MAX).min(25);
        if bytes.len() > 2 && bytes[0] == next && matches!(bytes[1], b'.' | b')' | b':') {
            if options.is_empty() {
                stem = &text[..at];
            }
            options.push(line[2..].trim());
        }
        at += line.len();
    }
    if options.len() < 2 { (text, Vec::new()) } else { (stem, options) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_and_belong_together() {
        let (stem, options) = split("Which is NOT blue?\nA. the sky\nB. the sea\nC. grass\nAnswer:");
        assert_eq!((stem, options), ("Which is NOT blue?\n", vec!["the sky", "the sea", "grass"]));
        assert_eq!(split("A. Smith wrote to me.").1.len(), 0);
        let at = |text: &str, name: &str| features(text)[NAMES.iter().position(|n| *n == name).expect("a feature")];
        let text = "Which is NOT blue?\nA. the sky\nB. the sea\nC. grass";
        assert!(at(text, "negation") > 0.5 && at(text, "question") > 0.5);
        assert!((at(text, "option_overlap") - (1.0 / 3.0) / 3.0).abs() < 1e-12);
        assert!((at(text, "options").exp() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn every_text_has_finite_features() {
        for text in ["", "\n", "é".repeat(20_000).as_str(), "A.\nB.\nC.", "A. \u{0}\nB. x\n"] {
            assert!(features(text).iter().all(|value| value.is_finite()));
        }
    }
}
