//! `GET /v1/models`: what a client may ask for.

use super::{failure, json};
use crate::state::{Shared, Snapshot};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use std::sync::Arc;
use understudy_core::Error;
use understudy_route::matching::AUTO;
use understudy_wire::openai::models::{Entry, render, render_one};

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Response {
    json(StatusCode::OK, render(&entries(&shared.snapshot())), None)
}

pub(super) async fn one(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    match entries(&shared.snapshot()).iter().find(|entry| entry.id == id) {
        Some(entry) => json(StatusCode::OK, render_one(entry), None),
        None => {
            let error = Error::not_found(format!("find model `{id}`: GET /v1/models lists what there is"));
            failure(&error.with_param("model"), None)
        }
    }
}

fn entries(snapshot: &Snapshot) -> Vec<Entry> {
    let entry = |id: String, owned_by: &str| Entry { id, created_s: 0, owned_by: owned_by.to_owned() };
    let tasks = snapshot.tasks.iter().map(|task| entry(format!("{AUTO}:{}", task.spec.name), "understudy"));
    let models = snapshot.models.iter().map(|(name, model)| entry(name.clone(), &model.owner));
    let embedders = snapshot.embedders.keys().map(|name| entry(name.clone(), "understudy"));
    std::iter::once(entry(AUTO.to_owned(), "understudy")).chain(tasks).chain(models).chain(embedders).collect()
}
