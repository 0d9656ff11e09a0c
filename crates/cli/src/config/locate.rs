//! Finds the line of a key, so that an error can point at it.

use toml_edit::{Document, Item};
use understudy_core::{Error, Result};

/// A configuration's text with the places of its keys.
pub(super) struct Located {
    name: String,
    document: Document<String>,
}

impl Located {
    pub(super) fn new(name: &str, text: &str) -> Result<Self> {
        let document = Document::parse(text.to_owned()).map_err(|e| {
            let line = e.span().map_or(0, |span| line_of(text, span.start));
            Error::invalid(format!("read configuration {name}: line {line}: {}", e.message()))
        })?;
        Ok(Self { name: name.to_owned(), document })
    }

    /// A syntax or type error of the TOML reader.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> Error {
        let line = error.span().map_or(0, |span| line_of(self.document.raw(), span.start));
        let message = error.message().replace('\n', "; ");
        Error::invalid(format!("read configuration {}: line {line}: {message}", self.name))
    }

    /// A value that is well-formed and wrong. Where the key itself is not written, its nearest parent is named.
    pub(super) fn wrong(&self, path: &[&str], what: &str) -> Error {
        let key = path.join(".");
        Error::invalid(format!("read configuration {}: line {}: {key} is {what}", self.name, self.line(path)))
            .with_param(key)
    }

    /// Names of the tables below `[table.…]`, in the order of the file.
    pub(super) fn keys(&self, table: &str) -> Vec<String> {
        let Some(table) = self.document.get(table).and_then(Item::as_table_like) else { return Vec::new() };
        let mut keys: Vec<(usize, String)> = table
            .iter()
            .map(|(key, item)| (item.span().map_or(usize::MAX, |span| span.start), key.to_owned()))
            .collect();
        keys.sort();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    fn line(&self, path: &[&str]) -> usize {
        let mut item = self.document.as_item();
        let mut start = None;
        for key in path {
            let Some(table) = item.as_table_like() else { break };
            let Some((found, value)) = table.get_key_value(key) else { break };
            start = found.span().or_else(|| value.span()).map(|span| span.start).or(start);
            item = value;
        }
        start.map_or(1, |start| line_of(self.document.raw(), start))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}
