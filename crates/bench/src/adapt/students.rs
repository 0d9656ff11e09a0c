//! Cheap students: static embeddings beside the encoder that they come from, how many texts a second they classify with
//! tokenising, and how long a head on ten thousand texts takes. Trained by the real binary, judged here.

use crate::{encoder::accuracy::embed, process};
use serde::Serialize;
use std::{
    hint::black_box,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};
use understudy_core::{Error, Result};
use understudy_dataset::{Example, Fields};
use understudy_model::{artifact::Artifact, classifier::Classifier, encoder::Encoder, table::TokenTable};
use understudy_stats::binomial;

/// Seconds for which texts are classified one after the other.
const SECONDS: f64 = 2.0;
/// Texts of the timed head.
const TEXTS: usize = 10_000;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Students {
    /// Least share of the encoder's accuracy that a static student keeps, over the sets.
    pub(crate) static_share_of_accuracy: f64,
    /// Fewest texts a second on one core, tokenising included, over the sets.
    pub(crate) static_texts_per_s: f64,
    /// The whole command that trains a head on [`TEXTS`] texts.
    pub(crate) head_seconds: f64,
    pub(crate) students: Vec<Student>,
}

/// One data set.
#[derive(Debug, Serialize)]
pub(crate) struct Student {
    set: &'static str,
    n: usize,
    minilm: f64,
    minilm_interval: [f64; 2],
    static_accuracy: f64,
    static_interval: [f64; 2],
    share: f64,
    texts_per_s: f64,
    distil_seconds: f64,
}

/// Trains and measures; `None` when the data sets are not there.
pub(crate) fn measure(data: Option<&Path>, models: &Path) -> Result<Option<Students>> {
    let data = data
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), Path::to_path_buf)
        .join("classification");
    if !data.join("banking77/train.jsonl").exists() || !data.join("clinc150/full.jsonl.zst").exists() {
        return Ok(None);
    }
    let clinc = rows(&data.join("clinc150/full.jsonl.zst"), |split| split == "train")?;
    let sets = [
        ("banking77", read(&data.join("banking77/train.jsonl"))?, read(&data.join("banking77/test.jsonl"))?),
        ("clinc150", clinc, rows(&data.join("clinc150/full.jsonl.zst"), |split| split == "test")?),
    ];
    let tmp = tempfile::tempdir().map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let mut students = Vec::new();
    println!(
        "{:<10} {:>6} {:>8} {:>8} {:>7} {:>9} {:>9}",
        "set", "n", "minilm", "static", "share", "texts/s", "made in"
    );
    for (set, train, test) in &sets {
        let student = student(set, train, test, tmp.path(), models)?;
        println!(
            "{:<10} {:>6} {:>7.2}% {:>7.2}% {:>7.3} {:>9.0} {:>8.1}s",
            student.set,
            student.n,
            100.0 * student.minilm,
            100.0 * student.static_accuracy,
            student.share,
            student.texts_per_s,
            student.distil_seconds
        );
        students.push(student);
    }
    let (_, train, _) = &sets[0];
    let head_seconds = train_head(&train[..TEXTS.min(train.len())], tmp.path(), models, "timed")?.1;
    println!("head on {} texts, embedding included: {head_seconds:.1} s", TEXTS.min(train.len()));
    let least = |of: fn(&Student) -> f64| students.iter().map(of).fold(f64::INFINITY, f64::min);
    Ok(Some(Students {
        static_share_of_accuracy: least(|s| s.share),
        static_texts_per_s: least(|s| s.texts_per_s),
        head_seconds,
        students,
    }))
}

pub(super) fn read(file: &Path) -> Result<Vec<Example>> {
    understudy_dataset::read(file, &Fields::default())?.examples()
}

