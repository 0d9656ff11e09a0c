//! Rows to files: JSONL, CSV, Parquet, and the chats that OpenAI's fine-tuning takes. What is written reads back the
//! same. Files appear whole: they are written beside their place, brought to the disk, then renamed.

mod parquet_file;

use crate::Row;
use serde_json::{Map, Value, json};
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};
use understudy_core::{Error, Result};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values.
    Csv,
    /// Apache Parquet, Zstandard.
    Parquet,
    /// `{"messages": […]}` a line with the right answer at the end: OpenAI's fine-tuning format. Ids are not kept.
    OpenAi,
}

impl OutFormat {
    /// The ending of files.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Jsonl | Self::OpenAi => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// Writes rows to a file. Fields that nothing took ([`Row::extra`]) are not written.
///
/// # Errors
/// `Invalid` when the format cannot hold the rows (conversations and several right answers need JSON; OpenAI's format a
/// right answer); `Data` when the file cannot be written.
pub fn write(path: &Path, format: OutFormat, rows: &[Row]) -> Result<()> {
    if matches!(format, OutFormat::Csv | OutFormat::Parquet)
        && let Some(row) = rows.iter().find(|row| row.messages.len() > 1 || row.references.len() > 1)
    {
        return Err(Error::invalid(format!(
            "write {}: row `{}` has a conversation or several right answers, which a table cannot hold; write JSONL",
            path.display(),
            row.id
        ))
        .with_param("format"));
    }
    if format == OutFormat::OpenAi
        && let Some(row) = rows.iter().find(|row| row.gold().is_none())
    {
        let what = format!("write {}: row `{}` has no label and no answer to learn", path.display(), row.id);
        return Err(Error::invalid(what).with_param("format"));
    }
    write_file(path, |out| match format {
        OutFormat::Jsonl => {
            let chat = rows.iter().any(|row| row.messages.len() > 1);
            rows.iter().try_for_each(|row| line(out, &Value::Object(object(row, chat))))
        }
        OutFormat::OpenAi => {
            let gold = |row: &Row| row.gold().map(str::to_owned);
            rows.iter().try_for_each(|row| line(out, &json!({"messages": messages(row, gold(row))})))
        }
        OutFormat::Csv => csv_rows(out, rows),
        OutFormat::Parquet => parquet_file::write(out, rows),
    })
}

/// Writes a file whole: to a neighbour, to the disk, then in its place.
///
/// # Errors
/// `Data` when it cannot be written.
pub fn write_file(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let failed = |e: std::io::Error| Error::data(format!("write {}: {e}", path.display()));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let mut file = BufWriter::new(File::create(&part).map_err(failed)?);
    let written = content(&mut file).and_then(|()| file.flush()).and_then(|()| file.get_ref().sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&part, path)) {
        drop(fs::remove_file(&part));
        return Err(failed(error));
    }
    Ok(())
}

fn line(out: &mut impl Write, value: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// A row as an object. A file of conversations has `messages` in every row.
fn object(row: &Row, chat: bool) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("id".into(), json!(row.id));
    let single = row.references.len() == 1;
    if chat {
        let answer = row.references.first().filter(|_| single).cloned();
        object.insert("messages".into(), json!(messages(row, answer)));
    } else {
        object.insert("text".into(), json!(row.text));
    }
    let optional = [
        ("system", row.system.as_ref().filter(|_| !chat)),
        ("label", row.label.as_ref()),
        ("group", row.group.as_ref()),
        ("source", row.source.as_ref()),
        ("time", row.time.as_ref()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            object.insert(name.into(), json!(value));
        }
    }
    if row.references.len() > 1 || single && !chat {
        object.insert("references".into(), json!(row.references));
    }
    object
}

/// The conversation with instructions in front and `answer` at the end.
fn messages(row: &Row, answer: Option<String>) -> Vec<Value> {
    let message = |role: &str, text: &str| json!({"role": role, "content": text});
    let mut messages: Vec<Value> = row.system.iter().map(|text| message("system", text)).collect();
    if row.messages.is_empty() {
        messages.push(message("user", &row.text));
    }
    messages.extend(row.messages.iter().map(|m| message(m.role.as_str(), &m.text)));
    messages.extend(answer.map(|text| message("assistant", &text)));
    messages
}

/// A column of a table: its name, and its value in a row.
type Column = (&'static str, fn(&Row) -> Option<&str>);

/// The columns of a table. Only those that some row fills.
fn columns(rows: &[Row]) -> Vec<Column> {
    let all: [Column; 8] = [
        ("id", |row| Some(&row.id)),
        ("text", |row| Some(&row.text)),
        ("label", |row| row.label.as_deref()),
        ("reference", |row| row.references.first().map(String::as_str)),
        ("system", |row| row.system.as_deref()),
        ("group", |row| row.group.as_deref()),
        ("source", |row| row.source.as_deref()),
        ("time", |row| row.time.as_deref()),
    ];
    let filled = |value: &fn(&Row) -> Option<&str>| rows.iter().any(|row| value(row).is_some());
    all.into_iter().enumerate().filter(|(at, (_, value))| *at < 3 || filled(value)).map(|(_, column)| column).collect()
}

fn csv_rows(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    let columns = columns(rows);
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(columns.iter().map(|(name, _)| *name))?;
    for row in rows {
        csv.write_record(columns.iter().map(|(_, value)| value(row).unwrap_or_default()))?;
    }
    csv.flush()
}

#[cfg(test)]
mod tests;
