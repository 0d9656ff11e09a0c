//! `POST /v1/chat/completions`.

use super::{failure, fingerprint, json, matchable_headers, new_trace_id, no_body, write_meta};
use crate::{
    client::{Item, Meta, Reply},
    pipeline,
    state::Shared,
};
use axum::{
    body::Body,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::mpsc;
use understudy_core::{Answer, Error, ModelName, Request, request::Delivery};
use understudy_wire::{
    openai::chat::{self, ChunkWriter, IncludeUsage, Rendering},
    sse,
};

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
    let id = new_trace_id(&shared);
    let request = match chat::parse(body.clone(), id, matchable_headers(&headers)) {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(body = fingerprint(&body), %error, "a request is not a chat completion");
            return failure(&error, None);
        }
    };
    let usage = IncludeUsage::of(&request);
    let asked = request.clone();
    match pipeline::start(&shared, request, arrived).await {
        Ok(Ok(Reply::Whole(answer, meta))) => whole(&shared, &asked, *answer, &meta, usage),
        Ok(Ok(Reply::Stream(items, meta))) => streamed(&shared, items, meta, usage),
        Ok(Ok(Reply::Failed(error, meta))) => failure(&error, Some(&meta)),
        Ok(Err(error)) => failure(&error, None),
        Err(_) => failure(&Error::internal("answer: the request's task ended without an answer"), None),
    }
}

fn whole(shared: &Shared, request: &Request, answer: Answer, meta: &Meta, usage: IncludeUsage) -> Response {
    let names = Names::new(shared, meta, &answer.model);
    match request.delivery {
        Delivery::Whole => json(StatusCode::OK, chat::render_response(&answer, &names.rendering()), Some(meta)),
        // An answer that had to pass the gate first comes as a stream in one go.
        Delivery::Stream => {
            let writer = ChunkWriter::new(&names.rendering(), usage);
            event_stream(Body::from(writer.whole(&answer)), meta)
        }
    }
}

fn streamed(shared: &Shared, items: mpsc::Receiver<Item>, meta: Meta, usage: IncludeUsage) -> Response {
    let model = meta.model.clone().unwrap_or_else(|| "unknown".into());
    let names = Names::new(shared, &meta, &model);
    let writer = ChunkWriter::new(&names.rendering(), usage);
    let state = StreamState { items, writer, ready: VecDeque::new(), started: false, ended: false };
    let body = stream::unfold(state, |mut state| async move {
        let part = state.next().await?;
        Some((Ok::<_, std::convert::Infallible>(part), state))
    });
    event_stream(Body::from_stream(body), &meta)
}

/// Turns pieces into events: a provider's own chunks pass through unchanged, ours are rendered.
struct StreamState {
    items: mpsc::Receiver<Item>,
    writer: ChunkWriter,
    ready: VecDeque<Bytes>,
    started: bool,
    ended: bool,
}

impl StreamState {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Some(part);
            }
            if self.ended {
                return None;
            }
            match self.items.recv().await {
                Some(Item::Delta { wire: Some(wire), .. }) => self.ready.push_back(sse::encode_data(&wire)),
                Some(Item::Delta { text, wire: None }) => {
                    if !self.started {
                        self.started = true;
                        self.ready.push_back(self.writer.start());
                    }
                    self.ready.push_back(self.writer.delta(&text));
                }
                Some(Item::End(answer)) => {
                    self.ended = true;
                    if self.started {
                        self.ready.push_back(self.writer.end(&answer));
                    } else {
                        // The provider's chunks said everything but the end.
                        self.ready.push_back(Bytes::from_static(sse::DONE));
                    }
                }
                Some(Item::Failed(error)) => {
                    self.ended = true;
                    self.ready.push_back(chat::error_event(&error));
                }
                None => {
                    self.ended = true;
                    self.ready
                        .push_back(chat::error_event(&Error::internal("finish the stream: its task ended early")));
                }
            }
        }
    }
}

/// The names that a rendered answer carries.
struct Names {
    id: String,
    created_s: i64,
    model: String,
}

impl Names {
    fn new(shared: &Shared, meta: &Meta, model: &ModelName) -> Self {
        Self {
            id: format!("chatcmpl-{}", meta.trace),
            created_s: shared.clock.now().0 / 1000,
            model: model.to_string(),
        }
    }

    fn rendering(&self) -> Rendering<'_> {
        Rendering { id: &self.id, created_s: self.created_s, model: &self.model }
    }
}

fn event_stream(body: Body, meta: &Meta) -> Response {
    let mut response = (
        [
            (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache"),
            // nginx buffers event streams unless told not to.
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ],
        body,
    )
        .into_response();
    write_meta(response.headers_mut(), meta);
    response
}
