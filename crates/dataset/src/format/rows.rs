//! From records to rows, by a mapping.

use super::{Format, Record, fault};
use crate::{Fields, Mapping, Row};
use serde_json::Value;
use std::collections::HashSet;
use understudy_core::{Error, Message, Result, Role};

/// Maps records to rows and says which format they turned out to be.
pub(crate) fn rows(
    name: &str,
    records: Vec<Record>,
    format: Format,
    fields: &Fields,
) -> Result<(Vec<Row>, Mapping, Format)> {
    if records.is_empty() {
        return Err(Error::data(format!("read dataset {name}: it has no rows")));
    }
    let mapping = fields.find(name, &records)?;
    let has_models = records.iter().all(|r| r.fields.get("models").is_some_and(Value::is_object));
    let format = match format {
        Format::Jsonl if mapping.messages.is_some() => Format::Chat,
        Format::Jsonl if has_models => Format::Outcomes,
        format => format,
    };
    let mut seen = HashSet::new();
    let mut rows = Vec::with_capacity(records.len());
    for record in records {
        let line = record.line;
        let row = row(record, &mapping).map_err(|what| fault(name, line, what))?;
        if !seen.insert(row.id.clone()) {
            return Err(fault(name, line, format!("id `{}` appears twice", row.id)));
        }
        rows.push(row);
    }
    Ok((rows, mapping, format))
}

fn row(record: Record, mapping: &Mapping) -> Result<Row, String> {
    let Record { line, mut fields } = record;
    let labels = match mapping.label.as_deref().and_then(|field| Some((field, fields.get(field)?))) {
        Some((field, value)) => list(field, value)?,
        None => None,
    };
    if let (Some(field), true) = (&mapping.label, labels.is_some()) {
        fields.shift_remove(field);
    }
    let mut take = |field: &Option<String>| match field.as_deref().and_then(|field| fields.shift_remove(field)) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => scalar(&value)
            .map(Some)
            .ok_or_else(|| format!("field `{}` is not a text", field.as_deref().unwrap_or_default())),
    };
    let mut row = Row {
        line,
        id: take(&mapping.id)?.unwrap_or_else(|| line.to_string()),
        system: take(&mapping.system)?.filter(|text| !text.trim().is_empty()),
        label: take(&mapping.label)?.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()),
        group: take(&mapping.group)?,
        source: take(&mapping.source)?,
        time: take(&mapping.time)?,
        text: take(&mapping.text)?.unwrap_or_default(),
        ..Row::default()
    };
    if let Some(field) = &mapping.reference {
        row.references = fields.shift_remove(field).map(references).unwrap_or_default();
    }
    if let Some(labels) = labels {
        if row.references.is_empty() {
            row.references.push(serde_json::Value::from(labels.clone()).to_string());
        }
        row.labels = Some(labels);
    }
    if let Some(field) = &mapping.messages {
        let value = fields.shift_remove(field).unwrap_or_default();
        conversation(&value, &mut row)?;
    }
    if row.text.trim().is_empty() {
        let field = mapping.text.as_deref().unwrap_or("messages");
        return Err(match mapping.text.as_deref() {
            Some(text) if !fields.is_empty() && !fields.contains_key(text) && row.label.is_none() => {
                let there: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("the text `{field}` is missing or empty; the other fields are {}", there.join(", "))
            }
            _ => format!("the text `{field}` is missing or empty"),
        });
    }
    // An emptied map keeps its room, which would be most of a row.
    row.extra = if fields.is_empty() { serde_json::Map::new() } else { fields };
    Ok(row)
}

/// A list of labels, sorted, each once: a JSON array, also as a text (in tables).
fn list(field: &str, value: &Value) -> Result<Option<Vec<String>>, String> {
    let written: Option<Value> = value
        .as_str()
        .filter(|text| text.trim_start().starts_with('['))
        .and_then(|text| serde_json::from_str(text).ok());
    let Some(items) = written.as_ref().unwrap_or(value).as_array() else { return Ok(None) };
    let mut labels = Vec::with_capacity(items.len());
    for item in items {
        let label = scalar(item).map(|label| label.trim().to_owned()).filter(|label| !label.is_empty());
        labels.push(label.ok_or_else(|| format!("the list `{field}` holds something that is no label"))?);
    }
    labels.sort_unstable();
    labels.dedup();
    Ok(Some(labels))
}

/// A text, number or boolean as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Right answers: a text, a list of them, SQuAD's `{"text": […]}`, or a JSON object that is the answer itself.
fn references(value: Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) if items.iter().all(|v| scalar(v).is_some()) => items.iter().filter_map(scalar).collect(),
        Value::Object(object) if object.get("text").is_some_and(Value::is_array) && object.len() <= 2 => {
            references(object["text"].clone())
        }
        Value::Object(_) | Value::Array(_) => vec![value.to_string()],
        value => scalar(&value).filter(|text| !text.trim().is_empty()).into_iter().collect(),
    }
}

/// A transcript: the system messages, the conversation before the last answer, and that answer as the reference.
fn conversation(value: &Value, row: &mut Row) -> Result<(), String> {
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or("the conversation is missing or empty")?;
    let mut messages = Vec::with_capacity(list.len());
    for (index, message) in list.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str);
        let role = role.ok_or_else(|| format!("message {} has no role", index + 1))?;
        let text = match message.get("content") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
                texts.join("\n")
            }
            Some(_) => return Err(format!("the content of message {} is neither a text nor a list", index + 1)),
        };
        let role = match role {
            "system" | "developer" => Role::System,
            "user" | "human" => Role::User,
            "assistant" | "gpt" => Role::Assistant,
            "tool" | "function" => Role::Tool,
            other => Role::Other(other.to_owned()),
        };
        messages.push(Message { role, text });
    }
    if messages.last().is_some_and(|last| last.role == Role::Assistant) {
        let answer = messages.pop().map(|m| m.text).unwrap_or_default();
        if row.references.is_empty() && !answer.trim().is_empty() {
            row.references.push(answer);
        }
    }
    let (system, messages): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| m.role == Role::System);
    if row.system.is_none() && !system.is_empty() {
        row.system = Some(system.iter().map(|m| m.text.as_str()).collect::<Vec<_>>().join("\n"));
    }
    let last = messages.iter().rev().find(|m| m.role == Role::User).ok_or("the conversation has no user message")?;
    row.text = last.text.clone();
    row.messages = messages;
    Ok(())
}
