//! Any stream of events ends in an answer or an error, and an answer needs a sign that it is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_wire::{
    openai::chat::{ChunkReader, ChunkWriter, IncludeUsage, Rendering, Step},
    sse::Decoder,
};

fuzz_target!(|data: &[u8]| {
    let (mut decoder, mut reader) = (Decoder::default(), ChunkReader::new("m".into()));
    decoder.push(data);
    decoder.finish();
    let mut text = String::new();
    while let Ok(Some(event)) = decoder.next_event() {
        match reader.push(event.data) {
            Ok(Step::Delta { text: more, .. }) => text.push_str(&more),
            Ok(Step::Usage { .. } | Step::Done) => {}
            Err(_) => return,
        }
    }
    let complete = reader.is_complete();
    let Ok(answer) = reader.finish() else { return };
    assert!(complete && answer.text == text);
    let rendering = Rendering { id: "i", created_s: 0, model: "m" };
    let stream = ChunkWriter::new(&rendering, IncludeUsage::Yes).whole(&answer);
    let (mut decoder, mut reader) = (Decoder::default(), ChunkReader::new("m".into()));
    decoder.push(&stream);
    while let Ok(Some(event)) = decoder.next_event() {
        reader.push(event.data).expect("our own chunk");
    }
    let again = reader.finish().expect("our own stream");
    assert_eq!((again.text, again.finish), (answer.text, answer.finish));
});
