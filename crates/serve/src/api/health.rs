//! Liveness, readiness and metrics.

use crate::state::Shared;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// The process runs.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Models are loaded and no drain has begun: a load balancer may send requests.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    match shared.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready: models are loading or the gateway is stopping\n"),
    }
}

/// Prometheus' text format.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.meters.render()).into_response()
}
