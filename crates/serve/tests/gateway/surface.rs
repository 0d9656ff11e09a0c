//! The HTTP surface: statuses, keys, models, embeddings, feedback, metrics, headers.

use crate::support::*;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use understudy_core::{Embedder, Mode, ModelName, Place, Price, Result, TraceId, backend::Embeddings, task::MatchRule};
use understudy_serve::{
    Snapshot,
    api::embeddings::EmbeddingModel,
    state::{ClientKey, Limits},
    texts::TextPolicy,
};
use understudy_store::{Ending, Route};

/// Every endpoint that needs a key.
const KEYED: [(&str, &str); 7] = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/gpt"),
    ("GET", "/v1/understudy/status"),
    ("GET", "/metrics"),
];

fn keyed() -> Snapshot {
    Snapshot { keys: vec![ClientKey::new(&"right".to_owned().into())], ..with_model(large("fine")) }
}

#[tokio::test]
async fn without_the_right_key_nothing_is_answered() {
    let gateway = Gateway::start(keyed()).await;
    for (method, path) in KEYED {
        for (header, value) in [("accept", "*/*"), ("authorization", "Bearer wrong"), ("x-api-key", "wrong")] {
            let method = method.parse().expect("a method");
            let request = gateway.http.request(method, format!("{}{path}", gateway.url)).header(header, value);
            let response = request.body("{}").send().await.expect("an HTTP answer");
            assert_eq!(response.status(), 401, "{path} {header}");
            assert_eq!(json_of(response).await["error"]["code"], "invalid_api_key");
        }
    }
    for path in ["/health", "/ready", "/openapi.json"] {
        assert_eq!(gateway.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(gateway.rows().await.len(), 0);
}

#[tokio::test]
async fn the_right_key_opens_in_every_usual_form_and_stays_out_of_the_store() {
    let mut snapshot = keyed();
    let mut task = task(spec(Mode::Observe), small("spam", 0.9), large("ham"));
    // A rule on a credential never matches: it is not among what rules see.
    task.spec.rule = MatchRule { headers: [("x-api-key".into(), "right".into())].into(), ..MatchRule::default() };
    snapshot.tasks = vec![task];
    let gateway = Gateway::start(snapshot).await;
    for (header, value) in
        [("authorization", "Bearer right"), ("authorization", "bearer right"), ("x-api-key", "right")]
    {
        let url = format!("{}/v1/chat/completions", gateway.url);
        let request = gateway.http.post(url).header(header, value).body(chat_body(LARGE, "x").to_string());
        let response = request.send().await.expect("an HTTP answer");
        assert_eq!(response.status(), 200, "{header}: {value}");
        assert_eq!(gateway.row(trace_of(&response)).await.task, None);
    }
    assert_eq!(gateway.rows().await.len(), 3);
    gateway.stop.cancel();
    let stored = std::fs::read(gateway.store_path()).expect("the file");
    let log = std::fs::read(gateway.store_path().with_extension("db-wal")).unwrap_or_default();
    let holds = |bytes: &[u8]| bytes.windows(5).any(|window| window == b"right");
    assert!(!holds(&stored) && !holds(&log));
}

#[tokio::test]
async fn without_keys_a_strangers_web_page_is_refused() {
    let backend = large("fine");
    let gateway = Gateway::start(with_model(backend.clone())).await;
    let send = |to: &Gateway, origin: &'static str| {
        let url = format!("{}/v1/chat/completions", to.url);
        let request = to.http.post(url).header("origin", origin).bearer_auth("right");
        request.body(chat_body(LARGE, "x").to_string()).send()
    };
    for origin in ["https://evil.example", "http://evil.example:8484", "http://localhost.evil.example", "null"] {
        assert_eq!(send(&gateway, origin).await.expect("an HTTP answer").status(), 401, "{origin}");
    }
    assert_eq!((backend.calls(), gateway.rows().await.len()), (0, 0));
    for origin in ["http://localhost:3000", "http://127.0.0.1:8484", "https://[::1]", "vscode-webview://x"] {
        assert_eq!(send(&gateway, origin).await.expect("an HTTP answer").status(), 200, "{origin}");
    }
    // Where there are keys, they decide.
    let keyed = Gateway::start(keyed()).await;
    assert_eq!(send(&keyed, "https://app.example").await.expect("an HTTP answer").status(), 200);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_has_its_status_and_names_the_field() {
    let gateway = Gateway::start(with_task(task(spec(Mode::Live), small("spam", 0.95), large("ham")))).await;
    let say = |content: Value| json!({ "model": LARGE, "messages": [{ "role": "user", "content": content }] });
    for (body, status, param) in [
        ("{".to_owned(), 400, Value::Null),
        ("[]".to_owned(), 400, Value::Null),
        (json!({ "model": LARGE }).to_string(), 400, "messages".into()),
        (json!({ "messages": [] }).to_string(), 400, "model".into()),
        (say(7.into()).to_string(), 400, "messages[0].content".into()),
        (json!({ "model": LARGE, "messages": [], "stream": "yes" }).to_string(), 400, "messages".into()),
        (chat_body("unheard-of", "x").to_string(), 404, "model".into()),
        (chat_body("auto:unheard-of", "x").to_string(), 404, "model".into()),
        (chat_body("auto", "x").to_string(), 404, "model".into()),
    ] {
        let response = gateway.post("/v1/chat/completions", &body).await;
        assert_eq!(response.status(), status, "{body}");
        let found = json_of(response).await;
        assert_eq!(found["error"]["param"], param, "{body}: {found}");
        assert!(found["error"]["message"].as_str().is_some_and(|m| m.starts_with("failed to ")), "{found}");
    }
    let missing = json_of(gateway.ask("unheard-of", "x").await).await;
    assert_eq!(missing["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_on_every_endpoint() {
    let gateway = Gateway::start_with(with_model(large("x")), Limits { body_bytes: 1000, ..limits() }).await;
    let long = "x".repeat(2000);
    for path in ["/v1/chat/completions", "/v1/embeddings", "/v1/feedback"] {
        let response = gateway.post(path, chat_body(LARGE, &long)).await;
        assert_eq!(response.status(), 413, "{path}");
        let body = json_of(response).await;
        assert!(body["error"]["message"].as_str().is_some_and(|m| m.contains("body_limit_mb")), "{path}: {body}");
    }
    assert_eq!(gateway.ask(LARGE, "short").await.status(), 200);
}

#[tokio::test]
async fn wrong_methods_and_unknown_paths_are_answered_in_the_official_shape() {
    let gateway = Gateway::start(with_model(large("x"))).await;
    for (path, status) in [("/v1/chat/completions", 405), ("/v1/nothing", 404), ("/chat/completions", 404)] {
        let response = gateway.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(json_of(response).await["error"]["message"].is_string());
    }
    assert_eq!(gateway.post("/v1/models", "").await.status(), 405);
    let hint = json_of(gateway.get("/chat/completions").await).await;
    assert!(hint["error"]["message"].as_str().expect("text").contains("ends in /v1"), "{hint}");
}

/// Embeds a text as its length.
struct Lengths {
    name: ModelName,
    delay: Duration,
}

impl Embedder for Lengths {
    fn name(&self) -> &ModelName {
        &self.name
    }
    fn dimensions(&self) -> usize {
        2
    }
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Embeddings>> {
        async move {
            tokio::time::sleep(self.delay).await;
            let vectors = texts.iter().map(|text| vec![text.len() as f32, 0.5]).collect();
            Ok(Embeddings { vectors, tokens: texts.len() as u64 })
        }
        .boxed()
    }
}

fn with_embedder(delay: Duration) -> Snapshot {
    let embedder = Arc::new(Lengths { name: "lengths".into(), delay });
    let model = EmbeddingModel { embedder, place: Place::Local, price: Some(Price::LOCAL) };
    let task = task(spec(Mode::Live), small("spam", 0.95), large("ham"));
    Snapshot { embedders: [("lengths".to_owned(), model)].into(), ..with_task(task) }
}

#[tokio::test]
async fn embeddings_come_as_numbers_and_as_base64_and_leave_a_row() {
    let gateway = Gateway::start(with_embedder(Duration::ZERO)).await;
    let response = gateway.post("/v1/embeddings", json!({ "model": "lengths", "input": ["a", "abc"] })).await;
    assert_eq!(response.status(), 200);
    let row = gateway.row(trace_of(&response)).await;
    assert_eq!((row.api.as_str(), row.route, row.ending), ("embeddings", Route::Local, Ending::Answered));
    let body = json_of(response).await;
    assert_eq!(body["data"][1]["embedding"], json!([3.0, 0.5]));
    assert_eq!(body["usage"]["total_tokens"], 2);

    let body = json!({ "model": "lengths", "input": "abc", "encoding_format": "base64" });
    let body = json_of(gateway.post("/v1/embeddings", body).await).await;
    // 3.0 and 0.5 as little-endian f32: 00 00 40 40 00 00 00 3F.
    assert_eq!(body["data"][0]["embedding"], "AABAQAAAAD8=");

    for (body, status, param) in [
        (json!({ "model": "unheard-of", "input": "x" }), 404, "model"),
        (json!({ "model": "lengths", "input": "x", "dimensions": 3 }), 400, "dimensions"),
        (json!({ "model": "lengths" }), 400, "input"),
    ] {
        let response = gateway.post("/v1/embeddings", &body).await;
        assert_eq!(response.status(), status, "{body}");
        assert_eq!(json_of(response).await["error"]["param"], param);
    }
}

#[tokio::test]
async fn embeddings_whose_client_left_are_stopped_and_leave_a_row() {
    let gateway = Gateway::start(with_embedder(Duration::from_secs(600))).await;
    let body = json!({ "model": "lengths", "input": "x" }).to_string();
    let url = format!("{}/v1/embeddings", gateway.url);
    let request = tokio::spawn(gateway.http.post(url).body(body).send());
    wait_until("the model is asked", || !gateway.shared.is_idle()).await;
    request.abort();
    let row = gateway.row_when("of the client that left", |row| row.api == "embeddings").await;
    assert_eq!((row.ending, row.route, row.error.as_deref()), (Ending::ClientLeft, Route::None, Some("cancelled")));
}

#[tokio::test]
async fn the_models_list_holds_auto_tasks_models_and_embedders() {
    let gateway = Gateway::start(with_embedder(Duration::ZERO)).await;
    let list = json_of(gateway.get("/v1/models").await).await;
    let ids: Vec<&str> = list["data"].as_array().expect("a list").iter().filter_map(|m| m["id"].as_str()).collect();
    assert_eq!(ids, ["auto", "auto:triage", LARGE, "lengths"]);
    for id in ids {
        let one = json_of(gateway.get(&format!("/v1/models/{id}")).await).await;
        assert_eq!((&one["id"], &one["object"]), (&Value::from(id), &Value::from("model")));
    }
    let missing = gateway.get("/v1/models/some/deep/name").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(json_of(missing).await["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn feedback_becomes_the_gold_label() {
    let gateway = Gateway::start(with_task(task(spec(Mode::Live), small("spam", 0.95), large("ham")))).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(trace_of(&gateway.ask("auto:triage", "x").await));
    }
    let say = |id: TraceId, key: &str, value: Value| json!({ "trace_id": id.to_string(), key: value });
    assert_eq!(gateway.post("/v1/feedback", say(ids[0], "label", "ham".into())).await.status(), 200);
    assert_eq!(gateway.row(ids[0]).await.gold.as_deref(), Some("ham"));
    assert_eq!(gateway.post("/v1/feedback", say(ids[1], "correct", true.into())).await.status(), 200);
    assert_eq!(gateway.row(ids[1]).await.gold.as_deref(), Some("spam"));

    let response = gateway.post("/v1/feedback", say(ids[2], "label", "eggs".into())).await;
    assert_eq!(response.status(), 400);
    let body = json_of(response).await;
    assert_eq!(body["error"]["param"], "label");
    assert!(body["error"]["message"].as_str().is_some_and(|m| m.contains("spam, ham")), "{body}");
    assert_eq!(gateway.row(ids[2]).await.gold, None);

    let nobody = TraceId::from_parts(1, 2);
    for verdict in [say(nobody, "label", "ham".into()), say(nobody, "correct", false.into())] {
        assert_eq!(gateway.post("/v1/feedback", verdict).await.status(), 404);
    }
    assert_eq!(gateway.post("/v1/feedback", "{}").await.status(), 400);
}

#[tokio::test]
async fn metrics_count_requests_by_task_and_route() {
    let mut spec = spec(Mode::Live);
    spec.audit = 1.0;
    let gateway = Gateway::start(with_task(task(spec, small("spam", 0.95), large("ham")))).await;
    gateway.ask("auto:triage", "a secret text").await;
    gateway.ask(LARGE, "x").await;
    gateway.ask("unheard-of", "x").await;
    gateway.idle().await;
    let text = gateway.get("/metrics").await.text().await.expect("text");
    for line in [
        r#"understudy_requests_total{task="triage",route="local",reason="confident",ending="answered"} 1"#,
        r#"understudy_requests_total{task="",route="large",reason="named",ending="answered"} 1"#,
        r#"understudy_requests_total{task="",route="none",reason="",ending="failed"} 1"#,
        r#"understudy_audits_total{task="triage",agreed="no"} 1"#,
        r#"understudy_cost_nanodollars_total{task="triage",model="gpt"} 3000"#,
        r#"understudy_request_seconds_count{task="triage",route="local"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(!text.contains("secret text") && !text.contains("unheard-of"), "{text}");
}

#[tokio::test]
async fn a_clients_request_id_is_echoed_also_on_errors_and_streams() {
    let gateway = Gateway::start(with_model(large("x"))).await;
    let mut stream = chat_body(LARGE, "x");
    stream["stream"] = true.into();
    for body in [chat_body(LARGE, "x"), stream, json!({}), chat_body("unheard-of", "x")] {
        let url = format!("{}/v1/chat/completions", gateway.url);
        let request = gateway.http.post(url).header("x-request-id", "mine-1").body(body.to_string());
        let response = request.send().await.expect("an HTTP answer");
        assert_eq!(header(&response, "x-request-id"), Some("mine-1"), "{body}");
    }
}

#[tokio::test]
async fn the_text_policy_decides_what_of_texts_is_stored() {
    for (texts, kept) in [
        (TextPolicy::Full, Some("mail jane@example.com")),
        (TextPolicy::Redacted, Some("mail <email>")),
        (TextPolicy::Dropped, None),
    ] {
        let snapshot = with_task(task(spec(Mode::Live), small("spam", 0.1), large("to joe@example.com")));
        let gateway = Gateway::start(Snapshot { texts, ..snapshot }).await;
        let response = gateway.ask("auto:triage", "mail jane@example.com").await;
        let row = gateway.row(trace_of(&response)).await;
        assert_eq!(row.input.as_deref(), kept);
        assert_eq!((row.request.is_some(), row.input_hash.len()), (kept.is_some(), 64));
        let stored = format!("{row:?}");
        assert_eq!(stored.contains("@example.com"), texts == TextPolicy::Full, "{stored}");
    }
}

#[tokio::test]
async fn status_shows_tasks_models_and_certificates_in_force() {
    let gateway = Gateway::start(with_embedder(Duration::ZERO)).await;
    let status = json_of(gateway.get("/v1/understudy/status").await).await;
    assert_eq!((&status["ready"], &status["tasks"][0]["name"]), (&true.into(), &"triage".into()));
    assert_eq!(status["tasks"][0]["certificate"], certificate(0.9).id);
    assert_eq!(status["models"].as_array().map(Vec::len), Some(2));
    let paths = json_of(gateway.get("/openapi.json").await).await["paths"].clone();
    for (_, path) in KEYED {
        let path = path.replace("/models/gpt", "/models/{id}");
        assert!(paths.get(&path).is_some(), "{path}");
    }
}
