//! Extracted JSON against expected JSON, field by field.
//!
//! An object is a set of (path, value) pairs: nested objects give paths like `buyer.name`, items of a list of plain
//! values share the path `tags[]` and count as a multiset (order does not matter), items of a list of objects are
//! matched by position (`lines[0].price`). Null, an empty text and an empty list are the same as no field. Values are
//! compared after [`normalised`].

pub mod json;

pub use json::{Form, cut};

use super::Metric;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use understudy_core::Seed;

/// Right, wrongly given, and missed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Expected and given.
    pub hit: u64,
    /// Given, not expected.
    pub extra: u64,
    /// Expected, not given. A wrong value is both extra and missed.
    pub missed: u64,
}

impl Counts {
    /// Of the values given, the share that is right; 0 when none was given.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.hit, self.hit + self.extra)
    }

    /// Of the values expected, the share that was given; 0 when none was expected.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.hit, self.hit + self.missed)
    }

    /// Harmonic mean of precision and recall.
    #[must_use]
    pub fn f1(&self) -> f64 {
        share(2 * self.hit, 2 * self.hit + self.extra + self.missed)
    }

    fn add(&mut self, other: Self) {
        self.hit += other.hit;
        self.extra += other.extra;
        self.missed += other.missed;
    }
}

fn share(k: u64, n: u64) -> f64 {
    if n == 0 { 0.0 } else { k as f64 / n as f64 }
}

/// One field over all items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// Values right, extra and missed.
    pub counts: Counts,
    /// Precision.
    pub precision: f64,
    /// Recall, with its Wilson interval and the number of expected values; `None` where none was expected.
    pub recall: Option<Metric>,
    /// F1.
    pub f1: f64,
}

/// Figures of an extraction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Share of answers in which a JSON object or list was found.
    pub valid: Metric,
    /// Share of answers that are JSON and nothing else.
    pub bare: Metric,
    /// Answers whose JSON stood in a fenced block.
    pub fenced: u64,
    /// Answers whose JSON stood amid other text.
    pub embedded: u64,
    /// Share of answers whose every field is right.
    pub exact: Metric,
    /// Precision over all values (percentile bootstrap over items).
    pub precision: Metric,
    /// Recall likewise.
    pub recall: Metric,
    /// Micro F1 likewise.
    pub micro_f1: Metric,
    /// Mean of the fields' F1 likewise.
    pub macro_f1: Metric,
    /// Each field.
    pub fields: BTreeMap<String, Field>,
    /// How often each field was given that no item expects (and, with a schema, that the schema does not name).
    pub unexpected: BTreeMap<String, u64>,
}

/// What one answer adds.
struct Item {
    form: Form,
    exact: bool,
    fields: BTreeMap<String, Counts>,
}

