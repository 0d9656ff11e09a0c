//! What a hybrid would cost and how fast it would be, before it runs: expectations over requests that were seen, with
//! intervals. Nothing is replayed here; `cargo xtask bench forecast` holds the result against a replay of other
//! requests through `route::Cascade`.
//!
//! A request at threshold t costs `small + large` below t and `small + audit · large` from t on. Where the large
//! model's part is known only for an audited share of the kept requests, those carry the inverse of their probability
//! (Horvitz and Thompson, *JASA* 47, 1952).

use serde::Serialize;
use understudy_core::{Error, Money, Result};
use understudy_stats::{Bound, binomial};

/// Level of every interval here.
pub const LEVEL: f64 = 0.95;
/// The normal quantile that belongs to it.
const Z: f64 = 1.959_963_984_540_054;
/// Audited kept answers below which what the large model costs has no interval: a handful of heavy weights does not tell
/// how much they vary.
const FEWEST_AUDITED: usize = 10;

/// One request that was seen, and what both models did or would have done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// The small model's confidence, in [0, 1]; without one its answer is never kept.
    pub confidence: Option<f64>,
    /// Cost of the small model's answer.
    pub small_cost: Money,
    /// Time of the small model's answer in milliseconds, where it is known.
    pub small_ms: Option<f64>,
    /// Cost of the large model's answer and its time in milliseconds where that is known, where it was asked.
    pub large: Option<(Money, Option<f64>)>,
    /// Probability with which the large model's part became known: 1, or the audit's for a kept answer. In (0, 1].
    pub probability: f64,
}

/// What is forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The next so many requests like the ones seen.
    Next(u64),
    /// These requests: the rows seen are a random part of them, and what the large model cost on all of them is known
    /// from the bill.
    Billed {
        /// Number of requests.
        requests: u64,
        /// What the large model cost on all of them.
        large_total: Money,
    },
}

impl Target {
    fn requests(self) -> u64 {
        match self {
            Self::Next(requests) | Self::Billed { requests, .. } => requests,
        }
    }
}

/// Terms of the hybrid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Answers with at least this confidence are kept.
    pub threshold: f64,
    /// Probability that a kept answer is audited, in [0, 1].
    pub audit: f64,
}

/// An estimate with its interval; an end that the sample cannot bound is absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Point estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl From<Bound> for Interval {
    fn from(bound: Bound) -> Self {
        let finite = |x: f64| x.is_finite().then_some(x);
        Self { estimate: bound.estimate, low: finite(bound.low), high: finite(bound.high) }
    }
}

impl Interval {
    fn around(estimate: f64, half: f64) -> Self {
        Self { estimate, low: Some(estimate - half), high: Some(estimate + half) }
    }

    fn known_if(self, known: bool) -> Self {
        let (low, high) = (self.low.filter(|_| known), self.high.filter(|_| known));
        Self { low, high, ..self }
    }
}

/// What is to be expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Requests that it rests on.
    pub n: u64,
    /// Requests that it speaks about.
    pub requests: u64,
    /// Level of the intervals.
    pub level: f64,
    /// Share answered by the small model.
    pub kept: Interval,
    /// Mean cost of a request in USD, audits included.
    pub cost_per_request_usd: Interval,
    /// Cost of all `requests` in USD; the interval holds what they will really cost, not only its expectation.
    pub total_usd: Interval,
    /// Mean cost of a request in USD if the large model answered everything; without an interval, as is `saved`, where
    /// fewer than ten audits stand for the kept answers.
    pub large_per_request_usd: Interval,
    /// 1 − hybrid / large.
    pub saved: Interval,
    /// Part of the cost that is audits, in USD a request; its interval as that of `large_per_request_usd`.
    pub audits_per_request_usd: Interval,
    /// Time to the whole answer in milliseconds: median. None, as the others, where a time is unknown.
    pub latency_ms_p50: Option<Interval>,
    /// 95th percentile.
    pub latency_ms_p95: Option<Interval>,
    /// 99th percentile.
    pub latency_ms_p99: Option<Interval>,
    /// Median if the large model answered everything.
    pub large_latency_ms_p50: Option<Interval>,
    /// Its 95th percentile.
    pub large_latency_ms_p95: Option<Interval>,
    /// Rows that would bring the total's own uncertainty (not that of the requests to come) to ± 2 %.
    pub rows_for_two_percent: u64,
    /// How far the cost of `requests` requests strays from its expectation by itself, relative, at `level`: no forecast
    /// of the next requests is closer than this.
    pub noise: f64,
}

