//! Data sets: rows of text with labels, references or conversations, read from the formats that teams have, cleaned
//! and divided.
//!
//! One way in: [`read`] opens a file, sees its format and compression, finds out which field means what, and gives
//! [`Row`]s. It trains nothing that is kept, evaluates nothing and prints nothing. Callers: `adapt` for its examples,
//! `pilot` for what it measures on, the command line for previews.

pub mod clean;
pub mod doubts;
mod example;
pub mod fields;
mod format;
pub mod leakage;
mod learned;
pub mod near;
mod open;
pub mod prepare;
pub mod queue;
pub mod redact;
pub mod row;
pub mod spans;
pub mod split;
pub mod summary;
pub mod write;

pub use clean::{Cleaned, Conflict, clean, text_hash};
pub use example::{Example, Teacher, from_outcomes};
pub use fields::{Fields, Mapping};
pub use format::Format;
pub use leakage::{Leakage, leakage};
pub use learned::Learned;
pub use open::{lines, read, read_bytes};
pub use row::{Dataset, Row, rows_hash};
pub use split::{Part, Shares, part_of};
pub use summary::{Summary, summarise};
pub use write::{OutFormat, write};
