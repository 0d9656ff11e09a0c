//! Prints how many rows a second reach the disk; asserts only that they all do.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;
use understudy_core::{Confidence, Money, Timestamp, TraceId, Usage, task::Mode};
use understudy_store::{Call, Durability, Ending, Route, Store, StoreOptions, Trace};

fn trace(n: u64) -> Trace {
    let small = Call {
        model: "triage-minilm".into(),
        artifact: Some("h".repeat(64)),
        text: Some("spam".into()),
        label: Some("spam".into()),
        confidence: Confidence::new(0.97).ok(),
        gate: None,
        own_confidence: None,
        token_logprobs: None,
        usage: Usage { input_tokens: 40, output_tokens: 1, ..Usage::default() },
        cost: Some(Money::ZERO),
        latency_us: 900,
        error: None,
    };
    Trace {
        id: TraceId::from_parts(1_767_225_600_000 + n / 20, u128::from(n) << 40),
        at: Timestamp(1_767_225_600_000 + i64::try_from(n / 20).expect("small")),
        api: "chat".into(),
        asked: "auto:triage".into(),
        task: Some("triage".into()),
        mode: Some(Mode::Live),
        route: Route::Local,
        reason: "kept".into(),
        small: Some(small),
        large: None,
        certificate: Some("c0ffee".into()),
        threshold: Confidence::new(0.9).ok(),
        audit_probability: Some(0.05),
        audited: n.is_multiple_of(20),
        audit: None,
        agreed: None,
        gold: None,
        streamed: false,
        ending: Ending::Answered,
        status: 200,
        error: None,
        queue_us: 30,
        first_byte_us: Some(1_000),
        total_us: 1_200,
        input: Some("Is there a fee for a second card? ".repeat(4)),
        request: Some("Is there a fee for a second card? ".repeat(8)),
        input_hash: "a".repeat(64),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_reach_the_disk_in_groups() {
    const ROWS: u64 = 40_000;
    for durability in [Durability::Power, Durability::Process] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let options = StoreOptions { durability, ..StoreOptions::default() };
        let store = Store::open(&folder.path().join("u.db"), options).expect("fresh");
        let started = Instant::now();
        let writes: Vec<_> = (0..ROWS).map(|n| store.record(trace(n))).collect();
        for write in writes {
            write.await.expect("recorded");
        }
        let open_loop = ROWS as f64 / started.elapsed().as_secs_f64();
        let started = Instant::now();
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..100 {
            let store = store.clone();
            clients.spawn(async move {
                for n in 0..100 {
                    store.record(trace(ROWS + client * 100 + n)).await.expect("recorded");
                }
            });
        }
        clients.join_all().await;
        let closed_loop = 10_000.0 / started.elapsed().as_secs_f64();
        println!("{durability:?}: {open_loop:.0} rows/s in full groups, {closed_loop:.0} with 100 writers that wait");
        assert_eq!(store.stats(None, None).await.expect("summed").requests(), ROWS + 10_000);
    }
}
