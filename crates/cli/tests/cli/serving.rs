//! `serve`, and `traces` and `ps` beside it.

use crate::support::{CONFIG, Serving, Upstream, folder, run, write_recorded};
use serde_json::Value;
use std::path::Path;

fn edit(folder: &Path, config: &str) {
    std::fs::write(folder.join("understudy.toml"), config).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_serves_its_rows_are_listed_and_sigterm_drains_it() {
    let folder = folder();
    write_recorded(folder.path());
    let mut serving = Serving::start(folder.path());
    serving.wait_for("task triage · observe");
    assert_eq!(serving.get("/ready").await.status(), 200);
    assert_eq!(serving.ask("auto:triage", "first").await, (200, "spam".to_owned()));
    assert_eq!(serving.ask("gpt", "second").await, (200, "ham".to_owned()));
    let (status, unrecorded) = serving.ask("gpt", "never recorded").await;
    assert!(status == 404 && unrecorded.contains("record"), "{status} {unrecorded}");

    // The store is open in the other process; both commands read beside it.
    let list = run(folder.path(), &["traces", "--oldest", "--json"]);
    assert_eq!(list.code, 0, "{}", list.err);
    let rows: Vec<Value> = list.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let seen: Vec<_> = rows.iter().map(|row| (row["route"].as_str(), row["ending"].as_str())).collect();
    let (large, none) = (Some("large"), Some("none"));
    assert_eq!(seen, [(large, Some("answered")), (large, Some("answered")), (none, Some("failed"))]);
    assert_eq!((&rows[0]["task"], &rows[0]["large"]["label"]), (&"triage".into(), &"spam".into()));
    // Five tokens in at 1 $/M and one out at 2 $/M.
    assert_eq!(rows[0]["large"]["cost"], 7000);
    let id = rows[0]["id"].as_str().expect("an id");
    let page = run(folder.path(), &["traces", "show", id]);
    for said in [id, "triage (observe)", "$0.000007", "large: observe", "first"] {
        assert!(page.out.contains(said), "{said} in\n{}", page.out);
    }
    let table = run(folder.path(), &["traces", "--errors"]);
    assert_eq!(table.out.lines().count(), 2, "a heading and one row:\n{}", table.out);
    assert_eq!(run(folder.path(), &["traces", "show", "nonsense"]).code, 64);
    assert_eq!(run(folder.path(), &["traces", "show", "01JC4V5Q7ZAAAAAAAAAAAAAAAA"]).code, 66);

    let ps = run(folder.path(), &["ps", "--url", &serving.url]);
    assert_eq!(ps.code, 0, "{}", ps.err);
    assert!(ps.out.contains("ready") && ps.out.contains("triage") && ps.out.contains("observe"), "{}", ps.out);
    let ps = run(folder.path(), &["ps", "--json", "--url", &format!("{}/v1", serving.url)]);
    assert_eq!((&ps.json()["ready"], &ps.json()["tasks"][0]["name"]), (&true.into(), &"triage".into()));

    let (answer, ()) = tokio::join!(serving.ask("gpt", "slow"), async {
        while status_of(&serving).await["open_requests"] == 0 {}
        serving.signal("TERM");
    });
    assert_eq!(answer, (200, "spam".to_owned()));
    assert_eq!(serving.ended(), Some(0));
    assert!(serving.log().contains("draining"), "{}", serving.log());
    let rows = run(folder.path(), &["traces", "--json"]);
    assert_eq!(rows.out.lines().count(), 4, "{}", rows.out);

    let gone = run(folder.path(), &["ps", "--url", &serving.url]);
    assert_eq!(gone.code, 69);
    assert!(gone.err.contains("nothing answers"), "{}", gone.err);
}

async fn status_of(serving: &Serving) -> Value {
    let body = serving.get("/v1/understudy/status").await.bytes().await.expect("a body");
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test]
async fn an_edit_is_taken_in_and_a_faulty_one_keeps_the_old_configuration() {
    let folder = folder();
    write_recorded(folder.path());
    let mut serving = Serving::start(folder.path());
    assert_eq!(serving.models().await, ["auto", "auto:triage", "gpt"]);

    edit(folder.path(), &CONFIG.replace("[task.triage]", "[task.sorting]"));
    serving.wait_for_model("auto:sorting", true).await;
    assert_eq!(serving.ask("auto:triage", "first").await.0, 404);

    edit(folder.path(), &CONFIG.replace("\"observe\"", "\"brave\""));
    let log = serving.wait_for("failed to reload; what was served before goes on");
    assert!(log.contains("task.triage.mode"), "{log}");
    assert_eq!(serving.models().await, ["auto", "auto:sorting", "gpt"]);
    assert_eq!(serving.ask("auto:sorting", "first").await, (200, "spam".to_owned()));
    assert_eq!(serving.get("/ready").await.status(), 200);

    edit(folder.path(), CONFIG);
    serving.wait_for_model("auto:triage", true).await;
    serving.signal("TERM");
    assert_eq!(serving.ended(), Some(0));
}

#[tokio::test]
async fn sighup_takes_in_what_a_look_at_the_file_would_not_notice() {
    let folder = folder();
    write_recorded(folder.path());
    let mut serving = Serving::start(folder.path());
    assert_eq!(serving.ask("gpt", "third").await.0, 404, "it is not recorded yet");
    // The recording is not the configuration: its change alone is not seen.
    let path = folder.path().join("answers.jsonl");
    let more = r#"{"id":"third","prompt":"third","models":{"gpt":{"text":"ham"}}}"#;
    let text = std::fs::read_to_string(&path).expect("there");
    std::fs::write(&path, format!("{text}{more}\n")).expect("written");
    serving.signal("HUP");
    serving.wait_for(" in\n");
    assert_eq!(serving.ask("gpt", "third").await, (200, "ham".to_owned()));
    serving.signal("TERM");
    assert_eq!(serving.ended(), Some(0));
}

#[tokio::test]
async fn a_second_gateway_on_the_same_port_says_what_is_wrong_and_leaves_the_first_alone() {
    let (one, two) = (folder(), folder());
    write_recorded(one.path());
    let first = Serving::start(one.path());
    write_recorded(two.path());
    let address = first.url.trim_start_matches("http://");
    edit(two.path(), &CONFIG.replace("127.0.0.1:0", address));
    let second = run(two.path(), &["serve"]);
    assert_eq!(second.code, 69);
    assert!(second.err.contains(address) && second.err.contains("another process has it"), "{}", second.err);
    assert_eq!(first.ask("gpt", "first").await, (200, "spam".to_owned()));
}

#[tokio::test]
async fn a_killed_gateway_keeps_every_row_it_acknowledged() {
    let folder = folder();
    write_recorded(folder.path());
    let mut serving = Serving::start(folder.path());
    for _ in 0..20 {
        assert_eq!(serving.ask("gpt", "first").await.0, 200);
    }
    serving.signal("KILL");
    assert_eq!(serving.ended(), None);
    let rows = run(folder.path(), &["traces", "--json", "-n", "100"]);
    assert_eq!(rows.out.lines().count(), 20, "{}", rows.err);
}

#[tokio::test]
async fn client_keys_are_required_and_never_logged() {
    let folder = folder();
    write_recorded(folder.path());
    std::fs::write(folder.path().join("key"), "the-gateways-key\n").expect("written");
    edit(folder.path(), &CONFIG.replace("[server]", "[server]\napi_keys = [\"file:key\"]"));
    let mut serving = Serving::start(folder.path());
    assert_eq!(serving.ask("gpt", "first").await.0, 401);
    let refused = run(folder.path(), &["ps", "--url", &serving.url]);
    assert_eq!(refused.code, 69);
    assert!(refused.err.contains("--api-key"), "{}", refused.err);
    assert_eq!(run(folder.path(), &["ps", "--url", &serving.url, "--api-key", "the-gateways-key"]).code, 0);
    serving.signal("TERM");
    assert_eq!(serving.ended(), Some(0));
    assert!(!serving.log().contains("the-gateways-key"), "{}", serving.log());
}

fn in_front_of(folder: &Path, upstream: &Upstream) {
    std::fs::write(folder.join("key"), "the-gateways-key\n").expect("written");
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\napi_keys = [\"file:key\"]\ndefault_upstream = \"up\"\n\
         [upstream.up]\nbase_url = \"http://{}/v1\"\napi_key = \"env:UP_KEY\"\nretries = 0\n",
        upstream.address
    );
    edit(folder, &config);
}

#[tokio::test]
async fn each_key_goes_where_it_belongs_and_into_no_log() {
    let folder = folder();
    let upstream = Upstream::start(
        "200 OK",
        r#"{"model":"gpt-4o-mini-2024","choices":[{"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#,
    );
    in_front_of(folder.path(), &upstream);
    let environment = [("UP_KEY", "the-upstreams-key"), ("RUST_LOG", "trace")];
    let mut serving = Serving::start_in(folder.path(), &environment);
    serving.key = Some("the-gateways-key");
    assert_eq!(serving.ask("gpt-4o-mini", "a private text").await, (200, "hello".to_owned()));
    let seen = upstream.seen.lock().expect("not poisoned").join("\n").to_lowercase();
    assert!(seen.starts_with("post /v1/chat/completions ") && seen.contains("a private text"), "{seen}");
    assert!(seen.contains("authorization: bearer the-upstreams-key\r\n"), "{seen}");
    assert!(!seen.contains("the-gateways-key"), "{seen}");
    serving.signal("TERM");
    assert_eq!(serving.ended(), Some(0));
    for secret in ["the-upstreams-key", "the-gateways-key", "a private text"] {
        assert!(!serving.log().contains(secret), "{secret} in\n{}", serving.log());
    }
    // The price of a known model comes from the table: 9 tokens at 0.15 $/M and 2 at 0.60 $/M.
    let rows = run_with_key(folder.path(), &["traces", "--json"]);
    let row: Value = serde_json::from_str(rows.out.trim()).expect("one row");
    assert_eq!(row["large"]["cost"], 9 * 150 + 2 * 600, "{row}");
}

/// Commands read the configuration, which names the upstream's key.
fn run_with_key(folder: &Path, args: &[&str]) -> crate::support::Said {
    let mut command = crate::support::command(folder, args);
    command.env("UP_KEY", "the-upstreams-key");
    crate::support::ended(command)
}

#[tokio::test]
async fn an_upstream_that_refuses_our_key_is_our_fault_and_its_text_is_not_shown() {
    let folder = folder();
    let body = r#"{"error":{"message":"Incorrect API key provided: the-upstreams-key","code":"invalid_api_key"}}"#;
    let upstream = Upstream::start("401 Unauthorized", body);
    in_front_of(folder.path(), &upstream);
    let mut serving = Serving::start_in(folder.path(), &[("UP_KEY", "the-upstreams-key")]);
    serving.key = Some("the-gateways-key");
    let (status, message) = serving.ask("gpt-4o-mini", "x").await;
    assert_eq!(status, 503, "{message}");
    assert!(message.contains("the key in UP_KEY was refused") && !message.contains("the-upstreams-key"), "{message}");
    assert!(!serving.log().contains("the-upstreams-key"), "{}", serving.log());
}
