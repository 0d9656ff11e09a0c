use super::*;

const FRENCH: &str = "Bonjour, je n'ai toujours pas reçu le remboursement que vous m'aviez promis la semaine dernière, \
    est-ce que vous pourriez vérifier où en est ma demande s'il vous plaît";

/// 400 rows of two labels; the small model is wrong on two of three French rows, and says "maybe" once.
fn outcomes() -> Vec<Outcome> {
    let row = |i: usize| {
        let french = i.is_multiple_of(4);
        let label = if i.is_multiple_of(2) { "refund" } else { "delay" };
        let other = if i.is_multiple_of(2) { "delay" } else { "refund" };
        let small = if i == 1 {
            "maybe"
        } else if french && i % 3 != 1 {
            other
        } else {
            label
        };
        let said = |answer: &str| RecordedAnswer {
            answer: Some(answer.to_owned()),
            confidence: Some(if answer == label { 0.9 } else { 0.7 }),
            ..RecordedAnswer::default()
        };
        let prompt = if french {
            format!("{FRENCH} {i}")
        } else {
            format!("Hello there, I would like to know when the parcel with my new shoes is going to arrive {i}")
        };
        Outcome {
            id: i.to_string(),
            task: "support".into(),
            label: Some(label.into()),
            prompt,
            models: [("s".to_owned(), said(small)), ("l".to_owned(), said(label))].into(),
            ..Outcome::default()
        }
    };
    (0..400).map(row).collect()
}

fn options() -> Options {
    Options {
        small: "s".into(),
        large: Some("l".into()),
        labels: vec![],
        false_discovery: 0.05,
        examples: 5,
        seed: Seed(1),
    }
}

#[test]
fn planted_errors_are_found_in_their_places() {
    let report = report(&outcomes(), &options()).expect("two models");
    assert_eq!((report.invented[0].answer.as_str(), report.invented[0].count), ("maybe", 1));
    assert_eq!((report.confusions[0].label.as_str(), report.confusions[0].answer.as_str()), ("refund", "delay"));
    assert_eq!(report.confusions[0].large, Some(0));
    assert!(report.errors_large.is_some_and(|m| m.estimate.abs() < 1e-15 && m.n == 400));
    let french = report.slices.iter().find(|s| s.kind == slices::Kind::Language && s.name.contains("French"));
    let french = french.expect("a slice of French rows");
    assert!(french.worse && french.n == 100 && french.difference.low > 0.3, "{french:?}");
    let worse: Vec<_> = report.slices.iter().filter(|s| s.worse).map(|s| s.kind).collect();
    assert!(worse.contains(&slices::Kind::Cluster), "{worse:?}");
    assert!(!worse.contains(&slices::Kind::Order), "{worse:?}");
    assert_eq!(report.examples.len(), 5);
    assert!(report.examples.iter().all(|e| e.large_right == Some(true) && e.small != e.large));
    assert_eq!(report, super::report(&outcomes(), &options()).expect("two models"), "same seed, same report");
}

#[test]
fn what_cannot_be_looked_at_says_why() {
    let says = |outcomes: &[Outcome], options: Options| report(outcomes, &options).expect_err("refused").to_string();
    assert!(says(&outcomes(), Options { small: "x".into(), ..options() }).contains("they have l, s"));
    let mut blind = outcomes();
    blind.iter_mut().for_each(|o| o.label = None);
    assert!(says(&blind, options()).contains("no row has a quality"));
}

#[test]
fn without_a_pattern_few_slices_are_called_worse() {
    let mut alarms = 0;
    for seed in 0..20 {
        let mut rows = outcomes();
        for (i, row) in rows.iter_mut().enumerate() {
            let draw = Seed(seed).derive(&i.to_string()).0 % 10;
            row.models.values_mut().for_each(|a| a.quality = Some(f64::from(u8::from(draw > 2))));
        }
        let report = report(&rows, &options()).expect("two models");
        alarms += usize::from(report.slices.iter().any(|s| s.worse));
    }
    // 5 % of 20 runs are 1; slices are tested two-sided, and 4 has probability 1.6 %.
    assert!(alarms <= 4, "{alarms} of 20");
}
