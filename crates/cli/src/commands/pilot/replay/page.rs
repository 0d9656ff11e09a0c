//! The report of a replay: what could be kept, beside the trivial routers and someone who knows everything.

use super::{ReplayArgs, Shown, show};
use understudy_pilot::{
    Verdict,
    replay::{Figures, LOSSES, Point},
    report::{
        Block, Cell, Column, Figure, KeyFigure, Report, Section, Table, Tone,
        charts::{self, Axis, Series},
        numbers::{count, dollars, duration, percent, sentence},
    },
};
use understudy_stats::Bound;

/// Lays the page out.
pub(super) fn page(shown: &Shown, args: &ReplayArgs) -> Report {
    let replay = &shown.replay;
    let point = show::at_loss(replay, args.epsilon);
    let better = replay.quality_large.estimate > replay.quality_small.estimate;
    let lost = (replay.quality_large.estimate - point.quality).max(0.0);
    let verdict = match (better, point.kept > 0.0) {
        (false, _) => format!("{} is no better than {} here: nothing to recover.", args.large, args.small),
        (true, true) => {
            format!(
                "{} could answer {} of the requests at {:.1} points of quality lost.",
                args.small,
                percent(point.kept, 0),
                lost * 100.0
            )
        }
        (true, false) => format!("No threshold keeps anything at {:.1} points lost.", args.epsilon * 100.0),
    };
    let certified = match shown.report.as_ref().map(|report| &report.verdict) {
        Some(Verdict::Certified(c)) => format!(
            "Certified: {} kept, loss at most {} with {} confidence.",
            percent(c.kept, 1),
            percent(c.bound, 2),
            percent(1.0 - c.delta, 0)
        ),
        Some(Verdict::NotCertified(refusal)) => format!("Not certified: {}", sentence(&refusal.reason)),
        None => "Not certified: the rows were not recorded evenly (they carry weights).".to_owned(),
    };
    let lead = format!(
        "Read off {} recorded requests, so a little optimistic. {certified} Decided by {}, {}.",
        count(replay.n as u64),
        shown.method.name(),
        if args.gate.is_some() || args.router.is_none() {
            "after the small model's answer"
        } else {
            "before anything is generated"
        }
    );
    Report {
        title: format!("replay of {} before {}", args.small, args.large),
        verdict,
        tone: if better && point.kept > 0.0 { Tone::Plain } else { Tone::Bad },
        lead,
        figures: key_figures(shown, &point),
        sections: vec![curves(shown, args), figures(shown), notes(shown)],
        ..Report::default()
    }
}

fn key_figures(shown: &Shown, point: &Point) -> Vec<KeyFigure> {
    let replay = &shown.replay;
    let figure = |name: &str, number: String, note: String| KeyFigure { name: name.into(), number, note };
    let all = replay.curve.first();
    let mut figures = vec![figure(
        "could be kept",
        percent(point.kept, 1),
        format!("quality {} against {}", percent(point.quality, 1), percent(replay.quality_large.estimate, 1)),
    )];
    if let (Some(cost), Some(large)) = (point.cost_usd, all.and_then(|p| p.cost_usd)) {
        let note = format!("{} with the large model alone", dollars(large * 1000.0));
        figures.push(figure("1,000 requests cost", dollars(cost * 1000.0), note));
    }
    if let (Some(ms), Some(large)) = (point.latency_ms, all.and_then(|p| p.latency_ms)) {
        figures.push(figure("mean time", duration(ms), format!("{} with the large model alone", duration(large))));
    }
    if let Some(apgr) = shown.replay.figures.apgr {
        let best =
            best_trivial(shown).map_or_else(String::new, |(name, apgr)| format!("; best trivial: {name} {apgr:.3}"));
        let note = format!("95 % interval {:.3} – {:.3}; chance is 0.5{best}", apgr.low, apgr.high);
        figures.push(figure("gap recovered (APGR)", format!("{:.3}", apgr.estimate), note));
    }
    figures
}

fn best_trivial(shown: &Shown) -> Option<(&str, f64)> {
    let apgr = |(name, replay): &'_ (String, understudy_pilot::replay::Replay)| {
        Some((name.clone(), replay.figures.apgr?.estimate))
    };
    let best = shown.baselines.iter().filter_map(apgr).max_by(|a, b| a.1.total_cmp(&b.1))?;
    shown.baselines.iter().find(|(name, _)| *name == best.0).map(|(name, _)| (name.as_str(), best.1))
}

