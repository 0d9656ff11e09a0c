//! Reports: one HTML file that needs no network, and the same figures as JSON beside it. The verdict comes first, the
//! evidence after it, and each figure with the command that gives it again.
//!
//! Draws what it is given; measures and decides nothing. `pilot`'s commands fill a [`Report`]; the demo lays out its own
//! page with the same [`document`], [`plot`] and [`charts`].

pub mod charts;
pub mod numbers;
mod page;
pub mod plot;

#[cfg(test)]
mod tests;

pub use page::{document, render};

use serde::Serialize;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result};

/// Everything a report says, in the order in which it says it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What it is about: the browser's title and the line above the verdict.
    pub title: String,
    /// The verdict in a sentence that a manager understands.
    pub verdict: String,
    /// Whether the verdict is good news, bad news or neither.
    pub tone: Tone,
    /// What the verdict rests on: a short paragraph.
    pub lead: String,
    /// Three to five numbers for the first screen.
    pub figures: Vec<KeyFigure>,
    /// The evidence.
    pub sections: Vec<Section>,
    /// Commands that give the figures again: (what, command).
    pub commands: Vec<(String, String)>,
    /// When it was written, for people.
    pub written: String,
}

/// How the verdict is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Neither good nor bad.
    #[default]
    Plain,
    /// Something was refused, lost or not shown.
    Bad,
}

/// A number for the first screen.
#[derive(Debug, Clone)]
pub struct KeyFigure {
    /// What it is.
    pub name: String,
    /// The number, with its unit.
    pub number: String,
    /// Its interval, n, or what it is compared with.
    pub note: String,
}

/// A part of the evidence.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What to look for; may be empty.
    pub intro: String,
    /// Its content.
    pub blocks: Vec<Block>,
}

/// A piece of content.
#[derive(Debug, Clone)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Plots, side by side where there is room.
    Plots(Vec<Figure>),
    /// A table over the whole width.
    Table(Table),
    /// Facts: (name, value).
    Sheet(Vec<(String, String)>),
    /// Pieces that a reader opens: (title, blocks).
    Fold(String, Vec<Block>),
}

/// A plot with the sentence that says what it shows.
#[derive(Debug, Clone)]
pub struct Figure {
    /// The finding, as a sentence.
    pub title: String,
    /// How to read it.
    pub how: String,
    /// The drawing, from [`charts`].
    pub svg: String,
}

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Its heading; may be empty.
    pub title: String,
    /// Columns.
    pub columns: Vec<Column>,
    /// Rows, as many cells each as there are columns.
    pub rows: Vec<Vec<Cell>>,
    /// What must be known to read it; may be empty.
    pub note: String,
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Numbers stand on the right.
    pub numeric: bool,
}

impl Column {
    /// A column of texts.
    #[must_use]
    pub fn text(name: &str) -> Self {
        Self { name: name.to_owned(), numeric: false }
    }

    /// A column of numbers.
    #[must_use]
    pub fn number(name: &str) -> Self {
        Self { name: name.to_owned(), numeric: true }
    }
}

/// A cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// Smaller, below it: an interval.
    pub small: String,
    /// Where the reader should look first.
    pub strong: bool,
    /// Shade in [0, 1], for tables that are read as maps.
    pub shade: f64,
}

impl Cell {
    /// A text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A text with a smaller one below it.
    pub fn with(text: impl Into<String>, small: impl Into<String>) -> Self {
        Self { text: text.into(), small: small.into(), ..Self::default() }
    }

    /// In bold.
    #[must_use]
    pub fn strong(self) -> Self {
        Self { strong: true, ..self }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// Writes the report to `html`, and `figures` beside it with the ending `.json`. Each file is complete or not there.
///
/// # Errors
/// `Data` when a file cannot be written.
pub fn write(html: &Path, report: &Report, figures: &impl Serialize) -> Result<Vec<PathBuf>> {
    let json = serde_json::to_string_pretty(figures).map_err(|e| Error::internal(format!("write the report: {e}")))?;
    let beside = html.with_extension("json");
    write_file(html, render(report).as_bytes())?;
    write_file(&beside, json.as_bytes())?;
    Ok(vec![html.to_owned(), beside])
}

/// Writes a file whole: to a neighbour, to the disk, then in its place.
///
/// # Errors
/// `Data` when it cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| Error::data(format!("write {}: {e}", path.display()));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let mut file = fs::File::create(&part).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}
