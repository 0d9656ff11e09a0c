//! The client against real HTTP servers on loopback.

mod server;

use futures_util::StreamExt;
use secrecy::SecretString;
use server::{Reply, Server, sse};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use understudy_core::{
    Answer, Backend, Capabilities, Clock, Embedder, Error, ErrorKind, Event, Message, ModelName, Place, Request,
    Result, Role, Seed, Timestamp, TraceId, request::Delivery,
};
use understudy_upstream::{
    HttpOptions, Network, OpenAi, OpenAiConfig, OpenAiEmbedder, ProxyUse, Retries, Timeouts, breaker::BreakerPolicy,
    http_client,
};
use understudy_wire::openai::chat::{self, UsageChunk};

const KEY: &str = "sk-test-4f1d9b";
const WHOLE: &str = r#"{"id":"c","model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":"spam"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;

/// Time that stands still until a test moves it.
#[derive(Default)]
struct TestClock(Mutex<Duration>);

impl TestClock {
    fn advance(&self, by: Duration) {
        *self.0.lock().expect("not poisoned") += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_445_412_475_000)
    }
    fn monotonic(&self) -> Duration {
        *self.0.lock().expect("not poisoned")
    }
}

fn config(base_url: String) -> OpenAiConfig {
    OpenAiConfig {
        name: "large".into(),
        upstream_model: "gpt-x".into(),
        base_url,
        api_key: Some(SecretString::from(KEY)),
        api_key_from: Some("env:SOME_KEY".into()),
        headers: BTreeMap::new(),
        timeouts: Timeouts { total: Duration::from_secs(20), idle: Duration::from_secs(20) },
        retries: Retries { count: 2, base: Duration::from_millis(2), max_wait: Duration::from_secs(3) },
        capabilities: Capabilities {
            place: Place::Remote,
            context_tokens: None,
            multimodal: true,
            tools: true,
            many_choices: true,
            languages: vec![],
        },
        usage: UsageChunk::Ensure,
    }
}

fn network(clock: Arc<TestClock>) -> Network {
    let options = HttpOptions { proxy: ProxyUse::Direct, ..HttpOptions::default() };
    let policy = BreakerPolicy { failures: 4, cooldown: Duration::from_secs(10), ..BreakerPolicy::default() };
    Network::new(http_client(&options).expect("a client"), clock, Seed(1), policy)
}

fn model(server: &Server, change: impl FnOnce(&mut OpenAiConfig)) -> OpenAi {
    let mut config = config(server.url());
    change(&mut config);
    OpenAi::new(config, &network(Arc::default())).expect("a valid configuration")
}

fn request(delivery: Delivery) -> Request {
    let message = Message { role: Role::User, text: "hello".into() };
    Request { delivery, ..Request::new(TraceId::from_parts(0, 0), "large".into(), vec![message]) }
}

async fn whole(model: &OpenAi) -> Result<Answer> {
    model.answer(&request(Delivery::Whole)).await
}

/// The text, the number of events with a chunk of the upstream, and how it ended.
async fn streamed(model: &OpenAi, request: &Request) -> (String, usize, Result<Answer>) {
    let (mut text, mut chunks) = (String::new(), 0);
    let mut stream = match model.stream(request).await {
        Ok(stream) => stream,
        Err(e) => return (text, chunks, Err(e)),
    };
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Delta { text: more, wire }) => {
                text.push_str(&more);
                chunks += usize::from(wire.is_some());
            }
            Ok(Event::End(answer)) => return (text, chunks, Ok(*answer)),
            Err(e) => return (text, chunks, Err(e)),
        }
    }
    (text, chunks, Err(Error::internal("the stream ended without a word")))
}

