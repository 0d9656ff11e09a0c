//! `GET /openapi.json`: the surface, for tools.

use axum::{http::header, response::IntoResponse};
use serde_json::{Value, json};

/// The document. Bodies that follow OpenAI's API refer to its documentation instead of repeating it.
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], surface().to_string())
}

fn surface() -> Value {
    let operation = |summary: &str, streams: bool| {
        let mut content = json!({ "application/json": { "schema": { "type": "object" } } });
        if streams {
            content["text/event-stream"] = json!({ "schema": { "type": "string" } });
        }
        json!({
            "summary": summary,
            "responses": {
                "200": { "description": "Success", "content": content },
                "default": {
                    "description": "An error in OpenAI's shape",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } }
                }
            }
        })
    };
    let with_body = |mut operation: Value, schema: Value| {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        operation
    };
    let chat = json!({
        "type": "object",
        "required": ["model", "messages"],
        "properties": {
            "model": { "type": "string", "description": "An LLM's name, `auto`, `auto:<task>`, or a local model" },
            "messages": { "type": "array", "minItems": 1, "items": { "type": "object" } },
            "stream": { "type": "boolean" }
        },
        "additionalProperties": true
    });
    let embeddings = json!({
        "type": "object",
        "required": ["model", "input"],
        "properties": {
            "model": { "type": "string" },
            "input": { "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
            "encoding_format": { "enum": ["float", "base64"] }
        },
        "additionalProperties": true
    });
    let feedback = json!({
        "type": "object",
        "required": ["trace_id"],
        "properties": {
            "trace_id": { "type": "string", "description": "From the x-understudy-trace response header" },
            "label": { "type": "string", "description": "The right label" },
            "correct": { "type": "boolean", "description": "Whether the answer was right" },
            "comment": { "type": "string" }
        }
    });
    let mut model = operation("One model", false);
    model["parameters"] = json!([{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }]);
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Understudy", "version": env!("CARGO_PKG_VERSION") },
        "paths": {
            "/v1/chat/completions": { "post": with_body(operation("Chat completion (OpenAI's API)", true), chat) },
            "/v1/embeddings": { "post": with_body(operation("Embeddings (OpenAI's API)", false), embeddings) },
            "/v1/models": { "get": operation("Models that a client may ask for", false) },
            "/v1/models/{id}": { "get": model },
            "/v1/feedback": { "post": with_body(operation("Feedback on an answer", false), feedback) },
            "/v1/understudy/status": { "get": operation("Models, tasks and certificates in force", false) },
            "/health": { "get": { "summary": "The process runs", "security": [], "responses": { "200": { "description": "ok" } } } },
            "/ready": { "get": { "summary": "Requests may be sent", "security": [],
                "responses": { "200": { "description": "ready" }, "503": { "description": "loading or stopping" } } } },
            "/metrics": { "get": { "summary": "Prometheus metrics", "responses": { "200": { "description": "text format" } } } }
        },
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Error": { "type": "object", "properties": { "error": { "type": "object", "properties": {
                "message": { "type": "string" }, "type": { "type": "string" },
                "param": { "type": ["string", "null"] }, "code": { "type": ["string", "null"] } } } } } }
        },
        "security": [{ "bearer": [] }]
    })
}
