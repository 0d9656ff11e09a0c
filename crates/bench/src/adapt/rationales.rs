//! Rationales as a second task: students of PaLM's labels on the sets of *Distilling step-by-step* (Hsieh et al., arXiv
//! 2305.02301), with and without PaLM's reasons beside them, and with half the labels. Trained and asked by the real
//! binary; judged by the gold labels. Arms of a seed learn from the same rows, and all arms answer the same test rows, so
//! everything is compared in pairs. With `--keep` what was measured is written down and not measured again.

use super::AdaptArgs;
use super::compress::{last_line, number};
use super::kept::Kept;
use crate::process;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, io::BufRead, path::Path};
use understudy_core::{Error, Outcome, Result, hash::sha256_hex};
use understudy_stats::{mean::mean, permutation::sign_flip};

/// The sets by name: an encoder (MiniLM, all layers) or a generative student (SmolLM2 with an adapter).
pub(super) const SETS: [&str; 5] = ["esnli", "anli1", "esnli_generative", "cqa_generative", "svamp_generative"];
/// Sign patterns of the test of a difference.
const DRAWS: u32 = 20_000;

/// How a student is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Arm {
    name: &'static str,
    /// Share of the labels that it sees.
    labels: f64,
    /// Weight of the reasons.
    reasons: Option<f64>,
}

const fn arm(name: &'static str, labels: f64, reasons: Option<f64>) -> Arm {
    Arm { name, labels, reasons }
}

const ENCODER_ARMS: [Arm; 6] = [
    arm("labels", 1.0, None),
    arm("reasons 1", 1.0, Some(1.0)),
    arm("reasons 0.3", 1.0, Some(0.3)),
    arm("half, reasons 0.3", 0.5, Some(0.3)),
    arm("half the labels", 0.5, None),
    arm("reasons 10", 1.0, Some(10.0)),
];
const GENERATIVE_ARMS: [Arm; 2] = [arm("labels", 1.0, None), arm("reasons 1", 1.0, Some(1.0))];

/// One text: what the teacher said of it and why, and what is right.
struct Row {
    text: String,
    teacher: Option<String>,
    why: String,
    gold: String,
}

struct Set {
    name: &'static str,
    train: Vec<Row>,
    test: Vec<Row>,
    /// Rows of the training half that a student sees.
    seen: usize,
    /// Instructions of a generative student; an encoder has none.
    told: Option<&'static str>,
    /// Task of the pilot that asks it.
    task: &'static str,
}

/// One student.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Student {
    set: String,
    arm: String,
    seed: u64,
    n_train: usize,
    n: usize,
    accuracy: f64,
    seconds: f64,
    /// 1 for each test row that it got right, 0 for the others.
    right: String,
}

