//! `pilot compare` and `pilot errors`.

use crate::support::{folder, run};
use serde_json::{Value, json};
use std::{fmt::Write, path::Path};

/// 600 rows; "tiny" is wrong on every tenth row and on all rows of the group "fr", the others on every tenth.
fn write_outcomes(path: &Path, task: &str) {
    let mut lines = String::new();
    for i in 0..600 {
        let group = if i % 5 == 0 { "fr" } else { "en" };
        let miss = i % 10 == 3;
        let said = |wrong: bool, cost: f64| {
            json!({ "answer": if wrong { "no" } else { "yes" }, "quality": f64::from(u8::from(!wrong)), "cost_usd": cost,
                    "latency_ms": cost * 1000.0 })
        };
        let models =
            json!({ "big": said(miss, 1.0), "mid": said(miss, 0.2), "tiny": said(miss || group == "fr", 0.01) });
        let row = json!({ "id": i.to_string(), "task": task, "group": group, "prompt": "p", "label": "yes", "models": models });
        writeln!(lines, "{row}").expect("a string");
    }
    std::fs::write(path, lines).expect("written");
}

fn pilot(folder: &Path, command: &str, more: &[&str]) -> crate::support::Said {
    run(folder, &[&["pilot", command, "--outcomes", "o.jsonl", "--json"], more].concat())
}

#[test]
fn models_are_held_against_the_dearest() {
    let folder = folder();
    write_outcomes(&folder.path().join("o.jsonl"), "faq");
    let said = pilot(folder.path(), "compare", &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("Against big"), "{}", said.out);
    let object = said.json();
    assert_eq!((&object["baseline"], &object["n"]), (&json!("big"), &json!(600)));
    let against = |name: &str| object["models"][name]["against"].clone();
    assert_eq!((&against("mid")["verdict"], &against("tiny")["verdict"]), (&json!("not_inferior"), &json!("inferior")));
    assert_eq!(against("big"), Value::Null);
    let unknown = pilot(folder.path(), "compare", &["--models", "big,huge"]);
    assert_eq!(unknown.code, 66, "{}", unknown.err);
    assert!(unknown.err.contains("big, mid, tiny"), "{}", unknown.err);
}

#[test]
fn stepping_down_ends_at_the_smallest_that_holds_and_health_trades_nothing() {
    let folder = folder();
    let path = folder.path().join("o.jsonl");
    let trade = ["--step-down", "--accept-loss", ".3", "--for-speedup", "10"];
    write_outcomes(&path, "faq");
    let recommended = |more: &[&str]| pilot(folder.path(), "compare", more).json()["recommended"].clone();
    assert_eq!(recommended(&["--step-down"]), "mid");
    assert_eq!(recommended(&trade), "tiny");
    assert_eq!(recommended(&[&trade[..], &["--critical"]].concat()), "mid");
    write_outcomes(&path, "health_advice");
    let said = pilot(folder.path(), "compare", &trade);
    assert_eq!(said.json()["recommended"], "mid");
    assert!(said.out.contains("no quality is traded"), "{}", said.out);
}

#[test]
fn the_slice_in_which_the_small_model_errs_is_named() {
    let folder = folder();
    write_outcomes(&folder.path().join("o.jsonl"), "faq");
    let said = pilot(folder.path(), "errors", &["--small", "tiny", "--large", "big"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("group fr"), "{}", said.out);
    let slice = &said.json()["slices"][0];
    assert_eq!((&slice["kind"], &slice["name"], &slice["worse"]), (&json!("group"), &json!("fr"), &json!(true)));
    assert_eq!(said.json()["invented"][0]["answer"], "no");
}
