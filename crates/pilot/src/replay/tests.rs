use super::*;
use understudy_core::{Outcome, RecordedAnswer};

/// Rows whose large model helps more as the score rises, with ties.
fn some_rows(n: u32) -> Vec<Row> {
    (0..n)
        .map(|i| {
            let score = f64::from(i * 7919 % n / 3) / f64::from(n);
            let right = |factor: u32, share: f64| f64::from(u8::from(f64::from(i * factor % 101) / 101.0 < share));
            let side = |quality, cost, latency| Side { quality, cost_usd: Some(cost), latency_ms: Some(latency) };
            Row { small: side(right(37, 0.9 - score), 0.1, 20.0), large: side(right(53, 0.85), 1.0, 300.0), score }
        })
        .collect()
}

#[test]
fn the_driven_curve_equals_counting_at_every_threshold() {
    let rows = some_rows(400);
    let ranked = Ranked::new(&rows);
    for stage in [Stage::Before, Stage::After] {
        let cuts = ranked.cuts();
        let limits: Vec<f64> = cuts[1..].iter().map(|cut| ranked.score[cut.kept - 1]).collect();
        let driven = drive::curve(&rows, &limits, stage).expect("valid rows");
        let (cost, _) = ranked.cost(stage == Stage::After).expect("prices are known");
        assert_eq!(driven.len(), cuts.len());
        for (point, cut) in driven.iter().zip(&cuts) {
            assert!((point.kept - cut.kept as f64 / 400.0).abs() < 1e-12);
            assert!((point.quality - cut.quality / 400.0).abs() < 1e-12);
            assert!(point.cost_usd.is_some_and(|c| (c - cost[cut.kept]).abs() < 1e-12));
        }
    }
}

#[test]
fn behind_a_gate_an_escalated_request_pays_and_waits_for_both_models() {
    let rows = some_rows(300);
    let replayed = |stage| {
        let options = Options { stage, resamples: 0, seed: Seed(1) };
        replay(&rows, options).expect("valid rows").curve[0]
    };
    let (before, after) = (replayed(Stage::Before), replayed(Stage::After));
    assert!(before.cost_usd.is_some_and(|c| (c - 1.0).abs() < 1e-12));
    assert!(after.cost_usd.is_some_and(|c| (c - 1.1).abs() < 1e-12));
    assert!(after.latency_ms.is_some_and(|ms| (ms - 320.0).abs() < 1e-9));
    assert_eq!((before.kept, before.quality), (after.kept, after.quality));
}

#[test]
fn an_unknown_price_makes_the_price_of_the_curve_unknown_not_zero() {
    let mut rows = some_rows(50);
    rows[7].large.cost_usd = None;
    let replayed = replay(&rows, Options { stage: Stage::Before, resamples: 0, seed: Seed(1) }).expect("valid rows");
    assert_eq!(replayed.curve[0].cost_usd, None);
    assert!(replayed.curve[0].latency_ms.is_some() && replayed.figures.aiq.is_some());
}

#[test]
fn the_share_kept_at_a_loss_is_the_one_found_by_trying_every_threshold() {
    let rows = some_rows(400);
    let figures = figures(&rows, Stage::Before).expect("valid rows");
    let mean = |f: &dyn Fn(&Row) -> f64| rows.iter().map(f).sum::<f64>() / 400.0;
    let large = mean(&|row| row.large.quality);
    for (loss, kept) in LOSSES.into_iter().zip(figures.kept_at_loss) {
        let naive = rows
            .iter()
            .map(|at| at.score)
            .filter(|&t| {
                mean(&|r| if r.score <= t { r.small.quality } else { r.large.quality }) >= large - loss - 1e-12
            })
            .map(|t| mean(&|r| f64::from(u8::from(r.score <= t))))
            .fold(0.0, f64::max);
        assert!((kept - naive).abs() < 1e-12, "at {loss}: {kept} instead of {naive}");
    }
}

#[test]
fn nobody_beats_the_oracle_and_the_interval_holds_the_estimate() {
    let rows = some_rows(400);
    let options = Options { stage: Stage::Before, resamples: 200, seed: Seed(4) };
    let replayed = replay(&rows, options).expect("valid rows");
    let best = |kept: f64| {
        replayed.oracle.iter().filter(|o| o.kept <= kept + 1e-9).map(|o| o.quality).next_back().expect("0 is a share")
    };
    assert!(replayed.curve.iter().all(|point| point.quality <= best(point.kept) + 0.02));
    assert!(replayed.oracle.iter().any(|point| point.quality > replayed.quality_large.estimate));
    let apgr = replayed.figures.apgr.expect("the large model is better");
    assert!(apgr.low < apgr.estimate && apgr.estimate < apgr.high && apgr.estimate > 0.5, "{apgr:?}");
    assert_eq!(replayed, replay(&rows, options).expect("valid rows"), "same seed, same result");
}

#[test]
fn a_perfect_score_recovers_everything_a_reversed_one_nothing() {
    let rows = some_rows(400);
    let with = |sign: f64| {
        let rows: Vec<Row> = rows
            .iter()
            .map(|row| Row { score: sign * (row.large.quality - row.small.quality), ..row.clone() })
            .collect();
        figures(&rows, Stage::Before).expect("valid rows").apgr_full.expect("the large model is better")
    };
    assert!(with(1.0) > 1.0 && with(-1.0) < 0.0, "{} {}", with(1.0), with(-1.0));
}

#[test]
fn rows_without_a_score_go_to_the_large_model_first_and_faults_are_named() {
    let answered = |quality: f64, confidence: Option<f64>| RecordedAnswer {
        quality: Some(quality),
        confidence,
        ..RecordedAnswer::default()
    };
    let outcome = |id: &str, confidence: Option<f64>| Outcome {
        id: id.to_owned(),
        models: [("s".to_owned(), answered(0.0, confidence)), ("l".to_owned(), answered(1.0, None))].into(),
        ..Outcome::default()
    };
    let outcomes = [outcome("a", Some(0.9)), outcome("b", None), outcome("c", Some(0.2))];
    let (found, places) = rows(&outcomes, "s", "l", &Score::Recorded).expect("complete");
    assert_eq!(places, [0, 1, 2]);
    assert!(found[0].score < found[2].score && found[2].score < found[1].score);
    let says = |small: &str, outcomes: &[Outcome]| {
        rows(outcomes, small, "l", &Score::Recorded).expect_err("refused").to_string()
    };
    assert!(says("q", &outcomes).contains("they have l, s"));
    assert!(says("s", &outcomes[1..2]).contains("no confidence"));
    let broken = Row { score: f64::NAN, ..some_rows(1)[0].clone() };
    assert!(figures(&[broken], Stage::Before).is_err() && figures(&[], Stage::Before).is_err());
}
