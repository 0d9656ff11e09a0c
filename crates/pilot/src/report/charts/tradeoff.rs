//! Share kept against loss, with a slider over the threshold.

use super::{super::numbers::percent, super::plot::round_step, Anchor, MOST, Plot, Scale, thin};
use serde_json::json;

/// What one threshold does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TradeoffPoint {
    /// Smallest confidence that is kept.
    pub threshold: f64,
    /// Share of the requests kept.
    pub kept: f64,
    /// Losses per request.
    pub loss: f64,
    /// Upper bound of the expected loss; `None` where none was computed.
    pub bound: Option<f64>,
    /// Cost of a thousand requests in USD; `None` when a price is unknown.
    pub cost_usd_per_1k: Option<f64>,
}

/// A curve over thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Tradeoff<'a> {
    /// Thresholds from strict to loose.
    pub points: &'a [TradeoffPoint],
    /// Largest allowed loss, where one was given.
    pub epsilon: Option<f64>,
    /// Share kept at the chosen threshold, where one was chosen.
    pub chosen: Option<f64>,
}

/// Draws the curve and the slider below it; `None` without points.
#[must_use]
pub fn tradeoff(about: &str, curve: &Tradeoff<'_>) -> Option<String> {
    let points = thin(curve.points, MOST);
    let last = points.last()?;
    let highest = points.iter().map(|p| p.loss).fold(last.loss, f64::max);
    let top = curve.epsilon.map_or(highest * 1.15, |epsilon| highest.clamp(1.6 * epsilon, 4.0 * epsilon)).max(1e-3);
    let decimals = if round_step(top / 5.0) < 0.009 { 1 } else { 0 };
    let mut plot = Plot::new(about, |w, h| (Scale::linear((0.0, 1.0), w), Scale::linear((0.0, top), h)));
    plot.y_axis("loss per request", |v| percent(v, decimals));
    plot.x_axis("requests kept by the small model", |v| percent(v, 0));
    if let Some(epsilon) = curve.epsilon {
        plot.rule((0.0, epsilon), (1.0, epsilon), "limit");
        let name = format!("allowed: ε = {}", percent(epsilon, 1));
        plot.label((0.0, epsilon), (6.0, -7.0), &name, "limit-text", Anchor::Start);
    }
    let below = |of: &dyn Fn(&TradeoffPoint) -> Option<f64>| -> Vec<(f64, f64)> {
        points.iter().filter_map(|p| Some((p.kept, of(p)?))).take_while(|p| p.1 <= top).collect()
    };
    let bounds = below(&|p| p.bound);
    plot.line(&bounds, "first");
    let observed = below(&|p| Some(p.loss));
    plot.line(&observed, "second");
    if let Some(&end) = observed.iter().rev().find(|p| p.1 <= top * 0.92) {
        plot.label(end, (-8.0, 16.0), "observed", "second-text", Anchor::End);
    }
    if let Some(&end) = bounds.iter().rev().find(|p| p.1 <= top * 0.92) {
        plot.label(end, (-8.0, -9.0), "upper bound", "first-text", Anchor::End);
    }
    if let Some(kept) = curve.chosen {
        plot.rule((kept, 0.0), (kept, curve.epsilon.unwrap_or(top)), "drop");
        let text = format!("{} kept", percent(kept, 1));
        plot.label((kept, 0.0), (-6.0, -8.0), &text, "strong", Anchor::End);
    }
    let start = points.iter().rposition(|p| curve.chosen.is_none_or(|kept| p.kept <= kept + 1e-12)).unwrap_or(0);
    plot.cursor((points[start].kept, points[start].loss.min(top)));
    let steps: Vec<serde_json::Value> = points
        .iter()
        .map(|p| {
            let bound = p.bound.map_or_else(String::new, |b| format!(" (at most {})", percent(b, 2)));
            let cost = p.cost_usd_per_1k.map_or_else(String::new, |c| format!(" 1,000 requests cost ${c:.4}."));
            json!({
                "x": (plot.x.at(p.kept) * 10.0).round() / 10.0,
                "y": (plot.y.at(p.loss.min(top)) * 10.0).round() / 10.0,
                "says": format!(
                    "Kept from confidence {:.4}: {} of the requests, loss {}{bound}.{cost}",
                    p.threshold, percent(p.kept, 1), percent(p.loss, 2)
                ),
            })
        })
        .collect();
    let steps = serde_json::Value::from(steps).to_string();
    let steps = super::super::numbers::escape(&steps);
    let most = points.len() - 1;
    Some(format!(
        "{}\n<div class=\"slider\" hidden data-steps=\"{steps}\"><label>threshold, strict to loose<input type=\"range\" \
         min=\"0\" max=\"{most}\" value=\"{start}\"></label><output></output></div>",
        plot.finish()
    ))
}
