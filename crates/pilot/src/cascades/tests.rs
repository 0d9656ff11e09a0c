use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Outcome, RecordedAnswer, Seed};

/// Four models that are right as often as their skill and the question allow, and know a little about when.
fn outcomes(n: usize, seed: u64) -> Vec<Outcome> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let models = [("tiny", 0.7, 0.02), ("small", 0.5, 0.1), ("mid", 0.3, 0.3), ("large", 0.15, 1.0)];
    (0..n)
        .map(|id| {
            let hard: f64 = rng.random();
            let answers = models.map(|(name, fail, cost)| {
                let wrong = rng.random::<f64>() < fail * hard;
                let confidence = (1.0 - fail * hard - 0.2 * f64::from(u8::from(wrong)) * rng.random::<f64>()).max(0.0);
                let quality = Some(f64::from(u8::from(!wrong)));
                let cost_usd = Some(cost * (0.8 + 0.4 * rng.random::<f64>()));
                let answer = RecordedAnswer { quality, cost_usd, confidence: Some(confidence), ..Default::default() };
                (name.to_owned(), answer)
            });
            Outcome { id: id.to_string(), models: answers.into(), ..Outcome::default() }
        })
        .collect()
}

const TERMS: Terms = Terms { epsilon: 0.05, delta: 0.05, seed: Seed(1) };

#[test]
fn the_certificate_is_wrong_no_more_often_than_delta_and_the_naive_choice_is() {
    let population = Population::new(&outcomes(1500, 1), None, "large").expect("complete");
    let found = simulate(&population, Plan { n: 300, runs: 200, terms: TERMS }).expect("valid");
    println!("{found:?}");
    assert!(found.violation_share.low <= 0.05 && found.certified > 100 && found.saved.low > 0.2);
    assert!(found.naive_violations > 60, "the counting can fail");
    assert!(found.saved.high < found.saved_best);
}

#[test]
fn the_path_runs_from_safe_to_cheap_and_nothing_undercuts_it() {
    let population = Population::new(&outcomes(400, 2), None, "large").expect("complete");
    let rows: Vec<usize> = (0..400).collect();
    let path = frontier(&population, &rows);
    assert!(path.len() > 5 && path.windows(2).all(|w| w[0].loss <= w[1].loss && w[0].cost_usd > w[1].cost_usd));
    let undercut = search::rate_all(&population, &rows).into_iter().any(|rated| {
        let step = 0.01 * population.cost_large();
        path.iter().any(|on| rated.loss < on.loss - 1e-12 && rated.cost_usd < on.cost_usd - step)
    });
    assert!(!undercut);
}

#[test]
fn rating_all_at_once_equals_walking_each() {
    let mut outcomes = outcomes(150, 7);
    for outcome in outcomes.iter_mut().step_by(9) {
        outcome.models.get_mut("small").expect("there").confidence = None;
    }
    let population = Population::new(&outcomes, None, "large").expect("complete");
    let rows: Vec<usize> = (0..150).chain(0..40).collect();
    let all = search::rate_all(&population, &rows);
    assert_eq!(all.len(), 3 * 10 + 3 * 100);
    for rated in all {
        let tally = population.tally(&rated.ladder, &rows);
        assert_eq!(rated.losses, tally.losses);
        assert!((rated.cost_usd - tally.cost_usd / 190.0).abs() < 1e-12);
    }
}

#[test]
fn a_cascade_pays_everybody_who_is_asked() {
    use understudy_route::stages::{Ladder, Rung};
    let population = Population::new(&outcomes(50, 3), None, "large").expect("complete");
    let never = Ladder { rungs: vec![Rung { model: 0, threshold: 2.0 }, Rung { model: 2, threshold: 2.0 }], last: 3 };
    let rows: Vec<usize> = (0..50).collect();
    let tally = population.tally(&never, &rows);
    let expected: f64 = population.cells.iter().map(|c| c[0].cost_usd + c[2].cost_usd + c[3].cost_usd).sum();
    assert!((tally.cost_usd - expected).abs() < 1e-9 && tally.losses == 0);
    assert_eq!(population.models(), ["tiny", "small", "mid"]);
    assert_eq!(population.named(&never).rungs[1].model, "mid");
}

#[test]
fn too_few_rows_are_told_how_many_are_needed() {
    let population = Population::new(&outcomes(80, 4), None, "large").expect("complete");
    let Verdict::NotCertified(refused) = choose(&population, TERMS).expect("valid").0 else { panic!("52 rows test") };
    assert!(refused.reason.contains("at least 86") && refused.fewest_rows == 86, "{refused:?}");
    assert!(choose(&population, Terms { epsilon: 0.0, ..TERMS }).is_err());
}

#[test]
fn what_is_missing_is_named() {
    let mut bare = outcomes(30, 5);
    assert!(
        Population::new(&bare, Some(&["none".to_owned()]), "large").expect_err("unknown").to_string().contains("mid")
    );
    assert!(Population::new(&bare, None, "tiny").expect_err("nothing is cheaper").to_string().contains("cheaper"));
    bare.iter_mut().for_each(|o| o.models.get_mut("large").expect("there").cost_usd = None);
    assert!(Population::new(&bare, None, "large").expect_err("no price").to_string().contains("cost_usd"));
}

#[test]
fn the_same_seed_gives_the_same_choice() {
    let population = Population::new(&outcomes(500, 6), None, "large").expect("complete");
    assert_eq!(choose(&population, TERMS).expect("valid"), choose(&population, TERMS).expect("valid"));
}

#[test]
fn graded_qualities_are_refused_instead_of_cut() {
    let mut rows = outcomes(50, 3);
    rows[7].models.get_mut("mid").expect("a model").quality = Some(0.4);
    let error = Population::new(&rows, None, "large").expect_err("graded").to_string();
    assert!(error.contains("`mid`") && error.contains("neither 0 nor 1"), "{error}");
}
