//! Values separated by commas or tabs; the first row names the columns. An empty cell is an absent value.

use super::{Record, fault};
use serde_json::{Map, Value};
use std::io::Read;
use understudy_core::Result;

pub(crate) fn read(name: &str, reader: impl Read, separator: u8) -> Result<Vec<Record>> {
    let mut csv = csv::ReaderBuilder::new().delimiter(separator).from_reader(reader);
    let header = csv.headers().map_err(|e| fault(name, 1, e))?.clone();
    let header: Vec<&str> = header.iter().map(|h| h.trim_start_matches('\u{feff}').trim()).collect();
    if let Some((index, column)) = header.iter().enumerate().find(|(i, h)| header[..*i].contains(h)) {
        return Err(fault(name, 1, format!("column {} has the name `{column}` again; rename it", index + 1)));
    }
    let mut records = Vec::new();
    for record in csv.records() {
        let record = record.map_err(|e| {
            let line = e.position().map_or(0, csv::Position::line);
            fault(name, usize::try_from(line).unwrap_or(0), e)
        })?;
        let line = usize::try_from(record.position().map_or(0, csv::Position::line)).unwrap_or(0);
        let cells = header.iter().zip(record.iter()).map(|(name, cell)| {
            let value = if cell.is_empty() { Value::Null } else { Value::String(cell.to_owned()) };
            ((*name).to_owned(), value)
        });
        records.push(Record { line, fields: cells.collect::<Map<_, _>>() });
    }
    Ok(records)
}