/// 1 − cost of two tiers / cost of the large one alone, when a share of the queries takes the small one.
#[must_use]
pub fn saved_by_share(share: f64, small: Money, large: Money) -> f64 {
    share * (1.0 - small.usd() / large.usd())
}

/// Forecasts `target` from the rows seen.
///
/// # Errors
/// `Invalid` for a threshold, audit share or probability outside its range; `Data` for fewer than two rows, or rows
/// among which the large model was never asked.
pub fn forecast(rows: &[Observed], policy: Policy, target: Target) -> Result<Forecast> {
    check(rows, policy)?;
    let n = rows.len() as f64;
    let keeps = |row: &Observed| row.confidence.is_some_and(|confidence| confidence >= policy.threshold);
    let large = |row: &Observed| row.large.map_or(0.0, |(cost, _)| cost.usd() / row.probability);
    let larges: Vec<f64> = rows.iter().map(large).collect();
    let hybrids: Vec<f64> = rows
        .iter()
        .zip(&larges)
        .map(|(row, large)| row.small_cost.usd() + large * if keeps(row) { policy.audit } else { 1.0 })
        .collect();
    let audited = |(row, large): (&Observed, &f64)| if keeps(row) { large * policy.audit } else { 0.0 };
    let audits: Vec<f64> = rows.iter().zip(&larges).map(audited).collect();
    let (mean, large_mean) = (average(&hybrids), average(&larges));
    let (variance, large_variance) = (covariance(&hybrids, &hybrids), covariance(&larges, &larges));
    let requests = target.requests().max(1) as f64;

    let (expected, residual) = match target {
        Target::Next(_) => (mean, variance),
        // Regression on what the bill already says (Cochran, Sampling Techniques, chapter 7).
        Target::Billed { requests, large_total } => {
            let cross = covariance(&hybrids, &larges);
            let slope = if large_variance > 0.0 { cross / large_variance } else { 0.0 };
            let billed = large_total.usd() / requests.max(1) as f64;
            (mean + slope * (billed - large_mean), (variance - slope * cross).max(0.0))
        }
    };
    let to_come = match target {
        Target::Next(_) => 1.0 / n + 1.0 / requests,
        Target::Billed { .. } => (1.0 / n - 1.0 / requests).max(0.0),
    };
    // Which kept answers are audited is drawn anew, whatever is known of the requests.
    let drawn = |row: &Observed| row.large.map_or(0.0, |(cost, _)| cost.usd().powi(2) / row.probability);
    let audit_variance =
        policy.audit * (1.0 - policy.audit) * rows.iter().filter(|row| keeps(row)).map(drawn).sum::<f64>() / n;
    let total_error = (residual * to_come * requests * requests + audit_variance * requests).sqrt();
    let ratio = mean / large_mean;
    let differences: Vec<f64> = hybrids.iter().zip(&larges).map(|(hybrid, large)| hybrid - ratio * large).collect();
    let ratio_error = (covariance(&differences, &differences) / n).sqrt() / large_mean;

    let sampled = || rows.iter().filter(|row| row.probability < 1.0);
    let enough = sampled().next().is_none() || sampled().filter(|row| row.large.is_some()).count() >= FEWEST_AUDITED;
    let kept = rows.iter().filter(|row| keeps(row)).count() as u64;
    // Rows that count, with their weight; a single unknown time leaves all quantiles unknown.
    let times: Option<Vec<(f64, f64)>> = rows
        .iter()
        .filter_map(|row| match (keeps(row), row.large) {
            (true, _) => Some(row.small_ms.map(|ms| (ms, 1.0))),
            (false, Some((_, ms))) => Some(row.small_ms.zip(ms).map(|(a, b)| (a + b, 1.0 / row.probability))),
            (false, None) => None,
        })
        .collect();
    let large_times: Option<Vec<(f64, f64)>> =
        rows.iter().filter_map(|row| row.large.map(|(_, ms)| ms.map(|ms| (ms, 1.0 / row.probability)))).collect();
    let of = |times: &Option<Vec<(f64, f64)>>, q| times.as_deref().and_then(|times| quantile(times, q));
    let relative = |variance: f64| if expected > 0.0 { variance.sqrt() / expected } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; saturates")]
    let rows_needed = (Z * relative(residual) / 0.02).powi(2).ceil() as u64;
    Ok(Forecast {
        n: rows.len() as u64,
        requests: target.requests(),
        level: LEVEL,
        kept: binomial::wilson(kept, rows.len() as u64, LEVEL).into(),
        cost_per_request_usd: Interval::around(expected, Z * (residual / n).sqrt()),
        total_usd: Interval::around(expected * requests, Z * total_error),
        large_per_request_usd: Interval::around(large_mean, Z * (large_variance / n).sqrt()).known_if(enough),
        saved: Interval::around(1.0 - ratio, Z * ratio_error).known_if(enough),
        audits_per_request_usd: Interval::around(average(&audits), Z * (covariance(&audits, &audits) / n).sqrt())
            .known_if(enough),
        latency_ms_p50: of(&times, 0.5),
        latency_ms_p95: of(&times, 0.95),
        latency_ms_p99: of(&times, 0.99),
        large_latency_ms_p50: of(&large_times, 0.5),
        large_latency_ms_p95: of(&large_times, 0.95),
        rows_for_two_percent: rows_needed,
        noise: match target {
            Target::Next(_) => Z * relative(variance) / requests.sqrt(),
            Target::Billed { .. } => 0.0,
        },
    })
}

