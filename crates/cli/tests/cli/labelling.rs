//! `adapt label` from the outside: a recorded model labels texts.

use crate::support::{CONFIG, folder, run};
use serde_json::{Value, json};
use std::{fmt::Write, fs, path::Path};

/// Texts of which every third has its label, and a model that is right but for every tenth text, where it says something
/// else.
fn write_texts(folder: &Path, n: usize) {
    let (mut texts, mut answers) = (String::new(), String::new());
    for i in 0..n {
        let text = format!("message number {i}");
        let label = ["spam", "ham"][i % 2];
        let said = if i % 10 == 9 { "no idea" } else { label };
        let row = if i % 3 == 0 { json!({ "text": text, "label": label }) } else { json!({ "text": text }) };
        writeln!(texts, "{row}").expect("a string");
        let answer = json!({ "text": said, "tokens_in": 100, "tokens_out": 1, "latency_ms": 0 });
        writeln!(answers, "{}", json!({ "id": i.to_string(), "prompt": text, "models": { "gpt": answer } }))
            .expect("a string");
    }
    fs::write(folder.join("texts.jsonl"), texts).expect("written");
    fs::write(folder.join("answers.jsonl"), answers).expect("written");
    fs::write(folder.join("understudy.toml"), CONFIG).expect("written");
}

fn label(folder: &Path, more: &[&str]) -> crate::support::Said {
    let args = ["adapt", "label", "--data", "texts.jsonl", "--model", "gpt", "--out", "labelled.jsonl", "--json"];
    run(folder, &[&args, more].concat())
}

#[test]
fn every_text_is_paid_for_once_and_the_labels_are_checked() {
    let folder = folder();
    let folder = folder.path();
    write_texts(folder, 100);
    let said = label(folder, &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let first = said.json();
    assert_eq!(
        (&first["labelled"], &first["invalid"], &first["resumed"]),
        (&json!(90), &json!(10), &json!(0)),
        "{first}"
    );
    // Of the 34 texts with a label 4 are among those that the model does not know.
    assert_eq!(
        (&first["agreement_with_labels"]["n"], &first["agreement_with_labels"]["rate"]),
        (&json!(30), &json!(1.0))
    );
    assert_eq!(
        (&first["agreement_with_itself"]["n"], &first["agreement_with_itself"]["kappa"]),
        (&json!(50), &json!(1.0))
    );
    let cost = first["cost_usd"].as_f64().expect("a price is known");
    assert!((cost - 150.0 * 102e-6).abs() < 1e-9, "100 texts and 50 once more: {cost}");
    let lines = fs::read_to_string(folder.join("labelled.jsonl")).expect("the labels");
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(rows.len() == 90 && rows.iter().all(|row| row["label"] != "no idea" && row["teacher"] == "gpt"), "{lines}");

    // Again with more texts: only those are paid for, and some that are checked now.
    write_texts(folder, 110);
    let again = label(folder, &["--check", "0"]).json();
    assert_eq!((&again["labelled"], &again["resumed"]), (&json!(99), &json!(100)), "{again}");
    let more = again["cost_usd"].as_f64().expect("a price is known") - cost;
    assert!((more - 10.0 * 102e-6).abs() < 1e-9, "{more}");

    let trained = run(folder, &["pilot", "data", "labelled.jsonl", "--json"]).json();
    assert_eq!(trained["n"], 99, "{trained}");
}

#[test]
fn a_budget_holds_and_a_higher_one_goes_on() {
    let folder = folder();
    let folder = folder.path();
    write_texts(folder, 60);
    let capped = label(folder, &["--max-cost-usd", "0.002"]);
    assert_eq!(capped.code, 0, "{}", capped.err);
    let found = capped.json();
    assert!(capped.out.contains("higher --max-cost-usd") && found["ended"]["reason"] == "cost_cap", "{}", capped.out);
    assert!(found["cost_usd"].as_f64() <= Some(0.002) && found["labelled"].as_u64() < Some(30), "{found}");
    let whole = label(folder, &["--max-cost-usd", "1"]).json();
    assert!(whole["labelled"] == 54 && whole["resumed"].as_u64() > Some(0), "{whole}");
}

#[test]
fn several_answers_become_shares() {
    let folder = folder();
    let folder = folder.path();
    write_texts(folder, 20);
    let said = label(folder, &["--samples", "3", "--check", "0"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.json()["labelled"], 18);
    let lines = fs::read_to_string(folder.join("labelled.jsonl")).expect("the labels");
    let row: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&row["label"], &row["shares"]), (&json!("spam"), &json!({ "spam": 1.0 })), "{row}");
}

#[test]
fn what_cannot_be_labelled_is_said_before_anything_is_paid() {
    let folder = folder();
    let folder = folder.path();
    write_texts(folder, 20);
    for (more, says) in [
        (&["--labels", "spam"][..], "two are needed"),
        (&["--labels", "spam,eggs"], "has the label `ham`"),
        (&["--check", "2"], "--check lies in [0, 1]"),
        (&["--examples", "none.jsonl"], "none.jsonl"),
    ] {
        let said = label(folder, more);
        assert!(said.code != 0 && said.err.contains(says), "{more:?}: {}", said.err);
        assert!(!folder.join("labelled.jsonl").exists());
    }
    let texts = fs::read(folder.join("texts.jsonl")).expect("texts");
    let said = run(folder, &["adapt", "label", "--data", "texts.jsonl", "--model", "gpt", "--out", "./texts.jsonl"]);
    assert!(said.code == 64 && said.err.contains("would be replaced"), "{}", said.err);
    assert_eq!(fs::read(folder.join("texts.jsonl")).expect("texts"), texts);
    let args = ["adapt", "label", "--data", "texts.jsonl", "--model", "nobody", "--out", "l.jsonl"];
    let said = run(folder, &args);
    assert!(said.code != 0 && said.err.contains("find model `nobody`"), "{}", said.err);
}
