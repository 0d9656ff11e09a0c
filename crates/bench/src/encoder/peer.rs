//! ONNX Runtime in a Python process, one JSON line for each question and answer.

use serde::Deserialize;
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};
use understudy_core::{Error, Result};
use understudy_model::encoder::Dtype;

/// The running process. Dropping it ends it.
pub(super) struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Version of ONNX Runtime.
    pub(super) version: String,
}

/// Times and results of one round.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) ms: Vec<f64>,
    pub(super) embeddings: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Hello {
    version: String,
}

impl Peer {
    /// Starts it on a model folder and waits until both of its models are built.
    pub(super) fn start(python: Option<&Path>, model: &Path) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let own = root.join(".venv/bin/python");
        let fallback = if own.exists() { own } else { PathBuf::from("python3") };
        let python = python.map_or(fallback, Path::to_path_buf);
        let script = root.join("crates/bench/reference/encoder_onnxruntime.py");
        let fail = |what: &dyn std::fmt::Display| {
            Error::unavailable(format!(
                "run ONNX Runtime with {}: {what}; it needs numpy, onnx and onnxruntime (choose with --python)",
                python.display()
            ))
        };
        let mut child = Command::new(&python)
            .arg(script)
            .arg(model)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| fail(&e))?;
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut line = String::new();
        output.read_line(&mut line).map_err(|e| fail(&e))?;
        let hello: Hello = serde_json::from_str(&line).map_err(|_| fail(&"it ended with the message above"))?;
        Ok(Self { child, input, output, version: hello.version })
    }

    /// Runs the model `calls` times on the same batch.
    pub(super) fn run(&mut self, dtype: Dtype, ids: &[Vec<u32>], calls: usize) -> Result<Answer> {
        let fail = |e: &dyn std::fmt::Display| Error::unavailable(format!("run ONNX Runtime: {e}"));
        let input = self.input.as_mut().expect("open until dropped");
        let question = json!({"dtype": dtype.as_str(), "ids": ids, "calls": calls});
        writeln!(input, "{question}").and_then(|()| input.flush()).map_err(|e| fail(&e))?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|e| fail(&e))?;
        serde_json::from_str(&line).map_err(|e| fail(&e))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input ends it; waiting leaves no zombie.
        self.input = None;
        drop(self.child.wait());
    }
}
