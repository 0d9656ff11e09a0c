//! A generative model before and after its adapter: slots of SNIPS requests as JSON, by the commands that a user would
//! type. The fine-tuned model and its base answer through the real gateway, both under the grammar of the same schema.
//!
//! The base is also asked with examples in its prompt. Slots are scored by `pilot::metrics::fields`, as `pilot run
//! --task extract` does; the intent is counted apart, because everybody would get points for it in every row.

use super::AdaptArgs;
use crate::process::{Gateway, free_port, run as understudy};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt::Write, path::Path, time::Instant};
use understudy_core::{Error, Result, Seed, hash::sha256_hex};
use understudy_pilot::metrics::{Metric, fields};
use understudy_upstream::{HttpOptions, ProxyUse, http_client};

const SYSTEM: &str = "Extract the intent and the slots of the request as JSON.";
/// Rows of the test set that are asked.
const TESTED: usize = 200;
/// Examples in the prompt of the base.
const SHOTS: usize = 5;
/// Requests at a time.
const TOGETHER: usize = 4;

#[derive(Deserialize)]
struct Row {
    tokens: Vec<String>,
    tags: Vec<String>,
    intent: String,
}

impl Row {
    fn text(&self) -> String {
        self.tokens.join(" ")
    }

    /// Intent and slots, in the order of the schema: the grammar has that order too.
    fn answer(&self) -> Value {
        let mut slots: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
        for (token, tag) in self.tokens.iter().zip(&self.tags) {
            match tag.split_once('-') {
                Some(("B", slot)) => slots.entry(slot.to_owned()).or_default().push(token.clone()),
                Some((_, slot)) => {
                    if let Some(last) = slots.get_mut(slot).and_then(|values| values.last_mut()) {
                        last.push(' ');
                        last.push_str(token);
                    }
                }
                None => {}
            }
        }
        let intent = [("intent".to_owned(), json!(self.intent))];
        Value::Object(intent.into_iter().chain(slots.into_iter().map(|(k, v)| (k, json!(v.join("; "))))).collect())
    }
}

/// One model's answers, scored.
#[derive(Debug, Serialize)]
pub(super) struct Scored {
    model: &'static str,
    /// Micro-averaged over slots.
    slot_f1: Metric,
    intent_accuracy: Option<Metric>,
    /// Rows of which everything is right.
    exact: Option<Metric>,
    answers_per_s: f64,
}

/// What the benchmark found.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    slot_f1_before: f64,
    slot_f1_after: f64,
    generative_rows: Vec<Scored>,
    /// What `adapt finetune --json` printed, without the loss curve.
    generative_training: Value,
}

fn read(path: &Path) -> Result<Vec<Row>> {
    let lines = understudy_dataset::lines(path)?;
    let row = |line: std::io::Result<String>| -> Result<Row> {
        let line = line.map_err(|e| Error::data(format!("read {}: {e}", path.display())))?;
        serde_json::from_str(&line).map_err(|e| Error::data(format!("read {}: {e}", path.display())))
    };
    std::io::BufRead::lines(lines).map(row).collect()
}

