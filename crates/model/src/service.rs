//! One encoder, one queue, several worker threads.
//!
//! A worker that is free takes what waits at the head of the queue, up to a number of tokens, and starts at once:
//! nobody sleeps to fill a batch. The kernels need no padding, so texts of any lengths batch together without loss;
//! within a batch the short ones go first, and each client has its answer as soon as its own part is done. A text whose
//! client has left (the future was dropped) costs nothing. Tokenising happens on the workers too: it takes about 1.5 %
//! of the time of embedding, but half a millisecond for a long text, which an async runtime must not wait for.

pub use crate::encoder::WordStates;
use crate::encoder::{Encoder, Scratch};
use crate::tokens::Tokens;
use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use understudy_core::backend::Embeddings;
use understudy_core::{Embedder, Error, ErrorKind, ModelName, Result};

/// How to run an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Worker threads, at least one; each keeps one core busy.
    pub threads: usize,
    /// A worker takes texts up to about this many tokens at a time (always at least one text).
    pub max_batch_tokens: usize,
    /// Texts that may wait. A request that would exceed it is refused, unless nothing waits.
    pub queue_capacity: usize,
}

impl Default for ServiceOptions {
    /// One thread per core, small batches (bigger ones gain nothing on a CPU and cost latency), a few seconds' queue.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { threads, max_batch_tokens: 256, queue_capacity: 4096 }
    }
}

/// One text's embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Unit-length vector.
    pub vector: Vec<f32>,
    /// Tokens read, special ones included.
    pub tokens: usize,
    /// True when the text went on after what was read.
    pub truncated: bool,
}

/// A running encoder. Dropping it stops the workers and waits until they have finished what they are at. Everybody who
/// waits for an answer borrows it, so nobody waits for what is queued then, and it is skipped.
pub struct EncoderService {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    encoder: Encoder,
    options: ServiceOptions,
    queue: Mutex<Queue>,
    /// Signalled when a text arrives or the service stops.
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    stopped: bool,
}

/// One text with the client that waits for it.
struct Job {
    text: String,
    reply: Reply,
}

/// What a client waits for.
enum Reply {
    /// The text's vector.
    Vector(oneshot::Sender<Result<Embedded>>),
    /// The states of its words.
    Words(oneshot::Sender<Result<WordStates>>),
}

impl Reply {
    fn is_closed(&self) -> bool {
        match self {
            Self::Vector(reply) => reply.is_closed(),
            Self::Words(reply) => reply.is_closed(),
        }
    }
}

impl EncoderService {
    /// Starts the workers.
    ///
    /// # Panics
    /// When the system refuses to start a thread.
    #[must_use]
    pub fn start(encoder: Encoder, options: ServiceOptions) -> Self {
        let shared =
            Arc::new(Shared { encoder, options, queue: Mutex::new(Queue::default()), arrived: Condvar::new() });
        let start = |i: usize| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("encoder-{i}"));
            thread.spawn(move || shared.work()).expect("the system starts a thread")
        };
        let workers = (0..options.threads.max(1)).map(start).collect();
        Self { shared, workers }
    }

    /// The encoder behind it.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.shared.encoder
    }

    /// Embeds one text. Dropping the future takes the text off the queue.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `Data` when the text cannot be tokenised.
    pub async fn embed_one(&self, text: String) -> Result<Embedded> {
        let mut replies = self.submit(vec![text])?;
        receive(replies.pop().expect("one text, one reply")).await
    }

    /// Puts texts on the queue, all or none.
    fn submit(&self, texts: Vec<String>) -> Result<Vec<oneshot::Receiver<Result<Embedded>>>> {
        let (jobs, replies): (Vec<Job>, Vec<_>) = texts
            .into_iter()
            .map(|text| {
                let (reply, receiver) = oneshot::channel();
                (Job { text, reply: Reply::Vector(reply) }, receiver)
            })
            .unzip();
        self.enqueue(jobs)?;
        Ok(replies)
    }

    /// Reads the words of one text, however long. Dropping the future takes the text off the queue.
    ///
    /// # Errors
    /// As [`EncoderService::embed_one`].
    pub async fn read_words(&self, text: String) -> Result<WordStates> {
        let (reply, receiver) = oneshot::channel();
        self.enqueue(vec![Job { text, reply: Reply::Words(reply) }])?;
        receive(receiver).await
    }

    fn enqueue(&self, jobs: Vec<Job>) -> Result<()> {
        let count = jobs.len();
        {
            let mut queue = self.shared.lock();
            let waiting = queue.waiting.len();
            if waiting > 0 && waiting + count > self.shared.options.queue_capacity {
                let name = self.shared.encoder.name();
                let message = format!("embed with {name}: {waiting} texts are waiting already; try again in a moment");
                return Err(Error::new(ErrorKind::Overloaded, message).with_retry_after(1));
            }
            queue.waiting.extend(jobs);
        }
        if count == 1 {
            self.shared.arrived.notify_one();
        } else {
            self.shared.arrived.notify_all();
        }
        Ok(())
    }
}

