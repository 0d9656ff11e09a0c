//! The plots that only the demo has. Each says with its labels what it shows; the page adds a title that states the finding.

use super::{CurvePoint, DemoReport, EvidencePoint, SpendPoint};
use understudy_pilot::report::{
    numbers::{count, dollars, percent},
    plot::{Anchor, Plot, Scale, round_step, thin},
};

/// Points in a line; more would only make the file longer.
const MOST: usize = 240;

/// Share kept against the bound on the loss, with the chosen threshold.
pub(super) fn certification(report: &DemoReport) -> Option<String> {
    let points: Vec<CurvePoint> = report.curve.iter().copied().filter(|p| p.bound.is_finite()).collect();
    let last = points.last()?;
    let top = (last.bound.min(3.0 * report.epsilon)).max(1.6 * report.epsilon);
    let about = "Upper bound on the loss per request against the share of requests kept";
    let mut plot = Plot::new(about, |w, h| (Scale::linear((0.0, 1.0), w), Scale::linear((0.0, top), h)));
    plot.y_axis("loss per request", |v| percent(v, decimals(top)));
    plot.x_axis("requests kept by the small model", |v| percent(v, 0));
    let chosen = report.certificate.as_ref().map(|c| (c.threshold.get(), c.kept, c.bound));
    let is_sure = |p: &&CurvePoint| chosen.is_some_and(|(t, _, _)| p.threshold >= t - 1e-12);
    let line = |of: fn(&CurvePoint) -> f64, points: &[CurvePoint]| -> Vec<(f64, f64)> {
        thin(points, MOST).iter().map(|p| (p.kept, of(p))).take_while(|p| p.1 <= top).collect()
    };
    let sure: Vec<CurvePoint> = points.iter().filter(is_sure).copied().collect();
    let rest = &points[sure.len().saturating_sub(1).min(points.len())..];
    plot.rule((0.0, report.epsilon), (1.0, report.epsilon), "limit");
    plot.label(
        (0.0, report.epsilon),
        (6.0, -7.0),
        &format!("allowed: ε = {}", percent(report.epsilon, 1)),
        "limit-text",
        Anchor::Start,
    );
    plot.line(&line(|p| p.loss, &points), "second");
    plot.line(&line(|p| p.bound, rest), "first faint");
    plot.line(&line(|p| p.bound, &sure), "first");
    let observed = points.iter().rfind(|p| p.loss <= top * 0.9 && p.kept < 0.97)?;
    plot.label((observed.kept, observed.loss), (-8.0, 16.0), "observed", "second-text", Anchor::End);
    if let Some((threshold, kept, bound)) = chosen {
        plot.rule((kept, 0.0), (kept, bound), "drop");
        plot.dot((kept, bound), 5.0, "mark");
        let text = format!("{} kept from confidence {}", percent(kept, 1), confidence(threshold));
        plot.label((kept, bound), (-10.0, -30.0), &text, "strong", Anchor::End);
        plot.label((kept, bound), (-10.0, -14.0), &format!("bound {}", percent(bound, 2)), "first-text", Anchor::End);
    }
    Some(plot.finish())
}

/// Money over the live phase.
pub(super) fn spending(points: &[SpendPoint]) -> Option<String> {
    let last = *points.last()?;
    let top = last.baseline_usd.max(last.spent_usd);
    if top <= 0.0 {
        return None;
    }
    let about = "Cumulative cost with and without the small model";
    let live = last.request as f64;
    let mut plot = Plot::new(about, |w, h| (Scale::linear((0.0, live * 1.02), w), Scale::linear((0.0, top * 1.12), h)));
    let step = round_step(top / 5.0);
    plot.y_axis("cumulative cost", |v| if v < step / 2.0 { "$0".to_owned() } else { format!("${v:.*}", places(step)) });
    plot.x_axis("live requests", |v| count(whole(v)));
    let points = thin(points, MOST);
    let line = |of: fn(&SpendPoint) -> f64| -> Vec<(f64, f64)> {
        std::iter::once((0.0, 0.0)).chain(points.iter().map(|p| (p.request as f64, of(p)))).collect()
    };
    let (without, with) = (line(|p| p.baseline_usd), line(|p| p.spent_usd));
    plot.area(&without, &with, "fill-first");
    plot.line(&without, "second");
    plot.line(&with, "first");
    let end = |usd: f64| (last.request as f64, usd);
    plot.label(
        end(last.baseline_usd),
        (-8.0, -9.0),
        &format!("all to the large model {}", dollars(last.baseline_usd)),
        "second-text",
        Anchor::End,
    );
    plot.label(
        end(last.spent_usd),
        (-8.0, -10.0),
        &format!("with Understudy {}", dollars(last.spent_usd)),
        "first-text",
        Anchor::End,
    );
    let middle = points[points.len() * 7 / 10];
    let share = 1.0 - last.spent_usd / last.baseline_usd;
    let between = f64::midpoint(middle.baseline_usd, middle.spent_usd);
    plot.label(
        (middle.request as f64, between),
        (0.0, 4.0),
        &format!("{} saved", percent(share, 0)),
        "strong",
        Anchor::Middle,
    );
    Some(plot.finish())
}

