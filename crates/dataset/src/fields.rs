//! Which field means what: named by the user, or found by its usual names and by what it holds.

use crate::format::Record;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use understudy_core::{Error, Result};

/// Names of fields or columns, as far as the user named them; the others are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// The text to work on.
    pub text: Option<String>,
    /// The right label.
    pub label: Option<String>,
    /// The right answer or answers.
    pub reference: Option<String>,
    /// The id; without one, rows are numbered.
    pub id: Option<String>,
    /// Subject or slice.
    pub group: Option<String>,
    /// Where a row comes from.
    pub source: Option<String>,
    /// When a row was recorded.
    pub time: Option<String>,
}

/// The fields that are read, by meaning; `None` where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    /// A conversation: a list of objects with `role` and `content`.
    pub messages: Option<String>,
    /// The text; `None` when the conversation holds it.
    pub text: Option<String>,
    /// Instructions.
    pub system: Option<String>,
    /// The label.
    pub label: Option<String>,
    /// The right answer or answers.
    pub reference: Option<String>,
    /// The id.
    pub id: Option<String>,
    /// Subject or slice.
    pub group: Option<String>,
    /// Origin.
    pub source: Option<String>,
    /// Time.
    pub time: Option<String>,
}

impl Mapping {
    /// What was found, in the order of importance: (meaning, field).
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, &str)> {
        [
            ("messages", &self.messages),
            ("text", &self.text),
            ("system", &self.system),
            ("label", &self.label),
            ("reference", &self.reference),
            ("id", &self.id),
            ("group", &self.group),
            ("source", &self.source),
            ("time", &self.time),
        ]
        .into_iter()
        .filter_map(|(meaning, field)| Some((meaning, field.as_deref()?)))
        .collect()
    }
}

/// Usual names, the more telling first. A label's name beside its number (`label_text`) goes before the number.
const TEXT: &[&str] = &[
    "text",
    "prompt",
    "question",
    "input",
    "query",
    "utterance",
    "sentence",
    "content",
    "body",
    "message",
    "document",
    "article",
    "dialogue",
    "conversation",
    "transcript",
    "abstract",
    "review",
    "tweet",
    "ocr_text",
    "instruction",
    "narrative",
    "description",
    "title",
];
const LABEL: &[&str] = &[
    "label_text",
    "label_name",
    "label",
    "labels",
    "intent",
    "class",
    "class_name",
    "category",
    "gold",
    "target_label",
    "sentiment",
    "emotion",
    "topic",
    "y",
];
const REFERENCE: &[&str] = &[
    "reference",
    "references",
    "answer",
    "answers",
    "summary",
    "highlights",
    "completion",
    "output",
    "response",
    "expected",
    "expected_output",
    "ideal",
    "target",
    "targets",
    "final_decision",
    "json",
    "entities",
];
const ID: &[&str] = &["id", "_id", "uid", "uuid", "guid", "row_id", "example_id", "idx"];
const GROUP: &[&str] = &["group", "domain", "subject", "slice", "section", "language", "lang", "topic", "category"];
const SOURCE: &[&str] = &["source", "origin", "dataset", "file"];
const TIME: &[&str] = &["time", "timestamp", "created_at", "created", "date", "datetime", "year"];
const SYSTEM: &[&str] = &["system", "system_prompt"];
const MESSAGES: &[&str] = &["messages", "conversations", "chat"];

/// Records from which fields are found.
const LOOKED_AT: usize = 200;

