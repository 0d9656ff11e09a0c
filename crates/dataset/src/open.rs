//! From a path to rows: sees compression and format, unpacks, parses, maps.

use crate::{
    Dataset, Fields, Format,
    format::{read_array, read_csv, read_lines, read_parquet, rows::rows},
    spans::unfold,
};
use bytes::Bytes;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};
use understudy_core::{Error, Result};

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP: [u8; 2] = [0x1f, 0x8b];
const PARQUET: &[u8; 4] = b"PAR1";

/// Opens a text file; zstandard and gzip are seen by their first bytes and unpacked.
///
/// # Errors
/// `NotFound` when it cannot be opened.
pub fn lines(path: &Path) -> Result<Box<dyn BufRead>> {
    let failed = |e: std::io::Error| Error::not_found(format!("read {}: {e}", path.display()));
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(Error::not_found(format!("read {}: it is a folder; name a file in it", path.display())));
    }
    unpacked(BufReader::new(file)).map_err(failed)
}

fn unpacked(mut reader: impl BufRead + 'static) -> std::io::Result<Box<dyn BufRead>> {
    let start = reader.fill_buf()?;
    if start.starts_with(&ZSTD) {
        Ok(Box::new(BufReader::new(zstd::Decoder::with_buffer(reader)?)))
    } else if start.starts_with(&GZIP) {
        Ok(Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(reader))))
    } else {
        Ok(Box::new(reader))
    }
}

/// Reads a data set. The format follows from the file's first bytes and its ending: `.jsonl`, `.json`, `.csv`, `.tsv`,
/// `.parquet`, each also packed with `.zst` or `.gz`; chat transcripts and recorded outcomes are seen by their fields.
///
/// # Errors
/// `NotFound` when the file cannot be opened; `Data`, naming the line, when a row is broken; `Invalid` when a named
/// field does not exist or no field looks like the text.
pub fn read(path: &Path, fields: &Fields) -> Result<Dataset> {
    let name = path.display().to_string();
    let reader = lines(path)?;
    parse(&name, &ending(path), reader, fields)
}

/// Reads a data set from memory; `name` with its ending stands for the path.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(name: &str, bytes: Bytes, fields: &Fields) -> Result<Dataset> {
    let failed = |e: std::io::Error| Error::data(format!("read dataset {name}: {e}"));
    let reader = unpacked(BufReader::new(std::io::Cursor::new(bytes))).map_err(failed)?;
    parse(name, &ending(Path::new(name)), reader, fields)
}

fn parse(name: &str, ending: &str, mut reader: Box<dyn BufRead>, fields: &Fields) -> Result<Dataset> {
    let failed = |e: std::io::Error| Error::data(format!("read dataset {name}: {e}"));
    let start = reader.fill_buf().map_err(failed)?;
    let is_parquet = start.starts_with(PARQUET);
    let first = start.iter().find(|b| !b.is_ascii_whitespace() && ![0xef, 0xbb, 0xbf].contains(*b)).copied();
    let format = match ending {
        _ if is_parquet => Format::Parquet,
        "csv" => Format::Csv,
        "tsv" | "tab" => Format::Tsv,
        "parquet" => return Err(Error::data(format!("read dataset {name}: it is not a Parquet file"))),
        _ if first == Some(b'[') => Format::Json,
        _ => Format::Jsonl,
    };
    let mut records = match format {
        Format::Csv => read_csv(name, reader, b',')?,
        Format::Tsv => read_csv(name, reader, b'\t')?,
        Format::Json => read_array(name, reader)?,
        Format::Parquet => {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map_err(failed)?;
            read_parquet(name, Bytes::from(bytes))?
        }
        _ => read_lines(name, reader)?,
    };
    unfold(name, &mut records)?;
    let (rows, mapping, format) = rows(name, records, format, fields)?;
    Ok(Dataset { name: name.to_owned(), format, mapping, rows })
}

/// The file's ending below its compression, in lower case.
fn ending(path: &Path) -> String {
    let of = |path: &Path| path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    match of(path).as_str() {
        "zst" | "zstd" | "gz" => of(Path::new(path.file_stem().unwrap_or_default())),
        ending => ending.to_owned(),
    }
}

#[cfg(test)]
mod tests;
