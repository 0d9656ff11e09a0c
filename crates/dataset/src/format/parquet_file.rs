//! Apache Parquet, through the crate's row reader: no arrow. Reads uncompressed, Snappy and Zstandard columns.

use super::Record;
use parquet::{
    errors::ParquetError,
    file::{
        reader::{ChunkReader, FileReader},
        serialized_reader::SerializedFileReader,
    },
};
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use understudy_core::{Error, Result};

pub(crate) fn read(name: &str, file: impl ChunkReader + 'static) -> Result<Vec<Record>> {
    // The crate's record reader panics on some damaged files; a user's file must never end the process.
    match catch_unwind(AssertUnwindSafe(|| rows(file))) {
        Ok(Ok(records)) => Ok(records),
        Ok(Err(error)) => Err(Error::data(format!("read dataset {name}: {}", reason(&error)))),
        Err(_) => Err(Error::data(format!("read dataset {name}: the Parquet file is damaged"))),
    }
}

fn rows(file: impl ChunkReader + 'static) -> Result<Vec<Record>, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let mut records = Vec::new();
    for (index, row) in reader.get_row_iter(None)?.enumerate() {
        if let Value::Object(fields) = row?.to_json_value() {
            records.push(Record { line: index + 1, fields });
        }
    }
    Ok(records)
}

fn reason(error: &ParquetError) -> String {
    let text = error.to_string();
    match text.contains("Disabled feature") || text.contains("disabled feature") {
        true => format!("{text}; write the file with Snappy, Zstandard or no compression"),
        false => text,
    }
}
