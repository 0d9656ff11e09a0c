use super::{
    forecast::{Policy, Recording, Request, Tally},
    *,
};
use rand::seq::IndexedRandom;

/// `n` requests around a few centres, with the large model's answer wrong where `noise` says so.
fn recording(n: usize, classes: usize, spread: f32, noise: f64, seed: u64) -> Recording {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let d = 16;
    let unit = |mut v: Vec<f32>| {
        let length = v.iter().map(|x| x * x).sum::<f32>().sqrt();
        v.iter_mut().for_each(|x| *x /= length);
        v
    };
    let centres: Vec<Vec<f32>> =
        (0..classes).map(|_| unit((0..d).map(|_| rng.random::<f32>() - 0.5).collect())).collect();
    let requests = (0..n)
        .map(|_| {
            let all: Vec<usize> = (0..classes).collect();
            let class = *all.choose(&mut rng).unwrap();
            let near = centres[class].iter().map(|x| x + spread * (rng.random::<f32>() - 0.5)).collect();
            let said = if rng.random::<f64>() < noise { *all.choose(&mut rng).unwrap() } else { class };
            Request { embedding: unit(near), large: format!("c{said}"), gold: Some(format!("c{class}")) }
        })
        .collect();
    let names = centres.iter().enumerate().map(|(class, centre)| (format!("c{class}"), centre.clone())).collect();
    Recording { requests, names }
}

fn params() -> CheckedOnlineParams {
    OnlineParams::default().check().unwrap()
}

fn run(recording: &Recording, params: OnlineParams) -> forecast::Stream {
    let order = recording.order(Seed(1));
    recording.run(Policy::Online(params.check().unwrap()), &order, Seed(1), || ()).unwrap()
}

#[test]
fn an_easy_stream_is_soon_kept_and_agrees() {
    let recording = recording(600, 6, 0.3, 0.0, 1);
    let tally = Tally::new(&run(&recording, OnlineParams::default()).steps);
    assert!(tally.calls < 0.25, "{tally:?}");
    assert!(tally.disagreement < 0.02, "{tally:?}");
}

#[test]
fn a_stream_that_cannot_be_learnt_is_asked() {
    // The large model answers at random: agreement is a matter of luck, one in six.
    let recording = recording(400, 6, 0.3, 1.0, 2);
    let tally = Tally::new(&run(&recording, OnlineParams::default()).steps);
    assert!(tally.calls > 0.9, "{tally:?}");
}

#[test]
fn answers_to_kept_requests_are_never_looked_at() {
    let mut recording = recording(500, 5, 0.8, 0.1, 3);
    let before = run(&recording, OnlineParams::default());
    let order = recording.order(Seed(1));
    let mut changed = 0;
    for (&i, step) in order.iter().zip(&before.steps) {
        // The right answers play no part either.
        recording.requests[i].gold = None;
        if step.asked.is_none() {
            recording.requests[i].large = "something else".into();
            changed += 1;
        }
    }
    let after = run(&recording, OnlineParams::default());
    assert!(changed > 100, "{changed}");
    assert!(before.steps.iter().zip(&after.steps).all(|(a, b)| a.asked == b.asked));
    assert_eq!(before.audits, after.audits);
}

#[test]
fn the_same_seed_gives_the_same_stream() {
    let recording = recording(300, 5, 0.8, 0.1, 4);
    assert_eq!(run(&recording, OnlineParams::default()), run(&recording, OnlineParams::default()));
}

#[test]
fn more_budget_never_asks_much_more() {
    let recording = recording(500, 8, 1.5, 0.1, 5);
    let calls = |budget| {
        let params = OnlineParams { budget, least_agreement: 0.0, ..OnlineParams::default() };
        Tally::new(&run(&recording, params).steps).calls
    };
    assert!(calls(0.3) < calls(0.02), "{} {}", calls(0.3), calls(0.02));
}

#[test]
fn audits_are_calls_and_come_about_as_often_as_asked() {
    let recording = recording(1500, 4, 0.3, 0.0, 6);
    let stream = run(&recording, OnlineParams { audit: 0.1, ..OnlineParams::default() });
    let audits = stream.steps.iter().filter(|step| step.asked == Some(Reason::Audit)).count();
    let kept = stream.steps.iter().filter(|step| step.asked.is_none()).count();
    assert_eq!(audits, stream.audits.n);
    let share = audits as f64 / (audits + kept) as f64;
    assert!((0.07..0.13).contains(&share), "{share}");
}

#[test]
fn an_answer_that_was_never_heard_is_asked_for_when_it_is_far_from_everything() {
    let recording = recording(400, 4, 0.2, 0.0, 7);
    let mut online = Online::new(params(), 16, Seed(1));
    for request in &recording.requests {
        if matches!(online.observe(&request.embedding).unwrap(), Decision::Ask(_)) {
            online.learn(&request.large, None).unwrap();
        }
    }
    let opposite: Vec<f32> = recording.requests[0].embedding.iter().map(|x| -x).collect();
    let decision = online.observe(&opposite).unwrap();
    assert!(matches!(decision, Decision::Ask(_)), "{decision:?}");
}

#[test]
fn misuse_is_an_error() {
    let mut online = Online::new(params(), 2, Seed(1));
    assert!(online.learn("a", None).is_err());
    assert!(online.observe(&[1.0]).is_err());
    assert!(online.observe(&[1.0, f32::NAN]).is_err());
    online.observe(&[1.0, 0.0]).unwrap();
    assert!(online.learn("a", Some(&[1.0])).is_err());
    online.learn("a", None).unwrap();
    assert!(online.learn("a", None).is_err());
    for (params, field) in [
        (OnlineParams { budget: 0.0, ..OnlineParams::default() }, "budget"),
        (OnlineParams { least_agreement: 1.5, ..OnlineParams::default() }, "least_agreement"),
        (OnlineParams { audit: 1.0, ..OnlineParams::default() }, "audit"),
        (OnlineParams { first: 1, ..OnlineParams::default() }, "first"),
        (OnlineParams { growth: 0.0, ..OnlineParams::default() }, "growth"),
        (OnlineParams { step: 0, ..OnlineParams::default() }, "step"),
    ] {
        assert!(params.check().unwrap_err().to_string().contains(field));
    }
}

#[test]
fn the_threshold_spends_the_budget_and_no_more() {
    // Expected disagreements 0.1, 0.3, 0.6, 1.0 after one, two, three, four of four requests.
    let agreements = vec![0.6, 0.9, 0.7, 0.8];
    assert!((threshold(agreements.clone(), 0.14) - 0.7).abs() < 1e-9);
    assert!((threshold(agreements.clone(), 0.1) - 0.7).abs() < 1e-9);
    assert!((threshold(agreements.clone(), 0.01) - 0.9).abs() < 1e-9);
    assert!(threshold(agreements, 0.5) <= 0.6);
}

#[test]
fn the_baseline_asks_until_its_first_fit_and_keeps_what_is_sure() {
    let recording = recording(400, 3, 0.2, 0.0, 8);
    let order = recording.order(Seed(2));
    let stream = recording.run(Policy::Fixed { threshold: 0.5, every: 50 }, &order, Seed(2), || ()).unwrap();
    assert!(stream.steps[..50].iter().all(|step| step.asked == Some(Reason::Cold)));
    let later = Tally::new(&stream.steps[50..]);
    assert!(later.calls < 0.2 && later.disagreement < 0.02, "{later:?}");
}
