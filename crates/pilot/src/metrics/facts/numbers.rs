//! Numbers in texts: digits with thousands separators and decimals, number words, and the units behind or before them.

use super::super::fields;
use std::ops::Range;

/// A number and where it stands, its unit included.
pub(super) struct Number {
    pub(super) span: Range<usize>,
    /// As `fields::number` writes it.
    pub(super) value: String,
    pub(super) unit: Option<String>,
    /// "one" and ordinals are mostly no figures: they can support a claim but are none.
    pub(super) only_supports: bool,
}

/// Spellings of units, first the one they become.
const UNITS: &[&[&str]] = &[
    &["%", "percent", "pct"],
    &["$", "usd", "dollar", "dollars"],
    &["€", "eur", "euro", "euros"],
    &["£", "gbp", "pound sterling"],
    &["¥", "jpy", "yen"],
    &["mg", "milligram", "milligrams"],
    &["g", "gram", "grams"],
    &["kg", "kilogram", "kilograms", "kilo", "kilos"],
    &["µg", "mcg", "μg", "microgram", "micrograms"],
    &["lb", "lbs", "pound", "pounds"],
    &["oz", "ounce", "ounces"],
    &["ml", "milliliter", "milliliters", "millilitre", "millilitres"],
    &["l", "liter", "liters", "litre", "litres"],
    &["mm", "millimeter", "millimeters", "millimetre", "millimetres"],
    &["cm", "centimeter", "centimeters", "centimetre", "centimetres"],
    &["m", "meter", "meters", "metre", "metres"],
    &["km", "kilometer", "kilometers", "kilometre", "kilometres"],
    &["mile", "miles", "mi"],
    &["ft", "foot", "feet"],
    &["inch", "inches"],
    &["second", "seconds", "sec", "secs", "s"],
    &["minute", "minutes", "min", "mins"],
    &["hour", "hours", "hr", "hrs", "h"],
    &["day", "days"],
    &["week", "weeks"],
    &["month", "months"],
    &["year", "years", "yr", "yrs"],
    &["ms", "millisecond", "milliseconds"],
    &["kb"],
    &["mb"],
    &["gb"],
    &["tb"],
    &["°c", "celsius"],
    &["°f", "fahrenheit"],
    &["mmhg"],
    &["bpm"],
    &["kcal"],
    &["w"],
    &["kwh"],
];

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const SCALES: [(&str, u64); 4] =
    [("hundred", 100), ("thousand", 1_000), ("million", 1_000_000), ("billion", 1_000_000_000)];
const TIMES: [(&str, &str); 3] = [("once", "1"), ("twice", "2"), ("thrice", "3")];

/// Every number, in order.
pub(super) fn find(text: &str) -> Vec<Number> {
    let mut found = digits(text);
    found.extend(words(text));
    found.sort_by_key(|number| number.span.start);
    found
}

/// The number in words that one word says: units, tens or both (`eighty-one` is two words to us).
fn small(word: &str) -> Option<u64> {
    let at = |list: &[&str]| list.iter().position(|w| *w == word).map(|i| i as u64);
    at(&SMALL).or_else(|| at(&TENS).map(|i| (i + 2) * 10))
}

fn words(text: &str) -> Vec<Number> {
    let words: Vec<(Range<usize>, String)> =
        super::spans_of_words(text).map(|span| (span.clone(), text[span].to_lowercase())).collect();
    let mut found = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let (first, word) = &words[i];
        if let Some((_, value)) = TIMES.iter().find(|(times, _)| times == word) {
            let value = (*value).to_owned();
            found.push(Number { span: first.clone(), value, unit: None, only_supports: true });
        }
        let Some(start) = small(word) else {
            i += 1;
            continue;
        };
        // A running number: tens take units behind them, scales multiply what stands before them.
        let (mut done, mut current, mut last) = (0_u64, start, i);
        for (j, (_, next)) in words.iter().enumerate().skip(i + 1) {
            if !text[words[last].0.end..words[j].0.start].chars().all(|c| c == ' ' || c == '-') {
                break;
            }
            if let Some((_, scale)) = SCALES.iter().find(|(name, _)| name == next) {
                if *scale == 100 {
                    current = current.saturating_mul(100)
                } else {
                    done = done.saturating_add(current.saturating_mul(*scale));
                    current = 0;
                }
            } else if let Some(value) = small(next).filter(|v| {
                *v > 0
                    && (current == 0
                        || (*v < 10 && current % 10 == 0 && current % 100 != 10)
                        || (*v < 100 && current % 100 == 0))
            }) {
                current += value;
            } else {
                break;
            }
            last = j;
        }
        let span = first.start..words[last].0.end;
        let (unit, end) = unit_behind(text, span.end);
        let value = (done.saturating_add(current)).to_string();
        let only_supports = last == i && word == "one";
        found.push(Number { span: span.start..end, value, unit, only_supports });
        i = last + 1;
    }
    found
}

