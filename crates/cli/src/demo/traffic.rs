//! The demo's application: sends texts as chat completions over real HTTP, as any client of an LLM API would.

use super::data::Item;
use futures_util::{StreamExt, stream};
use indicatif::ProgressBar;
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use understudy_core::{Clock, Error, Result, TraceId};

/// What came back for one item.
#[derive(Debug, Clone)]
pub(super) struct Received {
    /// Position in the sequence of items that were sent.
    pub(super) index: usize,
    pub(super) trace: TraceId,
    /// The answer's text.
    pub(super) text: String,
    /// `local`, `escalated` or `large`, from the response header.
    pub(super) route: String,
    /// From sending the request to the last byte.
    pub(super) latency: Duration,
}

/// How to ask.
pub(super) struct Application<'a> {
    pub(super) address: SocketAddr,
    pub(super) model: &'a str,
    pub(super) system: &'a str,
    pub(super) http: reqwest::Client,
    pub(super) clock: &'a dyn Clock,
}

/// The user message around a text; the task's input rule takes the text out again.
pub(super) fn message(text: &str) -> String {
    format!("Classify this text.\n{OPEN}\n{text}\n{CLOSE}")
}

/// Marks the beginning of the text in a message.
pub(super) const OPEN: &str = "<text>";
/// Marks its end.
pub(super) const CLOSE: &str = "</text>";

impl Application<'_> {
    /// Sends the items with at most `concurrency` open at a time, in order, and returns what came back in the order
    /// of the items.
    ///
    /// # Errors
    /// The first request that fails, with what the gateway said.
    pub(super) async fn send(&self, items: &[Item], concurrency: usize, bar: &ProgressBar) -> Result<Vec<Received>> {
        let mut received: Vec<Received> = stream::iter(items.iter().enumerate())
            .map(|(index, item)| async move {
                let received = self.ask(index, item).await;
                bar.inc(1);
                received
            })
            .buffer_unordered(concurrency)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<Result<_>>()?;
        received.sort_by_key(|r| r.index);
        Ok(received)
    }

    async fn ask(&self, index: usize, item: &Item) -> Result<Received> {
        let body = json!({
            "model": self.model,
            "messages": [
                { "role": "system", "content": self.system },
                { "role": "user", "content": message(&item.text) },
            ],
        });
        let failed = |what: String| Error::unavailable(format!("send item {} to the gateway: {what}", item.id));
        let began = self.clock.monotonic();
        let response = self
            .http
            .post(format!("http://{}/v1/chat/completions", self.address))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .map_err(|e| failed(e.to_string()))?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (trace, route, status) = (header("x-understudy-trace"), header("x-understudy-route"), response.status());
        let bytes = response.bytes().await.map_err(|e| failed(e.to_string()))?;
        let latency = self.clock.monotonic().saturating_sub(began);
        let answer: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
        if !status.is_success() {
            let why = answer["error"]["message"].as_str().unwrap_or("no reason given");
            return Err(failed(format!("it answered {status}: {why}")));
        }
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
        Ok(Received { index, trace: TraceId::parse(&trace)?, text, route, latency })
    }
}
