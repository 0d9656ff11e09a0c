//! Evaluation: any number of models on the rows of a data set, one model after the other, each answer kept as soon as
//! it is there.
//!
//! Owns prompts, few-shot examples, the journal, the cost cap, early stopping and what the answers are worth. It loads no
//! model and opens no connection: models arrive as [`Backend`]s or as recorded answers, time as a [`Clock`]. The
//! command line composes it; [`page`] makes the report.

pub mod ask;
pub mod baseline;
mod call;
pub mod figures;
pub mod journal;
pub mod numbers;
pub mod page;
pub mod preference;
pub mod prompt;
pub mod shots;
pub mod verdict;
pub mod votes;
pub mod words;

pub use ask::{Answers, Ended, Progress, Runner};
pub use figures::{Figures, figures};
pub use journal::Journal;
pub use preference::{Judged, Matches};
pub use verdict::{Finding, Paired, judge};

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use understudy_core::{Backend, Error, Price, RecordedAnswer, Result};
use understudy_dataset::Row;

/// What is asked of the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One label of a list.
    Classify,
    /// All labels of a list that apply, as a JSON list.
    Labels,
    /// A number.
    Regress,
    /// A JSON object from a text.
    Extract,
    /// A shorter text.
    Summarise,
    /// An answer to a question, with or without a text.
    Answer,
    /// Free text.
    Generate,
}

impl Task {
    /// The name on the command line and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Labels => "labels",
            Self::Regress => "regress",
            Self::Extract => "extract",
            Self::Summarise => "summarise",
            Self::Answer => "answer",
            Self::Generate => "generate",
        }
    }

    /// The figure that decides, and how people call it.
    #[must_use]
    pub fn main_metric(self) -> (&'static str, &'static str) {
        match self {
            Self::Classify => ("accuracy", "right"),
            Self::Labels => ("micro_f1", "label F1"),
            Self::Regress => ("closeness", "closeness"),
            Self::Extract => ("micro_f1", "field F1"),
            Self::Summarise | Self::Generate => ("rouge_l", "ROUGE-L"),
            Self::Answer => ("token_f1", "token F1"),
        }
    }
}

/// Where a model's answers come from.
#[derive(Clone)]
pub enum Source {
    /// It is asked.
    Live(Arc<dyn Backend>),
    /// It was asked before; answers by hash of the row's text.
    Recorded(Arc<BTreeMap<String, RecordedAnswer>>),
}

/// How a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompting {
    /// It gets the bare text: a classifier.
    Bare,
    /// It gets instructions; nothing forces its answer into a form.
    Instructed,
    /// It gets instructions and can write nothing but a label (or JSON).
    Constrained,
}

/// One model that is tried.
#[derive(Clone)]
pub struct Candidate {
    /// Its name in results.
    pub name: String,
    /// What it is, for people: `head on frozen minilm, int8, trained on 9,998 rows`.
    pub what: String,
    /// Identifies the model itself: another artifact under the same name is another model.
    pub fingerprint: String,
    /// Where answers come from.
    pub source: Source,
    /// What tokens cost; `None` when unknown.
    pub price: Option<Price>,
    /// How it is asked.
    pub prompting: Prompting,
    /// Requests under way at the same time; latencies are those at this load.
    pub concurrency: usize,
    /// Rows it is asked about at most: for models that are slow.
    pub limit: Option<usize>,
}

/// What is measured, and within which limits.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The task.
    pub task: Task,
    /// Labels of a classification, in the order in which prompts list them.
    pub labels: Vec<String>,
    /// Of numbers: the least and the greatest right one, which differ.
    pub range: Option<(f64, f64)>,
    /// The label of what is outside the others.
    pub out_of_scope: Option<String>,
    /// Instructions in place of the task's own.
    pub instruction: Option<String>,
    /// Examples in each prompt.
    pub shots: usize,
    /// What they are similar by: `words`, or an encoder's name.
    pub shots_by: String,
    /// Longest answer in tokens.
    pub max_tokens: u32,
    /// Most that may be spent, over all models.
    pub max_cost_usd: Option<f64>,
    /// Requests a minute to each model.
    pub per_minute: Option<u32>,
    /// Stop a model as soon as its verdict against the baseline is certain, with this margin and error.
    pub stop_early: Option<Margin>,
    /// Draw answers at random; `None` for the most likely ones.
    pub sampled: Option<Sampled>,
}

/// How an answer is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sampled {
    /// Temperature, above 0.
    pub temperature: f32,
    /// Another seed, another answer, where the model keeps to seeds.
    pub seed: u64,
}

/// A margin of non-inferiority.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Margin {
    /// Largest loss of quality that is accepted.
    pub epsilon: f64,
    /// Probability with which the verdict may be wrong.
    pub delta: f64,
}

/// A row that was answered.
#[derive(Debug, Clone)]
pub struct Asked<'r> {
    /// The row.
    pub row: &'r Row,
    /// The answer, with its quality where the row says what is right.
    pub answer: RecordedAnswer,
}

/// Waits without blocking; the runtime's own.
pub type Sleep = dyn Fn(Duration) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync;

impl Plan {
    /// Checks what only the plan can know.
    ///
    /// # Errors
    /// `Invalid` with the remedy.
    pub fn check(&self, candidates: &[Candidate]) -> Result<()> {
        if candidates.is_empty() {
            return Err(Error::invalid("run the pilot: name at least one model with --model"));
        }
        let mut names: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!("run the pilot: the model `{}` is named twice", twice[0])));
        }
        if matches!(self.task, Task::Classify | Task::Labels) && self.labels.len() < 2 {
            return Err(Error::data(format!(
                "run the pilot: the rows have {} label(s); a classification needs two (--label names the field)",
                self.labels.len()
            )));
        }
        if self.task == Task::Regress && self.range.is_none_or(|(low, high)| low >= high) {
            return Err(Error::data("run the pilot: the right answers are no numbers, or all the same one"));
        }
        if self.max_cost_usd.is_some()
            && let Some(unknown) = candidates.iter().find(|c| c.price.is_none() && matches!(c.source, Source::Live(_)))
        {
            return Err(Error::invalid(format!(
                "keep --max-cost-usd: the price of `{}` is unknown, so the budget cannot be kept; give it a price in the \
                 configuration",
                unknown.name
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
