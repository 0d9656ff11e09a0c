//! `advise`, from the outside.

use crate::support::{folder, run};
use serde_json::{Value, json};
use std::fmt::Write;

#[test]
fn every_published_example_agrees_or_says_why_not() {
    let folder = folder();
    let said = run(folder.path(), &["advise", "examples", "--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let object = said.json();
    let examples = object["examples"].as_array().expect("a list");
    assert!(examples.len() >= 10);
    for example in examples {
        for key in ["name", "published", "computed", "agrees", "reason"] {
            assert!(example.get(key).is_some(), "{example}");
        }
        assert!(example["agrees"] == true || example["reason"].as_str().is_some_and(|r| r.len() > 40), "{example}");
    }
    let small = examples.iter().find(|e| e["name"] == "staff-small").expect("the example");
    assert_eq!((&small["computed"], &small["agrees"]), (&json!(22.5), &json!(true)));
}

#[test]
fn flags_go_before_the_file_and_the_file_before_the_use_case() {
    let folder = folder();
    let file = "use_case = \"email_triage\"\nprivacy = \"open\"\nlatency_ms = 50\n[cost]\nrequests_per_day = 1200\n";
    std::fs::write(folder.path().join("us.toml"), file).expect("written");
    let said = run(folder.path(), &["advise", "--file", "us.toml", "--latency-ms", "500", "--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let object = said.json();
    let answers = &object["answers"];
    assert_eq!(
        (&answers["latency_ms"], &answers["privacy"], &answers["breadth"]),
        (&json!(500.0), &json!("open"), &json!("narrow"))
    );
    let volume =
        object["cost"]["assumptions"].as_array().expect("a list").iter().find(|a| a["name"] == "requests-per-month");
    assert_eq!(volume.expect("an assumption")["value"], "36,500");
    assert!(said.out.contains("What would change this"), "{}", said.out);
    let wrong = run(folder.path(), &["advise", "--use-case", "chat"]);
    assert!(wrong.code == 66 && wrong.err.contains("support-chat"), "{}", wrong.err);
}

#[test]
fn nothing_said_is_a_hybrid_with_thirteen_unknowns() {
    let folder = folder();
    let object = run(folder.path(), &["advise", "--json"]).json();
    assert_eq!(object["verdict"], "hybrid");
    assert_eq!(object["unknown"].as_array().map(Vec::len), Some(13));
}

#[test]
fn an_unknown_model_is_never_free() {
    let folder = folder();
    let said = run(folder.path(), &["advise", "cost", "--large", "gpt-5.2-turbo"]);
    assert!(said.code == 66 && said.err.contains("openai/gpt-5.2"), "{}", said.err);
    let priced = run(
        folder.path(),
        &[
            "advise",
            "cost",
            "--large",
            "mine",
            "--large-price",
            "10/10",
            "--input-tokens",
            "900",
            "--output-tokens",
            "100",
            "--requests-per-month",
            "1000000",
            "--json",
        ],
    );
    assert_eq!(priced.code, 0, "{}", priced.err);
    let large = priced.json()["choices"].as_array().expect("three")[2]["items"][0].clone();
    assert_eq!((&large["name"], &large["month_usd"]), (&json!("tokens"), &json!(10_000.0)));
}

/// `n` requests of which the most doubtful fifth is wrong.
fn write_outcomes(path: &std::path::Path, n: usize, cost: bool) {
    let mut lines = String::new();
    for i in 0..n {
        let mut small = json!({ "quality": f64::from(u8::from(i >= n / 5)), "confidence": 0.5 + 0.5 * i as f64 / n as f64, "latency_ms": 20.0 });
        let mut large = json!({ "quality": 1.0, "latency_ms": 300.0, "tokens_in": 1000, "tokens_out": 100 });
        if cost {
            small["cost_usd"] = json!(0.0001);
            large["cost_usd"] = json!(0.01);
        }
        writeln!(lines, "{}", json!({ "id": i.to_string(), "prompt": "p", "models": { "s": small, "l": large } }))
            .expect("a string");
    }
    std::fs::write(path, lines).expect("written");
}

#[test]
fn a_forecast_rests_on_a_certificate_and_says_what_it_costs() {
    let folder = folder();
    write_outcomes(&folder.path().join("o.jsonl"), 1000, true);
    let flags = ["--outcomes", "o.jsonl", "--small-name", "s", "--large-name", "l", "--json"];
    let said = run(folder.path(), &[&["advise", "forecast"], &flags[..]].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    let forecast = &said.json()["forecast"];
    let kept = forecast["kept"]["estimate"].as_f64().expect("a share");
    let expected = 0.0001 + 0.01 * (1.0 - kept + 0.01 * kept);
    let found = forecast["cost_per_request_usd"]["estimate"].as_f64().expect("an amount");
    assert!((0.7..0.9).contains(&kept) && (found - expected).abs() < 1e-9, "{forecast}");
    assert_eq!(forecast["latency_ms_p95"]["estimate"], json!(320.0));
    // The same evidence decides and prices the advice.
    let advice = run(folder.path(), &[&["advise"], &flags[..]].concat()).json();
    assert!(advice["reasons"].as_array().expect("a list").iter().any(|r| r["basis"] == "measured"), "{advice}");
}

#[test]
fn outcomes_without_costs_need_prices() {
    let folder = folder();
    write_outcomes(&folder.path().join("o.jsonl"), 1000, false);
    let flags = ["advise", "forecast", "--outcomes", "o.jsonl", "--small-name", "s", "--large-name", "l", "--json"];
    let bare = run(folder.path(), &flags);
    assert!(bare.code == 65 && bare.err.contains("--small-tokens"), "{}", bare.err);
    let priced = run(folder.path(), &[&flags[..], &["--small-tokens", "local", "--large-tokens", "10/10"]].concat());
    assert_eq!(priced.code, 0, "{}", priced.err);
    let large: &Value = &priced.json()["forecast"]["large_per_request_usd"]["estimate"];
    assert!((large.as_f64().expect("an amount") - 0.011).abs() < 1e-12, "{large}");
}
