//! A streamed answer: bytes from the server turned into events, with a watch on silence and on streams that break off.

use super::{
    call::{self, OpenStream},
    with_input_estimate,
};
use crate::http::describe;
use bytes::Bytes;
use futures_util::{
    FutureExt, Stream, StreamExt,
    stream::{self, BoxStream},
};
use understudy_core::{Answer, Error, ErrorKind, Event, ModelName, Result};
use understudy_wire::{
    openai::chat::{self, ChunkReader, IncludeUsage, Step},
    sse::Decoder,
};

/// Largest answer of a server that does not stream although it was asked to.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The events of an answer. Dropping the stream closes the connection. Token counts that the client did not ask for are
/// read and not shown.
pub(super) fn events(
    open: OpenStream,
    name: ModelName,
    shown: IncludeUsage,
    input_bytes: usize,
) -> impl Stream<Item = Result<Event>> + Send + 'static {
    if open.is_event_stream {
        let OpenStream { response, idle, report, context, secrets, .. } = open;
        let reading = Reading {
            bytes: response.bytes_stream().boxed(),
            decoder: Decoder::default(),
            reader: Some(ChunkReader::new(name)),
            ended: false,
            shown,
            input_bytes,
            idle,
            report,
        };
        return stream::unfold(Some(reading), move |reading| {
            let (context, secrets) = (context.clone(), secrets.clone());
            async move {
                let mut reading = reading?;
                match reading.next().await {
                    Ok(Some(event)) => Some((Ok(event), Some(reading))),
                    Ok(None) => None,
                    Err(e) => {
                        // Whatever went wrong inside a stream, the server did not deliver.
                        reading.report.failed();
                        Some((Err(call::scrub(e, &secrets).context(&context)), None))
                    }
                }
            }
        })
        .boxed();
    }
    whole_as_stream(open, name, input_bytes)
}

/// A server that ignored `stream` and sends the answer as one JSON document.
fn whole_as_stream(mut open: OpenStream, name: ModelName, input_bytes: usize) -> BoxStream<'static, Result<Event>> {
    let answer = async move {
        let body = tokio::time::timeout(open.idle, call::read(&mut open.response, MAX_BODY_BYTES))
            .await
            .unwrap_or_else(|_| Err(silent(open.idle)));
        let answer = body.and_then(|body| chat::parse_response(body, &name));
        match answer {
            Ok(answer) => {
                let answer = with_input_estimate(Answer { wire: None, ..answer }, input_bytes);
                let delta = Event::Delta { text: answer.text.clone(), wire: None };
                vec![Ok(delta), Ok(Event::End(Box::new(answer)))]
            }
            Err(e) => vec![Err(call::scrub(e, &open.secrets).context(&open.context))],
        }
    };
    answer.into_stream().flat_map(stream::iter).boxed()
}

struct Reading {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: Decoder,
    /// `None` once the answer is complete.
    reader: Option<ChunkReader>,
    ended: bool,
    shown: IncludeUsage,
    input_bytes: usize,
    idle: std::time::Duration,
    report: call::Report,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            while let Some(event) = self.decoder.next_event()? {
                match reader.push(event.data) {
                    Ok(Step::Delta { wire, .. }) if wire.is_empty() => {}
                    Ok(Step::Delta { text, wire }) => return Ok(Some(Event::Delta { text, wire: Some(wire) })),
                    Ok(Step::Usage { wire }) if self.shown == IncludeUsage::Yes => {
                        return Ok(Some(Event::Delta { text: String::new(), wire: Some(wire) }));
                    }
                    Ok(Step::Usage { .. }) => {}
                    Ok(Step::Done) => {
                        // Usually only the end of the body is left; reading it lets the connection be used again.
                        let _ = self.bytes.next().now_or_never();
                        return self.finish().map(Some);
                    }
                    // The last event lacks its end: half a chunk, not a malformed one.
                    Err(e) if self.ended && e.kind() == ErrorKind::Data => break,
                    Err(e) => return Err(e),
                }
            }
            if self.ended {
                return self.finish().map(Some);
            }
            match tokio::time::timeout(self.idle, self.bytes.next()).await {
                Err(_) => return Err(silent(self.idle)),
                Ok(Some(Ok(bytes))) => self.decoder.push(&bytes),
                Ok(None) => {
                    self.decoder.finish();
                    self.ended = true;
                }
                // Some servers cut the connection instead of ending the body. What matters is whether the answer is.
                Ok(Some(Err(_))) if reader.is_complete() => self.ended = true,
                Ok(Some(Err(e))) => {
                    return Err(Error::unavailable(format!("the stream broke off: {}", describe(&e))));
                }
            }
        }
    }

    fn finish(&mut self) -> Result<Event> {
        let reader = self.reader.take().expect("the stream is finished once");
        Ok(Event::End(Box::new(with_input_estimate(reader.finish()?, self.input_bytes))))
    }
}

fn silent(idle: std::time::Duration) -> Error {
    Error::new(ErrorKind::Deadline, format!("it was silent for {idle:?} in the middle of a stream"))
}
