//! Generative models out, back and in fewer bits from the outside: `adapt merge`, `adapt import`, `adapt quantize` on a
//! model of random numbers, and what may go wrong on the way.

use crate::support::{Said, command, ended, folder, run};
use crate::tiny;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// The model, and conversations.
fn write(folder: &Path) {
    tiny::install(folder);
    let rows: String = (0..60).fold(String::new(), |mut rows, i| {
        let row = json!({ "text": format!("the number {i}"), "answer": format!("{}", i % 7) });
        writeln!(rows, "{row}").expect("a string");
        rows
    });
    fs::write(folder.join("rows.jsonl"), rows).expect("written");
}

/// The model with an adapter trained on it, in `models/slots`.
fn train(folder: &Path) -> Value {
    let args = ["adapt", "finetune", "--method", "lora", "--base", "tiny", "--data", "rows.jsonl", "--epochs", "1"];
    let said = run(folder, &[&args[..], &["--rank", "4", "--out", "models/slots", "--json"]].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    said.json()
}

fn asked<'a>(what: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["adapt", what, "--data", "rows.jsonl", "--threads", "1", "--json"][..], more].concat()
}

fn adapt(folder: &Path, what: &str, more: &[&str]) -> Said {
    run(folder, &asked(what, more))
}

fn done(said: Said) -> Value {
    assert_eq!(said.code, 0, "{}", said.err);
    said.json()
}

