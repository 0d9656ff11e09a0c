//! The HTTP surface. Each endpoint is a file; what they share (keys, errors, headers) is here.

mod chat_completions;
pub mod embeddings;
mod feedback;
mod health;
mod models;
pub(crate) mod openapi;
mod status;

use crate::{
    client::Meta,
    metrics::route_label,
    state::{ClientKey, Shared},
};
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use understudy_core::{Error, ErrorKind, Result, TraceId, hash};
use understudy_wire::openai;

/// Prefix of our own response headers.
const PREFIX: &str = "x-understudy-";
/// A client's own name for its request, echoed.
const REQUEST_ID: &str = "x-request-id";

/// The whole surface.
pub fn router(shared: Arc<Shared>) -> Router {
    let limit = shared.limits.body_bytes;
    let keyed = Router::new()
        .route("/v1/chat/completions", post(chat_completions::create))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/feedback", post(feedback::create))
        .route("/v1/understudy/status", get(status::status))
        .route("/metrics", get(health::metrics))
        .route_layer(middleware::from_fn_with_state(shared.clone(), require_key));
    Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/openapi.json", get(openapi::document))
        .merge(keyed)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(limit))
        .layer(middleware::from_fn(echo_request_id))
        .with_state(shared)
}

async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path();
    let hint = if path.starts_with("/v1/") { "" } else { "; the base URL ends in /v1" };
    failure(&Error::not_found(format!("find {path}: there is no such endpoint{hint}")), None)
}

async fn wrong_method(request: Request) -> Response {
    let error = Error::invalid(format!(
        "{} {}: the endpoint does not take this method",
        request.method(),
        request.uri().path()
    ));
    let mut response = failure(&error, None);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

async fn require_key(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match check_key(&shared.snapshot().keys, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => failure(&error, None),
    }
}

/// Clients present their key as OpenAI's do (`Authorization: Bearer`) or as Anthropic's (`x-api-key`).
fn check_key(keys: &[ClientKey], headers: &HeaderMap) -> Result<()> {
    if keys.is_empty() {
        return check_origin(headers);
    }
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let presented = header(header::AUTHORIZATION)
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim())
        .or_else(|| header(HeaderName::from_static("x-api-key")));
    match presented {
        Some(key) if keys.iter().any(|known| known.is(key)) => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::Denied, "accept the API key: it is not one of this gateway's")),
        None => Err(Error::new(ErrorKind::Denied, "find an API key: send `Authorization: Bearer …`")),
    }
}

/// Without keys a gateway trusts this machine, but a browser on it also runs the pages of strangers: they could spend
/// money here, if not read the answers. Browsers say where a page comes from.
fn check_origin(headers: &HeaderMap) -> Result<()> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("null");
    let foreign = match origin.split_once("://") {
        Some(("http" | "https", host)) => {
            let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
            !matches!(name.map_or(host, |(name, _)| name), "localhost" | "127.0.0.1" | "[::1]")
        }
        // Desktop applications and extensions have schemes of their own.
        Some(_) => false,
        None => true,
    };
    if !foreign {
        return Ok(());
    }
    let message =
        format!("serve the web page at {origin}: a gateway without keys serves this machine; set [server] api_keys");
    Err(Error::new(ErrorKind::Denied, message))
}

async fn echo_request_id(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).cloned();
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// An id for a new request: time of arrival and 80 bits that no one can guess from it.
pub(crate) fn new_trace_id(shared: &Shared) -> TraceId {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let (high, low) = (shared.seed.derive("trace"), shared.seed.derive(&format!("trace {count}")));
    let random = u128::from(high.0) << 64 | u128::from(low.0);
    TraceId::from_parts(u64::try_from(shared.clock.now().0).unwrap_or(0), random)
}

/// Headers that tasks may match on. Credentials and cookies stay out.
pub(crate) fn matchable_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let secret = |name: &str| {
        matches!(name, "authorization" | "proxy-authorization" | "cookie" | "x-api-key" | "api-key")
            || ["key", "token", "secret"].iter().any(|word| name.contains(word))
    };
    headers
        .iter()
        .filter(|(name, _)| !secret(name.as_str()))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// The body did not arrive: too large, or the client stopped sending.
pub(crate) fn no_body(shared: &Shared, rejection: &BytesRejection) -> Response {
    let mut response = failure(
        &Error::invalid(format!(
            "read the request body: {}; the limit is {} MiB ([server] body_limit_mb)",
            rejection.body_text(),
            shared.limits.body_bytes >> 20
        )),
        None,
    );
    *response.status_mut() = rejection.status();
    response
}

/// A JSON body with our headers.
pub(crate) fn json(status: StatusCode, body: Bytes, meta: Option<&Meta>) -> Response {
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response();
    if let Some(meta) = meta {
        write_meta(response.headers_mut(), meta);
    }
    response
}

/// An error in OpenAI's shape.
pub(crate) fn failure(error: &Error, meta: Option<&Meta>) -> Response {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, openai::error::render(error), meta);
    if let Some(seconds) = error.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Trace id, task, route, model, confidence and cost.
pub(crate) fn write_meta(headers: &mut HeaderMap, meta: &Meta) {
    let mut put = |name: &str, value: String| {
        let name = HeaderName::try_from(format!("{PREFIX}{name}")).expect("our names are valid header names");
        // A model name may hold what a header cannot; the trace has it in full.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    put("trace", meta.trace.to_string());
    put("route", route_label(meta.route).to_owned());
    if let Some(task) = &meta.task {
        put("task", task.to_string());
    }
    if let Some(model) = &meta.model {
        put("model", model.to_string());
    }
    if let Some(confidence) = meta.confidence {
        put("confidence", format!("{:.4}", confidence.get()));
    }
    if let Some(cost) = meta.cost {
        put("cost-usd", format!("{:.9}", cost.usd()));
    }
    if !headers.contains_key(REQUEST_ID) {
        let id = HeaderValue::try_from(meta.trace.to_string()).expect("base 32 is visible ASCII");
        headers.insert(REQUEST_ID, id);
    }
}

/// Hash that names a body in logs without showing it.
pub(crate) fn fingerprint(body: &[u8]) -> String {
    hash::sha256_hex(body)[..12].to_owned()
}
