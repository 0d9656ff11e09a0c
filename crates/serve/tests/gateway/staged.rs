//! A remote model that streams a provider's own chunks and can break off, hang or wait.

use crate::support::LARGE;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use understudy_core::{
    Answer, AnswerStream, Backend, Capabilities, Error, Event, ModelName, Place, Request, Result, Usage,
};

/// What a [`Staged`] model does after its pieces.
#[derive(Clone)]
pub(crate) enum Then {
    /// Ends the answer.
    End,
    /// Breaks off.
    Break,
    /// Stays silent.
    Hang,
    /// Ends the answer once told to.
    Wait(Arc<tokio::sync::Semaphore>),
}

/// A remote model that streams a provider's chunks, and tells whether it was stopped before its end.
pub(crate) struct Staged {
    name: ModelName,
    capabilities: Capabilities,
    chunks: Vec<(String, String)>,
    then: Then,
    asked: AtomicUsize,
    dropped: Arc<AtomicUsize>,
}

impl Staged {
    pub(crate) fn new(texts: &[&str], then: Then) -> Arc<Self> {
        let chunks = texts.iter().enumerate().map(|(n, text)| ((*text).to_owned(), provider_chunk(n, text))).collect();
        let capabilities = Capabilities {
            place: Place::Remote,
            context_tokens: None,
            multimodal: true,
            tools: true,
            many_choices: true,
            languages: Vec::new(),
        };
        Arc::new(Self {
            name: LARGE.into(),
            capabilities,
            chunks,
            then,
            asked: AtomicUsize::new(0),
            dropped: Arc::default(),
        })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How often it was stopped while it still worked.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    fn working(&self) -> Working {
        Working { done: false, dropped: self.dropped.clone() }
    }

    fn whole(&self) -> Answer {
        let text: String = self.chunks.iter().map(|(text, _)| text.as_str()).collect();
        Answer::text(LARGE.into(), text, Usage { input_tokens: 5, output_tokens: 2, ..Usage::default() })
    }
}

/// A chunk as no writer of ours would write it: order of fields, white space and fields of the provider's own.
pub(crate) fn provider_chunk(n: usize, text: &str) -> String {
    format!(
        r#"{{ "choices":[{{"delta":{{"content":"{text}"}},"finish_reason":null}}],  "x_provider": {n}, "id":"up" }}"#
    )
}

/// The provider's last chunk.
pub(crate) const FINISH: &str = r#"{"choices":[{"delta":{}, "finish_reason" : "stop"}]}"#;

/// Notes when it is dropped before the end.
struct Working {
    done: bool,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.done {
            self.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Then {
    async fn play(self, mut working: Working, answer: Answer) -> Result<Answer> {
        let end = match self {
            Self::End => Ok(answer),
            Self::Break => Err(Error::unavailable("read the stream: it broke off")),
            Self::Hang => std::future::pending().await,
            Self::Wait(told) => {
                told.acquire().await.expect("never closed").forget();
                Ok(answer)
            }
        };
        working.done = true;
        end
    }
}

impl Backend for Staged {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn answer<'a>(&'a self, _: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.then.clone().play(self.working(), self.whole()).boxed()
    }

    fn stream<'a>(&'a self, _: &'a Request) -> BoxFuture<'a, Result<AnswerStream>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let end = self.then.clone().play(self.working(), self.whole());
        let chunks = self.chunks.clone().into_iter();
        let pieces = stream::iter(chunks.map(|(text, wire)| Ok(Event::Delta { text, wire: Some(wire.into()) })));
        let end = end.into_stream().flat_map(|end| {
            let last = |answer| {
                let finish = Event::Delta { text: String::new(), wire: Some(FINISH.into()) };
                [Ok(finish), Ok(Event::End(Box::new(answer)))]
            };
            stream::iter(end.map_or_else(|error| vec![Err(error)], |answer| last(answer).into()))
        });
        async move { Ok(pieces.chain(end).boxed()) }.boxed()
    }
}
