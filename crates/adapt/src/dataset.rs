//! Examples: a text and its label. Read from JSONL, CSV or recorded outcomes; duplicates removed, contradictions
//! reported.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read},
};
use understudy_core::{Error, Outcome, Result, hash::sha256_hex};

/// A text with its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Unique within the dataset; the line number when the file has no ids.
    pub id: String,
    /// What is classified.
    pub text: String,
    /// Its label.
    pub label: String,
}

/// Names of the fields (JSON) or columns (CSV) to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// The text.
    pub text: String,
    /// The label.
    pub label: String,
    /// The id; without one, rows are numbered.
    pub id: Option<String>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { text: "text".into(), label: "label".into(), id: None }
    }
}

/// Whose labels to learn from recorded outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Teacher {
    /// The gold labels.
    Gold,
    /// The answers of this model.
    Model(String),
}

/// SHA-256 of the text with runs of white space as one space and in lower case: what counts as the same text.
#[must_use]
pub fn text_hash(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    sha256_hex(words.join(" ").as_bytes())
}

/// Reads one JSON object a line. Labels may be strings, numbers or booleans. Empty lines are skipped.
///
/// # Errors
/// `Data`, naming `name`, the line and the fault.
pub fn read_jsonl(name: &str, reader: impl BufRead, fields: &Fields) -> Result<Vec<Example>> {
    let mut rows = Rows::new(name);
    for (index, line) in reader.lines().enumerate() {
        let number = index + 1;
        let line = line.map_err(|e| rows.fault(number, &e.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line).map_err(|e| rows.fault(number, &e.to_string()))?;
        let field = |field: &str| {
            use serde_json::Value::{Bool, Number, String};
            match object.get(field) {
                Some(String(text)) => Ok(text.clone()),
                Some(value @ (Number(_) | Bool(_))) => Ok(value.to_string()),
                None => Err(rows.fault(number, &missing(field, object.keys().map(std::string::String::as_str)))),
                Some(_) => Err(rows.fault(number, &format!("field `{field}` is not a text"))),
            }
        };
        let id = fields.id.as_deref().map(field).transpose()?;
        let (text, label) = (field(&fields.text)?, field(&fields.label)?);
        rows.push(number, id, text, label)?;
    }
    rows.done()
}

/// Reads comma- or otherwise separated values whose first row names the columns.
///
/// # Errors
/// `Data`, naming `name`, the line and the fault.
pub fn read_csv(name: &str, reader: impl Read, separator: u8, fields: &Fields) -> Result<Vec<Example>> {
    let mut rows = Rows::new(name);
    let mut csv = csv::ReaderBuilder::new().delimiter(separator).from_reader(reader);
    let header = csv.headers().map_err(|e| rows.fault(1, &e.to_string()))?.clone();
    let column = |field: &str| {
        header.iter().position(|h| h == field).ok_or_else(|| rows.fault(1, &missing(field, header.iter())))
    };
    let id = fields.id.as_deref().map(column).transpose()?;
    let (text, label) = (column(&fields.text)?, column(&fields.label)?);
    for record in csv.records() {
        let record = record.map_err(|e| {
            let line = e.position().map_or(0, csv::Position::line);
            rows.fault(usize::try_from(line).unwrap_or(0), &e.to_string())
        })?;
        let line = usize::try_from(record.position().map_or(0, csv::Position::line)).unwrap_or(0);
        rows.push(line, id.map(|i| record[i].to_owned()), record[text].to_owned(), record[label].to_owned())?;
    }
    rows.done()
}

/// Examples from recorded outcomes: the prompt, and the label that `teacher` gave it. Outcomes without one are left
/// out.
///
/// # Errors
/// `Data` when no outcome has such a label.
pub fn from_outcomes(outcomes: &[Outcome], teacher: &Teacher) -> Result<Vec<Example>> {
    let label = |outcome: &Outcome| match teacher {
        Teacher::Gold => outcome.label.clone(),
        Teacher::Model(model) => outcome.models.get(model).and_then(|answer| answer.answer.clone()),
    };
    let example = |outcome: &Outcome| {
        let label = label(outcome).filter(|label| !label.trim().is_empty())?;
        Some(Example { id: outcome.id.clone(), text: outcome.prompt.clone(), label })
    };
    let examples: Vec<Example> = outcomes.iter().filter_map(example).collect();
    if examples.is_empty() {
        let whose = match teacher {
            Teacher::Gold => "a gold label".to_owned(),
            Teacher::Model(model) => format!("an answer of `{model}`"),
        };
        return Err(Error::data(format!("read outcomes: none of {} has {whose}", outcomes.len())));
    }
    Ok(examples)
}

/// One text with several labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Ids of the examples.
    pub ids: Vec<String>,
    /// Their labels, in the same order.
    pub labels: Vec<String>,
    /// The label of the majority, which was kept; `None` when there is none and the text was left out.
    pub kept: Option<String>,
}