/// An arm against the labels alone, in points of accuracy.
#[derive(Debug, Serialize)]
struct Compared {
    set: &'static str,
    arm: &'static str,
    seeds: usize,
    n: usize,
    /// Mean over the seeds in per cent, of labels alone and of the arm.
    labels: f64,
    accuracy: f64,
    difference: f64,
    /// At 95 %, over test rows.
    interval: [f64; 2],
    /// Two-sided, by flipping signs of the rows' differences.
    p: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Rationales {
    rationales: Vec<Compared>,
}

/// Trains and measures; `None` when the data sets are not there.
pub(super) fn measure(args: &AdaptArgs, data: &Path, models: &Path) -> Result<Option<Rationales>> {
    let data = data.join("outcomes/distill_step_by_step");
    if !data.join("anli1_valid.jsonl").exists() {
        return Ok(None);
    }
    let kept = Kept::read(args.keep.as_deref())?;
    let tmp = tempfile::tempdir().map_err(|e| Error::data(format!("make a folder: {e}")))?;
    println!("{:<18} {:<18} {:>5} {:>6} {:>6} {:>9} {:>8}", "set", "arm", "seed", "train", "n", "accuracy", "seconds");
    let mut compared = Vec::new();
    for name in SETS.into_iter().filter(|name| args.sets.is_empty() || args.sets.iter().any(|set| set == name)) {
        let set = set(name, &data, args)?;
        let arms = if set.told.is_some() { &GENERATIVE_ARMS[..] } else { &ENCODER_ARMS[..] };
        let arms = &arms[..arms.len().min(args.arms.max(2))];
        let mut students = Vec::new();
        for seed in args.seeds() {
            for arm in arms {
                let measure = || one(&set, arm, seed, tmp.path(), models, args.threads);
                let student = kept.or_measure(&key(&set, arm, seed), measure)?;
                println!(
                    "{:<18} {:<18} {:>5} {:>6} {:>6} {:>8.2}% {:>8.0}",
                    student.set, student.arm, seed, student.n_train, student.n, student.accuracy, student.seconds
                );
                students.push((arm.name, student));
            }
        }
        compared.extend(arms[1..].iter().map(|arm| compare(name, arm.name, &students)));
    }
    println!("\n{:<18} {:<18} {:>9} {:>9} {:>8} {:>18} {:>7}", "set", "arm", "labels", "arm", "points", "95 %", "p");
    for c in &compared {
        let interval = format!("[{:+.2}, {:+.2}]", c.interval[0], c.interval[1]);
        println!(
            "{:<18} {:<18} {:>8.2}% {:>8.2}% {:>+8.2} {interval:>18} {:>7.4}",
            c.set, c.arm, c.labels, c.accuracy, c.difference, c.p
        );
    }
    Ok(Some(Rationales { rationales: compared }))
}

/// An arm against labels alone: each test row's share of seeds that got it right, in pairs.
fn compare(set: &'static str, arm: &'static str, students: &[(&str, Student)]) -> Compared {
    let of = |wanted: &str| -> Vec<&Student> { students.iter().filter(|s| s.0 == wanted).map(|s| &s.1).collect() };
    let (plain, others) = (of("labels"), of(arm));
    let (n, seeds) = (plain[0].n, plain.len());
    let shares = |students: &[&Student]| -> Vec<f64> {
        let right = |i: usize| students.iter().filter(|s| s.right.as_bytes()[i] == b'1').count();
        (0..n).map(|i| right(i) as f64 / seeds as f64).collect()
    };
    let (plain, others) = (shares(&plain), shares(&others));
    let differences: Vec<f64> = others.iter().zip(&plain).map(|(a, b)| 100.0 * (a - b)).collect();
    let bound = mean(&differences, 0.95);
    let p = sign_flip(&differences, DRAWS, &mut ChaCha12Rng::seed_from_u64(1)).p;
    let percent = |x: &[f64]| 100.0 * x.iter().sum::<f64>() / n as f64;
    Compared {
        set,
        arm,
        seeds,
        n,
        labels: percent(&plain),
        accuracy: percent(&others),
        difference: bound.estimate,
        interval: [bound.low, bound.high],
        p,
    }
}

fn set(name: &'static str, data: &Path, args: &AdaptArgs) -> Result<Set> {
    let nli = |told, seen, train, test| Set { name, train, test, seen, told, task: "classify" };
    Ok(match name {
        "esnli" | "esnli_generative" => {
            // Three hypotheses share a premise: all of them are on one side.
            let rows = read(&data.join("esnli_valid.jsonl.zst"), inference)?;
            let (test, train) = divided(rows, 0.2);
            match name {
                "esnli" => nli(None, args.rows.min(1000), train, test),
                _ => nli(
                    Some("Does the hypothesis follow from the premise? Answer entailment, neutral or contradiction."),
                    args.rows.min(300),
                    train,
                    test.into_iter().take(600).collect(),
                ),
            }
        }
        "anli1" => {
            let read = |file: &str| -> Result<Vec<Row>> {
                Ok(read(&data.join(file), inference)?.into_iter().map(|(_, row)| row).collect())
            };
            nli(None, args.rows.min(1000), read("anli1_valid.jsonl")?, read("anli1_test.jsonl")?)
        }
        "cqa_generative" => {
            let (test, train) = divided(read(&data.join("cqa_train.jsonl.zst"), question)?, 0.1);
            let told = Some("Which choice answers the question? Answer a, b, c, d or e.");
            nli(told, args.rows.min(300), train, test.into_iter().take(600).collect())
        }
        _ => {
            let (test, train) = divided(read(&data.join("svamp_train.jsonl"), sum)?, 0.25);
            let told = Some("Write the sum that answers the question.");
            Set { name, train, test, seen: args.rows.min(300), told, task: "answer" }
        }
    })
}

/// Rows by the hash of what they are about: a share, and the rest.
fn divided(rows: Vec<(String, Row)>, share: f64) -> (Vec<Row>, Vec<Row>) {
    let first = |about: &str| {
        let hash = u32::from_str_radix(&sha256_hex(about.as_bytes())[..8], 16).unwrap_or(0);
        f64::from(hash) < share * f64::from(u32::MAX)
    };
    let (a, b): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(about, _)| first(about));
    let ordered = |rows: Vec<(String, Row)>| {
        let mut rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        rows.sort_by_cached_key(|row| sha256_hex(row.text.as_bytes()));
        rows
    };
    (ordered(a), ordered(b))
}

