use super::*;
use crate::sse::Decoder;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use understudy_core::{
    Answer, Error, ErrorKind, FinishReason, ModelName, Request, Result, TokenLogprob, TraceId, Usage,
    request::{Delivery, OutputFormat},
};

fn read(json: &str) -> Result<Request> {
    parse(Bytes::copy_from_slice(json.as_bytes()), TraceId::from_parts(1, 2), BTreeMap::new())
}

/// A request with these fields beside model and messages.
fn with(fields: &str) -> Result<Request> {
    read(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#))
}

fn body(request: &Request, usage: UsageChunk) -> String {
    String::from_utf8(upstream_body(request, "up", usage).expect("a valid body").to_vec()).expect("JSON text")
}

#[test]
fn a_full_request_is_translated() {
    let request = read(
        r#"{"model":"auto:triage","messages":[
            {"role":"developer","content":"Be brief."},
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"b"}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1"}]},
            {"role":"tool","tool_call_id":"1","content":"42"}],
          "temperature":0.7,"top_p":0,"max_tokens":5,"max_completion_tokens":9,"seed":-1,"stop":["x",""],
          "logprobs":true,"top_logprobs":3,"frequency_penalty":-1,"presence_penalty":null,"n":2,"stream":true,
          "response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object"}}},
          "metadata":{"team":"mail"},"unknown":{"kept":[1]}}"#,
    )
    .expect("valid");
    let mut shown = request.clone();
    shown.wire = None;
    insta::assert_debug_snapshot!(shown);
}