/// Examples without duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// One example per text, ordered by the text's hash: the order in the file does not matter.
    pub examples: Vec<Example>,
    /// Examples that repeated an earlier text and its label, or lost against a majority.
    pub duplicates: usize,
    /// Texts with several labels.
    pub conflicts: Vec<Conflict>,
}

impl Cleaned {
    /// SHA-256 over texts and labels, whatever their order in the file.
    #[must_use]
    pub fn data_hash(&self) -> String {
        let line = |e: &Example| format!("{} {}\n", text_hash(&e.text), sha256_hex(e.label.as_bytes()));
        sha256_hex(self.examples.iter().map(line).collect::<String>().as_bytes())
    }
}

/// Keeps one example per text. Where labels contradict each other the majority wins; without one the text goes.
#[must_use]
pub fn clean(examples: Vec<Example>) -> Cleaned {
    let total = examples.len();
    let mut by_text: BTreeMap<String, Vec<Example>> = BTreeMap::new();
    for example in examples {
        by_text.entry(text_hash(&example.text)).or_default().push(example);
    }
    let mut cleaned = Cleaned { examples: Vec::with_capacity(by_text.len()), duplicates: 0, conflicts: Vec::new() };
    let mut left_out = 0;
    for mut same in by_text.into_values() {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for example in &same {
            *votes.entry(&example.label).or_default() += 1;
        }
        let most = votes.values().copied().max().unwrap_or(0);
        let mut winners = votes.iter().filter(|(_, count)| **count == most).map(|(label, _)| (*label).to_owned());
        let winner = winners.next();
        let kept = winner.filter(|_| winners.next().is_none());
        if votes.len() > 1 {
            cleaned.conflicts.push(Conflict {
                ids: same.iter().map(|e| e.id.clone()).collect(),
                labels: same.iter().map(|e| e.label.clone()).collect(),
                kept: kept.clone(),
            });
        }
        match kept.and_then(|label| same.iter().position(|e| e.label == label)) {
            Some(at) => cleaned.examples.push(same.swap_remove(at)),
            None => left_out += same.len(),
        }
    }
    cleaned.duplicates = total - cleaned.examples.len() - left_out;
    cleaned
}

/// Rows of a file as they are read.
struct Rows<'n> {
    name: &'n str,
    examples: Vec<Example>,
    seen: std::collections::HashSet<String>,
}

impl<'n> Rows<'n> {
    fn new(name: &'n str) -> Self {
        Self { name, examples: Vec::new(), seen: std::collections::HashSet::new() }
    }

    fn fault(&self, line: usize, what: &str) -> Error {
        Error::data(format!("read dataset {}: line {line}: {what}", self.name))
    }

    fn push(&mut self, line: usize, id: Option<String>, text: String, label: String) -> Result<()> {
        if text.trim().is_empty() {
            return Err(self.fault(line, "the text is empty"));
        }
        if label.trim().is_empty() {
            return Err(self.fault(line, "the label is empty"));
        }
        let id = id.unwrap_or_else(|| line.to_string());
        if !self.seen.insert(id.clone()) {
            return Err(self.fault(line, &format!("id `{id}` appears twice")));
        }
        self.examples.push(Example { id, text, label: label.trim().to_owned() });
        Ok(())
    }

    fn done(self) -> Result<Vec<Example>> {
        if self.examples.is_empty() {
            return Err(Error::data(format!("read dataset {}: it has no rows", self.name)));
        }
        Ok(self.examples)
    }
}