/// Measures; `None` without the data set.
pub(super) fn measure(args: &AdaptArgs, data: &Path, models: &Path) -> Result<Option<Figures>> {
    let folder = data.join("extraction/snips_slots");
    if !folder.exists() {
        return Ok(None);
    }
    let (mut train, mut test) = (read(&folder.join("train.jsonl.zst"))?, read(&folder.join("test.jsonl"))?);
    // An order that is nobody's choice: the file's goes by intent.
    for rows in [&mut train, &mut test] {
        rows.sort_by_cached_key(|row| sha256_hex(row.text().as_bytes()));
    }
    let asked: BTreeSet<String> = test.iter().map(Row::text).collect();
    train.retain(|row| !asked.contains(&row.text()));
    let slots: BTreeSet<String> = train
        .iter()
        .flat_map(|row| &row.tags)
        .filter_map(|tag| tag.split_once('-'))
        .map(|tag| tag.1.to_owned())
        .collect();
    let intents: BTreeSet<&str> = train.iter().map(|row| row.intent.as_str()).collect();
    let mut properties = Map::new();
    properties.insert("intent".into(), json!({"enum": intents}));
    properties.extend(slots.iter().map(|slot| (slot.clone(), json!({"type": "string"}))));
    let schema = json!({
        "type": "object", "properties": properties, "required": ["intent"], "additionalProperties": false,
    });
    train.truncate(args.rows);
    test.truncate(TESTED);

    let scratch = tempfile::tempdir().map_err(|e| Error::unavailable(format!("make a temporary folder: {e}")))?;
    let here = scratch.path();
    let mut lines = String::new();
    for row in &train {
        let messages = json!([
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": row.text()},
            {"role": "assistant", "content": row.answer().to_string()},
        ]);
        writeln!(lines, "{}", json!({"messages": messages})).expect("writing to a string cannot fail");
    }
    let write = |name: &str, text: &str| {
        std::fs::write(here.join(name), text).map_err(|e| Error::unavailable(format!("write {name}: {e}")))
    };
    write("train.jsonl", &lines)?;
    let models = models.to_string_lossy().into_owned();
    println!("\nadapter of smollm2, {} rows of SNIPS", train.len());
    let threads = args.threads.to_string();
    let printed = understudy(
        here,
        &[
            "adapt",
            "finetune",
            "--models-dir",
            &models,
            "--method",
            "lora",
            "--base",
            "smollm2",
            "--data",
            "train.jsonl",
            "--out",
            "slots",
            "--seed",
            "1",
            "--threads",
            &threads,
            "--test-share",
            "0.03",
            "--json",
        ],
    )?;
    let mut training: Value = printed
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| Error::internal("read what training printed: it is no JSON"))?;
    if let Some(fields) = training.as_object_mut() {
        fields.remove("losses");
        fields.remove("artifact");
    }
    println!("{training:#}");

    let port = free_port()?;
    write(
        "understudy.toml",
        &format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\n\n[store]\npath = \"understudy.db\"\n\n\
             [local.base]\nmodel = \"smollm2\"\nparallel = {TOGETHER}\nthreads = {threads}\n\n\
             [local.slots]\nmodel = \"slots\"\nparallel = {TOGETHER}\nthreads = {threads}\n",
        ),
    )?;
    let scored = tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(async {
            let options = HttpOptions { proxy: ProxyUse::Direct, ..HttpOptions::default() };
            let client = http_client(&options)?;
            let gateway = Gateway::start(here, port, &client).await?;
            let mut scored = Vec::new();
            for (label, model, shots) in [
                ("smollm2", "base", &[][..]),
                ("smollm2, 5 examples in the prompt", "base", &train[..SHOTS.min(train.len())]),
                ("smollm2 with its adapter", "slots", &[][..]),
            ] {
                let exam = Exam { schema: &schema, slots: &slots, model, shots };
                scored.push(exam.score(label, &test, &gateway.chat_url(), &client).await?);
            }
            Ok::<_, Error>(scored)
        })
    })?;
    println!("  {:<36} {:>8} {:>16} {:>8} {:>8} {:>9}", "", "slot F1", "95 %", "intent", "exact", "answers/s");
    for row in &scored {
        let share = |metric: &Option<Metric>| metric.map_or(f64::NAN, |m| 100.0 * m.estimate);
        let f1 = row.slot_f1;
        println!(
            "  {:<36} {:>8.2} {:>7.2} – {:<6.2} {:>8.1} {:>8.1} {:>9.1}",
            row.model,
            100.0 * f1.estimate,
            100.0 * f1.low,
            100.0 * f1.high,
            share(&row.intent_accuracy),
            share(&row.exact),
            row.answers_per_s
        );
    }
    let f1 = |i: usize| scored.get(i).map_or(f64::NAN, |row| row.slot_f1.estimate);
    Ok(Some(Figures {
        slot_f1_before: f1(0),
        slot_f1_after: f1(2),
        generative_rows: scored,
        generative_training: training,
    }))
}

struct Exam<'a> {
    schema: &'a Value,
    slots: &'a BTreeSet<String>,
    model: &'a str,
    shots: &'a [Row],
}

impl Exam<'_> {
    async fn score(&self, label: &'static str, test: &[Row], url: &str, client: &reqwest::Client) -> Result<Scored> {
        let started = Instant::now();
        let answers: Vec<Result<String>> =
            stream::iter(test).map(|row| self.ask(row, url, client)).buffered(TOGETHER).collect().await;
        let answers_per_s = test.len() as f64 / started.elapsed().as_secs_f64();
        let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
        let expected: Vec<Value> = test.iter().map(Row::answer).collect();
        let texts: Vec<&str> = answers.iter().map(String::as_str).collect();
        let names: Vec<&str> = self.slots.iter().map(String::as_str).collect();
        let report = fields::report(&expected, &texts, &names, Seed(1))
            .ok_or_else(|| Error::internal("score answers: there are none"))?;
        let given: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap_or_default()).collect();
        let pairs = || expected.iter().zip(&given);
        let n = expected.len() as u64;
        let intents = pairs().filter(|(a, b)| a["intent"] == b["intent"]).count() as u64;
        let exact = pairs().filter(|(a, b)| a == b).count() as u64;
        Ok(Scored {
            model: label,
            slot_f1: report.micro_f1,
            intent_accuracy: Metric::share(intents, n),
            exact: Metric::share(exact, n),
            answers_per_s,
        })
    }

    async fn ask(&self, row: &Row, url: &str, client: &reqwest::Client) -> Result<String> {
        let turn = |role: &str, content: String| json!({"role": role, "content": content});
        let mut messages = vec![turn("system", SYSTEM.to_owned())];
        for shot in self.shots {
            messages.push(turn("user", shot.text()));
            messages.push(turn("assistant", shot.answer().to_string()));
        }
        messages.push(turn("user", row.text()));
        let body = json!({
            "model": self.model, "messages": messages, "temperature": 0, "max_tokens": 120,
            "response_format": {"type": "json_schema", "json_schema": {"name": "slots", "schema": self.schema}},
        });
        let failed = |what: String| Error::unavailable(format!("ask the gateway: {what}"));
        let sent = client.post(url).header("content-type", "application/json").body(body.to_string()).send().await;
        let text = sent.map_err(|e| failed(e.to_string()))?.text().await.map_err(|e| failed(e.to_string()))?;
        let answer: Value = serde_json::from_str(&text).map_err(|e| failed(e.to_string()))?;
        let content = answer["choices"][0]["message"]["content"].as_str().map(str::to_owned);
        content.ok_or_else(|| failed(text))
    }
}
