//! Running the binary in a folder of its own, and talking to one that serves.

use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use understudy_upstream::{HttpOptions, ProxyUse, http_client};

/// Longest wait for something that must happen; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The binary in `folder`, with an environment of nothing but what it needs.
pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.args(args).current_dir(folder).env_clear().env("HOME", folder).stdin(Stdio::null());
    command
}

/// What a command that ended has said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The object in the last line of the output.
    pub(crate) fn json(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{}", self.err))
    }
}

pub(crate) fn ended(mut command: Command) -> Said {
    let output = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().expect("it was not killed");
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) fn run(folder: &Path, args: &[&str]) -> Said {
    ended(command(folder, args))
}

/// A configuration whose large model is a recording: `first` is spam, `second` is ham, `slow` takes half a second.
pub(crate) fn write_recorded(folder: &Path) {
    let mut lines = String::new();
    for (prompt, answer, latency_ms) in [("first", "spam", 0), ("second", "ham", 0), ("slow", "spam", 500)] {
        let answer = json!({ "text": answer, "tokens_in": 5, "tokens_out": 1, "latency_ms": latency_ms });
        let row = json!({ "id": prompt, "prompt": prompt, "models": { "gpt": answer } });
        writeln!(lines, "{row}").expect("a string");
    }
    std::fs::write(folder.join("answers.jsonl"), lines).expect("written");
    std::fs::write(folder.join("understudy.toml"), CONFIG).expect("written");
}

pub(crate) const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
default_upstream = "recording"

[upstream.recording]
recorded = "answers.jsonl"
recorded_model = "gpt"
latency = "recorded"

[model.gpt]
price = { input = 1.0, output = 2.0 }

[task.triage]
mode = "observe"
large = "gpt"
labels = ["spam", "ham"]
"#;

/// A binary that serves. Killed when dropped.
pub(crate) struct Serving {
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
    pub(crate) url: String,
    /// The key that requests present.
    pub(crate) key: Option<&'static str>,
    http: reqwest::Client,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    /// Starts `understudy serve` and waits until it says where it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_in(folder, &[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_in(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = command(folder, &["serve"]);
        command.envs(environment.iter().copied()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let written = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = written.0.lock().expect("not poisoned");
                log.push_str(&line);
                log.push('\n');
                written.1.notify_all();
            }
        });
        let options = HttpOptions { proxy: ProxyUse::Direct, ..HttpOptions::default() };
        let http = http_client(&options).expect("a client");
        let mut serving = Self { child, log, url: String::new(), key: None, http };
        let log = serving.wait_for("listens on ");
        let url = log.split("listens on ").nth(1).and_then(|rest| rest.split("/v1").next()).expect("an address");
        serving.url = url.to_owned();
        serving
    }

    /// Waits until the log has this, and returns the log.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let log = self.log.0.lock().expect("not poisoned");
        let (log, waited) =
            self.log.1.wait_timeout_while(log, PATIENCE, |log| !log.contains(text)).expect("not poisoned");
        assert!(!waited.timed_out(), "waited in vain for {text:?} in\n{log}");
        log.clone()
    }

    pub(crate) fn log(&self) -> String {
        self.log.0.lock().expect("not poisoned").clone()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill command").success());
    }

    /// Waits for the end and returns the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        for _ in 0..6000 {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it runs and runs:\n{}", self.log());
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.url)).send().await.expect("an HTTP answer")
    }

    /// Asks and returns the HTTP status and the answer, or the error's message.
    pub(crate) async fn ask(&self, model: &str, text: &str) -> (u16, String) {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": text }] });
        let url = format!("{}/v1/chat/completions", self.url);
        let mut request = self.http.post(url).body(body.to_string());
        if let Some(key) = self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.expect("an HTTP answer");
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
        let content = body["choices"][0]["message"]["content"].as_str().or(body["error"]["message"].as_str());
        (status, content.unwrap_or_default().to_owned())
    }

    /// The names of `/v1/models`.
    pub(crate) async fn models(&self) -> Vec<String> {
        let body = self.get("/v1/models").await.bytes().await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        body["data"].as_array().expect("a list").iter().map(|m| m["id"].as_str().expect("text").to_owned()).collect()
    }

    /// Waits until `/v1/models` has, or has no more, this name.
    pub(crate) async fn wait_for_model(&self, name: &str, there: bool) {
        for _ in 0..600 {
            if self.models().await.iter().any(|model| model == name) == there {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("waited in vain for `{name}`: {:?}\n{}", self.models().await, self.log());
    }
}

/// A server that gives every request this JSON and keeps what it was sent.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    pub(crate) fn start(status: &'static str, json: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.expect("a connection");
                let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                // The body of these tests ends the JSON object of a chat completion.
                while !request.ends_with(b"}]}") {
                    match socket.read(&mut buffer) {
                        Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                        _ => break,
                    }
                }
                noted.lock().expect("not poisoned").push(String::from_utf8(request).expect("text"));
                let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close");
                write!(socket, "{head}\r\ncontent-length: {}\r\n\r\n{json}", json.len()).expect("it listens");
            }
        });
        Self { address, seen }
    }
}

/// A server that speaks enough of OpenAI's protocol to be asked: a function from the request's body to a status and a
/// text, or an error's message.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<(Mutex<Vec<Value>>, Condvar)>,
}

impl Scripted {
    pub(crate) fn start(says: impl Fn(&Value) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen: Arc<(Mutex<Vec<Value>>, Condvar)> = Arc::default();
        let (noted, says) = (seen.clone(), Arc::new(says));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (mut socket, noted, says) = (socket.expect("a connection"), noted.clone(), says.clone());
                // A client that was killed leaves connections behind: what cannot be said to it is dropped.
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(socket.try_clone().ok()?);
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
                        if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                            length = n.trim().parse().ok()?;
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).ok()?;
                    let body: Value = serde_json::from_slice(&body).ok()?;
                    noted.0.lock().ok()?.push(body.clone());
                    noted.1.notify_all();
                    let (status, text) = says(&body);
                    let reply = match status {
                        200 => json!({
                            "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
                            "choices": [{ "index": 0, "finish_reason": "stop",
                                          "message": { "role": "assistant", "content": text } }],
                            "usage": { "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110 },
                        }),
                        _ => json!({ "error": { "message": text, "type": "error", "code": "invalid_api_key" } }),
                    };
                    let reply = reply.to_string();
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close");
                    write!(socket, "{head}\r\ncontent-length: {}\r\n\r\n{reply}", reply.len()).ok()
                });
            }
        });
        Self { address, seen }
    }

    /// How often it was asked.
    pub(crate) fn calls(&self) -> usize {
        self.seen.0.lock().expect("not poisoned").len()
    }

    /// Waits until it was asked this often.
    pub(crate) fn wait_for(&self, calls: usize) {
        let seen = self.seen.0.lock().expect("not poisoned");
        let waited = self.seen.1.wait_timeout_while(seen, PATIENCE, |seen| seen.len() < calls).expect("not poisoned");
        assert!(!waited.1.timed_out(), "waited in vain for {calls} requests");
    }
}

/// The last message of a request.
pub(crate) fn last_message(body: &Value) -> &str {
    body["messages"].as_array().and_then(|m| m.last()?["content"].as_str()).unwrap_or_default()
}
