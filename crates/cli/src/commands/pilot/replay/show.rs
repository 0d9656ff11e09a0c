//! A replay for people and for programs.

use super::{ReplayArgs, Shown};
use crate::terminal::{self, percent, say, table};
use serde_json::{Value, json};
use understudy_pilot::{
    Verdict,
    replay::{Figures, LOSSES, Point, Replay},
};
use understudy_stats::Bound;

/// Shows the verdict first, then the figures beside the baselines, the curve, and what was fitted.
pub(super) fn show(shown: &Shown, args: &ReplayArgs) {
    let replay = &shown.replay;
    let point = at_loss(replay, args.epsilon);
    let better = replay.quality_large.estimate > replay.quality_small.estimate;
    let what = match (better, point.kept > 0.0) {
        (false, _) => format!("`{}` is no better than `{}` here: nothing to recover", args.large, args.small),
        (true, true) => format!(
            "`{}` could answer {} of the requests at {} points of quality lost",
            args.small,
            percent(point.kept),
            points(replay.quality_large.estimate - point.quality)
        ),
        (true, false) => format!("no threshold keeps anything at {} points lost", points(args.epsilon)),
    };
    say(terminal::verdict(&what, better && point.kept > 0.0));
    match shown.report.as_ref().map(|report| &report.verdict) {
        None => {}
        Some(Verdict::Certified(c)) => say(format_args!(
            "certified: {} kept, loss at most {} with confidence {} ({} of {} lost)",
            percent(c.kept),
            percent(c.bound),
            percent(1.0 - c.delta),
            c.losses,
            c.n
        )),
        Some(Verdict::NotCertified(refusal)) => say(format_args!("not certified: {}", refusal.reason)),
    }
    terminal::heading("Figures");
    let header = ["", "APGR", "95 %", "full", "CPT50", "CPT80", "AIQ", "kept ≤0.5", "≤1", "≤2 points"];
    let right: Vec<usize> = (1..header.len()).collect();
    let mut rows = vec![row(&shown.method.name(), &replay.figures)];
    rows.extend(shown.baselines.iter().map(|(name, replay)| row(&format!("{name} (trivial)"), &replay.figures)));
    rows.push(["random", "0.500", "", "0.500", "50.0", "80.0", "", "", "", ""].map(str::to_owned).to_vec());
    say(table(&header, &right, rows));
    say(format_args!(
        "{} requests; {} alone {}, {} alone {}",
        replay.n,
        args.small,
        interval(replay.quality_small),
        args.large,
        interval(replay.quality_large)
    ));
    terminal::heading("Quality by share kept");
    plot(replay);
    for note in &shown.notes {
        say(format_args!("- {note}"));
    }
    let [p50, p99] = shown.decision_us;
    say(format_args!("- a decision takes {p50:.0} µs (p99 {p99:.0} µs)"));
}

fn row(name: &str, figures: &Figures<Bound>) -> Vec<String> {
    let number = |bound: Option<Bound>, digits: usize| {
        bound.map_or("–".to_owned(), |bound| format!("{:.digits$}", bound.estimate))
    };
    let between = figures.apgr.map_or(String::new(), |apgr| format!("{:.3}–{:.3}", apgr.low, apgr.high));
    let mut row = vec![name.to_owned(), number(figures.apgr, 3), between, number(figures.apgr_full, 3)];
    row.extend([number(figures.cpt50, 1), number(figures.cpt80, 1), number(figures.aiq, 4)]);
    row.extend(figures.kept_at_loss.map(|kept| percent(kept.estimate)));
    row
}

/// Bars of the quality at every tenth of the share kept, from the worst to the oracle's best.
fn plot(replay: &Replay) {
    const WIDTH: f64 = 44.0;
    let nearest = |points: &[Point], kept: f64| {
        points.iter().copied().min_by(|a, b| (a.kept - kept).abs().total_cmp(&(b.kept - kept).abs()))
    };
    let worst = replay.curve.iter().map(|point| point.quality).fold(f64::INFINITY, f64::min);
    let best = replay.oracle.iter().map(|point| point.quality).fold(f64::NEG_INFINITY, f64::max);
    let scale = |quality: f64| ((quality - worst) / (best - worst).max(1e-9) * WIDTH).round().clamp(0.0, WIDTH);
    for tenth in 0..=10 {
        let share = f64::from(tenth) / 10.0;
        let (Some(point), Some(oracle)) = (nearest(&replay.curve, share), nearest(&replay.oracle, share)) else {
            return;
        };
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and the width")]
        let (bar, far) = (scale(point.quality) as usize, scale(oracle.quality) as usize);
        let gap = far.saturating_sub(bar + 1);
        let price = point.cost_usd.map_or(String::new(), |cost| format!("  ${:.2} per 1,000", 1000.0 * cost));
        say(format_args!(
            "  {:>6} kept  {:.4} {}{}{}{price}",
            percent(point.kept),
            point.quality,
            "━".repeat(bar),
            " ".repeat(gap),
            if far > bar { "○" } else { "" }
        ));
    }
    say("  ━ replayed   ○ someone who knows every outcome beforehand");
}

