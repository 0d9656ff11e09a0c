//! `POST /v1/feedback`: what people say about answers; it becomes gold labels.

use super::{failure, json, no_body};
use crate::state::Shared;
use axum::{
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use std::sync::Arc;
use understudy_core::{Error, Result, TraceId};
use understudy_store::Feedback;
use understudy_wire::openai::feedback::{self, Verdict};

pub(super) async fn create(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&shared, &rejection),
    };
    match accept(&shared, &body).await {
        Ok(trace) => {
            let body = serde_json::json!({ "object": "feedback", "trace_id": trace.to_string() }).to_string();
            json(StatusCode::OK, Bytes::from(body), None)
        }
        Err(error) => failure(&error, None),
    }
}

async fn accept(shared: &Shared, body: &Bytes) -> Result<TraceId> {
    let feedback::Feedback { trace, verdict, comment } = feedback::parse(body)?;
    let mut record = Feedback { at: shared.clock.now(), gold: None, correct: None, comment };
    match verdict {
        Verdict::Label(label) => {
            check_label(shared, trace, &label).await?;
            record.gold = Some(label);
        }
        Verdict::Correct => record.correct = Some(true),
        Verdict::Wrong => record.correct = Some(false),
    }
    shared.store.attach_feedback(trace, record).await?;
    Ok(trace)
}

/// A label that the task does not have is a slip of the pen, and would poison what is learned from it.
async fn check_label(shared: &Shared, trace: TraceId, label: &str) -> Result<()> {
    let row = shared.store.trace(trace).await?;
    let snapshot = shared.snapshot();
    let task = row.task.and_then(|name| snapshot.tasks.iter().find(|task| task.spec.name == name));
    match task {
        Some(task) if !task.spec.labels.is_empty() && !task.spec.labels.iter().any(|known| known == label) => {
            let message =
                format!("take the label `{label}`: task `{}` has {}", task.spec.name, task.spec.labels.join(", "));
            Err(Error::invalid(message).with_param("label"))
        }
        _ => Ok(()),
    }
}
