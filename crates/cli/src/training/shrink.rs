//! A generative model in fewer bits: candidates are written, measured beside the model at 16 bits on rows that taught it
//! nothing, and thrown away again; the one that is chosen is written anew, which gives the same file.

use super::run::on_threads;
use super::whole::{self, Judges, Making, Whole};
use crate::{clock::SystemClock, compose::cores, scratch::Temporary};
use indicatif::ProgressBar;
use serde::Serialize;
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};
use understudy_adapt::{
    artifact::Existing,
    llama::{Agreement, Example, Fidelity, Reference},
};
use understudy_core::{Error, ModelName, Result, Timestamp};
use understudy_model::{
    adapted::{Adapted, Quantised, Served},
    generate::{FileType, Importance, Scorer, Speed, quantise, speed},
};

/// Tokens of the prompt whose reading is timed.
const TIMED_PROMPT: usize = 128;
/// Tokens whose writing is timed.
const TIMED_ANSWER: usize = 32;
/// Times that both are done; the fastest counts.
const ROUNDS: usize = 2;

/// What to try and how to measure it.
#[derive(Debug, Clone)]
pub(crate) struct Shrinking {
    /// Types to try, beside F16.
    pub(crate) candidates: Vec<FileType>,
    /// Rows that judge, at most.
    pub(crate) judges: usize,
    /// Rows whose prompts weigh the columns, at most; 0 weighs all alike.
    pub(crate) importance_rows: usize,
    /// Threads; 0 uses all.
    pub(crate) threads: usize,
}

/// A candidate as it was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tried {
    #[serde(serialize_with = "shown")]
    pub(crate) candidate: FileType,
    pub(crate) mb: f64,
    #[serde(flatten)]
    pub(crate) speed: Speed,
    #[serde(flatten)]
    pub(crate) fidelity: Fidelity,
    #[serde(skip)]
    pub(crate) bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn shown<S: serde::Serializer>(to: &FileType, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(to)
}

/// A model whose candidates were measured.
pub(crate) struct Shrunk {
    /// F16 first.
    pub(crate) tried: Vec<Tried>,
    /// Types that llama.cpp refused or that lack what they need, and why.
    pub(crate) refused: Vec<(FileType, String)>,
    /// Rows that judged.
    pub(crate) judged: usize,
    /// Rows whose prompts weighed the columns.
    pub(crate) importance_rows: usize,
    /// Rows that were too long.
    pub(crate) too_long: usize,
    /// llama.cpp at 16 bits against the numbers that were trained.
    pub(crate) half: Agreement,
    whole: Whole,
    rows: Judges,
    importance: Importance,
    half_file: PathBuf,
    threads: usize,
    // Holds the file at 16 bits until everything is done.
    temporary: Temporary,
}

impl Shrunk {
    /// Measures the candidates.
    ///
    /// # Errors
    /// What writing and loading fail with; `Internal` when llama.cpp at 16 bits says something else than the numbers.
    pub(crate) fn measure(whole: Whole, rows: Judges, shrinking: &Shrinking, bar: &ProgressBar) -> Result<Self> {
        let temporary = Temporary::folder()?;
        let half_file = temporary.path().join("half.gguf");
        let name = whole.trained.as_ref().map_or(&whole.base.name, |trained| &trained.manifest().name).to_string();
        bar.set_message("comparing at 16 bits");
        let half = whole.write_half(&name, &rows.judge, shrinking.threads, &half_file)?;
        let weighed = &rows.others[..rows.others.len().min(shrinking.importance_rows)];
        let importance = importance(&whole, weighed, shrinking.threads, bar)?;

        bar.set_message("answering at 16 bits");
        let examples = &rows.judge[..rows.judge.len().min(shrinking.judges)];
        let threads = cores(shrinking.threads);
        let scorer = std::cell::RefCell::new(Scorer::load(&half_file, None, threads)?);
        let vocabulary = scorer.borrow().vocabulary();
        let reference = Reference::measure(
            examples,
            vocabulary,
            |example| scorer.borrow_mut().logits(&example.tokens, example.answer),
            |prompt, most| scorer.borrow_mut().greedy(prompt, most),
        )?;
        drop(scorer);

        let types: Vec<FileType> = [FileType::F16]
            .into_iter()
            .chain(shrinking.candidates.iter().copied().filter(|to| *to != FileType::F16))
            .collect();
        bar.set_length(types.len() as u64);
        let mut this = Self {
            tried: Vec::new(),
            refused: Vec::new(),
            judged: reference.rows(),
            importance_rows: weighed.len(),
            too_long: rows.too_long,
            half,
            whole,
            rows,
            importance,
            half_file,
            threads,
            temporary,
        };
        for to in types {
            bar.set_message(format!("trying {to}"));
            match this.try_one(to, &reference) {
                Ok(tried) => this.tried.push(tried),
                Err(error) if to == FileType::F16 => return Err(error),
                Err(error) => this.refused.push((to, error.to_string())),
            }
            bar.inc(1);
        }
        Ok(this)
    }

