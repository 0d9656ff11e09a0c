//! A whole answer: read from an upstream, and rendered for a client.

use crate::openai::error;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_core::{Answer, Error, FinishReason, ModelName, Result, TokenLogprob, Usage};

/// What an answer needs to be rendered, besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Rendering<'a> {
    /// `chatcmpl-…`.
    pub id: &'a str,
    /// Unix time in seconds.
    pub created_s: i64,
    /// The model name that the client is to see.
    pub model: &'a str,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    message: Option<MessageJson>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Deserialize)]
struct MessageJson {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Value>,
}

/// Reads an upstream's answer. `fallback_model` names the model when the upstream does not. Usage is flagged as
/// estimated when the upstream did not count.
///
/// # Errors
/// `Data` when `body` is not a chat completion; the upstream's own error when it is an error object.
pub fn parse_response(body: Bytes, fallback_model: &ModelName) -> Result<Answer> {
    let bad = |what: String| Error::data(format!("read the upstream's answer: {what}"));
    let response: Response = match serde_json::from_slice(&body) {
        Ok(response) => response,
        Err(e) => return Err(in_band(&body).unwrap_or_else(|| bad(format!("it is not a chat completion: {e}")))),
    };
    let model = response.model.filter(|name| !name.is_empty()).map_or_else(|| fallback_model.clone(), ModelName::new);
    let choice = response.choices.into_iter().min_by_key(|choice| choice.index.unwrap_or(0));
    let Some((message, choice)) = choice.and_then(|mut choice| Some((choice.message.take()?, choice))) else {
        return Err(in_band(&body).unwrap_or_else(|| bad("it has no message".to_owned())));
    };
    let text = message.content.as_ref().map(content_text).or(message.refusal).unwrap_or_default();
    let called = message.tool_calls.as_ref().and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
    let usage = response.usage.as_ref().and_then(usage).unwrap_or_else(|| Usage::estimate(0, text.len()));
    Ok(Answer {
        model,
        label: None,
        confidence: None,
        finish: finish(choice.finish_reason.as_deref(), called),
        usage,
        logprobs: choice.logprobs.as_ref().and_then(logprobs),
        wire: Some(body),
        text,
    })
}

fn in_band(body: &Bytes) -> Option<Error> {
    error::in_band(&serde_json::from_slice(body).ok()?, body)
}

/// The text of a message: a string, or the text parts of an array (reasoning models of some providers).
pub(super) fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// The reason as `core` names it. Without one the answer counts as finished.
pub(super) fn finish(reason: Option<&str>, called_tools: bool) -> FinishReason {
    match reason {
        None | Some("") if called_tools => FinishReason::ToolCalls,
        None | Some("" | "stop" | "eos") => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        Some("tool_calls" | "function_call") => FinishReason::ToolCalls,
        Some("content_filter") => FinishReason::ContentFilter,
        Some(other) => FinishReason::Other(other.to_owned()),
    }
}

/// OpenAI's name for a reason.
pub(super) fn finish_name(finish: &FinishReason) -> &str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Other(reason) => reason,
    }
}

/// Token counts; `None` when the object has none. Cached tokens are part of the input, under any of the names in use.
pub(super) fn usage(value: &Value) -> Option<Usage> {
    let input = count(&value["prompt_tokens"])?;
    let cached = count(&value["prompt_tokens_details"]["cached_tokens"])
        .or_else(|| count(&value["prompt_cache_hit_tokens"]))
        .or_else(|| count(&value["cached_tokens"]))
        .unwrap_or(0);
    Some(Usage {
        input_tokens: input,
        cached_input_tokens: cached.min(input),
        output_tokens: count(&value["completion_tokens"]).unwrap_or(0),
        estimated: false,
    })
}

/// A count, also when it is written as `12.0`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|x| (0.0..=9e15).contains(x)).map(|x| x as u64))
}

/// The tokens of `{"content": [...]}`; `None` when there are none.
pub(super) fn logprobs(value: &Value) -> Option<Vec<TokenLogprob>> {
    let tokens = value["content"].as_array()?;
    tokens
        .iter()
        .map(|token| {
            let (bytes, logprob) = token_logprob(token)?;
            let top = token["top_logprobs"].as_array().map(|top| top.iter().filter_map(token_logprob).collect());
            Some(TokenLogprob { bytes, logprob, top: top.unwrap_or_default() })
        })
        .collect()
}

#[expect(clippy::cast_possible_truncation, reason = "log-probabilities are f32 at their source")]
fn token_logprob(token: &Value) -> Option<(Vec<u8>, f32)> {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    let bytes = match token["bytes"].as_array() {
        Some(bytes) => bytes.iter().map(byte).collect::<Option<_>>()?,
        None => token["token"].as_str()?.as_bytes().to_vec(),
    };
    Some((bytes, token["logprob"].as_f64()? as f32))
}

/// Renders an answer as a `chat.completion`. An upstream's own JSON passes unchanged.
#[must_use]
pub fn render_response(answer: &Answer, rendering: &Rendering<'_>) -> Bytes {
    if let Some(wire) = &answer.wire {
        return wire.clone();
    }
    let body = json!({
        "id": rendering.id,
        "object": "chat.completion",
        "created": rendering.created_s,
        "model": rendering.model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": answer.text, "refusal": null },
            "logprobs": answer.logprobs.as_deref().map(logprobs_json),
            "finish_reason": finish_name(&answer.finish),
        }],
        "usage": usage_json(&answer.usage),
    });
    Bytes::from(body.to_string())
}

pub(super) fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
        "prompt_tokens_details": { "cached_tokens": usage.cached_input_tokens },
    })
}

pub(super) fn logprobs_json(tokens: &[TokenLogprob]) -> Value {
    let one = |bytes: &[u8], logprob: f32| {
        // JSON has no infinity; OpenAI writes −9999 for "never".
        let logprob = if logprob.is_finite() { logprob } else { -9999.0 };
        json!({ "token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes })
    };
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut value = one(&token.bytes, token.logprob);
            value["top_logprobs"] = token.top.iter().map(|(bytes, logprob)| one(bytes, *logprob)).collect();
            value
        })
        .collect();
    json!({ "content": content, "refusal": null })
}
