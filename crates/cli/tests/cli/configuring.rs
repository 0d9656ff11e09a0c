//! `init` and `check`: what they write, accept and refuse.

use crate::support::{CONFIG, command, ended, folder, run, write_recorded};

#[test]
fn init_writes_a_configuration_that_check_accepts_and_never_replaces_one_unasked() {
    let folder = folder();
    let first = run(folder.path(), &["init"]);
    assert_eq!((first.code, first.err.as_str()), (0, ""));
    assert!(first.out.contains("wrote understudy.toml"), "{}", first.out);

    let mut check = command(folder.path(), &["check", "--json"]);
    check.env("OPENAI_API_KEY", "sk-not-to-be-shown");
    let check = ended(check);
    assert_eq!(check.code, 0, "{}", check.err);
    assert!(check.out.contains("understudy.toml is valid") && check.out.contains("key set"), "{}", check.out);
    assert!(!check.out.contains("sk-not-to-be-shown") && !check.err.contains("sk-not-to-be-shown"));
    assert_eq!(check.json()["valid"], true);
    assert!(!folder.path().join("understudy.db").exists(), "a check makes no store");

    let path = folder.path().join("understudy.toml");
    std::fs::write(&path, "# mine\n").expect("written");
    let second = run(folder.path(), &["init"]);
    assert_eq!(second.code, 64);
    assert!(second.err.contains("it is there already; --force replaces it"), "{}", second.err);
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "# mine\n");
    assert_eq!(run(folder.path(), &["init", "--force"]).code, 0);
    assert!(std::fs::read_to_string(&path).expect("there").contains("[upstream.openai]"));
}

#[test]
fn a_template_with_every_comment_taken_out_is_still_right() {
    let folder = folder();
    run(folder.path(), &["init"]);
    let path = folder.path().join("understudy.toml");
    let text = std::fs::read_to_string(&path).expect("there");
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest,
            _ => line,
        })
        // These need installed models, and the numbered list is prose.
        .filter(|line| !line.starts_with("[local.") && !line.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    std::fs::write(&path, uncommented.join("\n")).expect("written");
    let mut check = command(folder.path(), &["check"]);
    check.env("OPENAI_API_KEY", "a").env("UNDERSTUDY_API_KEY", "b");
    let check = ended(check);
    assert_eq!(check.code, 0, "{}", check.err);
    for said in ["1 client key", "my-llm", "triage", "sends everything to gpt-4o-mini and records it"] {
        assert!(check.out.contains(said), "{said} in\n{}", check.out);
    }
}

#[test]
fn a_missing_key_or_file_is_named_with_its_remedy() {
    let folder = folder();
    let none = run(folder.path(), &["check"]);
    assert_eq!(none.code, 66);
    assert!(none.err.contains("`understudy init` writes one"), "{}", none.err);

    run(folder.path(), &["init"]);
    let no_key = run(folder.path(), &["check"]);
    assert_eq!(no_key.code, 64);
    assert!(no_key.err.contains("OPENAI_API_KEY, which is not set"), "{}", no_key.err);
    assert!(no_key.err.contains("understudy.toml"), "{}", no_key.err);
}

#[test]
fn a_faulty_configuration_is_refused_with_file_line_and_key() {
    let folder = folder();
    write_recorded(folder.path());
    for (from, to, says) in [
        ("mode = \"observe\"", "mode = \"brave\"", vec!["line 15: task.triage.mode", "observe", "live"]),
        ("mode = ", "mood = ", vec!["mood"]),
        ("labels = [\"spam\", \"ham\"]", "labels = [\"spam\"]", vec!["at least two"]),
        ("large = \"gpt\"", "large = \"gpt\"\nepsilon = 2.0", vec!["epsilon", "0.02"]),
        ("127.0.0.1:0", "0.0.0.0:0", vec!["api_keys"]),
        ("recorded = ", "base_url = \"https://x/v1\"\nrecorded = ", vec!["not both"]),
        ("default_upstream = \"recording\"", "default_upstream = \"recordings\"", vec!["recording"]),
        ("answers.jsonl", "nothing.jsonl", vec!["nothing.jsonl"]),
        ("[server]", "[server", vec!["line 2"]),
    ] {
        assert!(CONFIG.contains(from));
        std::fs::write(folder.path().join("understudy.toml"), CONFIG.replacen(from, to, 1)).expect("written");
        let check = run(folder.path(), &["check"]);
        assert!(matches!(check.code, 64..=66), "{to}: {} {}", check.code, check.err);
        assert!(check.err.starts_with("error: failed to "), "{}", check.err);
        for said in says {
            assert!(check.err.contains(said), "{said:?} in {}", check.err);
        }
        // What does not check does not serve.
        let serve = run(folder.path(), &["serve"]);
        assert_eq!((serve.code, serve.err.contains("listens")), (check.code, false), "{}", serve.err);
    }
}

#[test]
fn a_pasted_secret_is_refused_and_not_repeated() {
    let folder = folder();
    run(folder.path(), &["init"]);
    let path = folder.path().join("understudy.toml");
    let text = std::fs::read_to_string(&path).expect("there").replace("env:OPENAI_API_KEY", "sk-pasted");
    std::fs::write(&path, text).expect("written");
    let check = run(folder.path(), &["check"]);
    assert_eq!(check.code, 64);
    assert!(check.err.contains("upstream.openai.api_key") && check.err.contains("env:NAME"), "{}", check.err);
    assert!(!check.err.contains("sk-pasted"), "{}", check.err);
}