fn digits(text: &str) -> Vec<Number> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(|c: char| c.is_ascii_digit()).map(|i| at + i) {
        let mut end = start;
        // A separator belongs to the number when a digit follows it.
        while end < bytes.len()
            && (bytes[end].is_ascii_digit()
                || (matches!(bytes[end], b',' | b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit)))
        {
            end += 1;
        }
        at = end;
        // Digits inside a word ("B12", "Q3") are part of a name.
        if text[..start].chars().next_back().is_some_and(|c| c.is_alphabetic() || c == '_') {
            continue;
        }
        let raw = &text[start..end];
        let plain = raw.trim_start_matches('0');
        let value = fields::number(raw)
            .or_else(|| fields::number(if plain.is_empty() || plain.starts_with('.') { "0" } else { plain }))
            .unwrap_or_else(|| raw.to_owned());
        let ordinal = ["st", "nd", "rd", "th"]
            .iter()
            .find(|ending| text[end..].starts_with(**ending) && !text[end + 2..].starts_with(char::is_alphanumeric));
        let (before, begin) = unit_before(text, start);
        let (behind, stop) = if ordinal.is_some() { (None, end + 2) } else { unit_behind(text, end) };
        found.push(scaled(
            Number { span: begin..stop, value, unit: before.or(behind), only_supports: false },
            text,
            end,
        ));
    }
    found
}

/// `3 million` and `3.5k`: the factor is part of the value.
fn scaled(mut number: Number, text: &str, end: usize) -> Number {
    let rest = &text[end..];
    let skipped = rest.len() - rest.trim_start_matches([' ', '-']).len();
    let word: String = rest[skipped..].chars().take_while(|c| c.is_alphabetic()).collect();
    let lower = word.to_lowercase();
    let named = SCALES.iter().find(|(name, _)| *name == lower).map(|(_, factor)| *factor);
    let short =
        [("k", 1_000), ("bn", 1_000_000_000)].iter().find(|(s, _)| skipped == 0 && *s == lower).map(|(_, f)| *f);
    if let Some(factor) = named.or(short)
        && let Ok(value) = number.value.parse::<f64>()
        && let Some(value) = fields::number(&(value * factor as f64).to_string())
    {
        number.value = value;
        let (unit, stop) = unit_behind(text, end + skipped + word.len());
        number.unit = number.unit.or(unit);
        number.span.end = stop;
    }
    number
}

/// A currency sign before the number.
fn unit_before(text: &str, start: usize) -> (Option<String>, usize) {
    let sign = text[..start].chars().next_back().filter(|c| matches!(c, '$' | '€' | '£' | '¥'));
    sign.map_or((None, start), |sign| (Some(sign.to_string()), start - sign.len_utf8()))
}

/// The unit behind a number, at once or after one space or dash, and where it ends.
fn unit_behind(text: &str, end: usize) -> (Option<String>, usize) {
    let rest = &text[end..];
    let skipped = usize::from(rest.starts_with([' ', '-']));
    let rest = &rest[skipped..];
    let length = match rest.chars().next() {
        Some(sign @ ('%' | '€' | '£' | '$' | '¥')) => sign.len_utf8(),
        Some('°') => {
            '°'.len_utf8()
                + rest['°'.len_utf8()..].chars().next().filter(|c| c.is_alphabetic()).map_or(0, char::len_utf8)
        }
        _ => rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len()),
    };
    let word = rest[..length].to_lowercase();
    let unit =
        UNITS.iter().find(|spellings| spellings.contains(&word.as_str())).map(|spellings| spellings[0].to_owned());
    // A lone letter after a space is a word or a list's letter, not a unit.
    let unit = unit.filter(|_| {
        skipped == 0 || word.chars().count() > 1 || matches!(word.as_str(), "%" | "€" | "£" | "$" | "g" | "l" | "m")
    });
    let stop = if unit.is_some() { end + skipped + length } else { end };
    (unit, stop)
}