    fn try_one(&self, to: FileType, reference: &Reference) -> Result<Tried> {
        let file = self.file(to)?;
        let bytes = std::fs::metadata(&file).map_err(|e| Error::data(format!("read {}: {e}", file.display())))?.len();
        let mut scorer = Scorer::load(&file, None, self.threads)?;
        let fidelity = reference.compare(|example| scorer.logits(&example.tokens, example.answer), self.rows.seed)?;
        let prompt: Vec<u32> = self.rows.judge[0].tokens.iter().copied().cycle().take(TIMED_PROMPT).collect();
        let speed = speed(&scorer, &prompt, TIMED_ANSWER, ROUNDS, &SystemClock::new())?;
        drop(scorer);
        if file != self.half_file {
            // It can be made again; a file left behind goes with the folder.
            drop(std::fs::remove_file(&file));
        }
        Ok(Tried { candidate: to, mb: bytes as f64 / 1e6, speed, fidelity, bytes })
    }

    /// The model as this type; it lies in the temporary folder.
    fn file(&self, to: FileType) -> Result<PathBuf> {
        if to == FileType::F16 {
            return Ok(self.half_file.clone());
        }
        if to.needs_importance() && self.importance.is_empty() {
            return Err(Error::invalid(format!("quantise to {to}: it needs prompts that weigh the columns")));
        }
        let file = self.temporary.path().join("candidate.gguf");
        quantise(&self.half_file, &file, to, &self.importance)?;
        Ok(file)
    }

    /// Writes the artifact of a candidate.
    ///
    /// # Errors
    /// As [`whole::write_model`].
    pub(crate) fn write(&self, picked: usize, writing: Writing<'_>) -> Result<Adapted> {
        let Tried { candidate, fidelity, bytes, .. } = &self.tried[picked];
        let file = self.file(*candidate)?;
        let agreement = self.whole.agreement(&self.rows.judge, self.threads, &file)?;
        let served = Served {
            f16_mean_kl: self.half.mean_kl,
            installed_mean_kl: agreement.mean_kl,
            installed_flips: agreement.flips,
            n: agreement.n,
        };
        let method = format!("quantised to {candidate}");
        let making = Making { name: writing.name, method: &method, served, rows: &self.rows, created: writing.created };
        let mut manifest = self.whole.manifest(making);
        // They are of other weights; what these are worth is said below.
        manifest.metrics.clear();
        manifest.quantised = Some(Quantised {
            to: candidate.to_string(),
            // F16 is what they are compared with.
            candidates: u32::try_from(self.tried.len().saturating_sub(1).max(1)).unwrap_or(u32::MAX),
            importance_rows: self.importance_rows as u64,
            bytes_before: self.tried[0].bytes,
            bytes: *bytes,
            figures: fidelity.figures(),
        });
        whole::write_model(writing.dir, manifest, (&file, &self.whole.learned), writing.existing)
    }
}

/// How to write it.
pub(crate) struct Writing<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) name: ModelName,
    pub(crate) existing: Existing,
    pub(crate) created: Timestamp,
}

fn importance(whole: &Whole, rows: &[Example], threads: usize, bar: &ProgressBar) -> Result<Importance> {
    if rows.is_empty() {
        return Ok(Importance::new());
    }
    bar.set_message("weighing the columns");
    bar.set_length(rows.len() as u64);
    bar.set_position(0);
    let found = on_threads(threads, || {
        Ok(whole.network.importance(rows, || {
            bar.inc(1);
            ControlFlow::Continue(())
        }))
    });
    bar.set_position(0);
    found
}