/// Scores answers against expected objects; `None` without items. `schema` names the fields that count (`a`, `a.b`,
/// `tags[]`, `lines[].price`; a name covers what is below it); empty means every field that some item expects.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn report(expected: &[Value], answers: &[&str], schema: &[&str], seed: Seed) -> Option<Report> {
    assert_eq!(expected.len(), answers.len(), "one expected object for each answer");
    let items: Vec<Item> = expected.iter().zip(answers).map(|(expected, answer)| item(expected, answer)).collect();
    let asked: BTreeMap<&str, bool> = items
        .iter()
        .flat_map(|item| &item.fields)
        .fold(BTreeMap::new(), |mut asked, (name, counts)| {
            *asked.entry(name.as_str()).or_default() |= counts.hit + counts.missed > 0;
            asked
        })
        .into_iter()
        .map(|(name, is_expected)| (name, if schema.is_empty() { is_expected } else { covered(schema, name) }))
        .collect();
    let names: Vec<&str> = asked.iter().filter(|(_, asked)| **asked).map(|(name, _)| *name).collect();
    let sum = |indices: &mut dyn Iterator<Item = usize>| {
        let mut sums = vec![Counts::default(); names.len()];
        for i in indices {
            for (name, counts) in &items[i].fields {
                if let Ok(at) = names.binary_search(&name.as_str()) {
                    sums[at].add(*counts);
                }
            }
        }
        sums
    };
    let resampled = |name: &str, figure: fn(&[Counts]) -> f64| {
        Metric::resampled(items.len(), seed.derive(name), |indices| figure(&sum(&mut indices.iter().copied())))
            .map(|m| m.within(0.0, 1.0))
    };
    let n = items.len() as u64;
    let with = |form: Form| items.iter().filter(|item| item.form == form).count() as u64;
    let fields = names.iter().zip(sum(&mut (0..items.len()))).map(|(name, counts)| {
        let recall = Metric::wilson(counts.hit, counts.hit + counts.missed);
        ((*name).to_owned(), Field { counts, precision: counts.precision(), recall, f1: counts.f1() })
    });
    let mut unexpected = BTreeMap::new();
    for (name, counts) in items.iter().flat_map(|item| &item.fields).filter(|(name, _)| !asked[name.as_str()]) {
        *unexpected.entry(name.clone()).or_default() += counts.extra;
    }
    let exact = items.iter().filter(|item| item.exact).count() as u64;
    Some(Report {
        valid: Metric::share(n - with(Form::Missing), n)?,
        bare: Metric::share(with(Form::Bare), n)?,
        fenced: with(Form::Fenced),
        embedded: with(Form::Embedded),
        exact: Metric::share(exact, n)?,
        precision: resampled("precision", |c| total(c).precision())?,
        recall: resampled("recall", |c| total(c).recall())?,
        micro_f1: resampled("micro_f1", |c| total(c).f1())?,
        macro_f1: resampled("macro_f1", |counts| {
            let used: Vec<f64> = counts.iter().filter(|c| c.hit + c.extra + c.missed > 0).map(Counts::f1).collect();
            if used.is_empty() { 0.0 } else { used.iter().sum::<f64>() / used.len() as f64 }
        })?,
        fields: fields.collect(),
        unexpected,
    })
}

fn total(counts: &[Counts]) -> Counts {
    counts.iter().fold(Counts::default(), |mut sum, c| {
        sum.add(*c);
        sum
    })
}

/// Whether a schema name is this field or lies above it; `[3]` of a path answers to `[]`.
fn covered(schema: &[&str], field: &str) -> bool {
    schema.iter().any(|name| {
        field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
    })
}

fn item(expected: &Value, answer: &str) -> Item {
    let (value, form) = cut(answer);
    let (wanted, given) = (leaves(expected), value.as_ref().map(leaves).unwrap_or_default());
    let mut fields: BTreeMap<String, Counts> = BTreeMap::new();
    for (pair, &count) in &wanted {
        let hit = count.min(given.get(pair).copied().unwrap_or(0));
        fields.entry(named(&pair.0)).or_default().add(Counts { hit, extra: 0, missed: count - hit });
    }
    for (pair, &count) in &given {
        let hit = count.min(wanted.get(pair).copied().unwrap_or(0));
        fields.entry(named(&pair.0)).or_default().add(Counts { hit: 0, extra: count - hit, missed: 0 });
    }
    Item { form, exact: value.is_some() && wanted == given, fields }
}

/// A path without the positions in lists: all lines' prices are one field.
fn named(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = (inside || c == '[') && c != ']';
        if !inside || c == '[' {
            name.push(c);
        }
    }
    name
}

/// Every (path, normalised value) with its count.
fn leaves(value: &Value) -> BTreeMap<(String, String), u64> {
    let mut found = BTreeMap::new();
    walk(value, String::new(), &mut found);
    found
}

