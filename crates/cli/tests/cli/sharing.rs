//! Adapters of one base under several names of a gateway, from the outside.

use crate::support::{Serving, folder, run};
use crate::tiny;
use serde_json::json;
use std::{fmt::Write as _, fs, path::Path};

const TEXTS: [&str; 3] = ["the number 3", "the number 4", "what is it"];

/// An adapter that learned to say this, in `models/WHAT`.
fn train(folder: &Path, what: &str) {
    let rows: String = (0..40).fold(String::new(), |mut rows, i| {
        let row = json!({ "text": format!("the number {i}"), "answer": format!("{what} {}", i % 3) });
        writeln!(rows, "{row}").expect("a string");
        rows
    });
    fs::write(folder.join("rows.jsonl"), rows).expect("written");
    let out = format!("models/{what}");
    let args = ["adapt", "finetune", "--method", "lora", "--base", "tiny", "--data", "rows.jsonl", "--epochs", "2"];
    let said = run(folder, &[&args[..], &["--rank", "8", "--rate", "0.02", "--out", &out]].concat());
    assert_eq!(said.code, 0, "{}", said.err);
}

fn configure(folder: &Path, names: &[&str]) {
    let mut config = "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n".to_owned();
    for name in names {
        let model = if *name == "tiny" { "tiny".to_owned() } else { format!("models/{name}") };
        write!(config, "\n[local.{name}]\nmodel = \"{model}\"\ncontext_tokens = 256\n").expect("a string");
    }
    fs::write(folder.join("understudy.toml"), config).expect("written");
}

/// What a name says to all texts.
async fn answers(serving: &Serving, name: &str) -> Vec<String> {
    let all = futures_util::future::join_all(TEXTS.map(|text| serving.ask(name, text))).await;
    all.into_iter().inspect(|(status, answer)| assert_eq!(*status, 200, "{name}: {answer}")).map(|(_, a)| a).collect()
}

#[tokio::test]
async fn names_of_one_base_answer_together_as_they_do_alone() {
    let folder = folder();
    let dir = folder.path();
    tiny::install(dir);
    let names = ["tiny", "ab", "zz"];
    names[1..].iter().for_each(|name| train(dir, name));
    let mut alone = Vec::new();
    for name in names {
        configure(dir, &[name]);
        alone.push(answers(&Serving::start(dir), name).await);
    }
    assert!(alone[0] != alone[1] && alone[1] != alone[2], "{alone:?}");

    configure(dir, &names[..2]);
    let serving = Serving::start(dir);
    assert_eq!(answers(&serving, "ab").await, alone[1]);
    // A reload puts another name on the same base.
    configure(dir, &names);
    serving.signal("HUP");
    serving.wait_for_model("zz", true).await;
    for _ in 0..2 {
        let together = futures_util::future::join_all(names.map(|name| answers(&serving, name))).await;
        assert_eq!(together, alone);
    }
    // One that is damaged takes nothing away.
    let file = dir.join("models/ab/adapter.gguf");
    let bytes = fs::read(&file).expect("an adapter");
    fs::write(&file, &bytes[..bytes.len() / 2]).expect("written");
    serving.signal("HUP");
    let log = serving.wait_for("failed to reload");
    assert!(log.contains("models/ab"), "{log}");
    assert_eq!(answers(&serving, "ab").await, alone[1]);
}
