//! A gate and a router from training to traffic, over HTTP: fitted on the gateway's own traces, served from files.

use crate::support::{Said, Serving, folder, run};
use crate::tiny;
use serde_json::{Value, json};
use std::{fmt::Write as _, path::Path};

/// Requests that the task sees in shadow.
const SHADOWED: usize = 600;
/// Requests afterwards.
const LIVE: usize = 60;

fn prompt(i: usize) -> String {
    format!("message number {i}")
}

/// Whether the small model is wrong about request `i`, which its log-probabilities tell …
fn is_wrong(i: usize) -> bool {
    i.is_multiple_of(5)
}

/// Two models: the large one right about everything, the small one where it is sure.
fn write_answers(folder: &Path) {
    let mut lines = String::new();
    for i in 0..SHADOWED + LIVE {
        let label = if i % 2 == 0 { "spam" } else { "ham" };
        let other = if i % 2 == 0 { "ham" } else { "spam" };
        let wobble = (i * 37 % 100) as f64 / 1000.0;
        let (said, token) = if is_wrong(i) { (other, -1.5 - wobble) } else { (label, -0.05 - wobble) };
        let models = json!({
            "big": { "text": label, "tokens_in": 5, "tokens_out": 1 },
            "tiny": { "text": said, "tokens_in": 5, "tokens_out": 2, "token_logprobs": [token, -0.01] },
        });
        writeln!(lines, "{}", json!({ "id": i.to_string(), "prompt": prompt(i), "models": models })).expect("a string");
    }
    std::fs::write(folder.join("answers.jsonl"), lines).expect("written");
}

fn configure(folder: &Path, mode: &str, more: &str) {
    let config = format!(
        r#"
[server]
listen = "127.0.0.1:0"
[upstream.recording]
recorded = "answers.jsonl"
[model.big]
upstream = "recording"
price = {{ input = 1.0, output = 2.0 }}
[model.tiny]
upstream = "recording"
price = {{ input = 0.1, output = 0.2 }}
[task.triage]
mode = "{mode}"
large = "big"
small = "tiny"
labels = ["spam", "ham"]
audit = 0.3
{more}
"#
    );
    std::fs::write(folder.join("understudy.toml"), config).expect("written");
}

fn ok(said: Said) -> Said {
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    said
}

