//! Figures that take long to measure, in a file, one JSON object a line: what is there is not measured again.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result, hash::sha256_hex};
use understudy_dataset::Example;

/// The file, if one is used, and what it had.
#[derive(Debug)]
pub(super) struct Kept {
    file: Option<PathBuf>,
    lines: Vec<Value>,
}

impl Kept {
    /// Reads a file, which need not be there yet.
    pub(super) fn read(file: Option<&Path>) -> Result<Self> {
        let text = match file.map(std::fs::read_to_string) {
            None => String::new(),
            Some(Ok(text)) => text,
            Some(Err(e)) if e.kind() == ErrorKind::NotFound => String::new(),
            Some(Err(e)) => return Err(Error::data(format!("read the figures to keep: {e}"))),
        };
        // The last line may have been cut off.
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Self { file: file.map(Path::to_owned), lines })
    }

    /// The figures with this key; new ones are written down at once.
    pub(super) fn or_measure<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let found = self.lines.iter().find(|line| line["key"] == key);
        if let Some(found) = found.and_then(|line| T::deserialize(line).ok()) {
            return Ok(found);
        }
        let figures = measure()?;
        if let Some(file) = &self.file {
            let failed = |e: &dyn std::fmt::Display| Error::data(format!("write {}: {e}", file.display()));
            let mut line = serde_json::to_value(&figures).map_err(|e| failed(&e))?;
            line["key"] = key.into();
            let mut out = std::fs::OpenOptions::new().create(true).append(true).open(file).map_err(|e| failed(&e))?;
            out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.sync_all()).map_err(|e| failed(&e))?;
        }
        Ok(figures)
    }
}

/// What is measured, in words, and the examples: other data, another key.
pub(super) fn key<'e>(what: &str, examples: impl Iterator<Item = &'e Example>) -> String {
    let mut told = what.to_owned();
    for example in examples {
        told.extend([example.text.as_str(), "\u{1}", example.label.as_str(), "\u{2}"]);
    }
    sha256_hex(told.as_bytes())[..16].to_owned()
}
