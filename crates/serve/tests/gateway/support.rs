//! A gateway to test: scripted models, a store of its own, an HTTP client, and a second look at the store.

use reqwest::Response;
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use understudy_core::{
    Answer, Backend, Certificate, Clock, Confidence, LossKind, Mode, Money, Per, Place, Price, Seed, TaskSpec,
    Timestamp, TraceId, Usage,
    task::{InputRule, MatchRule, OutputForm, Privacy},
};
use understudy_route::{gate::served::Tells, router::AlwaysTry};
use understudy_serve::{
    Shared, Snapshot, bind,
    state::{Limits, Model, SmallModel, Task},
};
use understudy_store::{Store, StoreOptions, Trace, TraceFilter};
use understudy_upstream::{
    HttpOptions, ProxyUse, http_client,
    scripted::{Play, Scripted},
};

pub(crate) const LARGE: &str = "gpt";
pub(crate) const SMALL: &str = "mini";
pub(crate) const LABELS: [&str; 2] = ["spam", "ham"];

/// Time that really passes, from a fixed date.
struct Passing(tokio::time::Instant);

impl Clock for Passing {
    fn now(&self) -> Timestamp {
        Timestamp(1_760_000_000_000 + i64::try_from(self.monotonic().as_millis()).expect("a short test"))
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One gateway on a free port.
pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) shared: Arc<Shared>,
    /// Another connection to the same file: what it sees is committed.
    pub(crate) seen: Store,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
    folder: TempDir,
}

pub(crate) fn limits() -> Limits {
    Limits { body_bytes: 1 << 20, request: Duration::from_secs(60), drain: Duration::from_secs(30) }
}

impl Gateway {
    pub(crate) async fn start(snapshot: Snapshot) -> Self {
        Self::start_with(snapshot, limits()).await
    }

    pub(crate) async fn start_with(snapshot: Snapshot, limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("understudy.db");
        let store = Store::open(&path, StoreOptions::default()).expect("a fresh store");
        let seen = Store::open_existing(&path, StoreOptions::default()).expect("the same file");
        let shared = Shared::new(store, Arc::new(Passing(tokio::time::Instant::now())), Seed(7), limits);
        shared.install(snapshot);
        let server = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let url = format!("http://{}", server.address().expect("bound"));
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(shared.clone(), stop.clone()));
        let options = HttpOptions { proxy: ProxyUse::Direct, ..HttpOptions::default() };
        let http = http_client(&options).expect("a client");
        Self { url, http, shared, seen, stop, running, folder }
    }

    pub(crate) fn store_path(&self) -> std::path::PathBuf {
        self.folder.path().join("understudy.db")
    }

    pub(crate) async fn post(&self, path: &str, body: impl ToString) -> Response {
        self.http.post(format!("{}{path}", self.url)).body(body.to_string()).send().await.expect("an HTTP answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).send().await.expect("an HTTP answer")
    }

    pub(crate) async fn chat(&self, body: Value) -> Response {
        self.post("/v1/chat/completions", body).await
    }

    /// Asks for a whole answer to one user message.
    pub(crate) async fn ask(&self, model: &str, text: &str) -> Response {
        self.chat(chat_body(model, text)).await
    }

    /// Asks for a stream.
    pub(crate) async fn ask_stream(&self, model: &str, text: &str) -> Response {
        let mut body = chat_body(model, text);
        body["stream"] = true.into();
        self.chat(body).await
    }

    /// All rows, oldest first.
    pub(crate) async fn rows(&self) -> Vec<Trace> {
        let filter = TraceFilter { order: understudy_store::Order::OldestFirst, ..TraceFilter::default() };
        self.seen.traces(&filter).await.expect("readable")
    }

    pub(crate) async fn row(&self, id: TraceId) -> Trace {
        self.seen.trace(id).await.expect("the row is committed")
    }

    /// Waits until a row is as `ready` wants it; a test that waits in vain fails.
    pub(crate) async fn row_when(&self, what: &str, ready: impl Fn(&Trace) -> bool) -> Trace {
        for _ in 0..1000 {
            if let Some(row) = self.rows().await.into_iter().find(|row| ready(row)) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no row {what}: {:#?}", self.rows().await);
    }

    /// Waits until no request and no audit is under way.
    pub(crate) async fn idle(&self) {
        wait_until("the gateway is idle", || self.shared.is_idle()).await;
    }
}

pub(crate) async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

pub(crate) fn chat_body(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }] })
}

