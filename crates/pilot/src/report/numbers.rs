//! Numbers and texts as people read them in a report.

/// Text for HTML and its attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A share in per cent with as many decimals as asked for.
#[must_use]
pub fn percent(share: f64, decimals: usize) -> String {
    format!("{:.decimals$}\u{202f}%", share * 100.0)
}

/// A whole number with thin spaces between thousands.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds or seconds with two significant digits or so.
#[must_use]
pub fn duration(ms: f64) -> String {
    match ms {
        ms if ms >= 10_000.0 => format!("{:.0}\u{202f}s", ms / 1000.0),
        ms if ms >= 1000.0 => format!("{:.1}\u{202f}s", ms / 1000.0),
        ms if ms >= 10.0 => format!("{ms:.0}\u{202f}ms"),
        ms if ms >= 1.0 => format!("{ms:.1}\u{202f}ms"),
        ms => format!("{ms:.2}\u{202f}ms"),
    }
}

/// Dollars with about three significant digits.
#[must_use]
pub fn dollars(usd: f64) -> String {
    match usd.abs() {
        x if x >= 100.0 => format!("${usd:.0}"),
        x if x >= 0.995 => format!("${usd:.2}"),
        x if x >= 0.0995 => format!("${usd:.3}"),
        x if x > 0.0 => format!("${usd:.4}"),
        _ => "$0".to_owned(),
    }
}

/// A number of any size with the four digits that say something.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of digits, 0 to 9")]
pub fn significant(x: f64) -> String {
    let digits = if x.abs() > 0.0 { (3.0 - x.abs().log10().floor()).clamp(0.0, 9.0) } else { 0.0 };
    format!("{x:.*}", digits as usize)
}

/// A fragment as a sentence: a capital at the start, a full stop at the end.
#[must_use]
pub fn sentence(text: &str) -> String {
    let mut chars = text.trim().chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let rest = chars.as_str();
    let stop = if rest.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{rest}{stop}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits_say_something() {
        for (x, text) in [(0.000_123_456, "0.0001235"), (12.3456, "12.35"), (-123_456.7, "-123457"), (0.0, "0")] {
            assert_eq!(significant(x), text);
        }
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            [duration(0.123), duration(12.3), duration(1234.0)].map(|t| t.replace('\u{202f}', " ")),
            ["0.12 ms", "12 ms", "1.2 s"]
        );
        assert_eq!([dollars(0.0), dollars(0.00012), dollars(3.456)], ["$0", "$0.0001", "$3.46"]);
        assert_eq!(percent(0.1234, 1).replace('\u{202f}', " "), "12.3 %");
        assert_eq!((escape("<a\">&"), sentence("it is so")), ("&lt;a&quot;&gt;&amp;".into(), "It is so.".into()));
    }
}
