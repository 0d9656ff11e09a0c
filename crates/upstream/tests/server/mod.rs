//! A scripted HTTP server on loopback that notes what it was asked and who left.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, header},
    response::Response,
};
use futures_util::{StreamExt, stream};
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) pieces: Vec<String>,
    pub(crate) end: End,
}

/// What follows the pieces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    /// The end of the body.
    Clean,
    /// The connection is cut.
    Abort,
    /// Silence; the connection stays.
    Hang,
    /// Silence before the headers.
    Never,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let pieces = vec![body.to_owned()];
        Self { status, content_type: "application/json", headers: vec![], pieces, end: End::Clean }
    }

    pub(crate) fn stream(pieces: &[String]) -> Self {
        Self { content_type: "text/event-stream; charset=utf-8", pieces: pieces.to_vec(), ..Self::json(200, "") }
    }

    pub(crate) fn aborted(pieces: &[String]) -> Self {
        Self { end: End::Abort, ..Self::stream(pieces) }
    }

    pub(crate) fn hanging(pieces: &[String]) -> Self {
        Self { end: End::Hang, ..Self::stream(pieces) }
    }

    pub(crate) fn never() -> Self {
        Self { end: End::Never, ..Self::json(200, "") }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// One event.
pub(crate) fn sse(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

type Script = dyn Fn(usize) -> Reply + Send + Sync;

struct Inner {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    left: Arc<AtomicUsize>,
}

pub(crate) struct Server {
    url: String,
    inner: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts its drop: a response or its body that nobody finished because the client left.
struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Server {
    /// Starts a server that answers its nth request with `script(n)`.
    pub(crate) async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let inner = Arc::new(Inner { script: Box::new(script), seen: Mutex::default(), left: Arc::default() });
        let app = Router::new().fallback(answer).with_state(inner.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("a server") });
        Self { url, inner, task }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().expect("not poisoned").clone()
    }

    /// How many clients left before the end of their answer.
    pub(crate) fn left(&self) -> usize {
        self.inner.left.load(Ordering::SeqCst)
    }

    /// Waits until so many have left; a test that waits in vain fails.
    pub(crate) async fn wait_left(&self, count: usize) {
        for _ in 0..500 {
            if self.left() >= count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("{} clients left, not {count}", self.left());
    }
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let text = |headers: &HeaderMap, name| headers.get(name).map_or("", |v| v.to_str().expect("text")).to_owned();
    let n = {
        let mut seen = inner.seen.lock().expect("not poisoned");
        seen.push(Seen {
            path: parts.uri.to_string(),
            authorization: text(&parts.headers, header::AUTHORIZATION),
            body: String::from_utf8(body.to_vec()).expect("text"),
        });
        seen.len() - 1
    };
    let reply = (inner.script)(n);
    let leaving = || Leaving(inner.left.clone());
    if reply.end == End::Never {
        let _leaving = leaving();
        return std::future::pending().await;
    }
    let mut response = Response::builder().status(reply.status).header(header::CONTENT_TYPE, reply.content_type);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let pieces = stream::iter(reply.pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece))));
    let body = match reply.end {
        End::Abort => {
            let abort = stream::once(async {
                // The pieces leave before the connection is cut.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                Err(io::Error::other("cut"))
            });
            Body::from_stream(pieces.chain(abort))
        }
        End::Hang => {
            let leaving = leaving();
            let hang = stream::once(async move {
                let _leaving = leaving;
                std::future::pending().await
            });
            Body::from_stream(pieces.chain(hang))
        }
        _ => Body::from_stream(pieces),
    };
    response.body(body).expect("a valid response")
}
