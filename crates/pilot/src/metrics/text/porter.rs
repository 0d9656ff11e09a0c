//! Porter's stemmer with NLTK's extensions, the one behind rouge-score (M. Porter, *An algorithm for suffix
//! stripping*, 1980; NLTK's `PorterStemmer` in its default mode). Snowball's English and Porter stemmers differ from it
//! on common words ("skies", "flies", "generally"), so neither can stand in.

use std::borrow::Cow;

/// Words that NLTK looks up instead of stemming.
const IRREGULAR: [(&str, &str); 16] = [
    ("canning", "canning"),
    ("cannings", "canning"),
    ("dying", "die"),
    ("exceed", "exceed"),
    ("howe", "howe"),
    ("inning", "inning"),
    ("innings", "inning"),
    ("lying", "lie"),
    ("news", "news"),
    ("outing", "outing"),
    ("outings", "outing"),
    ("proceed", "proceed"),
    ("skies", "sky"),
    ("sky", "sky"),
    ("succeed", "succeed"),
    ("tying", "tie"),
];

const STEP_2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: [(&str, &str); 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// The stem of a word of lower-case ASCII letters and digits.
#[must_use]
pub fn stem(word: &str) -> Cow<'_, str> {
    if let Ok(at) = IRREGULAR.binary_search_by(|(irregular, _)| (*irregular).cmp(word)) {
        return Cow::Borrowed(IRREGULAR[at].1);
    }
    if word.len() <= 2 || !word.is_ascii() {
        return Cow::Borrowed(word);
    }
    let mut word = word.to_owned();
    step_1a(&mut word);
    step_1b(&mut word);
    step_1c(&mut word);
    step_2(&mut word);
    replace(&mut word, &STEP_3, |stem| measure(stem) > 0);
    step_4(&mut word);
    step_5(&mut word);
    Cow::Owned(word)
}

/// Whether each letter is a consonant: not a vowel, and y only where no consonant stands before it.
fn consonants(word: &str) -> impl Iterator<Item = bool> {
    word.bytes().scan(false, |before, letter| {
        *before = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !*before,
            _ => true,
        };
        Some(*before)
    })
}

/// Porter's m: how often a consonant follows a vowel.
fn measure(stem: &str) -> usize {
    let mut vowel_before = false;
    let follows = |consonant: &bool| {
        let counts = *consonant && vowel_before;
        vowel_before = !*consonant;
        counts
    };
    consonants(stem).filter(follows).count()
}

fn contains_vowel(stem: &str) -> bool {
    consonants(stem).any(|consonant| !consonant)
}

fn ends_double_consonant(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 2 && bytes[bytes.len() - 1] == bytes[bytes.len() - 2] && consonants(word).last() == Some(true)
}

/// Ends in consonant, vowel, consonant other than w, x, y; or is a vowel and a consonant (NLTK).
fn ends_cvc(word: &str) -> bool {
    let kinds: Vec<bool> = consonants(word).collect();
    match kinds.as_slice() {
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}

/// Applies the first rule whose suffix fits, if `holds` for the rest; no later rule is tried.
fn replace(word: &mut String, rules: &[(&str, &str)], holds: impl Fn(&str) -> bool) {
    if let Some((suffix, replacement)) = rules.iter().find(|(suffix, _)| word.ends_with(suffix)) {
        let rest = word.len() - suffix.len();
        if holds(&word[..rest]) {
            word.truncate(rest);
            word.push_str(replacement);
        }
    }
}

fn step_1a(word: &mut String) {
    if word.ends_with("ies") && word.len() == 4 {
        word.pop();
    } else {
        replace(word, &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")], |_| true);
    }
}

fn step_1b(word: &mut String) {
    if word.ends_with("ied") {
        word.truncate(word.len() - if word.len() == 4 { 1 } else { 2 });
        return;
    }
    if let Some(rest) = word.strip_suffix("eed") {
        if measure(rest) > 0 {
            word.pop();
        }
        return;
    }
    let cut = ["ed", "ing"].iter().filter_map(|suffix| word.strip_suffix(suffix)).find(|rest| contains_vowel(rest));
    let Some(rest) = cut.map(str::len) else { return };
    word.truncate(rest);
    if ["at", "bl", "iz"].iter().any(|suffix| word.ends_with(suffix)) {
        word.push('e');
    } else if ends_double_consonant(word) {
        if !word.ends_with(['l', 's', 'z']) {
            word.pop();
        }
    } else if measure(word) == 1 && ends_cvc(word) {
        word.push('e');
    }
}

fn step_1c(word: &mut String) {
    replace(word, &[("y", "i")], |rest| rest.len() > 1 && consonants(rest).last() == Some(true));
}

fn step_2(word: &mut String) {
    // NLTK applies ALLI → AL first and then the whole step again.
    while word.strip_suffix("alli").is_some_and(|rest| measure(rest) > 0) {
        word.truncate(word.len() - 2);
    }
    if word.ends_with("logi") {
        // The l belongs to the stem here, so that "theology" goes the way of "archaeology".
        if measure(&word[..word.len() - 3]) > 0 {
            word.pop();
        }
    } else {
        replace(word, &STEP_2, |rest| measure(rest) > 0);
    }
}

fn step_4(word: &mut String) {
    let Some(suffix) = STEP_4.iter().find(|suffix| word.ends_with(*suffix)) else { return };
    let rest = &word[..word.len() - suffix.len()];
    if measure(rest) > 1 && (*suffix != "ion" || rest.ends_with(['s', 't'])) {
        word.truncate(rest.len());
    }
}

fn step_5(word: &mut String) {
    if let Some(rest) = word.strip_suffix('e') {
        let m = measure(rest);
        if m > 1 || (m == 1 && !ends_cvc(rest)) {
            word.pop();
        }
    }
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn porters_own_examples_and_nltks_exceptions_come_out() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("ties", "tie"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("motoring", "motor"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("relational", "relat"),
            ("vietnamization", "vietnam"),
            ("theology", "theolog"),
            ("hopefully", "hope"),
            ("sensibiliti", "sensibl"),
            ("skies", "sky"),
            ("dying", "die"),
            ("controll", "control"),
            ("2nd", "2nd"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
        assert!(IRREGULAR.windows(2).all(|pair| pair[0].0 < pair[1].0), "searched by bisection");
    }
}
