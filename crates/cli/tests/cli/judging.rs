//! `pilot run` with models and judges behind HTTP, and what may go wrong on the way: biased judges, wrong keys, a
//! process that is killed, two at once, a full disk.

use crate::support::{Said, Scripted, command, ended, folder, last_message, run};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const ROWS: usize = 40;

/// Questions without right answers; a gateway's configuration with two models and three judges behind `upstream`.
fn write(folder: &Path, upstream: &Scripted) {
    let rows: String = (0..ROWS).fold(String::new(), |mut rows, i| {
        writeln!(rows, "{}", json!({ "id": i.to_string(), "text": format!("what is number {i}?") })).expect("a string");
        rows
    });
    fs::write(folder.join("rows.jsonl"), rows).expect("a file");
    let mut config = format!("[upstream.llm]\nbase_url = \"http://{}/v1\"\nretries = 0\n", upstream.address);
    for name in ["good", "bad", "honest", "biased", "mute"] {
        writeln!(config, "[model.{name}]\nupstream = \"llm\"\nprice = {{ input = 10.0, output = 100.0 }}")
            .expect("a string");
    }
    fs::write(folder.join("understudy.toml"), config).expect("a file");
}

/// `good` is right, `bad` wrong except on every fourth row, where both say the same; judges as they are called.
fn says(body: &Value) -> (u16, String) {
    let text = last_message(body);
    let number = text.split_whitespace().last().unwrap_or_default().trim_end_matches('?').to_owned();
    let fourth = number.parse::<usize>().is_ok_and(|n| n.is_multiple_of(4));
    let said = match body["model"].as_str().unwrap_or_default() {
        "good" => format!("it is {number}, surely"),
        "bad" if fourth => format!("it is {number}, surely"),
        "bad" => "no idea".to_owned(),
        "honest" => {
            let first = text.split("<answer_b>").next().unwrap_or_default();
            format!("One of them answers.\nVerdict: {}", if first.contains("no idea") { "B" } else { "A" })
        }
        "biased" => "The first is nicer.\nVerdict: A".to_owned(),
        _ => "I would rather not say".to_owned(),
    };
    (200, said)
}

fn asked<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["pilot", "run", "--data", "rows.jsonl", "--task", "generate", "--out", "out", "--json"];
    let models = ["--model", "good", "--model", "bad", "--baseline", "good"];
    [&fixed[..], &models, more].concat()
}

fn pilot(folder: &Path, more: &[&str]) -> Said {
    run(folder, &asked(more))
}

