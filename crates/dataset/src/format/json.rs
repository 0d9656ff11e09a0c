//! JSON: one object a line, or one array of objects.

use super::{Record, fault};
use serde_json::{Map, Value};
use std::io::BufRead;
use understudy_core::{Error, Result};

/// Reads one JSON object a line. Empty lines and a byte-order mark are skipped.
pub(crate) fn read_lines(name: &str, mut reader: impl BufRead) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|e| fault(name, number, e))?;
        if read == 0 {
            break;
        }
        let bytes = line.strip_prefix(b"\xef\xbb\xbf".as_slice()).filter(|_| number == 1).unwrap_or(&line);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let text = std::str::from_utf8(bytes).map_err(|_| fault(name, number, "the text is not UTF-8"))?;
        let fields: Map<String, Value> = serde_json::from_str(text).map_err(|e| fault(name, number, reason(&e)))?;
        records.push(Record { line: number, fields });
    }
    Ok(records)
}

/// Reads one array of objects.
pub(crate) fn read_array(name: &str, reader: impl BufRead) -> Result<Vec<Record>> {
    let objects: Vec<Map<String, Value>> = serde_json::from_reader(reader)
        .map_err(|e| Error::data(format!("read dataset {name}: line {}: {}", e.line(), reason(&e))))?;
    Ok(objects.into_iter().enumerate().map(|(index, fields)| Record { line: index + 1, fields }).collect())
}

/// What is wrong, without serde's own line, which counts from the start of each line.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    match text.starts_with("invalid type") {
        true => format!("{text}; write one JSON object a line"),
        false => format!("{text} (column {})", error.column()),
    }
}
