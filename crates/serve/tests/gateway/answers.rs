//! Whole and streamed answers, and the promise that their rows are there first.

use crate::{
    staged::{FINISH, Staged, Then, provider_chunk},
    support::*,
};
use serde_json::Value;
use std::sync::Arc;
use understudy_core::{Capabilities, Confidence, Error, Mode, Place, task::InputRule, task::OutputForm};
use understudy_store::{Ending, Route};
use understudy_upstream::scripted::{Play, Scripted};

#[tokio::test]
async fn a_whole_answer_has_the_official_shape_and_our_headers() {
    let gateway = Gateway::start(with_model(large("all is well"))).await;
    let response = gateway.ask(LARGE, "how are you?").await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-understudy-route"), Some("large"));
    assert_eq!(header(&response, "x-understudy-model"), Some(LARGE));
    // One input token at 1 $/M and one output token at 2 $/M.
    assert_eq!(header(&response, "x-understudy-cost-usd"), Some("0.000003000"));
    let id = trace_of(&response);
    assert_eq!(header(&response, "x-request-id"), Some(id.to_string().as_str()));
    let body = json_of(response).await;
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["content"], "all is well");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["total_tokens"], 2);
}

#[tokio::test]
async fn a_providers_chunks_pass_byte_for_byte_and_done_comes_once_at_the_end() {
    let gateway = Gateway::start(with_model(Staged::new(&["it ", "is ", "spam"], Then::End))).await;
    let response = gateway.ask_stream(LARGE, "x").await;
    assert_eq!(header(&response, "content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(header(&response, "x-accel-buffering"), Some("no"));
    assert_eq!(header(&response, "x-understudy-model"), Some(LARGE));
    assert_eq!(header(&response, "x-understudy-cost-usd"), None, "nobody knows it yet");
    let body = response.bytes().await.expect("a body");
    let expected: Vec<String> = ["it ", "is ", "spam"].iter().enumerate().map(|(n, t)| provider_chunk(n, t)).collect();
    let events = events(&body);
    assert_eq!(events[..3], expected);
    assert_eq!(events[3..], [FINISH, "[DONE]"]);
}

/// The content of a stream of ours, after a check of its shape.
fn well_formed(events: &[String], usage: bool) -> String {
    let (done, chunks) = events.split_last().expect("events");
    assert_eq!(done, "[DONE]");
    let mut chunks: Vec<Value> = chunks.iter().map(|c| serde_json::from_str(c).expect("JSON")).collect();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!((&chunk["id"], &chunk["created"]), (&chunks[0]["id"], &chunks[0]["created"]));
        assert_eq!(chunk.get("usage").is_some(), usage, "the field is there iff asked for: {chunk}");
    }
    if usage {
        let last = chunks.pop().expect("a usage chunk");
        assert_eq!(last["choices"], Value::Array(vec![]));
        assert!(last["usage"]["total_tokens"].as_u64().is_some_and(|n| n > 0), "{last}");
    }
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let reasons: Vec<&Value> = chunks.iter().map(|c| &c["choices"][0]["finish_reason"]).collect();
    let (last, others) = reasons.split_last().expect("chunks");
    assert_eq!(*last, "stop");
    assert!(others.iter().all(|reason| reason.is_null()));
    chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_stream_answered_locally_is_one_well_formed_stream() {
    let backend = large("ham");
    let gateway = Gateway::start(with_task(task(spec(Mode::Live), small("spam", 0.95), backend.clone()))).await;
    for usage in [false, true] {
        let mut body = chat_body("auto:triage", "win a prize");
        body["stream"] = true.into();
        if usage {
            body["stream_options"] = serde_json::json!({ "include_usage": true });
        }
        let response = gateway.chat(body).await;
        assert_eq!(header(&response, "x-understudy-route"), Some("local"));
        assert_eq!(header(&response, "x-understudy-confidence"), Some("0.9500"));
        let body = response.bytes().await.expect("a body");
        assert_eq!(well_formed(&events(&body), usage), "spam");
    }
    assert_eq!(backend.calls(), 0);
}

#[tokio::test]
async fn a_stream_without_a_providers_chunks_is_written_by_us() {
    let gateway = Gateway::start(with_model(large("one two three"))).await;
    let body = gateway.ask_stream(LARGE, "count").await.bytes().await.expect("a body");
    assert_eq!(well_formed(&events(&body), false), "one two three");
}

/// Whatever way a request takes, its row is committed when its client has the last byte.
#[tokio::test]
async fn the_row_is_in_the_store_when_the_client_has_the_last_byte() {
    let sure = |text: &str| if text.contains("sure") { 0.95 } else { 0.1 };
    let small = Arc::new(Scripted::new(SMALL, Place::Local, move |request, _| {
        let mut play = Play::text(&SMALL.into(), "spam");
        let answer = play.end.as_mut().expect("an answer");
        answer.label = Some("spam".into());
        answer.confidence = Some(Confidence::new(sure(&request.messages[0].text)).expect("in range"));
        play
    }));
    let large = Arc::new(Scripted::new(LARGE, Place::Remote, |request, _| match request.messages[0].text.as_str() {
        "broken" => Play::fail(Error::unavailable("answer: the upstream is down")),
        _ => Play::text(&LARGE.into(), "ham"),
    }));
    let gateway = Gateway::start(with_task(task(spec(Mode::Live), small, large))).await;
    let cases = [
        ("auto:triage", "sure", Route::Local, Ending::Answered),
        ("auto:triage", "doubtful", Route::Escalated, Ending::Answered),
        (LARGE, "anything", Route::Large, Ending::Answered),
        (LARGE, "broken", Route::None, Ending::Failed),
    ];
    for (model, text, route, ending) in cases {
        for streamed in [false, true] {
            let response = match streamed {
                false => gateway.ask(model, text).await,
                true => gateway.ask_stream(model, text).await,
            };
            let (id, status) = (trace_of(&response), response.status().as_u16());
            response.bytes().await.expect("the last byte");
            let row = gateway.row(id).await;
            let found = (row.route, row.ending, row.status, row.streamed);
            assert_eq!(found, (route, ending, status, streamed), "{model} {text}");
            assert!(row.cost().is_some(), "{model} {text}");
        }
    }
    assert_eq!(gateway.rows().await.len(), 8);
}

#[tokio::test]
async fn a_label_is_rendered_in_the_tasks_own_form() {
    let mut spec = spec(Mode::Live);
    spec.output = OutputForm::Template(r#"{"label": "{label}", "score": {confidence}}"#.into());
    let gateway = Gateway::start(with_task(task(spec, small("spam", 0.95), large("x")))).await;
    let text = content_of(gateway.ask("auto:triage", "win").await).await;
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&value["label"], value["score"].as_f64()), (&Value::from("spam"), Some(0.95)));
}

#[tokio::test]
async fn without_the_input_markers_the_large_model_answers() {
    let mut spec = spec(Mode::Live);
    spec.input = InputRule { after: Some("<mail>".into()), before: Some("</mail>".into()) };
    let small = small("spam", 0.95);
    let gateway = Gateway::start(with_task(task(spec, small.clone(), large("ham")))).await;
    for text in ["no markers", "<mail>  </mail>", "<mail>unfinished"] {
        let response = gateway.ask("auto:triage", text).await;
        let row = gateway.row(trace_of(&response)).await;
        assert_eq!((row.route, row.reason.as_str()), (Route::Large, "no_input"), "{text}");
        assert_eq!(content_of(response).await, "ham");
    }
    assert_eq!(small.calls(), 0);
    let response = gateway.ask("auto:triage", "Sort: <mail>hello</mail>").await;
    let row = gateway.row(trace_of(&response)).await;
    assert_eq!((row.route, row.input.as_deref()), (Route::Local, Some("hello")));
}

#[tokio::test]
async fn a_large_model_that_runs_here_is_still_the_tasks_large_model() {
    let here = Scripted::new(LARGE, Place::Local, |_, _| Play::text(&LARGE.into(), "ham"));
    let gateway = Gateway::start(with_task(task(spec(Mode::Shadow), small("spam", 0.95), Arc::new(here)))).await;
    gateway.ask("auto:triage", "x").await;
    let row = gateway.row_when("with its shadow", |row| row.audit.is_some()).await;
    let label = |call: Option<&understudy_store::Call>| call.and_then(|call| call.label.clone());
    assert_eq!(row.route, Route::Large);
    assert_eq!(label(row.small_part()).as_deref(), Some("spam"));
    assert_eq!(label(row.large_part()).as_deref(), Some("ham"));
    // Without a task, a model in this process is what it is.
    let response = gateway.ask(LARGE, "x").await;
    assert_eq!(gateway.row(trace_of(&response)).await.route, Route::Local);
}

#[tokio::test]
async fn what_a_named_model_cannot_take_is_refused_before_it_is_asked() {
    let text_only = Capabilities {
        place: Place::Remote,
        context_tokens: Some(10),
        multimodal: false,
        tools: false,
        many_choices: false,
        languages: vec![],
    };
    let backend = Scripted::new(LARGE, Place::Remote, |_, _| Play::text(&LARGE.into(), "x"));
    let backend = Arc::new(backend.with_capabilities(text_only));
    let gateway = Gateway::start(with_model(backend.clone())).await;
    let mut tools = chat_body(LARGE, "x");
    tools["tools"] = serde_json::json!([{ "type": "function", "function": { "name": "f" } }]);
    for body in [tools, chat_body(LARGE, &"long ".repeat(100))] {
        let response = gateway.chat(body).await;
        assert_eq!(response.status(), 400);
        assert_eq!(gateway.row(trace_of(&response)).await.ending, Ending::Failed);
    }
    assert_eq!(backend.calls(), 0);
}
