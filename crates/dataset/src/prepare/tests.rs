use super::*;
use crate::{Format, Mapping};

fn row(id: usize, text: &str, label: &str) -> Row {
    Row { id: id.to_string(), line: id, text: text.into(), label: Some(label.into()), ..Row::default() }
}

/// A text that is like no other.
fn words(i: usize) -> String {
    understudy_core::hash::sha256_hex(&i.to_le_bytes())
}

fn data(rows: Vec<Row>) -> Dataset {
    Dataset { name: "t.jsonl".into(), format: Format::Jsonl, mapping: Mapping::default(), rows }
}

fn how() -> Preparation {
    Preparation {
        redaction: Redaction::Replace,
        label_errors: LabelErrors::Skip,
        contaminated: Unfit::Refuse,
        least_per_class: 1,
        small_classes: Unfit::Refuse,
        shares: Shares::new(0.2, 0.2).unwrap(),
        seed: Seed(1),
    }
}

fn run(rows: Vec<Row>, how: &Preparation) -> Result<Prepared> {
    prepare(data(rows), &[], how, &|_| ())
}

fn fails(rows: Vec<Row>, how: &Preparation, says: &str) {
    let error = run(rows, how).unwrap_err().to_string();
    assert!(error.contains(says) && error.contains("t.jsonl"), "{error}");
}

#[test]
fn everything_that_goes_is_listed_with_its_reason() {
    let long = "Where is the new card that I ordered two weeks ago, please tell me?";
    let rows = vec![
        row(1, long, "card"),
        row(2, &long.to_uppercase(), "card"),
        row(3, "Where is the new card that I ordered two week ago, please tell me", "card"),
        row(4, "Where is the new cards that I ordered two weeks ago, please tell me?", "lost"),
        row(5, "is it a or b", "a"),
        row(6, "is it a or  b", "b"),
        row(7, "mail me at a@b.de", "a"),
        row(8, "mail me at c@d.org", "a"),
        Row { label: None, ..row(9, "what is this", "") },
        row(10, "vote", "a"),
        row(11, "vote", "a"),
        row(12, "Vote", "b"),
    ];
    let prepared = run(rows, &how()).unwrap();
    let list: Vec<(&str, Reason, &str)> =
        prepared.removed.iter().map(|r| (r.id.as_str(), r.reason, r.because.as_str())).collect();
    assert_eq!(
        list,
        [
            ("9", Reason::Unlabelled, ""),
            ("2", Reason::Duplicate, "1"),
            ("5", Reason::Contradiction, "2 labels"),
            ("6", Reason::Contradiction, "2 labels"),
            ("8", Reason::Duplicate, "7"),
            ("11", Reason::Duplicate, "10"),
            ("12", Reason::Outvoted, "10"),
            ("3", Reason::NearDuplicate, "1"),
        ]
    );
    assert_eq!(prepared.near_contradictions, [("1".to_owned(), "4".to_owned())]);
    assert_eq!((prepared.contradictions.len(), prepared.redacted[&Entity::EmailAddress]), (2, 2));
    assert_eq!(prepared.unlabelled.len(), 1);
    let left: usize = prepared.parts().iter().map(|(_, rows)| rows.len()).sum();
    assert_eq!(left + prepared.removed.len(), 12);
    let part = |id: &str| prepared.parts().iter().position(|(_, rows)| rows.iter().any(|row| row.id == id));
    assert_eq!(part("1"), part("4"), "near copies with different labels stay together");
    assert!(prepared.parts().iter().flat_map(|(_, rows)| *rows).any(|row| row.text == "mail me at <EMAIL_ADDRESS>"));
}

#[test]
fn evaluation_sets_must_not_be_touched() {
    let rows: Vec<Row> = (0..30).map(|i| row(i, &words(i), ["a", "b"][i % 2])).collect();
    let eval =
        Dataset { name: "eval.jsonl".into(), ..data(vec![row(0, &format!(" {} ", words(7).to_uppercase()), "a")]) };
    let against = std::slice::from_ref(&eval);
    let error = prepare(data(rows.clone()), against, &how(), &|_| ()).unwrap_err().to_string();
    assert!(error.contains("eval.jsonl") && error.contains("--drop-contaminated"), "{error}");
    let drop = Preparation { contaminated: Unfit::Drop, ..how() };
    let prepared = prepare(data(rows), against, &drop, &|_| ()).unwrap();
    assert!(prepared.removed.iter().any(|r| r.reason == Reason::Contaminated && r.because == "eval.jsonl:0"));
    let all: Vec<Row> = prepared.parts().iter().flat_map(|(_, rows)| rows.to_vec()).collect();
    let left = leakage(&eval.rows, &all);
    assert!(left.exact.is_empty() && left.near.is_empty());
}

#[test]
fn data_that_cannot_train_is_refused_with_the_remedy() {
    let texts = |n: usize, label: &dyn Fn(usize) -> String| -> Vec<Row> {
        (0..n).map(|i| row(i, &words(i), &label(i))).collect()
    };
    let how = how();
    fails(texts(60, &|_| "x".into()), &how, "only `x`");
    fails(texts(60, &|i| format!("{}.5", i)), &how, "numbers with 60 different values");
    fails(texts(60, &|i| format!("an answer of its own {i}")), &how, "--reference");
    let small = |i: usize| if i == 0 { "rare".to_owned() } else { ["a", "b"][i % 2].to_owned() };
    let least = Preparation { least_per_class: 3, ..how };
    fails(texts(60, &small), &least, "`rare` (1)");
    let drop = Preparation { small_classes: Unfit::Drop, ..least };
    let prepared = run(texts(60, &small), &drop).unwrap();
    assert_eq!(prepared.removed.iter().filter(|r| r.reason == Reason::SmallClass).count(), 1);
    assert_eq!(prepared.classes.iter().map(|c| c.label.as_str()).collect::<BTreeSet<_>>(), ["a", "b"].into());
    let none: Vec<Row> = texts(3, &small).into_iter().map(|row| Row { label: None, ..row }).collect();
    fails(none, &how, "none of its 3 rows has a label");
    let numbers = run(texts(60, &|i| (i % 3).to_string()), &how).unwrap();
    assert!(numbers.warnings.iter().any(|warning| warning.contains("numbers")));
}

#[test]
fn the_same_seed_gives_the_same_parts_and_other_rows_move_none() {
    let rows: Vec<Row> = (0..300).map(|i| row(i, &words(i), ["a", "b"][i % 2])).collect();
    let ids = |rows: Vec<Row>| run(rows, &how()).unwrap().test.into_iter().map(|row| row.id).collect::<BTreeSet<_>>();
    let all = ids(rows.clone());
    assert_eq!(all, ids(rows.clone()));
    let fewer = ids(rows[..200].to_vec());
    assert!(all.iter().filter(|id| id.parse::<usize>().unwrap() < 200).eq(fewer.iter()));
}