pub(crate) fn trace_of(response: &Response) -> TraceId {
    TraceId::parse(header(response, "x-understudy-trace").expect("a trace header")).expect("a trace id")
}

pub(crate) fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().expect("text"))
}

pub(crate) async fn json_of(response: Response) -> Value {
    let body = response.bytes().await.expect("a body");
    serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body)))
}

/// The text of a whole answer.
pub(crate) async fn content_of(response: Response) -> String {
    let body = json_of(response).await;
    body["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("no content: {body}")).to_owned()
}

/// The data of each event of a stream.
pub(crate) fn events(body: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(body).expect("UTF-8");
    assert!(text.is_empty() || text.ends_with("\n\n"), "the last event is complete: {text:?}");
    text.split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").unwrap_or_else(|| panic!("not an event: {event:?}")).to_owned())
        .collect()
}

pub(crate) fn price() -> Price {
    let per_million = |dollars: i64| Money::from_nanos(dollars * 1_000_000_000);
    Price {
        input_per_million: per_million(1),
        cached_input_per_million: per_million(1),
        output_per_million: per_million(2),
    }
}

pub(crate) fn model(backend: Arc<dyn Backend>) -> Model {
    let price = match backend.capabilities().place {
        Place::Local => Price::LOCAL,
        Place::Remote => price(),
    };
    Model { backend, price: Some(price), owner: "tests".into() }
}

/// A large model that always says `text`.
pub(crate) fn large(text: &'static str) -> Arc<Scripted> {
    Arc::new(Scripted::new(LARGE, Place::Remote, move |_, _| Play::text(&LARGE.into(), text)))
}

/// A small model that always means `label`, this sure.
pub(crate) fn small(label: &'static str, confidence: f64) -> Arc<Scripted> {
    Arc::new(Scripted::new(SMALL, Place::Local, move |_, _| {
        let usage = Usage { input_tokens: 3, output_tokens: 1, ..Usage::default() };
        let mut answer = Answer::text(SMALL.into(), label, usage);
        answer.label = Some(label.to_owned());
        answer.confidence = Some(Confidence::new(confidence).expect("in range"));
        Play { delay: Duration::ZERO, pieces: Vec::new(), end: Ok(answer) }
    }))
}

pub(crate) fn spec(mode: Mode) -> TaskSpec {
    TaskSpec {
        name: "triage".into(),
        rule: MatchRule { models: vec!["triage-please".into()], ..MatchRule::default() },
        mode,
        large: Some(LARGE.into()),
        small: Some(SMALL.into()),
        labels: LABELS.map(str::to_owned).to_vec(),
        input: InputRule::default(),
        output: OutputForm::Label,
        privacy: Privacy::Any,
        audit: 0.0,
        epsilon: 0.02,
        delta: 0.05,
        languages: Vec::new(),
    }
}

pub(crate) fn certificate(threshold: f64) -> Arc<Certificate> {
    let certificate = Certificate {
        id: String::new(),
        task: "triage".into(),
        small: SMALL.into(),
        small_hash: "hash".into(),
        large: LARGE.into(),
        epsilon: 0.02,
        delta: 0.05,
        loss: LossKind::Disagreement,
        per: Per::Request,
        loss_sum: None,
        n: 1000,
        losses: 3,
        threshold: Confidence::new(threshold).expect("in range"),
        kept: 0.8,
        bound: 0.0077,
        data_hash: "d".into(),
        issued: Timestamp(0),
    };
    Arc::new(certificate.sealed())
}

/// A task of these models; certified at 0.9.
pub(crate) fn task(spec: TaskSpec, small: Arc<dyn Backend>, large: Arc<dyn Backend>) -> Task {
    let small = SmallModel {
        model: model(small),
        hash: "hash".into(),
        tells: Tells::Confidence,
        gate: None,
        certificate: Some(certificate(0.9)),
    };
    Task { spec, small: Some(small), large: Some(model(large)), router: Arc::new(AlwaysTry), embedder: None }
}

/// A picture with one task and its large model under its own name.
pub(crate) fn with_task(task: Task) -> Snapshot {
    let large = task.large.clone().expect("a large model");
    Snapshot { tasks: vec![task], models: [(LARGE.to_owned(), large)].into(), ..Snapshot::default() }
}

/// A picture with one model and no task.
pub(crate) fn with_model(backend: Arc<dyn Backend>) -> Snapshot {
    let name = backend.name().to_string();
    Snapshot { models: [(name, model(backend))].into(), ..Snapshot::default() }
}
