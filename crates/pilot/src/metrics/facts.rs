//! Facts that can be checked by looking: numbers (with units, percentages, dates), names and quotations. What an answer
//! states and its source lacks is probably made up; what the reference states and the answer lacks was left out.
//!
//! A heuristic over words, not understanding: it sees a wrong dosage, not a wrong conclusion. It leans towards silence:
//! a number is supported when the source holds it in any spelling, a name when the source holds each of its words.
//! Written for English and languages that write like it; texts without capitals have no names to find.

mod dates;
mod names;
mod numbers;

use super::Metric;
use serde::Serialize;
use std::{collections::BTreeSet, ops::Range};
use understudy_core::Seed;

/// The kinds of facts that are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A number, with its unit where one stands behind it.
    Number,
    /// A calendar date.
    Date,
    /// A capitalised name.
    Name,
    /// Text between quotation marks, of two words or more.
    Quotation,
}

/// A fact and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Its kind.
    pub kind: Kind,
    /// Bytes of the text it stands in.
    pub span: Range<usize>,
    /// The words.
    pub text: String,
}

/// What a fact says, in one spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// A decimal number and its unit.
    Number(String, Option<String>),
    /// Day, month, year, as far as they are written.
    Date(dates::Date),
    /// Words in lower case.
    Name(Vec<String>),
    /// Words in lower case.
    Quotation(Vec<String>),
}

/// A text's claims and everything against which another text's claims are checked.
struct Reading {
    claims: Vec<(Fact, Claim)>,
    words: BTreeSet<String>,
    sequence: Vec<String>,
    numbers: BTreeSet<(String, Option<String>)>,
    dates: BTreeSet<dates::Date>,
}

impl Reading {
    fn of(text: &str) -> Self {
        let mut claims = Vec::new();
        let fact = |kind, span: Range<usize>| Fact { kind, text: text[span.clone()].to_owned(), span };
        let dates = dates::find(text);
        for (span, date) in &dates {
            claims.push((fact(Kind::Date, span.clone()), Claim::Date(date.clone())));
        }
        let taken = |span: &Range<usize>| dates.iter().any(|(d, _)| d.start < span.end && span.start < d.end);
        let numbers = numbers::find(text);
        for number in numbers.iter().filter(|n| !taken(&n.span) && !n.only_supports) {
            let claim = Claim::Number(number.value.clone(), number.unit.clone());
            claims.push((fact(Kind::Number, number.span.clone()), claim));
        }
        for span in quotations(text) {
            let words = words(&text[span.clone()]);
            if words.len() > 1 {
                claims.push((fact(Kind::Quotation, span), Claim::Quotation(words)));
            }
        }
        for span in names::find(text).into_iter().filter(|span| !taken(span)) {
            let words = words(&text[span.clone()]);
            claims.push((fact(Kind::Name, span), Claim::Name(words)));
        }
        claims.sort_by_key(|(fact, _)| (fact.span.start, fact.kind));
        let sequence = words(text);
        Self {
            claims,
            words: sequence.iter().cloned().collect(),
            sequence,
            numbers: numbers.into_iter().map(|n| (n.value, n.unit)).collect(),
            dates: dates.into_iter().map(|(_, date)| date).collect(),
        }
    }

    /// Whether this text states the claim too.
    fn supports(&self, claim: &Claim) -> bool {
        match claim {
            Claim::Number(value, unit) => {
                self.numbers.iter().any(|(v, u)| v == value && (u == unit || u.is_none() || unit.is_none()))
            }
            Claim::Date(date) => self.dates.iter().any(|known| date.within(known)),
            // A plural or a possessive is no other name.
            Claim::Name(words) => words.iter().all(|word| {
                self.words.contains(word)
                    || word.strip_suffix('s').is_some_and(|stem| self.words.contains(stem))
                    || self.words.contains(&format!("{word}s"))
            }),
            Claim::Quotation(words) => self.sequence.windows(words.len()).any(|window| window == words),
        }
    }
}

/// The facts of a text, in order.
#[must_use]
pub fn find(text: &str) -> Vec<Fact> {
    Reading::of(text).claims.into_iter().map(|(fact, _)| fact).collect()
}