fn field(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().trim().to_owned()
}

/// Premise and hypothesis as one text, about the premise.
fn inference(row: &Value) -> (String, Row) {
    let premise = field(row, "premise");
    let text = format!("premise: {premise}\nhypothesis: {}", field(row, "hypothesis"));
    let teacher = Some(field(row, "teacher_label"))
        .filter(|label| ["entailment", "neutral", "contradiction"].contains(&label.as_str()));
    (premise, Row { text, teacher, why: field(row, "teacher_rationale"), gold: field(row, "label") })
}

/// A question with lettered choices; the answer is a letter.
fn question(row: &Value) -> (String, Row) {
    let mut text = field(row, "question");
    let choices: Vec<&str> = row["choices"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let letters = ["a", "b", "c", "d", "e"];
    for (letter, choice) in letters.iter().zip(&choices) {
        let _ = write!(text, "\n{letter}) {choice}");
    }
    let letter = |answer: String| {
        choices
            .iter()
            .position(|choice| *choice == answer)
            .and_then(|i| letters.get(i))
            .map(|letter| (*letter).to_owned())
    };
    let (teacher, gold) = (letter(field(row, "teacher_label")), letter(field(row, "label")).unwrap_or_default());
    (field(row, "question"), Row { text, teacher, why: field(row, "teacher_rationale"), gold })
}

/// A question whose answer is a sum, written in one way.
fn sum(row: &Value) -> (String, Row) {
    let plain = |sum: String| sum.replace(".0", "").replace("( ", "(").replace(" )", ")");
    let teacher = Some(plain(field(row, "teacher_label"))).filter(|sum| !sum.is_empty());
    let (text, why) = (field(row, "question"), field(row, "teacher_rationale"));
    (text.clone(), Row { text, teacher, why, gold: plain(field(row, "label")) })
}

fn one(set: &Set, arm: &Arm, seed: u64, tmp: &Path, models: &Path, threads: usize) -> Result<Student> {
    let folder = tempfile::tempdir_in(tmp).map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (train, test, model, out) = (file("train.jsonl"), file("test.jsonl"), file("model"), file("pilot"));
    let rows = learned(set, arm, seed);
    let n_train = rows.len();
    write(&train, rows.iter().map(|row| json!({ "text": row.text, "label": row.teacher, "why": row.why })))?;
    let asked = set.test.iter().enumerate();
    write(&test, asked.map(|(i, row)| json!({ "id": i.to_string(), "text": row.text, "label": row.gold })))?;
    let (models, seed, threads) = (models.display().to_string(), seed.to_string(), threads.to_string());
    let start = ["--models-dir", &models, "--json"];
    let method = if set.told.is_some() { ["lora", "smollm2"] } else { ["full", "minilm"] };
    let mut finetune = vec!["adapt", "finetune", "--method", method[0], "--base", method[1], "--data", &train];
    finetune.extend(["--text", "text", "--out", &model, "--seed", &seed, "--threads", &threads]);
    let (weight, n) = (arm.reasons.unwrap_or_default().to_string(), set.test.len().to_string());
    if arm.reasons.is_some() {
        finetune.extend(["--rationale", "why", "--rationale-weight", &weight]);
    }
    let mut pilot = vec!["pilot", "run", "--model", &model, "--data", &test, "--out", &out, "--task", set.task];
    match set.told {
        // A few held-out answers are what is compared with the model that serves.
        Some(told) => {
            finetune.extend(["--answer", "label", "--system", told, "--test-share", "0.03"]);
            pilot.extend(["--instruction", told, "--limit", &n]);
        }
        None => finetune.extend(["--label", "label", "--test-share", "0"]),
    }
    if set.task == "answer" {
        pilot.extend(["--reference", "label"]);
    }
    let trained = last_line(&process::run(tmp, &[&start[..], &finetune].concat())?)?;
    process::run(tmp, &[&start[..], &pilot].concat())?;
    let right = right(&folder.path().join("pilot/outcomes.jsonl"), &set.test)?;
    let hits = right.bytes().filter(|b| *b == b'1').count();
    Ok(Student {
        set: set.name.to_owned(),
        arm: arm.name.to_owned(),
        seed: seed.parse().unwrap_or_default(),
        n_train,
        n: set.test.len(),
        accuracy: 100.0 * hits as f64 / set.test.len().max(1) as f64,
        seconds: number(&trained, "seconds")?,
        right,
    })
}

/// The rows that an arm learns from: another draw for each seed, the same for all arms; half of them are its beginning.
fn learned<'s>(set: &'s Set, arm: &Arm, seed: u64) -> Vec<&'s Row> {
    let mut rows: Vec<&Row> = set.train.iter().filter(|row| row.teacher.is_some()).collect();
    rows.sort_by_cached_key(|row| sha256_hex(format!("{seed} {}", row.text).as_bytes()));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows")]
    rows.truncate((arm.labels * set.seen.min(rows.len()) as f64).round() as usize);
    rows
}