#[test]
fn a_judge_is_asked_in_both_orders_once_and_one_that_likes_a_place_is_found_out() {
    let folder = folder();
    let upstream = Scripted::start(says);
    write(folder.path(), &upstream);
    let said = pilot(folder.path(), &["--judge", "honest"]);
    assert_eq!(said.code, 0, "{}", said.err);
    // Both models on every row, then two orders of the pairs that differ.
    let differ = ROWS - ROWS / 4;
    assert_eq!(upstream.calls(), 2 * ROWS + 2 * differ);
    let judge = said.json()["judge"].clone();
    let pair = &judge["pairs"][0];
    assert_eq!((&pair["name"], &pair["verdict"]), (&json!("bad"), &json!("worse")));
    assert_eq!((&pair["report"]["losses"], &pair["identical"]), (&json!(differ), &json!(ROWS / 4)));
    assert_eq!(pair["report"]["agreement"]["estimate"], 1.0);
    assert!(pair["report"]["agreement"]["low"].as_f64().is_some_and(|low| low > 0.85 && low < 1.0));
    // 100 tokens in, 10 out.
    let usd = 2.0 * differ as f64 * 0.002;
    assert!((judge["cost_usd"].as_f64().expect("known") - usd).abs() < 1e-9, "{judge}");
    assert!(said.out.contains("honest prefers good to bad"), "{}", said.out);
    let html = fs::read_to_string(folder.path().join("out/report.html")).expect("the report");
    assert!(html.contains("What the judge says") && html.contains("honest prefers good to bad"));

    // The same again asks nobody.
    let again = pilot(folder.path(), &["--judge", "honest"]);
    assert_eq!(again.json()["judge"]["pairs"], judge["pairs"]);
    assert_eq!(again.json()["judge"]["resumed"], json!(2 * differ));
    assert_eq!(upstream.calls(), 2 * ROWS + 2 * differ);

    // A judge that always says A contradicts itself on every pair, and its verdict does not count.
    let biased = pilot(folder.path(), &["--judge", "biased"]);
    let pair = biased.json()["judge"]["pairs"][0].clone();
    assert_eq!(pair["verdict"], "unreliable");
    assert_eq!((&pair["report"]["position_bias"]["estimate"], &pair["report"]["ties"]), (&json!(1.0), &json!(differ)));
    assert_eq!(pair["report"]["first_place"]["estimate"], 1.0);
    assert!(
        biased.out.contains("it votes for a place, not an answer, mostly for the answer shown first"),
        "{}",
        biased.out
    );
    assert_eq!(upstream.calls(), 2 * ROWS + 4 * differ, "only the new judge was asked");

    let mute = pilot(folder.path(), &["--judge", "mute", "--judge-rows", "8"]);
    assert_eq!(mute.json()["judge"]["pairs"][0]["report"]["wins"], 0);
    assert_eq!(
        mute.json()["judge"]["pairs"][0]["report"]["unreadable"],
        mute.json()["judge"]["pairs"][0]["report"]["pairs"]
    );
    let words = run(
        folder.path(),
        &[
            "pilot",
            "run",
            "--data",
            "rows.jsonl",
            "--task",
            "generate",
            "--model",
            "good",
            "--model",
            "bad",
            "--judge",
            "words",
        ],
    );
    assert!(words.code == 64 && words.err.contains("a generative model can"), "{}", words.err);
}

#[test]
fn judge_and_models_share_one_cost_cap_over_all_sessions() {
    let folder = folder();
    let upstream = Scripted::start(says);
    write(folder.path(), &upstream);
    // Both models cost 0.16; a verdict's dearest case is about 0.03.
    let cap = ["--judge", "honest", "--max-tokens", "10", "--max-cost-usd", "0.25"];
    let said = pilot(folder.path(), &cap);
    assert_eq!(said.code, 0, "{}", said.err);
    let spent = |calls: usize| calls as f64 * 0.002;
    assert_eq!(said.json()["judge"]["ended"], json!({ "reason": "cost_cap" }));
    let calls = upstream.calls();
    assert!(spent(calls) <= 0.25 && calls > 2 * ROWS, "{calls}");
    let again = pilot(folder.path(), &cap);
    assert!(spent(upstream.calls()) <= 0.25, "the second session spent it again: {}", upstream.calls());
    assert_eq!(again.json()["models"]["good"]["resumed"], json!(ROWS));
}

#[test]
fn a_wrong_key_is_tried_once_and_said_once() {
    let folder = folder();
    let upstream = Scripted::start(|_| (401, "Incorrect API key provided: sk-wrong".to_owned()));
    write(folder.path(), &upstream);
    let config = folder.path().join("understudy.toml");
    let text = fs::read_to_string(&config).expect("written");
    fs::write(&config, text.replace("retries = 0", "retries = 3\napi_key = \"env:LLM_KEY\"")).expect("a file");
    let mut command = command(folder.path(), &asked(&[]));
    command.env("LLM_KEY", "sk-wrong");
    let said = ended(command);
    assert_eq!((said.code, upstream.calls()), (77, 1), "{}", said.err);
    assert_eq!(said.err.matches("the key in LLM_KEY was refused by").count(), 1, "{}", said.err);
    assert!(!said.err.contains("sk-wrong") && !said.out.contains("sk-wrong"), "{}", said.err);
}

#[test]
fn a_judge_that_is_refused_ends_the_run_and_what_was_answered_is_kept() {
    let folder = folder();
    let upstream = Scripted::start(|body| match body["model"].as_str() {
        Some("honest") => (403, "not for you".to_owned()),
        _ => says(body),
    });
    write(folder.path(), &upstream);
    let said = pilot(folder.path(), &["--judge", "honest"]);
    assert_eq!((said.code, upstream.calls()), (77, 2 * ROWS + 1), "{}", said.err);
    assert!(said.err.contains("wants a key (403 Forbidden) and none is configured"), "{}", said.err);
    // The answers are in the journal: the next run pays for none of them.
    assert_eq!(pilot(folder.path(), &[]).json()["models"]["good"]["resumed"], json!(ROWS));
    assert_eq!(upstream.calls(), 2 * ROWS + 1);
}

