//! The front door of the repository: `cargo xtask setup | demo | test | bench | lint`. Runs the tools that do the work
//! (cargo, the built binary, pytest), after making sure that they can run; holds no logic of the product.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod prerequisites;
mod python;
mod shell;
mod suite;

use shell::{Step, cargo, root, target_dir};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask COMMAND

  setup               install what the build needs, the Python packages of the tests, and the models
  demo [ARGS]         build, then `understudy demo ARGS`
  test                setup, then every test: Rust, doc examples, the official clients
  bench NAME [ARGS]   encoder | users | generation | certificate | crash | stream; --json for one object as the last line
  lint                format, clippy, licences and advisories, spelling, unused dependencies";

/// Models and data that the demo, the tests and the benches use; all can be had through pip and npm.
const MODELS: [&str; 3] = ["minilm", "smollm2", "spamassassin"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = args.split_first().map_or(("help", &[][..]), |(command, rest)| (command.as_str(), rest));
    let done = match command {
        "setup" => setup(),
        "demo" => demo(rest),
        "test" => setup().and_then(|()| suite::run()),
        "bench" => bench(rest),
        "lint" => suite::lint(),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no command `{other}`\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn setup() -> Step {
    prerequisites::install()?;
    shell::run(cargo(&["build", "--release"]))?;
    python::environment()?;
    shell::run(understudy().arg("pull").args(MODELS))
}

fn demo(args: &[String]) -> Step {
    prerequisites::install()?;
    shell::run(cargo(&["build", "--release"]))?;
    shell::run(understudy().arg("demo").args(args))
}

fn bench(args: &[String]) -> Step {
    prerequisites::install()?;
    shell::run(cargo(&["build", "--release"]))?;
    shell::run(understudy().arg("pull").args(MODELS))?;
    // The encoder's bench runs ONNX Runtime beside ours, in `.venv`; the others need no Python.
    if args.first().is_some_and(|name| name == "encoder") {
        python::with(&root().join("crates/bench/reference/requirements.txt"))?;
    }
    shell::run(cargo(&["run", "--release", "--package", "understudy-bench", "--"]).args(args))
}

/// The binary that `cargo build --release` made.
fn understudy() -> Command {
    Command::new(target_dir().join("release").join(format!("understudy{}", std::env::consts::EXE_SUFFIX)))
}
