use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Confidence, Per, Timestamp};

fn certificate(n: u64, kept: f64, losses: u64) -> Certificate {
    Certificate {
        id: String::new(),
        task: "triage".into(),
        small: "s".into(),
        small_hash: "h".into(),
        large: "gpt-4o-mini".into(),
        epsilon: 0.02,
        delta: 0.05,
        loss: LossKind::Disagreement,
        per: Per::Request,
        loss_sum: None,
        n,
        losses,
        threshold: Confidence::new(0.9).unwrap(),
        kept,
        bound: 0.0199,
        data_hash: "d".into(),
        issued: Timestamp(0),
    }
    .sealed()
}

/// Traffic of which a share `kept` is kept and a share `lost` of those is lost.
struct Traffic {
    rng: ChaCha8Rng,
    kept: f64,
    lost: f64,
}

impl Traffic {
    fn new(seed: u64, kept: f64, lost: f64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), kept, lost }
    }

    fn next(&mut self, audit: f64) -> Observation {
        let kept = self.rng.random::<f64>() < self.kept;
        let audited = kept && self.rng.random::<f64>() < audit;
        let lost = self.rng.random::<f64>() < self.lost;
        Observation { kept, audited, audit_probability: kept.then_some(audit), loss: audited.then_some(lost) }
    }
}

/// Runs until the verdict is a withdrawal or `length` requests have come; the number of requests and the monitor.
fn live(mut traffic: Traffic, certificate: &Certificate, audit: f64, length: u64) -> (Option<u64>, Monitor) {
    let mut monitor = Monitor::new(certificate);
    for request in 1..=length {
        monitor.push(&traffic.next(monitor.audit_probability(audit)));
        if monitor.withdrawn.is_some() {
            return (Some(request), monitor);
        }
    }
    (None, monitor)
}

#[test]
fn traffic_like_the_calibration_keeps_its_certificate() {
    // Loss at the edge of what is certified, with a calibration drawn anew for every run.
    let runs = 1000;
    for audit in [0.05, 0.1, 0.2] {
        let (mut withdrawn, mut alarms) = (0, 0);
        for run in 0..runs {
            let mut rng = ChaCha8Rng::seed_from_u64(10_000 + run);
            let kept = (0..1500).filter(|_| rng.random::<f64>() < 0.8).count();
            let losses = (0..kept).filter(|_| rng.random::<f64>() < 0.025).count();
            let certificate = certificate(1500, kept as f64 / 1500.0, losses as u64);
            let (end, monitor) = live(Traffic::new(run, 0.8, 0.025), &certificate, audit, 3000);
            withdrawn += u64::from(end.is_some());
            alarms += u64::from(!matches!(monitor.alarm, Alarm::None));
        }
        let bound = binomial::interval(withdrawn, runs, 0.95);
        println!(
            "audits {audit}: withdrawn {withdrawn} of {runs} [{:.4}, {:.4}], alarms {alarms}",
            bound.low, bound.high
        );
        assert!(bound.low <= 0.05, "{bound:?}");
    }
}

#[test]
fn a_doubled_loss_is_found_without_an_alarm() {
    let found = (0..100).filter(|&run| {
        let (end, monitor) = live(Traffic::new(run, 0.8, 0.075), &certificate(1500, 0.8, 20), 0.2, 5000);
        if run == 0 {
            println!("{:?}", monitor.verdict());
        }
        end.is_some()
    });
    let found = found.count();
    println!("3 x epsilon at 20 % audits within 5,000 requests: {found} of 100");
    assert!(found >= 95);
}

#[test]
fn changed_traffic_raises_the_alarm_and_the_audits_then_decide() {
    let certificate = certificate(2000, 0.734, 29);
    let (mut worse, mut fine) = (0, 0);
    for run in 0..100 {
        let (end, monitor) = live(Traffic::new(run, 0.65, 0.05), &certificate, 0.1, 2000);
        worse += u64::from(end.is_some());
        if let (0, Verdict::Withdraw { reason, .. }) = (run, monitor.verdict()) {
            println!("{reason}");
            assert!(reason.contains("gpt-4o-mini") && reason.contains("at calibration of 73.4 %"));
        }
        let (end, _) = live(Traffic::new(run, 0.65, 0.01), &certificate, 0.1, 2000);
        fine += u64::from(end.is_some());
    }
    println!("withdrawn: {worse} of 100 where kept answers got worse, {fine} of 100 where they got better");
    assert!(worse >= 90 && fine <= 20);
}

#[test]
fn audits_follow_the_alarm_and_fall_back_when_the_loss_is_shown_to_be_small() {
    let certificate = certificate(2000, 0.734, 29);
    let (end, monitor) = live(Traffic::new(1, 0.6, 0.002), &certificate, 0.1, 4000);
    assert!(end.is_none() && matches!(monitor.alarm, Alarm::Ended));
    assert!((monitor.audit_probability(0.1) - AFTER_ALARM_AUDITS).abs() < 1e-12);
    let (_, monitor) = live(Traffic::new(1, 0.4, 0.02), &certificate, 0.1, 60);
    assert!(matches!(monitor.alarm, Alarm::Standing { .. }));
    assert!((monitor.audit_probability(0.1) - ALARM_AUDITS).abs() < 1e-12);
}