#[test]
fn a_killed_run_goes_on_and_pays_for_no_answer_twice() {
    let folder = folder();
    let upstream = Scripted::start(|body| {
        // Some are slow: answers behind them must be kept all the same.
        let slow = last_message(body).contains("5?");
        std::thread::sleep(Duration::from_millis(if slow { 300 } else { 20 }));
        says(body)
    });
    write(folder.path(), &upstream);
    let args =
        ["pilot", "run", "--data", "rows.jsonl", "--task", "generate", "--model", "good", "--out", "out", "--json"];
    let mut child = command(folder.path(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    upstream.wait_for(ROWS / 2);
    // While it runs, a second process is told so and asks nothing.
    let second = run(folder.path(), &args);
    assert_eq!(second.code, 69, "{}", second.err);
    assert!(second.err.contains("another process is at work there"), "{}", second.err);
    child.kill().expect("our child");
    child.wait().expect("our child");
    let journal = fs::read_to_string(folder.path().join("out/journal.jsonl")).expect("the journal");
    let kept: Vec<String> = journal
        .lines()
        .skip(1)
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["id"].as_str().map(str::to_owned))
        .collect();
    assert!(kept.len() >= ROWS / 2 - 8 && kept.len() < ROWS, "{} kept", kept.len());
    let before = upstream.calls();
    let said = run(folder.path(), &args);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.json()["models"]["good"]["resumed"], json!(kept.len()));
    assert_eq!(upstream.calls() - before, ROWS - kept.len(), "only what is missing was asked");
    let seen = upstream.seen.0.lock().expect("not poisoned");
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for body in seen.iter() {
        *times.entry(last_message(body)).or_default() += 1;
    }
    for id in &kept {
        assert_eq!(times[format!("what is number {id}?").as_str()], 1, "row {id} was paid for");
    }
}

#[test]
fn a_full_disk_is_said_and_loses_nothing_that_was_written() {
    let folder = folder();
    let upstream = Scripted::start(says);
    write(folder.path(), &upstream);
    // A small disk of its own, in a namespace where that needs no privileges.
    fs::create_dir(folder.path().join("out")).expect("a folder");
    let binary = env!("CARGO_BIN_EXE_understudy");
    let keep = "cp out/journal.jsonl kept.jsonl";
    let pilot = "pilot run --data rows.jsonl --task generate --model good --out out --json";
    let script =
        format!("mount -t tmpfs -o size=4k none out || exit 99; {binary} {pilot}; code=$?; {keep}; exit $code");
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--user", "--mount", "sh", "-c", &script]);
    unshare
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path())
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    if !matches!(unshare.output(), Ok(output) if !matches!(output.status.code(), Some(99 | 1 | 127) | None)) {
        println!("skipped: no disk of its own can be made here (unshare, tmpfs)");
        return;
    }
    let said = ended(unshare);
    assert_eq!(said.code, 65, "{}", said.err);
    assert!(
        said.err.contains("No space left on device") && said.err.contains("the same command goes on"),
        "{}",
        said.err
    );
    let calls = upstream.calls();
    // On a disk with room the run goes on from what is there.
    fs::copy(folder.path().join("kept.jsonl"), folder.path().join("out/journal.jsonl")).expect("kept");
    let whole = fs::read_to_string(folder.path().join("kept.jsonl")).expect("kept").lines().count() - 2;
    let said = run(folder.path(), &pilot.split(' ').collect::<Vec<_>>());
    assert_eq!(said.code, 0, "{}", said.err);
    let resumed = said.json()["models"]["good"]["resumed"].as_u64().expect("a count");
    let resumed = usize::try_from(resumed).expect("a few rows");
    assert!(resumed >= whole && resumed > 5, "{resumed} of {whole}");
    assert_eq!(upstream.calls() - calls, ROWS - resumed);
}
