//! How values spread: reliability of confidences, distributions of latencies.

use super::{
    super::numbers::{count, duration, percent},
    Anchor, HEIGHT, MARGINS, Plot, Scale, WIDTH, thin,
};
use serde::Serialize;

/// Answers of like confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Mean confidence.
    pub confidence: f64,
    /// Share that was right.
    pub right: f64,
    /// Answers.
    pub n: u64,
}

/// Latencies of a model or a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latencies {
    /// Whose they are.
    #[serde(rename = "route")]
    pub name: String,
    /// Milliseconds.
    pub ms: Vec<f64>,
}

/// Confidence against how often it was right.
#[must_use]
pub fn reliability(bins: &[ReliabilityBin]) -> Option<String> {
    let bins: Vec<ReliabilityBin> = bins.iter().copied().filter(|b| b.n > 0).collect();
    let most = bins.iter().map(|b| b.n).max()?;
    let low = bins.iter().map(|b| b.confidence.min(b.right)).fold(1.0, f64::min);
    let low = ((low - 0.02) * 10.0).floor().max(0.0) / 10.0;
    let about = "Share of right answers against the stated confidence";
    let mut plot = Plot::new(about, |w, h| (Scale::linear((low, 1.0), w), Scale::linear((low, 1.0), h)));
    plot.y_axis("right", |v| percent(v, 0));
    plot.x_axis("stated confidence", |v| percent(v, 0));
    plot.rule((low, low), (1.0, 1.0), "limit");
    let middle = low + 0.3 * (1.0 - low);
    plot.label((middle, middle), (8.0, 14.0), "as stated", "limit-text", Anchor::Start);
    plot.line(&bins.iter().map(|b| (b.confidence, b.right)).collect::<Vec<_>>(), "first thin");
    for bin in &bins {
        plot.dot((bin.confidence, bin.right), 2.5 + 8.0 * (bin.n as f64 / most as f64).sqrt(), "bubble");
        let (stated, right) = (percent(bin.confidence, 1), percent(bin.right, 1));
        plot.hit((bin.confidence, bin.right), &format!("stated {stated}\nright {right}\n{} answers", count(bin.n)));
    }
    let mut largest = bins.iter().filter(|b| b.n == most);
    if let (Some(bin), None) = (largest.next(), largest.next()) {
        let text = format!("{} answers", count(bin.n));
        plot.label((bin.confidence, bin.right), (-16.0, 4.0), &text, "strong", Anchor::End);
    }
    Some(plot.finish())
}

/// Latencies as distributions, one below the other, over a logarithmic axis.
#[must_use]
pub fn latency(routes: &[Latencies]) -> Option<String> {
    let routes: Vec<&Latencies> = routes.iter().filter(|r| !r.ms.is_empty()).collect();
    let all = || routes.iter().flat_map(|r| r.ms.iter().copied());
    let low = all().fold(f64::INFINITY, f64::min).max(0.01);
    let high = all().fold(0.0, f64::max);
    if routes.is_empty() || high <= 0.0 {
        return None;
    }
    let (low, high) = (low / 1.4, high.max(low * 2.0) * 1.4);
    let about = "Distribution of latencies";
    let height = HEIGHT.max(MARGINS.2 + MARGINS.3 + 78.0 * routes.len() as f64);
    let mut plot = Plot::sized(about, MARGINS.0, height, |w, h| {
        (Scale::log((low, high), w), Scale::linear((0.0, routes.len() as f64), h))
    });
    plot.x_axis("latency as the application sees it, logarithmic", duration);
    for (row, route) in routes.iter().enumerate() {
        let base = (routes.len() - 1 - row) as f64;
        let mut ms = route.ms.clone();
        ms.sort_unstable_by(f64::total_cmp);
        let shape = density(&ms, low, high);
        let peak = shape.iter().map(|p| p.1).fold(1e-12, f64::max);
        let upper: Vec<(f64, f64)> = shape.iter().map(|p| (p.0, base + 0.56 * p.1 / peak)).collect();
        let ground: Vec<(f64, f64)> = shape.iter().map(|p| (p.0, base)).collect();
        let (fill, line) = if row == 0 { ("fill-first", "first") } else { ("fill-second", "second") };
        plot.area(&upper, &ground, fill);
        plot.line(&upper, line);
        plot.rule((low, base), (high, base), "axis");
        let (p50, p95) = (quantile(&ms, 0.5), quantile(&ms, 0.95));
        let text = format!("{} · {}", route.name, count(ms.len() as u64));
        // Below many others the name must stay clear of the line above.
        let y = plot.y.at(base + if routes.len() > 2 { 0.76 } else { 0.86 });
        let end = if p50 > (low * high).sqrt() { (MARGINS.0, Anchor::Start) } else { (WIDTH - MARGINS.1, Anchor::End) };
        plot.raw_text((end.0, y), &text, "strong", end.1);
        plot.raw_text((end.0, y + 16.0), &format!("half within {}", duration(p50)), "tick", end.1);
        plot.raw_text((end.0, y + 31.0), &format!("95 % within {}", duration(p95)), "tick", end.1);
        plot.rule((p95, base), (p95, base + 0.3), "drop");
        for (share, at) in [("half", p50), ("95 %", p95)] {
            plot.hit((at, base), &format!("{}\n{share} within {}", route.name, duration(at)));
        }
    }
    Some(plot.finish())
}

/// A smooth density over the logarithm: a Gaussian kernel of a fixed width that suits latencies.
fn density(sorted: &[f64], low: f64, high: f64) -> Vec<(f64, f64)> {
    let sample = thin(sorted, 400);
    let width = ((high / low).ln() / 90.0).max(0.02);
    let steps = 160;
    (0..=steps)
        .map(|i| {
            let at = low.ln() + (high / low).ln() * f64::from(i) / f64::from(steps);
            let mass = sample.iter().map(|ms| (-0.5 * ((ms.max(1e-6).ln() - at) / width).powi(2)).exp()).sum::<f64>();
            (at.exp(), mass)
        })
        .collect()
}

/// The smallest value that a share `q` of them does not exceed.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = (q * sorted.len() as f64).ceil().max(1.0);
    sorted.get(whole(at).max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
fn whole(value: f64) -> usize {
    value.round().max(0.0) as usize
}
