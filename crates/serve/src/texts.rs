//! What of a request's texts is written to the store.

use understudy_core::hash::sha256_hex;

/// The policy for texts in traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextPolicy {
    /// As they came: needed to learn from traffic.
    #[default]
    Full,
    /// E-mail addresses, telephone, card and account numbers, keys and IP addresses are replaced by their kind.
    Redacted,
    /// Not at all; only hashes remain.
    Dropped,
}

impl TextPolicy {
    /// Applies the policy to one text.
    #[must_use]
    pub fn apply(self, text: &str) -> Option<String> {
        match self {
            Self::Full => Some(text.to_owned()),
            Self::Redacted => Some(redact(text)),
            Self::Dropped => None,
        }
    }
}

/// SHA-256 of a text, in hex: finds duplicates and splits rows without the text.
#[must_use]
pub(crate) fn text_hash(text: &str) -> String {
    sha256_hex(text.as_bytes())
}

/// Replaces what has the shape of personal data or of a secret by its kind in angle brackets. A filter by shape, not
/// by meaning: names and addresses stay.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        let core = word.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '+' | '_' | '-'));
        match kind(core) {
            Some(kind) if !core.is_empty() => {
                let at = word.find(core).expect("a trimmed part of the word");
                out.push_str(&word[..at]);
                out.push_str(kind);
                out.push_str(&word[at + core.len()..]);
            }
            _ => out.push_str(word),
        }
        out.push_str(&piece[word.len()..]);
    }
    redact_spaced_numbers(&out)
}

fn kind(word: &str) -> Option<&'static str> {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if word.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.')) {
        return Some("<email>");
    }
    if word.starts_with("sk-") || word.starts_with("ghp_") || word.starts_with("AKIA") && word.len() == 20 {
        return Some("<secret>");
    }
    if word.parse::<std::net::IpAddr>().is_ok() {
        return Some("<ip>");
    }
    let bytes = word.as_bytes();
    let looks_like_iban = bytes.len() >= 15
        && bytes.len() <= 34
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..4].iter().all(u8::is_ascii_digit)
        && bytes.iter().all(u8::is_ascii_alphanumeric);
    if looks_like_iban {
        return Some("<account>");
    }
    let number_like = word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'(' | b')' | b'/' | b'+'));
    (number_like && digits >= 9).then_some("<number>")
}

/// Card and telephone numbers come in groups: `4111 1111 1111 1111`, `+49 30 1234567`.
fn redact_spaced_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run_start: Option<usize> = None;
    let mut digits = 0;
    let mut end_of_digits = 0;
    let flush = |out: &mut String, start: Option<usize>, digits: usize, end: usize, upto: usize| {
        if let Some(start) = start {
            if digits >= 9 {
                out.push_str("<number>");
                out.push_str(&text[end..upto]);
            } else {
                out.push_str(&text[start..upto]);
            }
        }
    };
    for (at, c) in text.char_indices() {
        if c.is_ascii_digit() || (c == '+' && run_start.is_none()) {
            run_start.get_or_insert(at);
            digits += usize::from(c.is_ascii_digit());
            end_of_digits = at + 1;
        } else if run_start.is_some() && matches!(c, ' ' | '-' | '.' | '(' | ')' | '/') && at - end_of_digits < 2 {
            // A separator inside the run.
        } else {
            flush(&mut out, run_start.take(), digits, end_of_digits, at);
            digits = 0;
            out.push(c);
        }
    }
    flush(&mut out, run_start, digits, end_of_digits, text.len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_shape_of_personal_data_is_replaced_by_its_kind() {
        for (text, expected) in [
            ("Write to jane.doe@example.com, please.", "Write to <email>, please."),
            ("card 4111 1111 1111 1111 ok", "card <number> ok"),
            ("call +49 30 1234567.", "call <number>."),
            ("from 192.168.0.1:", "from <ip>:"),
            ("IBAN DE89370400440532013000", "IBAN <account>"),
            ("key sk-abc123", "key <secret>"),
            ("in 2024 we sold 12 of 300", "in 2024 we sold 12 of 300"),
            ("  spaces\n stay  ", "  spaces\n stay  "),
            ("größe 5 µm – naïve", "größe 5 µm – naïve"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn dropped_texts_are_not_kept() {
        assert_eq!(TextPolicy::Dropped.apply("x"), None);
        assert_eq!(TextPolicy::Full.apply("x").as_deref(), Some("x"));
    }
}
