//! Claims about the store, each on a fresh file.

mod evidence;
mod opening;
mod traces;
mod writing;

use crate::{Call, Ending, Route, Store, StoreOptions, Trace};
use tempfile::TempDir;
use understudy_core::{Confidence, Money, Timestamp, TraceId, Usage, task::Mode};

fn fresh() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(&folder.path().join("understudy.db"), StoreOptions::default()).expect("fresh store");
    (folder, store)
}

fn id(n: u64) -> TraceId {
    TraceId::from_parts(n, u128::from(n))
}

fn confidence(p: f64) -> Confidence {
    Confidence::new(p).expect("in [0, 1]")
}

fn call(model: &str, label: &str, cost: Option<i64>) -> Call {
    Call {
        model: model.into(),
        artifact: None,
        text: Some(format!("the {label}")),
        label: Some(label.into()),
        confidence: None,
        gate: None,
        own_confidence: None,
        token_logprobs: None,
        usage: Usage { input_tokens: 10, cached_input_tokens: 2, output_tokens: 1, estimated: false },
        cost: cost.map(Money::from_nanos),
        latency_us: 700,
        error: None,
    }
}

/// The small model's part, certain to 0.1 + 0.2: a number whose decimal text is easy to get wrong.
fn small(label: &str) -> Call {
    Call { artifact: Some("h1".into()), confidence: Some(confidence(0.1 + 0.2)), ..call("s", label, Some(0)) }
}

/// A request that the large model answered.
fn large_trace(n: u64, label: &str) -> Trace {
    Trace {
        id: id(n),
        at: Timestamp(i64::try_from(n).expect("small")),
        api: "chat".into(),
        asked: "auto:t".into(),
        task: Some("t".into()),
        mode: Some(Mode::Observe),
        route: Route::Large,
        reason: "observed".into(),
        small: None,
        large: Some(call("l", label, Some(1_500))),
        certificate: None,
        threshold: None,
        audit_probability: None,
        audited: false,
        audit: None,
        agreed: None,
        gold: None,
        streamed: false,
        ending: Ending::Answered,
        status: 200,
        error: None,
        queue_us: 5,
        first_byte_us: Some(900),
        total_us: 1_000 + n,
        input: Some(format!("text {n}")),
        request: Some(r#"[{"role":"user","content":"50% off_"}]"#.into()),
        input_hash: format!("{n:064x}"),
    }
}

/// A request that the small model answered under certificate `c`.
fn local_trace(n: u64, label: &str, audited: bool) -> Trace {
    Trace {
        mode: Some(Mode::Live),
        route: Route::Local,
        reason: "certified".into(),
        small: Some(small(label)),
        large: None,
        certificate: Some("c".into()),
        threshold: Some(confidence(0.25)),
        audit_probability: Some(0.1),
        audited,
        ..large_trace(n, label)
    }
}
