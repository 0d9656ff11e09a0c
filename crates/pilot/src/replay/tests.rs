use super::*;
use understudy_core::{Outcome, RecordedAnswer};

/// Rows whose large model helps more as the score rises, with ties.
fn some_rows(n: u32) -> Vec<Row> {
    (0..n)
        .map(|i| {
            let score = f64::from(i * 7919 % n / 3) / f64::from(n);
            let right = |factor: u32, share: f64| f64::from(u8::from(f64::from(i * factor % 101) / 101.0 < share));
            let side = |quality, cost, latency| Side { quality, cost_usd: Some(cost), latency_ms: Some(latency) };
            Row {
                small: side(right(37, 0.9 - score), 0.1, 20.0),
                large: side(right(53, 0.85), 1.0, 300.0),
                score,
                weight: 1.0,
            }
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
            assert!((point.quality - cut.quality).abs() < 1e-12);
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

#[test]
fn a_row_of_weight_two_counts_as_two_rows() {
    let mut rows = some_rows(300);
    for (i, row) in rows.iter_mut().enumerate() {
        row.weight = f64::from(u8::try_from(i % 3).expect("small") + 1);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1, 2 or 3")]
    let copies = |row: &Row| std::iter::repeat_n(Row { weight: 1.0, ..row.clone() }, row.weight as usize);
    let repeated: Vec<Row> = rows.iter().flat_map(copies).collect();
    for stage in [Stage::Before, Stage::After] {
        let (weighted, plain) = (figures(&rows, stage).expect("valid"), figures(&repeated, stage).expect("valid"));
        // The deciles of RouteLLM's figures are those of the rows, whatever they stand for.
        for place in [1, 4, 5, 6, 7] {
            let (a, b) = (weighted.values()[place], plain.values()[place]);
            assert!((a.expect("known") - b.expect("known")).abs() < 1e-12, "{place}: {a:?} {b:?}");
        }
        let options = Options { stage, resamples: 0, seed: Seed(1) };
        let (weighted, plain) = (replay(&rows, options).expect("valid"), replay(&repeated, options).expect("valid"));
        let far = |a: &Point, b: &Point| (a.kept - b.kept).abs() + (a.quality - b.quality).abs();
        let same = |a: &Point| plain.curve.iter().any(|b| a.limit == b.limit && far(a, b) < 1e-12);
        assert!(weighted.curve.iter().filter(|point| same(point)).count() > 50);
    }
    rows[0].weight = 0.0;
    assert!(figures(&rows, Stage::Before).is_err());
}

#[test]
fn audits_weighted_by_their_chance_replay_as_the_whole_traffic() {
    use rand::RngExt;
    let rows = some_rows(3000);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    // Live: low scores were kept, and one in five of those audited; the others were answered by both models.
    let chance = |row: &Row| if row.score < 0.2 { 0.2 } else { 1.0 };
    // Means are estimated without bias; a ratio such as APGR is so only in the limit.
    let halfway = |rows: &[Row]| {
        let ranked = Ranked::new(rows);
        let cut = ranked.cuts().into_iter().rfind(|cut| cut.kept > 0 && ranked.score[cut.kept - 1] < 0.2);
        cut.expect("many scores are below").quality
    };
    let (mut with, mut without) = (0.0, 0.0);
    let runs = 40;
    for _ in 0..runs {
        let seen: Vec<Row> = rows.iter().filter(|row| rng.random::<f64>() < chance(row)).cloned().collect();
        let weighted: Vec<Row> = seen.iter().map(|row| Row { weight: 1.0 / chance(row), ..row.clone() }).collect();
        with += (halfway(&weighted) - halfway(&rows)) / f64::from(runs);
        without += (halfway(&seen) - halfway(&rows)) / f64::from(runs);
    }
    println!("off by {with:.4} with weights, {without:.4} without, on average");
    assert!(with.abs() < 0.005 && without.abs() > 0.01);
}
