//! The shape of the house as a test: which crate may use which, who may name the tensor crates, how long a file may be
//! and how it begins. ARCHITECTURE.md explains the picture; a rule that hurts is changed there and here, with a reason.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Pure: no IO, no clock, no async runtime.
const GROUND: [&str; 5] = ["core", "stats", "learn", "kernels", "wire"];
/// Never import a verb, nor one another.
const MEANS: [&str; 6] = ["dataset", "model", "upstream", "retrieve", "route", "store"];
/// Never import one another.
const VERBS: [&str; 5] = ["advise", "pilot", "adapt", "serve", "operate"];
/// Wire the parts together; nobody imports them.
const TOP: [&str; 3] = ["cli", "bench", "xtask"];

/// Arrows that the picture forbids and that stand all the same: (from, to, why).
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Crates that do IO, read a clock or start a runtime, which the ground and `route` must not name.
const IMPURE: [&str; 8] =
    ["tokio", "hyper", "reqwest", "axum", "rusqlite", "tempfile", "memmap2", "tracing-subscriber"];

/// Files beyond the limit: (path, why).
const LONG_FILES: [(&str, &str); 0] = [];
const LINES: usize = 800;

/// Why `from` must not use `to`; `None` when it may.
fn forbidden(from: &str, to: &str) -> Option<String> {
    let is = |layer: &[&str], name: &str| layer.contains(&name);
    let no = |rule: &str| Some(format!("{from} -> {to}: {rule}"));
    if is(&TOP, to) {
        no("nobody imports the top")
    } else if is(&TOP, from) {
        None
    } else if is(&VERBS, from) {
        if is(&VERBS, to) { no("verbs never import one another") } else { None }
    } else if is(&MEANS, from) {
        if is(&GROUND, to) { None } else { no("means stand on the ground only") }
    } else if from == "wire" {
        if to == "core" { None } else { no("wire knows the nouns only") }
    } else if is(&GROUND, from) {
        no("core, stats, learn and kernels stand on nothing of ours")
    } else {
        no("a crate that the picture does not show")
    }
}

/// `understudy-core` is `core`, the binary `understudy` is `cli`; `None` for others' crates.
fn ours(package: &str) -> Option<&str> {
    match package {
        "understudy" => Some("cli"),
        "xtask" => Some("xtask"),
        _ => package.strip_prefix("understudy-"),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

/// (package, dependency) of every normal and build dependency. Tests may look across: the read side and the write side
/// of a format are tested against each other.
fn arrows() -> BTreeSet<(String, String)> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec();
    let metadata = metadata.expect("cargo metadata runs");
    let mut arrows = BTreeSet::new();
    for package in metadata.packages {
        let from = ours(&package.name).unwrap_or_else(|| panic!("{} is not in the picture", package.name)).to_owned();
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            arrows.insert((from.clone(), dependency.name.clone()));
        }
    }
    assert!(arrows.len() > 50, "the workspace has more arrows than {}", arrows.len());
    arrows
}

#[test]
fn dependencies_point_down() {
    let arrows = arrows();
    let mut bad = Vec::new();
    for (from, to) in arrows.iter().filter_map(|(from, to)| Some((from.as_str(), ours(to)?))) {
        if let Some(why) = forbidden(from, to)
            && !EXCEPTIONS.iter().any(|(f, t, _)| (*f, *t) == (from, to))
        {
            bad.push(why);
        }
    }
    assert!(bad.is_empty(), "forbidden arrows:\n{}", bad.join("\n"));
    for (from, to, _) in EXCEPTIONS {
        assert!(arrows.iter().any(|(f, t)| f == from && ours(t) == Some(to)), "exception {from} -> {to} is not used");
    }
}

#[test]
fn the_ground_and_route_are_pure_and_kernels_alone_names_the_tensor_crates() {
    for (from, to) in arrows() {
        let pure = GROUND.contains(&from.as_str()) || from == "route";
        assert!(!(pure && IMPURE.contains(&to.as_str())), "{from} is pure and must not use {to}");
        assert!(!to.starts_with("rten") || from == "kernels", "{from} names {to}: only kernels does");
    }
}

#[test]
fn the_rules_catch_what_they_are_for() {
    let bad = [("serve", "adapt"), ("model", "store"), ("route", "model"), ("core", "stats"), ("wire", "stats")];
    for (from, to) in bad.into_iter().chain([("pilot", "cli"), ("store", "serve"), ("novel", "core")]) {
        assert!(forbidden(from, to).is_some(), "{from} -> {to} must be forbidden");
    }
    for (from, to) in [("serve", "model"), ("pilot", "route"), ("model", "kernels"), ("wire", "core"), ("cli", "serve")]
    {
        assert_eq!(forbidden(from, to), None);
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates"), root().join("xtask")];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = item.expect("a readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "only {} source files found", found.len());
    found.sort();
    found
}

#[test]
fn every_file_says_what_it_is_about_and_none_is_too_long() {
    let mut bad = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
        let lines = text.lines().count();
        if lines > LINES && !LONG_FILES.iter().any(|(long, _)| *long == name) {
            bad.push(format!("{name}: {lines} lines; look for the second idea, or write down why in LONG_FILES"));
        }
        let opening = text.lines().next().unwrap_or_default();
        // `foo/tests.rs` is the end of `foo.rs`, whose paragraph speaks for both.
        let titled = name.ends_with("/tests.rs") || opening.starts_with("//! ");
        if !titled || opening.contains("skeleton") {
            bad.push(format!("{name}: begins with `{opening}`, not with a paragraph that says what it owns"));
        }
    }
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
}
