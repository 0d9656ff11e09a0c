//! `adapt data` from the outside.

use crate::support::{folder, run};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

/// Rows of two classes with an e-mail address in each, one copy, one row without a label.
fn write_data(folder: &Path) {
    let topics = [("card", ["lost", "blocked", "stolen"]), ("transfer", ["pending", "late", "missing"])];
    let (mut rows, mut eval) = (String::new(), String::new());
    for i in 0..80 {
        let (label, words) = &topics[i % 2];
        // Words of its own keep texts apart.
        let own = ["alpha", "bravo", "carol", "delta", "eagle", "fjord", "grape", "hotel", "igloo"];
        let text = format!(
            "{} {} {label} {} mail u{i}@b.de",
            own[i % 9].repeat(2),
            own[i * 7 / 9 % 9].repeat(3),
            words[i % 3]
        );
        writeln!(rows, "{}", json!({ "text": text, "label": label, "id": format!("r{i}") })).expect("a string");
        if i == 3 {
            writeln!(rows, "{}", json!({ "text": text.to_uppercase(), "label": label, "id": "copy" }))
                .expect("a string");
            writeln!(eval, "{}", json!({ "text": text, "label": label })).expect("a string");
        }
    }
    writeln!(rows, "{}", json!({ "text": "card or transfer, who knows", "id": "open" })).expect("a string");
    fs::write(folder.join("rows.jsonl"), rows).expect("a file");
    fs::write(folder.join("eval.jsonl"), eval).expect("a file");
}

fn ids(folder: &Path, part: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(folder.join(part)).expect("the part was written");
    let row = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned();
    text.lines().map(row).collect()
}

#[test]
fn rows_become_parts_with_a_card_that_accounts_for_every_row() {
    let folder = folder();
    write_data(folder.path());
    let args = ["adapt", "data", "rows.jsonl", "--out", "out", "--redact", "--queue", "1", "--test", "0.2", "--json"];
    let said = run(folder.path(), &args);
    assert_eq!(said.code, 0, "{}", said.err);
    let out = folder.path().join("out");
    let card: Value = serde_json::from_slice(&fs::read(out.join("data.json")).expect("a card")).expect("JSON");
    let parts: Vec<BTreeSet<String>> =
        ["train.jsonl", "calibrate.jsonl", "test.jsonl"].map(|part| ids(&out, part)).into();
    let kept: usize = parts.iter().map(BTreeSet::len).sum();
    let removed: u64 = card["removed"].as_object().expect("reasons").values().filter_map(Value::as_u64).sum();
    assert_eq!(kept as u64 + removed, 82, "{card}");
    assert_eq!(card["removed"]["duplicate"], 1, "{card}");
    assert_eq!(card["removed"]["unlabelled"], 1, "{card}");
    assert_eq!(card["redacted"]["EMAIL_ADDRESS"], 81, "{card}");
    assert!(!fs::read_to_string(out.join("train.jsonl")).expect("a part").contains('@'));
    assert!(fs::read_to_string(out.join("queue.jsonl")).expect("a queue").contains("who knows"));
    let again = run(folder.path(), &args);
    assert!(again.code != 0 && again.err.contains("--force"), "{}", again.err);
    let chats = run(folder.path(), &["adapt", "data", "rows.jsonl", "--out", "chats", "--format", "openai"]);
    assert_eq!(chats.code, 0, "{}", chats.err);
    let read = run(folder.path(), &["pilot", "data", "chats/train.jsonl", "--json"]).json();
    assert_eq!(read["format"], "chat");
    for (format, file) in [("csv", "train.csv"), ("parquet", "train.parquet")] {
        let said = run(folder.path(), &["adapt", "data", "rows.jsonl", "--out", format, "--format", format]);
        assert_eq!(said.code, 0, "{}", said.err);
        let read = run(folder.path(), &["pilot", "data", &format!("{format}/{file}"), "--json"]).json();
        assert_eq!(read["data_hash"], said_hash(folder.path(), format), "{format}");
    }
}

fn said_hash(folder: &Path, out: &str) -> Value {
    let card: Value =
        serde_json::from_slice(&fs::read(folder.join(out).join("data.json")).expect("a card")).expect("JSON");
    card["parts"]["train"]["hash"].clone()
}

#[test]
fn nothing_of_the_users_is_replaced_or_removed() {
    let folder = folder();
    write_data(folder.path());
    let data = |more: &[&str]| run(folder.path(), &[&["adapt", "data"], more].concat());
    let path = |file: &str| folder.path().join(file);
    fs::rename(path("rows.jsonl"), path("train.jsonl")).expect("renamed");
    fs::rename(path("eval.jsonl"), path("test.csv")).expect("renamed");
    // The user's own train.jsonl beside it; it is also what is read.
    for force in [&[][..], &["--force"]] {
        let said = data(&[&["train.jsonl", "--out", "."], force].concat());
        assert!(said.code == 64 && said.err.contains("is read, and would be replaced"), "{}", said.err);
    }
    fs::create_dir(path("mine")).expect("a folder");
    fs::write(path("mine/test.csv"), "text,label\nx,y\n").expect("written");
    let said = data(&["train.jsonl", "--out", "mine"]);
    assert!(said.code == 64 && said.err.contains("no card tells where from; --force"), "{}", said.err);
    assert!(path("mine/test.csv").exists() && path("train.jsonl").exists() && !path("mine/train.jsonl").exists());
    assert_eq!(data(&["train.jsonl", "--out", "mine", "--force"]).code, 0);
    assert!(!path("mine/test.csv").exists() && path("mine/train.jsonl").exists());
}

#[test]
fn evaluation_sets_and_data_that_cannot_train_are_refused() {
    let folder = folder();
    write_data(folder.path());
    let data = |more: &[&str]| run(folder.path(), &[&["adapt", "data", "rows.jsonl"], more].concat());
    let said = data(&["--against", "eval.jsonl", "--out", "refused"]);
    assert!(said.code != 0 && said.err.contains("--drop-contaminated"), "{}", said.err);
    assert!(!folder.path().join("refused").exists());
    let said = data(&["--against", "eval.jsonl", "--drop-contaminated", "--json"]);
    assert!(said.code == 0 && said.json()["removed"]["contaminated"].as_u64() >= Some(1), "{}", said.err);
    let said = data(&["--least-per-class", "60"]);
    assert!(said.code != 0 && said.err.contains("`card`"), "{}", said.err);
    for (content, says) in [
        (&b""[..], "no rows"),
        (b"{\"text\":\"a b\",\"label\":\"x\"}\n{\"text\":\"c d\",\"label\":\"x\"}\n", "two classes"),
        (b"{\"text\":\"\xff\",\"label\":\"x\"}\n", "line 1: the text is not UTF-8"),
    ] {
        fs::write(folder.path().join("bad.jsonl"), content).expect("a file");
        let said = run(folder.path(), &["adapt", "data", "bad.jsonl", "--out", "bad"]);
        assert!(said.code != 0 && said.err.contains(says), "{}", said.err);
    }
}