/// What lies in a folder, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn an_adapter_is_merged_made_smaller_and_brought_back_as_what_it_was() {
    let folder = folder();
    let dir = folder.path();
    write(dir);
    let trained = train(dir);
    assert!(trained["hash"].as_str().is_some_and(|hash| hash.len() == 64), "{trained}");

    let merged = done(adapt(dir, "merge", &["--model", "models/slots", "--out", "models/whole"]));
    assert!(merged["served"]["f16"]["mean_kl"].as_f64() < Some(1e-3) && merged["mb"].as_f64() > Some(0.1), "{merged}");
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.join("models/whole/artifact.json")).expect("written")).expect("JSON");
    assert_eq!(manifest["parent"], trained["hash"], "it says what it was made from");
    let again = done(adapt(dir, "merge", &["--model", "models/slots", "--out", "models/whole2", "--name", "whole"]));
    assert_eq!(again["hash"].as_str().map(str::len), Some(64));

    let hub = done(adapt(dir, "merge", &["--model", "models/slots", "--to", "safetensors", "--out", "hub"]));
    assert_eq!(hub["hash"], Value::Null, "a folder for other libraries is no artifact");
    assert!(names(&dir.join("hub")).contains(&"tokenizer.json".to_owned()), "{:?}", names(&dir.join("hub")));

    let from = |from: &'static str, out: &'static str| {
        done(adapt(dir, "import", &["--from", from, "--base", "tiny", "--out", out]))
    };
    let adapter = ["--from", "models/slots/adapter", "--base", "tiny", "--name", "slots", "--out", "models/again"];
    let adapter = done(adapt(dir, "import", &adapter));
    assert_eq!(adapter["n"], 60, "rows that had no part in training all measure");
    let file = fs::read(dir.join("models/again/adapter.gguf")).expect("an adapter");
    assert!(file == fs::read(dir.join("models/slots/adapter.gguf")).expect("an adapter"), "bit for bit");
    let weights = from("hub", "models/from-hub");
    assert!(weights["served"]["f16"]["mean_kl"].as_f64() < Some(1e-3), "{weights}");
    let ggufs: Vec<String> =
        names(&dir.join("models/whole")).into_iter().filter(|name| name.ends_with("gguf")).collect();
    let ggufs = format!("models/whole/{}", ggufs.first().expect("a file"));
    let back = done(adapt(dir, "import", &["--from", &ggufs, "--base", "tiny", "--out", "models/from-gguf"]));
    let loss = |told: &Value| told["metrics"]["loss"]["estimate"].as_f64().expect("a number");
    assert!((loss(&back) - loss(&weights)).abs() < 1e-3, "16 bits and 32: {back} {weights}");

    let smaller = done(adapt(
        dir,
        "quantize",
        &["--model", "models/whole", "--candidates", "q8_0,q4_0", "--at-most-kl", "10", "--out", "models/small"],
    ));
    assert_eq!(smaller["picked"], "Q4_0", "the smallest within the limit: {smaller}");
    let of = |name: &str, field: &str| {
        let all = smaller["candidates"].as_array().expect("a list");
        let found = all.iter().find(|c| c["candidate"] == name).unwrap_or_else(|| panic!("no {name} in {smaller}"));
        found[field].as_f64().or(found[field]["estimate"].as_f64()).expect("a number")
    };
    assert!(of("Q4_0", "mb") < of("Q8_0", "mb") && of("Q8_0", "kl") < of("Q4_0", "kl"), "{smaller}");
    let none = adapt(dir, "quantize", &["--model", "models/whole", "--candidates", "q8_0", "--at-most-mb", "0.001"]);
    assert_eq!(none.code, 0, "without --out candidates are only compared: {}", none.err);
    let none = adapt(
        dir,
        "quantize",
        &["--model", "models/whole", "--candidates", "q8_0", "--at-most-mb", "0.001", "--out", "models/none"],
    );
    assert!(none.code != 0 && none.err.contains("none keeps within 0.001 MB"), "{}", none.err);
    assert!(!dir.join("models/none").exists());

    for model in ["models/whole", "models/small", "models/again", "models/from-hub"] {
        let args = ["pilot", "run", "--task", "generate", "--data", "rows.jsonl", "--limit", "3", "--max-tokens", "4"];
        let out = format!("pilot-{}", model.replace('/', "-"));
        let said = run(dir, &[&args[..], &["--model", model, "--out", &out, "--json"]].concat());
        assert_eq!(said.code, 0, "{model}: {}", said.err);
    }
    // Nothing is left beside what was asked for.
    let left: Vec<String> = names(&dir.join("models")).into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_cut_or_of_another_shape_is_said_and_leaves_nothing() {
    let folder = folder();
    let dir = folder.path();
    write(dir);
    train(dir);
    let whole = tiny::gguf(2);
    for (name, bytes) in [
        ("half.gguf", &whole[..whole.len() / 2]),
        ("head.gguf", &whole[..100]),
        ("four.gguf", &whole[..4]),
        ("empty.gguf", &[]),
        ("text.gguf", b"this is a text, not a model"),
    ] {
        fs::write(dir.join(name), bytes).expect("written");
        for said in [
            adapt(dir, "import", &["--from", name, "--base", "tiny", "--out", "models/x"]),
            adapt(dir, "quantize", &["--model", name, "--candidates", "q8_0", "--out", "models/x"]),
            adapt(dir, "merge", &["--model", name, "--to", "safetensors", "--out", "models/x"]),
        ] {
            assert!(said.code == 65 && said.err.contains(name), "{name}: {} {}", said.code, said.err);
            assert!(!said.err.contains("panicked"), "{}", said.err);
            assert!(!dir.join("models/x").exists(), "{name}");
        }
    }

    // An adapter whose tensors have another shape, are cut, or are missing.
    let adapter = dir.join("models/slots/adapter");
    let tensors = fs::read(adapter.join("adapter_model.safetensors")).expect("an adapter");
    let config = fs::read_to_string(adapter.join("adapter_config.json")).expect("an adapter");
    let brought = |config: &str, tensors: Option<&[u8]>| {
        let bad = dir.join("bad");
        let _ = fs::remove_dir_all(&bad);
        fs::create_dir(&bad).expect("a folder");
        fs::write(bad.join("adapter_config.json"), config).expect("written");
        if let Some(tensors) = tensors {
            fs::write(bad.join("adapter_model.safetensors"), tensors).expect("written");
        }
        let said = adapt(dir, "import", &["--from", "bad", "--base", "tiny", "--out", "models/x"]);
        assert!(said.code != 0 && !dir.join("models/x").exists() && !said.err.contains("panicked"), "{}", said.err);
        said.err
    };
    assert!(
        brought(&config.replace("\"r\":4", "\"r\":5").replace("\"r\": 4", "\"r\": 5"), Some(&tensors))
            .contains("rank 5")
    );
    assert!(brought(&config, Some(&tensors[..tensors.len() - 16])).contains("adapter_model.safetensors"));
    assert!(brought(&config, None).contains("adapter_model.safetensors"));
    assert!(brought("{", Some(&tensors)).contains("adapter_config.json"));

    // A folder of weights with a tensor of another shape.
    done(adapt(dir, "merge", &["--model", "models/slots", "--to", "safetensors", "--out", "hub"]));
    let told = fs::read_to_string(dir.join("hub/config.json")).expect("a configuration");
    let wider: String = told.replace("\"intermediate_size\": 128", "\"intermediate_size\": 160");
    let wider = wider.replace("\"intermediate_size\":128", "\"intermediate_size\":160");
    assert_ne!(wider, told);
    fs::write(dir.join("hub/config.json"), wider).expect("written");
    let said = adapt(dir, "import", &["--from", "hub", "--base", "tiny", "--out", "models/x"]);
    assert!(said.code == 65 && said.err.contains("mlp"), "{} {}", said.code, said.err);
    fs::write(dir.join("hub/config.json"), told).expect("written");

    // A tokeniser that is not the base's.
    let tokeniser = fs::read_to_string(dir.join("hub/tokenizer.json")).expect("a tokeniser");
    fs::write(dir.join("hub/tokenizer.json"), tokeniser.replace("\"the\"", "\"thy\"")).expect("written");
    let said = adapt(dir, "import", &["--from", "hub", "--base", "tiny", "--out", "models/x"]);
    assert!(said.code == 65 && said.err.contains("tokens differ"), "{}", said.err);

    for (what, more, says) in [
        ("merge", &["--model", "tiny", "--out", "models/x"][..], "it has no adapter"),
        ("merge", &["--model", "models/slots", "--numbers", "q4_k_m", "--out", "models/x"], "--numbers"),
        ("merge", &["--model", "models/slots", "--to", "safetensors", "--out", "hub"], "--force"),
        ("merge", &["--model", "nothing", "--out", "models/x"], "nothing"),
        ("quantize", &["--model", "tiny", "--candidates", "q9", "--out", "models/x"], "q9"),
        ("import", &["--from", "nothing", "--base", "tiny", "--out", "models/x"], "there is nothing"),
        ("import", &["--from", "models", "--base", "tiny", "--out", "models/x"], "adapter_config.json"),
        ("import", &["--from", "tiny.gguf", "--base", "none", "--out", "models/x"], "none"),
        ("import", &["--from", "tiny.gguf", "--base", "tiny", "--out", "models/slots"], "--force"),
    ] {
        let said = adapt(dir, what, more);
        assert!(said.code != 0 && said.err.contains(says), "{what} {more:?}: {}", said.err);
        assert!(!dir.join("models/x").exists());
    }
}

