//! A process that dies by `kill -9` loses nothing that it acknowledged.

#![cfg(unix)]

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
};
use understudy_core::{Seed, Timestamp, TraceId};
use understudy_store::{Ending, Route, Store, StoreOptions, Trace, TraceFilter};

/// Tells the child where to write; unset in an ordinary run of the tests.
const STORE: &str = "UNDERSTUDY_KILL_TEST_STORE";
const ROUND: &str = "UNDERSTUDY_KILL_TEST_ROUND";

fn trace(round: u64, n: u64) -> Trace {
    Trace {
        id: TraceId::from_parts(round, u128::from(n)),
        at: Timestamp(0),
        api: "chat".into(),
        asked: "auto".into(),
        task: None,
        mode: None,
        route: Route::None,
        reason: "test".into(),
        small: None,
        large: None,
        certificate: None,
        threshold: None,
        audit_probability: None,
        audited: false,
        audit: None,
        agreed: None,
        gold: None,
        streamed: false,
        ending: Ending::Answered,
        status: 200,
        error: None,
        queue_us: 0,
        first_byte_us: None,
        total_us: 0,
        input: None,
        request: Some("x".repeat(usize::try_from(n % 4_000).expect("small"))),
        input_hash: String::new(),
    }
}

/// Records rows for ever and prints each id once it is acknowledged. Not a test of its own: the test below runs it.
#[test]
#[ignore = "the child process of the test below"]
fn child() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let round: u64 = std::env::var_os(ROUND).and_then(|r| r.to_str()?.parse().ok()).expect("set by the parent");
    let store = Store::open(Path::new(&path), StoreOptions::default()).expect("opens after every kill");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("runtime");
    runtime.block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..16u64 {
            let store = store.clone();
            writers.spawn(async move {
                for n in 0.. {
                    let trace = trace(round, writer << 32 | n);
                    let id = trace.id;
                    store.record(trace).await.expect("recorded");
                    // One write, so that two acknowledgements cannot mix.
                    std::io::stdout().lock().write_all(format!("\nack {id}\n").as_bytes()).expect("parent reads");
                }
            });
        }
        writers.join_next().await;
    });
}

#[tokio::test]
async fn every_acknowledged_row_survives_kill_9_exactly_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("u.db");
    let mut acknowledged: HashSet<TraceId> = HashSet::new();
    for round in 1..=6u64 {
        let mut child = Command::new(std::env::current_exe().expect("test binary"))
            .args(["--ignored", "--exact", "child", "--nocapture"])
            .env(STORE, &path)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("child starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let target = Seed(7).derive(&round.to_string()).0 % 800 + 1;
        let mut text = String::new();
        for _ in 0..target * 2 {
            assert!(lines.read_line(&mut text).expect("pipe") > 0, "the child died by itself");
        }
        child.kill().expect("kill -9");
        lines.read_to_string(&mut text).expect("rest of the pipe");
        child.wait().expect("gone");
        // The last line may be cut; then nobody got that acknowledgement.
        let whole = text.lines().filter_map(|line| line.strip_prefix("ack ")).filter(|id| id.len() == 26);
        let before = acknowledged.len();
        acknowledged.extend(whole.map(|id| TraceId::parse(id).expect("own form")));
        assert!(acknowledged.len() > before);

        let store = Store::open(&path, StoreOptions::default()).expect("opens after the kill");
        store.check().await.expect("sound");
        let stored: Vec<_> =
            store.traces(&TraceFilter::default()).await.expect("listed").iter().map(|t| t.id).collect();
        let distinct: HashSet<_> = stored.iter().copied().collect();
        assert_eq!(stored.len(), distinct.len(), "a row twice");
        let lost = acknowledged.difference(&distinct).count();
        println!("round {round}: {} acknowledged so far, {} stored, {lost} lost", acknowledged.len(), stored.len());
        assert_eq!(lost, 0);
    }
}
