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
    /// The provider's last chunks, from the one with the finish reason on. They wait for the trace's commit: to some
    /// clients they are the end.
    held: Vec<Item>,
}

impl Client {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<Reply>>) {
        let (head, receiver) = oneshot::channel();
        (Self { head: Some(head), stream: None, held: Vec::new() }, receiver)
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
    pub(crate) async fn send(&mut self, item: Item) -> std::result::Result<(), ()> {
        let Some(stream) = &self.stream else { return Err(()) };
        if !self.held.is_empty() || item.finishes() {
            self.held.push(item);
            return Ok(());
        }
        stream.send(item).await.map_err(|_| ())
    }

    /// Hands over the end of an answer. A client that has left meanwhile misses it.
    pub(crate) fn finish(&mut self, answer: Answer, meta: Meta) {
        match self.stream.take() {
            Some(stream) => {
                let mut last = std::mem::take(&mut self.held);
                last.push(Item::End(Box::new(answer)));
                send_last(stream, last);
            }
            None => self.send_head(Reply::Whole(Box::new(answer), meta)),
        }
    }

    /// Hands over an error.
    pub(crate) fn fail(&mut self, error: Error, meta: Meta) {
        match self.stream.take() {
            Some(stream) => send_last(stream, vec![Item::Failed(error)]),
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

impl Item {
    /// Whether it is a provider's chunk with a finish reason. Inside a JSON string the quotes would be escaped, so the
    /// key is only found where it is one.
    fn finishes(&self) -> bool {
        const KEY: &[u8] = br#""finish_reason""#;
        let Self::Delta { wire: Some(wire), .. } = self else { return false };
        wire.windows(KEY.len()).enumerate().filter(|(_, found)| *found == KEY).any(|(at, _)| {
            let value = wire[at + KEY.len()..].trim_ascii_start().strip_prefix(b":");
            value.is_some_and(|value| value.trim_ascii_start().starts_with(b"\""))
        })
    }
}

/// Sends the last pieces without holding up the request's task: a slow client empties its buffer in its own time.
fn send_last(stream: mpsc::Sender<Item>, items: Vec<Item>) {
    let mut items = items.into_iter();
    while let Some(item) = items.next() {
        if let Err(mpsc::error::TrySendError::Full(item)) = stream.try_send(item) {
            tokio::spawn(async move {
                for item in std::iter::once(item).chain(items) {
                    if stream.send(item).await.is_err() {
                        return;
                    }
                }
            });
            return;
        }
    }
}
