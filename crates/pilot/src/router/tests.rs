use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Outcome, RecordedAnswer, Seed};
use understudy_route::router::Prompt;

fn outcome(i: u32, group: &str, prompt: String, small: f64, large: f64) -> Outcome {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(i));
    let mut answered = |share: f64| RecordedAnswer {
        quality: Some(f64::from(u8::from(rng.random::<f64>() < share))),
        ..RecordedAnswer::default()
    };
    Outcome {
        id: i.to_string(),
        group: Some(group.to_owned()),
        prompt,
        models: [("s".to_owned(), answered(small)), ("l".to_owned(), answered(large))].into(),
        ..Outcome::default()
    }
}

/// Where the small model fails is told by the shape of the text and not by anything a trivial router sees alone.
fn shaped(n: u32) -> Vec<Outcome> {
    (0..n)
        .map(|i| {
            let hard = i * 7 % 2 == 0;
            let word = ["river", "stone", "cloud", "grass"][(i / 2 % 4) as usize];
            let text = match hard {
                true => format!("tell me about the {word}, and count to ten"),
                false => format!("tell me about the {word}, and count to ten").to_uppercase(),
            };
            outcome(i, ["a", "b"][(i / 3 % 2) as usize], text, if hard { 0.3 } else { 0.9 }, 0.9)
        })
        .collect()
}

const STATIC: [Kind; 4] = [Kind::Length, Kind::Group, Kind::Tfidf, Kind::Static];

#[test]
fn a_router_that_beats_the_trivial_ones_is_used() {
    let outcomes = shaped(300);
    let examples = examples(&outcomes, &[], "s", "l").expect("complete");
    let selection = select(&STATIC, &examples, Seed(1)).expect("enough rows");
    assert_eq!(selection.choice, Choice::Router(Kind::Static), "{}", selection.reason());
    assert!(selection.contenders[0].apgr.is_some_and(|apgr| apgr > 0.6));
    assert_eq!(selection, select(&STATIC, &examples, Seed(1)).expect("enough rows"), "same seed, same result");
}

#[test]
fn a_router_that_only_repeats_a_trivial_one_is_not_used_and_the_report_says_so() {
    // Only the group matters; everything else is the same text.
    let outcomes: Vec<Outcome> = (0..300)
        .map(|i| {
            let group = ["easy", "hard"][(i * 5 % 2) as usize];
            outcome(i, group, "the same".into(), if group == "hard" { 0.2 } else { 0.9 }, 0.9)
        })
        .collect();
    let examples = examples(&outcomes, &[], "s", "l").expect("complete");
    let selection = select(&STATIC, &examples, Seed(1)).expect("enough rows");
    assert_eq!(selection.choice, Choice::Trivial(Kind::Group), "{}", selection.reason());
    assert!(selection.reason().contains("no router is used") && selection.reason().contains("`group`"));
}

#[test]
fn a_score_never_comes_from_a_router_that_saw_the_row() {
    // Gains that nothing predicts: a fit that saw its row would recover them from the words, a fair one is at chance.
    let outcomes: Vec<Outcome> =
        (0..400).map(|i| outcome(i, "g", format!("word{i} word{}", i * 7), 0.5, 0.6)).collect();
    let examples = examples(&outcomes, &[], "s", "l").expect("complete");
    let fair = out_of_fold(Kind::Tfidf, &examples, Seed(2)).expect("enough rows");
    let fitted = fit(Kind::Tfidf, &examples, Example::gain).expect("enough rows");
    let seen: Vec<f64> = examples.iter().map(|example| fitted.predict(&example.prompt)).collect();
    let area = |scores: &[f64]| apgr(&examples, scores).expect("finite").expect("the large model is better");
    assert!(area(&seen) > 0.9, "{}", area(&seen));
    assert!((area(&fair) - 0.5).abs() < 0.4, "{}", area(&fair));
}

#[test]
fn every_kind_predicts_and_survives_a_file() {
    let outcomes = shaped(60);
    let embeddings: Vec<Vec<f32>> = (0..60_u8).map(|i| vec![f32::from(i).sin(), f32::from(i).cos()]).collect();
    let examples = examples(&outcomes, &embeddings, "s", "l").expect("complete");
    for kind in Kind::ALL {
        let predictor = fit(kind, &examples, Example::gain).expect("enough rows");
        let json = serde_json::to_string(&predictor).expect("plain data");
        let read: understudy_route::router::Predictor = serde_json::from_str(&json).expect("own form");
        for example in &examples[..5] {
            assert!((read.predict(&example.prompt) - predictor.predict(&example.prompt)).abs() < 1e-12);
            let bare = Prompt { text: "", group: None, embedding: None };
            assert!(read.predict(&bare).is_finite());
        }
        assert_eq!(predictor.wants_embedding(), kind.wants_embedding());
        assert_eq!(Kind::parse(kind.as_str()).expect("own name"), kind);
    }
}

#[test]
fn what_cannot_be_trained_says_why() {
    let outcomes = shaped(30);
    let says = |error: understudy_core::Error| error.to_string();
    let few = examples(&outcomes[..12], &[], "s", "l").expect("complete");
    assert!(says(select(&STATIC, &few, Seed(1)).expect_err("too few")).contains("at least 20"));
    let all = examples(&outcomes, &[], "s", "l").expect("complete");
    assert!(says(fit(Kind::Knn, &all, Example::gain).expect_err("no embeddings")).contains("give an encoder"));
    assert!(says(examples(&outcomes, &[], "s", "x").expect_err("no such model")).contains("no quality of `x`"));
    assert!(says(Kind::parse("best").expect_err("unknown")).contains("auto or one of"));
}
