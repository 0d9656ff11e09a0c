//! All tests and all checks, each runner's closing line at the end.

use crate::{
    python,
    shell::{Step, cargo, exists, root, run_keeping},
};
use std::process::Command;

/// Every test. All runners run, whatever the earlier ones found.
pub(crate) fn run() -> Step {
    let mut closing = Vec::new();
    let mut failed = Vec::new();
    let mut take = |name: &'static str, (passed, lines): (bool, Vec<String>)| {
        closing.push((name, lines));
        if !passed {
            failed.push(name);
        }
    };
    if exists("cargo-nextest") {
        let command = cargo(&["nextest", "run", "--release", "--workspace", "--no-fail-fast"]);
        take("nextest", run_keeping(command, |line| line.trim_start().starts_with("Summary [")));
    } else {
        let command = cargo(&["test", "--release", "--workspace", "--all-targets", "--no-fail-fast"]);
        take("cargo test", run_keeping(command, |line| line.starts_with("test result:")));
    }
    let command = cargo(&["test", "--release", "--workspace", "--doc", "--no-fail-fast"]);
    take("doc examples", run_keeping(command, |line| line.starts_with("test result:")));
    // The way that GPUs go, on the CPU; nothing above builds it.
    let device = ["test", "--release", "--package", "understudy-adapt", "--features", "candle", "--lib", "device"];
    take("device", run_keeping(cargo(&device), |line| line.starts_with("test result:")));
    // The comparisons with other packages ask it for our figures; nothing above builds it.
    let command = cargo(&["build", "--release", "--package", "understudy-bench"]);
    take("reference", run_keeping(command, |line| line.trim_start().starts_with("Finished")));
    let mut command = Command::new(python::interpreter());
    command.current_dir(root()).args(["-m", "pytest", "-ra", "tests"]);
    take("pytest", run_keeping(command, |line| line.starts_with("==") && line.contains(" in ")));

    println!();
    for (name, lines) in &closing {
        let lines = totals(lines);
        println!("{name:<13} {}", lines.first().map_or("no closing line: it did not run to its end", String::as_str));
        for line in lines.iter().skip(1) {
            println!("{:<13} {line}", "");
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// cargo closes every crate's tests with a line of its own: added up, in the same words.
fn totals(lines: &[String]) -> Vec<String> {
    if lines.len() < 2 || !lines.iter().all(|line| line.starts_with("test result:")) {
        return lines.to_vec();
    }
    let count = |what: &str| -> u64 {
        let of = |line: &String| line.split(what).next()?.rsplit([';', '.']).next()?.trim().parse::<u64>().ok();
        lines.iter().filter_map(of).sum()
    };
    let (passed, failed, ignored) = (count(" passed"), count(" failed"), count(" ignored"));
    let verdict = if lines.iter().all(|line| line.contains("ok.")) { "ok" } else { "FAILED" };
    vec![format!(
        "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; {} targets",
        lines.len()
    )]
}

/// Format, clippy, and whatever of the other tools is installed.
pub(crate) fn lint() -> Step {
    let mut failed = Vec::new();
    let clippy = ["clippy", "--workspace", "--all-targets", "--release", "--", "-D", "warnings"];
    let mut check = |name: &'static str, command: Command| {
        if !run_keeping(command, |_| false).0 {
            failed.push(name);
        }
    };
    check("format", cargo(&["fmt", "--all", "--check"]));
    check("clippy", cargo(&clippy));
    let package = ["--package", "understudy-adapt", "--features", "candle"];
    check("clippy of devices", cargo(&[&["clippy"], &package[..], &clippy[2..]].concat()));
    let tools: [(&str, &str, &[&str]); 3] = [
        ("cargo-deny", "cargo-deny", &["check", "--hide-inclusion-graph"]),
        ("typos", "typos-cli", &[]),
        ("cargo-machete", "cargo-machete", &[]),
    ];
    for (program, package, args) in tools {
        if exists(program) {
            let mut command = Command::new(program);
            command.current_dir(root()).args(args);
            check(program, command);
        } else {
            println!("skipped: {program} is not installed; cargo install --locked {package}");
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_many_targets_add_up() {
        let line = |text: &str| text.to_owned();
        let ok = line("test result: ok. 21 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 7.35s");
        let bad =
            line("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        let sum = "test result: FAILED. 24 passed; 2 failed; 1 ignored; 2 targets";
        assert_eq!(totals(&[ok.clone(), bad]), [sum]);
        assert_eq!(totals(std::slice::from_ref(&ok)), [ok]);
    }
}
