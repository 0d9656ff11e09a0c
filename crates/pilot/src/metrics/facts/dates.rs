//! Calendar dates in the spellings that texts use: `3 March 2024`, `March 3rd, 2024`, `March 2024`, `2024-03-03`,
//! `03/04/2024` (either order).

use std::ops::Range;

/// A date as far as it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date {
    year: Option<String>,
    month: u8,
    day: Option<u8>,
    /// Day and month may be the other way round.
    either_order: bool,
}

impl Date {
    /// Whether a date says this much, perhaps more.
    pub(super) fn within(&self, known: &Self) -> bool {
        let orders = |date: &Self| {
            let swapped = date.either_order.then(|| {
                let day = date.day.unwrap_or(date.month);
                Self { month: day, day: Some(date.month), ..date.clone() }
            });
            [Some(date.clone()), swapped].into_iter().flatten().collect::<Vec<_>>()
        };
        let fits = |a: &Self, b: &Self| {
            a.month == b.month
                && (a.day.is_none() || a.day == b.day)
                && (a.year.is_none() || b.year.is_none() || a.year == b.year)
        };
        orders(self).iter().any(|a| orders(known).iter().any(|b| fits(a, b)))
    }
}

/// The months' names, in lower case.
pub(super) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn month(word: &str) -> Option<u8> {
    let lower = word.to_lowercase();
    let fits = |name: &&str| **name == lower || (lower.len() >= 3 && lower.len() <= 4 && name.starts_with(&lower));
    MONTHS.iter().zip(1..).find(|(name, _)| fits(name)).map(|(_, number)| number)
}

/// Every date, in order.
pub(super) fn find(text: &str) -> Vec<(Range<usize>, Date)> {
    let words: Vec<Range<usize>> = super::spans_of_words(text).collect();
    let mut found = Vec::new();
    let mut i = 0;
    while i < words.len() {
        let near = |a: usize, b: usize| -> Option<&str> {
            let gap = text[words.get(a)?.end..words.get(b)?.start].trim_matches(' ');
            (matches!(gap, "" | "," | "." | "of")).then(|| &text[words[b].clone()])
        };
        let date = numeric(text, &words[i..]).or_else(|| written(&text[words[i].clone()], |k| near(i + k - 1, i + k)));
        match date {
            Some((used, date)) => {
                found.push((words[i].start..words[i + used - 1].end, date));
                i += used;
            }
            None => i += 1,
        }
    }
    found
}

fn day(word: &str) -> Option<u8> {
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|e| word.strip_suffix(e)).unwrap_or(word);
    digits.parse().ok().filter(|day| (1..=31).contains(day) && digits.len() <= 2)
}

fn year(word: &str) -> Option<String> {
    (word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit()) && (word.starts_with('1') || word.starts_with('2')))
        .then(|| word.to_owned())
}

/// A date with its month in letters, from its first word and the ones behind it; and how many words it takes.
fn written<'a>(first: &str, next: impl Fn(usize) -> Option<&'a str>) -> Option<(usize, Date)> {
    let date = |day, month, year| Date { year, month, day, either_order: false };
    if let Some(day) = day(first) {
        // "3 March 2024", "3rd of March".
        let at = if next(1).is_some_and(|word| word == "of") { 2 } else { 1 };
        let month = next(at).filter(|word| word.starts_with(char::is_uppercase)).and_then(month)?;
        let year = next(at + 1).and_then(year);
        return Some((at + 1 + usize::from(year.is_some()), date(Some(day), month, year)));
    }
    // "May" and "March" are also words: they need a day or a year behind them.
    let month = Some(first).filter(|word| word.starts_with(char::is_uppercase)).and_then(month)?;
    if let Some(day) = next(1).and_then(day) {
        let year = next(2).and_then(year);
        return Some((2 + usize::from(year.is_some()), date(Some(day), month, year)));
    }
    let year = next(1).and_then(year)?;
    Some((2, date(None, month, Some(year))))
}

/// A date in three numbers.
fn numeric(text: &str, words: &[Range<usize>]) -> Option<(usize, Date)> {
    let [a, b, c, ..] = words else { return None };
    let (first, second) = (&text[a.end..b.start], &text[b.end..c.start]);
    if first != second || !matches!(first, "-" | "/" | ".") {
        return None;
    }
    let [a, b, c] = [a, b, c].map(|span| &text[span.clone()]);
    if let Some(year) = year(a) {
        let month = b.parse().ok().filter(|month| (1..=12).contains(month))?;
        return Some((3, Date { year: Some(year), month, day: Some(day(c)?), either_order: false }));
    }
    let year = year(c)?;
    let (a, b) = (day(a)?, day(b)?);
    let (month, day, either_order) = match (a <= 12, b <= 12) {
        (true, true) => (a, b, a != b),
        (true, false) => (a, b, false),
        (false, true) => (b, a, false),
        (false, false) => return None,
    };
    Some((3, Date { year: Some(year), month, day: Some(day), either_order }))
}
