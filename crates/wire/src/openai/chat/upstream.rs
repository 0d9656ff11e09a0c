//! The body for an upstream: the client's own JSON with the few fields changed that must be, every other byte kept.

use super::FORMAT;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json, value::RawValue};
use std::ops::Range;
use understudy_core::{
    Error, Request, Result,
    request::{Delivery, OutputFormat, one_of_grammar},
};

/// Whether a stream is to end with a chunk that counts tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageChunk {
    /// Only if the client asked for it.
    AsAsked,
    /// Always: without it a streamed answer has no known cost.
    Ensure,
}

/// The fields of a body that may have to change.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'a RawValue>,
}

/// A field that is there, `null` included: it has a place in the text.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Whether the client wants a token count at the end of its stream (`stream_options.include_usage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncludeUsage {
    /// It asked for it.
    Yes,
    /// It did not, and must not see one.
    No,
}

impl IncludeUsage {
    /// What the client asked for.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let asked = || {
            let fields: Fields<'_> = serde_json::from_slice(wire(request)?).ok()?;
            let options: StreamOptions<'_> = serde_json::from_str(fields.stream_options?.get()).ok()?;
            Some(options.include_usage?.get() == "true")
        };
        if asked() == Some(true) { Self::Yes } else { Self::No }
    }
}

/// The body that asks an upstream for an answer by `upstream_model`, delivered as `request.delivery` says.
///
/// # Errors
/// `Invalid` when the request's wire body is of this format but not a chat completion.
pub fn upstream_body(request: &Request, upstream_model: &str, usage: UsageChunk) -> Result<Bytes> {
    let Some(body) = wire(request) else { return Ok(built(request, upstream_model, usage)) };
    let bad = |e: serde_json::Error| Error::invalid(format!("forward the request body: {e}"));
    let text = std::str::from_utf8(body).map_err(|e| Error::invalid(format!("forward the request body: {e}")))?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(bad)?;
    let mut edits = vec![Edit { span: span(text, fields.model.get()), new: json!(upstream_model).to_string() }];
    let streams = fields.stream.is_some_and(|raw| raw.get() == "true");
    // A gate reads them where the client did not ask for them.
    if request.sampling.logprobs.is_some() && fields.logprobs.is_none_or(|raw| raw.get() != "true") {
        edits.push(set(text, fields.logprobs, "logprobs", "true"));
    }
    match request.delivery {
        Delivery::Stream => {
            if !streams {
                edits.push(set(text, fields.stream, "stream", "true"));
            }
            if usage == UsageChunk::Ensure {
                edits.extend(ensure_usage(text, fields.stream_options).map_err(bad)?);
            }
        }
        // The same request asked once more for an audit, say: the client streams, we do not.
        Delivery::Whole => {
            if streams {
                edits.push(set(text, fields.stream, "stream", "false"));
            }
            // Servers refuse stream options on a request that does not stream.
            edits.extend(fields.stream_options.map(|raw| Edit { span: span(text, raw.get()), new: "null".into() }));
        }
    }
    Ok(apply(text, edits))
}

fn wire(request: &Request) -> Option<&Bytes> {
    request.wire.as_ref().filter(|wire| wire.format == FORMAT).map(|wire| &wire.json)
}

/// A replacement of a part of the text.
struct Edit {
    span: Range<usize>,
    new: String,
}

/// Where `part`, a slice of `text`, lies in it.
fn span(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// Replaces the field's value, or adds the field as the object's last.
fn set(object: &str, value: Option<&RawValue>, key: &str, new: &str) -> Edit {
    match value {
        Some(raw) => Edit { span: span(object, raw.get()), new: new.to_owned() },
        None => {
            let end = object.rfind('}').expect("the text was parsed as an object");
            let empty = object[..end].trim_end().ends_with('{');
            let comma = if empty { "" } else { "," };
            Edit { span: end..end, new: format!("{comma}\"{key}\":{new}") }
        }
    }
}

fn ensure_usage(text: &str, options: Option<&RawValue>) -> serde_json::Result<Option<Edit>> {
    let Some(options) = options.filter(|raw| raw.get() != "null") else {
        return Ok(Some(set(text, options, "stream_options", r#"{"include_usage":true}"#)));
    };
    let inner: StreamOptions<'_> = serde_json::from_str(options.get())?;
    if inner.include_usage.is_some_and(|raw| raw.get() == "true") {
        return Ok(None);
    }
    let edit = set(options.get(), inner.include_usage, "include_usage", "true");
    let start = span(text, options.get()).start;
    Ok(Some(Edit { span: start + edit.span.start..start + edit.span.end, new: edit.new }))
}

fn apply(text: &str, mut edits: Vec<Edit>) -> Bytes {
    // Stable: two fields added at the same place stay in order.
    edits.sort_by_key(|edit| edit.span.start);
    let mut out = String::with_capacity(text.len() + edits.iter().map(|edit| edit.new.len()).sum::<usize>());
    let mut from = 0;
    for edit in edits {
        out.push_str(&text[from..edit.span.start]);
        out.push_str(&edit.new);
        from = edit.span.end;
    }
    out.push_str(&text[from..]);
    Bytes::from(out)
}

/// A body made of the parsed fields, for requests that did not come as JSON of this format.
fn built(request: &Request, upstream_model: &str, usage: UsageChunk) -> Bytes {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            body.insert(key.to_owned(), value);
        }
    };
    let messages: Vec<Value> =
        request.messages.iter().map(|m| json!({ "role": m.role.as_str(), "content": m.text })).collect();
    put("model", json!(upstream_model));
    put("messages", json!(messages));
    let sampling = &request.sampling;
    put("temperature", decimal(sampling.temperature));
    put("top_p", decimal(sampling.top_p));
    put("max_tokens", json!(sampling.max_tokens));
    put("seed", json!(sampling.seed.map(u64::cast_signed)));
    put("stop", if sampling.stop.is_empty() { Value::Null } else { json!(sampling.stop) });
    put("frequency_penalty", decimal(sampling.frequency_penalty));
    put("presence_penalty", decimal(sampling.presence_penalty));
    if let Some(top) = sampling.logprobs {
        put("logprobs", json!(true));
        put("top_logprobs", if top == 0 { Value::Null } else { json!(top) });
    }
    match &request.format {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => put("response_format", json!({ "type": "json_object" })),
        OutputFormat::JsonSchema(schema) => put(
            "response_format",
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": true } }),
        ),
        OutputFormat::Grammar(text) => put("grammar", json!(text)),
        OutputFormat::OneOf(texts) => put("grammar", json!(one_of_grammar(texts))),
    }
    if !request.metadata.is_empty() {
        put("metadata", json!(request.metadata));
    }
    if request.delivery == Delivery::Stream {
        put("stream", json!(true));
        if usage == UsageChunk::Ensure {
            put("stream_options", json!({ "include_usage": true }));
        }
    }
    Bytes::from(Value::Object(body).to_string())
}

/// The shortest decimal that reads back as this number: 0.7, not 0.699999988079071.
fn decimal(x: Option<f32>) -> Value {
    x.and_then(|x| x.to_string().parse::<f64>().ok()).map_or(Value::Null, Value::from)
}