/// Which test rows were answered rightly, in their order.
fn right(file: &Path, test: &[Row]) -> Result<String> {
    let wrong = |e: &dyn std::fmt::Display| Error::data(format!("read {}: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| wrong(&e))?;
    let mut answers = BTreeMap::new();
    for line in text.lines() {
        let outcome: Outcome = serde_json::from_str(line).map_err(|e| wrong(&e))?;
        let answer = outcome.models.into_values().next().and_then(|answer| answer.answer);
        answers.insert(outcome.id, answer.unwrap_or_default());
    }
    let mut right = String::with_capacity(test.len());
    for (i, row) in test.iter().enumerate() {
        let answer = answers.get(&i.to_string()).ok_or_else(|| wrong(&format!("row {i} was not answered")))?;
        right.push(if answer.trim() == row.gold { '1' } else { '0' });
    }
    Ok(right)
}

fn write(file: &str, lines: impl Iterator<Item = Value>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    std::fs::write(file, text).map_err(|e| Error::data(format!("write {file}: {e}")))
}

fn read<T>(file: &Path, row: fn(&Value) -> (String, T)) -> Result<Vec<(String, T)>> {
    let wrong = |e: &dyn std::fmt::Display| Error::data(format!("read {}: {e}", file.display()));
    let mut rows = Vec::new();
    for line in understudy_dataset::lines(file)?.lines() {
        let value: Value = serde_json::from_str(&line.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        rows.push(row(&value));
    }
    Ok(rows)
}

fn key(set: &Set, arm: &Arm, seed: u64) -> String {
    let mut told = format!("{} {arm:?} {seed} {:?} {}", set.name, set.told, set.task);
    for row in learned(set, arm, seed) {
        told.extend([
            row.text.as_str(),
            "\u{1}",
            row.teacher.as_deref().unwrap_or_default(),
            "\u{1}",
            &row.why,
            "\u{2}",
        ]);
    }
    for row in &set.test {
        told.extend([row.text.as_str(), "\u{1}", &row.gold, "\u{2}"]);
    }
    sha256_hex(told.as_bytes())[..16].to_owned()
}
