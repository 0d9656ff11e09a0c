//! Rows come back as they went in, and are found.

use super::{call, confidence, fresh, id, large_trace, local_trace, small};
use crate::{Audit, Ending, Feedback, Order, Route, Source, Trace, TraceFilter};
use understudy_core::{ErrorKind, Money, Timestamp, task::Mode};

fn numbers(traces: &[Trace]) -> Vec<i64> {
    traces.iter().map(|trace| trace.at.0).collect()
}

#[tokio::test]
async fn every_field_survives() {
    let (_folder, store) = fresh();
    let full = Trace {
        large: Some(call("l", "b", None)),
        audit: Some(call("x", "c", Some(7))),
        agreed: Some(false),
        gold: Some("b".into()),
        streamed: true,
        ending: Ending::BrokenOff,
        status: 502,
        error: Some("data".into()),
        route: Route::Escalated,
        audit_probability: Some(1.0 / 3.0),
        ..local_trace(1, "a", true)
    };
    let bare = Trace {
        task: None,
        mode: None,
        large: None,
        route: Route::None,
        input: None,
        request: None,
        first_byte_us: None,
        ..large_trace(2, "a")
    };
    for trace in [full, bare, large_trace(3, "a"), local_trace(4, "ü\"\n", false)] {
        store.record(trace.clone()).await.expect("recorded");
        assert_eq!(store.trace(trace.id).await.expect("found"), trace);
    }
    let error = store.trace(id(99)).await.expect_err("never recorded");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn each_filter_keeps_what_it_says() {
    let (_folder, store) = fresh();
    let failed = Trace {
        ending: Ending::Failed,
        route: Route::None,
        error: Some("deadline".into()),
        large: None,
        task: None,
        ..large_trace(1, "a")
    };
    let escalated = Trace {
        route: Route::Escalated,
        small: Some(small("a")),
        agreed: Some(false),
        request: None,
        input: Some("100 PERCENT".into()),
        ..large_trace(2, "b")
    };
    for trace in [failed, escalated, local_trace(3, "a", true), large_trace(4, "a")] {
        store.record(trace).await.expect("recorded");
    }
    let all = TraceFilter::default();
    let cases = [
        (all.clone(), vec![4, 3, 2, 1]),
        (TraceFilter { order: Order::OldestFirst, limit: Some(2), ..all.clone() }, vec![1, 2]),
        (TraceFilter { order: Order::OldestFirst, after: Some(id(2)), ..all.clone() }, vec![3, 4]),
        (TraceFilter { after: Some(id(3)), limit: Some(1), ..all.clone() }, vec![2]),
        (TraceFilter { task: Some("t".into()), ..all.clone() }, vec![4, 3, 2]),
        (TraceFilter { route: Some(Route::Escalated), ..all.clone() }, vec![2]),
        (TraceFilter { ending: Some(Ending::Failed), ..all.clone() }, vec![1]),
        (TraceFilter { model: Some("s".into()), ..all.clone() }, vec![3, 2]),
        (TraceFilter { model: Some("l".into()), ..all.clone() }, vec![4, 2]),
        (TraceFilter { since: Some(Timestamp(2)), until: Some(Timestamp(4)), ..all.clone() }, vec![3, 2]),
        (TraceFilter { min_confidence: Some(confidence(0.3)), ..all.clone() }, vec![3, 2]),
        (TraceFilter { max_confidence: Some(confidence(0.3)), ..all.clone() }, vec![]),
        (TraceFilter { audited: Some(true), ..all.clone() }, vec![3]),
        (TraceFilter { agreed: Some(false), ..all.clone() }, vec![2]),
        (TraceFilter { errors_only: true, ..all.clone() }, vec![1]),
        (TraceFilter { text: Some("50% OFF_".into()), ..all.clone() }, vec![4, 3, 1]),
        (TraceFilter { text: Some("%".into()), since: Some(Timestamp(2)), ..all.clone() }, vec![4, 3]),
        (TraceFilter { text: Some("percent".into()), ..all.clone() }, vec![2]),
        (TraceFilter { text: Some("the b".into()), ..all.clone() }, vec![2]),
    ];
    for (filter, expected) in cases {
        assert_eq!(numbers(&store.traces(&filter).await.expect("listed")), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn an_unknown_cost_is_counted_and_never_zero() {
    let (_folder, store) = fresh();
    let unpriced = Trace { large: Some(call("l", "a", None)), ..large_trace(2, "a") };
    for trace in [large_trace(1, "a"), unpriced, local_trace(3, "a", true)] {
        store.record(trace).await.expect("recorded");
    }
    let audit = Audit { call: call("l", "b", Some(1_500)), agreed: Some(false) };
    store.attach_audit(id(3), audit).await.expect("attached");
    let stats = store.stats(Some(&"t".into()), None).await.expect("summed");
    assert_eq!((stats.requests(), stats.cost(), stats.unknown_cost()), (3, Money::from_nanos(3_000), 1));
    assert_eq!((stats.audited, stats.agreed, stats.disagreed), (1, 0, 1));
    assert_eq!(stats.routes[&Route::Large].total_us, [1_001, 1_002]);
    assert_eq!(stats.routes[&Route::Local].input_tokens, 20);
    let later = store.stats(None, Some(Timestamp(3))).await.expect("summed");
    assert_eq!(later.requests(), 1);
}

#[tokio::test]
async fn learning_rows_take_gold_before_the_large_models_label_and_never_the_small_ones() {
    let (_folder, store) = fresh();
    let shadow = Trace { mode: Some(Mode::Shadow), ..large_trace(1, "large says") };
    let failed = Trace {
        large: Some(crate::Call { error: Some("data".into()), ..call("l", "x", None) }),
        ..large_trace(5, "x")
    };
    let textless = Trace { input: None, ..large_trace(6, "x") };
    for trace in [
        shadow,
        local_trace(2, "small says", true),
        local_trace(3, "small says", false),
        large_trace(4, "x"),
        failed,
        textless,
    ] {
        store.record(trace).await.expect("recorded");
    }
    store.attach_audit(id(1), Audit { call: small("small says"), agreed: Some(false) }).await.expect("attached");
    store
        .attach_audit(id(2), Audit { call: call("l", "large says", None), agreed: Some(false) })
        .await
        .expect("attached");
    let feedback = Feedback { gold: Some("gold".into()), correct: None, comment: None, at: Timestamp(9) };
    store.attach_feedback(id(4), feedback).await.expect("attached");

    let rows = store.learning_rows(&"t".into()).await.expect("listed");
    let found: Vec<_> = rows.iter().map(|r| (r.at.0, r.label.as_str(), r.source, r.small_label.as_deref())).collect();
    assert_eq!(
        found,
        [
            (1, "large says", Source::Large, Some("small says")),
            (2, "large says", Source::Large, Some("small says")),
            (4, "gold", Source::Gold, None),
        ]
    );
    assert_eq!(rows[0].small_confidence, Some(confidence(0.1 + 0.2)));
    assert_eq!((rows[0].small_hash.as_deref(), rows[2].large_label.as_deref()), (Some("h1"), Some("x")));
}

#[tokio::test]
async fn feedback_confirms_the_label_that_the_client_saw() {
    let (_folder, store) = fresh();
    store.record(local_trace(1, "a", false)).await.expect("recorded");
    assert_eq!(store.feedback(id(1)).await.expect("read"), None);
    let yes = Feedback { gold: None, correct: Some(true), comment: Some("fine".into()), at: Timestamp(5) };
    store.attach_feedback(id(1), yes).await.expect("attached");
    assert_eq!(store.trace(id(1)).await.expect("found").gold.as_deref(), Some("a"));
    let no = Feedback { gold: Some("b".into()), correct: Some(false), comment: None, at: Timestamp(6) };
    store.attach_feedback(id(1), no).await.expect("attached");
    let read = store.feedback(id(1)).await.expect("read").expect("there");
    assert_eq!(
        (read.gold.as_deref(), read.correct, read.comment.as_deref(), read.at.0),
        (Some("b"), Some(false), Some("fine"), 6)
    );
    let nobody = Feedback { gold: None, correct: Some(true), comment: None, at: Timestamp(5) };
    let error = store.attach_feedback(id(2), nobody).await.expect_err("no such trace");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
