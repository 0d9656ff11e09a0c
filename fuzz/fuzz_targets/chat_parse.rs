//! A request that parses can be forwarded, and what is forwarded is the same request with another model name.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use understudy_core::{Request, Result, TraceId, request::Delivery};
use understudy_wire::openai::{
    chat::{self, IncludeUsage, UsageChunk},
    embeddings, feedback,
};

fn parse(body: Bytes) -> Result<Request> {
    chat::parse(body, TraceId::from_parts(0, 0), BTreeMap::new())
}

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    let _ = (feedback::parse(&body), embeddings::parse(&body), embeddings::parse_response(&body, 2));
    let _ = chat::parse_response(body.clone(), &"m".into());
    let Ok(mut request) = parse(body) else { return };
    for delivery in [request.delivery, Delivery::Stream, Delivery::Whole] {
        request.delivery = delivery;
        let sent = chat::upstream_body(&request, "up", UsageChunk::Ensure).expect("a valid body can be forwarded");
        let again = parse(sent).expect("a forwarded body is valid");
        assert_eq!(again.model.as_str(), "up");
        assert_eq!(
            (&again.messages, &again.sampling, &again.metadata),
            (&request.messages, &request.sampling, &request.metadata)
        );
        assert_eq!(again.delivery, delivery);
        assert_eq!(IncludeUsage::of(&again) == IncludeUsage::Yes, delivery == Delivery::Stream);
    }
});
