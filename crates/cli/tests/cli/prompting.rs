//! `adapt prompts` from the outside: a model behind HTTP that one instruction and one kind of example make better, and
//! what becomes of the prompt that is found.

use crate::support::{Said, Scripted, Serving, command, folder, last_message, run};
use crate::tiny;
use serde_json::{Value, json};
use std::{fmt::Write as _, fs, path::Path, process::Stdio, time::Duration};

const GOOD: &str = "Look for the sign of the message.";

/// Texts whose label is in them.
fn write(folder: &Path, upstream: &Scripted) {
    let rows: String = (0..400).fold(String::new(), |mut rows, i| {
        let label = ["ham", "spam", "eggs"][i % 3];
        writeln!(rows, "{}", json!({ "text": format!("message {i} with the sign {label}"), "label": label }))
            .expect("a string");
        rows
    });
    fs::write(folder.join("rows.jsonl"), rows).expect("written");
    let config = format!(
        "[upstream.llm]\nbase_url = \"http://{}/v1\"\nretries = 0\n\n[model.gpt]\nupstream = \"llm\"\nprice = {{ input = \
         10.0, output = 100.0 }}\n",
        upstream.address
    );
    fs::write(folder.join("understudy.toml"), config).expect("written");
}

/// Right for as many of a hundred rows as it is `good` at.
fn right(text: &str, good: usize) -> String {
    let number: usize = text.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
    let label = text.split_whitespace().last().unwrap_or_default();
    if (number * 37) % 100 < good { label.to_owned() } else { "no idea".to_owned() }
}

/// Better under [`GOOD`], and a little better with examples.
fn says(body: &Value) -> (u16, String) {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let told = messages.first().and_then(|m| m["content"].as_str()).unwrap_or_default();
    let good = 40 + if told == GOOD { 35 } else { 0 } + if messages.len() > 2 { 10 } else { 0 };
    (200, right(last_message(body), good))
}

fn asked<'a>(more: &[&'a str]) -> Vec<&'a str> {
    asked_in("found", more)
}

fn asked_in<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["adapt", "prompts", "--data", "rows.jsonl", "--model", "gpt", "--out", out, "--json"];
    let small = ["--shots", "0,2", "--sets", "2", "--rows", "64", "--test-rows", "100", "--calls", "1000"];
    [&fixed[..], &small, more].concat()
}

fn search(folder: &Path, more: &[&str]) -> Said {
    run(folder, &asked(more))
}

