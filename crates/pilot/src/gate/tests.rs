use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Outcome, RecordedAnswer};
use understudy_route::gate::FittedGate;

/// A pair whose small model errs when the question is hard. Its confidence tells little of that, two helpers tell more;
/// with `told` false, neither tells anything.
fn outcomes(n: usize, seed: u64, told: bool) -> Vec<Outcome> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut answer = |right: bool, confidence: Option<f64>, cost: f64| RecordedAnswer {
        quality: Some(f64::from(u8::from(right))),
        // Of equal length: only agreement tells.
        answer: Some(if right || !told { "right".to_owned() } else { format!("nope{}", rng.random_range(0..3_u8)) }),
        confidence,
        cost_usd: Some(cost),
        ..RecordedAnswer::default()
    };
    let mut draw = ChaCha8Rng::seed_from_u64(seed + 1);
    (0..n)
        .map(|id| {
            let hard: f64 = draw.random();
            let mut right = |ease: f64| draw.random::<f64>() < 1.0 - ease * hard;
            let (small, large) = (right(0.8), right(0.2));
            let helpers = [right(0.8), right(0.7)];
            let confidence = if told { (1.0 - 0.5 * hard + 0.5 * draw.random::<f64>()) / 1.5 } else { draw.random() };
            let models = [
                ("small".to_owned(), answer(small, Some(confidence), 0.1)),
                ("large".to_owned(), answer(large, None, 1.0)),
                ("helper-a".to_owned(), answer(helpers[0], None, 0.1)),
                ("helper-b".to_owned(), answer(helpers[1], None, 0.2)),
            ];
            Outcome { id: id.to_string(), prompt: "which?".into(), models: models.into(), ..Outcome::default() }
        })
        .collect()
}

#[test]
fn several_signals_together_beat_the_best_of_them() {
    let (train, test) = (outcomes(400, 1, true), outcomes(4000, 2, true));
    let pair = Pair { small: "small", large: "large" };
    let found = apart(&train, &test, pair, &Params::default()).expect("enough rows");
    println!("gate {:.3}, raw {:?}", found.gate, found.raw);
    assert_eq!(found.helpers, ["helper-a", "helper-b"]);
    assert!(found.gate > found.best_raw().1 + 0.02, "{found:?}");
}

#[test]
fn where_signals_tell_nothing_the_gate_is_no_worse_than_they_are() {
    let (train, test) = (outcomes(300, 3, false), outcomes(6000, 4, false));
    let pair = Pair { small: "small", large: "large" };
    let found = apart(&train, &test, pair, &Params::default()).expect("enough rows");
    assert!((found.gate - 0.5).abs() < 0.05, "{found:?}");
}

#[test]
fn confidences_are_calibrated_on_rows_that_the_gate_has_not_seen() {
    let (train, test) = (outcomes(1500, 5, true), outcomes(4000, 6, true));
    let fit = fit(&train, "small", "large", &Params::default()).expect("enough rows");
    let confidence: Vec<f64> = test.iter().map(|o| fit.confidence(o).expect("nothing is missing").get()).collect();
    let quality = |o: &Outcome, name: &str| o.models[name].quality.expect("recorded");
    let kept_well: Vec<bool> = test.iter().map(|o| quality(o, "small") >= quality(o, "large")).collect();
    let error = understudy_stats::calibration::expected_error(&confidence, &kept_well, 10);
    println!("expected calibration error {error:.4}");
    assert!(error < 0.05, "{error}");
}

#[test]
fn the_same_seed_fits_the_same_gate_and_a_saved_one_scores_alike() {
    let train = outcomes(200, 7, true);
    let made = fit(&train, "small", "large", &Params::default()).expect("enough rows");
    let again = fit(&train, "small", "large", &Params::default()).expect("enough rows");
    assert_eq!(made.gate.hash(), again.gate.hash());
    let read = FittedGate::from_json(&made.gate.to_json()).expect("own form");
    let read = Fit { gate: read, ..made.clone() };
    assert_eq!(read.scores(&train), made.scores(&train));
}

#[test]
fn each_kind_fits_and_a_raw_gate_asks_for_nothing_but_its_signal() {
    let train = outcomes(200, 8, true);
    for kind in [Kind::Raw, Kind::Logistic, Kind::Boosted] {
        let fit = fit(&train, "small", "large", &Params { kind, ..Params::default() }).expect("enough rows");
        let members = fit.gate.file().members.len();
        println!("{kind:?}: {members} members, {}", fit.reason());
        assert!(kind != Kind::Raw || members == 1);
    }
    let alone = Params { kind: Kind::Raw, helpers: Helpers::Named(Vec::new()), ..Params::default() };
    let fit = fit(&train, "small", "large", &alone).expect("enough rows");
    assert_eq!((fit.gate.file().columns.len(), fit.raw_name.as_str()), (1, "confidence"));
}

#[test]
fn too_little_and_unknown_is_refused_by_name() {
    let train = outcomes(60, 9, true);
    let says = |outcomes: &[Outcome], small: &str| {
        fit(outcomes, small, "large", &Params::default()).expect_err("refused").to_string()
    };
    assert!(says(&train[..20], "small").contains("too few"));
    assert!(says(&train, "tiny").contains("helper-a"));
    assert!(Kind::parse("best").is_err());
}
