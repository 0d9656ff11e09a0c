//! `adapt finetune --method fewshot` from the outside, on a small encoder of random numbers.

use crate::support::{folder, run};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Installs the encoder as `tiny`, and writes two dozen texts a label and 150 without any.
fn prepare(folder: &Path) {
    let encoder = format!("file:{}/../model/tests/encoder/bert", env!("CARGO_MANIFEST_DIR"));
    let said = run(folder, &["pull", &encoder, "--as", "tiny"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let text = |i: usize| {
        let pick = |words: &[&'static str], at: usize| words[at % words.len()];
        let (animal, place) = if i.is_multiple_of(2) { ("fish", "in the sea") } else { ("bird", "in the sky") };
        let (colour, end) =
            (pick(&["red", "blue", "the"], i / 2), pick(&[".", ",", ". .", ", .", ", ,", ". ,"], i / 6));
        let how = pick(&["swims", "flies", "it", "high", "deep"], i / 36);
        format!("{colour} {animal} {how} {place} {end}")
    };
    let lines = |rows: Vec<Value>| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let label = |i: usize| if i.is_multiple_of(2) { "water" } else { "air" };
    let few = (0..48).map(|i| json!({ "text": text(i * 7), "label": label(i * 7) })).collect();
    fs::write(folder.join("few.jsonl"), lines(few)).expect("written");
    let pool = (0..150).map(|i| json!({ "text": text(i) })).collect();
    fs::write(folder.join("pool.jsonl"), lines(pool)).expect("written");
}

#[test]
fn texts_without_labels_are_learned_from_recorded_and_told_apart_from_the_labelled() {
    let folder = folder();
    let dir = folder.path();
    prepare(dir);
    let train = |more: &[&str], out: &str| {
        let args = ["adapt", "finetune", "--method", "fewshot", "--base", "tiny", "--data", "few.jsonl", "--json"];
        let said = run(
            dir,
            &[&args[..], &["--test-share", "0", "--epochs", "4", "--name", "few", "--out", out], more].concat(),
        );
        assert_eq!(said.code, 0, "{}", said.err);
        said
    };
    let plain = train(&[], "models/plain").json();
    let with = train(&["--unlabelled", "pool.jsonl"], "models/with");
    assert!(
        with.err.contains("texts without labels (") && with.err.contains("are right without these"),
        "{}",
        with.err
    );
    let summary = with.json();
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.join("models/with/artifact.json")).expect("there")).expect("JSON");
    // Repeats and what has a label in the examples do not count.
    let texts = manifest["unlabelled"]["texts"].as_u64().expect("a number");
    assert!((90..150).contains(&texts), "{texts}");
    assert_eq!(summary["unlabelled"], texts);
    assert_eq!(plain["unlabelled"], 0);
    assert_ne!(plain["hash"], summary["hash"]);
    let card = fs::read_to_string(dir.join("models/with/README.md")).expect("there");
    assert!(card.contains("and on texts without labels"), "{card}");
    assert_eq!(train(&["--unlabelled", "pool.jsonl"], "models/again").json()["hash"], summary["hash"]);
    // Labels in the file are not read, and texts that have one in the examples teach nothing twice.
    assert_eq!(train(&["--unlabelled", "few.jsonl"], "models/same").json()["hash"], plain["hash"]);
}

#[test]
fn texts_without_labels_are_refused_where_no_use_is_made_of_them() {
    let folder = folder();
    prepare(folder.path());
    let args = ["adapt", "finetune", "--base", "tiny", "--data", "few.jsonl", "--out", "model", "--unlabelled"];
    let said = run(folder.path(), &[&args[..], &["pool.jsonl"]].concat());
    assert!(said.code != 0 && said.err.contains("--method fewshot"), "{}", said.err);
    let said = run(folder.path(), &[&args[..], &["nowhere.jsonl", "--method", "fewshot"]].concat());
    assert!(said.code != 0 && said.err.contains("nowhere.jsonl"), "{}", said.err);
}
