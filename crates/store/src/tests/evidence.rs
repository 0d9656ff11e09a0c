//! Audits, certificates and deployments.

use super::{call, confidence, fresh, id, local_trace, small};
use crate::{ArtifactRecord, Audit, Route, Store, StoreOptions, Trace, Withdrawal};
use rusqlite::Connection;
use understudy_core::{Certificate, ErrorKind, LossKind, Per, Timestamp};

fn certificate(issued: i64, loss: LossKind) -> Certificate {
    Certificate {
        id: String::new(),
        task: "t".into(),
        small: "s".into(),
        small_hash: "h1".into(),
        large: "l".into(),
        epsilon: 0.02,
        delta: 0.05,
        loss,
        per: Per::Request,
        loss_sum: None,
        n: 1_234,
        losses: 7,
        threshold: confidence(0.1 + 0.2),
        kept: 2.0 / 3.0,
        bound: 0.012_345_678_901_234_567,
        data_hash: "d".into(),
        issued: Timestamp(issued),
    }
    .sealed()
}

fn artifact(hash: &str) -> ArtifactRecord {
    ArtifactRecord {
        hash: hash.into(),
        name: "triage".into(),
        task: Some("t".into()),
        path: format!("artifacts/{hash}").into(),
        base: Some("minilm".into()),
        parent: None,
        created: Timestamp(1),
        metrics: serde_json::json!({"accuracy": 0.5, "n": 3}),
    }
}

#[tokio::test]
async fn a_certificate_that_no_audit_can_watch_is_not_taken_in() {
    let (_folder, store) = fresh();
    for (loss, per) in [(LossKind::GradedRegret, Per::Request), (LossKind::Regret, Per::Kept)] {
        let refused = Certificate { per, ..certificate(1, loss) }.sealed();
        let error = store.put_certificate(refused).await.expect_err("refused");
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("audits"), "{error}");
    }
}

fn verdict(agreed: bool) -> Audit {
    Audit { call: call("l", if agreed { "a" } else { "b" }, Some(1)), agreed: Some(agreed) }
}

#[tokio::test]
async fn evidence_is_read_in_the_order_in_which_it_became_final() {
    let (_folder, store) = fresh();
    // Drawn for an audit, but escalated: the large model's answer is there already.
    let escalated = Trace { route: Route::Escalated, large: Some(call("l", "b", None)), ..local_trace(3, "a", true) };
    let elsewhere = Trace { certificate: Some("other".into()), ..local_trace(5, "a", false) };
    for trace in
        [local_trace(1, "a", true), local_trace(2, "a", false), escalated, local_trace(4, "a", true), elsewhere]
    {
        store.record(trace).await.expect("recorded");
    }
    let seen = store.audit_sequence("c", 0).await.expect("read");
    assert_eq!(seen.pending, 2);
    let kept: Vec<_> = seen.rows.iter().map(|row| (row.id, row.kept, row.audited, row.loss)).collect();
    assert_eq!(kept, [(id(2), true, false, None), (id(3), false, true, None)]);

    let audits = store.subscribe();
    store.attach_audit(id(4), verdict(false)).await.expect("attached");
    store.attach_audit(id(1), verdict(true)).await.expect("attached");
    let last = seen.rows.last().expect("two rows").seq;
    let next = store.audit_sequence("c", last).await.expect("read");
    assert_eq!(next.pending, 0);
    let kept: Vec<_> = next.rows.iter().map(|row| (row.id, row.audit_probability, row.loss)).collect();
    assert_eq!(kept, [(id(4), Some(0.1), Some(true)), (id(1), Some(0.1), Some(false))]);
    assert_eq!(*audits.borrow(), 2);
    let whole = store.audit_sequence("c", 0).await.expect("read");
    assert_eq!(whole.rows, [seen.rows, next.rows].concat());
}

#[tokio::test]
async fn an_audit_without_a_verdict_is_final_and_no_loss() {
    let (_folder, store) = fresh();
    store.record(local_trace(1, "a", true)).await.expect("recorded");
    let broken = crate::Call { error: Some("unavailable".into()), label: None, ..call("l", "a", None) };
    store.attach_audit(id(1), Audit { call: broken, agreed: None }).await.expect("attached");
    let seen = store.audit_sequence("c", 0).await.expect("read");
    assert_eq!((seen.pending, seen.rows[0].loss), (0, None));
}

#[tokio::test]
async fn a_second_audit_and_an_audit_of_nothing_are_refused() {
    let (_folder, store) = fresh();
    store.record(local_trace(1, "a", true)).await.expect("recorded");
    store.attach_audit(id(1), verdict(true)).await.expect("attached");
    let again = store.attach_audit(id(1), verdict(false)).await.expect_err("has one");
    let nothing = store.attach_audit(id(2), verdict(true)).await.expect_err("no such trace");
    assert_eq!((again.kind(), nothing.kind()), (ErrorKind::Internal, ErrorKind::NotFound));
    let trace = store.trace(id(1)).await.expect("found");
    assert_eq!((trace.agreed, trace.cost().map(understudy_core::Money::nanos)), (Some(true), Some(1)));
}

