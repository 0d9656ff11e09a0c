//! A process that trains: PyTorch's, or this binary's own. One JSON line for each question and answer.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};
use understudy_core::{Error, Result};

/// The running process. Dropping it ends it.
pub(super) struct Peer {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// This binary, so that its memory is measured without the benchmark's.
    pub(super) fn ours() -> Result<Self> {
        let here = std::env::current_exe().map_err(|e| Error::internal(format!("find this executable: {e}")))?;
        Self::start("training", Command::new(here).arg("reference"))
    }

    /// PyTorch on a model folder, and its version.
    pub(super) fn pytorch(python: Option<&Path>, model: &Path, method: &str, threads: usize) -> Result<(Self, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let own = root.join(".venv/bin/python");
        let fallback = if own.exists() { own } else { PathBuf::from("python3") };
        let script = root.join("crates/bench/reference/training/pytorch.py");
        let mut command = Command::new(python.map_or(fallback, Path::to_path_buf));
        command.arg(script).arg(model).arg(method).arg(threads.to_string());
        let mut peer = Self::start("PyTorch (needs torch and transformers; choose with --python)", &mut command)?;
        let hello = peer.read()?;
        Ok((peer, hello["version"].as_str().unwrap_or_default().to_owned()))
    }

    fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| Error::unavailable(format!("run {name}: {e}")))?;
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        Ok(Self { name, input: child.stdin.take(), child, output })
    }

    /// Asks and waits for the answer.
    pub(super) fn ask(&mut self, question: &Value) -> Result<Value> {
        let input = self.input.as_mut().expect("open until dropped");
        let sent = writeln!(input, "{question}").and_then(|()| input.flush());
        sent.map_err(|e| Error::unavailable(format!("run {}: {e}", self.name)))?;
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|e| Error::unavailable(format!("run {}: {e}", self.name)))?;
        let answer: Value = serde_json::from_str(&line)
            .map_err(|_| Error::unavailable(format!("run {}: it ended with the message above", self.name)))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(Error::internal(format!("run {}: {error}", self.name))),
            None => Ok(answer),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input ends it; waiting leaves no zombie.
        self.input = None;
        drop(self.child.wait());
    }
}