fn missing<'a>(field: &str, there: impl Iterator<Item = &'a str>) -> String {
    let there: Vec<&str> = there.collect();
    format!("there is no `{field}`; the fields are {}", there.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(id: &str, text: &str, label: &str) -> Example {
        Example { id: id.into(), text: text.into(), label: label.into() }
    }

    #[test]
    fn jsonl_and_csv_give_the_same_examples() {
        let fields = Fields { text: "body".into(), label: "class".into(), id: None };
        let jsonl = "{\"body\":\"a, b\",\"class\":1}\n\n{\"body\":\"c\",\"class\":true,\"x\":[]}\n";
        let csv = "x,body,class\n,\"a, b\",1\n,c,true\n";
        let strip = |v: Vec<Example>| v.into_iter().map(|e| (e.text, e.label)).collect::<Vec<_>>();
        assert_eq!(
            strip(read_jsonl("f", jsonl.as_bytes(), &fields).unwrap()),
            strip(read_csv("f", csv.as_bytes(), b',', &fields).unwrap())
        );
    }

    #[test]
    fn faults_name_the_line_and_the_fields_there_are() {
        let fields = Fields { id: Some("id".into()), ..Fields::default() };
        let ok = r#"{"id":"a","text":"t","label":"l"}"#;
        for (bad, says) in [
            (format!("{ok}\n{}", r#"{"id":"b","text":"t"}"#), "line 2: there is no `label`; the fields are id, text"),
            (format!("{ok}\n\n{ok}"), "line 3: id `a` appears twice"),
            (ok.replace("\"t\"", "[]"), "field `text` is not a text"),
            (ok.replace("\"l\"", "\" \""), "the label is empty"),
            ("[]".into(), "line 1"),
            (String::new(), "no rows"),
        ] {
            let error = read_jsonl("f.jsonl", bad.as_bytes(), &fields).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("f.jsonl"), "{error}");
        }
        let error = read_csv("f.csv", "id,text\n1,t\n".as_bytes(), b',', &fields).unwrap_err().to_string();
        assert!(error.contains("no `label`; the fields are id, text"), "{error}");
        let error = read_csv("f.csv", "id,text,label\n1,t\n".as_bytes(), b',', &fields).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn duplicates_go_majorities_win_and_ties_are_left_out() {
        let cleaned = clean(vec![
            example("1", "Hello  world", "a"),
            example("2", "hello world\n", "a"),
            example("3", "HELLO WORLD", "b"),
            example("4", "tie", "a"),
            example("5", "tie", "b"),
            example("6", "other", "b"),
        ]);
        let mut left: Vec<_> = cleaned.examples.iter().map(|e| (e.id.as_str(), e.label.as_str())).collect();
        left.sort_unstable();
        assert_eq!(left, [("1", "a"), ("6", "b")]);
        assert_eq!(cleaned.duplicates, 2);
        let mut kept: Vec<_> = cleaned.conflicts.iter().map(|c| c.kept.as_deref()).collect();
        kept.sort_unstable();
        assert_eq!(kept, [None, Some("a")]);
    }

    #[test]
    fn the_data_hash_does_not_depend_on_the_order_of_the_file() {
        let rows = vec![example("1", "x", "a"), example("2", "y", "b"), example("3", "z", "a")];
        let hash = clean(rows.clone()).data_hash();
        assert_eq!(hash, clean(rows.iter().rev().cloned().collect()).data_hash());
        let mut other = rows;
        other[0].label = "b".into();
        assert_ne!(hash, clean(other).data_hash());
    }

    #[test]
    fn outcomes_teach_gold_labels_or_a_models_answers() {
        let line = r#"{"id":"1","prompt":"p","label":"g","models":{"m":{"answer":"a"}}}"#;
        let outcomes = understudy_core::outcome::read("f", line.as_bytes()).unwrap();
        let label = |teacher| from_outcomes(&outcomes, &teacher).map(|e| e[0].label.clone());
        assert_eq!(label(Teacher::Gold).unwrap(), "g");
        assert_eq!(label(Teacher::Model("m".into())).unwrap(), "a");
        assert!(label(Teacher::Model("n".into())).unwrap_err().to_string().contains("`n`"));
    }
}
