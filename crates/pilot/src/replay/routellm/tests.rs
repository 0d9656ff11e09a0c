use super::*;
use crate::replay::{Row, Side};
use serde::Deserialize;

/// Written by `crates/pilot/reference/routellm.py` with pandas and numpy.
const REFERENCE: &str = include_str!("pandas.json");

#[derive(Deserialize)]
struct Reference {
    replay: Vec<Case>,
    interp: Vec<Interp>,
}

#[derive(Deserialize)]
struct Case {
    score: Vec<f64>,
    weak: Vec<f64>,
    strong: Vec<f64>,
    apgr: f64,
    cpt50: f64,
    cpt80: f64,
}

#[derive(Deserialize)]
struct Interp {
    xs: Vec<f64>,
    ys: Vec<f64>,
    x: f64,
    y: f64,
}

fn ranked(case: &Case) -> Ranked {
    let side = |quality: f64| Side { quality, ..Side::default() };
    let rows = case.score.iter().zip(&case.weak).zip(&case.strong);
    let rows: Vec<Row> = rows
        .map(|((&score, &weak), &strong)| Row { small: side(weak), large: side(strong), score, weight: 1.0 })
        .collect();
    Ranked::new(&rows)
}

#[test]
fn the_figures_equal_those_of_routellms_evaluation() {
    let reference: Reference = serde_json::from_str(REFERENCE).expect("written by the script");
    let mut largest: f64 = 0.0;
    for case in &reference.replay {
        let ranked = ranked(case);
        let (small, large) = (ranked.mean_small(), ranked.mean_large());
        let knots = curve(&ranked);
        let ours = [apgr(&knots, small, large), cpt(&knots, small, large, 0.5), cpt(&knots, small, large, 0.8)];
        for (ours, theirs) in ours.into_iter().zip([case.apgr, case.cpt50, case.cpt80]) {
            largest = largest.max((ours.expect("the strong model is better") - theirs).abs());
        }
    }
    println!("largest difference from pandas and numpy: {largest:e}");
    assert!(largest < 1e-9, "{largest}");
}

#[test]
fn interpolation_follows_numpy_also_where_the_curve_falls() {
    let reference: Reference = serde_json::from_str(REFERENCE).expect("written by the script");
    for case in &reference.interp {
        let ours = interpolate(case.x, &case.xs, &case.ys);
        assert!((ours - case.y).abs() < 1e-12, "{} at {:?}: {ours} instead of {}", case.x, case.xs, case.y);
    }
}

#[test]
fn one_score_for_all_is_chance_and_a_gap_of_nothing_has_no_figure() {
    let mut case = Case {
        score: vec![1.0; 4],
        weak: vec![0.0, 0.0, 1.0, 1.0],
        strong: vec![1.0; 4],
        apgr: 0.0,
        cpt50: 0.0,
        cpt80: 0.0,
    };
    let knots = curve(&ranked(&case));
    assert!(apgr(&knots, 0.5, 1.0).is_some_and(|apgr| (apgr - 0.5).abs() < 1e-12));
    assert!(cpt(&knots, 0.5, 1.0, 0.8).is_some_and(|cpt| (cpt - 80.0).abs() < 1e-9));
    case.strong = case.weak.clone();
    assert_eq!(apgr(&curve(&ranked(&case)), 0.5, 0.5), None);
}
