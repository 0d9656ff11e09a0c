//! Observe, shadow and live: who is asked, who answers, and what evidence is kept.

use crate::{
    staged::{Staged, Then},
    support::*,
};
use std::sync::Arc;
use understudy_core::{Error, Mode, Place, task::Privacy};
use understudy_store::{Ending, Route};
use understudy_upstream::scripted::{Play, Scripted};

#[tokio::test]
async fn observing_asks_the_large_model_only() {
    let (small, large) = (small("spam", 0.99), large("spam"));
    let gateway = Gateway::start(with_task(task(spec(Mode::Observe), small.clone(), large.clone()))).await;
    let response = gateway.ask("triage-please", "x").await;
    let row = gateway.row(trace_of(&response)).await;
    gateway.idle().await;
    assert_eq!((row.route, row.reason.as_str(), row.mode), (Route::Large, "observe", Some(Mode::Observe)));
    assert_eq!((row.large.expect("asked").label.as_deref(), row.asked.as_str()), (Some("spam"), "triage-please"));
    assert_eq!((small.calls(), large.calls()), (0, 1));
}

#[tokio::test]
async fn shadowing_runs_the_small_model_after_the_reply_and_keeps_its_answer() {
    for streamed in [false, true] {
        let told = Arc::new(tokio::sync::Semaphore::new(0));
        // The small model answers only when told: the reply cannot have waited for it.
        let slow = Staged::new(&["ham"], Then::Wait(told.clone()));
        let gateway = Gateway::start(with_task(task(spec(Mode::Shadow), slow.clone(), large("ham")))).await;
        let response = match streamed {
            false => gateway.ask("auto:triage", "x").await,
            true => gateway.ask_stream("auto:triage", "x").await,
        };
        let id = trace_of(&response);
        response.bytes().await.expect("a whole body");
        let row = gateway.row(id).await;
        assert_eq!((row.route, row.reason.as_str(), row.audit), (Route::Large, "shadow", None));
        told.add_permits(1);
        let row = gateway.row_when("with its shadow", |row| row.audit.is_some()).await;
        assert_eq!((row.id, row.agreed, row.audited), (id, Some(true), false));
        let audit = row.audit.expect("attached");
        assert_eq!((audit.label.as_deref(), audit.artifact.as_deref()), (Some("ham"), Some("hash")));
    }
}

#[tokio::test]
async fn a_live_task_keeps_what_the_certificate_allows() {
    let (small, large) = (small("spam", 0.9), large("ham"));
    let gateway = Gateway::start(with_task(task(spec(Mode::Live), small, large.clone()))).await;
    let response = gateway.ask("auto:triage", "x").await;
    assert_eq!(header(&response, "x-understudy-task"), Some("triage"));
    assert_eq!(header(&response, "x-understudy-route"), Some("local"));
    assert_eq!(header(&response, "x-understudy-cost-usd"), Some("0.000000000"));
    let row = gateway.row(trace_of(&response)).await;
    assert_eq!(content_of(response).await, "spam");
    assert_eq!((row.reason.as_str(), row.audit_probability, row.audited), ("confident", Some(0.0), false));
    assert_eq!(row.certificate, Some(certificate(0.9).id.clone()));
    assert_eq!(row.threshold, Some(certificate(0.9).threshold));
    gateway.idle().await;
    assert_eq!(large.calls(), 0);
}

#[tokio::test]
async fn a_live_task_escalates_below_the_threshold() {
    let gateway = Gateway::start(with_task(task(spec(Mode::Live), small("spam", 0.89), large("ham")))).await;
    let response = gateway.ask("auto:triage", "x").await;
    assert_eq!(header(&response, "x-understudy-route"), Some("escalated"));
    assert_eq!(header(&response, "x-understudy-confidence"), Some("0.8900"));
    assert_eq!(header(&response, "x-understudy-cost-usd"), Some("0.000003000"));
    let row = gateway.row(trace_of(&response)).await;
    assert_eq!(content_of(response).await, "ham");
    assert_eq!((row.reason.as_str(), row.audited, row.audit_probability), ("unsure", false, None));
    let (small, large) = (row.small.expect("asked"), row.large.expect("asked"));
    assert_eq!((small.label.as_deref(), large.label.as_deref()), (Some("spam"), Some("ham")));
}

#[tokio::test]
async fn with_the_large_model_down_sure_answers_still_come_and_the_others_fail() {
    for (confidence, status, route) in [(0.95, 200, Route::Local), (0.5, 503, Route::None)] {
        let down = Scripted::new(LARGE, Place::Remote, |_, _| Play::fail(Error::unavailable("answer")));
        let task = task(spec(Mode::Live), small("spam", confidence), Arc::new(down));
        let gateway = Gateway::start(with_task(task)).await;
        for streamed in [false, true] {
            let response = match streamed {
                false => gateway.ask("auto:triage", "x").await,
                true => gateway.ask_stream("auto:triage", "x").await,
            };
            assert_eq!(response.status(), status);
            let row = gateway.row(trace_of(&response)).await;
            let said = row.small.expect("asked").label;
            assert_eq!((row.route, said.as_deref()), (route, Some("spam")));
        }
    }
}

