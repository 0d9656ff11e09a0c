//! Events do not depend on how the bytes are cut, and encoding the data again gives the same data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_wire::sse::{self, Decoder, Event};

/// Small, so that the limit is reached.
const LIMIT: usize = 256;

fn drain(decoder: &mut Decoder, events: &mut Vec<Event>) -> bool {
    loop {
        match decoder.next_event() {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// The events, and whether one was larger than `limit`.
fn decode<'a>(limit: usize, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Event>, bool) {
    let (mut decoder, mut events) = (Decoder::with_limit(limit), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        drain(&mut decoder, &mut events);
    }
    decoder.finish();
    let failed = drain(&mut decoder, &mut events);
    (events, failed)
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    let whole = decode(LIMIT, [data].into_iter());
    assert_eq!(decode(LIMIT, data.chunks(usize::from(size).max(1))), whole);
    for event in whole.0 {
        // Encoding adds field names, so the event may grow past the limit.
        let again = decode(1 << 20, [&sse::encode_data(&event.data)[..]].into_iter()).0;
        assert!(again.len() == 1 && again[0].data == event.data);
    }
});