#[tokio::test]
async fn under_a_regret_certificate_a_gold_label_can_clear_a_disagreement() {
    let (_folder, store) = fresh();
    let c = certificate(1, LossKind::Regret);
    store.put_certificate(c.clone()).await.expect("stored");
    for n in 1..=3 {
        let trace = Trace { certificate: Some(c.id.clone()), small: Some(small("a")), ..local_trace(n, "a", true) };
        store.record(trace).await.expect("recorded");
        store.attach_audit(id(n), verdict(false)).await.expect("attached");
    }
    for (n, gold) in [(1, "a"), (2, "b")] {
        let feedback = crate::Feedback { gold: Some(gold.into()), correct: None, comment: None, at: Timestamp(9) };
        store.attach_feedback(id(n), feedback).await.expect("attached");
    }
    let losses: Vec<_> = store.audit_sequence(&c.id, 0).await.expect("read").rows.iter().map(|row| row.loss).collect();
    assert_eq!(losses, [Some(false), Some(true), Some(true)]);
}

#[tokio::test]
async fn a_certificate_survives_to_the_last_bit_and_the_newest_is_in_force() {
    let (_folder, store) = fresh();
    let task = "t".into();
    assert_eq!(store.certificate(&task, "h1").await.expect("read"), None);
    let (old, new) = (certificate(1, LossKind::Disagreement), certificate(2, LossKind::Regret));
    for c in [&new, &old, &old] {
        store.put_certificate(c.clone()).await.expect("stored");
    }
    assert_eq!(store.certificate(&task, "h1").await.expect("read"), Some(new.clone()));
    assert_eq!(store.certificate(&task, "h2").await.expect("read"), None);
    let mut forged = old.clone();
    forged.epsilon = 0.5;
    assert_eq!(store.put_certificate(forged).await.expect_err("edited").kind(), ErrorKind::Data);

    let why = Withdrawal { reason: "audits".into(), evidence: serde_json::json!({"n": 1}), at: Timestamp(5) };
    store.withdraw(&new.id, why.clone()).await.expect("withdrawn");
    store.withdraw(&new.id, Withdrawal { reason: "again".into(), ..why.clone() }).await.expect("harmless");
    assert_eq!(store.certificate(&task, "h1").await.expect("read"), None, "the older one must not come back");
    let states = store.certificates(Some(&task)).await.expect("listed");
    let found: Vec<_> = states.iter().map(|s| (&s.certificate, s.withdrawn.as_ref(), s.intact)).collect();
    assert_eq!(found, [(&new, Some(&why), true), (&old, None, true)]);
    assert_eq!(store.withdraw("nope", why).await.expect_err("unknown").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_certificate_altered_in_the_file_is_refused() {
    let (_folder, store) = fresh();
    store.put_certificate(certificate(1, LossKind::Regret)).await.expect("stored");
    let outsider = Connection::open(store.path()).expect("same file");
    outsider.execute("UPDATE certificate SET threshold = 0.1", []).expect("altered");
    assert_eq!(store.certificate(&"t".into(), "h1").await.expect("read"), None);
    assert!(!store.certificates(None).await.expect("listed")[0].intact);
}

#[tokio::test]
async fn what_was_deployed_at_a_time_stays_answered() {
    let (_folder, store) = fresh();
    let task = "t".into();
    let unknown = store.deploy(&task, "h1", Timestamp(1)).await.expect_err("not registered");
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    for hash in ["h1", "h2"] {
        store.put_artifact(artifact(hash)).await.expect("registered");
    }
    for (hash, at) in [("h1", 10), ("h2", 20), ("h1", 30)] {
        store.deploy(&task, hash, Timestamp(at)).await.expect("deployed");
    }
    for (at, expected) in [(9, None), (10, Some("h1")), (29, Some("h2")), (30, Some("h1"))] {
        let found = store.deployment_at(&task, Timestamp(at)).await.expect("read");
        assert_eq!(found.map(|d| d.artifact).as_deref(), expected, "at {at}");
    }
    assert_eq!(store.deployment(&task).await.expect("read").map(|d| d.at), Some(Timestamp(30)));
    assert_eq!(store.deployments(&task).await.expect("listed").len(), 3);
    assert_eq!(store.artifact("h2").await.expect("found"), artifact("h2"));
    assert_eq!(store.artifacts(Some(&task)).await.expect("listed").len(), 2);
    assert_eq!(store.artifact("h3").await.expect_err("unknown").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn another_handle_sees_the_generation_grow() {
    let (_folder, serving) = fresh();
    let certifying = Store::open(serving.path(), StoreOptions::default()).expect("second handle");
    let mut last = serving.generation().await.expect("read");
    certifying.put_artifact(artifact("h1")).await.expect("registered");
    assert_eq!(serving.generation().await.expect("read"), last, "an artifact alone changes nothing that serves");
    certifying.deploy(&"t".into(), "h1", Timestamp(1)).await.expect("deployed");
    let c = certificate(1, LossKind::Regret);
    for step in 0..3 {
        match step {
            0 => {}
            1 => certifying.put_certificate(c.clone()).await.expect("stored"),
            _ => {
                let why = Withdrawal { reason: "r".into(), evidence: serde_json::Value::Null, at: Timestamp(1) };
                certifying.withdraw(&c.id, why).await.expect("withdrawn");
            }
        }
        let now = serving.generation().await.expect("read");
        assert!(now > last, "step {step}");
        last = now;
    }
}