/// Facts of `text` that `other` does not state: of an answer against its source, what is made up; of a reference
/// against an answer, what was left out. Spans are of `text`.
#[must_use]
pub fn unsupported(text: &str, other: &str) -> Vec<Fact> {
    let other = Reading::of(other);
    Reading::of(text).claims.into_iter().filter(|(_, claim)| !other.supports(claim)).map(|(fact, _)| fact).collect()
}

/// One answer's facts against its source and its reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Facts the answer states.
    pub stated: u64,
    /// Those that neither the source nor the reference states. Spans are of the answer.
    pub hallucinated: Vec<Fact>,
    /// Facts the reference states.
    pub expected: u64,
    /// Those that the answer lacks. Spans are of the reference.
    pub omitted: Vec<Fact>,
}

/// Checks an answer. What the reference states counts as known: its author saw the source too.
#[must_use]
pub fn check(source: &str, reference: Option<&str>, answer: &str) -> Checked {
    let (source, stated) = (Reading::of(source), Reading::of(answer));
    let expected = reference.map(Reading::of);
    let known = |claim: &Claim| source.supports(claim) || expected.as_ref().is_some_and(|e| e.supports(claim));
    let lacking = |from: &Reading, known: &dyn Fn(&Claim) -> bool| {
        from.claims.iter().filter(|(_, claim)| !known(claim)).map(|(fact, _)| fact.clone()).collect::<Vec<_>>()
    };
    Checked {
        stated: stated.claims.len() as u64,
        hallucinated: lacking(&stated, &known),
        expected: expected.as_ref().map_or(0, |e| e.claims.len() as u64),
        omitted: expected.as_ref().map_or_else(Vec::new, |e| lacking(e, &|claim| stated.supports(claim))),
    }
}

/// Figures over a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Report {
    /// Share of answers with at least one made-up fact.
    pub answers_with_hallucination: Metric,
    /// Made-up facts an answer (BCa bootstrap).
    pub hallucinated_per_answer: Metric,
    /// Of all facts stated, the share made up (percentile bootstrap over answers); `None` when none was stated.
    pub hallucinated_share: Option<Metric>,
    /// Of all facts of the references, the share left out; `None` without references that state facts.
    pub omitted_share: Option<Metric>,
}

/// Sums up; `None` without answers.
#[must_use]
pub fn report(checked: &[Checked], seed: Seed) -> Option<Report> {
    let with = checked.iter().filter(|c| !c.hallucinated.is_empty()).count() as u64;
    let per_answer: Vec<f64> = checked.iter().map(|c| c.hallucinated.len() as f64).collect();
    let share = |name: &str, of: fn(&Checked) -> (u64, u64)| {
        Metric::resampled(checked.len(), seed.derive(name), |indices| {
            let (k, n) = indices.iter().map(|&i| of(&checked[i])).fold((0, 0), |(k, n), (a, b)| (k + a, n + b));
            if n == 0 { f64::NAN } else { k as f64 / n as f64 }
        })
        .map(|m| m.within(0.0, 1.0))
    };
    Some(Report {
        answers_with_hallucination: Metric::share(with, checked.len() as u64)?,
        hallucinated_per_answer: Metric::mean(&per_answer, seed.derive("per_answer"))?,
        hallucinated_share: share("hallucinated", |c| (c.hallucinated.len() as u64, c.stated)),
        omitted_share: share("omitted", |c| (c.omitted.len() as u64, c.expected)),
    })
}

/// Spans between quotation marks: “ ”, « », „ “ and straight ones, within a line and of at most 300 bytes.
fn quotations(text: &str) -> Vec<Range<usize>> {
    const PAIRS: [(char, &[char]); 4] = [('“', &['”']), ('«', &['»']), ('„', &['“', '”']), ('"', &['"'])];
    let mut found = Vec::new();
    let mut from = 0;
    while let Some((at, opening)) = text[from..].char_indices().find(|(_, c)| PAIRS.iter().any(|(o, _)| o == c)) {
        let start = from + at + opening.len_utf8();
        let closings = PAIRS.iter().find(|(o, _)| *o == opening).map_or(&[][..], |(_, closings)| closings);
        let end = text[start..].find(|c: char| closings.contains(&c) || c == '\n').map(|length| start + length);
        match end.filter(|&end| !text[end..].starts_with('\n') && end - start <= 300) {
            Some(end) => {
                found.push(start..end);
                from = end + text[end..].chars().next().map_or(1, char::len_utf8);
            }
            None => from = start,
        }
    }
    found
}

