//! What a teacher said about texts beside their label: how likely each label is, and why.
//!
//! Shares come from a field of the rows: an object of labels and their shares (what `adapt label --samples` writes), or
//! one number, how sure the label is. They are kept by text, so that cleaning and dividing the examples need not carry
//! them. Where a text's label is not one that its shares put first, somebody knew better: the label is learned.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use understudy_core::{Error, Result, hash::sha256_hex};
use understudy_dataset::{Dataset, Row, clean::text_hash};

/// Where shares are looked for when no field is named.
pub(crate) const SHARES: &str = "shares";
/// How far a label's share may lie below the greatest and still be first.
const TIE: f64 = 1e-9;

/// Shares and reasons of texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taught {
    shares: Arc<BTreeMap<String, BTreeMap<String, f64>>>,
    reasons: Arc<BTreeMap<String, String>>,
    /// How much the reasons count beside the labels.
    pub(crate) reasons_weight: f64,
}

/// What was found in a file, to be said aloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// Rows that are learned by shares.
    pub(crate) soft: usize,
    /// Rows whose shares put another label first.
    pub(crate) overruled: usize,
    /// Rows with reasons.
    pub(crate) reasons: usize,
}

impl Taught {
    /// Reads shares from `soft` and reasons from `rationale`, where they are named.
    ///
    /// # Errors
    /// `Invalid` when no row has a named field; `Data`, with the line, when a value cannot be read.
    pub(crate) fn read(data: &Dataset, soft: Option<&str>, rationale: Option<(&str, f64)>) -> Result<(Self, Found)> {
        let (mut sums, mut reasons, mut found) = (BTreeMap::new(), BTreeMap::new(), Found::default());
        for row in &data.rows {
            let wrong = |what: String| Error::data(format!("read dataset {}: line {}: {what}", data.name, row.line));
            let (Some(label), text) = (row.gold().map(str::trim), text_hash(&row.text)) else { continue };
            if let Some(value) = soft.and_then(|field| row.extra.get(field)).filter(|value| !value.is_null()) {
                let shares = shares(value, label).map_err(wrong)?;
                let first = shares.values().copied().fold(0.0, f64::max);
                // How sure one label is puts no other one first.
                let of_all = !shares.contains_key("");
                if of_all && shares.get(label).is_none_or(|share| *share < first - TIE) {
                    found.overruled += 1;
                } else {
                    found.soft += 1;
                    // Several rows of a text: the mean of what they say.
                    let sum: &mut BTreeMap<String, f64> = sums.entry(text.clone()).or_default();
                    shares.into_iter().for_each(|(label, share)| *sum.entry(label).or_default() += share);
                }
            }
            if let Some(reason) = rationale.and_then(|(field, _)| reason(data, row, field)) {
                found.reasons += 1;
                reasons.entry(text).or_insert(reason);
            }
        }
        let missing = |field: &str, flag: &str| {
            let what = format!("read dataset {}: no row has a `{field}` to learn from", data.name);
            Err(Error::invalid(what).with_param(flag))
        };
        match (soft, rationale) {
            (Some(field), _) if found.soft + found.overruled == 0 => return missing(field, "soft"),
            (_, Some((field, _))) if found.reasons == 0 => return missing(field, "rationale"),
            _ => {}
        }
        let reasons_weight = rationale.map_or(0.0, |(_, weight)| weight);
        Ok((Self { shares: Arc::new(sums), reasons: Arc::new(reasons), reasons_weight }, found))
    }

    /// How likely each class of a text is; `None` where nothing says so.
    pub(crate) fn shares(&self, text: &str, classes: &[String]) -> Option<Vec<f32>> {
        if self.shares.is_empty() {
            return None;
        }
        let said = self.shares.get(&text_hash(text))?;
        // What is left of a label that is the only one named goes to the others alike; a label that is no text's own is
        // not learned.
        let rest = said.get("").map_or(0.0, |rest| rest / (classes.len().max(2) - 1) as f64);
        let named = |class: &String| said.get(class).copied();
        let all: Vec<f64> = classes.iter().map(|class| named(class).unwrap_or(rest)).collect();
        let sum: f64 = all.iter().sum();
        #[expect(clippy::cast_possible_truncation, reason = "a share")]
        (sum > 0.0).then(|| all.iter().map(|share| (share / sum) as f32).collect())
    }

    /// Why a text has its label.
    pub(crate) fn reason(&self, text: &str) -> Option<&str> {
        if self.reasons.is_empty() { None } else { self.reasons.get(&text_hash(text)).map(String::as_str) }
    }