/// Evidence against the certificate over the live phase.
pub(super) fn evidence(report: &DemoReport) -> Option<String> {
    let points: Vec<EvidencePoint> = thin(&report.evidence, MOST);
    let last = *points.last()?;
    let limit = report.evidence_limit.max(1.0);
    let odds = |p: &EvidencePoint| p.loss_odds.max(p.change_odds);
    let top = points.iter().map(odds).fold(limit, f64::max).min(1e9) * 4.0;
    let about = "Evidence against the certificate over the live phase";
    let live = (last.request.max(report.live)) as f64;
    let mut plot = Plot::new(about, |w, h| (Scale::linear((0.0, live), w), Scale::log((0.03, top), h)));
    plot.y_axis("odds against the certificate, to one", |v| match v {
        v if v >= 1e6 => format!("10{}", superscript(v.log10().round())),
        v if v >= 1.0 => count(whole(v)),
        v => format!("{v}"),
    });
    plot.x_axis("live requests", |v| count(whole(v)));
    plot.rule((0.0, limit), (live, limit), "alarm");
    plot.label(
        (0.0, limit),
        (6.0, -7.0),
        &format!("withdrawn at {} : 1", count(whole(limit))),
        "alarm-text",
        Anchor::Start,
    );
    let line = |of: fn(&EvidencePoint) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|p| (p.request as f64, of(p))).collect()
    };
    plot.line(&line(|p| p.change_odds), "second");
    plot.line(&line(|p| p.loss_odds), "first");
    let (first, second) = (last.loss_odds, last.change_odds);
    let apart = (plot.y.at(first) - plot.y.at(second)).abs() > 16.0;
    let (up, down) = if first >= second { (-8.0, 16.0) } else { (16.0, -8.0) };
    let (up, down) = if apart { (-8.0, -8.0) } else { (up, down) };
    let end = last.request as f64;
    // Where the lines end early there is room beside their ends.
    let (side, anchor) = if end < live * 0.6 { (9.0, Anchor::Start) } else { (-4.0, Anchor::End) };
    let (up, down) = if side > 0.0 && apart { (4.0, 4.0) } else { (up, down) };
    plot.label((end, first), (side, up), "the loss exceeds ε", "first-text", anchor);
    plot.label((end, second), (side, down), "the traffic has changed", "second-text", anchor);
    if let Some(withdrawn) = &report.withdrawal {
        let at = withdrawn.at as f64;
        plot.rule((at, 0.0), (at, top), "alarm");
        let text = format!("withdrawn after {}", count(withdrawn.at as u64));
        let anchor = if at > live * 0.6 { Anchor::End } else { Anchor::Start };
        let by = if anchor == Anchor::End { -7.0 } else { 7.0 };
        plot.label((at, top), (by, 10.0), &text, "alarm-text strong", anchor);
    }
    Some(plot.finish())
}

/// A confidence with enough digits to tell it from 1.
pub(super) fn confidence(threshold: f64) -> String {
    let digits = if threshold > 0.999 { 5 } else { 3 };
    format!("{threshold:.digits$}")
}

fn decimals(top: f64) -> usize {
    if round_step(top / 5.0) < 0.009 { 1 } else { 0 }
}

/// Decimals in which multiples of `step` differ.
#[expect(clippy::cast_sign_loss, reason = "between 0 and 9")]
fn places(step: f64) -> usize {
    (0..9).find(|digits| (step * 10f64.powi(*digits)).fract().abs() < 1e-6).unwrap_or(9) as usize
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of requests and ticks")]
fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

fn superscript(power: f64) -> String {
    let digit = |c: char| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(c.to_digit(10).unwrap_or(0) as usize).unwrap_or(c);
    whole(power).to_string().chars().map(digit).collect()
}
