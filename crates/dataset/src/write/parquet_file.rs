//! Parquet by the crate's column writers: texts that may be absent, in groups of rows.

use super::columns;
use crate::Row;
use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{ByteArray, ByteArrayType},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use std::{io::Write, sync::Arc};

/// Rows of a group: what is held in memory while writing.
const GROUP: usize = 50_000;

pub(super) fn write(out: impl Write + Send, rows: &[Row]) -> std::io::Result<()> {
    groups(out, rows).map_err(std::io::Error::other)
}

fn groups(out: impl Write + Send, rows: &[Row]) -> Result<(), ParquetError> {
    let columns = columns(rows);
    let fields: String = columns.iter().map(|(name, _)| format!("OPTIONAL BYTE_ARRAY {name} (UTF8); ")).collect();
    let schema = parse_message_type(&format!("message rows {{ {fields}}}"))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
    for rows in rows.chunks(GROUP) {
        let mut group = file.next_row_group()?;
        for (_, value) in &columns {
            let Some(mut column) = group.next_column()? else { break };
            let values: Vec<ByteArray> = rows.iter().filter_map(value).map(ByteArray::from).collect();
            let there: Vec<i16> = rows.iter().map(|row| i16::from(value(row).is_some())).collect();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&there), None)?;
            column.close()?;
        }
        group.close()?;
    }
    file.close()?;
    Ok(())
}
