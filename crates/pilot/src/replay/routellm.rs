//! RouteLLM's figures, computed as its evaluation does (`routellm/evals/{benchmarks,evaluate}.py`; arXiv 2406.18665,
//! section 4.1), so that published tables can be compared digit by digit: thresholds at the deciles of the score
//! (`pandas.qcut`, repeated edges dropped), share of strong calls and accuracy at each, area by trapezoids, and
//! `numpy.interp` for the call-performance thresholds.

use super::ranked::Ranked;

/// Bins of the score, so that there are eleven thresholds.
const BINS: usize = 10;

/// One threshold: share of calls to the large model, mean quality.
pub(super) type Knot = (f64, f64);

/// The curve of share against quality, the share rising.
pub(super) fn curve(ranked: &Ranked) -> Vec<Knot> {
    let (quality, shares) = (ranked.quality(), ranked.shares());
    let edges = edges(&ranked.score);
    let last = edges.len() - 1;
    let knot = |kept: usize| (1.0 - shares[kept], quality[kept]);
    if last == 0 {
        // One score for all: no threshold tells requests apart, and what is left is the line between the models.
        return vec![knot(ranked.len()), knot(0)];
    }
    let kept = |(i, edge): (usize, &f64)| match i == last {
        true => ranked.score.partition_point(|score| score <= edge),
        false => ranked.score.partition_point(|score| score < edge),
    };
    edges.iter().enumerate().rev().map(kept).map(knot).collect()
}

/// `pandas.qcut`'s edges of sorted values: quantiles by linear interpolation, each edge once.
fn edges(sorted: &[f64]) -> Vec<f64> {
    let step = 1.0 / BINS as f64;
    let mut edges: Vec<f64> = (0..=BINS)
        .map(|i| {
            // A share that binary fractions round up is nudged further, as pandas does.
            let rounded = i as f64 * step;
            let share = if rounded * BINS as f64 > i as f64 { rounded.next_up() } else { rounded };
            let position = (sorted.len() - 1) as f64 * (share * 100.0 / 100.0);
            #[expect(clippy::cast_possible_truncation, reason = "a position among the values")]
            let (below, part) = (position.floor() as usize, position.fract());
            let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
            // numpy's interpolation runs from the nearer end.
            if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) }
        })
        .collect();
    edges.dedup();
    edges
}

/// Average performance gap recovered: area between the curve and the small model, over the gap. `None` when the large
/// model is not better.
pub(super) fn apgr(curve: &[Knot], small: f64, large: f64) -> Option<f64> {
    let pairs = || curve.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[0].1 + pair[1].1));
    let width: f64 = pairs().map(|(width, _)| width).sum();
    let area: f64 = pairs().map(|(width, heights)| width * heights / 2.0).sum();
    (large > small && width > 0.0).then(|| (area - small * width) / ((large - small) * width))
}

/// Call-performance threshold: percentage of calls to the large model that recovers `share` of the gap. `None` when
/// the large model is not better.
pub(super) fn cpt(curve: &[Knot], small: f64, large: f64, share: f64) -> Option<f64> {
    let (strong, quality): (Vec<f64>, Vec<f64>) = curve.iter().copied().unzip();
    (large > small).then(|| 100.0 * interpolate(share * (large - small) + small, &quality, &strong))
}

/// `numpy.interp` for one value. A curve's quality need not rise everywhere, and then the answer depends on how the
/// interval is searched; this is numpy's search (`compiled_base.c`, `binary_search_with_guess` from guess 0).
fn interpolate(x: f64, xs: &[f64], ys: &[f64]) -> f64 {
    let len = xs.len();
    if x > xs[len - 1] {
        return ys[len - 1];
    }
    if x < xs[0] {
        return ys[0];
    }
    let i = interval(x, xs);
    let reached = i + 1 >= len || xs[i] >= x && x >= xs[i];
    if reached {
        return ys[i];
    }
    (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]) * (x - xs[i]) + ys[i]
}

/// Index of the interval that numpy's search ends in, for `xs[0] ≤ x ≤ xs[last]`.
fn interval(x: f64, xs: &[f64]) -> usize {
    let len = xs.len();
    if len <= 4 {
        return (1..len).find(|&i| x < xs[i]).unwrap_or(len) - 1;
    }
    // numpy first looks around the guess, which becomes 1 here …
    if let Some(near) = (1..=3).find(|&i| x < xs[i]) {
        return near - 1;
    }
    // … then narrows the search to eight entries if they hold x, and halves.
    let (mut low, mut high) = (3, len);
    if len > 10 && x < xs[9] {
        high = 9;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if x >= xs[middle] { low = middle + 1 } else { high = middle }
    }
    low - 1
}

#[cfg(test)]
mod tests;
