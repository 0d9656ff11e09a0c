//! A streamed answer: an upstream's chunks read and added up, and our own answers written as chunks.
//!
//! Chunks pass through as they came, so what is not read here (tool calls, reasoning, several choices) is not touched.

use super::IncludeUsage;
use super::response::{Rendering, content_text, finish, finish_name, logprobs, logprobs_json, usage, usage_json};
use crate::{openai::error, sse};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_core::{Answer, Error, ModelName, Result, TokenLogprob, Usage};

/// What a chunk means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More of the answer; `text` is empty for chunks without text. `wire` is the chunk.
    Delta {
        /// The new text of the first choice.
        text: String,
        /// The chunk as it came.
        wire: Bytes,
    },
    /// Only the token count. A client that did not ask for it must not see it: its parser may expect a choice.
    Usage {
        /// The chunk as it came.
        wire: Bytes,
    },
    /// The end. What comes after it is ignored.
    Done,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Option<Value>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

/// Adds up the chunks of one streamed answer.
#[derive(Debug)]
pub struct ChunkReader {
    model: ModelName,
    text: String,
    finish_reason: Option<String>,
    called_tools: bool,
    logprobs: Option<Vec<TokenLogprob>>,
    usage: Option<Usage>,
    seen_choice: bool,
    done: bool,
}

impl ChunkReader {
    /// A reader; `fallback_model` names the model until the upstream does.
    #[must_use]
    pub fn new(fallback_model: ModelName) -> Self {
        Self {
            model: fallback_model,
            text: String::new(),
            finish_reason: None,
            called_tools: false,
            logprobs: None,
            usage: None,
            seen_choice: false,
            done: false,
        }
    }

    /// Takes the data of one event.
    ///
    /// # Errors
    /// `Data` when it is not a chunk; the upstream's own error when it is an error object.
    pub fn push(&mut self, data: Bytes) -> Result<Step> {
        if self.done || data.trim_ascii() == b"[DONE]" {
            self.done = true;
            return Ok(Step::Done);
        }
        if data.trim_ascii().is_empty() {
            return Ok(Step::Delta { text: String::new(), wire: data });
        }
        let bad = |e: serde_json::Error| Error::data(format!("read the upstream's stream: an event is no chunk: {e}"));
        let chunk: Chunk = serde_json::from_slice(&data).map_err(bad)?;
        if chunk.error.is_some() {
            let value = serde_json::from_slice(&data).map_err(bad)?;
            return Err(error::in_band(&value, &data).expect("the chunk has an error that is not null"));
        }
        if let Some(model) = chunk.model.filter(|name| !name.is_empty() && name != self.model.as_str()) {
            self.model = ModelName::new(model);
        }
        // Counts are cumulative: the last ones hold.
        let counted = chunk.usage.as_ref().and_then(usage);
        self.usage = counted.or(self.usage);
        let choices = chunk.choices.unwrap_or_default();
        if choices.is_empty() && counted.is_some() {
            return Ok(Step::Usage { wire: data });
        }
        let mut text = String::new();
        for choice in choices.into_iter().filter(|choice| choice.index == 0) {
            text.push_str(&self.choice(choice));
        }
        self.text.push_str(&text);
        Ok(Step::Delta { text, wire: data })
    }

    fn choice(&mut self, choice: Choice) -> String {
        self.seen_choice = true;
        if let Some(tokens) = choice.logprobs.as_ref().and_then(logprobs) {
            self.logprobs.get_or_insert_default().extend(tokens);
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.finish_reason = Some(reason);
        }
        let Some(delta) = choice.delta else { return String::new() };
        self.called_tools |= delta["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
        match &delta["content"] {
            Value::Null => delta["refusal"].as_str().unwrap_or("").to_owned(),
            content => content_text(content),
        }
    }

    /// Whether nothing essential is missing any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.seen_choice && (self.finish_reason.is_some() || self.done)
    }

    /// The text so far, for the trace of a stream that broke off.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole answer, after the last event. Usage is flagged as estimated when the upstream did not count.
    ///
    /// # Errors
    /// `Unavailable` when the stream broke off: it has neither a finish reason nor `[DONE]`. `Data` when it said
    /// `[DONE]` without any choice.
    pub fn finish(self) -> Result<Answer> {
        if !self.done && self.finish_reason.is_none() {
            return Err(Error::unavailable(format!(
                "read the upstream's stream: it broke off after {} bytes of text; send the request again",
                self.text.len()
            )));
        }
        if !self.seen_choice {
            return Err(Error::data("read the upstream's stream: it ended without a choice"));
        }
        Ok(Answer {
            model: self.model,
            label: None,
            confidence: None,
            finish: finish(self.finish_reason.as_deref(), self.called_tools),
            usage: self.usage.unwrap_or_else(|| Usage::estimate(0, self.text.len())),
            logprobs: self.logprobs,
            wire: None,
            text: self.text,
        })
    }
}

/// Writes an answer of ours as chunks, each framed as a server-sent event.
#[derive(Debug, Clone)]
pub struct ChunkWriter {
    id: String,
    created_s: i64,
    model: String,
    usage: IncludeUsage,
}

impl ChunkWriter {
    /// A writer for a client that did or did not ask for a token count at the end.
    #[must_use]
    pub fn new(rendering: &Rendering<'_>, usage: IncludeUsage) -> Self {
        Self { id: rendering.id.to_owned(), created_s: rendering.created_s, model: rendering.model.to_owned(), usage }
    }

    /// The first chunk: the role.
    #[must_use]
    pub fn start(&self) -> Bytes {
        self.choice(&json!({ "role": "assistant", "content": "", "refusal": null }), None, &Value::Null)
    }

    /// A piece of text.
    #[must_use]
    pub fn delta(&self, text: &str) -> Bytes {
        self.choice(&json!({ "content": text }), None, &Value::Null)
    }

    /// The last chunks: finish reason, the log-probabilities of all tokens if there are any, the token count if the
    /// client asked for it, and `[DONE]`.
    #[must_use]
    pub fn end(&self, answer: &Answer) -> Bytes {
        let tokens = answer.logprobs.as_deref().map_or(Value::Null, logprobs_json);
        let mut out = BytesMut::from(self.choice(&json!({}), Some(finish_name(&answer.finish)), &tokens));
        if self.usage == IncludeUsage::Yes {
            out.extend_from_slice(&self.chunk(&json!([]), &usage_json(&answer.usage)));
        }
        out.extend_from_slice(sse::DONE);
        out.freeze()
    }

    /// The whole answer at once.
    #[must_use]
    pub fn whole(&self, answer: &Answer) -> Bytes {
        let mut out = BytesMut::from(self.start());
        if !answer.text.is_empty() {
            out.extend_from_slice(&self.delta(&answer.text));
        }
        out.extend_from_slice(&self.end(answer));
        out.freeze()
    }

    fn choice(&self, delta: &Value, finish_reason: Option<&str>, logprobs: &Value) -> Bytes {
        let choice = json!([{ "index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason }]);
        self.chunk(&choice, &Value::Null)
    }

    fn chunk(&self, choices: &Value, usage: &Value) -> Bytes {
        let mut body = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
        });
        // As OpenAI does it: who asked for the count finds the field in every chunk, null until the last.
        if self.usage == IncludeUsage::Yes {
            body["usage"] = usage.clone();
        }
        sse::encode_data(body.to_string().as_bytes())
    }
}

/// An error inside a stream, framed. The stream ends with it, without `[DONE]`: that would call the answer complete.
#[must_use]
pub fn error_event(error: &Error) -> Bytes {
    sse::encode_data(&error::render(error))
}
