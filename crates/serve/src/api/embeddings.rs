//! `POST /v1/embeddings`, from an encoder in this process or from an upstream.

use super::{failure, json, matchable_headers, new_trace_id, no_body};
use crate::{
    pipeline,
    record::{Draft, micros},
    state::{Shared, Snapshot},
};
use axum::{
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use futures_util::FutureExt;
use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use understudy_core::{
    Embedder, Error, ErrorKind, Message, ModelName, Place, Price, Request, Result, Role, Usage, backend::Embeddings,
};
use understudy_route::Tier;
use understudy_store::{Call, Ending, Route};
use understudy_wire::openai::embeddings::{EmbeddingsRequest, parse, render};

/// An embedding model that can be asked.
#[derive(Clone)]
pub struct EmbeddingModel {
    /// Embeds.
    pub embedder: Arc<dyn Embedder>,
    /// Whether texts leave this machine.
    pub place: Place,
    /// Price of its tokens; `None` when unknown.
    pub price: Option<Price>,
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let arrived = shared.clock.monotonic();
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&shared, &rejection),
    };
    let asked = match parse(&body) {
        Ok(asked) => asked,
        Err(error) => return failure(&error, None),
    };
    // A task of its own: this handler is dropped when its client leaves, and the row must still be written.
    let (mut head, response) = oneshot::channel();
    let (work, headers) = (shared.clone(), matchable_headers(&headers));
    shared.work.spawn(async move {
        let answer = answer(&work, &asked, headers, arrived, &mut head).await;
        // A client that left misses its answer; its trace is committed.
        drop(head.send(answer));
    });
    match response.await {
        Ok(response) => response,
        Err(_) => failure(&Error::internal("embed: the request's task ended without an answer"), None),
    }
}

async fn answer(
    shared: &Shared,
    asked: &EmbeddingsRequest,
    headers: BTreeMap<String, String>,
    arrived: Duration,
    head: &mut oneshot::Sender<Response>,
) -> Response {
    let snapshot = shared.snapshot();
    let mut request = Request::new(new_trace_id(shared), ModelName::new(asked.model.clone()), Vec::new());
    request.headers = headers;
    request.messages = asked.input.iter().map(|text| Message { role: Role::User, text: text.clone() }).collect();
    let mut draft = Draft::new(shared, &request, arrived).api("embeddings");
    draft.messages(snapshot.texts, &request);
    draft.queued(shared);

    let result = embed(shared, &snapshot, asked, &mut draft, head).await;
    let (ending, status) = match &result {
        Ok(_) => (Ending::Answered, 200),
        Err(error) if error.kind() == ErrorKind::Cancelled => (Ending::ClientLeft, error.http_status()),
        Err(error) => (Ending::Failed, error.http_status()),
    };
    let trace = draft.trace(shared, ending, status, result.as_ref().err());
    let stored = shared.store.record(trace.clone()).await;
    if stored.is_ok() {
        shared.meters.observe(&trace);
    }
    let meta = draft.meta();
    match result.and_then(|embeddings| stored.map(|()| embeddings)) {
        Ok(embeddings) => json(StatusCode::OK, render(&embeddings, &asked.model, asked.encoding), Some(&meta)),
        Err(error) => failure(&error, Some(&meta)),
    }
}

async fn embed(
    shared: &Shared,
    snapshot: &Snapshot,
    asked: &EmbeddingsRequest,
    draft: &mut Draft,
    head: &mut oneshot::Sender<Response>,
) -> Result<Embeddings> {
    let model = find(snapshot, &asked.model)?;
    asked.check_dimensions(model.embedder.dimensions())?;
    let (route, tier) = match model.place {
        Place::Local => (Route::Local, Tier::Small),
        Place::Remote => (Route::Large, Tier::Large),
    };
    let began = shared.clock.monotonic();
    let work = AssertUnwindSafe(async { model.embedder.embed(asked.input.clone()).await }).catch_unwind();
    let work = async {
        tokio::select! {
            biased;
            result = work => result.unwrap_or_else(|_| Err(pipeline::panicked(model.embedder.name()))),
            () = head.closed() => Err(pipeline::left_early()),
        }
    };
    let result = tokio::time::timeout(shared.limits.request, work)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Deadline, "embed in time ([server] timeout_s)")));
    if result.is_ok() {
        draft.route(route);
    }
    // Whether a call that was given up is billed, nobody knows.
    let given_up =
        result.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Cancelled));
    let price = model.price.filter(|price| !given_up || *price == Price::LOCAL);
    let usage = Usage { input_tokens: result.as_ref().map_or(0, |e| e.tokens), ..Usage::default() };
    draft.call(
        tier,
        Call {
            model: model.embedder.name().clone(),
            artifact: None,
            text: None,
            label: None,
            confidence: None,
            gate: None,
            own_confidence: None,
            token_logprobs: None,
            usage,
            cost: price.map(|price| price.cost(&usage)),
            latency_us: micros(shared.clock.monotonic().saturating_sub(began)),
            error: result.as_ref().err().map(|error| error.kind().label().to_owned()),
        },
    );
    result
}

fn find(snapshot: &Snapshot, name: &str) -> Result<EmbeddingModel> {
    if let Some(model) = snapshot.embedders.get(name) {
        return Ok(model.clone());
    }
    match &snapshot.embedder_fallback {
        Some(fallback) => fallback(name),
        None => Err(Error::not_found(format!(
            "find embedding model `{name}`: it is not configured; [local.{name}] serves one from the catalogue"
        ))
        .with_param("model")),
    }
}
