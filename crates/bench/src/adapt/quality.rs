//! What full fine-tuning of MiniLM reaches on public sets. Trained and measured by the real binary with its own defaults;
//! the test rows are looked at once, after the last step. The whole takes hours: with `--keep` what was measured is written
//! down row by row and not measured again.

use super::AdaptArgs;
use super::compress::{last_line, number};
use super::kept::{self, Kept};
use super::students::{read, rows, write};
use crate::process;
use serde::{Deserialize, Serialize};
use std::path::Path;
use understudy_core::{Error, Result, hash::sha256_hex};
use understudy_dataset::Example;

/// Share of the e-mails that train.
const TRAINS: f64 = 0.7;
/// Shares of the texts in scope that the threshold may cost, from the one that finds most outside.
const COSTS: [&str; 3] = ["0.01", "0.005", "0.0025"];
/// What the interval of the accuracy in scope must keep above on the validation rows, in per cent.
const IN_SCOPE: f64 = 95.0;

/// Figures of all sets, means over the seeds in per cent; a set that is not measured is left out.
#[derive(Debug, Serialize)]
pub(super) struct Quality {
    #[serde(flatten)]
    means: serde_json::Map<String, serde_json::Value>,
    quality: Vec<Outcome>,
}

/// One seed on one set; accuracies in per cent, intervals at 95 %.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    set: String,
    seed: u64,
    n_train: usize,
    n: u64,
    accuracy: f64,
    interval: [f64; 2],
    macro_f1: f64,
    /// With an out-of-scope label: accuracy on the other texts.
    in_scope: Option<f64>,
    /// Lower end of its interval.
    in_scope_low: Option<f64>,
    /// With an out-of-scope label: share of its texts that are recognised.
    out_of_scope_recall: Option<f64>,
    seconds: f64,
    samples_per_s: f64,
}

/// Rows to train and to judge on, and what the command is told besides.
struct Set {
    name: &'static str,
    train: Vec<Example>,
    test: Vec<Example>,
    /// Rows that choose among [`COSTS`]; empty where there is nothing to choose.
    validation: Vec<Example>,
    more: Vec<&'static str>,
}

/// The sets, by the name that `--sets` takes.
pub(super) const SETS: [&str; 8] =
    ["banking77", "clinc150", "ag_news", "trec", "sst2", "emotion", "spamassassin_random", "spamassassin_by_date"];

/// Fine-tunes on each set, once for each seed; `None` when the data sets are not there.
pub(super) fn measure(args: &AdaptArgs, data: &Path, models: &Path) -> Result<Option<Quality>> {
    let data = data.join("classification");
    if !data.join("banking77/train.jsonl").exists() {
        return Ok(None);
    }
    let kept = Kept::read(args.keep.as_deref())?;
    let tmp = tempfile::tempdir().map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let mut quality = Vec::new();
    println!(
        "{:<22} {:>5} {:>7} {:>6} {:>9} {:>15} {:>9} {:>9} {:>8} {:>9}",
        "set", "seed", "train", "n", "accuracy", "95 %", "in scope", "oos", "seconds", "samples/s"
    );
    for name in SETS.into_iter().filter(|name| args.sets.is_empty() || args.sets.iter().any(|set| set == name)) {
        let mut set = set(name, &data)?;
        if !set.validation.is_empty() {
            let cost = scope_cost(&set, &kept, tmp.path(), models)?;
            set.more.extend(["--out-of-scope-cost", cost]);
        }
        for seed in args.seeds() {
            let outcome = kept.or_measure(&key(&set, seed), || one(&set, seed, tmp.path(), models))?;
            say(&outcome);
            quality.push(outcome);
        }
    }
    println!();
    let means = means(&quality);
    Ok(Some(Quality { means, quality }))
}

