//! Extraction: WNUT17's entities and SNIPS' slots, found by MiniLM with a head on every word. Trained and judged by the real
//! binary; F1 over whole spans as seqeval counts them.

use super::compress::{last_line, number};
use crate::process;
use serde::Serialize;
use std::path::Path;
use understudy_core::{Error, Result};

/// What was measured, F1 in per cent.
#[derive(Debug, Serialize)]
pub(super) struct Extraction {
    wnut17_f1: f64,
    snips_f1: f64,
    extraction: Vec<Set>,
}

#[derive(Debug, Serialize)]
struct Set {
    set: &'static str,
    f1: f64,
    low: f64,
    high: f64,
    n: f64,
    seconds: f64,
}

/// Trains and measures; `None` when the data sets are not there.
pub(super) fn measure(data: &Path, models: &Path) -> Result<Option<Extraction>> {
    let data = data.join("extraction");
    let sets = [("wnut17", "wnut17/train.jsonl"), ("snips", "snips_slots/train.jsonl.zst")];
    if sets.iter().any(|(_, file)| !data.join(file).exists()) {
        return Ok(None);
    }
    let tmp = tempfile::tempdir().map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let mut extraction = Vec::new();
    println!("{:<8} {:>7} {:>17} {:>6} {:>8}", "set", "F1", "95 %", "n", "made in");
    for (set, file) in sets {
        let train = data.join(file);
        let path = |path: &Path| path.display().to_string();
        let (out, test) = (path(&tmp.path().join(set)), path(&train.with_file_name("test.jsonl")));
        let (train, models) = (path(&train), path(models));
        let start = ["--models-dir", &models, "--json", "adapt", "finetune", "--task", "extract", "--test-share", "0"];
        let files = ["--data", &train, "--test", &test, "--out", &out];
        let printed = last_line(&process::run(tmp.path(), &[&start[..], &files].concat())?)?;
        let f1 = &printed["test"]["entity_f1"];
        let of = Set {
            set,
            f1: 100.0 * number(f1, "estimate")?,
            low: 100.0 * number(f1, "low")?,
            high: 100.0 * number(f1, "high")?,
            n: number(f1, "n")?,
            seconds: number(&printed, "seconds")?,
        };
        println!("{:<8} {:>6.2}% {:>8.2}–{:<8.2} {:>6} {:>7.0}s", of.set, of.f1, of.low, of.high, of.n, of.seconds);
        extraction.push(of);
    }
    Ok(Some(Extraction { wnut17_f1: extraction[0].f1, snips_f1: extraction[1].f1, extraction }))
}
