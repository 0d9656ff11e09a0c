//! The non-decreasing upper hull of points in the plane of price and quality: what mixing the points at random reaches.

/// Mean height of the hull over the prices between `cheap` and `dear`, both of which belong to the points. `None` when
/// that stretch is empty.
pub(super) fn mean_height(
    points: impl IntoIterator<Item = (f64, f64)>,
    cheap: (f64, f64),
    dear: (f64, f64),
) -> Option<f64> {
    let (from, to) = (cheap.0, dear.0);
    if to <= from {
        return None;
    }
    let hull = upper(points.into_iter().chain([cheap, dear]).collect());
    let mut area = 0.0;
    for pair in hull.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let (left, right) = (x0.max(from), x1.min(to));
        if left < right {
            let height = |x: f64| y0 + (y1 - y0) * (x - x0) / (x1 - x0);
            area += (right - left) * (height(left) + height(right)) / 2.0;
        }
    }
    // Beyond the best point the hull is flat: nobody has to spend more.
    if let Some(&(x, y)) = hull.last() {
        area += (to - x.max(from)).max(0.0) * y;
    }
    Some(area / (to - from))
}

/// Upper hull, from the leftmost point to the highest one.
fn upper(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut hull: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if hull.last().is_some_and(|last| point.1 <= last.1) {
            continue;
        }
        while let [.., a, b] = hull[..] {
            let below = (b.1 - a.1) * (point.0 - a.0) <= (point.1 - a.1) * (b.0 - a.0);
            if !below {
                break;
            }
            hull.pop();
        }
        // A higher point at the same price takes the place of the lower one.
        if hull.last().is_some_and(|last| last.0 >= point.0) {
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_height_is_that_of_the_best_mixture() {
        // A point below the line from cheap to dear adds nothing, one above it lifts the hull.
        let (cheap, dear) = ((1.0, 0.5), (3.0, 0.9));
        let mean = |points: &[(f64, f64)]| mean_height(points.iter().copied(), cheap, dear).expect("a stretch");
        assert!((mean(&[]) - 0.7).abs() < 1e-12);
        assert!((mean(&[(2.0, 0.6)]) - 0.7).abs() < 1e-12);
        assert!((mean(&[(2.0, 0.9)]) - 0.8).abs() < 1e-12);
        // Dearer than the large model alone: cut off; better and cheaper than it: flat from there.
        assert!((mean(&[(5.0, 1.0)]) - (0.5 + 0.9) / 2.0).abs() < 1e-12);
        assert!((mean(&[(2.0, 1.0)]) - (0.75 + 1.0) / 2.0).abs() < 1e-12);
        assert_eq!(mean_height([], dear, cheap), None);
    }

    #[test]
    fn the_hull_is_above_every_point_and_no_mixture_is_above_it() {
        let points: Vec<(f64, f64)> =
            (0..200_u32).map(|i| (f64::from(i * 37 % 200), f64::from(i * i * 13 % 211))).collect();
        let hull = upper(points.clone());
        let height = |x: f64| match hull.iter().position(|p| p.0 >= x) {
            None => hull.last().expect("points").1,
            Some(0) => hull[0].1,
            Some(i) => {
                let (a, b) = (hull[i - 1], hull[i]);
                a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0)
            }
        };
        assert!(points.iter().all(|&(x, y)| y <= height(x) + 1e-9));
        assert!(hull.windows(2).all(|p| p[0].0 < p[1].0 && p[0].1 < p[1].1));
        let slopes: Vec<f64> = hull.windows(2).map(|p| (p[1].1 - p[0].1) / (p[1].0 - p[0].0)).collect();
        assert!(slopes.windows(2).all(|s| s[0] > s[1]), "{slopes:?}");
    }
}