#[test]
fn faults_name_the_field() {
    for (fields, param) in [
        (r#""messages":[]"#, "messages"),
        (r#""messages":7"#, "messages"),
        (r#""messages":[1]"#, "messages[0]"),
        (r#""messages":[{"content":"a"}]"#, "messages[0].role"),
        (r#""messages":[{"role":"king","content":"a"}]"#, "messages[0].role"),
        (r#""messages":[{"role":"user","content":"a"},{"role":"user"}]"#, "messages[1].content"),
        (r#""messages":[{"role":"user","content":{"a":1}}]"#, "messages[0].content"),
        (r#""messages":[{"role":"user","content":[{"type":"text"}]}]"#, "messages[0].content[0].text"),
        (r#""messages":[{"role":"user","content":["a"]}]"#, "messages[0].content[0]"),
    ] {
        let error = read(&format!(r#"{{"model":"m",{fields}}}"#)).expect_err("invalid");
        assert_eq!((error.kind(), error.param()), (ErrorKind::Invalid, Some(param)), "{fields}");
    }
    for (fields, param) in [
        (r#""temperature":"warm""#, "temperature"),
        (r#""temperature":2.5"#, "temperature"),
        (r#""top_p":-0.1"#, "top_p"),
        (r#""max_tokens":0"#, "max_tokens"),
        (r#""max_tokens":1.5"#, "max_tokens"),
        (r#""max_tokens":99999999999"#, "max_tokens"),
        (r#""n":0"#, "n"),
        (r#""seed":1.5"#, "seed"),
        (r#""stop":[1]"#, "stop[0]"),
        (r#""stop":{}"#, "stop"),
        (r#""stream":"yes""#, "stream"),
        (r#""top_logprobs":2"#, "top_logprobs"),
        (r#""logprobs":true,"top_logprobs":21"#, "top_logprobs"),
        (r#""tools":{}"#, "tools"),
        (r#""metadata":{"a":1}"#, "metadata.a"),
        (r#""response_format":{"type":"xml"}"#, "response_format.type"),
        (r#""response_format":{"type":"json_schema"}"#, "response_format.json_schema"),
        (
            r#""response_format":{"type":"json_schema","json_schema":{"schema":1}}"#,
            "response_format.json_schema.schema",
        ),
        (r#""grammar":"root ::= \"a\"","response_format":{"type":"json_object"}"#, "grammar"),
    ] {
        let error = with(fields).expect_err(fields);
        assert_eq!((error.kind(), error.param()), (ErrorKind::Invalid, Some(param)), "{fields}");
    }
    assert_eq!(read(r#"{"messages":[{"role":"user","content":"a"}]}"#).expect_err("no model").param(), Some("model"));
}

#[test]
fn needs_are_seen_wherever_they_hide() {
    assert!(!with(r#""tools":[],"n":1,"modalities":["text"]"#).expect("valid").needs.tools);
    assert!(with(r#""tools":[{"type":"function"}]"#).expect("valid").needs.tools);
    assert!(with(r#""functions":[{"name":"f"}]"#).expect("valid").needs.tools);
    assert!(with(r#""modalities":["text","audio"]"#).expect("valid").needs.multimodal);
    assert!(with(r#""n":3"#).expect("valid").needs.many_choices);
    let tool = read(r#"{"model":"m","messages":[{"role":"function","name":"f","content":"1"}]}"#).expect("valid");
    assert!(tool.needs.tools);
    let grammar = with(r#""grammar":"root ::= \"a\"","response_format":{"type":"text"}"#).expect("valid");
    assert_eq!(grammar.format, OutputFormat::Grammar("root ::= \"a\"".into()));
}

#[test]
fn only_the_named_fields_of_the_clients_body_change() {
    let odd = r#" { "x" : 1.10, "model" : "m" , "messages":[{"role":"user","content":"model \u00e9"}],"big":123456789012345678901234567890 } "#;
    let request = read(odd).expect("valid");
    assert_eq!(body(&request, UsageChunk::Ensure), odd.replace("\"m\"", "\"up\""));

    let stream = with(r#""stream":true"#).expect("valid");
    assert_eq!(IncludeUsage::of(&stream), IncludeUsage::No);
    assert!(body(&stream, UsageChunk::Ensure).ends_with(r#""stream":true,"stream_options":{"include_usage":true}}"#));
    assert!(body(&stream, UsageChunk::AsAsked).ends_with(r#""stream":true}"#));
    for (before, after) in [
        ("{}", r#"{"include_usage":true}"#),
        ("null", r#"{"include_usage":true}"#),
        (r#"{"include_usage":false,"a":1}"#, r#"{"include_usage":true,"a":1}"#),
        (r#"{"include_usage":null}"#, r#"{"include_usage":true}"#),
        (r#"{ "a":1 }"#, r#"{ "a":1 ,"include_usage":true}"#),
    ] {
        let request = with(&format!(r#""stream_options":{before},"stream":true"#)).expect("valid");
        let expected = format!(r#""stream_options":{after},"stream":true}}"#);
        let got = body(&request, UsageChunk::Ensure);
        assert!(got.ends_with(&expected), "{got}");
    }
    let asked = with(r#""stream":true,"stream_options":{"include_usage":true}"#).expect("valid");
    assert_eq!(IncludeUsage::of(&asked), IncludeUsage::Yes);
    // A model name that is not plain is escaped.
    let quoted = upstream_body(&asked, "a\"b", UsageChunk::AsAsked).expect("valid");
    assert!(serde_json::from_slice::<Value>(&quoted).is_ok());
}

#[test]
fn delivery_decides_about_streaming_not_the_body() {
    let mut request = with(r#""stream":true,"stream_options":{"include_usage":true}"#).expect("valid");
    request.delivery = Delivery::Whole;
    assert!(body(&request, UsageChunk::Ensure).ends_with(r#""stream":false,"stream_options":null}"#));
    let mut request = with(r#""stream":null"#).expect("valid");
    request.delivery = Delivery::Stream;
    assert!(body(&request, UsageChunk::AsAsked).ends_with(r#""stream":true}"#));
    let mut request = with(r#""n":1"#).expect("valid");
    request.delivery = Delivery::Stream;
    let got = body(&request, UsageChunk::Ensure);
    assert!(got.ends_with(r#""n":1,"stream":true,"stream_options":{"include_usage":true}}"#), "{got}");
}

#[test]
fn a_body_is_built_from_the_fields_when_there_is_none() {
    let mut request = with(
        r#""temperature":0.7,"max_tokens":5,"seed":-1,"stop":"x","logprobs":true,"top_logprobs":2,"stream":true,
           "frequency_penalty":0.5,"response_format":{"type":"json_object"},"metadata":{"a":"b"}"#,
    )
    .expect("valid");
    request.wire = None;
    let built = body(&request, UsageChunk::Ensure);
    insta::assert_snapshot!(built);
    let mut again = read(&built).expect("our own body is valid");
    again.wire = None;
    again.model = request.model.clone();
    assert_eq!(format!("{again:?}"), format!("{request:?}"));
}

fn model() -> ModelName {
    ModelName::from("fallback")
}

#[test]
fn an_upstreams_answer_is_read_and_passed_on_unchanged() {
    let wire = Bytes::from_static(
        br#"{"id":"c","model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","annotations":[]},
        "logprobs":{"content":[{"token":"Hi","logprob":-0.5,"bytes":[72,105],"top_logprobs":[{"token":"Hi","logprob":-0.5,"bytes":null}]}]},
        "finish_reason":"length"}],"usage":{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}},"new":1}"#,
    );
    let answer = parse_response(wire.clone(), &model()).expect("valid");
    insta::assert_debug_snapshot!(Answer { wire: None, ..answer.clone() });
    assert_eq!(render_response(&answer, &Rendering { id: "i", created_s: 0, model: "m" }), wire);
}

#[test]
fn odd_answers_are_understood_and_wrong_ones_are_errors() {
    let ok = |json: &'static str| parse_response(Bytes::from_static(json.as_bytes()), &model()).expect(json);
    let parts = ok(r#"{"choices":[{"message":{"content":[{"type":"thinking"},{"type":"text","text":"a"}]}}]}"#);
    assert_eq!((parts.text.as_str(), parts.model.as_str(), parts.usage.estimated), ("a", "fallback", true));
    let calls = ok(r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1"}]}}],"usage":null}"#);
    assert_eq!((calls.text.as_str(), calls.finish), ("", FinishReason::ToolCalls));
    let deepseek = ok(
        r#"{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":5.0,"completion_tokens":1,"prompt_cache_hit_tokens":3}}"#,
    );
    assert_eq!((deepseek.usage.input_tokens, deepseek.usage.cached_input_tokens), (5, 3));
    for (bad, kind) in [
        ("<html>", ErrorKind::Data),
        (r#"{"choices":[]}"#, ErrorKind::Data),
        ("{}", ErrorKind::Data),
        (r#"{"choices":[{}]}"#, ErrorKind::Data),
        (r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#, ErrorKind::Overloaded),
    ] {
        let error = parse_response(Bytes::from_static(bad.as_bytes()), &model()).expect_err(bad);
        assert_eq!(error.kind(), kind, "{bad}");
    }
}

/// Feeds events to a reader; the answer, or the first error.
fn accumulate(events: &[&str]) -> Result<Answer> {
    let mut reader = ChunkReader::new(model());
    for event in events {
        reader.push(Bytes::copy_from_slice(event.as_bytes()))?;
    }
    reader.finish()
}

#[test]
fn a_stream_adds_up_to_its_answer() {
    let answer = accumulate(&[
        r#"{"model":"gpt-x","choices":[],"prompt_filter_results":[]}"#,
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"He"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
        r#"{"choices":[{"index":1,"delta":{"content":"other choice"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"y"},"finish_reason":"stop","logprobs":{"content":[{"token":"y","logprob":-1}]}}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
        "[DONE]",
        "ignored after the end",
    ])
    .expect("complete");
    insta::assert_debug_snapshot!(answer);
}

#[test]
fn a_stream_that_broke_off_is_an_error_and_one_without_done_is_not() {
    let hello = r#"{"choices":[{"index":0,"delta":{"content":"He"}}]}"#;
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let error = accumulate(&[hello]).expect_err("broke off");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("broke off"), "{error}");
    assert_eq!(accumulate(&[hello, end]).expect("complete").text, "He");
    assert_eq!(accumulate(&[hello, "[DONE]"]).expect("complete").finish, FinishReason::Stop);
    assert_eq!(accumulate(&["[DONE]"]).expect_err("empty").kind(), ErrorKind::Data);
    assert_eq!(accumulate(&[]).expect_err("empty").kind(), ErrorKind::Unavailable);
    let failed = accumulate(&[hello, r#"{"error":{"message":"m","code":429}}"#]).expect_err("in-stream error");
    assert_eq!(failed.kind(), ErrorKind::Overloaded);
    assert_eq!(accumulate(&[r#"{"choices":"#]).expect_err("no JSON").kind(), ErrorKind::Data);
}

#[test]
fn tool_calls_and_usage_chunks_are_told_apart_and_kept_raw() {
    let mut reader = ChunkReader::new(model());
    let call = Bytes::from_static(
        br#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a"},{"index":1,"id":"b"}]}}]}"#,
    );
    assert_eq!(reader.push(call.clone()).expect("a chunk"), Step::Delta { text: String::new(), wire: call });
    assert!(!reader.is_complete());
    let usage = Bytes::from_static(br#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#);
    assert_eq!(reader.push(usage.clone()).expect("a chunk"), Step::Usage { wire: usage });
    assert_eq!(reader.push(Bytes::from_static(b" [DONE] ")).expect("the end"), Step::Done);
    assert!(reader.is_complete());
    assert_eq!(reader.finish().expect("complete").finish, FinishReason::ToolCalls);
}

fn our_answer() -> Answer {
    let token = |text: &str, logprob| TokenLogprob { bytes: text.into(), logprob, top: vec![(text.into(), logprob)] };
    let usage = Usage { input_tokens: 7, cached_input_tokens: 2, output_tokens: 2, estimated: false };
    Answer {
        logprobs: Some(vec![token("sp", -0.25), token("am", f32::NEG_INFINITY)]),
        ..Answer::text("small".into(), "spam", usage)
    }
}

#[test]
fn our_answers_have_openais_shape_whole_and_streamed() {
    let rendering = Rendering { id: "chatcmpl-1", created_s: 1_700_000_000, model: "auto" };
    let whole: Value = serde_json::from_slice(&render_response(&our_answer(), &rendering)).expect("JSON");
    insta::assert_snapshot!(serde_json::to_string_pretty(&whole).expect("JSON"));
    let stream = ChunkWriter::new(&rendering, IncludeUsage::Yes).whole(&our_answer());
    insta::assert_snapshot!(std::str::from_utf8(&stream).expect("text"));
    let error = error_event(&Error::unavailable("ask gpt: it broke off"));
    insta::assert_snapshot!(std::str::from_utf8(&error).expect("text"));
}

fn read_stream(bytes: &[u8]) -> Result<Answer> {
    let (mut decoder, mut reader) = (Decoder::default(), ChunkReader::new(model()));
    decoder.push(bytes);
    decoder.finish();
    while let Some(event) = decoder.next_event()? {
        reader.push(event.data)?;
    }
    reader.finish()
}

fn answers() -> impl Strategy<Value = Answer> {
    let finish = prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::ContentFilter),
        Just(FinishReason::Other("eos_token".into())),
    ];
    let token = (proptest::collection::vec(any::<u8>(), 0..4), -20.0f32..0.0)
        .prop_map(|(bytes, logprob)| TokenLogprob { top: vec![(bytes.clone(), logprob)], bytes, logprob });
    (
        any::<String>(),
        finish,
        0u64..1 << 40,
        0u64..1 << 40,
        proptest::option::of(proptest::collection::vec(token, 1..4)),
    )
        .prop_map(|(text, finish, input, output, logprobs)| {
            let usage =
                Usage { input_tokens: input, cached_input_tokens: input / 2, output_tokens: output, estimated: false };
            Answer { finish, logprobs, ..Answer::text("m".into(), text, usage) }
        })
}

proptest! {
    #[test]
    fn our_answers_survive_rendering_whole_and_streamed(answer in answers()) {
        let rendering = Rendering { id: "i", created_s: 1, model: "m" };
        let whole = parse_response(render_response(&answer, &rendering), &model()).expect("own form");
        let streamed = read_stream(&ChunkWriter::new(&rendering, IncludeUsage::Yes).whole(&answer)).expect("own form");
        for back in [Answer { wire: None, ..whole }, streamed] {
            prop_assert_eq!(format!("{back:?}"), format!("{answer:?}"));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let _ = (read(&text).is_ok(), parse_response(bytes.clone().into(), &model()).is_ok(), read_stream(&bytes).is_ok());
    }

    #[test]
    fn a_valid_body_with_one_part_changed_does_not_panic(at in 0usize..400, new in "[\\[\\]{}\",:0-9a-z\\\\]{0,3}") {
        let full = json!({
            "model": "m", "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }],
            "stream": true, "stream_options": { "include_usage": false }, "stop": ["a"], "seed": 1, "logprobs": true,
            "response_format": { "type": "json_schema", "json_schema": { "schema": {} } }, "metadata": { "a": "b" },
        }).to_string();
        let at = at % full.len();
        let changed = format!("{}{new}{}", &full[..at], &full[at + 1..]);
        if let Ok(request) = read(&changed) {
            let sent = body(&request, UsageChunk::Ensure);
            let again = read(&sent).expect("a valid body stays valid");
            prop_assert_eq!(&again.messages, &request.messages);
            prop_assert_eq!(again.model.as_str(), "up");
        }
    }
}