/// Words in lower case, without punctuation around them and a possessive behind them.
fn words(text: &str) -> Vec<String> {
    spans_of_words(text).map(|span| bare(&text[span]).to_lowercase()).collect()
}

/// A word without `'s`.
fn bare(word: &str) -> &str {
    ["'s", "’s"].iter().find_map(|ending| word.strip_suffix(ending)).unwrap_or(word)
}

/// Where the words stand: runs of letters and digits, with apostrophes inside.
fn spans_of_words(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(char::is_alphanumeric)?;
        let mut end = start;
        let mut chars = text[start..].char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let joins = matches!(c, '\'' | '’') && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
            if !c.is_alphanumeric() && !joins {
                break;
            }
            end = start + at + c.len_utf8();
        }
        rest = end;
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up(source: &str, answer: &str) -> Vec<(Kind, String)> {
        unsupported(answer, source).into_iter().map(|fact| (fact.kind, fact.text)).collect()
    }

    const SOURCE: &str = "Dr. Smith saw Mrs. Jane Miller on 3 March 2024. She takes 1,500 mg of metformin, two tablets \
                          twice a day. Her weight fell by 4.5% to 81 kg. She said \"I feel much better now\" and that \
                          Boston General called.";

    #[test]
    fn what_the_source_holds_in_another_spelling_is_supported() {
        for answer in [
            "Jane Miller takes 1500mg of metformin (2 tablets).",
            "On March 3, 2024 her weight fell by 4.5 percent to eighty-one kilograms.",
            "2024-03-03: Miller's visit. Smith noted: “I feel much better now”.",
            "In March 2024 she was seen. The General called.",
        ] {
            assert_eq!(made_up(SOURCE, answer), [], "{answer}");
        }
    }

    #[test]
    fn what_is_made_up_is_found_with_its_place() {
        let answer =
            "Jane Miller of Chicago takes 150 mg since 4 March 2024 and lost 5%. She said \"I feel much worse now\".";
        let expected = [
            (Kind::Name, "Chicago"),
            (Kind::Number, "150 mg"),
            (Kind::Date, "4 March 2024"),
            (Kind::Number, "5%"),
            (Kind::Quotation, "I feel much worse now"),
        ];
        let found = unsupported(answer, SOURCE);
        let plain: Vec<(Kind, &str)> = found.iter().map(|fact| (fact.kind, fact.text.as_str())).collect();
        assert_eq!(plain, expected);
        assert!(found.iter().all(|fact| answer[fact.span.clone()] == fact.text));
    }

    #[test]
    fn units_tell_equal_numbers_apart() {
        assert_eq!(made_up("It weighs 5 kg.", "It weighs 5 mg."), [(Kind::Number, "5 mg".to_owned())]);
        assert_eq!(made_up("It costs $5.", "It costs €5."), [(Kind::Number, "€5".to_owned())]);
        assert_eq!(made_up("It costs $5.", "It costs 5 dollars, or 5."), []);
    }

    #[test]
    fn omissions_are_what_the_reference_has_and_the_answer_lacks() {
        let checked =
            check(SOURCE, Some("Jane Miller takes 1500 mg and weighs 81 kg."), "Miller takes 1500 mg in Ohio.");
        let texts = |facts: &[Fact]| facts.iter().map(|f| f.text.clone()).collect::<Vec<_>>();
        assert_eq!(
            (texts(&checked.omitted), texts(&checked.hallucinated)),
            (vec!["Jane Miller".into(), "81 kg".into()], vec!["Ohio".into()])
        );
        let report = report(&[checked], Seed(1)).expect("an answer");
        assert!((report.omitted_share.expect("facts").estimate - 2.0 / 3.0).abs() < 1e-15);
        assert!(super::report(&[], Seed(1)).is_none());
    }

    #[test]
    fn any_text_can_be_read() {
        for text in
            ["", "“", "\"", "’s", "1,,2.", "İ 5€ ½", "a\u{301}b 1.2.3.4 99/99/9999 -", "$", "31.", "May", "日本 3月"]
        {
            assert!(unsupported(text, text).is_empty(), "{text}: {:?}", unsupported(text, text));
        }
    }
}
