//! Reload, drain, many at once.

use crate::{
    staged::{Staged, Then},
    support::*,
};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use understudy_core::Mode;
use understudy_serve::state::Limits;
use understudy_store::{Ending, Route};

#[tokio::test]
async fn a_request_under_way_finishes_on_the_picture_it_began_with() {
    let told = Arc::new(Semaphore::new(0));
    let old = Staged::new(&["old"], Then::Wait(told.clone()));
    let gateway = Arc::new(Gateway::start(with_model(old.clone())).await);
    let asked = tokio::spawn({
        let gateway = gateway.clone();
        async move { content_of(gateway.ask(LARGE, "x").await).await }
    });
    wait_until("the old model is asked", || old.asked() == 1).await;
    gateway.shared.install(with_model(large("new")));
    assert_eq!(content_of(gateway.ask(LARGE, "x").await).await, "new");
    told.add_permits(1);
    assert_eq!(asked.await.expect("no panic"), "old");
}

#[tokio::test]
async fn a_drain_finishes_open_requests_and_audits_and_refuses_new_connections() {
    let told = Arc::new(Semaphore::new(0));
    let slow = Staged::new(&["spam"], Then::Wait(told.clone()));
    let mut spec = spec(Mode::Live);
    spec.audit = 1.0;
    let gateway = Arc::new(Gateway::start(with_task(task(spec, small("spam", 0.95), slow.clone()))).await);
    // One whole answer, one stream and, last in the queue, one audit are under way.
    let open = tokio::spawn({
        let gateway = gateway.clone();
        async move { content_of(gateway.ask(LARGE, "x").await).await }
    });
    let streaming = gateway.ask_stream(LARGE, "x").await;
    wait_until("both are under way", || slow.asked() == 2).await;
    let kept = gateway.ask("auto:triage", "x").await;
    assert_eq!(content_of(kept).await, "spam");
    wait_until("all are under way", || slow.asked() == 3).await;
    gateway.stop.cancel();
    wait_until("the gateway drains", || !gateway.shared.is_ready()).await;
    for _ in 0..100 {
        if tokio::net::TcpStream::connect(gateway.url.trim_start_matches("http://")).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = gateway.http.get(format!("{}/health", gateway.url)).send().await.expect_err("no one listens");
    assert!(error.is_connect(), "{error}");
    assert!(!gateway.running.is_finished());
    told.add_permits(2);
    assert_eq!(open.await.expect("no panic"), "spam");
    assert_eq!(events(&streaming.bytes().await.expect("a body")).last().expect("events"), "[DONE]");
    // Every client has its answer; the audit is still awaited.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!gateway.running.is_finished());
    told.add_permits(1);
    wait_until("the gateway has stopped", || gateway.running.is_finished()).await;
    let rows = gateway.rows().await;
    assert_eq!((rows.len(), rows.iter().filter(|row| row.audit.is_some()).count()), (3, 1));
    assert!(rows.iter().all(|row| row.ending == Ending::Answered));
}

#[tokio::test]
async fn a_drain_ends_when_its_time_is_up() {
    let backend = Staged::new(&["half"], Then::Hang);
    let limits = Limits { drain: Duration::from_millis(200), ..limits() };
    let gateway = Gateway::start_with(with_model(backend), limits).await;
    let streaming = gateway.ask_stream(LARGE, "x").await;
    gateway.stop.cancel();
    wait_until("the gateway has stopped", || gateway.running.is_finished()).await;
    drop(streaming);
}

#[tokio::test]
async fn ready_says_no_while_draining_and_before_the_first_picture() {
    let gateway = Gateway::start(with_model(large("x"))).await;
    assert_eq!(gateway.get("/ready").await.status(), 200);
    gateway.shared.begin_drain();
    assert_eq!(gateway.get("/ready").await.status(), 503);
    assert_eq!(gateway.get("/health").await.status(), 200);
    // Out of rotation is not out of service.
    assert_eq!(gateway.ask(LARGE, "x").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_leave_exactly_one_row_each() {
    let mut spec = spec(Mode::Live);
    spec.audit = 0.5;
    let gateway = Gateway::start(with_task(task(spec, small("spam", 0.95), large("spam")))).await;
    let ids: Vec<_> = stream::iter(0..200)
        .map(|n| {
            let gateway = &gateway;
            async move {
                let model = if n % 2 == 0 { "auto:triage" } else { LARGE };
                let response = match n % 4 {
                    0 | 1 => gateway.ask(model, "x").await,
                    _ => gateway.ask_stream(model, "x").await,
                };
                assert_eq!(response.status(), 200);
                let id = trace_of(&response).to_string();
                response.bytes().await.expect("a body");
                id
            }
        })
        .buffer_unordered(200)
        .collect()
        .await;
    gateway.idle().await;
    let rows = gateway.rows().await;
    let stored: BTreeSet<String> = rows.iter().map(|row| row.id.to_string()).collect();
    assert_eq!((rows.len(), &stored), (200, &ids.into_iter().collect()));
    assert_eq!(rows.iter().filter(|row| row.route == Route::Local).count(), 100);
    // What was drawn for an audit has one, nothing else does.
    assert!(rows.iter().all(|row| row.audited == row.audit.is_some()));
    let audited = rows.iter().filter(|row| row.audited).count();
    assert!((20..80).contains(&audited), "{audited} of 100 audited at probability 1/2");
}

#[tokio::test]
async fn two_gateways_in_one_process_do_not_mix_their_metrics() {
    let (one, two) = (Gateway::start(with_model(large("x"))).await, Gateway::start(with_model(large("x"))).await);
    one.ask(LARGE, "x").await;
    let text = |response: reqwest::Response| async { response.text().await.expect("text") };
    let (one, two) = (text(one.get("/metrics").await).await, text(two.get("/metrics").await).await);
    let counted = |text: &str| text.lines().any(|line| line.starts_with("understudy_requests_total{"));
    assert!(counted(&one), "{one}");
    assert!(!counted(&two), "{two}");
}
