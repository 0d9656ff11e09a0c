use super::*;
use proptest::prelude::*;

fn advice(toml: &str) -> Advice {
    let answers = Answers::parse(toml).expect("valid");
    advise(&answers.profile(|_| true).expect("valid"), &answers)
}

#[test]
fn the_table_is_in_order_and_its_points_are_in_range() {
    for (index, key) in Key::ALL.into_iter().enumerate() {
        assert_eq!((key as usize, key.question().key), (index, key));
        for level in key.question().levels {
            assert!(level.points.iter().all(|p| (-2..=2).contains(p)), "{}: {}", key.name(), level.name);
        }
    }
}

#[test]
fn nothing_known_is_a_hybrid_that_says_so() {
    let out = advice("");
    assert_eq!((out.verdict, out.unknown.len(), out.reasons.len()), (Some(Choice::Hybrid), 13, 0));
    assert!(!out.flips.is_empty());
}

#[test]
fn a_hard_constraint_beats_every_point() {
    let out = advice("breadth = \"broad\"\nprivacy = \"local\"\nlatency_ms = 3000");
    assert_eq!(out.verdict, Some(Choice::Small));
    assert!(out.scores[2] > out.scores[0], "{:?}", out.scores);
    assert!(out.excluded.iter().any(|e| e.choice == Choice::Large && e.question == "privacy"));
    // A large model of one's own stays in the house.
    let own = advice("breadth = \"broad\"\nprivacy = \"local\"\ninfrastructure = \"cluster\"");
    assert!(own.excluded.is_empty());
    // Images that must stay here: nothing is left, and it says so.
    let none = advice("privacy = \"local\"\nmodality = \"other\"");
    assert_eq!((none.verdict, none.margin), (None, None));
    assert!(none.flips.iter().any(|f| f.question == "modality" && f.verdict == Some(Choice::Small)));
}

#[test]
fn every_flip_really_flips() {
    let answers = Answers::parse("breadth = \"several\"\nlatency_ms = 500\nteam = \"engineers\"").expect("valid");
    let profile = answers.profile(|_| true).expect("valid");
    let out = advise(&profile, &answers);
    assert!(!out.flips.is_empty());
    for flip in &out.flips {
        let key = Key::ALL.into_iter().find(|key| key.name() == flip.question).expect("a question");
        let mut changed = profile.clone();
        set(&mut changed, key, flip.to).expect("a level");
        let then = advise(&changed, &answers).verdict;
        assert_eq!(then, flip.verdict);
        assert_ne!(then, out.verdict);
    }
}

#[test]
fn a_weight_of_zero_silences_a_question() {
    let loud = advice("breadth = \"broad\"");
    let silent = advice("breadth = \"broad\"\n[weights]\nbreadth = 0");
    assert_eq!((loud.verdict, silent.verdict), (Some(Choice::Large), Some(Choice::Hybrid)));
}

#[test]
fn what_was_measured_weighs_most() {
    let answers = Answers::parse("breadth = \"broad\"").expect("valid");
    let mut profile = answers.profile(|_| true).expect("valid");
    set(&mut profile, Key::Measured, measured_level(Some(0.6))).expect("a level");
    let out = advise(&profile, &answers);
    assert_eq!(out.verdict, Some(Choice::Hybrid));
    assert_eq!(out.reasons[0].basis, Basis::Measured);
    for (kept, why) in [(None, "does not certify"), (Some(0.0), "a threshold is certified, but no answer")] {
        set(&mut profile, Key::Measured, measured_level(kept)).expect("a level");
        let out = advise(&profile, &answers);
        assert!(out.excluded.iter().any(|e| e.choice == Choice::Small && e.why.contains(why)), "{:?}", out.excluded);
    }
}

#[test]
fn the_budget_rules_out_what_it_does_not_cover() {
    let usd = |x| Some(Money::from_usd(x).expect("small"));
    let budget = usd(100.0).expect("some");
    for (costs, level) in [
        ([50.0, 80.0, 90.0], "covers every option"),
        ([50.0, 80.0, 900.0], "too little for the large one"),
        ([50.0, 180.0, 900.0], "only the small one"),
        ([150.0, 180.0, 90.0], "only the large one"),
        ([150.0, 180.0, 900.0], "too little for any"),
    ] {
        assert_eq!(budget_level(budget, usd(costs[0]), usd(costs[1]), usd(costs[2])), level);
    }
    assert_eq!(budget_level(budget, None, None, None), "covers every option");
}

proptest! {
    /// Reading the verdict off the table by hand: the best sum among what is not ruled out.
    #[test]
    fn the_verdict_is_the_best_choice_that_is_left(picks in proptest::collection::vec(proptest::option::of(0usize..5), 14)) {
        let mut profile = Profile::default();
        for (key, pick) in Key::ALL.into_iter().zip(picks) {
            if let Some(pick) = pick.filter(|pick| *pick < key.question().levels.len()) {
                profile = profile.with(key, pick);
            }
        }
        let out = advise(&profile, &Answers::default());
        let mut sums = [0.0f64; 3];
        for reason in &out.reasons {
            for (sum, points) in sums.iter_mut().zip(reason.points) { *sum += points; }
        }
        let left: Vec<Choice> = Choice::ALL.into_iter().filter(|c| out.excluded.iter().all(|e| e.choice != *c)).collect();
        match out.verdict {
            None => prop_assert!(left.is_empty()),
            Some(verdict) => {
                prop_assert!(left.contains(&verdict));
                prop_assert!(left.iter().all(|c| sums[*c as usize] <= sums[verdict as usize] + 1e-9));
            }
        }
    }
}