fn set(name: &'static str, data: &Path) -> Result<Set> {
    let file = |file: &str| data.join(name).join(file);
    let both = |train: &str, test: &str, more: &[_]| -> Result<Set> {
        let more = more.to_vec();
        Ok(Set { name, train: read(&file(train))?, test: read(&file(test))?, validation: Vec::new(), more })
    };
    match name {
        "clinc150" => {
            let of = |wanted| rows(&file("full.jsonl.zst"), wanted);
            let train = of(|split| matches!(split, "train" | "oos_train"))?;
            let test = of(|split| matches!(split, "test" | "oos_test"))?;
            let validation = of(|split| matches!(split, "val" | "oos_val"))?;
            Ok(Set { name, train, test, validation, more: vec!["--out-of-scope", "oos"] })
        }
        "ag_news" => both("train_subset.jsonl.zst", "test_dev.jsonl.zst", &["--minutes", "12"]),
        "emotion" => both("train.jsonl.zst", "test.jsonl", &["--minutes", "6"]),
        "spamassassin_random" | "spamassassin_by_date" => mails(name, data),
        _ => both("train.jsonl", "test.jsonl", &[]),
    }
}

/// Dated e-mails: divided at random, or the latest judge.
fn mails(name: &'static str, data: &Path) -> Result<Set> {
    #[derive(Deserialize)]
    struct Mail {
        id: String,
        label: String,
        /// Missing where the header has none that can be read.
        date: Option<String>,
        subject: String,
        body: String,
    }
    let file = data.join("spamassassin/all.jsonl.zst");
    let wrong = |e: &dyn std::fmt::Display| Error::data(format!("read {}: {e}", file.display()));
    let mut mails = Vec::new();
    for line in std::io::BufRead::lines(understudy_dataset::lines(&file)?) {
        let mail: Mail = serde_json::from_str(&line.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        mails.push(mail);
    }
    match name {
        "spamassassin_random" => mails.sort_by_cached_key(|mail| sha256_hex(mail.id.as_bytes())),
        _ => {
            mails.retain(|mail| mail.date.is_some());
            mails.sort_by(|a, b| a.date.cmp(&b.date).then_with(|| a.id.cmp(&b.id)));
        }
    }
    let mut examples: Vec<Example> = mails
        .into_iter()
        .map(|mail| Example { id: mail.id, text: format!("{}\n{}", mail.subject, mail.body), label: mail.label })
        .collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows")]
    let test = examples.split_off((TRAINS * examples.len() as f64) as usize);
    Ok(Set { name, train: examples, test, validation: Vec::new(), more: vec!["--epochs", "2", "--minutes", "6"] })
}

/// The first of [`COSTS`] under which the accuracy in scope on the validation rows is surely (95 %) at least [`IN_SCOPE`],
/// judged on one seed; the last where none is.
fn scope_cost(set: &Set, kept: &Kept, tmp: &Path, models: &Path) -> Result<&'static str> {
    let [.., last] = COSTS;
    for cost in COSTS {
        let more = [&set.more[..], &["--out-of-scope-cost", cost]].concat();
        let (train, test) = (set.train.clone(), set.validation.clone());
        let tried = Set { name: "clinc150_validation", train, test, validation: Vec::new(), more };
        let outcome = kept.or_measure(&key(&tried, 1), || one(&tried, 1, tmp, models))?;
        say(&outcome);
        if outcome.in_scope_low.is_some_and(|low| low >= IN_SCOPE) {
            return Ok(cost);
        }
    }
    Ok(last)
}

fn key(set: &Set, seed: u64) -> String {
    kept::key(&format!("{} {seed} {:?}", set.name, set.more), set.train.iter().chain(&set.test))
}