impl Drop for EncoderService {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.arrived.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its work; one that ended otherwise has nothing left to report.
            drop(worker.join());
        }
    }
}

impl Embedder for EncoderService {
    fn name(&self) -> &ModelName {
        self.shared.encoder.name()
    }

    fn dimensions(&self) -> usize {
        self.shared.encoder.dimensions()
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Embeddings>> {
        async move {
            let replies = self.submit(texts)?;
            let all = try_join_all(replies.into_iter().map(receive)).await?;
            let tokens = all.iter().map(|one| one.tokens as u64).sum();
            Ok(Embeddings { vectors: all.into_iter().map(|one| one.vector).collect(), tokens })
        }
        .boxed()
    }
}

async fn receive<T>(reply: oneshot::Receiver<Result<T>>) -> Result<T> {
    reply.await.unwrap_or_else(|_| Err(Error::unavailable("embed text: the encoder was stopped meanwhile")))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements that hold the lock, so a panic elsewhere does not spoil it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's life.
    fn work(&self) {
        let mut scratch = Scratch::default();
        while let Some(jobs) = self.take() {
            let mut texts = self.tokenize(jobs, &mut scratch);
            texts.sort_by_key(|(tokens, _)| tokens.len());
            while !texts.is_empty() {
                // The lists are short: the front of the sorted list is drained a chunk at a time.
                texts.retain(|(_, reply)| !reply.is_closed());
                let n = chunk_len(&texts);
                let (tokens, replies): (Vec<Tokens>, Vec<_>) = texts.drain(..n).unzip();
                self.answer(&tokens, replies, &mut scratch);
            }
        }
    }

    /// Waits for texts and takes them from the head of the queue; `None` when the service has stopped.
    fn take(&self) -> Option<Vec<Job>> {
        let mut queue = self.lock();
        loop {
            let mut jobs = Vec::new();
            let mut tokens = 0;
            while let Some(job) = queue.waiting.front() {
                // Words and word pieces average four bytes or more; an estimate will do for the share to take.
                tokens += (job.text.len() / 4 + 2).min(self.encoder.max_tokens() * self.encoder.windows());
                if !jobs.is_empty() && tokens > self.options.max_batch_tokens {
                    break;
                }
                jobs.extend(queue.waiting.pop_front());
            }
            if !jobs.is_empty() {
                return Some(jobs);
            }
            if queue.stopped {
                return None;
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tokenises the texts whose vectors are wanted; the others, which have windows of their own, are answered at once.
    fn tokenize(&self, jobs: Vec<Job>, scratch: &mut Scratch) -> Vec<(Tokens, oneshot::Sender<Result<Embedded>>)> {
        let mut texts = Vec::with_capacity(jobs.len());
        for job in jobs.into_iter().filter(|job| !job.reply.is_closed()) {
            match job.reply {
                Reply::Vector(reply) => match guarded(|| self.encoder.tokenize(&job.text)).and_then(|tokens| tokens) {
                    Ok(tokens) => texts.push((tokens, reply)),
                    // The client may have left in between; then nobody wants to know.
                    Err(e) => drop(reply.send(Err(e))),
                },
                Reply::Words(reply) => {
                    let wanted = || !reply.is_closed();
                    let read = guarded(|| self.encoder.read_words_while(&job.text, scratch, wanted));
                    if read.is_err() {
                        *scratch = Scratch::default();
                    }
                    drop(reply.send(read.and_then(|read| read)));
                }
            }
        }
        texts
    }

    fn answer(&self, texts: &[Tokens], replies: Vec<oneshot::Sender<Result<Embedded>>>, scratch: &mut Scratch) {
        match guarded(|| self.encoder.embed(texts, scratch)) {
            Ok(vectors) => {
                for ((text, vector), reply) in texts.iter().zip(vectors).zip(replies) {
                    let embedded = Embedded { vector, tokens: text.len(), truncated: text.truncated() };
                    drop(reply.send(Ok(embedded)));
                }
            }
            Err(error) => {
                *scratch = Scratch::default();
                for reply in replies {
                    drop(reply.send(Err(error.clone())));
                }
            }
        }
    }
}

/// Runs a part of a worker's work. A fault of ours must not take the worker, and with it all later requests, down.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T> {
    let fault = |_| Error::internal("read a text: the encoder met a fault; please report it");
    catch_unwind(AssertUnwindSafe(work)).map_err(fault)
}

/// How many of the first texts are embedded before their clients are answered: what the encoder works on together.
fn chunk_len<T>(texts: &[(Tokens, T)]) -> usize {
    crate::encoder::chunk_len(texts.iter().map(|(tokens, _)| tokens.len())).min(texts.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::EncoderOptions;
    use std::path::Path;

    fn encoder() -> Encoder {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder/bert");
        Encoder::load(Path::new(dir), &EncoderOptions::default()).unwrap()
    }

    fn service(threads: usize, queue_capacity: usize) -> EncoderService {
        EncoderService::start(encoder(), ServiceOptions { threads, max_batch_tokens: 64, queue_capacity })
    }

    fn texts(n: usize) -> Vec<String> {
        let words = ["red", "fish", "swims in", "the deep", "blue sea", "a bird"];
        (0..n).map(|i| (0..i % 13).map(|j| words[(i * j) % 6]).collect::<Vec<_>>().join(" ")).collect()
    }

    fn waiting(service: &EncoderService) -> usize {
        service.shared.lock().waiting.len()
    }

    #[test]
    fn a_fault_is_an_error_and_no_end() {
        let error = guarded(|| -> usize { panic!("a fault") }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(guarded(|| 1).unwrap(), 1);
    }

    #[tokio::test]
    async fn every_text_gets_its_own_vector_in_order() {
        let (texts, service) = (texts(200), service(2, 1000));
        let got = service.embed(texts.clone()).await.unwrap();
        let (encoder, mut scratch) = (encoder(), Scratch::default());
        let mut tokens = 0;
        for (text, got) in texts.iter().zip(&got.vectors) {
            let alone = encoder.tokenize(text).unwrap();
            tokens += alone.len() as u64;
            let want = &encoder.embed(&[alone], &mut scratch)[0];
            assert!(want.iter().zip(got).all(|(a, b)| (a - b).abs() < 1e-4));
        }
        assert_eq!((got.tokens, got.vectors.len()), (tokens, 200));
        assert!(service.embed(Vec::new()).await.unwrap().vectors.is_empty());
    }

    #[tokio::test]
    async fn concurrent_clients_are_all_answered() {
        let service = Arc::new(service(3, 100_000));
        let clients = texts(300).into_iter().map(|text| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.embed_one(text).await })
        });
        for client in clients.collect::<Vec<_>>() {
            let embedded = client.await.unwrap().unwrap();
            let length: f32 = embedded.vector.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-4);
        }
        assert_eq!(waiting(&service), 0);
    }

    /// A service without workers: what is queued stays queued, so that the queue itself can be looked at.
    fn idle(queue_capacity: usize) -> EncoderService {
        let options = ServiceOptions { threads: 0, max_batch_tokens: 64, queue_capacity };
        let queue = Mutex::new(Queue::default());
        let shared = Shared { encoder: encoder(), options, queue, arrived: Condvar::new() };
        EncoderService { shared: Arc::new(shared), workers: Vec::new() }
    }

    #[test]
    fn a_full_queue_refuses_but_one_large_request_on_an_empty_queue_passes() {
        let service = idle(10);
        let large = service.submit(texts(50)).unwrap();
        assert_eq!((large.len(), waiting(&service)), (50, 50));
        let error = service.submit(texts(1)).unwrap_err();
        assert_eq!((error.kind(), error.retry_after_s()), (ErrorKind::Overloaded, Some(1)));
    }

    #[test]
    fn texts_whose_client_has_left_are_dropped_before_any_work() {
        let service = idle(100);
        let mut replies = service.submit(texts(5)).unwrap();
        replies.drain(1..4);
        let jobs = service.shared.take().unwrap();
        assert_eq!((jobs.len(), service.shared.tokenize(jobs, &mut Scratch::default()).len()), (5, 2));
    }

    #[test]
    fn a_worker_takes_its_share_and_leaves_the_rest_to_others() {
        let service = idle(100);
        let long = "deep blue sea ".repeat(10);
        let replies = service.submit(vec![long; 6]).unwrap();
        assert_eq!((service.shared.take().unwrap().len(), waiting(&service), replies.len()), (1, 5, 6));
    }

    #[tokio::test]
    async fn stopping_ends_the_workers_and_tells_who_still_waits() {
        let mut replies = {
            let service = idle(10);
            service.submit(vec!["fish".into()]).unwrap()
        };
        let error = receive(replies.pop().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        drop(service(4, 10));
    }
}