    /// True when there are reasons.
    pub(crate) fn has_reasons(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Identifies all of it; `None` when there is nothing.
    pub(crate) fn hash(&self) -> Option<String> {
        if self.shares.is_empty() && self.reasons.is_empty() {
            return None;
        }
        let told = format!("{:?} {:?} {}", self.shares, self.reasons, self.reasons_weight);
        Some(sha256_hex(told.as_bytes()))
    }
}

/// An object of labels and shares, or how sure one label is: then what is left stands under the empty name.
fn shares(value: &Value, label: &str) -> std::result::Result<BTreeMap<String, f64>, String> {
    let of_text = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    let value = of_text.as_ref().unwrap_or(value);
    if let Some(share) = value.as_f64() {
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("{share} is not how sure a label is; that lies in [0, 1]"));
        }
        return Ok([(label.to_owned(), share), (String::new(), 1.0 - share)].into());
    }
    let number = |share: &Value| share.as_f64().filter(|share| share.is_finite() && *share >= 0.0);
    let object = value.as_object().map(|object| {
        object
            .iter()
            .map(|(label, share)| Some((label.trim().to_owned(), number(share)?)))
            .collect::<Option<BTreeMap<_, _>>>()
    });
    let all = object.flatten().filter(|all| !all.contains_key(""));
    let sum = all.as_ref().map_or(0.0, |all| all.values().sum());
    match all {
        Some(all) if sum > 0.0 => Ok(all.into_iter().map(|(label, share)| (label, share / sum)).collect()),
        _ => Err(format!("`{value}` is neither an object of labels and their shares nor one number")),
    }
}

/// The text of a field, whatever else the field was taken for.
pub(crate) fn reason(data: &Dataset, row: &Row, field: &str) -> Option<String> {
    let taken = data.mapping.reference.as_deref() == Some(field);
    let text = if taken { row.references.first().map(String::as_str) } else { row.extra.get(field)?.as_str() };
    text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The words of reasons that a second head is to find, most frequent first, each with the number of reasons it is in:
/// of three letters at least, in two reasons at least and in half of them at most (what is in more says nothing of
/// this one), and no more than `most`.
pub(crate) fn words_of<'r>(reasons: impl Iterator<Item = &'r str>, most: usize) -> Vec<(String, usize)> {
    let (mut counts, mut n) = (BTreeMap::<String, usize>::new(), 0);
    for reason in reasons {
        n += 1;
        for word in distinct(reason) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut words: Vec<(String, usize)> = counts.into_iter().filter(|(_, k)| *k >= 2 && 2 * k <= n).collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    words.truncate(most);
    words
}

/// The distinct words of a text, in lower case.
pub(crate) fn distinct(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 2);
    words.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use understudy_dataset::{Format, Mapping};

    fn data(rows: &[(&str, &str, Value)]) -> Dataset {
        let row = |(line, (text, label, extra)): (usize, &(&str, &str, Value))| Row {
            line: line + 1,
            text: (*text).to_owned(),
            label: Some((*label).to_owned()),
            extra: extra.as_object().cloned().unwrap_or_default(),
            ..Row::default()
        };
        let rows = rows.iter().enumerate().map(row).collect();
        Dataset { name: "a.jsonl".into(), format: Format::Jsonl, mapping: Mapping::default(), rows }
    }

    fn close(shares: Option<Vec<f32>>, want: [f32; 3]) -> bool {
        shares.is_some_and(|shares| shares.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6))
    }

    #[test]
    fn shares_numbers_and_labels_that_know_better() {
        let data = data(&[
            ("one", "a", json!({"shares": {"a": 3, "b": 1}})),
            ("One ", "a", json!({"shares": {"a": 0.25, "b": 0.25, "never": 0.5}})),
            ("two", "b", json!({"shares": {"a": 0.8, "b": 0.2}})),
            ("three", "c", json!({"shares": 0.6})),
            ("four", "c", json!({"shares": "{\"c\": 1.0}"})),
            ("five", "c", json!({})),
        ]);
        let (taught, found) = Taught::read(&data, Some(SHARES), None).unwrap();
        assert_eq!((found.soft, found.overruled), (3, 2), "`never` and `a` are put first over the label");
        let classes = ["a", "b", "c"].map(str::to_owned);
        assert!(close(taught.shares("ONE", &classes), [0.75, 0.25, 0.0]));
        assert!(close(taught.shares("three", &classes), [0.2, 0.2, 0.6]));
        assert!(close(taught.shares("four", &classes), [0.0, 0.0, 1.0]));
        assert!(taught.shares("two", &classes).is_none() && taught.shares("five", &classes).is_none());
        assert!(taught.hash().is_some() && Taught::default().hash().is_none());
    }

    #[test]
    fn what_cannot_be_read_names_its_line_and_a_field_that_is_not_there_is_refused() {
        for bad in [json!([1]), json!("often"), json!(1.5), json!({"a": -1}), json!({"a": 0}), json!({"a": "x"})] {
            let data = data(&[("one", "a", json!({"shares": bad}))]);
            let error = Taught::read(&data, Some(SHARES), None).unwrap_err().to_string();
            assert!(error.contains("line 1"), "{error}");
        }
        let data = data(&[("one", "a", json!({"why": "it is"}))]);
        assert_eq!(Taught::read(&data, Some("odds"), None).unwrap_err().param(), Some("soft"));
        assert_eq!(Taught::read(&data, None, Some(("because", 1.0))).unwrap_err().param(), Some("rationale"));
        let (taught, found) = Taught::read(&data, None, Some(("why", 1.0))).unwrap();
        assert_eq!((taught.reason("One"), found.reasons), (Some("it is"), 1));
    }

    #[test]
    fn words_of_reasons_are_neither_rare_nor_everywhere() {
        let reasons = ["The cat sat.", "the Cat ran!", "the dog sat", "the dog"];
        let words = words_of(reasons.into_iter(), 10);
        assert_eq!(words, [("cat".to_owned(), 2), ("dog".into(), 2), ("sat".into(), 2)]);
        assert_eq!(words_of(reasons.into_iter(), 1).len(), 1);
    }
}
