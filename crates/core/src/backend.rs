//! The seam between the cascade and whatever answers: a model in this process, an upstream over HTTP, a recording.

use crate::{Answer, ModelName, Request, Result};
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt},
};

/// Where a model runs, which decides whether data leaves the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Local,
    /// Over the network.
    Remote,
}

/// What a model can take; the hard constraints of routing are checked against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// Where it runs.
    pub place: Place,
    /// Longest input in tokens; `None` when unknown. A classifier that reads only the head of a text has `None`: it
    /// answers any length, and its certificate covers what the cut does to quality.
    pub context_tokens: Option<u32>,
    /// Takes images, audio or files.
    pub multimodal: bool,
    /// Takes tools.
    pub tools: bool,
    /// Can give several choices.
    pub many_choices: bool,
    /// Languages it was made for (ISO 639-1); empty means no limit.
    pub languages: Vec<String>,
}

impl Capabilities {
    /// Of a model that reads texts of any length and language, and nothing else.
    #[must_use]
    pub fn of_text(place: Place) -> Self {
        Self {
            place,
            context_tokens: None,
            multimodal: false,
            tools: false,
            many_choices: false,
            languages: Vec::new(),
        }
    }
}

/// A piece of a streamed answer.
#[derive(Debug, Clone)]
pub enum Event {
    /// More text. `wire` is the provider's own JSON chunk, to be passed on unchanged; chunks without text (tool
    /// calls, roles) have an empty `text`.
    Delta {
        /// The new text.
        text: String,
        /// The chunk in the provider's JSON.
        wire: Option<Bytes>,
    },
    /// The end, with the whole answer. A stream that ends without it broke off.
    End(Box<Answer>),
}

/// A streamed answer. Dropping it cancels the work behind it.
pub type AnswerStream = BoxStream<'static, Result<Event>>;

/// Answers requests.
///
/// Dropping a returned future or stream cancels the work. Implementations never log secrets or texts.
pub trait Backend: Send + Sync {
    /// The name by which plans ask for it.
    fn name(&self) -> &ModelName;

    /// What it can take.
    fn capabilities(&self) -> &Capabilities;

    /// The whole answer.
    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>>;

    /// The answer piece by piece. By default the whole answer as one piece.
    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<AnswerStream>> {
        self.answer(request)
            .map(|answer| {
                let answer = answer?;
                let delta = Event::Delta { text: answer.text.clone(), wire: None };
                Ok(stream::iter([Ok(delta), Ok(Event::End(Box::new(answer)))]).boxed())
            })
            .boxed()
    }
}

/// Turns texts into vectors.
pub trait Embedder: Send + Sync {
    /// The name by which clients ask for it.
    fn name(&self) -> &ModelName;

    /// Length of each vector.
    fn dimensions(&self) -> usize;

    /// One unit-length vector per text, in order, and the number of tokens read.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Embeddings>>;
}

/// Vectors for a batch of texts.
#[derive(Debug, Clone, Default)]
pub struct Embeddings {
    /// One vector per text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens read, over all texts.
    pub tokens: u64,
}
