//! A request as the cascade sees it: messages, limits and needs, free of any provider's JSON.

use crate::error::{Error, Result};
use crate::id::{ModelName, TraceId};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Instructions (`system` and `developer`).
    System,
    /// The application's user.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A role of the provider's own.
    Other(String),
}

impl Role {
    /// The name that chat templates and wire formats use.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Other(name) => name,
        }
    }
}

/// One message; parts that are not text are counted, not kept (they stay in the wire body).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// All text parts, joined by newlines.
    pub text: String,
}

/// What the answer must look like.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OutputFormat {
    /// Free text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that validates against this JSON Schema.
    JsonSchema(serde_json::Value),
    /// Text that a GBNF grammar accepts.
    Grammar(String),
    /// One of these texts, word for word: the one that the model finds likeliest. Models of ours weigh all of them and
    /// say the share of probability as their confidence; temperature and length do not apply.
    OneOf(Vec<String>),
}

/// A GBNF grammar that accepts exactly these texts.
#[must_use]
pub fn one_of_grammar<T: AsRef<str>>(texts: &[T]) -> String {
    let literal = |text: &T| {
        let text = text.as_ref().replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{}\"", text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"))
    };
    format!("root ::= {}\n", texts.iter().map(literal).collect::<Vec<_>>().join(" | "))
}

/// What only some models can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Images, audio or files in the messages.
    pub multimodal: bool,
    /// Tools are offered or forced.
    pub tools: bool,
    /// More than one choice is asked for.
    pub many_choices: bool,
}

/// How to draw tokens. `None` means the model's own default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// Softmax temperature; 0 is greedy.
    pub temperature: Option<f32>,
    /// Nucleus mass in (0, 1].
    pub top_p: Option<f32>,
    /// Most tokens to generate.
    pub max_tokens: Option<u32>,
    /// Seed of the sampler.
    pub seed: Option<u64>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Return log-probabilities with this many alternatives.
    pub logprobs: Option<u8>,
    /// Added to a token's logit when it was already seen, per occurrence (OpenAI's meaning).
    pub frequency_penalty: Option<f32>,
    /// Added once when a token was already seen (OpenAI's meaning).
    pub presence_penalty: Option<f32>,
}

/// The body as the client sent it, opaque to everything but the codec of its format.
#[derive(Debug, Clone)]
pub struct WireBody {
    /// Name of the format, such as `openai.chat`.
    pub format: &'static str,
    /// The JSON text.
    pub json: Bytes,
}

/// Whether the client wants the answer piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// All at once.
    #[default]
    Whole,
    /// Server-sent events.
    Stream,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Identifies the request and its trace.
    pub id: TraceId,
    /// The model name the client wrote.
    pub model: ModelName,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The text to classify or extract from, taken out of the messages by the task's rule; `None` when no task
    /// matched.
    pub input: Option<String>,
    /// Embedding of the input, of unit length, where the task's router reads one.
    pub embedding: Option<Vec<f32>>,
    /// How to draw tokens.
    pub sampling: Sampling,
    /// What the answer must look like.
    pub format: OutputFormat,
    /// What only some models can do.
    pub needs: Needs,
    /// Whole or streamed.
    pub delivery: Delivery,
    /// Key–value pairs that the client attached, for matching tasks.
    pub metadata: BTreeMap<String, String>,
    /// Request headers that tasks may match on, names in lower case. Never holds credentials.
    pub headers: BTreeMap<String, String>,
    /// The body as it came, for upstreams that speak its format.
    pub wire: Option<WireBody>,
}

impl Request {
    /// A request of plain messages with everything else at its default.
    #[must_use]
    pub fn new(id: TraceId, model: ModelName, messages: Vec<Message>) -> Self {
        Self {
            id,
            model,
            messages,
            input: None,
            embedding: None,
            sampling: Sampling::default(),
            format: OutputFormat::Text,
            needs: Needs::default(),
            delivery: Delivery::Whole,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
            wire: None,
        }
    }

    /// All text of the messages in bytes: the base of token estimates.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.messages.iter().map(|m| m.text.len()).sum()
    }

    /// The last message of `role`, if there is one.
    #[must_use]
    pub fn last_text(&self, role: &Role) -> Option<&str> {
        self.messages.iter().rev().find(|m| m.role == *role).map(|m| m.text.as_str())
    }

    /// The text that a small model reads: the input that the task's rule cut out, or the last user message.
    ///
    /// # Errors
    /// `Invalid` when there is neither.
    pub fn subject(&self) -> Result<&str> {
        let text = self.input.as_deref().or_else(|| self.last_text(&Role::User));
        text.ok_or_else(|| Error::invalid("the request has no user message").with_param("messages"))
    }

    /// The system prompt: all system messages, joined by newlines.
    #[must_use]
    pub fn system_text(&self) -> String {
        let parts: Vec<&str> =
            self.messages.iter().filter(|m| m.role == Role::System).map(|m| m.text.as_str()).collect();
        parts.join("\n")
    }
}
