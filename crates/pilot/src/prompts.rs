//! Prompts for a model that is given: instructions and examples, and the search for better ones.
//!
//! Owns what a prompt is and its file ([`Prompt`]), instructions that need no model to write them ([`wording`]), choices
//! of examples ([`examples`]), the race in which bad prompts are dropped early ([`race`]), the search that makes entrants
//! for it ([`search`]) and the verdict on rows that had no part in it ([`verdict`]). It asks no model itself: the command
//! line puts entrants to one with the same [`crate::run::Runner`] that measures models, and the gateway serves a prompt's
//! file with the same [`Picker`].

pub mod examples;
pub mod race;
pub mod search;
pub mod verdict;
pub mod wording;

use crate::run::{Task, prompt::opening, shots::Picker};
use serde::{Deserialize, Serialize};
use std::path::Path;
use understudy_core::{Error, Message, Result, hash::sha256_hex};
use understudy_dataset::Row;

/// Version of the file.
const VERSION: u32 = 1;
/// Examples are always the same, in their order.
pub const FIXED: &str = "fixed";
/// Examples are picked by shared words.
pub const WORDS: &str = "words";
/// Bytes of the largest file that is read.
const MOST_BYTES: u64 = 64 << 20;

/// An example: a text and its right answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The text.
    pub text: String,
    /// The answer.
    pub answer: String,
}

/// What stands before a text when a model is asked about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    version: u32,
    /// What it asks for.
    pub task: Task,
    /// The labels of a classification, in the order of the instruction.
    pub labels: Vec<String>,
    /// The instruction; may be empty.
    pub instruction: String,
    /// Examples in each prompt.
    pub shots: usize,
    /// How they are picked from `examples`: [`FIXED`], [`WORDS`], or an encoder's name.
    pub shots_by: String,
    /// The examples to show, or to pick from.
    pub examples: Vec<Example>,
}

impl Prompt {
    /// A prompt whose parts fit together.
    ///
    /// # Errors
    /// `Invalid` when it shows more examples than it has.
    pub fn new(
        task: Task,
        labels: Vec<String>,
        instruction: String,
        (shots, shots_by): (usize, String),
        examples: Vec<Example>,
    ) -> Result<Self> {
        let prompt = Self { version: VERSION, task, labels, instruction, shots, shots_by, examples };
        prompt.check().map(|()| prompt)
    }

    fn check(&self) -> Result<()> {
        if self.version != VERSION {
            let what = format!("read a prompt: it has version {}, this program knows {VERSION}", self.version);
            return Err(Error::invalid(format!("{what}; search it anew with `adapt prompts`")));
        }
        if self.shots > self.examples.len() {
            return Err(Error::invalid(format!(
                "read a prompt: it shows {} examples and has {}",
                self.shots,
                self.examples.len()
            )));
        }
        if self.shots > 0 && self.shots_by.trim().is_empty() {
            return Err(Error::invalid("read a prompt: `shots_by` says how examples are picked: fixed or words"));
        }
        Ok(())
    }

    /// Reads a prompt's file.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Invalid` when it is no prompt.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let missing = |e: std::io::Error| Error::not_found(format!("read the prompt {shown}: {e}"));
        if std::fs::metadata(path).map_err(missing)?.len() > MOST_BYTES {
            return Err(Error::invalid(format!("read the prompt {shown}: it is larger than {} MB", MOST_BYTES >> 20)));
        }
        let bytes = std::fs::read(path).map_err(missing)?;
        let prompt: Self = serde_json::from_slice(&bytes).map_err(|e| {
            Error::invalid(format!("read the prompt {shown}: {e}; `adapt prompts` writes such files as prompt.json"))
        })?;
        prompt.check().map_err(|e| e.context(format!("use the prompt {shown}")))?;
        Ok(prompt)
    }

    /// The instruction, where there is one.
    #[must_use]
    pub fn told(&self) -> Option<&str> {
        Some(self.instruction.as_str()).filter(|text| !text.is_empty())
    }

    /// The file's content.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("texts and numbers are JSON");
        json.push(b'\n');
        json
    }

    /// SHA-256 of what it says: another prompt is another model to whoever relies on the answers.
    #[must_use]
    pub fn hash(&self) -> String {
        sha256_hex(&self.to_json())
    }

    /// What picks the examples; `None` where an encoder does.
    #[must_use]
    pub fn picker(&self) -> Option<Picker> {
        if self.shots == 0 {
            return Some(Picker::in_order(0));
        }
        match self.shots_by.as_str() {
            FIXED => Some(Picker::in_order(self.examples.len())),
            WORDS => {
                let texts: Vec<&str> = self.examples.iter().map(|example| example.text.as_str()).collect();
                Some(Picker::by_words(&texts))
            }
            _ => None,
        }
    }

    /// What stands before `text`.
    #[must_use]
    pub fn opening(&self, picker: &Picker, text: &str) -> Vec<Message> {
        let shots = picker.pick(text, self.shots);
        let shots = shots.iter().map(|&at| (self.examples[at].text.as_str(), self.examples[at].answer.as_str()));
        opening(&self.instruction, shots)
    }

    /// The examples as rows that say what is right.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let row = |(index, example): (usize, &Example)| {
            let classify = self.task == Task::Classify;
            Row {
                id: format!("example {index}"),
                text: example.text.clone(),
                label: classify.then(|| example.answer.clone()),
                references: if classify { Vec::new() } else { vec![example.answer.clone()] },
                ..Row::default()
            }
        };
        self.examples.iter().enumerate().map(row).collect()
    }
}

#[cfg(test)]
mod tests;
