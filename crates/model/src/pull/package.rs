//! Packages from a company's or the public registries, fetched by the user's own pip and npm: their configuration,
//! mirrors, proxies and credentials apply, and none of them passes through here.

use super::{Failure, OnProgress, Progress, staging::Area};
use crate::installed::io_error;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use understudy_core::{Error, ErrorKind};

/// Downloads wheels, in order. Wheels only: an sdist would run its own code here.
pub(super) async fn pip(
    packages: &[String],
    commands: &[Vec<String>],
    area: &Area,
    on_progress: OnProgress<'_>,
) -> Result<Vec<PathBuf>, Failure> {
    let mut wheels = Vec::new();
    for package in packages {
        let args = |dest: &Path| {
            let fixed = ["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet", "--dest"];
            let mut args: Vec<String> = fixed.map(str::to_owned).into();
            args.extend([dest.display().to_string(), package.clone()]);
            args
        };
        wheels.push(package_file("pip", package, commands, args, area, on_progress).await?);
    }
    Ok(wheels)
}

/// Downloads an npm package as its .tgz; its scripts do not run.
pub(super) async fn npm(
    package: &str,
    commands: &[Vec<String>],
    area: &Area,
    on_progress: OnProgress<'_>,
) -> Result<PathBuf, Failure> {
    let args = |dest: &Path| {
        let mut args: Vec<String> =
            ["pack", "--ignore-scripts", "--silent", "--pack-destination"].map(str::to_owned).into();
        args.extend([dest.display().to_string(), package.to_owned()]);
        args
    };
    package_file("npm", package, commands, args, area, on_progress).await
}

/// Runs the client into a folder of its own, which gets its final name only when the client succeeded, and returns the
/// one file in it.
async fn package_file(
    client: &str,
    package: &str,
    commands: &[Vec<String>],
    args: impl Fn(&Path) -> Vec<String>,
    area: &Area,
    on_progress: OnProgress<'_>,
) -> Result<PathBuf, Failure> {
    let name: String = package.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let folder = area.work().join(name);
    if !folder.is_dir() {
        let unfinished = folder.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(|e| io_error("delete", &unfinished, &e))?;
        }
        fs::create_dir_all(&unfinished).map_err(|e| io_error("create", &unfinished, &e))?;
        on_progress(Progress::Note(&format!("fetching {package} with {client}")));
        run_first(client, commands, &args(&unfinished), &area.work()).await?;
        fs::rename(&unfinished, &folder).map_err(|e| io_error("write", &folder, &e))?;
    }
    let mut files = fs::read_dir(&folder).map_err(|e| io_error("read", &folder, &e))?;
    match files.next() {
        Some(Ok(file)) => Ok(file.path()),
        _ => {
            fs::remove_dir_all(&folder).map_err(|e| io_error("delete", &folder, &e))?;
            Err(Failure::Source(Error::data(format!("fetch {package}: {client} succeeded but left no file"))))
        }
    }
}

/// Runs the first of `commands` that exists on this machine.
async fn run_first(client: &str, commands: &[Vec<String>], args: &[String], logs: &Path) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for command in commands {
        let Some((program, leading)) = command.split_first() else { continue };
        match run(program, leading.iter().chain(args), logs).await? {
            Ran::Succeeded => return Ok(()),
            // `python3 -m pip` on a machine whose Python has no pip.
            Ran::Failed(_, output) if output.contains("No module named pip") => missing.push(command.join(" ")),
            Ran::Missing => missing.push(program.clone()),
            Ran::Failed(status, output) => {
                let tail: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
                let tail = tail[tail.len().saturating_sub(4)..].join(" / ");
                let what = format!("run {}: {status}: {}", command.join(" "), without_passwords(&tail));
                return Err(Failure::Source(Error::unavailable(what)));
            }
        }
    }
    let what = format!(
        "find {client}: tried {}; install it, or pull on a machine that has it and copy the folder",
        missing.join(", ")
    );
    Err(Failure::Source(Error::new(ErrorKind::Unavailable, what)))
}

enum Ran {
    Succeeded,
    Failed(ExitStatus, String),
    Missing,
}

/// Ends the client when the pull is abandoned.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail, as they should, for a client that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn run<'a>(program: &str, args: impl Iterator<Item = &'a String>, logs: &Path) -> Result<Ran, Failure> {
    // Files rather than pipes: nobody needs to read along, and a full pipe cannot stop the client.
    let log = logs.join("client.log");
    let out = fs::File::create(&log).map_err(|e| io_error("write", &log, &e))?;
    let err = out.try_clone().map_err(|e| io_error("write", &log, &e))?;
    let child = Command::new(program).args(args).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    let mut child = match child {
        Ok(child) => Running(child),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Ran::Missing),
        Err(e) => return Err(Failure::Source(Error::unavailable(format!("run {program}: {e}")))),
    };
    loop {
        match child.0.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(Ran::Succeeded),
            Ok(Some(status)) => {
                let output = fs::read(&log).map_err(|e| io_error("read", &log, &e))?;
                return Ok(Ran::Failed(status, String::from_utf8_lossy(&output).into_owned()));
            }
            Ok(None) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(e) => return Err(Failure::Source(Error::unavailable(format!("run {program}: {e}")))),
        }
    }
}

/// Index addresses may carry credentials (`https://user:password@…`): they do not reach a message.
fn without_passwords(text: &str) -> String {
    let mut rest = text;
    let mut clean = String::new();
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        clean.push_str(head);
        let end = tail.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(tail.len());
        rest = tail[..end].rfind('@').map_or(tail, |sign| &tail[sign + 1..]);
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_an_index_address_do_not_reach_messages() {
        let text = "Looking in https://me:secret@pypi.corp/simple and https://open.org/a@b, failed";
        assert_eq!(without_passwords(text), "Looking in https://pypi.corp/simple and https://open.org/a@b, failed");
    }
}