fn curves(shown: &Shown, args: &ReplayArgs) -> Section {
    let replay = &shown.replay;
    let line = |name: &str, points: &[Point], of: &dyn Fn(&Point) -> Option<(f64, f64)>| Series {
        name: name.to_owned(),
        points: points.iter().filter_map(of).collect(),
        ..Series::default()
    };
    let by_kept = |p: &Point| Some((p.kept, p.quality));
    let mut series = vec![line(&shown.method.name(), &replay.curve, &by_kept)];
    if let Some((name, _)) = best_trivial(shown)
        && let Some((_, trivial)) = shown.baselines.iter().find(|(other, _)| other == name)
    {
        series.push(line(&format!("{name} (trivial)"), &trivial.curve, &by_kept));
    }
    let ends = vec![(0.0, replay.quality_large.estimate), (1.0, replay.quality_small.estimate)];
    series.push(Series { name: "chance".into(), points: ends, ..Series::default() });
    series.push(line("knows everything", &replay.oracle, &by_kept));
    let qualities = || series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
    let (low, high) = (qualities().fold(1.0, f64::min), qualities().fold(0.0, f64::max));
    let pad = (0.06 * (high - low)).max(0.005);
    let share: charts::Label<'_> = &|v| percent(v, if high - low < 0.1 { 1 } else { 0 });
    let quality =
        Axis { name: "quality", range: ((low - pad).max(0.0), (high + pad).min(1.0)), log: false, label: share };
    let kept =
        Axis { name: "requests kept by the small model", range: (0.0, 1.0), log: false, label: &|v| percent(v, 0) };
    let floor = replay.quality_large.estimate - args.epsilon;
    let allowed = format!("{:.1} points less than {}", args.epsilon * 100.0, args.large);
    let mut plots = vec![Figure {
        title: "What is kept against what it costs in quality".into(),
        how: "Each point of a line is a threshold; higher and further right is better.".into(),
        svg: charts::lines("Quality against share kept", kept, quality, &series, Some((floor, &allowed))),
    }];
    let costs = line(&shown.method.name(), &replay.curve, &|p| Some((p.cost_usd? * 1000.0, p.quality)));
    if costs.points.len() > 1 {
        let mut costs = costs;
        costs.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let most = costs.points.iter().map(|p| p.0).fold(0.0, f64::max);
        let x = Axis { name: "USD for 1,000 requests", range: (0.0, most * 1.05), log: false, label: &dollars };
        plots.push(Figure {
            title: "What quality costs in money".into(),
            how: "Mean over all requests; behind a gate an escalated request pays for both models.".into(),
            svg: charts::lines("Quality against cost", x, quality, &[costs], Some((floor, &allowed))),
        });
    }
    Section { title: "Every threshold".into(), intro: String::new(), blocks: vec![Block::Plots(plots)] }
}

fn figures(shown: &Shown) -> Section {
    let mut columns = vec![Column::text(""), Column::number("APGR"), Column::number("CPT50"), Column::number("CPT80")];
    columns.push(Column::number("AIQ"));
    columns.extend(LOSSES.map(|loss| Column::number(&format!("kept at ≤ {} lost", percent(loss, 1)))));
    let row = |name: String, strong: bool, figures: &Figures<Bound>| {
        let number = |bound: Option<Bound>, digits: usize| {
            bound.map_or_else(
                || "–".into(),
                |b| Cell::with(format!("{:.digits$}", b.estimate), format!("{:.digits$} – {:.digits$}", b.low, b.high)),
            )
        };
        let mut row = vec![if strong { Cell::new(name).strong() } else { Cell::new(name) }];
        row.extend([
            number(figures.apgr, 3),
            number(figures.cpt50, 1),
            number(figures.cpt80, 1),
            number(figures.aiq, 4),
        ]);
        row.extend(
            figures
                .kept_at_loss
                .map(|b| Cell::with(percent(b.estimate, 1), format!("{:.1} – {}", b.low * 100.0, percent(b.high, 1)))),
        );
        row
    };
    let mut rows = vec![row(shown.method.name(), true, &shown.replay.figures)];
    rows.extend(shown.baselines.iter().map(|(name, replay)| row(format!("{name} (trivial)"), false, &replay.figures)));
    let table = Table {
        columns,
        rows,
        note: "APGR: share of the gap between the models that is recovered, averaged over thresholds (chance .5). CPT50, \
               CPT80: calls to the large model, in per cent, that recover half and four fifths of it (chance 50, 80). AIQ: \
               mean height of the curve over price. Small print: 95 % bootstrap intervals."
            .into(),
        ..Table::default()
    };
    Section { title: "Beside the trivial routers".into(), intro: String::new(), blocks: vec![Block::Table(table)] }
}

fn notes(shown: &Shown) -> Section {
    let [p50, p99] = shown.decision_us;
    let quality = |b: &Bound| format!("{} ({:.1} – {})", percent(b.estimate, 1), b.low * 100.0, percent(b.high, 1));
    let mut facts = vec![
        ("requests".to_owned(), count(shown.replay.n as u64)),
        ("quality of the small model alone".into(), quality(&shown.replay.quality_small)),
        ("quality of the large model alone".into(), quality(&shown.replay.quality_large)),
        ("a decision takes".into(), format!("{p50:.1} µs, 99 % within {p99:.1} µs")),
    ];
    facts.extend(shown.notes.iter().map(|note| ("note".to_owned(), note.clone())));
    Section { title: "The data and the fit".into(), intro: String::new(), blocks: vec![Block::Sheet(facts)] }
}
