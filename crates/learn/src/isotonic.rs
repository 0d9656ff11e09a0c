//! Isotonic regression: the non-decreasing function of one variable that is nearest to the observations in weighted
//! squares, by pooling adjacent violators (Ayer et al., 1955). Equal to scikit-learn's `IsotonicRegression` with
//! `out_of_bounds="clip"`: equal inputs are averaged first, and between two inputs the function is linear.

use serde::{Deserialize, Serialize};

/// A fitted non-decreasing, piecewise linear function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Inputs at which the function bends, strictly rising.
    x: Vec<f64>,
    /// Its values there, not falling.
    y: Vec<f64>,
}

impl Isotonic {
    /// Fits to observations `(x, y, weight)`. Those with an `x` or `y` that is not finite, or without positive weight,
    /// are left out; of none at all the function is 0.
    #[must_use]
    pub fn fit(observations: impl IntoIterator<Item = (f64, f64, f64)>) -> Self {
        let mut sorted: Vec<(f64, f64, f64)> =
            observations.into_iter().filter(|(x, y, w)| x.is_finite() && y.is_finite() && *w > 0.0).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let merged = merge_equal_inputs(&sorted);
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for block in pool(&merged) {
            // The interior of a level stretch is on the line between its ends.
            let ends = [merged[block.first].0, merged[block.last].0];
            for &end in &ends[..if block.first == block.last { 1 } else { 2 }] {
                x.push(end);
                y.push(block.mean);
            }
        }
        Self { x, y }
    }

    /// The value at `x`: clipped outside the observed inputs; the lowest value for what is not a number.
    #[must_use]
    pub fn at(&self, x: f64) -> f64 {
        let (Some(&lowest), Some(&highest)) = (self.y.first(), self.y.last()) else { return 0.0 };
        let above = self.x.partition_point(|&bend| bend <= x);
        if above == 0 || x.is_nan() {
            return lowest;
        }
        if above == self.x.len() {
            return highest;
        }
        let (x0, x1, y0, y1) = (self.x[above - 1], self.x[above], self.y[above - 1], self.y[above]);
        y0 + (y1 - y0) * ((x - x0) / (x1 - x0))
    }

    /// Bends `(x, y)` from left to right.
    pub fn bends(&self) -> impl Iterator<Item = (f64, f64)> {
        self.x.iter().copied().zip(self.y.iter().copied())
    }

    /// Whether the function can have come from a fit: what was read from a file is checked with this.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.x.len() == self.y.len()
            && self.x.iter().chain(&self.y).all(|v| v.is_finite())
            && self.x.windows(2).all(|w| w[0] < w[1])
            && self.y.windows(2).all(|w| w[0] <= w[1])
    }
}

/// Observations of one input become one, with their mean and summed weight.
fn merge_equal_inputs(sorted: &[(f64, f64, f64)]) -> Vec<(f64, f64, f64)> {
    let mut merged: Vec<(f64, f64, f64)> = Vec::with_capacity(sorted.len());
    for &(x, y, weight) in sorted {
        match merged.last_mut() {
            Some(last) if last.0.total_cmp(&x).is_eq() => {
                last.1 += (y - last.1) * weight / (last.2 + weight);
                last.2 += weight;
            }
            _ => merged.push((x, y, weight)),
        }
    }
    merged
}

struct Block {
    first: usize,
    last: usize,
    mean: f64,
    weight: f64,
}

/// Blocks of equal fitted value, left to right: whenever a block lies above its right neighbour, the two are pooled.
fn pool(points: &[(f64, f64, f64)]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::with_capacity(points.len());
    for (index, &(_, mean, weight)) in points.iter().enumerate() {
        let mut block = Block { first: index, last: index, mean, weight };
        while let Some(left) = blocks.pop_if(|left| left.mean >= block.mean) {
            let total = left.weight + block.weight;
            block.mean = (left.mean * left.weight + block.mean * block.weight) / total;
            (block.first, block.weight) = (left.first, total);
        }
        blocks.push(block);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// max over i ≤ k of min over j ≥ k of the weighted mean of i..=j: the definition (Barlow et al., 1972).
    fn naive(points: &[(f64, f64, f64)], k: usize) -> f64 {
        let mean = |i: usize, j: usize| {
            let block = &points[i..=j];
            block.iter().map(|p| p.1 * p.2).sum::<f64>() / block.iter().map(|p| p.2).sum::<f64>()
        };
        (0..=k)
            .map(|i| (k..points.len()).map(|j| mean(i, j)).fold(f64::INFINITY, f64::min))
            .fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn equals_scikit_learn() {
        // IsotonicRegression(out_of_bounds="clip").fit([.3,.1,.4,.1,.5,.9,.2,.6,.5,.35], [1,0,1,1,0,1,0,1,1,0],
        // [1,2,1,1,3,1,1,2,.5,1]).predict([-1, 0, .1, …]), version 1.9.1
        let x = [0.3, 0.1, 0.4, 0.1, 0.5, 0.9, 0.2, 0.6, 0.5, 0.35];
        let y = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
        let weight = [1.0, 2.0, 1.0, 1.0, 3.0, 1.0, 1.0, 2.0, 0.5, 1.0];
        let fit = Isotonic::fit((0..10).map(|i| (x[i], y[i], weight[i])));
        let (low, middle) = (0.25, 0.384_615_384_615_384_64);
        let expected = [
            (-1.0, low),
            (0.0, low),
            (0.1, low),
            (0.15, low),
            (0.2, low),
            (0.3, middle),
            (0.33, middle),
            (0.4, middle),
            (0.5, middle),
            (0.55, 0.692_307_692_307_692_7),
            (0.6, 1.0),
            (0.7, 1.0),
            (0.9, 1.0),
            (2.0, 1.0),
        ];
        for (at, expected) in expected {
            assert!((fit.at(at) - expected).abs() < 1e-12, "{at}: {} instead of {expected}", fit.at(at));
        }
        assert!(fit.is_sound());
    }

    #[test]
    fn any_input_has_a_value() {
        let fit = Isotonic::fit([(0.0, 0.2, 1.0), (1.0, 0.6, 1.0), (f64::NAN, 9.0, 1.0), (0.5, 9.0, 0.0)]);
        for (at, expected) in [(f64::NAN, 0.2), (f64::NEG_INFINITY, 0.2), (f64::INFINITY, 0.6), (0.25, 0.3)] {
            assert!((fit.at(at) - expected).abs() < 1e-15);
        }
        assert!(Isotonic::fit([]).at(0.3).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn equals_the_definition(points in prop::collection::vec((0_u8..12, 0_u8..5, 1_u8..4), 1..40)) {
            let points: Vec<_> = points.iter().map(|&(x, y, w)| (f64::from(x), f64::from(y), f64::from(w))).collect();
            let fit = Isotonic::fit(points.iter().copied());
            let mut sorted = points;
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            let merged = merge_equal_inputs(&sorted);
            for k in 0..merged.len() {
                prop_assert!((fit.at(merged[k].0) - naive(&merged, k)).abs() < 1e-9);
            }
            prop_assert!(fit.is_sound());
        }
    }
}
