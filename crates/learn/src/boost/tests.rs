use super::*;

fn data(n: usize, width: usize, seed: u64) -> (Vec<Vec<f64>>, Vec<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows: Vec<Vec<f64>> =
        (0..n).map(|_| (0..width).map(|_| f64::from(rng.random_range(0..40_u8)) / 40.0).collect()).collect();
    let targets = rows
        .iter()
        .map(|row| {
            let p = sigmoid(4.0 * row[0] - 3.0 * row[1] * row[0] - 0.5);
            f64::from(u8::from(rng.random::<f64>() < p))
        })
        .collect();
    (rows, targets)
}

/// The best split of all rows, found by trying every threshold of every feature on the rows themselves.
fn naive_stump(rows: &[Vec<f64>], slopes: &[(f64, f64)], params: &Params) -> Option<(usize, f64, f64, f64)> {
    let sums = |keep: &dyn Fn(&[f64]) -> bool| {
        rows.iter()
            .zip(slopes)
            .filter(|(row, _)| keep(row))
            .fold((0.0, 0.0, 0), |(g, h, n), (_, s)| (g + s.0, h + s.1, n + 1))
    };
    let fall = |(g, h, _): (f64, f64, usize)| 0.5 * g * g / (h + params.l2);
    let mut best: Option<(f64, usize, f64, f64, f64)> = None;
    for feature in 0..rows[0].len() {
        let mut values: Vec<f64> = rows.iter().map(|row| row[feature]).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        for pair in values.windows(2) {
            let threshold = (pair[0] + pair[1]) / 2.0;
            let (left, right) = (sums(&|row| row[feature] <= threshold), sums(&|row| row[feature] > threshold));
            if left.2 < params.leaf || right.2 < params.leaf {
                continue;
            }
            let gain = fall(left) + fall(right) - fall(sums(&|_| true));
            if best.is_none_or(|b| gain > b.0 + 1e-9) {
                let value = |s: (f64, f64, usize)| -s.0 / (s.1 + params.l2);
                best = Some((gain, feature, threshold, value(left), value(right)));
            }
        }
    }
    best.map(|b| (b.1, b.2, b.3, b.4))
}

#[test]
fn a_stump_equals_the_one_found_by_trying_everything() {
    for seed in 0..8 {
        let (rows, targets) = data(150, 4, seed);
        for loss in [Loss::Squared, Loss::Logistic] {
            let params = Params { loss, rounds: 1, depth: 1, rate: 1.0, sample: 1.0, ..Params::default() };
            let fit = Boosted::fit(&rows, &targets, &params);
            let p = targets.iter().sum::<f64>() / 150.0;
            let curvature = if loss == Loss::Squared { 1.0 } else { p * (1.0 - p) };
            let slopes: Vec<_> = targets.iter().map(|y| (p - y, curvature)).collect();
            let (feature, threshold, left, right) = naive_stump(&rows, &slopes, &params).expect("a split exists");
            let largest = rows
                .iter()
                .map(|row| fit.score(row) - fit.base - if row[feature] <= threshold { left } else { right })
                .fold(0.0_f64, |a, d| a.max(d.abs()));
            assert!(largest < 1e-9, "seed {seed}: {largest}");
        }
    }
}

#[test]
fn boosting_lowers_the_loss_on_rows_it_has_not_seen() {
    let (rows, targets) = data(2000, 5, 1);
    let (fresh, truth) = data(2000, 5, 2);
    let fit = Boosted::fit(&rows, &targets, &Params { rounds: 200, ..Params::default() });
    let loss = |predict: &dyn Fn(&[f64]) -> f64| {
        fresh
            .iter()
            .zip(&truth)
            .map(|(row, y)| -(y * predict(row).ln() + (1.0 - y) * (1.0 - predict(row)).ln()))
            .sum::<f64>()
            / 2000.0
    };
    let ideal = loss(&|row| sigmoid(4.0 * row[0] - 3.0 * row[1] * row[0] - 0.5));
    let (before, after) = (loss(&|_| sigmoid(fit.base)), loss(&|row| fit.predict(row)));
    println!("log-loss: constant {before:.4}, boosted {after:.4}, truth {ideal:.4}");
    assert!(after < ideal + 0.15 * (before - ideal), "{before} {after} {ideal}");
}

#[test]
fn a_rising_feature_never_lowers_the_prediction() {
    let (rows, targets) = data(400, 3, 3);
    // Against the data: feature 1 lowers the target.
    let directions = vec![Direction::Rising, Direction::Rising, Direction::Falling];
    let params = Params { rounds: 80, depth: 3, rate: 0.3, directions, ..Params::default() };
    let fit = Boosted::fit(&rows, &targets, &params);
    let free = Boosted::fit(&rows, &targets, &Params { directions: Vec::new(), ..params });
    let mut free_falls = 0;
    for row in rows.iter().take(100) {
        for feature in 0..3 {
            let along = |fit: &Boosted| -> Vec<f64> {
                let moved = |step: u8| {
                    let mut row = row.clone();
                    row[feature] = f64::from(step) / 40.0;
                    fit.score(&row)
                };
                (0..40).map(moved).collect()
            };
            let sign = if feature == 2 { -1.0 } else { 1.0 };
            assert!(along(&fit).windows(2).all(|w| sign * (w[1] - w[0]) >= -1e-12));
            free_falls += usize::from(along(&free).windows(2).any(|w| sign * (w[1] - w[0]) < -1e-12));
        }
    }
    assert!(free_falls > 0, "without the constraint the data pull the other way");
}

#[test]
fn any_row_has_a_score_and_missing_counts_as_above() {
    let (mut rows, targets) = data(200, 2, 4);
    for row in rows.iter_mut().step_by(3) {
        row[0] = f64::NAN;
    }
    let fit = Boosted::fit(&rows, &targets, &Params::default());
    assert!(fit.is_sound());
    let strange = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    assert!(strange.iter().all(|&v| fit.score(&[v, v]).is_finite()));
    assert!((fit.score(&[]) - fit.score(&[f64::NAN, f64::NAN])).abs() < 1e-15);
}

#[test]
fn the_same_seed_gives_the_same_trees() {
    let (rows, targets) = data(300, 4, 5);
    let fit = |seed| Boosted::fit(&rows, &targets, &Params { seed, ..Params::default() });
    assert_eq!(fit(1), fit(1));
    assert_ne!(fit(1), fit(2));
}

#[test]
fn more_values_than_bins_still_split_near_the_best_place() {
    let rows: Vec<Vec<f64>> = (0..3000_u32).map(|i| vec![f64::from(i)]).collect();
    let targets: Vec<f64> = (0..3000).map(|i| f64::from(u8::from(i >= 1234))).collect();
    let params = Params { loss: Loss::Squared, rounds: 1, depth: 1, rate: 1.0, sample: 1.0, ..Params::default() };
    let fit = Boosted::fit(&rows, &targets, &params);
    let Node::Split { threshold, .. } = fit.trees[0].0[0] else { panic!("a split") };
    assert!((threshold - 1233.5).abs() < 12.0, "{threshold}");
}
