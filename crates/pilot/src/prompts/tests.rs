use super::{examples::*, race::*, search::*, *};
use crate::compare::models::Standing;
use futures_util::FutureExt;
use std::{cell::RefCell, collections::BTreeMap, ops::Range};
use understudy_core::{Seed, hash::unit_interval};

fn pool() -> Vec<Row> {
    let label = |i: usize| Some(["a", "b"][i % 2].to_owned());
    (0..40).map(|i| Row { text: format!("text {i}"), label: label(i), ..Row::default() }).collect()
}

fn search<'r>(rows: &'r [Row], calls: usize, seed: u64) -> Search<'r> {
    Search {
        instructions: 5,
        shots: vec![0, 2, 4],
        shots_by: vec![FIXED.to_owned(), WORDS.to_owned()],
        sets: 4,
        pool: Pool::of(rows, Task::Classify),
        rows: 128,
        calls,
        seed: Seed(seed),
    }
}

/// Whether the answer to a row is right, when prompts are right with a probability; `common` rows are as hard for all.
fn right(row: usize, who: &str, rate: f64) -> f64 {
    let own = unit_interval(&format!("{row} {who}"));
    let common = unit_interval(&format!("{row}"));
    f64::from(u8::from((0.7 * common + 0.3 * own) < rate))
}

fn run(search: &Search<'_>, rate: impl Fn(&Entrant) -> f64) -> Found {
    let ask = async |entrant: &Entrant, rows: Range<usize>| {
        let who = format!("{} {:?}", entrant.instruction, entrant.examples);
        let score = |row| Score { quality: right(row, &who, rate(entrant)), tokens: 10 };
        Ok(Reply::Scores(rows.map(score).collect()))
    };
    search.run(ask).now_or_never().expect("nothing waits").expect("it runs")
}

/// Instruction 3 is good, four examples are good, position 7 of the pool is a good example, and they add up.
fn skill(entrant: &Entrant) -> f64 {
    let good = if let Examples::Set(set) = &entrant.examples { set.contains(&7) } else { false };
    0.3 + 0.2 * f64::from(u8::from(entrant.instruction == 3))
        + 0.05 * entrant.examples.count() as f64
        + 0.1 * f64::from(u8::from(good))
}

#[test]
fn what_is_good_apart_is_found_together_for_a_part_of_the_requests() {
    let rows = pool();
    let mut best = Vec::new();
    for seed in 0..10 {
        let search = search(&rows, 2_000, seed);
        let found = run(&search, skill);
        assert!(found.calls <= 2_000);
        let winner = &found.entrants[found.best];
        assert_eq!(winner.scores.len(), 128, "the winner has all rows");
        best.push(skill(winner));
        // Everybody on all rows would have cost more.
        assert!(found.calls < found.entrants.len() * 128 * 3 / 4, "{} {}", found.calls, found.entrants.len());
        assert_eq!(run(&search, skill).entrants, found.entrants, "the same seed, the same race");
    }
    let mean = best.iter().sum::<f64>() / best.len() as f64;
    println!("skill of the winners {best:?}, mean {mean:.3}; 0.30 at the start, 0.80 at most");
    assert!(mean > 0.68, "{best:?}");
}

#[test]
fn equal_prompts_are_hardly_ever_called_better_on_new_rows() {
    let rows = pool();
    let mut better = 0;
    for seed in 0..200 {
        let search = Search { rows: 64, ..search(&rows, 700, seed) };
        let found = run(&search, |_| 0.5);
        let who = |e: &Entrant| format!("{} {:?} {seed}", e.instruction, e.examples);
        let test = |e: &Entrant| -> Vec<Score> {
            (1_000..1_200).map(|row| Score { quality: right(row, &who(e), 0.5), tokens: 10 }).collect()
        };
        let (start, winner) = (test(&found.entrants[0]), test(&found.entrants[found.best]));
        let measured = verdict::measure(&[&start, &winner], 0.02, 0.05, Seed(seed)).expect("valid");
        let against = measured[1].as_ref().and_then(|m| m.against.as_ref()).expect("measured");
        better += usize::from(found.best != 0 && against.standing == Standing::Better);
    }
    println!("{better} of 200 searches among equal prompts claimed a better one");
    // One side of a two-sided exact test at 5 %.
    assert!(better <= 10, "{better}");
}