fn check(rows: &[Observed], policy: Policy) -> Result<()> {
    if !policy.threshold.is_finite() || !(0.0..=1.0).contains(&policy.audit) {
        return Err(Error::invalid(format!(
            "forecast: threshold {} must be a number and the share of audits {} lie in [0, 1]",
            policy.threshold, policy.audit
        )));
    }
    if rows.len() < 2 {
        return Err(Error::data(format!(
            "forecast: {} requests were seen, an interval needs at least two",
            rows.len()
        )));
    }
    let sound = |row: &Observed| {
        row.probability > 0.0
            && row.probability <= 1.0
            && row.small_ms.is_none_or(f64::is_finite)
            && row.large.is_none_or(|(_, ms)| ms.is_none_or(f64::is_finite))
    };
    if let Some(at) = rows.iter().position(|row| !sound(row)) {
        return Err(Error::invalid(format!(
            "forecast: request {} has a probability outside (0, 1] or a time that is no number",
            at + 1
        )));
    }
    if rows.iter().all(|row| row.large.is_none_or(|(cost, _)| cost == Money::ZERO)) {
        return Err(Error::data(
            "forecast: no request shows what the large model costs; record some with a priced large model first",
        ));
    }
    Ok(())
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample covariance, with n − 1 below.
fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (average(a), average(b));
    a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum::<f64>() / (a.len() as f64 - 1.0)
}

/// A weighted quantile with Woodruff's interval (*JASA* 47, 1952): the quantile's level gets a Wilson interval at the
/// effective sample size, and its ends are read off the same distribution.
fn quantile(sample: &[(f64, f64)], q: f64) -> Option<Interval> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let squares: f64 = sorted.iter().map(|(_, weight)| weight * weight).sum();
    let at = |level: f64| {
        let mut seen = 0.0;
        sorted.iter().find_map(|(value, weight)| {
            seen += weight;
            (seen >= level * total * (1.0 - 1e-12)).then_some(*value)
        })
    };
    let estimate = at(q)?;
    let n = total * total / squares;
    let centre = (q + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (q * (1.0 - q) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Beyond the largest value seen the sample says nothing.
    let bounded = |level: f64| (level * n >= 1.0 && (1.0 - level) * n >= 1.0).then(|| at(level)).flatten();
    Some(Interval { estimate, low: bounded(centre - half), high: bounded(centre + half) })
}

#[cfg(test)]
mod tests;