/// The rows of some splits of a file that has several.
pub(super) fn rows(file: &Path, wanted: fn(&str) -> bool) -> Result<Vec<Example>> {
    use std::io::BufRead;
    let mut rows = Vec::new();
    for (at, line) in understudy_dataset::lines(file)?.lines().enumerate() {
        let wrong = |e: &dyn std::fmt::Display| Error::data(format!("read {}: line {}: {e}", file.display(), at + 1));
        let line = line.map_err(|e| wrong(&e))?;
        let row: serde_json::Value = serde_json::from_str(&line).map_err(|e| wrong(&e))?;
        let field = |name: &str| row[name].as_str().map(str::to_owned).ok_or_else(|| wrong(&format!("no `{name}`")));
        if wanted(&field("split")?) {
            rows.push(Example { id: at.to_string(), text: field("text")?, label: field("label")? });
        }
    }
    Ok(rows)
}

pub(super) fn write(examples: &[Example], file: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::data(format!("write {}: {e}", file.display()));
    let mut out = std::io::BufWriter::new(std::fs::File::create(file).map_err(failed)?);
    for e in examples {
        writeln!(out, "{}", serde_json::json!({ "id": e.id, "text": e.text, "label": e.label })).map_err(failed)?;
    }
    out.flush().map_err(failed)
}

/// Trains a head on all examples; gives back its folder and the time of the command.
fn train_head(train: &[Example], tmp: &Path, models: &Path, name: &str) -> Result<(PathBuf, f64)> {
    let (data, out) = (tmp.join(format!("{name}.jsonl")), tmp.join(format!("{name}-head")));
    write(train, &data)?;
    let start = Instant::now();
    let path = |path: &Path| path.display().to_string();
    process::run(
        tmp,
        &[
            "--models-dir",
            &path(models),
            "adapt",
            "finetune",
            "--method",
            "head",
            "--base",
            "minilm",
            "--data",
            &path(&data),
            "--test-share",
            "0",
            "--out",
            &path(&out),
        ],
    )?;
    Ok((out, start.elapsed().as_secs_f64()))
}

fn student(set: &'static str, train: &[Example], test: &[Example], tmp: &Path, models: &Path) -> Result<Student> {
    let (head, _) = train_head(train, tmp, models, set)?;
    let path = |path: &Path| path.display().to_string();
    let (data, out) = (tmp.join(format!("{set}.jsonl")), tmp.join(format!("{set}-static")));
    let start = Instant::now();
    process::run(
        tmp,
        &[
            "--models-dir",
            &path(models),
            "adapt",
            "distil",
            "--to",
            "static",
            "--teacher",
            "minilm",
            "--data",
            &path(&data),
            "--test-share",
            "0",
            "--out",
            &path(&out),
        ],
    )?;
    let distil_seconds = start.elapsed().as_secs_f64();
    let artifact = Artifact::read(&head)?;
    let manifest = artifact.manifest();
    let vectors = embed(&Encoder::load(&models.join("minilm"), &manifest.reading())?, test.iter())?;
    let mut of_minilm = 0;
    for (vector, example) in vectors.iter().zip(test) {
        of_minilm += u64::from(artifact.head().predict(vector)?.label == example.label);
    }
    let artifact = Artifact::read(&out)?;
    let table = TokenTable::read(&out, artifact.manifest().max_tokens as usize)?;
    let classifier = Classifier::of_table(artifact.manifest().name.clone(), table, artifact.head())?;
    let mut of_static = 0;
    for example in test {
        of_static += u64::from(classifier.classify_now(&example.text)?.label == example.label);
    }
    let start = Instant::now();
    let mut done = 0_usize;
    while start.elapsed().as_secs_f64() < SECONDS {
        for example in test.iter().cycle().skip(done % test.len()).take(256) {
            black_box(classifier.classify_now(&example.text)?);
            done += 1;
        }
    }
    let texts_per_s = done as f64 / start.elapsed().as_secs_f64();
    let n = test.len() as u64;
    let (a, b) = (binomial::interval(of_minilm, n, 0.95), binomial::interval(of_static, n, 0.95));
    Ok(Student {
        set,
        n: test.len(),
        minilm: a.estimate,
        minilm_interval: [a.low, a.high],
        static_accuracy: b.estimate,
        static_interval: [b.low, b.high],
        share: b.estimate / a.estimate,
        texts_per_s,
        distil_seconds,
    })
}
