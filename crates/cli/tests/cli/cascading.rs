//! `pilot cascades`.

use crate::support::{folder, run};
use serde_json::{Value, json};
use std::{fmt::Write, path::Path};

/// `n` rows: of two cheaper models, each sure where it is right, the cheaper one is right half as often.
fn write_outcomes(path: &Path, n: usize) {
    let mut lines = String::new();
    for i in 0..n {
        let answer = |right: bool, cost: f64| {
            let confidence = if right { 0.9 } else { 0.1 } + 0.0001 * (i % 100) as f64;
            json!({ "quality": if right { 1.0 } else { 0.0 }, "confidence": confidence, "cost_usd": cost })
        };
        let models = json!({
            "tiny": answer(i % 5 < 2, 0.01),
            "mid": answer(i % 5 < 4, 0.1),
            "large": { "quality": 1.0, "cost_usd": 1.0 },
        });
        writeln!(lines, "{}", json!({ "id": i.to_string(), "task": "qa", "prompt": "p", "models": models }))
            .expect("a string");
    }
    std::fs::write(path, lines).expect("written");
}

fn cascades(folder: &Path, more: &[&str]) -> crate::support::Said {
    let args = ["pilot", "cascades", "--outcomes", "o.jsonl", "--large", "large", "--json"];
    run(folder, &[&args, more].concat())
}

#[test]
fn the_cheapest_cascade_of_three_models_is_found_and_certified() {
    let folder = folder();
    write_outcomes(&folder.path().join("o.jsonl"), 600);
    let said = cascades(folder.path(), &["--simulate", "50"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("certified: tiny ≥"), "{}", said.out);
    let object = said.json();
    let certificate = &object["certificate"];
    assert_eq!(certificate["cascade"]["rungs"][1]["model"], "mid", "{object}");
    assert_eq!(certificate["cascade"]["last"], "large");
    // All pay tiny, three fifths mid, one fifth large: 0.27 instead of 1.
    let saved = certificate["saved"].as_f64().expect("a number");
    assert!((0.70..0.80).contains(&saved), "{object}");
    assert!(certificate["bound"].as_f64().is_some_and(|bound| bound <= 0.05));
    assert_eq!(object["runs"], 50);
    assert!(object["violations"].as_u64().is_some_and(|violations| violations <= 8), "{object}");
    assert!(object["frontier"].as_array().is_some_and(|frontier| !frontier.is_empty()));
    assert_eq!(cascades(folder.path(), &[]).json()["certificate"], *certificate, "same seed, same result");
}

#[test]
fn too_few_rows_certify_nothing_and_unusable_ones_are_refused() {
    let folder = folder();
    write_outcomes(&folder.path().join("o.jsonl"), 60);
    let object = cascades(folder.path(), &[]).json();
    assert_eq!(object["certificate"], Value::Null);
    assert_eq!(object["fewest_rows"], 86, "{object}");
    let said = cascades(folder.path(), &["--models", "nobody"]);
    assert!(said.code != 0 && said.err.contains("they have large, mid, tiny"), "{}", said.err);
    let said = cascades(folder.path(), &["--epsilon", "1.5"]);
    assert!(said.code != 0 && said.err.contains("between 0 and 1"), "{}", said.err);
}
