//! A model that does what a test says.

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use understudy_core::{
    Answer, AnswerStream, Backend, Capabilities, Error, Event, ModelName, Place, Request, Result, Usage,
};

/// What happens when the model is asked.
#[derive(Debug, Clone)]
pub struct Play {
    /// Silence before anything else.
    pub delay: Duration,
    /// Pieces of a stream before its end. Not part of a whole answer.
    pub pieces: Vec<String>,
    /// How it ends.
    pub end: Result<Answer>,
}

impl Play {
    /// Answers at once with this text, streamed word by word.
    #[must_use]
    pub fn text(model: &ModelName, text: &str) -> Self {
        let usage = Usage { input_tokens: 1, output_tokens: 1, ..Usage::default() };
        let pieces = text.split_inclusive(' ').map(str::to_owned).collect();
        Self { delay: Duration::ZERO, pieces, end: Ok(Answer::text(model.clone(), text, usage)) }
    }

    /// Fails at once.
    #[must_use]
    pub fn fail(error: Error) -> Self {
        Self { delay: Duration::ZERO, pieces: Vec::new(), end: Err(error) }
    }

    /// The same after a silence.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Script = dyn Fn(&Request, usize) -> Play + Send + Sync;

/// A model whose every answer is computed by a closure from the request and the number of calls before it.
pub struct Scripted {
    name: ModelName,
    capabilities: Capabilities,
    script: Box<Script>,
    calls: AtomicUsize,
}

impl Scripted {
    /// A model at `place` that takes texts of any length.
    pub fn new(name: &str, place: Place, script: impl Fn(&Request, usize) -> Play + Send + Sync + 'static) -> Self {
        let capabilities = Capabilities::of_text(place);
        Self { name: name.into(), capabilities, script: Box::new(script), calls: AtomicUsize::new(0) }
    }

    /// The same with other capabilities.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// How often it was asked.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn play(&self, request: &Request) -> Play {
        (self.script)(request, self.calls.fetch_add(1, Ordering::SeqCst))
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Backend for Scripted {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        let play = self.play(request);
        async move {
            tokio::time::sleep(play.delay).await;
            play.end
        }
        .boxed()
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<AnswerStream>> {
        let play = self.play(request);
        async move {
            tokio::time::sleep(play.delay).await;
            // An error before the first piece is an answer that never began.
            if play.pieces.is_empty() && play.end.is_err() {
                return play.end.map(|_| stream::empty().boxed());
            }
            let pieces = play.pieces.into_iter().map(|text| Ok(Event::Delta { text, wire: None }));
            let end = play.end.map(|answer| Event::End(Box::new(answer)));
            Ok(stream::iter(pieces.chain([end])).boxed())
        }
        .boxed()
    }
}