fn one(set: &Set, seed: u64, tmp: &Path, models: &Path) -> Result<Outcome> {
    let tmp = tempfile::tempdir_in(tmp).map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let tmp = tmp.path();
    let file = |name: &str| tmp.join(format!("{}-{seed}-{name}", set.name)).display().to_string();
    let (train, test, model) = (file("train.jsonl"), file("test.jsonl"), file("model"));
    write(&set.train, Path::new(&train))?;
    write(&set.test, Path::new(&test))?;
    let (models, seed_text) = (models.display().to_string(), seed.to_string());
    let start = ["--models-dir", &models, "--json"];
    let finetune = ["adapt", "finetune", "--method", "full", "--data", &train, "--test-share", "0", "--out", &model];
    let finetune = [&start[..], &finetune, &["--seed", &seed_text], &set.more].concat();
    let trained = last_line(&process::run(tmp, &finetune)?)?;
    let judged = judge(&model, &test, &set.more, &models, tmp)?;
    let accuracy = &judged["intervals"]["accuracy"];
    let percent = |x: f64| 100.0 * x;
    let maybe = |name: &str| judged[name].as_f64().map(percent);
    Ok(Outcome {
        set: set.name.to_owned(),
        seed,
        n_train: set.train.len(),
        n: judged["n"].as_u64().unwrap_or_default(),
        accuracy: percent(number(&judged, "accuracy")?),
        interval: [percent(number(accuracy, "low")?), percent(number(accuracy, "high")?)],
        macro_f1: percent(number(&judged, "macro_f1")?),
        in_scope: maybe("in_scope_accuracy"),
        in_scope_low: judged["intervals"]["in_scope_accuracy"]["low"].as_f64().map(percent),
        out_of_scope_recall: maybe("out_of_scope_recall"),
        seconds: number(&trained, "seconds")?,
        samples_per_s: number(&trained, "samples_per_s")?,
    })
}

/// What `pilot run` says about an artifact on a file; `more` may name the label of what is out of scope.
pub(super) fn judge(model: &str, test: &str, more: &[&str], models: &str, tmp: &Path) -> Result<serde_json::Value> {
    let out = tempfile::tempdir_in(tmp).map_err(|e| Error::data(format!("make a folder: {e}")))?;
    let out = out.path().join("pilot").display().to_string();
    let start = ["--models-dir", models, "--json", "pilot", "run", "--model", model, "--data", test, "--out", &out];
    let scope = if more.first() == Some(&"--out-of-scope") { &more[..2] } else { &[] };
    let printed = last_line(&process::run(tmp, &[&start[..], scope].concat())?)?;
    let judged = printed["models"].as_object().and_then(|all| all.values().next().cloned());
    judged.ok_or_else(|| Error::internal("read what the pilot printed: it has no model"))
}

fn say(o: &Outcome) {
    let maybe = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.2}%"));
    println!(
        "{:<22} {:>5} {:>7} {:>6} {:>8.2}% {:>15} {:>9} {:>9} {:>8.0} {:>9.1}",
        o.set,
        o.seed,
        o.n_train,
        o.n,
        o.accuracy,
        format!("[{:.2}, {:.2}]", o.interval[0], o.interval[1]),
        maybe(o.in_scope),
        maybe(o.out_of_scope_recall),
        o.seconds,
        o.samples_per_s
    );
}

/// Means over the seeds, with their 95 % interval (Student's t) where there are several, printed and given back.
fn means(quality: &[Outcome]) -> serde_json::Map<String, serde_json::Value> {
    let mut means = serde_json::Map::new();
    for name in SETS {
        let of: Vec<&Outcome> = quality.iter().filter(|o| o.set == name).collect();
        let mut add = |figure: String, values: Vec<f64>| {
            if values.is_empty() {
                return;
            }
            let mean = understudy_stats::mean::mean(&values, 0.95);
            match values.len() {
                1 => println!("{figure:<28} {:>7.2}, one seed", mean.estimate),
                n => println!("{figure:<28} {:>7.2} [{:.2}, {:.2}] over {n} seeds", mean.estimate, mean.low, mean.high),
            }
            if values.len() > 1 {
                means.insert(format!("{figure}_interval"), vec![mean.low, mean.high].into());
            }
            means.insert(figure, mean.estimate.into());
        };
        if of.iter().any(|o| o.in_scope.is_some()) {
            add(format!("{name}_in_scope"), of.iter().filter_map(|o| o.in_scope).collect());
            add(format!("{name}_oos_recall"), of.iter().filter_map(|o| o.out_of_scope_recall).collect());
        } else {
            add(name.to_owned(), of.iter().map(|o| o.accuracy).collect());
        }
    }
    means
}
