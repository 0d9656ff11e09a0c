use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn usd(x: f64) -> Money {
    Money::from_usd(x).expect("small")
}

fn row(confidence: f64, small: f64, large: f64) -> Observed {
    Observed {
        confidence: Some(confidence),
        small_cost: usd(small),
        small_ms: Some(10.0),
        large: Some((usd(large), Some(100.0))),
        probability: 1.0,
    }
}

const POLICY: Policy = Policy { threshold: 0.5, audit: 0.1 };

#[test]
fn costs_follow_the_cascade_request_by_request() {
    let rows = [row(0.9, 0.001, 0.03), row(0.5, 0.001, 0.05), row(0.4, 0.001, 0.01), row(0.1, 0.001, 0.02)];
    let out = forecast(&rows, POLICY, Target::Next(1000)).expect("valid");
    // small 4 × .001; audits .1 × (.03 + .05); escalations .01 + .02.
    let expected = (0.004 + 0.008 + 0.03) / 4.0;
    assert!((out.cost_per_request_usd.estimate - expected).abs() < 1e-12, "{out:?}");
    assert!((out.total_usd.estimate - 1000.0 * expected).abs() < 1e-9);
    assert!((out.audits_per_request_usd.estimate - 0.002).abs() < 1e-12);
    assert!((out.kept.estimate - 0.5).abs() < 1e-12);
    assert!((out.saved.estimate - (1.0 - expected / 0.0275)).abs() < 1e-9);
    let [p50, p95] = [out.latency_ms_p50, out.latency_ms_p95].map(|p| p.expect("times are known").estimate);
    assert!((p50 - 10.0).abs() < 1e-9 && (p95 - 110.0).abs() < 1e-9);
}

#[test]
fn an_answer_without_confidence_is_escalated() {
    let mut rows = [row(1.0, 0.0, 0.02); 4];
    rows[0].confidence = None;
    let out = forecast(&rows, POLICY, Target::Next(4)).expect("valid");
    assert!((out.kept.estimate - 0.75).abs() < 1e-12);
}

#[test]
fn an_unknown_time_leaves_the_cost_known() {
    let mut rows = [row(0.9, 0.0, 0.02); 4];
    rows[2].small_ms = None;
    let out = forecast(&rows, POLICY, Target::Next(4)).expect("valid");
    assert_eq!((out.latency_ms_p50, out.large_latency_ms_p50.is_some()), (None, true));
}

#[test]
fn what_cannot_be_forecast_is_refused() {
    assert!(forecast(&[row(0.9, 0.0, 0.1)], POLICY, Target::Next(1)).is_err());
    assert!(
        forecast(&[row(0.9, 0.0, 0.0); 3], POLICY, Target::Next(1)).is_err(),
        "a free large model is an unknown one"
    );
    let bad = Observed { probability: 0.0, ..row(0.9, 0.0, 0.1) };
    assert!(forecast(&[bad, bad], POLICY, Target::Next(1)).is_err());
    for policy in [Policy { audit: 1.5, ..POLICY }, Policy { threshold: f64::NAN, ..POLICY }] {
        assert!(forecast(&[row(0.9, 0.0, 0.1); 2], policy, Target::Next(1)).is_err());
    }
}

/// Requests whose costs and confidences depend on each other, as real ones do.
fn population(n: usize, seed: u64) -> Vec<Observed> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| {
            let (confidence, length): (f64, f64) = (rng.random(), rng.random());
            let large = 0.01 * (0.2 + length) * (1.5 - confidence);
            row(confidence, 0.0001 * (1.0 + length), large)
        })
        .collect()
}

/// What a gateway's live traces show of them: the large model's part of kept answers only where the audit drew them.
fn seen_live(rows: &[Observed], live: Policy, seed: u64) -> Vec<Observed> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let one = |row: &Observed| {
        let kept = row.confidence.is_some_and(|c| c >= live.threshold);
        let audited = rng.random::<f64>() < live.audit;
        match (kept, audited) {
            (false, _) => *row,
            (true, true) => Observed { probability: live.audit, ..*row },
            (true, false) => Observed { large: None, probability: live.audit, ..*row },
        }
    };
    rows.iter().map(one).collect()
}

#[test]
fn audits_stand_for_the_kept_answers_that_were_not_audited() {
    let all = population(200_000, 1);
    let stricter = Policy { threshold: 0.8, audit: 0.1 };
    let truth = forecast(&all, stricter, Target::Next(10_000)).expect("valid");
    let live = forecast(&seen_live(&all, POLICY, 2), stricter, Target::Next(10_000)).expect("valid");
    let off = live.cost_per_request_usd.estimate / truth.cost_per_request_usd.estimate - 1.0;
    assert!(off.abs() < 0.02, "{off}");
    let wide = live.cost_per_request_usd.high.expect("bounded") - live.cost_per_request_usd.estimate;
    let full = truth.cost_per_request_usd.high.expect("bounded") - truth.cost_per_request_usd.estimate;
    assert!(wide > full, "fewer facts, wider interval");
}

