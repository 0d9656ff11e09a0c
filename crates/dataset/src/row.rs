//! What a data set is made of: one row type for every task.

use crate::{Example, Format, Mapping, clean::text_hash};
use serde_json::{Map, Value};
use understudy_core::{Error, Message, Result, hash::sha256_hex};

/// One thing to answer, and what a right answer looks like.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Unique within the data set; the line number when the file has no ids.
    pub id: String,
    /// Line in the file (row number in Parquet), from 1.
    pub line: usize,
    /// What is classified, summarised or asked: the text, or the last user message of a conversation.
    pub text: String,
    /// Instructions that came with the row.
    pub system: Option<String>,
    /// The conversation before the answer, `text` at its end; empty when the row is only a text.
    pub messages: Vec<Message>,
    /// The right label.
    pub label: Option<String>,
    /// All right labels, sorted, where the file lists them for each text (none may apply); then `label` is `None` and the
    /// list as JSON is the reference.
    pub labels: Option<Vec<String>>,
    /// Right answers: any of them counts. JSON objects are kept as their text.
    pub references: Vec<String>,
    /// Subject or slice.
    pub group: Option<String>,
    /// Where the row comes from.
    pub source: Option<String>,
    /// When it was recorded, as written in the file.
    pub time: Option<String>,
    /// Fields that nothing above took.
    pub extra: Map<String, Value>,
}

impl Row {
    /// What a right answer is: the label, else the first reference.
    #[must_use]
    pub fn gold(&self) -> Option<&str> {
        self.label.as_deref().or_else(|| self.references.first().map(String::as_str))
    }

    /// Identifies what the row asks for, whatever its id: the hash of conversation and text.
    #[must_use]
    pub fn content_hash(&self) -> String {
        if self.messages.len() <= 1 && self.system.is_none() {
            return text_hash(&self.text);
        }
        let mut all = self.system.clone().unwrap_or_default();
        for message in &self.messages {
            all.push_str(&format!("\n{}: {}", message.role.as_str(), message.text));
        }
        text_hash(&format!("{all}\n{}", self.text))
    }

    /// What tells that a model learned from the row: the hash of the text alone, by which traffic is known, and of all.
    #[must_use]
    pub fn hashes(&self) -> [String; 2] {
        [text_hash(&self.text), self.content_hash()]
    }
}

/// Rows with their origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file, as the user wrote it.
    pub name: String,
    /// How it was written.
    pub format: Format,
    /// Which field became what.
    pub mapping: Mapping,
    /// The rows in the file's order.
    pub rows: Vec<Row>,
}

impl Dataset {
    /// What a row says in a field of the file, whether that was given a meaning or not; a meaning (`label`, `group`, …) names
    /// the field that has it.
    #[must_use]
    pub fn value(&self, row: &Row, field: &str) -> Option<String> {
        if let Some(value) = row.extra.get(field) {
            return match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
        }
        let pairs = self.mapping.pairs();
        let meaning = pairs.iter().find(|(_, of)| *of == field).or_else(|| pairs.iter().find(|(m, _)| *m == field))?.0;
        match meaning {
            "text" => Some(row.text.clone()),
            "system" => row.system.clone(),
            "label" => row.label.clone(),
            "reference" => row.references.first().cloned(),
            "id" => Some(row.id.clone()),
            "group" => row.group.clone(),
            "source" => row.source.clone(),
            "time" => row.time.clone(),
            _ => None,
        }
    }

    /// True when some row says something in the field ([`Self::value`]).
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.rows.iter().any(|row| self.value(row, field).is_some())
    }

    /// As [`rows_hash`].
    #[must_use]
    pub fn hash(&self) -> String {
        rows_hash(&self.rows)
    }

    /// Rows as texts with labels; a single reference counts as a label where there is no other.
    ///
    /// # Errors
    /// `Data`, naming the line, when a row has no text or no label.
    pub fn examples(&self) -> Result<Vec<Example>> {
        let fault = |line: usize, what: &str| Error::data(format!("read dataset {}: line {line}: {what}", self.name));
        self.rows
            .iter()
            .map(|row| {
                if row.labels.is_some() {
                    let what = "its label is a list; one label a text is needed here (`adapt finetune` learns lists)";
                    return Err(fault(row.line, what));
                }
                let label = row.gold().ok_or_else(|| match &self.mapping.label {
                    Some(field) => fault(row.line, &format!("the label `{field}` is missing or empty")),
                    None => fault(row.line, "there is no label; --label names its field"),
                })?;
                Ok(Example { id: row.id.clone(), text: row.text.clone(), label: label.trim().to_owned() })
            })
            .collect()
    }
}

/// SHA-256 over what rows ask and what is right, whatever their order.
#[must_use]
pub fn rows_hash(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let gold = row.label.iter().chain(&row.references).cloned().collect::<Vec<_>>().join("\0");
        format!("{} {}\n", row.content_hash(), sha256_hex(gold.as_bytes()))
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort_unstable();
    sha256_hex(lines.concat().as_bytes())
}
