//! The real `understudy` binary as a child process, for benches of the whole path.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use understudy_core::{Error, Result};

/// Longest wait for `/ready`.
const READY: Duration = Duration::from_secs(60);

/// The `understudy` binary beside this one.
pub(crate) fn binary() -> Result<PathBuf> {
    let here = std::env::current_exe().map_err(|e| Error::internal(format!("find this executable: {e}")))?;
    let path = here.with_file_name(format!("understudy{}", std::env::consts::EXE_SUFFIX));
    if path.exists() {
        return Ok(path);
    }
    Err(Error::not_found(format!("find {}: run `cargo build --release -p understudy` first", path.display())))
}

/// A port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr());
    Ok(listener.map_err(|e| Error::unavailable(format!("find a free port: {e}")))?.port())
}

/// Runs a command of `understudy` to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Result<String> {
    let failed = |what: String| Error::unavailable(format!("run `understudy {}`: {what}", arguments.join(" ")));
    let output =
        Command::new(binary()?).args(arguments).current_dir(folder).output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// A running gateway. Killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Gateway {
    /// Starts `understudy serve` on the configuration `understudy.toml` in `folder`, which listens on `port`, and waits
    /// until it is ready.
    pub(crate) async fn start(folder: &Path, port: u16, client: &reqwest::Client) -> Result<Self> {
        let failed = |e: std::io::Error| Error::unavailable(format!("start the gateway: {e}"));
        let log = folder.join("gateway.log");
        let child = Command::new(binary()?)
            .arg("serve")
            .current_dir(folder)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let mut gateway = Self { child, url: format!("http://127.0.0.1:{port}"), log };
        let ready = format!("{}/ready", gateway.url);
        let started = Instant::now();
        while !client.get(&ready).send().await.is_ok_and(|response| response.status().is_success()) {
            let ended = gateway.child.try_wait().map_err(failed)?;
            if ended.is_some() || started.elapsed() > READY {
                let log = std::fs::read_to_string(&gateway.log).unwrap_or_default();
                return Err(Error::unavailable(format!("start the gateway: it did not get ready: {}", log.trim())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(gateway)
    }

    /// The URL of chat completions.
    pub(crate) fn chat_url(&self) -> String {
        format!("{}/v1/chat/completions", self.url)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|e| Error::internal(format!("kill the gateway: {e}")))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A process that is gone already is what we want.
        drop(self.kill());
    }
}
