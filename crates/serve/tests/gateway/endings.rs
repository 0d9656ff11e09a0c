//! Clients that leave, upstreams that fail, time that runs out, a store that refuses.

use crate::{
    staged::{FINISH, Staged, Then, provider_chunk},
    support::*,
};
use futures_util::StreamExt;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use understudy_core::{Error, ErrorKind, Mode, Place};
use understudy_serve::state::Limits;
use understudy_store::{Ending, Route};
use understudy_upstream::scripted::{Play, Scripted};

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_stops_the_upstream() {
    for streamed in [false, true] {
        let backend = Staged::new(&[], Then::Hang);
        let gateway = Gateway::start(with_model(backend.clone())).await;
        let mut body = chat_body(LARGE, "x");
        body["stream"] = streamed.into();
        let url = format!("{}/v1/chat/completions", gateway.url);
        let request = tokio::spawn(gateway.http.post(url).body(body.to_string()).send());
        wait_until("the model is asked", || backend.asked() == 1).await;
        request.abort();
        wait_until("its work is dropped", || backend.dropped() == 1).await;
        let row = gateway.row_when("of the client that left", |_| true).await;
        assert_eq!((row.ending, row.route), (Ending::ClientLeft, Route::None));
        // Whether the provider bills what was given up, nobody knows.
        assert_eq!(row.cost(), None);
        gateway.idle().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_stops_the_upstream_and_the_partial_answer_is_priced() {
    let backend = Staged::new(&["twelve bytes", " and more"], Then::Hang);
    let gateway = Gateway::start(with_model(backend.clone())).await;
    let response = gateway.ask_stream(LARGE, "eight by").await;
    let id = trace_of(&response);
    let mut body = response.bytes_stream();
    body.next().await.expect("a piece").expect("no error");
    drop(body);
    wait_until("its work is dropped", || backend.dropped() == 1).await;
    gateway.row_when("of the client that left", |row| row.id == id).await;
    let row = gateway.row(id).await;
    assert_eq!((row.ending, row.route, row.error.as_deref()), (Ending::ClientLeft, Route::Large, Some("cancelled")));
    let call = row.large.clone().expect("asked");
    assert!(call.usage.estimated && call.usage.input_tokens == 2 && call.usage.output_tokens >= 3, "{call:?}");
    assert!(row.cost().is_some_and(|cost| cost.nanos() > 0), "{call:?}");
    assert!(call.text.is_some_and(|text| text.starts_with("twelve bytes")));
}

#[tokio::test]
async fn a_client_that_leaves_while_the_small_model_works_costs_nothing() {
    let slow =
        Scripted::new(SMALL, Place::Local, |_, _| Play::text(&SMALL.into(), "spam").after(Duration::from_secs(600)));
    let (slow, large) = (Arc::new(slow), large("ham"));
    let gateway = Gateway::start(with_task(task(spec(Mode::Live), slow.clone(), large.clone()))).await;
    let url = format!("{}/v1/chat/completions", gateway.url);
    let request = tokio::spawn(gateway.http.post(url).body(chat_body("auto:triage", "x").to_string()).send());
    wait_until("the model is asked", || slow.calls() == 1).await;
    request.abort();
    let row = gateway.row_when("of the client that left", |_| true).await;
    assert_eq!((row.ending, large.calls()), (Ending::ClientLeft, 0));
    assert_eq!(row.cost().map(|cost| cost.nanos()), Some(0));
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error_event_and_without_done() {
    let gateway = Gateway::start(with_model(Staged::new(&["it is", " sp"], Then::Break))).await;
    let response = gateway.ask_stream(LARGE, "x").await;
    let id = trace_of(&response);
    let body = response.bytes().await.expect("a clean end of the body");
    let row = gateway.row(id).await;
    let events = events(&body);
    assert_eq!(events.len(), 3);
    assert_eq!(events[..2], [provider_chunk(0, "it is"), provider_chunk(1, " sp")]);
    let last: Value = serde_json::from_str(&events[2]).expect("JSON");
    assert!(last["error"]["message"].as_str().is_some_and(|m| m.contains("broke off")), "{last}");
    assert_eq!((row.ending, row.route, row.error.as_deref()), (Ending::BrokenOff, Route::Large, Some("unavailable")));
    let call = row.large.clone().expect("asked");
    assert_eq!((call.text.as_deref(), call.usage.estimated), (Some("it is sp"), true));
    assert!(row.cost().is_some_and(|cost| cost.nanos() > 0));
}

#[tokio::test]
async fn an_error_before_the_first_byte_is_an_http_status_with_the_official_object() {
    let upstream_error = |kind: ErrorKind| {
        Scripted::new(LARGE, Place::Remote, move |_, _| {
            Play::fail(Error::new(kind, "answer: the upstream says no").with_retry_after(7))
        })
    };
    for (kind, status, name) in [
        (ErrorKind::Overloaded, 429, "rate_limit_error"),
        (ErrorKind::Unavailable, 503, "service_unavailable_error"),
        (ErrorKind::Data, 502, "server_error"),
        (ErrorKind::Invalid, 400, "invalid_request_error"),
    ] {
        let gateway = Gateway::start(with_model(Arc::new(upstream_error(kind)))).await;
        for streamed in [false, true] {
            let response = match streamed {
                false => gateway.ask(LARGE, "x").await,
                true => gateway.ask_stream(LARGE, "x").await,
            };
            assert_eq!(response.status(), status);
            assert_eq!(header(&response, "content-type"), Some("application/json"));
            assert_eq!(header(&response, "retry-after"), Some("7"));
            assert_eq!(header(&response, "x-understudy-route"), Some("none"));
            let row = gateway.row(trace_of(&response)).await;
            assert_eq!((row.ending, row.route, row.status), (Ending::Failed, Route::None, status));
            let body = json_of(response).await;
            assert_eq!(body["error"]["type"], name);
            assert!(["message", "type", "param", "code"].iter().all(|key| body["error"].get(key).is_some()), "{body}");
        }
    }
}

#[tokio::test]
async fn an_upstreams_own_error_passes_with_its_status_and_body() {
    let wire = r#"{"error":{"message":"no such parameter","type":"invalid_request_error","param":"foo","code":null}}"#;
    let backend = Scripted::new(LARGE, Place::Remote, move |_, _| {
        Play::fail(Error::invalid("get an answer").with_upstream(422, Some(wire.into())))
    });
    let gateway = Gateway::start(with_model(Arc::new(backend))).await;
    let response = gateway.ask(LARGE, "x").await;
    assert_eq!(response.status(), 422);
    assert_eq!(response.bytes().await.expect("a body"), wire);
}

fn hurried() -> Limits {
    Limits { request: Duration::from_millis(300), ..limits() }
}

#[tokio::test]
async fn out_of_time_is_a_504_and_stops_the_upstream() {
    let backend = Staged::new(&[], Then::Hang);
    let gateway = Gateway::start_with(with_model(backend.clone()), hurried()).await;
    for (n, streamed) in [(1, false), (2, true)] {
        let response = match streamed {
            false => gateway.ask(LARGE, "x").await,
            true => gateway.ask_stream(LARGE, "x").await,
        };
        assert_eq!((response.status().as_u16(), backend.dropped()), (504, n));
        let row = gateway.row(trace_of(&response)).await;
        assert_eq!((row.ending, row.error.as_deref(), row.cost()), (Ending::Failed, Some("deadline"), None));
        assert!(json_of(response).await["error"]["message"].as_str().expect("text").contains("timeout_s"));
    }
}

#[tokio::test]
async fn out_of_time_mid_stream_is_an_error_event() {
    let backend = Staged::new(&["half"], Then::Hang);
    let gateway = Gateway::start_with(with_model(backend.clone()), hurried()).await;
    let response = gateway.ask_stream(LARGE, "x").await;
    let id = trace_of(&response);
    let events = events(&response.bytes().await.expect("a clean end of the body"));
    assert!(events.len() == 2 && events[1].contains("timeout_error"), "{events:?}");
    assert_eq!((gateway.row(id).await.ending, backend.dropped()), (Ending::BrokenOff, 1));
}

#[tokio::test]
async fn a_panic_inside_a_model_is_a_500_with_a_row() {
    let gateway =
        Gateway::start(with_model(Arc::new(Scripted::new(LARGE, Place::Remote, |_, _| panic!("a fault"))))).await;
    let response = gateway.ask(LARGE, "x").await;
    assert_eq!(response.status(), 500);
    let row = gateway.row(trace_of(&response)).await;
    assert_eq!((row.ending, row.error.as_deref()), (Ending::Failed, Some("internal")));
}

/// The lock is held longer than a writer waits for it (10 s): nothing can be stored, so nothing is handed over.
#[tokio::test]
async fn when_the_store_refuses_no_answer_is_handed_over() {
    let gateway = Gateway::start(with_model(large("the answer that nobody may see"))).await;
    let lock = rusqlite::Connection::open(gateway.store_path()).expect("the file");
    lock.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let response = gateway.ask(LARGE, "x").await;
    assert_eq!(response.status(), 503);
    let body = json_of(response).await.to_string();
    assert!(body.contains("lock") && !body.contains("nobody"), "{body}");
    assert_eq!(gateway.rows().await.len(), 0);
    lock.execute_batch("ROLLBACK").expect("released");
    assert_eq!(gateway.ask(LARGE, "x").await.status(), 200);
    assert_eq!(gateway.rows().await.len(), 1);
}

#[tokio::test]
async fn when_the_store_refuses_a_stream_has_no_end() {
    let mut snapshot = with_model(Staged::new(&["it is ", "spam"], Then::End));
    snapshot.models.insert("written-by-us".into(), model(large("it is spam")));
    let gateway = Gateway::start(snapshot).await;
    let other = rusqlite::Connection::open(gateway.store_path()).expect("the file");
    other.execute_batch("ALTER TABLE trace RENAME TO hidden").expect("renamed");
    for name in [LARGE, "written-by-us"] {
        let events = events(&gateway.ask_stream(name, "x").await.bytes().await.expect("a body"));
        let ends = |event: &String| event == "[DONE]" || event.contains("stop");
        assert!(events.len() > 2 && !events.iter().any(ends), "{events:?}");
        assert!(events.last().expect("events").contains(r#""error""#), "{events:?}");
    }
    other.execute_batch("ALTER TABLE hidden RENAME TO trace").expect("renamed");
    let events = events(&gateway.ask_stream(LARGE, "x").await.bytes().await.expect("a body"));
    assert_eq!(events[2..], [FINISH, "[DONE]"]);
    assert_eq!(gateway.rows().await.len(), 1);
}