fn walk(value: &Value, path: String, found: &mut BTreeMap<(String, String), u64>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(value, below, found);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let plain = !item.is_object() && !item.is_array();
                walk(item, if plain { format!("{path}[]") } else { format!("{path}[{i}]") }, found);
            }
        }
        plain => {
            let text = normalised(plain);
            if !text.is_empty() {
                *found.entry((path, text)).or_default() += 1;
            }
        }
    }
}

/// The form in which plain values are compared: lower case, runs of white space as one space; a number, also one
/// written as text, without thousands separators, plus sign and trailing zeros of its fraction (`"1,250.50"` is
/// `1250.5`). Digits with a leading zero are no number: they are telephone or account numbers, and stay as they are.
#[must_use]
pub fn normalised(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.to_lowercase(),
        other => other.to_string(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    number(&text).unwrap_or(text)
}

/// The one way to write a decimal number; `None` for what is none.
pub(super) fn number(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix(['-', '−']) {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.contains(['e', 'E']) {
        let value: f64 = text.parse().ok().filter(|v: &f64| v.is_finite() && v.abs() < 1e15)?;
        return digits.starts_with(|c: char| c.is_ascii_digit()).then(|| plain_zero(&value.to_string()));
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let grouped = whole.contains(',');
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let fits = is_digits(first)
        && (!grouped || first.len() <= 3)
        && groups.all(|group| group.len() == 3 && is_digits(group))
        && (first == "0" || !first.starts_with('0'))
        && (fraction.is_empty() || is_digits(fraction))
        && !(digits.ends_with('.'));
    if !fits {
        return None;
    }
    let whole = whole.replace(',', "");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(plain_zero(&format!("{sign}{whole}{point}{fraction}")))
}

fn plain_zero(text: &str) -> String {
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_equal_in_spite_of_their_spelling() {
        for (a, b) in [
            (json!("1,250.50"), json!(1250.5)),
            (json!(" New\n York "), json!("new york")),
            (json!(3.0), json!("+3")),
            (json!(1e3), json!(1000)),
            (json!(-0.0), json!(0)),
        ] {
            assert_eq!(normalised(&a), normalised(&b));
        }
        assert_ne!(normalised(&json!("0123")), normalised(&json!(123)));
        assert_ne!(normalised(&json!("1,25")), normalised(&json!(125)));
    }

    #[test]
    fn fields_are_counted_where_they_are_wrong_missing_or_extra() {
        let expected = [
            json!({ "total": 12.5, "buyer": { "name": "Ann" }, "tags": ["x", "y"] }),
            json!({ "total": 3, "buyer": { "name": "Bob" }, "tags": null }),
        ];
        let answers = [
            r#"{"total":"12.50","buyer":{"name":"ann"},"tags":["y","x"],"note":"n"}"#,
            "Here it is:\n```json\n{\"total\": 4, \"buyer\": {\"name\": \"Bob\"}}\n```",
        ];
        let report = report(&expected, &answers, &[], Seed(1)).expect("items");
        assert_eq!(report.fields["total"].counts, Counts { hit: 1, extra: 1, missed: 1 });
        assert_eq!(report.fields["tags[]"].counts, Counts { hit: 2, extra: 0, missed: 0 });
        assert_eq!(report.unexpected, BTreeMap::from([("note".to_owned(), 1)]));
        assert!((report.micro_f1.estimate - 10.0 / 12.0).abs() < 1e-15, "{:?}", report.micro_f1);
        assert!((report.macro_f1.estimate - (0.5 + 1.0 + 1.0) / 3.0).abs() < 1e-15);
        assert_eq!((report.fenced, report.exact.estimate), (1, 0.0));
        let strict = super::report(&expected, &answers, &["total", "note"], Seed(1)).expect("items");
        assert_eq!(strict.fields.keys().collect::<Vec<_>>(), ["note", "total"]);
        let broken = super::report(&expected[..1], &["no json"], &[], Seed(1)).expect("an item");
        assert!(broken.valid.estimate.abs() < 1e-15 && broken.recall.estimate.abs() < 1e-15);
    }
}