impl Fields {
    /// Finds the fields of `records`; what the user named must exist.
    ///
    /// # Errors
    /// `Invalid` when a named field does not exist or nothing can be taken for the text; both list the fields there
    /// are.
    pub(crate) fn find(&self, name: &str, records: &[Record]) -> Result<Mapping> {
        let seen = Seen::of(&records[..records.len().min(LOOKED_AT)]);
        let known = seen.names.join(", ");
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let named = |field: &Option<String>, flag: &str| match field {
            Some(field) if !records.iter().any(|r| r.fields.contains_key(field)) => {
                Err(Error::invalid(format!("read dataset {name}: there is no `{field}`; the fields are {known}"))
                    .with_param(flag))
            }
            field => Ok(field.clone()),
        };
        let mut mapping = Mapping {
            messages: None,
            text: named(&self.text, "text")?,
            system: None,
            label: named(&self.label, "label")?,
            reference: named(&self.reference, "reference")?,
            id: named(&self.id, "id")?,
            group: named(&self.group, "group")?,
            source: named(&self.source, "source")?,
            time: named(&self.time, "time")?,
        };
        for (_, field) in mapping.pairs() {
            taken.insert(field.to_owned());
        }
        let mut pick = |usual: &[&str], fits: &dyn Fn(&Field) -> bool| {
            let found = usual.iter().find_map(|usual| {
                seen.names
                    .iter()
                    .find(|n| n.eq_ignore_ascii_case(usual) && !taken.contains(*n) && fits(&seen.fields[*n]))
            });
            found
                .inspect(|field| {
                    taken.insert((*field).clone());
                })
                .cloned()
        };
        if mapping.text.is_none() {
            mapping.messages = pick(MESSAGES, &|field| field.conversations);
        }
        if mapping.messages.is_none() && mapping.text.is_none() {
            mapping.text = pick(TEXT, &|field| field.texts);
        }
        mapping.id = mapping.id.take().or_else(|| pick(ID, &|field| field.scalars && field.distinct));
        mapping.system = pick(SYSTEM, &|field| field.texts);
        mapping.label = mapping.label.take().or_else(|| pick(LABEL, &|field| field.scalars));
        mapping.label = mapping.label.take().or_else(|| pick(LABEL, &|field| field.lists));
        mapping.reference = mapping.reference.take().or_else(|| pick(REFERENCE, &|_| true));
        mapping.time = mapping.time.take().or_else(|| pick(TIME, &|field| field.scalars));
        mapping.source = mapping.source.take().or_else(|| pick(SOURCE, &|field| field.scalars));
        mapping.group = mapping.group.take().or_else(|| pick(GROUP, &|field| field.scalars));
        if mapping.text.is_none() && mapping.messages.is_none() {
            // No usual name: the field with the longest texts.
            let longest = seen.names.iter().filter(|n| !taken.contains(*n) && seen.fields[*n].texts);
            mapping.text = longest.max_by_key(|n| seen.fields[*n].bytes).filter(|n| seen.fields[*n].bytes > 0).cloned();
        }
        if mapping.text.is_none() && mapping.messages.is_none() {
            return Err(Error::invalid(format!(
                "read dataset {name}: no field looks like the text; name it with --text (the fields are {known})"
            ))
            .with_param("text"));
        }
        Ok(mapping)
    }
}

/// What a field holds in the records looked at.
#[derive(Debug, Default)]
struct Field {
    texts: bool,
    scalars: bool,
    /// Lists of texts or numbers.
    lists: bool,
    conversations: bool,
    distinct: bool,
    bytes: usize,
}

struct Seen {
    /// In the file's order.
    names: Vec<String>,
    fields: BTreeMap<String, Field>,
}

impl Seen {
    fn of(records: &[Record]) -> Self {
        let mut names: Vec<String> = Vec::new();
        for record in records {
            for name in record.fields.keys() {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        let fields = names
            .iter()
            .map(|name| {
                let values = || records.iter().filter_map(|r| r.fields.get(name)).filter(|v| !v.is_null());
                let mut unique = BTreeSet::new();
                let field = Field {
                    texts: values().next().is_some() && values().all(Value::is_string),
                    scalars: values().next().is_some() && values().all(|v| !v.is_array() && !v.is_object()),
                    lists: values().next().is_some() && values().all(is_list),
                    conversations: values().next().is_some() && values().all(is_conversation),
                    distinct: values().all(|v| unique.insert(v.to_string())),
                    bytes: values().filter_map(Value::as_str).map(str::len).sum(),
                };
                (name.clone(), field)
            })
            .collect();
        Self { names, fields }
    }
}

fn is_list(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(|item| item.is_string() || item.is_number()))
}

fn is_conversation(value: &Value) -> bool {
    let is_message = |message: &Value| message.get("role").is_some_and(Value::is_string);
    value.as_array().is_some_and(|messages| !messages.is_empty() && messages.iter().all(is_message))
}
