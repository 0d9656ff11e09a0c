//! The formats and what they have in common: every one becomes records of named values, with the line they stand on.

mod csv_file;
mod json;
mod parquet_file;
pub(crate) mod rows;

pub(crate) use csv_file::read as read_csv;
pub(crate) use json::{read_array, read_lines};
pub(crate) use parquet_file::read as read_parquet;

use serde_json::{Map, Value};
use understudy_core::Error;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// Chat transcripts, one a line, as OpenAI's fine-tuning takes them.
    Chat,
    /// Recorded outcomes: prompts with the answers of several models.
    Outcomes,
    /// The gateway's own traces.
    Traces,
}

impl Format {
    /// The name in previews and `--format`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Parquet => "parquet",
            Self::Chat => "chat",
            Self::Outcomes => "outcomes",
            Self::Traces => "traces",
        }
    }
}

/// One row as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Line (row number in Parquet and JSON arrays), from 1.
    pub(crate) line: usize,
    /// Values by field.
    pub(crate) fields: Map<String, Value>,
}

/// A fault with its place.
pub(crate) fn fault(name: &str, line: usize, what: impl std::fmt::Display) -> Error {
    Error::data(format!("read dataset {name}: line {line}: {what}"))
}
