use super::*;

fn terms(epsilon: f64) -> Terms {
    Terms {
        task: "t".into(),
        small: "s".into(),
        small_hash: "h".into(),
        large: "l".into(),
        epsilon,
        delta: 0.05,
        loss: LossKind::Regret,
        issued: Timestamp(7),
    }
}

/// `n` items with confidence falling evenly from 1 to 0; the last `bad` of them are losses.
fn items(n: usize, bad: usize) -> Vec<Item> {
    (0..n)
        .map(|i| Item { id: i.to_string(), confidence: Some(1.0 - i as f64 / n as f64), loss_if_kept: i >= n - bad })
        .collect()
}

#[test]
fn the_loosest_threshold_with_a_small_enough_bound_is_certified() {
    let report = certify(&items(2000, 200), &terms(0.02), &Grid::default()).expect("valid");
    let certificate = report.certificate().expect("certified");
    assert!(certificate.is_intact() && certificate.bound <= 0.02 && certificate.kept > 0.89);
    let bound = binomial::upper(certificate.losses, certificate.n, 0.95);
    assert!((certificate.bound - bound).abs() < 1e-15);
    // The next threshold that keeps more would break the bound.
    let next = report.curve.iter().find(|p| p.threshold < certificate.threshold.get()).expect("looser thresholds");
    assert!(next.bound > 0.02);
}

#[test]
fn a_failure_at_a_strict_threshold_stops_the_search() {
    let mut items = items(1000, 0);
    items[..100].iter_mut().for_each(|item| item.loss_if_kept = true);
    let report = certify(&items, &terms(0.02), &Grid::default()).expect("valid");
    // Everything below confidence 0.9 is right, but the sure answers are not: what is kept stays among the first few.
    assert!(report.certificate().is_none_or(|c| c.kept < 0.02), "{:?}", report.verdict);
}

#[test]
fn too_few_items_say_how_many_more() {
    let report = certify(&items(100, 0), &terms(0.01), &Grid::default()).expect("valid");
    let Verdict::NotCertified(refusal) = report.verdict else { panic!("100 items cannot show 1 %") };
    assert_eq!(refusal.examples_needed, Some(199));
    assert!(refusal.reason.contains("about 199 more"), "{}", refusal.reason);
}

#[test]
fn sure_and_wrong_needs_a_better_model_not_more_data() {
    let mut items = items(1000, 0);
    items.iter_mut().for_each(|item| {
        item.confidence = Some(0.99);
        item.loss_if_kept = item.id.ends_with('0');
    });
    let report = certify(&items, &terms(0.02), &Grid::default()).expect("valid");
    let Verdict::NotCertified(refusal) = report.verdict else { panic!("10 % loss at every threshold") };
    assert_eq!(refusal.examples_needed, None);
    assert!(refusal.best.is_some_and(|p| p.kept == 1000 && p.losses == 100));
}

#[test]
fn a_certificate_that_keeps_nothing_is_not_issued() {
    let mut items = items(1000, 0);
    items.iter_mut().for_each(|item| item.confidence = None);
    let report = certify(&items, &terms(0.02), &Grid::default()).expect("valid");
    assert!(report.certificate().is_none() && report.curve.is_empty());
}

#[test]
fn wrong_arguments_are_refused() {
    assert!(certify(&[], &terms(0.02), &Grid::default()).is_err());
    assert!(certify(&items(10, 0), &terms(0.0), &Grid::default()).is_err());
    let mut wrong = items(10, 0);
    wrong[3].confidence = Some(1.5);
    assert!(certify(&wrong, &terms(0.02), &Grid::default()).is_err());
}
