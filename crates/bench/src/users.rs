//! Latency under concurrent users: short texts, classified locally by a certified small model, through the whole HTTP
//! path with every trace on disk before its answer. The load runs in this process, on the same cores.
//!
//! Banking77 (Casanueva et al. 2020) is observed, learned, certified and then served by the real binary, with the
//! commands that a user would type. The large model is the answer key.

use crate::process::{Gateway, free_port, run as understudy};
use clap::Args;
use serde::Deserialize;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use understudy_core::{Error, Result};
use understudy_upstream::{HttpOptions, ProxyUse, http_client};

#[derive(Debug, Args)]
pub(crate) struct UsersArgs {
    /// Users who each ask again as soon as they have their answer
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// Length of the main measurement
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Length of each step in the search for the most users
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    step_seconds: u64,
    /// Folder of Banking77: train.jsonl and test.jsonl [default: classification/banking77 in the data folder]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Largest loss of the certificate
    #[arg(long, default_value_t = 0.05)]
    epsilon: f64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// The bar.
const P95_MS: f64 = 200.0;
/// Requests before a measurement that do not count.
const WARM_UP: Duration = Duration::from_secs(2);
/// Beyond this many users the search ends.
const MOST: usize = 12_800;

#[derive(Deserialize)]
struct Row {
    text: String,
    label: String,
}

/// What one measurement saw.
struct Measured {
    latencies_ms: Vec<f64>,
    local: u64,
    failed: u64,
    seconds: f64,
}

impl Measured {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the sample")]
    fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.latencies_ms.len() as f64).ceil().max(1.0);
        self.latencies_ms.get(rank as usize - 1).copied().unwrap_or(f64::INFINITY)
    }

    fn per_second(&self) -> f64 {
        self.latencies_ms.len() as f64 / self.seconds
    }

    fn local_share(&self) -> f64 {
        self.local as f64 / (self.latencies_ms.len() as f64).max(1.0)
    }

    fn holds(&self) -> bool {
        self.failed == 0 && self.quantile(0.95) <= P95_MS
    }

    fn line(&self, users: usize) -> String {
        format!(
            "{users:>6} {:>10.1} {:>10.1} {:>10.1} {:>10.0} {:>8.1}% {:>7}",
            self.quantile(0.5),
            self.quantile(0.95),
            self.quantile(0.99),
            self.per_second(),
            100.0 * self.local_share(),
            self.failed
        )
    }
}

pub(crate) async fn run(args: UsersArgs) -> Result<()> {
    let data = args.data.clone().unwrap_or_else(data_folder);
    if !data.join("test.jsonl").exists() {
        println!("skipped: no Banking77 in {}; name its folder with --data", data.display());
        return Ok(());
    }
    let (train, test) = (rows(&data.join("train.jsonl"))?, rows(&data.join("test.jsonl"))?);
    let folder = tempfile::tempdir().map_err(|e| Error::unavailable(format!("make a temporary folder: {e}")))?;
    let options = HttpOptions { idle_per_host: MOST, proxy: ProxyUse::Direct, ..HttpOptions::default() };
    let client = http_client(&options)?;
    let gateway = certified_gateway(folder.path(), &train, &test, args.epsilon, &client).await?;
    let load = Load { client, url: gateway.chat_url().into(), bodies: test.iter().map(body).collect() };

    println!(
        "{:>6} {:>10} {:>10} {:>10} {:>10} {:>9} {:>7}",
        "users", "p50 ms", "p95 ms", "p99 ms", "req/s", "local", "failed"
    );
    let main = load.measure(args.users, Duration::from_secs(args.seconds)).await;
    println!("{}", main.line(args.users));
    let most = if main.holds() { load.most(args.users, Duration::from_secs(args.step_seconds)).await } else { 0 };
    println!("most users that hold p95 ≤ {P95_MS} ms: {most}");
    if args.json {
        println!(
            "{}",
            serde_json::json!({
                "users": args.users,
                "p50_ms": main.quantile(0.5),
                "p95_ms": main.quantile(0.95),
                "p99_ms": main.quantile(0.99),
                "requests": main.latencies_ms.len(),
                "requests_per_s": main.per_second(),
                "local_share": main.local_share(),
                "failed": main.failed,
                "max_users_at_200ms": most,
            })
        );
    }
    Ok(())
}