#[test]
fn a_budget_is_never_exceeded_and_each_row_is_asked_once() {
    let rows = pool();
    for calls in [256, 300, 411, 1_000] {
        let seen: RefCell<BTreeMap<String, usize>> = RefCell::default();
        let search = search(&rows, calls, 3);
        let ask = async |entrant: &Entrant, range: Range<usize>| {
            let who = format!("{} {:?}", entrant.instruction, entrant.examples);
            let mut seen = seen.borrow_mut();
            let next = seen.entry(who.clone()).or_default();
            assert_eq!(*next, range.start, "{who}");
            *next = range.end;
            Ok(Reply::Scores(range.map(|row| Score { quality: right(row, &who, 0.4), tokens: 1 }).collect()))
        };
        let found = search.run(ask).now_or_never().expect("nothing waits").expect("it runs");
        assert!(found.calls <= calls && found.calls == seen.borrow().values().sum::<usize>(), "{calls}");
    }
    let search = Search { rows: 128, ..search(&rows, 255, 3) };
    let ask = async |_: &Entrant, _: Range<usize>| Ok(Reply::Failed("never asked".into()));
    let error = search.run(ask).now_or_never().expect("nothing waits").expect_err("too few");
    assert!(error.to_string().contains("--calls"), "{error}");
}

#[test]
fn prompts_that_the_model_refuses_leave_and_an_early_end_keeps_the_first() {
    let rows = pool();
    let search = search(&rows, 2_000, 1);
    let found = search
        .run(async |entrant: &Entrant, range: Range<usize>| {
            if entrant.examples.count() > 2 {
                return Ok(Reply::Failed("too long".into()));
            }
            Ok(Reply::Scores(range.map(|row| Score { quality: right(row, "x", skill(entrant)), tokens: 1 }).collect()))
        })
        .now_or_never()
        .expect("nothing waits")
        .expect("the others race");
    assert!(found.entrants.iter().any(|e| e.state == State::Failed("too long".into())));
    assert!(found.entrants[found.best].instruction == 3 && found.entrants[found.best].examples.count() == 2);

    let mut asked = 0;
    let found = search
        .run(async |_: &Entrant, range: Range<usize>| {
            asked += 1;
            match asked {
                1 => Ok(Reply::Scores(range.map(|_| Score { quality: 0.0, tokens: 1 }).collect())),
                _ => Ok(Reply::Stopped(Stop::Time)),
            }
        })
        .now_or_never()
        .expect("nothing waits")
        .expect("it ends");
    assert_eq!((found.best, found.stop), (0, Some(Stop::Time)));
    let dead = async |_: &Entrant, _: Range<usize>| Ok(Reply::Failed("no such model".into()));
    let error = search.run(dead).now_or_never().expect("nothing waits").expect_err("nothing answers");
    assert!(error.to_string().contains("no such model"), "{error}");
}

#[test]
fn a_prompts_file_says_what_is_wrong_with_it_and_shows_the_same_examples() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prompt.json");
    let example = |text: &str| Example { text: text.into(), answer: "a".into() };
    let examples = vec![example("red fish"), example("blue fish"), example("green bird")];
    let labels = vec!["a".to_owned(), "b".to_owned()];
    let prompt = Prompt::new(Task::Classify, labels.clone(), "Say a or b.".into(), (2, WORDS.into()), examples.clone())
        .expect("it fits");
    std::fs::write(&path, prompt.to_json()).expect("written");
    let read = Prompt::read(&path).expect("as written");
    assert_eq!((&read, read.hash()), (&prompt, prompt.hash()));
    let rows = read.rows();
    let shots = crate::run::shots::Shots::of(&rows);
    let shown: Vec<String> = shots.pick("a green bird", 2).iter().map(|row| row.text.clone()).collect();
    let opening = read.opening(&read.picker().expect("by words"), "a green bird");
    let served: Vec<String> = opening.iter().skip(1).step_by(2).map(|message| message.text.clone()).collect();
    assert_eq!(served, shown, "what serves shows what was measured");
    assert_eq!(opening.len(), 5);
    let fixed = Prompt { shots_by: FIXED.into(), ..prompt.clone() };
    let first = &fixed.opening(&fixed.picker().expect("fixed"), "a green bird")[1];
    assert_eq!(first.text, "red fish");
    assert_ne!(fixed.hash(), prompt.hash());
    assert!(Prompt::new(Task::Extract, labels, String::new(), (4, FIXED.into()), examples).is_err());
    for (text, says) in [
        ("{", "EOF"),
        ("[]", "adapt prompts"),
        (r#"{"version":1,"task":"classify"}"#, "labels"),
        (
            r#"{"version":9,"task":"classify","labels":[],"instruction":"","shots":0,"shots_by":"","examples":[]}"#,
            "version 9",
        ),
        (
            r#"{"version":1,"task":"classify","labels":[],"instruction":"","shots":3,"shots_by":"","examples":[]}"#,
            "shows 3",
        ),
    ] {
        std::fs::write(&path, text).expect("written");
        let error = Prompt::read(&path).expect_err(text).to_string();
        assert!(error.contains(says) && error.contains("prompt.json"), "{error}");
    }
    assert!(Prompt::read(&folder.path().join("none.json")).is_err());
}
