//! Durability of traces: the real gateway is killed with `kill -9` under load, again and again, and every answer that a
//! client got in full must have exactly one row.

use crate::process::{Gateway, free_port};
use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use understudy_core::{Error, Result};
use understudy_upstream::{HttpOptions, ProxyUse, http_client};

#[derive(Debug, Args)]
pub(crate) struct CrashArgs {
    /// Times the gateway is killed
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Clients that ask at the same time
    #[arg(long, default_value_t = 32)]
    clients: u32,
    /// Latest moment of the kill, in milliseconds of load
    #[arg(long, default_value_t = 1_000)]
    longest_ms: u64,
    /// Seed of the moments
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Prompts in the recording.
const PROMPTS: u32 = 64;

#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    lost: u64,
    duplicated: u64,
    refused: u64,
    damaged: u64,
}

pub(crate) async fn run(args: CrashArgs) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|e| Error::unavailable(format!("make a temporary folder: {e}")))?;
    let folder = folder.path();
    write(&folder.join("recording.jsonl"), &recording())?;
    let client = http_client(&HttpOptions { proxy: ProxyUse::Direct, ..HttpOptions::default() })?;
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let mut tally = Tally::default();
    for round in 1..=args.rounds {
        let gateway = start(folder, &client).await?;
        let moment = Duration::from_millis(random.random_range(1..=args.longest_ms.max(1)));
        let (acknowledged, refused) = load_until_killed(gateway, &client, args.clients, moment).await?;
        tally.acknowledged += acknowledged.len() as u64;
        tally.refused += refused;
        inspect(&folder.join("understudy.db"), &acknowledged, &mut tally)?;
        if round % 10 == 0 || round == args.rounds {
            println!(
                "round {round:>4}: {} acknowledged, {} lost, {} duplicated, {} damaged databases, {} refused",
                tally.acknowledged, tally.lost, tally.duplicated, tally.damaged, tally.refused
            );
        }
    }
    // The last kill, too, must leave a store that the gateway itself opens.
    drop(start(folder, &client).await?);
    if tally.acknowledged == 0 {
        return Err(Error::data("measure durability: no answer was acknowledged before a kill; raise --longest-ms"));
    }
    if args.json {
        println!(
            "{}",
            serde_json::json!({
                "rounds": args.rounds,
                "acknowledged": tally.acknowledged,
                "lost": tally.lost,
                "duplicated": tally.duplicated,
                "damaged": tally.damaged,
            })
        );
    }
    if tally.lost + tally.duplicated + tally.damaged > 0 {
        return Err(Error::internal("keep every acknowledged request exactly once"));
    }
    Ok(())
}

fn recording() -> String {
    let line = |n: u32| {
        let answer = serde_json::json!({ "text": format!("answer {n}"), "tokens_in": 5, "tokens_out": 2 });
        format!(
            "{}\n",
            serde_json::json!({ "id": n.to_string(), "prompt": prompt(n), "models": { "recorded": answer } })
        )
    };
    (0..PROMPTS).map(line).collect()
}

fn prompt(n: u32) -> String {
    format!("question {n}")
}

async fn start(folder: &Path, client: &reqwest::Client) -> Result<Gateway> {
    let port = free_port()?;
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\ndefault_upstream = \"recording\"\n\n\
         [store]\npath = \"understudy.db\"\ndurability = \"power\"\n\n\
         [upstream.recording]\nrecorded = \"recording.jsonl\"\n"
    );
    write(&folder.join("understudy.toml"), &config)?;
    Gateway::start(folder, port, client).await
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::unavailable(format!("write {}: {e}", path.display())))
}

/// Ids of the answers that arrived whole, and the number of answers that were errors.
async fn load_until_killed(
    mut gateway: Gateway,
    client: &reqwest::Client,
    clients: u32,
    moment: Duration,
) -> Result<(Vec<String>, u64)> {
    let url: Arc<str> = gateway.chat_url().into();
    let refused = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let (client, url, refused) = (client.clone(), Arc::clone(&url), Arc::clone(&refused));
        tasks.spawn(async move {
            let mut acknowledged = Vec::new();
            for n in number.. {
                let body = serde_json::json!({
                    "model": "recorded",
                    "messages": [{ "role": "user", "content": prompt(n % PROMPTS) }],
                    "stream": number % 2 == 0,
                });
                match ask(&client, &url, body.to_string()).await {
                    Asked::Acknowledged(id) => acknowledged.push(id),
                    Asked::Refused => drop(refused.fetch_add(1, Ordering::Relaxed)),
                    Asked::Gone => break,
                }
            }
            acknowledged
        });
    }
    tokio::time::sleep(moment).await;
    gateway.kill()?;
    let acknowledged = tasks.join_all().await.into_iter().flatten().collect();
    Ok((acknowledged, refused.load(Ordering::Relaxed)))
}

enum Asked {
    /// The whole answer arrived.
    Acknowledged(String),
    /// An error arrived.
    Refused,
    /// The connection broke.
    Gone,
}

async fn ask(client: &reqwest::Client, url: &str, body: String) -> Asked {
    let sent = client.post(url).header("content-type", "application/json").body(body).send().await;
    let Ok(response) = sent else { return Asked::Gone };
    let id = response.headers().get("x-understudy-trace").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let streamed =
        response.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event"));
    let good = response.status().is_success();
    let Ok(text) = response.text().await else { return Asked::Gone };
    let whole = if streamed { text.trim_end().ends_with("data: [DONE]") } else { text.contains("\"choices\"") };
    match id {
        Some(id) if good && whole => Asked::Acknowledged(id),
        // A stream that was cut between two events reads as a short body on some platforms.
        _ if good && streamed => Asked::Gone,
        _ => Asked::Refused,
    }
}

/// Opens the file that the kill left, checks it, and counts the rows of every acknowledged id.
fn inspect(path: &Path, acknowledged: &[String], tally: &mut Tally) -> Result<()> {
    let failed = |e: rusqlite::Error| Error::data(format!("open {}: {e}", path.display()));
    let connection = Connection::open(path).map_err(failed)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(failed)?;
    tally.damaged += u64::from(verdict != "ok");
    // Not through the index: a damaged index must not hide a second row.
    let mut ids: Vec<&str> = acknowledged.iter().map(String::as_str).collect();
    ids.sort_unstable();
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(()) };
    // Not through the index: a damaged index must not hide a second row.
    let mut rows =
        connection.prepare("SELECT id FROM trace NOT INDEXED WHERE id >= ?1 AND id <= ?2").map_err(failed)?;
    let mut found = std::collections::HashMap::new();
    let listed = rows.query_map([first, last], |row| row.get::<_, String>(0)).map_err(failed)?;
    for id in listed {
        *found.entry(id.map_err(failed)?).or_insert(0u64) += 1;
    }
    for id in ids {
        match found.get(id) {
            None => tally.lost += 1,
            Some(1) => {}
            Some(_) => tally.duplicated += 1,
        }
    }
    Ok(())
}