#[tokio::test]
async fn a_small_model_that_fails_or_panics_escalates() {
    let failing = Scripted::new(SMALL, Place::Local, |_, n| match n {
        0 => Play::fail(Error::internal("run the model")),
        _ => panic!("a fault of the model"),
    });
    let gateway = Gateway::start(with_task(task(spec(Mode::Live), Arc::new(failing), large("ham")))).await;
    for _ in 0..2 {
        let response = gateway.ask("auto:triage", "x").await;
        let row = gateway.row(trace_of(&response)).await;
        assert_eq!((row.route, row.reason.as_str()), (Route::Escalated, "small_failed"));
        assert_eq!(row.small.expect("asked").error.as_deref(), Some("internal"));
        assert_eq!(content_of(response).await, "ham");
    }
}

#[tokio::test]
async fn an_audit_attaches_the_large_models_answer_and_whether_they_agree() {
    for (large_says, agreed) in [("spam", true), ("ham", false), ("neither", false)] {
        let mut spec = spec(Mode::Live);
        spec.audit = 1.0;
        let gateway = Gateway::start(with_task(task(spec, small("spam", 0.95), large(large_says)))).await;
        let response = gateway.ask("auto:triage", "x").await;
        assert_eq!(content_of(response).await, "spam");
        let row = gateway.row_when("with its audit", |row| row.audit.is_some()).await;
        assert_eq!((row.route, row.audited, row.audit_probability), (Route::Local, true, Some(1.0)));
        assert_eq!(row.agreed, Some(agreed), "{large_says}");
        // Three millionths of a dollar: the audit is part of the cost.
        assert_eq!(row.cost().map(|cost| cost.nanos()), Some(3000));
    }
}

#[tokio::test]
async fn an_audit_that_fails_gives_no_verdict() {
    let down = Scripted::new(LARGE, Place::Remote, |_, _| Play::fail(Error::unavailable("answer")));
    let mut spec = spec(Mode::Live);
    spec.audit = 1.0;
    let gateway = Gateway::start(with_task(task(spec, small("spam", 0.95), Arc::new(down)))).await;
    assert_eq!(gateway.ask("auto:triage", "x").await.status(), 200);
    let row = gateway.row_when("with its audit", |row| row.audit.is_some()).await;
    assert_eq!((row.agreed, row.ending), (None, Ending::Answered));
    assert_eq!(row.audit.expect("attached").error.as_deref(), Some("unavailable"));
}

#[tokio::test]
async fn without_a_certificate_a_live_task_only_shadows() {
    let mut task = task(spec(Mode::Live), small("spam", 1.0), large("ham"));
    task.small.as_mut().expect("there").certificate = None;
    let gateway = Gateway::start(with_task(task)).await;
    let response = gateway.ask("auto:triage", "x").await;
    assert_eq!(content_of(response).await, "ham");
    let row = gateway.row_when("with its shadow", |row| row.audit.is_some()).await;
    assert_eq!((row.route, row.reason.as_str()), (Route::Large, "no_certificate"));
    assert_eq!((row.certificate, row.agreed), (None, Some(false)));
}

#[tokio::test]
async fn a_local_only_task_never_asks_the_remote_model() {
    for mode in [Mode::Observe, Mode::Shadow, Mode::Live] {
        for confidence in [0.95, 0.1] {
            for certified in [true, false] {
                let large = large("ham");
                let mut spec = spec(mode);
                spec.privacy = Privacy::LocalOnly;
                spec.audit = 1.0;
                let mut task = task(spec, small("spam", confidence), large.clone());
                if !certified {
                    task.small.as_mut().expect("there").certificate = None;
                }
                let gateway = Gateway::start(with_task(task)).await;
                let kept = mode == Mode::Live && confidence > 0.9 && certified;
                for streamed in [false, true] {
                    let response = match streamed {
                        false => gateway.ask("auto:triage", "private").await,
                        true => gateway.ask_stream("auto:triage", "private").await,
                    };
                    assert_eq!(response.status(), if kept { 200 } else { 503 }, "{mode:?} {confidence} {certified}");
                    let row = gateway.row(trace_of(&response)).await;
                    assert_eq!((row.route == Route::Local, row.audited), (kept, false));
                }
                gateway.idle().await;
                assert_eq!(large.calls(), 0, "{mode:?} {confidence} {certified}");
            }
        }
    }
}
