//! How long answers took and what they cost: quantiles with intervals that assume no distribution, tokens per second,
//! sums.

use super::{LEVEL, Metric};
use serde::Serialize;
use understudy_core::{RecordedAnswer, Seed};
use understudy_stats::quantile;

/// Latency, throughput and cost of one model's answers. What was not recorded is `None`, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Report {
    /// Median milliseconds to the whole answer.
    pub latency_ms_p50: Option<Metric>,
    /// 95th percentile.
    pub latency_ms_p95: Option<Metric>,
    /// 99th percentile; its upper end is unknown (null) below some 370 answers.
    pub latency_ms_p99: Option<Metric>,
    /// Output tokens over seconds, both summed over the answers that have both (bootstrap over answers).
    pub tokens_per_s: Option<Metric>,
    /// USD over all answers with a price.
    pub cost_usd: Option<f64>,
    /// Mean USD an answer (BCa bootstrap).
    pub cost_usd_mean: Option<Metric>,
    /// Answers without a price; the sum leaves them out.
    pub cost_unknown: u64,
    /// Input tokens over all answers that have them.
    pub tokens_in: u64,
    /// Output tokens likewise.
    pub tokens_out: u64,
}

/// Measures recorded answers.
#[must_use]
pub fn report<'a>(answers: impl IntoIterator<Item = &'a RecordedAnswer>, seed: Seed) -> Report {
    let answers: Vec<&RecordedAnswer> = answers.into_iter().collect();
    let latencies: Vec<f64> = answers.iter().filter_map(|a| a.latency_ms).filter(|ms| ms.is_finite()).collect();
    let at = |q: f64| {
        (!latencies.is_empty()).then(|| Metric::new(quantile::quantile(&latencies, q, LEVEL), latencies.len() as u64))
    };
    let timed: Vec<(f64, f64)> = answers
        .iter()
        .filter_map(|a| Some((a.tokens_out? as f64, a.latency_ms.filter(|ms| ms.is_finite() && *ms > 0.0)? / 1000.0)))
        .collect();
    let rate = |indices: &[usize]| {
        let (tokens, seconds) = indices.iter().fold((0.0, 0.0), |(t, s), &i| (t + timed[i].0, s + timed[i].1));
        tokens / seconds
    };
    let costs: Vec<f64> = answers.iter().filter_map(|a| a.cost_usd).collect();
    let sum = |count: fn(&RecordedAnswer) -> Option<u64>| answers.iter().filter_map(|a| count(a)).sum();
    Report {
        latency_ms_p50: at(0.5),
        latency_ms_p95: at(0.95),
        latency_ms_p99: at(0.99),
        tokens_per_s: Metric::resampled(timed.len(), seed.derive("tokens_per_s"), rate),
        cost_usd: (!costs.is_empty()).then(|| costs.iter().sum()),
        cost_usd_mean: Metric::mean(&costs, seed.derive("cost_usd")),
        cost_unknown: (answers.len() - costs.len()) as u64,
        tokens_in: sum(|a| a.tokens_in),
        tokens_out: sum(|a| a.tokens_out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_recorded_stays_unknown() {
        let answer =
            |ms: f64| RecordedAnswer { latency_ms: Some(ms), tokens_out: Some(10), ..RecordedAnswer::default() };
        let mut answers: Vec<RecordedAnswer> = (1..=100).map(|i| answer(f64::from(i))).collect();
        answers.push(RecordedAnswer { cost_usd: Some(0.5), ..RecordedAnswer::default() });
        let report = report(&answers, Seed(1));
        let p50 = report.latency_ms_p50.expect("latencies");
        assert_eq!((p50.low, p50.estimate, p50.high, p50.n), (40.0, 50.0, 61.0, 100));
        assert!(report.latency_ms_p99.expect("latencies").high.is_infinite());
        // 1,000 tokens in 5.05 s.
        assert!((report.tokens_per_s.expect("timed").estimate - 1000.0 / 5.05).abs() < 1e-9);
        assert_eq!((report.cost_usd, report.cost_unknown), (Some(0.5), 100));
        assert!(super::report(&[], Seed(1)).cost_usd.is_none());
    }
}
