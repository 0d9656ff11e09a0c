//! `pilot certify --outcomes`.

use crate::support::{CONFIG, Serving, folder, run};
use serde_json::{Value, json};
use std::{fmt::Write, path::Path};

/// `n` rows of which the `wrong` most doubtful are wrong.
fn write_outcomes(path: &Path, n: usize, wrong: usize) {
    write_rows(path, n, wrong, |i| 0.5 + 0.5 * i as f64 / n as f64);
}

/// `n` rows of which the first `wrong` are wrong.
fn write_rows(path: &Path, n: usize, wrong: usize, confidence: impl Fn(usize) -> f64) {
    let mut lines = String::new();
    for i in 0..n {
        let quality = if i < wrong { 0.0 } else { 1.0 };
        let small = json!({ "quality": quality, "confidence": confidence(i) });
        let models = json!({ "small": small, "large": { "quality": 1.0 } });
        writeln!(lines, "{}", json!({ "id": i.to_string(), "task": "triage", "prompt": "p", "models": models }))
            .expect("a string");
    }
    std::fs::write(path, lines).expect("written");
}

fn certify(folder: &Path, more: &[&str]) -> crate::support::Said {
    let args = ["pilot", "certify", "--outcomes", "o.jsonl", "--small", "small", "--large", "large", "--json"];
    run(folder, &[&args, more].concat())
}

const KEYS: [&str; 6] = ["certificate", "violations", "runs", "kept", "kept_best_fixed", "examples_needed"];

#[test]
fn enough_right_answers_are_certified() {
    let folder = folder();
    write_outcomes(&folder.path().join("o.jsonl"), 1000, 200);
    let said = certify(folder.path(), &["--simulate", "200"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("certified: small may answer"), "{}", said.out);
    let object = said.json();
    assert!(KEYS.iter().all(|key| object.get(key).is_some()), "{object}");
    let certificate = &object["certificate"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {object}"));
    assert_eq!((&certificate["loss"], &certificate["n"]), (&json!("regret"), &json!(1000)));
    assert!(number(&certificate["bound"]) <= 0.02);
    // All 200 wrong ones lie below 0.6; a loss of 2 % lets at most some of them through.
    assert!((0.75..0.85).contains(&number(&certificate["kept"])), "{object}");
    assert!((0.55..0.65).contains(&number(&certificate["threshold"])), "{object}");
    assert_eq!(object["runs"], 200);
    assert!(number(&object["violations"]) <= 20.0, "{object}");
    assert!(number(&object["kept"]) <= number(&object["kept_best_fixed"]), "{object}");
    assert_eq!(object["examples_needed"], Value::Null);
    assert_eq!(certify(folder.path(), &["--simulate", "200"]).json()["kept"], object["kept"], "same seed, same result");
}

#[test]
fn too_few_examples_are_not_certified_and_it_says_how_many_are_missing() {
    let folder = folder();
    write_outcomes(&folder.path().join("o.jsonl"), 50, 0);
    let said = certify(folder.path(), &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("not certified: small"), "{}", said.out);
    let object = said.json();
    assert!(KEYS.iter().all(|key| object.get(key).is_some()), "{object}");
    assert_eq!((&object["certificate"], &object["runs"]), (&Value::Null, &Value::Null));
    // (1 - 0.02)^n <= 0.05 from n = 149 on.
    assert_eq!(object["examples_needed"], 149 - 50);
}

#[test]
fn a_small_model_that_is_wrong_where_it_is_sure_is_not_certified() {
    let folder = folder();
    write_rows(&folder.path().join("o.jsonl"), 400, 100, |_| 0.99);
    let object = certify(folder.path(), &[]).json();
    assert_eq!(object["certificate"], Value::Null);
    assert!(object["reason"].as_str().is_some_and(|reason| reason.contains("losses")), "{object}");
}

#[test]
fn unusable_outcomes_are_refused_with_what_is_wrong() {
    let folder = folder();
    let path = folder.path().join("o.jsonl");
    let missing = certify(folder.path(), &[]);
    assert!(missing.code != 0 && missing.err.contains("o.jsonl"), "{}", missing.err);
    std::fs::write(&path, "{\"id\":\"1\",\"models\":{}}\nnot json\n").expect("written");
    let broken = certify(folder.path(), &[]);
    assert_eq!(broken.code, 65);
    assert!(broken.err.contains("line 2"), "{}", broken.err);
    write_outcomes(&path, 10, 0);
    let args = ["pilot", "certify", "--outcomes", "o.jsonl", "--small", "tiny", "--large", "large"];
    let unknown = run(folder.path(), &args);
    assert_eq!(unknown.code, 66);
    assert!(unknown.err.contains("large, small"), "{}", unknown.err);
    let bad_epsilon = certify(folder.path(), &["--epsilon", "1.5"]);
    assert_eq!(bad_epsilon.code, 64);
    assert!(bad_epsilon.err.contains("epsilon"), "{}", bad_epsilon.err);
}

#[tokio::test]
async fn what_a_model_learned_from_in_a_file_certifies_nothing() {
    let folder = folder();
    let at = folder.path();
    let message =
        |i: usize| (format!("{} number {i}", ["win a prize", "see you at noon"][i % 2]), ["spam", "ham"][i % 2]);
    let mut answers = String::new();
    for i in 0..160 {
        let (text, label) = message(i);
        let answer = json!({ "text": label, "tokens_in": 5, "tokens_out": 1, "latency_ms": 0 });
        writeln!(answers, "{}", json!({ "id": i.to_string(), "prompt": text, "models": { "gpt": answer } }))
            .expect("a string");
    }
    std::fs::write(at.join("answers.jsonl"), answers).expect("written");
    std::fs::write(at.join("understudy.toml"), CONFIG).expect("written");
    let mut serving = Serving::start(at);
    for i in 0..160 {
        assert_eq!(serving.ask("auto:triage", &message(i).0).await.0, 200);
    }
    serving.signal("TERM");
    assert_eq!(serving.ended(), Some(0), "{}", serving.log());
    std::fs::write(at.join("understudy.toml"), format!("{CONFIG}small = \"model\"\n")).expect("written");
    for (n, says) in [(120, "more were left out: the model learned from them"), (160, "learned from all")] {
        let line = |i: usize| format!("{}\n", json!({ "text": message(i).0, "label": message(i).1 }));
        std::fs::write(at.join("rows.jsonl"), (0..n).map(line).collect::<String>()).expect("written");
        let train = ["adapt", "finetune", "--method", "words", "--data", "rows.jsonl", "--test-share", "0", "--force"];
        let trained = run(at, &[&train[..], &["--out", "model"]].concat());
        assert_eq!(trained.code, 0, "{}", trained.err);
        let said = run(at, &["pilot", "certify", "--task", "triage"]);
        assert!(format!("{}{}", said.out, said.err).contains(says), "{}\n{}", said.out, said.err);
        // The pilot says so too.
        let run =
            run(at, &["pilot", "run", "--model", "model", "--data", "rows.jsonl", "--out", &format!("pilot-{n}")]);
        assert!(run.code == 0 && run.out.contains(&format!("learned from {n} of these {n} rows")), "{}", run.out);
    }
}
