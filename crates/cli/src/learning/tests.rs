use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::Confidence;

const EPSILON: f64 = 0.02;

/// A row that a small model answers with this confidence; it is wrong now and then, the more the less sure it is.
fn row(rng: &mut ChaCha8Rng, n: u32, route: Route, reason: &str) -> LearningRow {
    let confidence: f64 = rng.random();
    let wrong = rng.random::<f64>() < wrong_at(confidence);
    LearningRow {
        id: TraceId::from_parts(0, 0),
        input: String::new(),
        input_hash: n.to_string(),
        occurrence: 0,
        label: "right".into(),
        source: Source::Large,
        at: Timestamp(i64::from(n)),
        route,
        reason: reason.to_owned(),
        large_label: Some("right".into()),
        large: Some("large".into()),
        small_label: Some(if wrong { "wrong" } else { "right" }.into()),
        small_confidence: Some(Confidence::new(confidence).expect("in range")),
        small_hash: None,
    }
}

fn wrong_at(confidence: f64) -> f64 {
    0.4 * (1.0 - confidence)
}

/// The loss per request of a threshold: 0.4 (1 − c) summed from it to 1.
fn loss(threshold: f64) -> f64 {
    0.2 * (1.0 - threshold).powi(2)
}

fn certified(rows: &[(String, LearningRow)]) -> Option<f64> {
    let item = |(name, row): &(String, LearningRow)| Item {
        id: name.clone(),
        confidence: row.small_confidence.map(Confidence::get),
        loss_if_kept: row.small_label != row.large_label,
    };
    let terms = Terms {
        task: "t".into(),
        small: "small".into(),
        small_hash: "h".into(),
        large: "large".into(),
        epsilon: EPSILON,
        delta: 0.05,
        loss: LossKind::Disagreement,
        issued: Timestamp(0),
    };
    let items: Vec<Item> = rows.iter().map(item).collect();
    let report = certify(&items, &terms, &Grid::default()).expect("valid");
    report.certificate().map(|c| c.threshold.get())
}

/// Certificates of `runs` tasks that were certified from observed traffic, went live, and are certified again: how many
/// are wrong by what `held_out` takes, and by everything that the large model answered.
fn certified_again(runs: u64, live: u32) -> (u64, u64, usize) {
    let (mut wrong, mut wrong_of_all, mut left_out) = (0, 0, 0);
    for run in 0..runs {
        let mut rng = ChaCha8Rng::seed_from_u64(run);
        let mut rows: Vec<LearningRow> = (0..2000).map(|n| row(&mut rng, n, Route::Large, "observe")).collect();
        let named = |rows: &[LearningRow]| -> Vec<(String, LearningRow)> {
            rows.iter().map(|row| (row_name(&row.input_hash, row.occurrence), row.clone())).collect()
        };
        let Some(threshold) = certified(&named(&rows)) else { continue };
        for n in 0..live {
            let mut row = row(&mut rng, 2000 + n, Route::Escalated, "unsure");
            let kept = row.small_confidence.is_some_and(|c| c.get() >= threshold);
            if kept {
                (row.route, row.reason) = (Route::Local, "confident".into());
            }
            // A kept answer's label is known where an audit asked for it.
            if !kept || rng.random::<f64>() < 0.1 {
                rows.push(row);
            }
        }
        let is_wrong = |rows: &[(String, LearningRow)]| u64::from(certified(rows).is_some_and(|t| loss(t) > EPSILON));
        wrong_of_all += is_wrong(&named(&rows));
        let sides = Sides { train: Vec::new(), certify: named(&rows) };
        let (taken, selected) = held_out(sides, &"t".into(), &"large".into()).expect("2,000 observed rows");
        assert_eq!(taken.len(), 2000);
        wrong += is_wrong(&taken);
        left_out += selected;
    }
    (wrong, wrong_of_all, left_out)
}

#[test]
fn a_certificate_from_live_traffic_is_wrong_no_more_often_than_delta() {
    let (wrong, wrong_of_all, left_out) = certified_again(100, 10_000);
    println!("of 100 certificates wrong: {wrong}; had rows that a certificate selected been taken: {wrong_of_all}");
    // 5 of 100, plus three standard deviations.
    assert!(wrong <= 11 && wrong_of_all > 50 && left_out > 100_000, "{wrong} {wrong_of_all} {left_out}");
}

#[test]
fn only_what_the_large_model_got_regardless_certifies() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut of = |route, reason| is_unselected(&row(&mut rng, 0, route, reason));
    assert!(["observe", "shadow", "no_small_model", "no_certificate"].iter().all(|reason| of(Route::Large, reason)));
    assert!(!of(Route::Large, "router") && !of(Route::Escalated, "unsure") && !of(Route::Local, "confident"));
    let row = row(&mut rng, 7, Route::Escalated, "unsure");
    let sides = Sides { train: Vec::new(), certify: vec![("7-1".into(), row)] };
    let error = held_out(sides, &"t".into(), &"large".into()).expect_err("nothing is left").to_string();
    assert!(error.contains("all 1 answers") && error.contains("shadow"), "{error}");
}
