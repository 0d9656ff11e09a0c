//! Runs programs: shown before they start, their last words kept where a summary wants them.

use std::{
    io::{BufRead, BufReader, IsTerminal, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// Done, or what went wrong.
pub(crate) type Step = Result<(), String>;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// cargo, the one that runs us, in the root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// Whether a program can be started.
pub(crate) fn exists(program: &str) -> bool {
    quiet(Command::new(program).arg("--version"))
}

/// Runs without output; whether it succeeded.
pub(crate) fn quiet(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// What a program prints, when it succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Runs a program with our own terminal.
pub(crate) fn run(mut command: impl std::borrow::BorrowMut<Command>) -> Step {
    let command = command.borrow_mut();
    eprintln!("$ {}", shown(command));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", shown(command))),
        Err(error) => Err(format!("`{}` did not start: {error}", shown(command))),
    }
}

/// Runs a program, passes its output on, and returns whether it succeeded with the lines that `keep` wants.
pub(crate) fn run_keeping(mut command: Command, keep: fn(&str) -> bool) -> (bool, Vec<String>) {
    eprintln!("$ {}", shown(&command));
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always").env("PY_COLORS", "1");
    }
    let mut child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return (false, vec![format!("did not start: {error}")]),
    };
    let out = child.stdout.take().expect("piped above");
    let err = child.stderr.take().expect("piped above");
    let err = thread::spawn(move || pass_on(err, keep, |line| eprintln!("{line}")));
    let mut kept = pass_on(out, keep, |line| println!("{line}"));
    kept.extend(err.join().unwrap_or_default());
    (child.wait().is_ok_and(|status| status.success()), kept)
}

fn pass_on(from: impl Read, keep: fn(&str) -> bool, show: fn(&str)) -> Vec<String> {
    let mut kept = Vec::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        show(line);
        let plain = without_colour(line);
        if keep(&plain) {
            kept.push(plain.trim().to_owned());
        }
    }
    kept
}

/// Text without terminal escapes (`ESC [ … letter`).
fn without_colour(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_do_not_hide_a_summary() {
        assert_eq!(without_colour("\u{1b}[32;1m     Summary\u{1b}[0m [1s] 3 passed"), "     Summary [1s] 3 passed");
    }
}