/// The point that keeps most with at most `loss` lost against always asking the large model.
pub(super) fn at_loss(replay: &Replay, loss: f64) -> Point {
    let enough = replay.quality_large.estimate - loss - 1e-9;
    let found = replay.curve.iter().rev().find(|point| point.quality >= enough);
    found.copied().unwrap_or(replay.curve[0])
}

/// The largest score that is given up at that point.
pub(super) fn limit_at(replay: &Replay, loss: f64) -> f64 {
    at_loss(replay, loss).limit.unwrap_or(f64::MIN)
}

fn points(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn interval(bound: Bound) -> String {
    format!("{:.4} ({:.4}–{:.4})", bound.estimate, bound.low, bound.high)
}

/// The object of `--json`.
pub(super) fn object(shown: &Shown) -> Value {
    let replay = &shown.replay;
    let (examples_needed, reason) = match shown.report.as_ref().map(|report| &report.verdict) {
        None => (None, Some("live traffic certifies nothing by exact counts")),
        Some(Verdict::Certified(_)) => (None, None),
        Some(Verdict::NotCertified(refusal)) => (refusal.examples_needed, Some(refusal.reason.as_str())),
    };
    let mut baselines: serde_json::Map<String, Value> =
        shown.baselines.iter().map(|(name, replay)| (name.clone(), Value::Object(figures(&replay.figures)))).collect();
    baselines.insert("random".into(), json!({ "apgr": 0.5, "cpt50": 50.0, "cpt80": 80.0 }));
    let mut object = serde_json::Map::new();
    object.insert("method".into(), json!(shown.method.name()));
    object.insert("n".into(), json!(replay.n));
    object.insert("quality_small".into(), json!(replay.quality_small.estimate));
    object.insert("quality_large".into(), json!(replay.quality_large.estimate));
    object.extend(figures(&replay.figures));
    object.insert("baselines".into(), Value::Object(baselines));
    object.insert("certificate".into(), json!(shown.report.as_ref().and_then(|report| report.certificate())));
    object.insert("certificate_n".into(), json!(shown.report.as_ref().map(|report| report.n)));
    object.insert("reason".into(), json!(reason));
    object.insert("examples_needed".into(), json!(examples_needed));
    object.insert("decision_us_p50".into(), json!(shown.decision_us[0]));
    object.insert("decision_us_p99".into(), json!(shown.decision_us[1]));
    object.insert("curve".into(), curve(&replay.curve));
    object.insert("oracle".into(), curve(&replay.oracle));
    let ends = [(0.0, replay.quality_large.estimate), (1.0, replay.quality_small.estimate)];
    object.insert("random".into(), json!(ends.map(|(kept, quality)| json!({ "kept": kept, "quality": quality }))));
    object.insert("notes".into(), json!(shown.notes));
    Value::Object(object)
}

/// The figures under their names, with their intervals beside them.
fn figures(figures: &Figures<Bound>) -> serde_json::Map<String, Value> {
    let named = [
        ("apgr", figures.apgr),
        ("apgr_full", figures.apgr_full),
        ("cpt50", figures.cpt50),
        ("cpt80", figures.cpt80),
        ("aiq", figures.aiq),
    ];
    let ends = |bound: Bound| json!([bound.low, bound.high]);
    let losses = || LOSSES.map(|loss| loss.to_string()).into_iter().zip(figures.kept_at_loss);
    let mut object = serde_json::Map::new();
    for (name, bound) in named {
        object.insert(name.into(), json!(bound.map(|bound| bound.estimate)));
    }
    let kept: serde_json::Map<String, Value> = losses().map(|(loss, kept)| (loss, json!(kept.estimate))).collect();
    object.insert("kept_at_loss".into(), Value::Object(kept));
    let mut intervals: serde_json::Map<String, Value> =
        named.into_iter().map(|(name, bound)| (name.to_owned(), json!(bound.map(ends)))).collect();
    let kept: serde_json::Map<String, Value> = losses().map(|(loss, kept)| (loss, ends(kept))).collect();
    intervals.insert("kept_at_loss".into(), Value::Object(kept));
    object.insert("intervals".into(), Value::Object(intervals));
    object
}

fn curve(points: &[Point]) -> Value {
    let point = |point: &Point| {
        json!({
            "limit": point.limit,
            "kept": point.kept,
            "quality": point.quality,
            "cost_usd": point.cost_usd,
            "latency_ms": point.latency_ms,
        })
    };
    Value::Array(points.iter().map(point).collect())
}