#[test]
fn an_alarm_that_audits_cannot_settle_ends_in_a_withdrawal() {
    // Lost about as often as at calibration and close to what is allowed: 500 audits show neither.
    let (end, monitor) = live(Traffic::new(3, 0.65, 0.024), &certificate(2000, 0.734, 36), 0.1, 4000);
    let Verdict::Withdraw { reason, .. } = monitor.verdict() else { panic!("{:?}", monitor.verdict()) };
    println!("after {end:?} requests: {reason}");
    assert!(reason.contains("500 audits since then did not show"), "{reason}");
}

#[test]
fn replaying_the_record_gives_the_same_verdict() {
    let certificate = certificate(1500, 0.8, 20);
    let mut traffic = Traffic::new(5, 0.7, 0.06);
    let record: Vec<Observation> = (0..3000).map(|_| traffic.next(0.2)).collect();
    assert_eq!(judge(&certificate, record.iter().copied()), judge(&certificate, record));
}

#[test]
fn audits_that_are_off_or_without_a_verdict_prove_nothing() {
    let off = Observation { kept: true, audited: false, audit_probability: Some(0.0), loss: None };
    let mute = Observation { kept: true, audited: true, audit_probability: Some(0.5), loss: None };
    let verdict = judge(&certificate(1500, 0.999, 20), std::iter::repeat_n([off, mute], 1000).flatten());
    let Verdict::Valid(evidence) = verdict else { panic!("{verdict:?}") };
    assert_eq!((evidence.audited, evidence.unjudged, evidence.requests), (0, 1000, 2000));
}

/// An alarm after a long time at a low kept share: what comes of it on traffic with another share and loss.
fn after_a_change(run: u64, certificate: &Certificate, kept: f64, lost: f64) -> Monitor {
    let mut monitor = Monitor::new(certificate);
    let mut before = Traffic::new(1_000 + run, certificate.kept, 0.0);
    (0..5000).for_each(|_| monitor.push(&before.next(0.1)));
    let mut after = Traffic::new(run, kept, lost);
    for _ in 0..20_000 {
        monitor.push(&after.next(monitor.audit_probability(0.1)));
        if monitor.withdrawn.is_some() || matches!(monitor.alarm, Alarm::Ended) {
            break;
        }
    }
    monitor
}

#[test]
fn an_alarm_ends_by_the_traffic_since_and_seldom_where_that_loses_more_than_allowed() {
    // At calibration 30 % were kept and 3 % of them lost, a loss of 0.9 %. Now 90 % are kept: 2.1 % in all.
    let runs = 200;
    let certificate = certificate(2000, 0.3, 18);
    let ended = |kept: f64, lost: f64| {
        let ended = |run: &u64| matches!(after_a_change(*run, &certificate, kept, lost).alarm, Alarm::Ended);
        (0..runs).filter(ended).count()
    };
    let (bad, good) = (ended(0.9, 0.0235), ended(0.9, 0.002));
    println!("alarms ended: {bad} of {runs} at a loss of 2.1 %, {good} at 0.2 %");
    // 5 % of 200, plus three standard deviations.
    assert!(bad <= 19 && good >= 190);
}

#[test]
fn a_small_epsilon_has_the_patience_to_be_shown() {
    let certificate = Certificate { epsilon: 0.002, ..certificate(3000, 0.7, 0) };
    assert_eq!((patience(0.02, 0.05), patience(0.002, 0.05), patience(0.1, 0.05)), (500, 4995, 500));
    let monitor = after_a_change(1, &certificate, 0.8, 0.0);
    assert!(matches!(monitor.alarm, Alarm::Ended), "{:?}", monitor.verdict());
}

#[test]
fn after_an_alarm_that_ended_another_change_raises_another() {
    let certificate = certificate(2000, 0.3, 18);
    let mut monitor = after_a_change(1, &certificate, 0.9, 0.0);
    assert!(matches!(monitor.alarm, Alarm::Ended));
    let mut same = Traffic::new(77, 0.9, 0.0);
    (0..3000).for_each(|_| monitor.push(&same.next(0.3)));
    assert!(matches!(monitor.alarm, Alarm::Ended), "the share since the alarm is the new measure");
    let mut other = Traffic::new(78, 0.6, 0.0);
    let found = (0..3000).find(|_| {
        monitor.push(&other.next(0.3));
        matches!(monitor.alarm, Alarm::Standing { .. })
    });
    let Verdict::Alarm { reason, .. } = monitor.verdict() else { panic!("{:?}", monitor.verdict()) };
    println!("after {found:?} requests: {reason}");
    assert!(reason.contains("at the end of the last alarm of 9"), "{reason}");
}
