//! The journal: every answer on the disk soon after it was given, so that a run that breaks off is not paid for twice.
//! One JSON object a line; the first says what the run is about.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use understudy_core::{Error, RecordedAnswer, Result};

/// Answers after which the file is forced to the disk.
const BATCH: usize = 16;

/// What a run is about: answers of another run must not be mixed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// SHA-256 over data, task, labels, prompts and seed.
    pub inputs: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// Name and fingerprint of the model.
    model: String,
    id: String,
    answer: RecordedAnswer,
}

/// Answers of one run. Holds the file's lock as long as it lives: two processes in one folder would pay for the same
/// answers twice and write into each other's lines.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    waiting: usize,
    answers: BTreeMap<(String, String), RecordedAnswer>,
}

impl Journal {
    /// Opens or begins the journal of a run in `dir`.
    ///
    /// # Errors
    /// `Unavailable` when another process works there; `Invalid` when the folder holds another run; `Data` when the file
    /// cannot be read or written.
    pub fn open(dir: &Path, header: &Header) -> Result<Self> {
        let path = dir.join("journal.jsonl");
        let failed = |e: std::io::Error| Error::data(format!("open the journal {}: {e}", path.display()));
        fs::create_dir_all(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::unavailable(format!(
                    "go on in {}: another process is at work there; wait for its end, or choose another --out",
                    dir.display()
                )));
            }
            // A file system without locks: nothing is lost by going on as if alone.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        // What follows the last line end was being written when the run broke off.
        let mut whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let mut lines = text[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let mut answers = BTreeMap::new();
        let mut first = lines.next().map(serde_json::from_slice::<Header>);
        if first.as_ref().is_some_and(|there| there.as_ref().ok() != Some(header)) && lines.clone().next().is_none() {
            // Another run began here and nothing was answered: its folder is free.
            (first, whole) = (None, 0);
        }
        match &first {
            None => {}
            Some(Ok(there)) if there == header => {
                for (index, line) in lines.enumerate() {
                    let entry: Entry = serde_json::from_slice(line).map_err(|e| {
                        let what = format!("read the journal {}: line {}: {e}", path.display(), index + 2);
                        Error::data(format!("{what}; remove the line, or choose another --out"))
                    })?;
                    answers.insert((entry.model, entry.id), entry.answer);
                }
            }
            Some(_) => {
                return Err(Error::invalid(format!(
                    "go on in {}: the folder holds a run on other data or with other settings; choose another --out, or \
                     remove it",
                    dir.display()
                ))
                .with_param("out"));
            }
        }
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut journal = Self { path, file, waiting: 0, answers };
        if first.is_none() {
            journal.line(header)?;
            journal.flush()?;
        }
        Ok(journal)
    }

    /// Answers it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// What its answers cost, in USD; answers without a known price count as nothing.
    #[must_use]
    pub fn cost_usd(&self) -> f64 {
        self.answers.values().filter_map(|answer| answer.cost_usd).sum()
    }

    /// The answer that a model gave to a row.
    #[must_use]
    pub fn get(&self, model: &str, id: &str) -> Option<&RecordedAnswer> {
        self.answers.get(&(model.to_owned(), id.to_owned()))
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// `Data` when it cannot be written.
    pub fn put(&mut self, model: &str, id: &str, answer: &RecordedAnswer) -> Result<()> {
        let entry = Entry { model: model.to_owned(), id: id.to_owned(), answer: answer.clone() };
        self.line(&entry)?;
        self.answers.insert((entry.model, entry.id), entry.answer);
        self.waiting += 1;
        if self.waiting >= BATCH { self.flush() } else { Ok(()) }
    }

    /// Forces what was written to the disk.
    ///
    /// # Errors
    /// `Data` when the disk does not take it.
    pub fn flush(&mut self) -> Result<()> {
        self.waiting = 0;
        let failed = |e: std::io::Error| Error::data(format!("write the journal {}: {e}", self.path.display()));
        self.file.sync_data().map_err(failed)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let failed = |e: std::io::Error| {
            let what = format!("write the journal {}: {e}", self.path.display());
            Error::data(format!("{what}; what was answered before is kept, and the same command goes on"))
        };
        let mut line = serde_json::to_vec(value).map_err(|e| Error::internal(format!("write the journal: {e}")))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> RecordedAnswer {
        RecordedAnswer { answer: Some(text.into()), cost_usd: Some(0.1), ..RecordedAnswer::default() }
    }

    #[test]
    fn answers_survive_a_crash_in_the_middle_of_a_line_and_other_runs_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let header = Header { inputs: "a".into() };
        let mut journal = Journal::open(dir.path(), &header).expect("new");
        assert!(journal.is_empty());
        journal.put("m", "1", &answer("x")).expect("written");
        journal.put("m", "2", &answer("y")).expect("written");
        drop(journal);
        let path = dir.path().join("journal.jsonl");
        let whole = fs::read(&path).expect("there");
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("cut");
            let mut journal = Journal::open(dir.path(), &header).expect("a cut journal opens");
            let lines = whole[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!(journal.len(), lines.saturating_sub(1), "cut at {cut}");
            journal.put("m", "3", &answer("z")).expect("it goes on");
            drop(journal);
            let again = Journal::open(dir.path(), &header).expect("whole lines again");
            assert_eq!(again.get("m", "3"), Some(&answer("z")));
        }
        let empty = tempfile::tempdir().expect("a folder");
        drop(Journal::open(empty.path(), &header).expect("new"));
        let taken = Journal::open(empty.path(), &Header { inputs: "b".into() }).expect("nothing was answered");
        assert!(taken.is_empty());
        let held = Journal::open(dir.path(), &header).expect("ours");
        let second = Journal::open(dir.path(), &header).expect_err("the folder is taken");
        assert!(second.to_string().contains("another process"), "{second}");
        drop(held);
        let other = Journal::open(dir.path(), &Header { inputs: "b".into() }).expect_err("another run");
        assert!(other.to_string().contains("--out"), "{other}");
    }
}