#[test]
fn what_a_job_elsewhere_learned_from_is_known_when_it_comes_back() {
    let folder = folder();
    let dir = folder.path();
    write(dir);
    let job = run(
        dir,
        &[
            "adapt",
            "recipe",
            "--base",
            "tiny",
            "--data",
            "rows.jsonl",
            "--test-share",
            "0.3",
            "--hub",
            "a/tiny",
            "--out",
            "job",
            "--json",
        ],
    );
    let job = done(job);
    let back = ["adapt", "import", "--recipe", "job", "--from", "tiny.gguf", "--out", "models/x", "--json"];
    done(run(dir, &back));
    // Nor do its own rows measure it when they are given as if they were new.
    let own =
        ["adapt", "import", "--recipe", "job", "--from", "tiny.gguf", "--data", "rows.jsonl", "--out", "y", "--json"];
    assert_eq!(done(run(dir, &own))["n"].as_u64(), job["n_held_out"].as_u64());
    let n = job["n_train"].as_u64().expect("a number");
    let learned = fs::metadata(dir.join("models/x/learned.bin")).expect("written").len();
    assert!((30..60).contains(&n) && learned == 8 * n, "{n} rows, {learned} bytes");
    let judged = run(
        dir,
        &["pilot", "run", "--model", "models/x", "--data", "rows.jsonl", "--task", "generate", "--out", "pilot"],
    );
    assert!(judged.out.contains(&format!("learned from {n} of these 60 rows")), "{}{}", judged.out, judged.err);
}

