//! Rows in the order of their score, with prefix sums: quality and price of every threshold in one pass.

use super::{Point, Row};

/// Parallel columns, the score rising.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    pub(super) score: Vec<f64>,
    small: Vec<f64>,
    large: Vec<f64>,
    weight: Vec<f64>,
    /// Prices of both models, where every row has both.
    cost: Option<[Vec<f64>; 2]>,
}

/// One way to cut: the first `kept` rows are answered by the small model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) kept: usize,
    /// Share of the requests that they stand for.
    pub(super) share: f64,
    /// Mean of the qualities handed over.
    pub(super) quality: f64,
}

impl Ranked {
    pub(super) fn new(rows: &[Row]) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| rows[a].score.total_cmp(&rows[b].score).then(a.cmp(&b)));
        let column = |value: &dyn Fn(&Row) -> f64| order.iter().map(|&i| value(&rows[i])).collect::<Vec<f64>>();
        let priced = rows.iter().all(|row| row.small.cost_usd.is_some() && row.large.cost_usd.is_some());
        let cost = priced.then(|| {
            [column(&|row| row.small.cost_usd.unwrap_or(0.0)), column(&|row| row.large.cost_usd.unwrap_or(0.0))]
        });
        // −0 and 0 are one score.
        let score = column(&|row| row.score + 0.0);
        let (small, large) = (column(&|row| row.small.quality), column(&|row| row.large.quality));
        Self { score, small, large, weight: column(&|row| row.weight), cost }
    }

    pub(super) fn len(&self) -> usize {
        self.score.len()
    }

    pub(super) fn mean_small(&self) -> f64 {
        self.total(&self.small) / self.weights()
    }

    pub(super) fn mean_large(&self) -> f64 {
        self.total(&self.large) / self.weights()
    }

    /// Requests that all rows stand for.
    fn weights(&self) -> f64 {
        self.weight.iter().sum()
    }

    fn total(&self, values: &[f64]) -> f64 {
        values.iter().zip(&self.weight).map(|(value, weight)| value * weight).sum()
    }

    /// Share of the requests that the first rows stand for: n + 1 values.
    pub(super) fn shares(&self) -> Vec<f64> {
        let all = self.weights();
        let sums = self.weight.iter().scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum / all)
        });
        std::iter::once(0.0).chain(sums).collect()
    }

    /// Row `i` as often as `counts[i]` says.
    pub(super) fn resampled(&self, counts: &[u32]) -> Self {
        let column = |values: &[f64]| {
            values.iter().zip(counts).flat_map(|(&v, &count)| std::iter::repeat_n(v, count as usize)).collect()
        };
        Self {
            score: column(&self.score),
            small: column(&self.small),
            large: column(&self.large),
            weight: column(&self.weight),
            cost: self.cost.as_ref().map(|[small, large]| [column(small), column(large)]),
        }
    }

    /// Mean quality at every number of kept rows, ties in the score notwithstanding: n + 1 values.
    pub(super) fn quality(&self) -> Vec<f64> {
        let all = self.weights();
        let mut sum = self.total(&self.large);
        let mut out = vec![sum / all];
        for ((small, large), weight) in self.small.iter().zip(&self.large).zip(&self.weight) {
            sum += weight * (small - large);
            out.push(sum / all);
        }
        out
    }

    /// Mean price at every number of kept rows, and of either model alone. `escalated_pay_both`: behind a gate the
    /// small model has always answered.
    pub(super) fn cost(&self, escalated_pay_both: bool) -> Option<(Vec<f64>, [f64; 2])> {
        let [small, large] = self.cost.as_ref()?;
        let n = self.weights();
        let (all_small, all_large) = (self.total(small), self.total(large));
        let mut sum = all_large + if escalated_pay_both { all_small } else { 0.0 };
        let mut out = vec![sum / n];
        for ((small, large), weight) in small.iter().zip(large).zip(&self.weight) {
            sum += weight * if escalated_pay_both { -large } else { small - large };
            out.push(sum / n);
        }
        Some((out, [all_small / n, all_large / n]))
    }

    /// Cuts that a threshold can make: equal scores are kept together or not at all.
    pub(super) fn cuts(&self) -> Vec<Cut> {
        let n = self.len();
        let shares = self.shares();
        self.quality()
            .into_iter()
            .enumerate()
            .filter(|&(kept, _)| kept == 0 || kept == n || self.score[kept - 1] < self.score[kept])
            .map(|(kept, quality)| Cut { kept, share: shares[kept], quality })
            .collect()
    }

    /// About `points` scores at which a threshold changes what is kept, rising, the largest of all among them.
    pub(super) fn limits(&self, points: usize) -> Vec<f64> {
        let n = self.len();
        let mut limits: Vec<f64> = (1..=points).map(|i| self.score[(i * n).div_ceil(points).max(1) - 1]).collect();
        limits.dedup();
        limits
    }

    /// Points of the curve at even shares, cutting through ties.
    pub(super) fn points(&self, points: usize) -> Vec<Point> {
        let n = self.len();
        let (quality, shares) = (self.quality(), self.shares());
        let at = |kept: usize| Point {
            limit: kept.checked_sub(1).map(|last| self.score[last]),
            kept: shares[kept],
            quality: quality[kept],
            cost_usd: None,
            latency_ms: None,
        };
        let mut kept: Vec<usize> = (0..=points).map(|i| i * n / points).collect();
        kept.dedup();
        kept.into_iter().map(at).collect()
    }
}