/// Rows of the store, newest first.
fn rows(folder: &Path, n: usize) -> Vec<Value> {
    let said = ok(run(folder, &["traces", "--json", "-n", &n.to_string()]));
    said.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Asks about a stretch of the messages and waits until every shadow and audit is recorded.
async fn ask(serving: &Serving, range: std::ops::Range<usize>) {
    for i in range {
        let (status, text) = serving.ask("auto:triage", &prompt(i)).await;
        assert_eq!(status, 200, "{text}");
    }
    for _ in 0..600 {
        let body = serving.get("/v1/understudy/status").await.bytes().await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        if body["open_requests"] == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("waited in vain for the last shadow");
}

fn stopped(mut serving: Serving) {
    serving.signal("TERM");
    assert_eq!(serving.ended(), Some(0), "{}", serving.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_learned_from_traces_serves_under_its_own_certificate_and_no_other() {
    let folder = folder();
    let at = folder.path();
    write_answers(at);
    configure(at, "shadow", "");
    let serving = Serving::start(at);
    ask(&serving, 0..SHADOWED).await;
    stopped(serving);
    let row = &rows(at, 1)[0];
    assert!(row["audit"]["token_logprobs"].is_array(), "a shadow keeps what a gate may read: {row}");

    // Without a gate nothing tells how sure the small model is, and nothing can be certified.
    let refused = run(at, &["pilot", "certify", "--task", "triage"]);
    assert!(refused.code == 64 && refused.err.contains("--save-gate"), "{}", refused.err);

    let args = ["pilot", "replay", "--task", "triage", "--gate", "auto", "--save-gate", "gate.json", "--json"];
    let replay = ok(run(at, &args)).json();
    assert!(replay["apgr"].as_f64().is_some_and(|apgr| apgr > 0.8), "{replay}");
    assert!(replay["n"].as_u64().is_some_and(|n| (200..400).contains(&n)), "half is replayed: {replay}");
    configure(at, "live", "gate = \"gate.json\"");
    // A gate alone is no licence.
    let serving = Serving::start(at);
    ask(&serving, SHADOWED..SHADOWED + 5).await;
    assert!(rows(at, 5).iter().all(|row| row["route"] == "large" && row["reason"] == "no_certificate"));

    // The running gateway takes the certificate in.
    let certified = ok(run(at, &["pilot", "certify", "--task", "triage", "--json"])).json();
    assert!(certified["certificate"]["kept"].as_f64().is_some_and(|kept| kept > 0.7), "{certified}");
    serving.wait_for("took deployments, certificates and alarms in");
    ask(&serving, SHADOWED..SHADOWED + LIVE).await;
    let threshold = certified["certificate"]["threshold"].as_f64().expect("a number");
    for row in rows(at, LIVE) {
        let i: usize = row["input"].as_str().and_then(|text| text.rsplit(' ').next()).expect("n").parse().expect("n");
        let expected = if is_wrong(i) { "escalated" } else { "local" };
        assert_eq!(row["route"], expected, "{row}");
        let confidence = row["small"]["confidence"].as_f64().expect("the gate's");
        assert_eq!(confidence >= threshold, !is_wrong(i));
        assert_eq!(row["small"]["gate"], replay["gate_hash"]);
    }
    // Audited rows replay with their weights, and estimate other thresholds.
    let again = ok(run(at, &["pilot", "replay", "--task", "triage", "--gate", "raw", "--json"])).json();
    assert!(again["apgr"].as_f64().is_some_and(|apgr| apgr > 0.8) && again["certificate"].is_null(), "{again}");
    let args = ["pilot", "what-if", "--task", "triage", "--thresholds", "0.9,0.5", "--json"];
    let estimates = ok(run(at, &args)).json();
    assert!(estimates["n"].as_u64().is_some_and(|n| n >= LIVE as u64), "{estimates}");

    // Another gate is another judge: no certificate, no traffic.
    let args = ["pilot", "replay", "--task", "triage", "--gate", "raw", "--save-gate", "gate.json"];
    ok(run(at, &args));
    serving.wait_for("took the configuration in");
    ask(&serving, SHADOWED..SHADOWED + 5).await;
    assert!(rows(at, 5).iter().all(|row| row["route"] == "large" && row["reason"] == "no_certificate"));
    stopped(serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_generative_model_learned_from_certifies_nothing() {
    let folder = folder();
    let at = folder.path();
    tiny::install(at);
    write_answers(at);
    let learn = |n: usize| {
        let answer = |i: usize| if i.is_multiple_of(2) { "spam" } else { "ham" };
        let row = |i: usize| format!("{}\n", json!({ "text": prompt(i), "answer": answer(i) }));
        std::fs::write(at.join("rows.jsonl"), (0..n).map(row).collect::<String>()).expect("written");
        let args =
            ["adapt", "finetune", "--method", "lora", "--base", "tiny", "--data", "rows.jsonl", "--test-share", "0"];
        ok(run(at, &[&args[..], &["--epochs", "1", "--rank", "4", "--out", "models/own", "--force"]].concat()));
    };
    let configure = |more: &str| {
        configure(at, "shadow", more);
        let file = at.join("understudy.toml");
        let text = std::fs::read_to_string(&file).expect("written").replace("small = \"tiny\"", "small = \"own\"");
        std::fs::write(&file, format!("{text}\n[local.own]\nmodel = \"models/own\"\n")).expect("written");
    };
    for (n, says) in [(60, "more were left out: the model learned from them"), (120, "learned from all")] {
        learn(n);
        configure("");
        let serving = Serving::start(at);
        ask(&serving, 0..120).await;
        stopped(serving);
        ok(run(at, &["pilot", "replay", "--task", "triage", "--gate", "raw", "--save-gate", "gate.json"]));
        configure("gate = \"gate.json\"");
        let said = run(at, &["pilot", "certify", "--task", "triage"]);
        assert!(format!("{}{}", said.out, said.err).contains(says), "{}\n{}", said.out, said.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trained_router_sends_what_it_predicts_to_the_large_model() {
    let folder = folder();
    let at = folder.path();
    // Long messages are those that only the large model gets right.
    let text = |i: usize| {
        format!("message {i} {}", if is_wrong(i) { "goes on and on and on ".repeat(12) } else { String::new() })
    };
    let mut lines = String::new();
    for i in 0..SHADOWED {
        let small = if is_wrong(i) { 0.0 } else { 1.0 };
        let models = json!({
            "big": { "text": "spam", "quality": 1.0 },
            "tiny": { "text": if is_wrong(i) { "ham" } else { "spam" }, "quality": small, "token_logprobs": [-0.1 - i as f64 / 1e4] },
        });
        writeln!(lines, "{}", json!({ "id": i.to_string(), "prompt": text(i), "models": models })).expect("a string");
    }
    std::fs::write(at.join("answers.jsonl"), lines).expect("written");
    let replay = |more: &[&str]| {
        let args = ["pilot", "replay", "--outcomes", "answers.jsonl", "--small", "tiny", "--large", "big", "--json"];
        ok(run(at, &[&args, more].concat())).json()
    };
    replay(&["--router", "length", "--save-router", "router.json"]);
    replay(&["--gate", "raw", "--save-gate", "gate.json"]);
    configure(at, "shadow", "gate = \"gate.json\"\nepsilon = 0.4");
    let serving = Serving::start(at);
    for i in 0..SHADOWED {
        assert_eq!(serving.ask("auto:triage", &text(i)).await.0, 200);
    }
    ask(&serving, 0..0).await;
    stopped(serving);
    ok(run(at, &["pilot", "certify", "--task", "triage", "--json"]));
    configure(at, "live", "gate = \"gate.json\"\nrouter = \"router.json\"\nepsilon = 0.4");
    let serving = Serving::start(at);
    // The router may give up 2 %: the shortest of the long ones, which come before.
    for i in 100..100 + LIVE {
        assert_eq!(serving.ask("auto:triage", &text(i)).await.0, 200);
    }
    ask(&serving, 0..0).await;
    let rows = rows(at, LIVE);
    let routed = rows.iter().filter(|row| row["reason"] == "router").count();
    for row in &rows {
        let long = row["input"].as_str().is_some_and(|text| text.len() > 100);
        assert_eq!(row["reason"] == "router", long, "{row}");
        assert!(!long || (row["route"] == "large" && row["small"].is_null()), "{row}");
    }
    assert_eq!(routed, LIVE / 5);
    stopped(serving);
}

#[test]
fn a_gate_that_reads_what_the_gateway_does_not_have_is_refused_by_the_signals_name() {
    let folder = folder();
    let at = folder.path();
    write_answers(at);
    let mut lines = String::new();
    for i in 0..200 {
        let confidence = if is_wrong(i) { 0.3 } else { 0.9 } + (i % 7) as f64 / 100.0;
        let models = json!({
            "big": { "quality": 1.0 },
            "tiny": { "quality": if is_wrong(i) { 0.0 } else { 1.0 }, "confidence": confidence },
        });
        writeln!(lines, "{}", json!({ "id": i.to_string(), "prompt": "p", "models": models })).expect("a string");
    }
    std::fs::write(at.join("votes.jsonl"), lines).expect("written");
    let args = ["pilot", "replay", "--outcomes", "votes.jsonl", "--small", "tiny", "--large", "big"];
    ok(run(at, &[&args[..], &["--gate", "raw", "--save-gate", "gate.json"]].concat()));
    configure(at, "shadow", "gate = \"gate.json\"");
    let refused = run(at, &["check"]);
    assert!(
        refused.code == 64 && refused.err.contains("`confidence`") && refused.err.contains("gate.json"),
        "{}",
        refused.err
    );
    std::fs::write(at.join("gate.json"), "{}").expect("written");
    assert_eq!(run(at, &["check"]).code, 65);
    std::fs::remove_file(at.join("gate.json")).expect("there");
    assert_eq!(run(at, &["check"]).code, 66);
}
