//! OpenAI-compatible servers: OpenAI itself, Azure, vLLM, Ollama, llama.cpp, and most providers.

mod call;
mod endpoint;
mod stream;

use crate::http::Network;
use bytes::Bytes;
use call::Caller;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use secrecy::SecretString;
use std::{collections::BTreeMap, sync::OnceLock, time::Duration};
use understudy_core::{
    Answer, AnswerStream, Backend, Capabilities, Embedder, Error, ModelName, Request, Result, Usage,
    backend::Embeddings, request::Delivery,
};
use understudy_wire::openai::{
    chat::{self, IncludeUsage, UsageChunk},
    embeddings,
};

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest time to a whole answer, or to the first byte of a streamed one, retries included.
    pub total: Duration,
    /// Longest silence inside a stream.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { total: Duration::from_secs(120), idle: Duration::from_secs(60) }
    }
}

/// How to try again after a failed connection, 429 or 5xx. Never after the first byte of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first.
    pub count: u32,
    /// First waiting time; doubled each time. The actual wait is drawn between half of it and all of it.
    pub base: Duration,
    /// Longest single wait. An upstream that asks for more is not tried again.
    pub max_wait: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { count: 2, base: Duration::from_millis(400), max_wait: Duration::from_secs(8) }
    }
}

/// Which model on which server, and how to reach it.
#[derive(Debug)]
pub struct OpenAiConfig {
    /// The name by which plans ask for it.
    pub name: ModelName,
    /// The server's own name for it.
    pub upstream_model: String,
    /// `https://api.openai.com`, with or without `/v1`, or any base that has a version segment of its own.
    pub base_url: String,
    /// Sent as a bearer token.
    pub api_key: Option<SecretString>,
    /// Where the key was read, for the message of a server that refuses it: `env:OPENAI_API_KEY`. Never the key.
    pub api_key_from: Option<String>,
    /// More headers, such as `api-key`.
    pub headers: BTreeMap<String, SecretString>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How to try again.
    pub retries: Retries,
    /// What the model can take.
    pub capabilities: Capabilities,
    /// Whether streams are made to count tokens; some old servers do not know how.
    pub usage: UsageChunk,
}

/// One model on an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAi {
    name: ModelName,
    upstream_model: String,
    capabilities: Capabilities,
    usage: UsageChunk,
    caller: Caller,
}

impl OpenAi {
    /// Checks the configuration; connects to nothing.
    ///
    /// # Errors
    /// `Invalid` when the base URL, the key or a header cannot be used.
    pub fn new(config: OpenAiConfig, network: &Network) -> Result<Self> {
        let caller = Caller::new(&config, "chat/completions", network)?;
        let OpenAiConfig { name, upstream_model, capabilities, usage, .. } = config;
        Ok(Self { name, upstream_model, capabilities, usage, caller })
    }

    fn body(&self, request: &Request, delivery: Delivery) -> Result<Bytes> {
        if request.delivery == delivery {
            return chat::upstream_body(request, &self.upstream_model, self.usage);
        }
        let request = Request { delivery, ..request.clone() };
        chat::upstream_body(&request, &self.upstream_model, self.usage)
    }

    async fn whole(&self, request: &Request) -> Result<Answer> {
        let body = self.body(request, Delivery::Whole)?;
        let answer = self.caller.whole(body, |body| chat::parse_response(body, &self.name)).await?;
        Ok(with_input_estimate(answer, request.text_bytes()))
    }

    async fn streamed(&self, request: &Request) -> Result<AnswerStream> {
        let body = self.body(request, Delivery::Stream)?;
        let open = self.caller.stream(body).await?;
        let shown = IncludeUsage::of(request);
        let input_bytes = request.text_bytes();
        Ok(stream::events(open, self.name.clone(), shown, input_bytes).boxed())
    }
}

/// Completes the estimate of an answer whose tokens nobody counted.
fn with_input_estimate(mut answer: Answer, input_bytes: usize) -> Answer {
    if answer.usage.estimated {
        answer.usage = Usage::estimate(input_bytes, answer.text.len());
    }
    answer
}

impl Backend for OpenAi {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        self.whole(request).boxed()
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<AnswerStream>> {
        self.streamed(request).boxed()
    }
}

/// An embedding model on an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAiEmbedder {
    name: ModelName,
    upstream_model: String,
    /// Configured, or learned from the first answer.
    dimensions: OnceLock<usize>,
    caller: Caller,
}

impl OpenAiEmbedder {
    /// Checks the configuration; connects to nothing. `dimensions` is the length that the model's vectors have; where
    /// it is not given, the first answer tells it, and until then [`Embedder::dimensions`] is 0.
    ///
    /// # Errors
    /// `Invalid` when the base URL, the key or a header cannot be used.
    pub fn new(config: OpenAiConfig, dimensions: Option<usize>, network: &Network) -> Result<Self> {
        let caller = Caller::new(&config, "embeddings", network)?;
        let dimensions = dimensions.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { name: config.name, upstream_model: config.upstream_model, dimensions, caller })
    }
}

impl Embedder for OpenAiEmbedder {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn dimensions(&self) -> usize {
        self.dimensions.get().copied().unwrap_or(0)
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Embeddings>> {
        async move {
            let body = embeddings::upstream_body(&self.upstream_model, &texts);
            let parse = |body: Bytes| {
                let embeddings = embeddings::parse_response(&body, texts.len())?;
                let Some(got) = embeddings.vectors.first().map(Vec::len) else { return Ok(embeddings) };
                let own = *self.dimensions.get_or_init(|| got);
                if got != own {
                    return Err(Error::data(format!(
                        "read embeddings from the upstream: vectors have {got} dimensions, not {own}"
                    )));
                }
                Ok(embeddings)
            };
            self.caller.whole(body, parse).await
        }
        .boxed()
    }
}
