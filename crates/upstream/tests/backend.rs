//! What every backend owes its callers, checked on each of this crate's.

#[expect(dead_code, reason = "the server can do more than these tests need")]
mod server;

use futures_util::StreamExt;
use server::{Reply, Server, sse};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use understudy_core::{
    Backend, Capabilities, Clock, Error, ErrorKind, Event, Message, Outcome, Place, RecordedAnswer, Request, Role,
    Seed, Timestamp, TraceId,
};
use understudy_upstream::{
    HttpOptions, Latency, Network, OpenAi, OpenAiConfig, ProxyUse, Recorded, Retries, Timeouts,
    breaker::BreakerPolicy,
    http_client,
    scripted::{Play, Scripted},
};
use understudy_wire::openai::chat::UsageChunk;

const TEXT: &str = "it is spam, I think";

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn capabilities() -> Capabilities {
    Capabilities::of_text(Place::Remote)
}

fn request() -> Request {
    let message = Message { role: Role::User, text: "spam or ham?".into() };
    Request::new(TraceId::from_parts(0, 0), "m".into(), vec![message])
}

/// A backend that answers [`TEXT`] keeps the promises of the trait.
async fn conforms(backend: &dyn Backend) {
    let request = request();
    let whole = backend.answer(&request).await.expect("an answer");
    assert_eq!(whole.text, TEXT);
    assert!(whole.usage.output_tokens > 0, "tokens are counted or estimated");

    let stream = backend.stream(&request).await.expect("a stream");
    let events: Vec<Event> = stream.map(|event| event.expect("no error")).collect().await;
    let (last, deltas) = events.split_last().expect("events");
    let Event::End(end) = last else { panic!("the last event is {last:?}") };
    let text = deltas.iter().map(|event| match event {
        Event::Delta { text, .. } => text.as_str(),
        Event::End(_) => panic!("an end before the end"),
    });
    assert_eq!((text.collect::<String>().as_str(), end.text.as_str()), (TEXT, TEXT));
    assert_eq!((&end.finish, &end.model), (&whole.finish, &whole.model));
}

#[tokio::test]
async fn the_http_client_conforms() {
    let chunk = |text: &str| format!(r#"{{"model":"up","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let pieces = [sse(&chunk("it is spam,")), sse(&chunk(" I think")), sse(end), sse("[DONE]")];
    let body = format!(
        r#"{{"model":"up","choices":[{{"message":{{"role":"assistant","content":"{TEXT}"}},"finish_reason":"stop"}}]}}"#
    );
    let server = Server::start(move |n| if n == 0 { Reply::json(200, &body) } else { Reply::stream(&pieces) }).await;
    let client = http_client(&HttpOptions { proxy: ProxyUse::Direct, ..HttpOptions::default() }).expect("a client");
    let config = OpenAiConfig {
        name: "m".into(),
        upstream_model: "up".into(),
        base_url: server.url(),
        api_key: None,
        api_key_from: None,
        headers: BTreeMap::new(),
        timeouts: Timeouts::default(),
        retries: Retries::default(),
        capabilities: capabilities(),
        usage: UsageChunk::Ensure,
    };
    let network = Network::new(client, Arc::new(Still), Seed(0), BreakerPolicy::default());
    conforms(&OpenAi::new(config, &network).expect("valid")).await;
    assert_eq!((server.seen()[0].authorization.as_str(), server.left()), ("", 0));
}

#[tokio::test]
async fn the_recording_conforms() {
    let answer = RecordedAnswer { answer: Some(TEXT.into()), ..RecordedAnswer::default() };
    let outcome =
        Outcome { prompt: "spam or ham?".into(), models: [("gpt".to_owned(), answer)].into(), ..Outcome::default() };
    let latency = Latency::Fixed(Duration::from_millis(2));
    conforms(&Recorded::new("m".into(), "gpt", vec![outcome], latency, capabilities()).expect("a record")).await;
}

#[tokio::test]
async fn the_script_conforms_counts_and_fails_on_demand() {
    let scripted = Scripted::new("m", Place::Local, |_, n| match n {
        0 | 1 => Play::text(&"m".into(), TEXT).after(Duration::from_millis(1)),
        _ => Play::fail(Error::unavailable("play on")),
    });
    conforms(&scripted).await;
    let request = request();
    assert_eq!(scripted.answer(&request).await.expect_err("as told").kind(), ErrorKind::Unavailable);
    assert!(scripted.stream(&request).await.is_err());
    assert_eq!(scripted.calls(), 4);
}
