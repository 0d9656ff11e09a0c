//! The evidence behind a run's verdict: paired differences, thresholds, calibration, errors.

use super::range;
use crate::{
    metrics::Metric,
    report::{
        Block, Cell, Column, Figure, Section, Table,
        charts::{self, Axis, Bar, Interval, Latencies, ReliabilityBin, Tradeoff, TradeoffPoint},
        numbers::{count, percent, sentence},
    },
    run::{Plan, Task, verdict::Finding, verdict::Tried},
};

/// Plots beside each other at most.
const PLOTS: usize = 4;
/// Answers from which a reliability diagram says anything.
const SHOWN_FROM: u64 = 50;
/// Labels and confusions that are listed.
const LISTED: usize = 20;
/// Wrong answers that are shown.
const EXAMPLES: usize = 12;

/// Every model beside the baseline on the same rows.
pub(super) fn paired(plan: &Plan, finding: &Finding, epsilon: f64) -> Option<Section> {
    if finding.paired.is_empty() {
        return None;
    }
    let rows: Vec<Interval> = finding
        .paired
        .iter()
        .map(|p| Interval {
            name: p.name.clone(),
            estimate: p.difference.estimate,
            low: p.difference.low,
            high: p.difference.high,
            note: format!("on {} common rows", count(p.difference.n)),
        })
        .collect();
    let low = rows.iter().map(|r| r.low).fold(-1.5 * epsilon, f64::min);
    let high = rows.iter().map(|r| r.high).fold(epsilon, f64::max);
    let pad = 0.08 * (high - low);
    let points: charts::Label<'_> = &|v| format!("{:+.1}", v * 100.0);
    let axis = Axis {
        name: "points better (right) or worse (left)",
        range: (low - pad, high + 2.5 * pad),
        log: false,
        label: points,
    };
    let allowed = format!("−{:.1}: allowed", epsilon * 100.0);
    let fine = finding.paired.iter().filter(|p| p.not_inferior).count();
    let title = match fine {
        0 => format!("No model was shown to be within {:.1} points of {}", epsilon * 100.0, finding.baseline),
        n => {
            format!("{n} of {} are within {:.1} points of {}", finding.paired.len(), epsilon * 100.0, finding.baseline)
        }
    };
    let plot = Figure {
        title,
        how: format!(
            "Difference on the same rows. A model passes when its whole line is right of the dashed one; the lines are \
             {:.1} % intervals, corrected for the number of models. One that was stopped early passes by the test that \
             stopped it.",
            finding.level * 100.0
        ),
        svg: charts::intervals("Differences to the baseline with intervals", axis, &rows, Some((-epsilon, &allowed))),
    };
    let mut columns = vec![Column::text("model"), Column::number("difference"), Column::number("n")];
    if plan.task == Task::Classify {
        columns.extend(["only it is right", "only the baseline is", "McNemar p"].map(Column::number));
    }
    columns.push(Column::text("verdict"));
    let row = |p: &crate::run::Paired| {
        let d = &p.difference;
        let mut row = vec![
            Cell::new(p.name.clone()),
            Cell::with(
                format!("{:+.1} points", d.estimate * 100.0),
                format!("{:+.1} – {:+.1}", d.low * 100.0, d.high * 100.0),
            ),
            Cell::new(count(d.n)),
        ];
        if plan.task == Task::Classify {
            row.push(count(p.only_model).into());
            row.push(count(p.only_baseline).into());
            row.push(p.p.map_or_else(|| "–".into(), |p| Cell::new(p_value(p))));
        }
        row.push(match (p.not_inferior, p.inferior) {
            (true, _) => "good enough".into(),
            (_, true) => "worse".into(),
            _ => "not certain: more rows are needed".into(),
        });
        row
    };
    let table = Table { columns, rows: finding.paired.iter().map(row).collect(), ..Table::default() };
    let blocks = vec![Block::Plots(vec![plot]), Block::Table(table)];
    Some(Section { title: format!("Compared with {}", finding.baseline), intro: String::new(), blocks })
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

/// A small model in front of the baseline: what may be kept, at which loss.
pub(super) fn together(finding: &Finding, tried: &[Tried<'_>], epsilon: f64) -> Option<Section> {
    let together = finding.together.as_ref()?;
    let cost = |name: &str| {
        let t = tried.iter().find(|t| t.candidate.name == name)?;
        t.figures.as_ref()?.speed.cost_usd_mean.map(|m| m.estimate * 1000.0)
    };
    let (small, large) = (cost(&together.name), cost(&finding.baseline));
    let point = |&(threshold, kept, loss, bound): &(f64, f64, f64, f64)| TradeoffPoint {
        threshold,
        kept,
        loss,
        bound: Some(bound),
        // What is kept costs the small model, the rest both: the small one was asked first.
        cost_usd_per_1k: small.zip(large).map(|(small, large)| small + (1.0 - kept) * large),
    };
    let points: Vec<TradeoffPoint> = together.curve.iter().map(point).collect();
    let chosen = together.certificate.as_ref().map(|c| c.kept);
    let curve = Tradeoff { points: &points, epsilon: Some(epsilon), chosen };
    let svg = charts::tradeoff("Loss per request against the share kept", &curve)?;
    let title = match &together.certificate {
        Some(c) => format!("{} of the requests may stay with {}", percent(c.kept, 1), together.name),
        None => format!("No share of the requests may stay with {} yet", together.name),
    };
    let plot = Figure {
        title,
        how: format!(
            "{} answers what it is sure of, {} the rest. A loss is an answer that was kept and worse than that of {}. Move \
             the slider to see other thresholds.",
            together.name, finding.baseline, finding.baseline
        ),
        svg,
    };
    let mut blocks = vec![Block::Plots(vec![plot])];
    match (&together.certificate, &together.refusal) {
        (Some(c), _) => blocks.push(Block::Sheet(
            [
                ("certificate", c.id.clone()),
                ("threshold", format!("confidence ≥ {:.6}", c.threshold.get())),
                (
                    "losses",
                    match c.loss_sum {
                        Some(sum) => format!("{sum:.2} in {} of {} rows", c.losses, count(c.n)),
                        None => format!("{} of {} rows", c.losses, count(c.n)),
                    },
                ),
                (
                    "upper bound",
                    format!(
                        "{} ({}, one-sided, confidence {})",
                        percent(c.bound, 3),
                        if c.loss.is_binary() { "exact" } else { "by betting" },
                        percent(1.0 - c.delta, 1)
                    ),
                ),
                ("it assumes", "that requests to come are like these rows, which had no part in training".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        )),
        (None, Some(refusal)) => blocks.push(Block::Text(sentence(refusal))),
        (None, None) => {}
    }
    Some(Section { title: "Both together".into(), intro: String::new(), blocks })
}

/// Calibration and latencies.
pub(super) fn trust(tried: &[Tried<'_>]) -> Option<Section> {
    let mut plots = Vec::new();
    for t in tried {
        let Some(figures) = &t.figures else { continue };
        let bin = |b: &crate::metrics::calibration::Bin| ReliabilityBin {
            confidence: b.confidence,
            right: b.accuracy.estimate,
            n: b.accuracy.n,
        };
        let bins: Vec<ReliabilityBin> = figures.reliability.iter().map(bin).collect();
        let Some(svg) = charts::reliability(&bins).filter(|_| plots.len() < PLOTS && figures.n >= SHOWN_FROM) else {
            continue;
        };
        let ece = figures.metrics.get("ece").map_or(0.0, |m| m.estimate);
        plots.push(Figure {
            title: format!("{}: stated confidence is off by {:.1} points", t.candidate.name, ece * 100.0),
            how: "Each dot is a group of answers of like confidence, its area their number. On the dashed line they agree.".into(),
            svg,
        });
    }
    let latencies: Vec<Latencies> = tried
        .iter()
        .map(|t| Latencies {
            name: t.candidate.name.clone(),
            ms: t.answers.asked.iter().filter_map(|a| a.answer.latency_ms).collect(),
        })
        .filter(|l| l.ms.len() > 1)
        .collect();
    if let Some(svg) = charts::latency(&latencies) {
        plots.push(Figure {
            title: "How long answers take".into(),
            how: "Each hill is a model's distribution, at its own height. The dotted line is where 95 % have come."
                .into(),
            svg,
        });
    }
    (!plots.is_empty()).then(|| Section {
        title: "Trust and time".into(),
        intro: String::new(),
        blocks: vec![Block::Plots(plots)],
    })
}

/// Where the shown model is wrong.
pub(super) fn errors(plan: &Plan, tried: &[Tried<'_>], shown: &Tried<'_>) -> Option<Section> {
    let name = &shown.candidate.name;
    let figures = shown.figures.as_ref()?;
    let mut blocks = Vec::new();
    let mut plots = Vec::new();
    let mut classes: Vec<_> = figures.classes.iter().filter(|c| c.support > 0).collect();
    classes.sort_by(|a, b| a.f1.total_cmp(&b.f1).then_with(|| a.label.cmp(&b.label)));
    let bars: Vec<Bar> = classes
        .iter()
        .take(LISTED)
        .map(|c| Bar {
            name: c.label.clone(),
            value: c.f1,
            note: format!("precision {:.2}, recall {:.2}, {} rows", c.precision, c.recall, c.support),
        })
        .collect();
    let axis = |name| Axis { name, range: (0.0, 1.0), log: false, label: &|v| format!("{v:.2}") };
    if let Some(worst) = classes.first() {
        plots.push(Figure {
            title: format!("{name} finds {} hardest", worst.label),
            how: match classes.len() > LISTED {
                true => format!("F1 of the {LISTED} weakest of {} labels.", classes.len()),
                false => "F1 of each label, the weakest first.".into(),
            },
            svg: charts::bars("F1 by label", axis("F1"), &bars),
        });
    }
    let fields: Vec<Bar> = figures
        .fields
        .iter()
        .map(|(field, f)| Bar {
            name: field.clone(),
            value: f.f1,
            note: format!("precision {:.2}, {} found, {} missed", f.precision, f.counts.hit, f.counts.missed),
        })
        .take(LISTED)
        .collect();
    if !fields.is_empty() {
        plots.push(Figure {
            title: format!("How well {name} finds each field"),
            how: "F1 over the values of the field.".into(),
            svg: charts::bars("F1 by field", axis("F1"), &fields),
        });
    }
    if !plots.is_empty() {
        blocks.push(Block::Plots(plots));
    }
    if let Some(table) = confusions(figures) {
        blocks.push(Block::Table(table));
    }
    if let Some(table) = examples(plan, tried, shown) {
        blocks.push(Block::Table(table));
    }
    if figures.invented > 0 {
        let n = figures.invented;
        blocks
            .push(Block::Text(format!("{} of its answers were no label of the task; they count as wrong.", count(n))));
    }
    (!blocks.is_empty()).then(|| Section { title: format!("Where {name} is wrong"), intro: String::new(), blocks })
}

fn confusions(figures: &crate::run::Figures) -> Option<Table> {
    let confusion = figures.confusion.as_ref()?;
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (truth, row) in confusion.counts.iter().enumerate() {
        pairs.extend(row.iter().enumerate().filter(|(p, n)| *p != truth && **n > 0).map(|(p, n)| (*n, truth, p)));
    }
    pairs.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let most = pairs.first()?.0 as f64;
    let row = |&(n, truth, predicted): &(u64, usize, usize)| {
        let support: u64 = confusion.counts[truth].iter().sum();
        let share = Metric::wilson(n, support);
        vec![
            Cell::new(confusion.labels[truth].clone()),
            Cell::new(confusion.labels[predicted].clone()),
            Cell { shade: n as f64 / most, ..Cell::new(count(n)) },
            share.map_or_else(|| "–".into(), |m| Cell::with(percent(m.estimate, 0), range(&m, 0))),
        ]
    };
    Some(Table {
        title: "Most frequent confusions".into(),
        columns: vec![
            Column::text("right label"),
            Column::text("answered"),
            Column::number("times"),
            Column::number("of the label's rows"),
        ],
        rows: pairs.iter().take(LISTED / 2).map(row).collect(),
        ..Table::default()
    })
}

/// Answers that are wrong, the surest first, with what the others said.
fn examples(plan: &Plan, tried: &[Tried<'_>], shown: &Tried<'_>) -> Option<Table> {
    let mut wrong: Vec<_> =
        shown.answers.asked.iter().filter(|a| a.answer.quality.is_some_and(|q| q < crate::items::RIGHT)).collect();
    wrong.sort_by(|a, b| {
        let of = |a: &crate::run::Asked<'_>| (a.answer.score().unwrap_or(0.0), -a.answer.quality.unwrap_or(0.0));
        of(b).partial_cmp(&of(a)).unwrap_or(std::cmp::Ordering::Equal)
    });
    if wrong.is_empty() {
        return None;
    }
    let others: Vec<&Tried<'_>> = tried.iter().filter(|t| t.candidate.name != shown.candidate.name).take(2).collect();
    let mut columns = vec![Column::text("text"), Column::text("right"), Column::text(&shown.candidate.name)];
    columns.extend(others.iter().map(|t| Column::text(&t.candidate.name)));
    let said = |answer: &understudy_core::RecordedAnswer| {
        let text = match plan.task {
            Task::Classify => answer.answer.as_deref().or(answer.text.as_deref()),
            _ => answer.reply(),
        };
        let sure = answer.confidence.map_or_else(String::new, |c| format!("{:.2} sure", c));
        Cell::with(cut(text.unwrap_or("–")), sure)
    };
    let row = |a: &&crate::run::Asked<'_>| {
        let mut row = vec![Cell::new(cut(&a.row.text)), Cell::new(cut(a.row.gold().unwrap_or("–"))), said(&a.answer)];
        for other in &others {
            let same = other.answers.asked.iter().find(|o| o.row.id == a.row.id);
            row.push(same.map_or_else(|| "–".into(), |o| said(&o.answer)));
        }
        row
    };
    Some(Table {
        title: "Wrong answers, the surest first".into(),
        columns,
        rows: wrong.iter().take(EXAMPLES).map(row).collect(),
        note: "All answers are in outcomes.jsonl. A sure answer that is wrong is sometimes a wrong label.".into(),
    })
}

fn cut(text: &str) -> String {
    const MOST: usize = 220;
    match text.chars().count() > MOST {
        true => text.chars().take(MOST).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