#[test]
fn a_better_prompt_is_found_tested_and_taken_by_pilot_run() {
    let folder = folder();
    let dir = folder.path();
    let upstream = Scripted::start(says);
    write(dir, &upstream);
    fs::write(dir.join("more.txt"), format!("{GOOD}\n\nJust guess.\n")).expect("written");
    let said = search(dir, &["--instruction", "Say what it is.", "--instructions", "more.txt"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let found = said.json();
    assert_eq!(found["verdict"], "better", "{found}");
    assert_eq!(found["winner"]["raced"]["instruction"], "given 2", "{}", said.out);
    assert_eq!(found["winner"]["raced"]["shots"], 2);
    let tested = &found["winner"]["tested"];
    assert!(tested["against_start"]["difference"]["low"].as_f64() > Some(0.2), "{tested}");
    let calls = upstream.calls();
    assert!(found["calls"].as_u64() <= Some(1000) && calls <= 1000 + 200, "{calls}");
    assert!(said.out.contains("given 1 (start)") && said.out.contains("take the new prompt"), "{}", said.out);

    // The same again asks nothing and finds the same.
    let again = search(dir, &["--instruction", "Say what it is.", "--instructions", "more.txt"]).json();
    assert_eq!((upstream.calls(), &again["hash"]), (calls, &found["hash"]));

    let args = ["pilot", "run", "--data", "rows.jsonl", "--model", "gpt", "--limit", "100", "--json"];
    let bare = run(dir, &[&args[..], &["--out", "bare"]].concat()).json();
    let prompted = run(dir, &[&args[..], &["--out", "prompted", "--prompt", "found/prompt.json"]].concat());
    assert_eq!(prompted.code, 0, "{}", prompted.err);
    let accuracy = |said: &Value| -> f64 {
        said["models"]["gpt"]["accuracy"].as_f64().unwrap_or_else(|| panic!("no accuracy in {said}"))
    };
    assert!(accuracy(&prompted.json()) > accuracy(&bare) + 0.3);
    let last = upstream.seen.0.lock().expect("not poisoned").last().cloned().expect("it was asked");
    assert_eq!((&last["messages"][0]["content"], last["messages"].as_array().map(Vec::len)), (&json!(GOOD), Some(6)));
    let both = run(dir, &[&args[..], &["--prompt", "found/prompt.json", "--shots", "2"]].concat());
    assert!(both.code == 2 && both.err.contains("cannot be used with"), "{}", both.err);
    let other = run(dir, &[&args[..], &["--task", "answer", "--prompt", "found/prompt.json"]].concat());
    assert!(other.code != 0 && other.err.contains("it is for --task classify"), "{}", other.err);
}

#[test]
fn where_no_prompt_is_better_the_first_one_stays() {
    let folder = folder();
    let dir = folder.path();
    let upstream = Scripted::start(|body| (200, right(last_message(body), 60)));
    write(dir, &upstream);
    let said = search(dir, &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let found = said.json();
    assert_eq!((&found["verdict"], found["start"]["raced"]["shots"].as_u64()), (&json!("keep"), Some(0)));
    assert!(found["sentence"].as_str().is_some_and(|s| s.starts_with("keep the prompt")), "{found}");
    let prompt: Value =
        serde_json::from_slice(&fs::read(dir.join("found/prompt.json")).expect("written")).expect("JSON");
    assert_eq!((&prompt["shots"], &prompt["examples"]), (&json!(0), &json!([])));
    assert!(prompt["instruction"].as_str().is_some_and(|s| s.starts_with("Classify the user's message.")));
}

#[test]
fn a_search_that_is_interrupted_pays_for_no_answer_twice_and_a_cap_on_money_holds() {
    let folder = folder();
    let dir = folder.path();
    let upstream = Scripted::start(|body| {
        std::thread::sleep(Duration::from_millis(5));
        says(body)
    });
    write(dir, &upstream);
    let mut first = command(dir, &asked(&[])).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    upstream.wait_for(100);
    let second = search(dir, &[]);
    assert!(second.code == 69 && second.err.contains("another process is at work"), "{}", second.err);
    let interrupted = std::process::Command::new("kill").args(["-INT", &first.id().to_string()]).status();
    assert!(interrupted.expect("a kill command").success());
    assert_eq!(first.wait().expect("our child").code(), Some(130));
    let whole = search(dir, &[]);
    assert_eq!(whole.code, 0, "{}", whole.err);
    assert!(whole.err.contains("going on in found"), "{}", whole.err);
    let calls = usize::try_from(whole.json()["calls"].as_u64().expect("a number")).expect("a few");
    // Those under way at the interruption are lost: eight at a time.
    assert!(upstream.calls() <= calls + 200 + 8, "{} for {calls}", upstream.calls());

    // A request costs 0.002: 100 + 10 tokens.
    let capped = run(dir, &asked_in("capped", &["--max-cost-usd", "1", "--seed", "1"]));
    assert_eq!(capped.code, 0, "{}", capped.err);
    let found = capped.json();
    assert_eq!(found["ended"], "cost", "{found}");
    assert_eq!(found["winner"]["tested"]["quality"]["n"], 100, "money was kept back for the test: {found}");
    assert!(found["spent_usd"].as_f64() <= Some(1.0), "{found}");
    let poor = run(dir, &asked_in("poor", &["--max-cost-usd", "0.01"]));
    assert!(poor.code != 0 && poor.err.contains("the money is spent"), "{}", poor.err);
    assert!(!dir.join("poor/prompt.json").exists());
}

#[test]
fn what_cannot_be_searched_is_said() {
    let folder = folder();
    let dir = folder.path();
    let upstream = Scripted::start(says);
    write(dir, &upstream);
    let few: String = (0..10).fold(String::new(), |mut rows, i| {
        writeln!(rows, "{}", json!({ "text": format!("text {i}"), "label": (["a", "b"][i % 2]) })).expect("a string");
        rows
    });
    fs::write(dir.join("few.jsonl"), few).expect("written");
    for (more, says) in [
        (&["--data", "few.jsonl"][..], "rows to test with"),
        (&["--calls", "100"], "--calls"),
        (&["--only-given"], "--instruction"),
        (&["--instruction", " "], "is empty"),
        (&["--model", "words"], "it reads none"),
        (&["--model", "nobody"], "nobody"),
        (&["--shots-by", "nothing"], "nothing"),
        (&["--minutes", "0"], "--minutes"),
    ] {
        let mut args = asked(&[]);
        // The last of two is not taken: the first is replaced.
        match args.iter().position(|arg| *arg == more[0]) {
            Some(at) => args[at + 1] = more[1],
            None => args.extend(more),
        }
        let said = run(dir, &args);
        assert!(said.code != 0 && said.err.contains(says), "{more:?}: {}", said.err);
        assert!(!dir.join("found/prompt.json").exists(), "{more:?}");
    }
}

#[tokio::test]
async fn the_gateway_asks_a_model_with_its_prompt() {
    let folder = folder();
    let dir = folder.path();
    tiny::install(dir);
    let prompt = |shots_by: &str| {
        let examples =
            json!([{ "text": "the red fish", "answer": "fish" }, { "text": "a blue bird", "answer": "bird" }]);
        let prompt = json!({ "version": 1, "task": "classify", "labels": ["bird", "fish"], "instruction": "Which?",
                             "shots": 1, "shots_by": shots_by, "examples": examples });
        fs::write(dir.join("prompt.json"), prompt.to_string()).expect("written");
    };
    prompt("words");
    let config = "[server]\nlisten = \"127.0.0.1:0\"\n\n[local.animals]\nmodel = \"tiny\"\nprompt = \"prompt.json\"\n";
    fs::write(dir.join("understudy.toml"), config).expect("written");
    {
        let serving = Serving::start(dir);
        let (status, answer) = serving.ask("animals", "a green fish").await;
        assert!(status == 200 && ["bird", "fish"].contains(&answer.as_str()), "{status} {answer}");
    }
    prompt("minilm");
    let refused = run(dir, &["check"]);
    let refused = if refused.code == 0 { run(dir, &["serve"]) } else { refused };
    assert!(refused.code != 0 && refused.err.contains("--shots-by fixed,words"), "{}", refused.err);
    fs::write(dir.join("prompt.json"), "{}").expect("written");
    let refused = run(dir, &["serve"]);
    assert!(refused.code != 0 && refused.err.contains("prompt.json"), "{}", refused.err);
}
