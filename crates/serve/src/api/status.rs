//! `GET /v1/understudy/status`: what is being served, for people and scripts.

use super::json;
use crate::state::{Shared, Snapshot, Task};
use axum::{extract::State, http::StatusCode, response::Response};
use bytes::Bytes;
use serde_json::{Value, json as object};
use std::sync::Arc;
use understudy_core::Place;

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let snapshot = shared.snapshot();
    let body = object!({
        "ready": shared.is_ready(),
        "version": env!("CARGO_PKG_VERSION"),
        "open_requests": shared.work.len(),
        "models": models(&snapshot),
        "tasks": snapshot.tasks.iter().map(task).collect::<Vec<_>>(),
    });
    json(StatusCode::OK, Bytes::from(body.to_string()), None)
}

fn models(snapshot: &Snapshot) -> Vec<Value> {
    let place = |place: Place| match place {
        Place::Local => "in this process",
        Place::Remote => "upstream",
    };
    let chat = snapshot.models.iter().map(|(name, model)| {
        object!({ "name": name, "kind": "chat", "place": place(model.backend.capabilities().place), "priced": model.price.is_some() })
    });
    let embedding = snapshot.embedders.iter().map(|(name, model)| {
        object!({ "name": name, "kind": "embedding", "place": place(model.place), "priced": model.price.is_some() })
    });
    chat.chain(embedding).collect()
}

fn task(task: &Task) -> Value {
    let certificate = task.small.as_ref().and_then(|small| small.certificate.as_ref());
    object!({
        "name": task.spec.name,
        "mode": task.spec.mode,
        "small": task.small.as_ref().map(|small| small.model.backend.name().clone()),
        "artifact": task.small.as_ref().map(|small| small.hash.clone()),
        "large": task.spec.large,
        "certificate": certificate.map(|c| c.id.clone()),
        "threshold": certificate.map(|c| c.threshold),
        "audit": task.spec.audit,
    })
}
