//! `adapt finetune` from the outside, on a small encoder of random numbers.

use crate::support::{Serving, command, ended, folder, run};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Installs the encoder as `tiny`.
fn install(folder: &Path) {
    let encoder = format!("file:{}/../model/tests/encoder/bert", env!("CARGO_MANIFEST_DIR"));
    let said = run(folder, &["pull", &encoder, "--as", "tiny"]);
    assert_eq!(said.code, 0, "{}", said.err);
}

/// Texts of the encoder's words, with the list of those of four words that are in them.
fn write_lists(folder: &Path) {
    let mut lines = String::new();
    for i in 0..480 {
        let pick = |words: &[&'static str], at: usize| words[at % words.len()];
        let (colour, animal) = (pick(&["red", "blue", "the"], i), pick(&["fish", "bird", "it"], i / 3));
        let (how, place) =
            (pick(&["swims", "flies"], i / 9), pick(&["high", "deep", "in the sea", "in the sky"], i / 18));
        let end = pick(&[".", ",", ". .", ", .", ", ,", ". ,", ".."], i / 72);
        let text = format!("{colour} {animal} {how} {place} {end}");
        let labels: Vec<&str> = ["red", "blue", "fish", "bird"].into_iter().filter(|w| text.contains(w)).collect();
        writeln!(lines, "{}", json!({ "text": text, "labels": labels })).expect("a string");
    }
    fs::write(folder.join("lists.jsonl"), lines).expect("written");
}

fn metric(said: &Value, name: &str) -> f64 {
    said["metrics"][name]["estimate"].as_f64().unwrap_or_else(|| panic!("no {name} in {said}"))
}

#[tokio::test]
async fn lists_of_labels_are_learned_measured_and_served() {
    let folder = folder();
    let dir = folder.path();
    install(dir);
    write_lists(dir);
    let train = |method: &str, out: &str| {
        let mut args = vec!["adapt", "finetune", "--task", "classify", "--base", "tiny", "--data", "lists.jsonl"];
        args.extend(["--method", method, "--test-share", "0.2", "--dtype", "f32", "--out", out, "--json"]);
        args.extend(["--name", "tags"]);
        if method != "head" {
            args.extend(["--epochs", "12", "--rate", "2e-3"]);
        }
        let said = run(dir, &args);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.err.contains("rows list labels"), "{}", said.err);
        said.json()
    };
    let head = train("head", "models/head");
    let full = train("full", "models/tags");
    println!("micro F1: head {:.3}, full {:.3}", metric(&head, "micro_f1"), metric(&full, "micro_f1"));
    assert!(metric(&full, "micro_f1") > 0.95 && metric(&full, "exact_match") > 0.9, "{full}");
    assert!(metric(&head, "micro_f1") < metric(&full, "micro_f1") && metric(&head, "micro_f1") > 0.4, "{head}");
    assert_eq!(train("full", "models/again")["hash"], full["hash"], "the same data and seed give the same model");
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.join("models/tags/artifact.json")).expect("written")).expect("JSON");
    assert_eq!((&manifest["kind"], &manifest["format"]), (&json!("labeller"), &json!(3)));
    assert_eq!(manifest["thresholds"].as_array().map(Vec::len), Some(4));

    let args = ["pilot", "run", "--task", "classify", "--model", "models/tags", "--data", "lists.jsonl", "--json"];
    let piloted = run(dir, &args);
    assert_eq!(piloted.code, 0, "{}", piloted.err);
    let piloted = piloted.json();
    let text = piloted.to_string();
    assert!(text.contains("\"micro_f1\"") && text.contains("\"exact_match\""), "{piloted}");
    let refused = run(dir, &["adapt", "quantize", "--model", "models/tags", "--data", "lists.jsonl"]);
    assert!(refused.code != 0 && refused.err.contains("one label"), "{}", refused.err);

    let config = "[server]\nlisten = \"127.0.0.1:0\"\n\n[local.tags]\nmodel = \"models/tags\"\n";
    fs::write(dir.join("understudy.toml"), config).expect("written");
    let serving = Serving::start(dir);
    assert_eq!(serving.ask("tags", "red fish swims deep .").await, (200, r#"["fish","red"]"#.to_owned()));
    assert_eq!(serving.ask("tags", "the it flies high ,").await, (200, "[]".to_owned()));
}

#[test]
fn a_folder_in_which_a_model_is_made_is_refused_to_others_until_the_first_ends_or_is_killed() {
    let folder = folder();
    let dir = folder.path();
    install(dir);
    write_lists(dir);
    let long =
        ["adapt", "finetune", "--base", "tiny", "--data", "lists.jsonl", "--method", "full", "--out", "models/x"];
    let short = [&long[..], &["--epochs", "1"]].concat();
    let long = [&long[..], &["--epochs", "100000"]].concat();
    let mut first = command(dir, &long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let lock = dir.join("models/.x.lock");
    for _ in 0..600 {
        if lock.exists() && ended(command(dir, &short)).code == 69 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let second = run(dir, &short);
    assert_eq!(second.code, 69, "{}", second.err);
    assert!(second.err.contains("another process is at work there"), "{}", second.err);
    let killed = Command::new("kill").args(["-KILL", &first.id().to_string()]).status().expect("a kill command");
    assert!(killed.success());
    first.wait().expect("our child");
    assert!(lock.exists(), "what was killed could not tidy up");
    let third = run(dir, &short);
    assert_eq!(third.code, 0, "{}", third.err);
    assert!(!lock.exists());
}

#[test]
fn numbers_as_classes_and_broken_tags_are_said() {
    let folder = folder();
    let dir = folder.path();
    let numbers: String =
        (0..60).map(|i| format!("{}\n", json!({ "text": format!("w{i} n{}", i % 3), "label": i % 3 }))).collect();
    fs::write(dir.join("numbers.jsonl"), numbers).expect("written");
    let args = ["adapt", "finetune", "--method", "words", "--data", "numbers.jsonl", "--out", "model"];
    let said = run(dir, &args);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("are numbers and are learned as classes"), "{}", said.err);
    let tags =
        "{\"tokens\":[\"to\",\"Rome\"],\"tags\":[\"O\",\"B-city\"]}\n{\"tokens\":[\"to\",\"Rome\"],\"tags\":[\"O\"]}\n";
    fs::write(dir.join("tags.jsonl"), tags).expect("written");
    let said = run(dir, &["adapt", "finetune", "--task", "extract", "--data", "tags.jsonl", "--out", "slots"]);
    assert!(said.code != 0 && said.err.contains("line 2"), "{}", said.err);
    assert!(said.err.contains("`tokens` has 2 entries and `tags` 1"), "{}", said.err);
}

#[test]
fn what_a_model_learned_from_does_not_judge_it_from_whatever_file() {
    let folder = folder();
    let dir = folder.path();
    install(dir);
    let row = |i: usize| {
        let (colour, place) = (["red", "blue"][i % 2], ["high", "deep", "in the sea", "in the sky"][i / 2 % 4]);
        let end = [".", ",", ". .", ", .", ", ,", ". ,", ".."][i / 8 % 7];
        json!({ "text": format!("the {colour} fish {} {place} {end}", ["swims", "flies"][i / 56 % 2]), "label": colour })
    };
    let write = |file: &str, rows: std::ops::Range<usize>| {
        fs::write(dir.join(file), rows.map(|i| format!("{}\n", row(i))).collect::<String>()).expect("written");
    };
    write("first.jsonl", 0..80);
    write("all.jsonl", 0..112);
    let train = ["adapt", "finetune", "--base", "tiny", "--data", "first.jsonl", "--test-share", "0", "--json"];
    let trained = run(dir, &[&train[..], &["--out", "model"]].concat());
    assert_eq!(trained.code, 0, "{}", trained.err);
    let quantized = run(dir, &["adapt", "quantize", "--model", "model", "--data", "all.jsonl", "--json"]);
    assert_eq!(quantized.code, 0, "{}", quantized.err);
    assert_eq!(quantized.json()["n"], 32, "the others were learned from");
    let said = run(dir, &["adapt", "quantize", "--model", "model", "--data", "first.jsonl"]);
    assert!(said.code == 65 && said.err.contains("no row is left that its training did not see"), "{}", said.err);
    // What is made of it knows them too.
    let made =
        ["adapt", "quantize", "--model", "model", "--data", "all.jsonl", "--out", "small", "--at-most-loss", "99"];
    let made = run(dir, &made);
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(fs::read(dir.join("small/learned.bin")).ok(), fs::read(dir.join("model/learned.bin")).ok());
    let card = fs::read_to_string(dir.join("small/README.md")).expect("a card");
    assert!(card.contains("Picked among 5 on the same texts"), "{card}");
    let prune =
        ["adapt", "prune", "--model", "model", "--data", "all.jsonl", "--layers", "1", "--epochs", "1", "--json"];
    let pruned = run(dir, &[&prune[..], &["--out", "pruned"]].concat());
    assert_eq!(pruned.code, 0, "{}", pruned.err);
    assert_eq!(pruned.json()["n"], 32);
    // A folder that holds something else is refused before anything is trained.
    fs::create_dir(dir.join("thesis")).expect("a folder");
    fs::write(dir.join("thesis/thesis.tex"), "precious").expect("written");
    let said = run(dir, &[&train[..], &["--out", "thesis", "--force"]].concat());
    assert!(said.code == 64 && said.err.contains("holds no artifact"), "{}", said.err);
    assert!(!said.err.contains("rows"), "nothing was read yet: {}", said.err);
}

#[test]
fn shares_and_reasons_are_said_and_learned_and_leave_the_same_kind_of_model() {
    let folder = folder();
    let dir = folder.path();
    install(dir);
    let mut lines = String::new();
    for i in 0..96 {
        let (animal, place) = (["fish", "bird"][i % 2], ["deep", "high"][i % 2]);
        let colour = ["red", "blue", "the"][i % 3];
        let dots = ". ".repeat(1 + i / 6);
        let text = format!("{colour} {animal} swims {place} {dots}");
        let mut row = json!({ "text": text, "label": animal, "why": format!("it is {place} and {colour}") });
        if i % 3 == 0 {
            // The label is what the shares put first but for every twelfth row.
            let share = if i % 12 == 0 { 0.2 } else { 0.9 };
            row["shares"] = json!({ (animal): share, (["bird", "fish"][i % 2]): 1.0 - share });
        }
        writeln!(lines, "{row}").expect("a string");
    }
    fs::write(dir.join("said.jsonl"), lines).expect("written");
    let train = |out: &str, more: &[&str]| {
        // The name is part of the hash.
        let start =
            ["adapt", "finetune", "--base", "tiny", "--name", "tiny", "--data", "said.jsonl", "--json", "--out"];
        run(dir, &[&start[..], &[out], more].concat())
    };
    let full = ["--method", "full", "--epochs", "3"];
    let hash = |out: &str, more: &[&str]| {
        let said = train(out, more);
        assert_eq!(said.code, 0, "{}", said.err);
        said.json()["hash"].clone()
    };
    for method in [&["--method", "head"][..], &["--method", "words"], &full] {
        let name = method[1];
        let said = train(&format!("{name}-soft"), method);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.err.contains("24 of 96 rows are learned by `shares`"), "{}", said.err);
        assert!(said.err.contains("8 keep their label"), "{}", said.err);
        let hard = hash(&format!("{name}-hard"), &[method, &["--soft", "none"]].concat());
        assert!(said.json()["hash"] != hard, "{name} learned the shares");
    }
    let reasons = [&full[..], &["--soft", "none", "--rationale", "why"]].concat();
    let said = train("why", &reasons);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("96 of 96 rows say why in `why`"), "{}", said.err);
    assert_eq!(hash("again", &reasons), said.json()["hash"], "the same data and seed give the same model");
    let files = |model: &str| {
        let mut names: Vec<_> =
            fs::read_dir(dir.join(model)).expect("a folder").flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(files("why"), files("full-hard"));
    // What learned from the rows, however it was told about them, is not judged on them.
    for model in ["why", "full-soft"] {
        let said = run(dir, &["adapt", "quantize", "--model", model, "--data", "said.jsonl", "--json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        let n = said.json()["n"].as_u64().expect("a number");
        assert!((1..30).contains(&n), "{model}: {n} of 96 rows judge");
    }
    for (more, says) in [
        (&["--soft", "odds"][..], "no row has a `odds`"),
        (&["--method", "full", "--rationale", "because"], "no row has a `because`"),
        (&["--rationale", "why"], "--method lora or full"),
        (&["--method", "full", "--rationale", "why", "--rationale-weight", "0"], "positive"),
    ] {
        let said = train("never", more);
        assert!(said.code != 0 && said.err.contains(says), "{}", said.err);
    }
}

#[test]
fn a_device_that_this_build_does_not_know_is_refused_with_the_way_to_get_it() {
    let folder = folder();
    let rows = "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":\"y\"}\n".repeat(10);
    fs::write(folder.path().join("rows.jsonl"), rows).expect("written");
    let args = ["adapt", "finetune", "--method", "full", "--data", "rows.jsonl", "--out", "model", "--device"];
    for (device, code, says) in
        [("cuda:1", 64, "--features cuda"), ("metal", 64, "--features metal"), ("gpu", 2, "auto")]
    {
        let said = run(folder.path(), &[&args[..], &[device]].concat());
        assert_eq!(said.code, code, "{}", said.err);
        assert!(said.err.contains(says), "{}", said.err);
        assert!(!folder.path().join("model").exists());
    }
}
