//! Numbers as answers, from training to the gateway, on a small encoder of random numbers.

use crate::support::{Serving, folder, run};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Installs the encoder as `tiny`, and writes texts whose number is ten a `fish` or twenty a `bird`, and one for `high`.
fn prepare(folder: &Path) {
    let encoder = format!("file:{}/../model/tests/encoder/bert", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(run(folder, &["pull", &encoder, "--as", "tiny"]).code, 0);
    let row = |i: usize| {
        let pick = |words: &[&'static str], at: usize| words[at % words.len()];
        let (animal, how) = (pick(&["fish", "bird", "it"], i), pick(&["high", "deep"], i / 3));
        let rest = [pick(&["red", "blue", "the"], i / 6), pick(&["swims", "flies"], i / 18)];
        let end = pick(&[".", ",", ". .", ", .", ", ,", ". ,", "..", ". . .", ", , ,"], i / 36);
        let worth = [10.0, 20.0, 0.0][i % 3] + if how == "high" { 1.0 } else { 0.0 };
        format!("{}\n", json!({ "text": format!("{} {animal} {} {how} {end}", rest[0], rest[1]), "worth": worth }))
    };
    fs::write(folder.join("worth.jsonl"), (0..324).map(row).collect::<String>()).expect("written");
}

#[tokio::test]
async fn numbers_are_learned_measured_and_served() {
    let folder = folder();
    let dir = folder.path();
    prepare(dir);
    let train = |method: &str, out: &str| {
        let args = ["adapt", "finetune", "--task", "regress", "--base", "tiny", "--data", "worth.jsonl", "--json"];
        let more = ["--label", "worth", "--method", method, "--test-share", "0.2", "--dtype", "f32", "--name", "worth"];
        let long = if method == "full" { &["--epochs", "12", "--rate", "2e-3"][..] } else { &[] };
        let said = run(dir, &[&args[..], &more, &["--out", out], long].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        said.json()
    };
    let figure = |said: &Value, name: &str| said["metrics"][name]["estimate"].as_f64().expect("measured");
    let (head, full) = (train("head", "models/head"), train("full", "models/worth"));
    println!("mean error: head {:.2}, full {:.2}", figure(&head, "mae"), figure(&full, "mae"));
    assert!(figure(&full, "r2") > 0.9 && figure(&full, "mae") < figure(&head, "mae"), "{full}");
    assert!(figure(&full, "spearman") > 0.8 && figure(&full, "held") > 0.6, "{full}");
    assert!(full["margin"].as_f64().expect("enough texts") > 0.0);
    assert_eq!(train("full", "models/again")["hash"], full["hash"], "the same data and seed give the same model");
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.join("models/worth/artifact.json")).expect("written")).expect("JSON");
    assert_eq!((&manifest["kind"], &manifest["format"]), (&json!("regressor"), &json!(3)));
    assert_eq!(manifest["labels"], json!(["worth"]));
    let card = fs::read_to_string(dir.join("models/worth/README.md")).expect("written");
    assert!(card.contains("A regressor") && card.contains("nine texts in ten"), "{card}");

    let pilot = ["pilot", "run", "--model", "models/worth", "--data", "worth.jsonl", "--label", "worth", "--json"];
    let said = run(dir, &[&pilot[..], &["--task", "regress"]].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    let measured = &said.json()["models"]["worth"];
    assert!(measured["closeness"].as_f64() > Some(0.9) && measured["answered"].as_f64() == Some(1.0), "{measured}");
    assert!(measured["intervals"]["mae"]["high"].as_f64() > measured["mae"].as_f64(), "{measured}");
    let refused = run(dir, &[&pilot[..], &["--task", "classify", "--out", "other"]].concat());
    assert!(refused.code != 0 && refused.err.contains("--task regress"), "{}", refused.err);
    let refused =
        run(dir, &["adapt", "quantize", "--model", "models/worth", "--data", "worth.jsonl", "--label", "worth"]);
    assert!(refused.code != 0 && refused.err.contains("one label"), "{}", refused.err);

    let config = "[server]\nlisten = \"127.0.0.1:0\"\n\n[local.worth]\nmodel = \"models/worth\"\n";
    fs::write(dir.join("understudy.toml"), config).expect("written");
    let (code, answer) = Serving::start(dir).ask("worth", "red bird swims deep .").await;
    let number: f64 = answer.parse().expect("a number");
    assert!(code == 200 && (number - 20.0).abs() < 5.0, "{answer}");
}

#[test]
fn what_has_no_numbers_or_only_one_is_refused() {
    let folder = folder();
    let dir = folder.path();
    prepare(dir);
    let train = |rows: &str, more: &[&str]| {
        fs::write(dir.join("rows.jsonl"), rows).expect("written");
        let args = ["adapt", "finetune", "--task", "regress", "--base", "tiny", "--data", "rows.jsonl", "--out", "x"];
        run(dir, &[&args[..], more].concat())
    };
    let same: String = (0..40).map(|i| format!("{}\n", json!({ "text": format!("w{i}"), "label": 3 }))).collect();
    for (rows, more, says) in [
        ("{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\"label\":\"many\"}\n", &[][..], "line 2: `many`"),
        (&same, &[], "all equal"),
        (&same, &["--method", "words"], "--method head, lora or full"),
        (&same, &["--out-of-scope", "none"], "--out-of-scope"),
        (&same, &["--soft", "label"], "--soft"),
    ] {
        let said = train(rows, more);
        assert!(said.code != 0 && said.err.contains(says), "{says}: {}", said.err);
    }
    assert!(!dir.join("x").exists());
}