fn delta(text: &str) -> String {
    format!(r#"{{"model":"gpt-x","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#)
}

const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;

#[tokio::test]
async fn a_whole_answer_comes_back_with_its_bytes_and_the_request_is_right() {
    let server = Server::start(|_| Reply::json(200, WHOLE)).await;
    let answer = whole(&model(&server, |_| {})).await.expect("an answer");
    assert_eq!((answer.text.as_str(), answer.model.as_str(), answer.usage.input_tokens), ("spam", "gpt-x", 5));
    assert_eq!(answer.wire.as_deref(), Some(WHOLE.as_bytes()));
    let seen = &server.seen()[0];
    assert_eq!((seen.path.as_str(), seen.authorization.as_str()), ("/v1/chat/completions", "Bearer sk-test-4f1d9b"));
    assert!(seen.body.contains(r#""model":"gpt-x""#), "{}", seen.body);
}

#[tokio::test]
async fn a_request_that_streams_to_its_client_can_be_asked_whole() {
    let server = Server::start(|_| Reply::json(200, WHOLE)).await;
    model(&server, |_| {}).answer(&request(Delivery::Stream)).await.expect("an answer");
    assert!(!server.seen()[0].body.contains("stream"), "{}", server.seen()[0].body);
}

#[tokio::test]
async fn a_stream_passes_chunks_on_and_hides_the_token_count_that_we_asked_for() {
    let server =
        Server::start(|_| Reply::stream(&[sse(&delta("sp")), sse(&delta("am")), sse(STOP), sse(USAGE), sse("[DONE]")]))
            .await;
    let model = model(&server, |_| {});
    let (text, chunks, end) = streamed(&model, &request(Delivery::Stream)).await;
    let answer = end.expect("complete");
    assert_eq!((text.as_str(), chunks, answer.usage.output_tokens), ("spam", 3, 2));
    assert!(server.seen()[0].body.contains(r#""include_usage":true"#));

    let body = r#"{"model":"x","messages":[{"role":"user","content":"a"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let asked = chat::parse(body.into(), TraceId::from_parts(0, 0), BTreeMap::new()).expect("valid");
    assert_eq!(streamed(&model, &asked).await.1, 4, "the client asked for the count");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error_however_it_breaks() {
    let half = delta("never whole")[..20].to_owned();
    for pieces in [vec![sse(&delta("sp"))], vec![sse(&delta("sp")), format!("data: {half}")]] {
        for abort in [false, true] {
            let reply = if abort { Reply::aborted(&pieces) } else { Reply::stream(&pieces) };
            let server = Server::start(move |_| reply.clone()).await;
            let (text, _, end) = streamed(&model(&server, |_| {}), &request(Delivery::Stream)).await;
            let error = end.expect_err("broke off");
            assert_eq!((text.as_str(), error.kind()), ("sp", ErrorKind::Unavailable), "{error}");
            assert!(error.message().contains("broke off"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_missing_done_does_not_hang_and_does_not_lose_the_answer() {
    for reply in [
        Reply::stream(&[sse(&delta("spam")), sse(STOP)]),
        Reply::stream(&[sse(&delta("spam")), format!("data: {STOP}")]),
        Reply::aborted(&[sse(&delta("spam")), sse(STOP)]),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let (text, _, end) = streamed(&model(&server, |_| {}), &request(Delivery::Stream)).await;
        assert_eq!((text.as_str(), end.expect("complete").text.as_str()), ("spam", "spam"));
    }
}

#[tokio::test]
async fn an_error_inside_a_stream_is_an_error() {
    let error = r#"{"error":{"message":"overloaded","type":"overloaded_error"}}"#;
    let server = Server::start(move |_| Reply::stream(&[sse(&delta("sp")), sse(error)])).await;
    let (_, _, end) = streamed(&model(&server, |_| {}), &request(Delivery::Stream)).await;
    assert_eq!(end.expect_err("an error").kind(), ErrorKind::Overloaded);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let server = Server::start(|_| Reply::json(200, WHOLE)).await;
    let (text, chunks, end) = streamed(&model(&server, |_| {}), &request(Delivery::Stream)).await;
    assert_eq!((text.as_str(), chunks, end.expect("complete").text.as_str()), ("spam", 0, "spam"));
}

#[tokio::test]
async fn a_silent_stream_and_a_slow_answer_end_in_a_deadline() {
    let server = Server::start(|_| Reply::hanging(&[sse(&delta("sp"))])).await;
    let short = |c: &mut OpenAiConfig| c.timeouts.idle = Duration::from_millis(80);
    let (text, _, end) = streamed(&model(&server, short), &request(Delivery::Stream)).await;
    assert_eq!((text.as_str(), end.expect_err("silent").kind()), ("sp", ErrorKind::Deadline));

    let server = Server::start(|_| Reply::never()).await;
    let short = |c: &mut OpenAiConfig| c.timeouts.total = Duration::from_millis(80);
    assert_eq!(whole(&model(&server, short)).await.expect_err("slow").kind(), ErrorKind::Deadline);
}

#[tokio::test]
async fn too_many_requests_is_tried_again_after_the_time_asked_for() {
    let server = Server::start(|n| match n {
        0 => Reply::json(429, r#"{"error":{"message":"slow down"}}"#).header("retry-after-ms", "5"),
        1 => Reply::json(503, "<html>busy</html>"),
        _ => Reply::json(200, WHOLE),
    })
    .await;
    assert_eq!(whole(&model(&server, |_| {})).await.expect("the third try").text, "spam");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn waits_that_are_too_long_and_errors_of_the_request_are_handed_on_at_once() {
    let quota = r#"{"error":{"message":"no money","code":"insufficient_quota"}}"#;
    // 40 s after the test clock's now.
    let date = "Wed, 21 Oct 2015 07:28:35 GMT";
    for (reply, kind, status, retry_after) in [
        (Reply::json(429, r#"{"error":{}}"#).header("retry-after", "100"), ErrorKind::Overloaded, 429, Some(100)),
        (Reply::json(429, r#"{"error":{}}"#).header("retry-after", date), ErrorKind::Overloaded, 429, Some(40)),
        (Reply::json(429, quota), ErrorKind::Overloaded, 429, None),
        (Reply::json(400, r#"{"error":{"param":"n"}}"#), ErrorKind::Invalid, 400, None),
        (Reply::json(500, "").header("x-should-retry", "false"), ErrorKind::Unavailable, 500, None),
        (Reply::json(302, "").header("location", "http://169.254.169.254/"), ErrorKind::Unavailable, 503, None),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let error = whole(&model(&server, |_| {})).await.expect_err("an error");
        assert_eq!((error.kind(), error.http_status(), error.retry_after_s()), (kind, status, retry_after), "{error}");
        assert_eq!(server.seen().len(), 1, "{error}");
    }
}

#[tokio::test]
async fn failures_in_a_row_open_the_breaker_for_all_models_of_the_server_and_a_probe_closes_it() {
    let server = Server::start(|n| if n < 4 { Reply::json(500, "") } else { Reply::json(200, WHOLE) }).await;
    let clock = Arc::new(TestClock::default());
    let network = network(clock.clone());
    let new = || {
        let mut config = config(server.url());
        config.retries.count = 0;
        OpenAi::new(config, &network).expect("valid")
    };
    let (a, b) = (new(), new());
    for _ in 0..2 {
        assert!(whole(&a).await.is_err() && whole(&b).await.is_err());
    }
    let error = whole(&a).await.expect_err("held back");
    assert_eq!((error.kind(), error.retry_after_s()), (ErrorKind::Unavailable, Some(10)));
    assert_eq!(server.seen().len(), 4, "the fifth request was not sent");
    clock.advance(Duration::from_secs(10));
    assert!(whole(&b).await.is_ok() && whole(&a).await.is_ok());
}

#[tokio::test]
async fn dropping_a_stream_or_a_call_closes_the_upstream_connection() {
    let server = Server::start(|n| if n == 0 { Reply::hanging(&[sse(&delta("sp"))]) } else { Reply::never() }).await;
    let model = model(&server, |_| {});
    let asked = request(Delivery::Stream);
    let mut stream = model.stream(&asked).await.expect("it begins");
    assert!(matches!(stream.next().await, Some(Ok(Event::Delta { .. }))));
    assert_eq!(server.left(), 0);
    drop(stream);
    server.wait_left(1).await;

    let asked = request(Delivery::Whole);
    let call = model.answer(&asked);
    assert!(tokio::time::timeout(Duration::from_millis(80), call).await.is_err());
    server.wait_left(2).await;
}

#[tokio::test]
async fn a_page_that_is_no_api_is_a_clear_error() {
    let page = || Reply { content_type: "text/html", ..Reply::json(200, "<html>Welcome</html>") };
    let server = Server::start(move |_| page()).await;
    let model = model(&server, |_| {});
    for error in [
        whole(&model).await.expect_err("a page"),
        streamed(&model, &request(Delivery::Stream)).await.2.expect_err("a page"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.message().contains("text/html") && error.message().contains("check base_url"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_named() {
    let gone = config("http://127.0.0.1:1/v1".into());
    let error = whole(&OpenAi::new(gone, &network(Arc::default())).expect("valid")).await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().starts_with("ask `large` at 127.0.0.1:1: cannot connect"), "{error}");
}

#[tokio::test]
async fn a_refused_key_is_named_by_where_it_was_read_and_not_sent_again() {
    type Change = fn(&mut OpenAiConfig);
    let set: [(Change, &str); 3] = [
        (|_| {}, "the key in SOME_KEY was refused by 127.0.0.1 (401 Unauthorized): check it"),
        (|c| c.api_key_from = None, "refused our credentials (HTTP 401)"),
        (|c| c.api_key = None, "127.0.0.1 wants a key (401 Unauthorized) and none is configured"),
    ];
    for (change, said) in set {
        let server = Server::start(|_| Reply::json(401, &format!(r#"{{"error":{{"message":"no: {KEY}"}}}}"#))).await;
        let error = whole(&model(&server, change)).await.expect_err("an error");
        assert_eq!((error.kind(), error.http_status(), server.seen().len()), (ErrorKind::Refused, 503, 1), "{error}");
        assert!(error.message().contains(said) && !error.message().contains(KEY), "{error}");
    }
}

#[tokio::test]
async fn the_key_appears_in_no_error_and_no_debug_text() {
    for (status, body) in [
        (401, format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}"}}}}"#)),
        (400, format!(r#"{{"error":{{"message":"bad header Bearer {KEY}","param":"{KEY}"}}}}"#)),
        (500, format!("<html>{KEY}</html>")),
        (200, format!(r#"{{"error":{{"message":"{KEY}","code":400}}}}"#)),
    ] {
        let server = Server::start(move |_| Reply::json(status, &body)).await;
        let model = model(&server, |c| c.retries.count = 0);
        let error = whole(&model).await.expect_err("an error");
        let rendered = understudy_wire::openai::error::render(&error);
        let all = format!("{error} {error:?} {model:?} {}", String::from_utf8_lossy(&rendered));
        assert!(!all.contains("4f1d9b"), "{status}: {all}");
    }
    let server = Server::start(|_| Reply::stream(&[sse(&format!(r#"{{"error":"{KEY}"}}"#))])).await;
    let error = streamed(&model(&server, |_| {}), &request(Delivery::Stream)).await.2.expect_err("an error");
    assert!(!format!("{error:?}").contains("4f1d9b"));
    assert!(!format!("{:?}", config(String::new())).contains("4f1d9b"));
}

#[tokio::test]
async fn embeddings_come_back_in_order_and_of_the_right_length() {
    let body = r#"{"data":[{"index":1,"embedding":[0,1]},{"index":0,"embedding":[1,0]}],"usage":{"prompt_tokens":4}}"#;
    let server = Server::start(move |_| Reply::json(200, body)).await;
    let embedder =
        |dimensions| OpenAiEmbedder::new(config(server.url()), dimensions, &network(Arc::default())).expect("valid");
    let texts = || vec!["a".to_owned(), "b".to_owned()];
    let unknown = embedder(None);
    assert_eq!(unknown.dimensions(), 0);
    unknown.embed(texts()).await.expect("vectors");
    assert_eq!(unknown.dimensions(), 2);
    let got = embedder(Some(2)).embed(texts()).await.expect("vectors");
    assert_eq!((got.vectors, got.tokens), (vec![vec![1.0, 0.0], vec![0.0, 1.0]], 4));
    assert_eq!(server.seen()[0].path, "/v1/embeddings");
    assert_eq!(embedder(Some(3)).embed(texts()).await.expect_err("other length").kind(), ErrorKind::Data);
}

#[test]
fn a_wrong_configuration_names_the_model() {
    let error = OpenAi::new(config("nonsense".into()), &network(Arc::default())).expect_err("no URL");
    assert!(error.message().starts_with("set up model `large`: use base_url"), "{error}");
    let _: ModelName = "large".into();
}