#[test]
fn a_handful_of_audits_gives_no_interval_of_what_the_large_model_costs() {
    let forecast = |rows: &[Observed]| forecast(rows, POLICY, Target::Next(1000)).expect("valid");
    let few = forecast(&seen_live(&population(100, 1), Policy { audit: 0.05, ..POLICY }, 2));
    assert!(few.large_per_request_usd.low.is_none() && few.saved.high.is_none() && few.total_usd.low.is_some());
    let many = forecast(&seen_live(&population(1000, 1), POLICY, 2));
    assert!(many.large_per_request_usd.low.is_some() && many.saved.high.is_some());
    assert!(forecast(&population(100, 1)).saved.low.is_some(), "nothing was sampled");
}

/// The share of 400 draws in which the interval holds what it is about.
fn coverage(target: impl Fn(&[Observed]) -> (Vec<Observed>, Target, f64)) -> f64 {
    let all = population(20_000, 3);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut held = 0;
    for _ in 0..400 {
        let drawn: Vec<Observed> = (0..3000).map(|_| all[rng.random_range(0..all.len())]).collect();
        let (rows, target, truth) = target(&drawn);
        let out = forecast(&rows, POLICY, target).expect("valid");
        let (low, high) = (out.total_usd.low.expect("bounded"), out.total_usd.high.expect("bounded"));
        held += u32::from((low..=high).contains(&truth));
    }
    f64::from(held) / 400.0
}

/// What requests cost, one after the other, with their audits drawn.
fn spent(rows: &[Observed]) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(rows.iter().map(|r| r.small_cost.nanos().unsigned_abs()).sum());
    let large = |row: &Observed| row.large.map_or(0.0, |(cost, _)| cost.usd());
    let kept = |row: &Observed| row.confidence.is_some_and(|c| c >= POLICY.threshold);
    let mut asked = |row: &Observed| !kept(row) || rng.random::<f64>() < POLICY.audit;
    rows.iter().map(|r| r.small_cost.usd() + if asked(r) { large(r) } else { 0.0 }).sum()
}

#[test]
fn the_interval_of_the_next_requests_holds_them_as_often_as_it_says() {
    let share = coverage(|drawn| (drawn[..500].to_vec(), Target::Next(2500), spent(&drawn[500..])));
    assert!((0.92..0.98).contains(&share), "{share}");
}

#[test]
fn a_known_bill_narrows_the_interval_and_it_still_holds() {
    let billed = |drawn: &[Observed]| {
        let large_total = drawn.iter().filter_map(|r| r.large.map(|(cost, _)| cost)).sum();
        Target::Billed { requests: drawn.len() as u64, large_total }
    };
    let share = coverage(|drawn| (drawn[..500].to_vec(), billed(drawn), spent(drawn)));
    assert!((0.92..0.98).contains(&share), "{share}");
    let shadow = coverage(|drawn| (drawn.to_vec(), billed(drawn), spent(drawn)));
    assert!((0.92..0.98).contains(&shadow), "of a trace that is known whole, only the audits are drawn: {shadow}");
    let drawn = population(3000, 5);
    let width = |target| {
        let out = forecast(&drawn[..500], POLICY, target).expect("valid");
        out.total_usd.high.expect("bounded") - out.total_usd.low.expect("bounded")
    };
    assert!(width(billed(&drawn)) < 0.95 * width(Target::Next(3000)));
}

#[test]
fn a_quantile_holds_its_level_and_ends_where_the_sample_ends() {
    let sample: Vec<(f64, f64)> = (1..=1000).map(|i| (f64::from(i), 1.0)).collect();
    let quantile = |sample: &[(f64, f64)], q| quantile(sample, q).expect("not empty");
    let p95 = quantile(&sample, 0.95);
    assert!((p95.estimate - 950.0).abs() < 1e-9);
    assert!(p95.low.expect("inside") < 950.0 && p95.high.expect("inside") > 950.0);
    assert_eq!(quantile(&sample[..50], 0.99).high, None);
    // A weight of three is the same as three rows.
    let tripled: Vec<(f64, f64)> = (1..=1000).map(|i| (f64::from(i), 3.0)).collect();
    assert!((quantile(&tripled, 0.5).estimate - quantile(&sample, 0.5).estimate).abs() < 1e-9);
}