fn data_folder() -> PathBuf {
    let root = std::env::var_os("UNDERSTUDY_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    root.join("classification/banking77")
}

fn rows(path: &Path) -> Result<Vec<Row>> {
    let bad = |e: String| Error::data(format!("read {}: {e}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    text.lines().map(|line| serde_json::from_str(line).map_err(|e| bad(e.to_string()))).collect()
}

fn body(row: &Row) -> String {
    let messages = [serde_json::json!({ "role": "user", "content": row.text })];
    serde_json::json!({ "model": "auto:banking", "messages": messages }).to_string()
}

fn config(port: u16, mode: &str, epsilon: f64, labels: &[&str]) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\ndefault_upstream = \"key\"\n\n\
         [store]\npath = \"understudy.db\"\ndurability = \"power\"\n\n\
         [upstream.key]\nrecorded = \"key.jsonl\"\n\n\
         [task.banking]\nmode = \"{mode}\"\nlarge = \"answer-key\"\nepsilon = {epsilon}\naudit = 0.01\nlabels = {}\n",
        serde_json::json!(labels)
    )
}

/// Observe, learn, certify, go live: as a user would.
async fn certified_gateway(
    folder: &Path,
    train: &[Row],
    test: &[Row],
    epsilon: f64,
    client: &reqwest::Client,
) -> Result<Gateway> {
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).map_err(|e| Error::unavailable(format!("write {name}: {e}")))
    };
    let labels: std::collections::BTreeSet<&str> = train.iter().map(|row| row.label.as_str()).collect();
    let labels: Vec<&str> = labels.into_iter().collect();
    let mut key = String::new();
    for (id, row) in train.iter().chain(test).enumerate() {
        let answer = serde_json::json!({ "text": row.label });
        let line = serde_json::json!({ "id": id.to_string(), "prompt": row.text, "models": { "answer-key": answer } });
        writeln!(key, "{line}").expect("writing to a string cannot fail");
    }
    write("key.jsonl", &key)?;
    let port = free_port()?;
    write("understudy.toml", &config(port, "observe", epsilon, &labels))?;
    println!("observing {} training texts …", train.len());
    let observing = Gateway::start(folder, port, client).await?;
    let load =
        Load { client: client.clone(), url: observing.chat_url().into(), bodies: train.iter().map(body).collect() };
    let failed = load.once(32).await;
    drop(observing);
    if failed > 0 {
        return Err(Error::unavailable(format!("observe the training texts: {failed} requests failed")));
    }
    for step in [
        &["pull", "minilm"][..],
        &["adapt", "finetune", "--task", "banking", "--dtype", "int8"],
        &["pilot", "certify", "--task", "banking"],
    ] {
        println!("understudy {} …", step.join(" "));
        understudy(folder, step)?;
    }
    let port = free_port()?;
    write("understudy.toml", &config(port, "live", epsilon, &labels))?;
    Gateway::start(folder, port, client).await
}

struct Load {
    client: reqwest::Client,
    url: Arc<str>,
    bodies: Arc<[String]>,
}

/// One answer: the milliseconds it took and whether the small model gave it; `None` when it failed.
async fn ask(client: &reqwest::Client, url: &str, body: String) -> Option<(f64, bool)> {
    let started = Instant::now();
    let response = client.post(url).header("content-type", "application/json").body(body).send().await.ok()?;
    let local = response.headers().get("x-understudy-route").is_some_and(|route| route == "local");
    let good = response.status().is_success();
    response.bytes().await.ok()?;
    good.then(|| (started.elapsed().as_secs_f64() * 1e3, local))
}

impl Load {
    /// Sends every text once and counts failures.
    async fn once(&self, users: usize) -> u64 {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..users {
            let (client, url, bodies) = (self.client.clone(), Arc::clone(&self.url), Arc::clone(&self.bodies));
            let next = Arc::clone(&next);
            tasks.spawn(async move {
                let mut failed = 0;
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    failed += u64::from(ask(&client, &url, body.clone()).await.is_none());
                }
                failed
            });
        }
        tasks.join_all().await.into_iter().sum()
    }

    /// Users in a closed loop: requests that began after the warm-up count.
    async fn measure(&self, users: usize, length: Duration) -> Measured {
        let (counting, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for user in 0..users {
            let (client, url, bodies) = (self.client.clone(), Arc::clone(&self.url), Arc::clone(&self.bodies));
            let (counting, ended) = (Arc::clone(&counting), Arc::clone(&ended));
            tasks.spawn(async move {
                let mut seen = Vec::new();
                for n in (user * 37).. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let counts = counting.load(Ordering::Relaxed);
                    let answer = ask(&client, &url, bodies[n % bodies.len()].clone()).await;
                    if counts {
                        seen.push(answer);
                    } else if answer.is_none() {
                        // A server that refuses must not be hammered in a tight loop.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                seen
            });
        }
        tokio::time::sleep(WARM_UP).await;
        counting.store(true, Ordering::Relaxed);
        let started = Instant::now();
        tokio::time::sleep(length).await;
        ended.store(true, Ordering::Relaxed);
        // The answers still under way belong to the measurement, and their time does too.
        let seen: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        let seconds = started.elapsed().as_secs_f64();
        let failed = seen.iter().filter(|answer| answer.is_none()).count() as u64;
        let answers: Vec<_> = seen.into_iter().flatten().collect();
        let local = answers.iter().filter(|(_, local)| *local).count() as u64;
        let mut latencies_ms: Vec<f64> = answers.into_iter().map(|(ms, _)| ms).collect();
        latencies_ms.sort_unstable_by(f64::total_cmp);
        Measured { latencies_ms, local, failed, seconds }
    }

    /// The most users that hold the bar: doubled until it breaks, then halved in between, to 5 %.
    async fn most(&self, holding: usize, length: Duration) -> usize {
        let (mut low, mut high) = (holding, None);
        while low < MOST && high.is_none_or(|high: usize| high - low > low.div_ceil(20)) {
            let users = high.map_or(low * 2, |high| low.midpoint(high));
            let measured = self.measure(users, length).await;
            println!("{}", measured.line(users));
            if measured.holds() { low = users } else { high = Some(users) }
        }
        low
    }
}
