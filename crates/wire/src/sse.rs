//! Server-sent events (WHATWG HTML, section 9.2): a decoder that takes bytes as they arrive, and the encoder.
//!
//! The decoder works on bytes: a character split over two reads needs no care, and data leaves as it came.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use understudy_core::{Error, Result};

/// The event that ends a stream in OpenAI's protocol.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Largest event by default: an image in base64 fits, an endless line does not fill the memory.
pub const DEFAULT_LIMIT_BYTES: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's type, when the stream names one.
    pub name: Option<String>,
    /// All data lines, joined by newlines.
    pub data: Bytes,
}

/// Turns bytes into events, however they are cut. Lines end in LF, CR or CRLF; comments, `id` and `retry` are skipped;
/// a byte order mark at the start is dropped.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    line: Vec<u8>,
    data: BytesMut,
    has_data: bool,
    name: Option<String>,
    at_start: bool,
    after_cr: bool,
    too_long: bool,
    ready: VecDeque<Event>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limit(DEFAULT_LIMIT_BYTES)
    }
}

impl Decoder {
    /// A decoder that refuses events of more than `limit` bytes.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            data: BytesMut::new(),
            has_data: false,
            name: None,
            at_start: true,
            after_cr: false,
            too_long: false,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.too_long {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|&b| matches!(b, b'\n' | b'\r'));
            let (rest_of_line, ending) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + self.data.len() + rest_of_line.len() > self.limit {
                self.too_long = true;
                return;
            }
            self.line.extend_from_slice(rest_of_line);
            let Some(&terminator) = ending.first() else { return };
            self.after_cr = terminator == b'\r';
            bytes = &ending[1..];
            self.end_line();
        }
    }

    /// Takes the next whole event, if there is one.
    ///
    /// # Errors
    /// `Data` when an event is larger than the limit; nothing more comes after that.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        match self.ready.pop_front() {
            Some(event) => Ok(Some(event)),
            None if self.too_long => {
                Err(Error::data(format!("read an event stream: an event is larger than {} bytes", self.limit)))
            }
            None => Ok(None),
        }
    }

    /// Ends the stream: an event that only lacks its blank line still counts, because many servers omit the last one.
    /// Take it with [`Decoder::next_event`]. It may also be the first half of an event that broke off.
    pub fn finish(&mut self) {
        if !self.too_long {
            if !self.line.is_empty() {
                self.end_line();
            }
            self.dispatch();
        }
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        let from = if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        self.field(&line[from..]);
        // The allocation is kept for the next line.
        line.clear();
        self.line = line;
    }

    fn field(&mut self, line: &[u8]) {
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.put_u8(b'\n');
                }
                self.has_data = true;
                self.data.put_slice(value);
            }
            b"event" => self.name = Some(String::from_utf8_lossy(value).into_owned()),
            // Comments start with a colon; `id` and `retry` serve reconnection, which a completion does not have.
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let name = self.name.take();
        if std::mem::take(&mut self.has_data) {
            self.ready.push_back(Event { name, data: self.data.split().freeze() });
        }
    }
}

/// One event with this data. A line break in the data starts another `data:` line.
#[must_use]
pub fn encode_data(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 8);
    let mut lines = data;
    loop {
        let end = lines.iter().position(|&b| matches!(b, b'\n' | b'\r')).unwrap_or(lines.len());
        out.put_slice(b"data: ");
        out.put_slice(&lines[..end]);
        out.put_u8(b'\n');
        match &lines[end..] {
            [] => break,
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => lines = rest,
        }
    }
    out.put_u8(b'\n');
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]], limit: usize) -> (Vec<Event>, bool) {
        let (mut decoder, mut events) = (Decoder::with_limit(limit), Vec::new());
        let mut failed = false;
        let mut drain = |decoder: &mut Decoder| {
            loop {
                match decoder.next_event() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(_) => {
                        failed = true;
                        break;
                    }
                }
            }
        };
        for piece in pieces {
            decoder.push(piece);
            drain(&mut decoder);
        }
        decoder.finish();
        drain(&mut decoder);
        (events, failed)
    }

    fn data(text: &str) -> Vec<String> {
        let (events, failed) = decode(&[text.as_bytes()], 1000);
        assert!(!failed);
        events.iter().map(|e| String::from_utf8_lossy(&e.data).into_owned()).collect()
    }

    #[test]
    fn all_line_endings_comments_and_the_byte_order_mark_are_understood() {
        assert_eq!(data("data: a\n\ndata: b\r\n\r\ndata: c\r\rdata:d"), ["a", "b", "c", "d"]);
        assert_eq!(data("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(data(": keep-alive\n\nid: 1\nretry: 5\ndata: x\ndata:  y\ndata\n\n\n"), ["x\n y\n"]);
        assert_eq!(data("event: ping\n\ndata: z\n\n"), ["z"]);
        assert_eq!(data("data:\n\n"), [""]);
        let (events, _) = decode(&[b"event: error\ndata: {}\n\n"], 1000);
        assert_eq!(events[0].name.as_deref(), Some("error"));
    }

    #[test]
    fn an_endless_line_is_an_error_after_the_events_before_it() {
        let (events, failed) = decode(&[b"data: ok\n\n", &[b'x'; 200]], 100);
        assert_eq!((events.len(), failed), (1, true));
    }

    /// Text that is dense in what matters to the decoder.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = proptest::sample::select(vec![
            "data: ",
            "data:",
            "event: ",
            "\n",
            "\r",
            "\r\n",
            ": c",
            "\u{feff}",
            "é",
            "{\"a\":1}",
            "[DONE]",
            "id",
        ]);
        prop_oneof![
            proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..200),
        ]
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_bytes_are_cut(bytes in stream(), cuts in proptest::collection::vec(0usize..200, 0..8), limit in 5usize..300) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(decode(&pieces, limit), decode(&[&bytes], limit));
        }

        #[test]
        fn decode_inverts_encode(text in "[ -~\n\u{e9}]{0,80}") {
            let encoded = encode_data(text.as_bytes());
            let (events, _) = decode(&[&encoded], 1000);
            prop_assert_eq!(events, vec![Event { name: None, data: Bytes::from(text) }]);
        }
    }
}
