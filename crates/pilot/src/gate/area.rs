//! What an order of escalation is worth, with a standard error.

/// Share of the requests that are escalated before each one when those with the lowest scores go first; equal scores
/// share their places.
pub(crate) fn places(scores: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut places = vec![0.0; scores.len()];
    let mut start = 0;
    while start < order.len() {
        let same = |&&i: &&usize| scores[i].total_cmp(&scores[order[start]]).is_eq();
        let end = start + order[start..].iter().take_while(same).count();
        // Mean over the tie of what a random order would give, from the middle of the first to the middle of the last.
        let place = (start + end) as f64 / 2.0 / scores.len() as f64;
        order[start..end].iter().for_each(|&i| places[i] = place);
        start = end;
    }
    places
}

/// Mean quality above the small model's along the curve of growing shares of escalated requests. `gains` are the large
/// model's quality less the small model's. Divided by the mean gain this is the average performance gap recovered.
pub(crate) fn area(scores: &[f64], gains: &[f64]) -> f64 {
    let n = gains.len() as f64;
    places(scores).iter().zip(gains).map(|(place, gain)| gain * (1.0 - place)).sum::<f64>() / n
}

/// How much more area `a` has than `b`, and the standard error of that (over requests).
pub(crate) fn difference(a: &[f64], b: &[f64], gains: &[f64]) -> (f64, f64) {
    difference_of_places(&places(a), &places(b), gains)
}

/// As [`difference`], from places, which may be means over several orders.
pub(crate) fn difference_of_places(a: &[f64], b: &[f64], gains: &[f64]) -> (f64, f64) {
    let n = gains.len() as f64;
    let each: Vec<f64> = a.iter().zip(b).zip(gains).map(|((a, b), gain)| gain * (b - a)).collect();
    let mean = each.iter().sum::<f64>() / n;
    let variance = each.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_one_under_the_curve_of_every_threshold() {
        let scores = [0.9, 0.1, 0.5, 0.5, 0.3];
        let gains = [0.0, 1.0, 1.0, -1.0, 0.0];
        // Escalating 0, 1, 2, 4, 5 of 5 gives 0, 1/5, 1/5, 1/5, 1/5 above the small model: trapezoids.
        let expected = 0.5 * 0.2 * 0.2 + 0.2 * 0.8;
        assert!((area(&scores, &gains) - expected).abs() < 1e-15);
    }

    #[test]
    fn area_over_gap_is_what_replay_reports_from_every_threshold() {
        use crate::replay::{Row, Side, Stage, figures};
        let side = |quality: f64| Side { quality, ..Side::default() };
        let quality = |i: u32, factor: u32, most: u32| f64::from(u8::from(i * factor % 10 < most));
        let rows: Vec<Row> = (0..200_u32)
            .map(|i| Row {
                small: side(quality(i, 7, 6)),
                large: side(quality(i, 3, 8)),
                score: f64::from(i * 13 % 23),
                weight: 1.0,
            })
            .collect();
        let scores: Vec<f64> = rows.iter().map(|row| -row.score).collect();
        let gains: Vec<f64> = rows.iter().map(|row| row.large.quality - row.small.quality).collect();
        let apgr = area(&scores, &gains) / (gains.iter().sum::<f64>() / 200.0);
        let replayed = figures(&rows, Stage::After).expect("valid rows").apgr_full.expect("the large model is better");
        assert!((apgr - replayed).abs() < 1e-12, "{apgr} {replayed}");
    }

    #[test]
    fn the_difference_of_two_orders_is_the_difference_of_their_areas() {
        let gains: Vec<f64> = (0..50_i32).map(|i| f64::from(i * 7 % 3 - 1)).collect();
        let a: Vec<f64> = (0..50_i32).map(|i| f64::from(i * 13 % 50)).collect();
        let b: Vec<f64> = (0..50_i32).map(|i| f64::from(i * 31 % 11)).collect();
        let (mean, error) = difference(&a, &b, &gains);
        assert!((mean - (area(&a, &gains) - area(&b, &gains))).abs() < 1e-12 && error > 0.0);
        assert!(difference(&a, &a, &gains).0.abs() < 1e-15);
    }
}
