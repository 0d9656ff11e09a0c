//! The client's side of a request: its head goes out once, then a stream's pieces; and whether anybody still listens.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use understudy_core::{Answer, Confidence, Error, ModelName, Money, Result, TaskName, TraceId};
use understudy_store::Route;

/// Pieces of a stream that may wait for a slow client before its upstream has to.
const STREAM_BUFFER: usize = 64;

/// What the response headers say.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) trace: TraceId,
    pub(crate) task: Option<TaskName>,
    pub(crate) route: Route,
    pub(crate) model: Option<ModelName>,
    pub(crate) confidence: Option<Confidence>,
    /// Unknown while a stream runs, and when a model has no known price.
    pub(crate) cost: Option<Money>,
}

/// The head of a reply.
pub(crate) enum Reply {
    /// The whole answer.
    Whole(Box<Answer>, Meta),
    /// An answer that comes piece by piece.
    Stream(mpsc::Receiver<Item>, Meta),
    /// An error.
    Failed(Error, Meta),
}

/// A piece of a stream. `End` and `Failed` come after the trace was committed.
pub(crate) enum Item {
    Delta { text: String, wire: Option<Bytes> },
    End(Box<Answer>),
    Failed(Error),
}

/// Where a request's answer goes.
pub(crate) struct Client {
    head: Option<oneshot::Sender<Result<Reply>>>,
    stream: Option<mpsc::Sender<Item>>,
}

impl Client {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<Reply>>) {
        let (head, receiver) = oneshot::channel();
        (Self { head: Some(head), stream: None }, receiver)
    }

    /// Resolves when the client has left.
    pub(crate) async fn left(&mut self) {
        match (&mut self.head, &self.stream) {
            (Some(head), _) => head.closed().await,
            (None, Some(stream)) => stream.closed().await,
            (None, None) => std::future::pending().await,
        }
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.stream.is_some()
    }

    /// Sends the head of a stream.
    pub(crate) fn begin(&mut self, meta: Meta) {
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
        self.stream = Some(sender);
        self.send_head(Reply::Stream(receiver, meta));
    }

    /// Sends a piece; `Err` when the client has left. Waits for a slow client, which slows the upstream down.
    pub(crate) async fn send(&self, item: Item) -> std::result::Result<(), ()> {
        match &self.stream {
            Some(stream) => stream.send(item).await.map_err(|_| ()),
            None => Err(()),
        }
    }

    /// Hands over the end of an answer. A client that has left meanwhile misses it.
    pub(crate) fn finish(&mut self, answer: Answer, meta: Meta) {
        match self.stream.take() {
            Some(stream) => send_last(stream, Item::End(Box::new(answer))),
            None => self.send_head(Reply::Whole(Box::new(answer), meta)),
        }
    }

    /// Hands over an error.
    pub(crate) fn fail(&mut self, error: Error, meta: Meta) {
        match self.stream.take() {
            Some(stream) => send_last(stream, Item::Failed(error)),
            None => self.send_head(Reply::Failed(error, meta)),
        }
    }

    fn send_head(&mut self, reply: Reply) {
        if let Some(head) = self.head.take() {
            // A client that left misses its answer; its trace is committed.
            drop(head.send(Ok(reply)));
        }
    }
}

/// Sends the last piece without holding up the request's task: a slow client empties its buffer in its own time.
fn send_last(stream: mpsc::Sender<Item>, item: Item) {
    if let Err(mpsc::error::TrySendError::Full(item)) = stream.try_send(item) {
        tokio::spawn(async move { drop(stream.send(item).await) });
    }
}
