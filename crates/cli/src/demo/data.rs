//! The demo's items: real e-mails from the catalogue's corpus, or a user's own file.

use super::corpus;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::{io::BufRead, path::Path};
use understudy_core::{Error, Result, Seed};
use understudy_dataset::lines;

/// One text.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) text: String,
    /// The right label; a user's file may have none.
    pub(super) label: Option<String>,
    /// Something that sorts by time; empty where unknown.
    pub(super) date: String,
}

/// In which order items are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// A fixed random order: tomorrow's traffic is like yesterday's, as the certificate assumes.
    Random,
    /// By date: traffic drifts, and the audits must notice.
    Time,
}

/// The corpus' mails as items.
pub(super) fn mails(dir: &Path) -> Result<Vec<Item>> {
    let mails = corpus::read(dir)?;
    Ok(mails
        .into_iter()
        .map(|mail| Item {
            text: format!("{}\n{}", mail.subject, mail.body),
            id: mail.id,
            label: Some(mail.label),
            date: mail.date,
        })
        .collect())
}

/// Rows of a user's JSONL file. The label may be missing; the large model's answers are what is learned from.
pub(super) fn rows(file: &Path, text: &str, label: &str) -> Result<Vec<Item>> {
    let name = file.display();
    let mut items = Vec::new();
    for (index, line) in lines(file)?.lines().enumerate() {
        let at = |what: String| Error::data(format!("read {name}: line {}: {what}", index + 1));
        let line = line.map_err(|e| at(e.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let row: Value = serde_json::from_str(&line).map_err(|e| at(e.to_string()))?;
        let Some(found) = row[text].as_str() else {
            return Err(at(format!("there is no text in the field `{text}`; --text names another")));
        };
        let id = row["id"].as_str().map_or_else(|| format!("line-{}", index + 1), str::to_owned);
        let date = row["date"].as_str().unwrap_or_default().to_owned();
        items.push(Item { id, text: found.to_owned(), label: row[label].as_str().map(str::to_owned), date });
    }
    if items.is_empty() {
        return Err(Error::data(format!("read {name}: the file has no rows")));
    }
    Ok(items)
}

/// Puts items in order.
pub(super) fn arrange(items: &mut [Item], order: Order, seed: Seed) -> Result<()> {
    // A fixed start whatever order the file system gave.
    items.sort_by(|a, b| a.id.cmp(&b.id));
    match order {
        Order::Random => items.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.derive("order").0)),
        Order::Time => {
            if let Some(item) = items.iter().find(|item| item.date.is_empty()) {
                return Err(Error::invalid(format!("order by time: item {} has no `date`", item.id)));
            }
            items.sort_by(|a, b| a.date.cmp(&b.date));
        }
    }
    Ok(())
}
