//! `pilot data` and `pilot run` from the outside, with models that need no files.

use crate::support::{folder, run};
use serde_json::{Value, json};
use std::{fmt::Write, fs, path::Path};

/// Rows whose words tell the label, and what a large model answered to them: wrong on one in ten.
fn write_data(folder: &Path) {
    let topics = [("card", ["lost", "blocked", "stolen"]), ("transfer", ["pending", "late", "missing"])];
    let (mut test, mut train, mut outcomes) = (String::new(), String::new(), String::new());
    for i in 0..60 {
        let (label, words) = &topics[i % 2];
        let text = format!("why is my {label} {} since day {i}", words[i % 3]);
        let row = json!({ "utterance": text, "intent": label });
        writeln!(if i < 40 { &mut test } else { &mut train }, "{row}").expect("a string");
        let said = if i % 10 == 0 { "transfer" } else { label };
        let answer = json!({ "answer": said, "confidence": 0.9, "latency_ms": 800.0, "cost_usd": 0.001 });
        let outcome = json!({ "id": i.to_string(), "prompt": text, "label": label, "models": { "gpt": answer } });
        writeln!(outcomes, "{outcome}").expect("a string");
    }
    for (name, text) in [("test.jsonl", test), ("train.jsonl", train), ("outcomes.jsonl", outcomes)] {
        fs::write(folder.join(name), text).expect("a file");
    }
}

const RUN: &[&str] = &[
    "pilot",
    "run",
    "--data",
    "test.jsonl",
    "--train",
    "train.jsonl",
    "--model",
    "words",
    "--model",
    "recorded:outcomes.jsonl#gpt",
    "--out",
    "out",
    "--json",
];

#[test]
fn a_preview_says_what_a_file_holds() {
    let folder = folder();
    write_data(folder.path());
    let said = run(folder.path(), &["pilot", "data", "test.jsonl", "--against", "train.jsonl", "--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let object = said.json();
    assert_eq!(
        (&object["n"], &object["fields"]["text"], &object["fields"]["label"]),
        (&json!(40), &json!("utterance"), &json!("intent"))
    );
    assert_eq!(object["labels"], json!({ "card": 20, "transfer": 20 }));
    assert_eq!(object["leakage"]["exact"], 0);
    let said = run(folder.path(), &["pilot", "data", "test.jsonl", "--label", "nope"]);
    assert_eq!(said.code, 64);
    assert!(said.err.contains("the fields are utterance, intent"), "{}", said.err);
}

#[test]
fn a_run_measures_judges_reports_and_goes_on_where_it_was() {
    let folder = folder();
    write_data(folder.path());
    let said = run(folder.path(), RUN);
    assert_eq!(said.code, 0, "{}", said.err);
    let result = said.json();
    let model = |name: &str, key: &str| result["models"][name][key].clone();
    assert_eq!((model("words", "n"), model("words", "accuracy")), (json!(40), json!(1.0)));
    assert_eq!(model("gpt", "accuracy"), json!(0.9));
    assert!(model("gpt", "cost_usd").as_f64().is_some_and(|usd| (usd - 0.04).abs() < 1e-9));
    assert_eq!((model("gpt", "latency_ms_p50"), model("words", "cost_usd")), (json!(800.0), json!(0.0)));
    for metric in ["accuracy", "macro_f1", "ece", "latency_ms_p95"] {
        assert!(result["models"]["words"]["intervals"][metric]["n"].is_number(), "{metric} has an interval");
    }
    assert_eq!(result["baseline"], "words");
    let html = fs::read_to_string(folder.path().join("out/report.html")).expect("the report");
    assert!(html.contains("words") && !html.contains("http://") && !html.contains("https://"));
    let outcomes = fs::read_to_string(folder.path().join("out/outcomes.jsonl")).expect("the outcomes");
    let first: Value = serde_json::from_str(outcomes.lines().next().expect("a row")).expect("JSON");
    assert_eq!(first["models"]["words"]["quality"], 1.0);

    let again = run(folder.path(), RUN);
    assert_eq!(again.json()["models"]["words"]["resumed"], 40, "nothing is asked twice");
    assert_eq!(again.json()["models"]["words"]["accuracy"], 1.0);

    let other = run(folder.path(), &[RUN, &["--seed", "2"]].concat());
    assert_eq!(other.code, 64);
    assert!(other.err.contains("choose another --out"), "{}", other.err);
}

#[test]
fn what_cannot_be_tried_says_what_can() {
    let folder = folder();
    write_data(folder.path());
    let said = run(folder.path(), &["pilot", "run", "--data", "test.jsonl", "--model", "nope"]);
    assert_eq!(said.code, 66);
    assert!(said.err.contains("`words`") && said.err.contains("recorded:FILE#MODEL"), "{}", said.err);
    let said = run(folder.path(), &["pilot", "run", "--data", "test.jsonl", "--model", "recorded:outcomes.jsonl#x"]);
    assert!(said.err.contains("it has answers of gpt"), "{}", said.err);
}