/// A model of many rows: measuring it takes a while.
fn write_many(folder: &Path) {
    write(folder);
    let rows: String = (0..4000).fold(String::new(), |mut rows, i| {
        let text = format!("the number {i} {}", "and so on ".repeat(30));
        writeln!(rows, "{}", json!({ "text": text, "answer": format!("{}", i % 7) })).expect("a string");
        rows
    });
    fs::write(folder.join("many.jsonl"), rows).expect("written");
}

#[test]
fn two_at_once_are_refused_and_an_interrupted_one_leaves_nothing() {
    let folder = folder();
    let dir = folder.path();
    write_many(dir);
    train(dir);
    let temporary = dir.join("temporary");
    fs::create_dir(&temporary).expect("a folder");
    let import =
        ["adapt", "import", "--from", "tiny.gguf", "--base", "tiny", "--data", "many.jsonl", "--out", "models/x"];
    let lock = dir.join("models/.x.lock");
    let mut first = command(dir, &import);
    first.env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::null());
    let mut first = first.spawn().expect("it runs");
    for _ in 0..600 {
        if lock.exists() && !names(&temporary).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for (what, more) in [
        ("import", &["--from", "tiny.gguf", "--base", "tiny", "--out", "models/x"][..]),
        ("merge", &["--model", "models/slots", "--out", "models/x"]),
        ("quantize", &["--model", "models/slots", "--candidates", "q8_0", "--out", "models/x"]),
    ] {
        let second = adapt(dir, what, more);
        assert!(second.code == 69 && second.err.contains("another process"), "{what}: {} {}", second.code, second.err);
    }
    let sent = Command::new("kill").args(["-INT", &first.id().to_string()]).status().expect("a kill command");
    assert!(sent.success());
    assert_eq!(first.wait().expect("our child").code(), Some(130));
    assert_eq!(names(&dir.join("models")), ["slots"], "nothing is left behind");
    assert!(names(&temporary).is_empty(), "no half-made file is left: {:?}", names(&temporary));
    // The folder is free again.
    done(adapt(dir, "import", &["--from", "tiny.gguf", "--base", "tiny", "--out", "models/x"]));
}

/// Files may grow to so many blocks of 512 bytes (1,024 in some shells), as on a disk that is full.
fn on_a_full_disk(folder: &Path, blocks: u32, args: &[&str]) -> Said {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_understudy")]).args(args);
    shell.current_dir(folder).env_clear().env("HOME", folder).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    ended(shell)
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let folder = folder();
    let dir = folder.path();
    write(dir);
    train(dir);
    for (what, more) in [
        ("import", &["--from", "tiny.gguf", "--base", "tiny", "--out", "models/x"][..]),
        ("merge", &["--model", "models/slots", "--out", "models/x"]),
        ("merge", &["--model", "models/slots", "--to", "safetensors", "--out", "models/x"]),
        ("quantize", &["--model", "tiny", "--candidates", "q8_0", "--at-most-kl", "9", "--out", "models/x"]),
    ] {
        let said = on_a_full_disk(dir, 100, &asked(what, more));
        assert!(said.code != 0 && !said.err.contains("panicked"), "{what}: {}", said.err);
        assert!(said.err.contains("write") || said.err.contains("large"), "{what}: {}", said.err);
        assert_eq!(names(&dir.join("models")), ["slots"], "{what} leaves nothing: {}", said.err);
        done(adapt(dir, what, more));
        fs::remove_dir_all(dir.join("models/x")).expect("it was made");
    }
}
