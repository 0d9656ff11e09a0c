//! The reports of a comparison and of a step-down.

use super::held_words;
use understudy_pilot::{
    compare::models::{Comparison, Row, Standing},
    metrics::Metric,
    report::{
        Block, Cell, Column, Figure, KeyFigure, Report, Section, Table, Tone,
        charts::{self, Axis, Interval},
        numbers::{count, dollars, duration, percent},
    },
    stepdown::StepDown,
};

/// Models against a baseline.
pub(super) fn comparison(found: &Comparison) -> Report {
    let others = || found.order.iter().filter_map(|name| Some((name, found.models[name].against.as_ref()?)));
    let names = |wanted: &dyn Fn(Standing) -> bool| -> Vec<&str> {
        others().filter(|(_, a)| wanted(a.standing)).map(|(name, _)| name.as_str()).collect()
    };
    let better = names(&|s| s == Standing::Better);
    let fine = names(&|s| matches!(s, Standing::Better | Standing::NotInferior));
    let open = names(&|s| matches!(s, Standing::Undecided { .. }));
    let verdict = match (better.as_slice(), fine.as_slice()) {
        ([], []) if open.is_empty() => format!("No model holds against {}.", found.baseline),
        ([], []) => format!("No model is shown to hold against {}.", found.baseline),
        ([], fine) => format!("{} can stand in for {}.", listed(fine), found.baseline),
        (better, _) if better.len() == 1 => format!("{} is better than {}.", better[0], found.baseline),
        (better, _) => format!("{} are better than {}.", listed(better), found.baseline),
    };
    let still = match open.is_empty() {
        true => String::new(),
        false => format!(" Undecided: {}.", listed(&open)),
    };
    let lead = format!(
        "{} of {} models are not worse than {} by {} or more. The chance that any of these claims is wrong is {} at \
         most.{still}",
        fine.len(),
        found.order.len() - 1,
        found.baseline,
        percent(found.margin, 1),
        percent(found.delta, 0)
    );
    let base = &found.models[&found.baseline];
    let mut figures = vec![quality_figure(&found.baseline, base)];
    let cheapest = fine.iter().copied().min_by(|a, b| {
        let cost = |name: &str| found.models[name].cost_usd_mean.unwrap_or(f64::INFINITY);
        cost(a).total_cmp(&cost(b))
    });
    if let Some(name) = cheapest {
        let row = &found.models[name];
        figures.push(quality_figure(name, row));
        figures.extend(saving(name, row, &found.baseline, base));
    } else {
        // Nobody holds: how far the nearest are.
        figures.extend(others().take(2).map(|(name, _)| quality_figure(name, &found.models[name])));
    }
    let shown: Vec<(&str, &Row, String)> = found
        .order
        .iter()
        .map(|name| {
            let row = &found.models[name];
            let says = row.against.as_ref().map_or_else(|| "baseline".to_owned(), |a| super::verdict(a.standing));
            (name.as_str(), row, says)
        })
        .collect();
    let differences: Vec<Interval> = others().map(|(name, a)| interval(name, &a.difference)).collect();
    Report {
        title: format!("models against {}", found.baseline),
        verdict,
        tone: if fine.is_empty() { Tone::Bad } else { Tone::Plain },
        lead,
        figures,
        sections: vec![
            Section {
                title: "Differences on the same rows".into(),
                intro: String::new(),
                blocks: vec![
                    differences_plot(&differences, found.margin, &found.baseline),
                    Block::Table(table(&shown)),
                ],
            },
            method(
                "Better: exact McNemar test (sign flips for graded qualities), two-sided. Not inferior, inferior: score test \
                 against the margin, one-sided. Within each of these claims Holm's correction keeps the chance of any wrong \
                 one among all models below the stated level. Intervals are 95 %, Newcombe's (BCa bootstrap for graded \
                 qualities), not corrected. Assumed: the rows are a random sample of the traffic that is meant.",
            ),
        ],
        ..Report::default()
    }
}

/// From the largest down.
pub(super) fn step_down(found: &StepDown, delta: f64) -> Report {
    let largest = found.steps.first().map_or("", |step| step.model.as_str());
    let held = found.recommended != largest;
    let verdict = match held {
        true => format!("{} is enough: the smallest model that holds.", found.recommended),
        false => format!("Stay with {largest}: no smaller model is shown to hold."),
    };
    let of = |name: &str| found.steps.iter().find(|step| step.model == name);
    let mut figures = Vec::new();
    if let Some(step) = of(&found.recommended) {
        figures.push(quality_figure(&step.model, &step.row));
        if let (true, Some(first)) = (held, found.steps.first()) {
            figures.push(quality_figure(largest, &first.row));
            figures.extend(saving(&step.model, &step.row, largest, &first.row));
        }
    }
    let shown: Vec<(&str, &Row, String)> =
        found.steps.iter().map(|s| (s.model.as_str(), &s.row, held_words(s, largest))).collect();
    let differences: Vec<Interval> =
        found.steps.iter().filter_map(|s| Some(interval(&s.model, &s.against.as_ref()?.difference))).collect();
    let allowed = found.steps.last().map_or(0.0, |s| s.allowed_loss);
    let lead = match &found.difference {
        Some(d) => format!(
            "On {} common rows it is {:+.1} points against {largest} (95 % interval {:+.1} to {:+.1}).",
            count(d.n),
            d.estimate * 100.0,
            d.low * 100.0,
            d.high * 100.0
        ),
        None => "The first step down already fails, or cannot be told from failing on these rows.".to_owned(),
    };
    let why = found.trade_refused.as_ref().map_or_else(String::new, |why| format!(" {why}"));
    Report {
        title: format!("from {largest} down"),
        verdict,
        tone: if held { Tone::Plain } else { Tone::Bad },
        lead: lead + &why,
        figures,
        sections: vec![
            Section {
                title: "Step by step".into(),
                intro: String::new(),
                blocks: vec![differences_plot(&differences, allowed, largest), Block::Table(table(&shown))],
            },
            method(&format!(
                "The models were tested in this order, each at {}, until the first that did not hold. The order was fixed \
                 before qualities were seen, so no correction is needed: a wrong recommendation has this probability at \
                 most.",
                percent(delta, 0)
            )),
        ],
        ..Report::default()
    }
}

fn method(text: &str) -> Section {
    Section { title: "How this was tested".into(), intro: String::new(), blocks: vec![Block::Text(text.to_owned())] }
}

fn quality_figure(name: &str, row: &Row) -> KeyFigure {
    let q = &row.quality;
    let range = format!("{:.1} – {}", q.low * 100.0, percent(q.high, 1));
    KeyFigure {
        name: format!("{name}: quality"),
        number: percent(q.estimate, 1),
        note: format!("95 % interval {range}, on {} rows", count(q.n)),
    }
}

fn saving(name: &str, row: &Row, base_name: &str, base: &Row) -> Option<KeyFigure> {
    let (cost, large) = (row.cost_usd_mean? * 1000.0, base.cost_usd_mean? * 1000.0);
    let note = format!("{} with {base_name}", dollars(large));
    Some(KeyFigure { name: format!("1,000 answers of {name}"), number: dollars(cost), note })
}

fn interval(name: &str, d: &Metric) -> Interval {
    let note = format!("on {} common rows", count(d.n));
    Interval { name: name.to_owned(), estimate: d.estimate, low: d.low, high: d.high, note }
}

fn differences_plot(rows: &[Interval], margin: f64, baseline: &str) -> Block {
    if rows.is_empty() {
        return Block::Text("There is nothing to compare.".into());
    }
    let low = rows.iter().map(|r| r.low).fold(-1.5 * margin, f64::min);
    let high = rows.iter().map(|r| r.high).fold(margin, f64::max);
    let pad = 0.08 * (high - low);
    let label: charts::Label<'_> = &|v| format!("{:+.1}", v * 100.0);
    let range = (low - pad, high + pad);
    let axis = Axis { name: "points better (right) or worse (left)", range, log: false, label };
    let allowed = format!("−{:.1}: allowed", margin * 100.0);
    Block::Plots(vec![Figure {
        title: format!("Quality of each model minus that of {baseline}"),
        how:
            "Right of the dashed line a model loses less than is allowed. Lines are 95 % intervals, not corrected; the \
              verdicts in the table are."
                .into(),
        svg: charts::intervals("Differences to the baseline", axis, rows, Some((-margin, &allowed))),
    }])
}

fn table(rows: &[(&str, &Row, String)]) -> Table {
    let range = |m: &Metric| format!("{:.1} – {}", m.low * 100.0, percent(m.high, 1));
    let row = |(name, row, says): &(&str, &Row, String)| {
        let against = row.against.as_ref();
        vec![
            Cell::new(*name).strong(),
            Cell::with(percent(row.quality.estimate, 1), range(&row.quality)),
            count(row.quality.n).into(),
            row.cost_usd_mean.map_or_else(|| "unknown".into(), |usd| Cell::new(dollars(usd * 1000.0))),
            row.latency_ms_p50.map_or_else(|| "–".into(), |ms| Cell::new(duration(ms))),
            against.map_or_else(Cell::default, |a| {
                Cell::with(
                    format!("{:+.1} points", a.difference.estimate * 100.0),
                    format!("{:+.1} to {:+.1}", a.difference.low * 100.0, a.difference.high * 100.0),
                )
            }),
            Cell::new(says.clone()),
        ]
    };
    let mut columns = vec![Column::text("model")];
    columns.extend(["quality", "n", "1,000 cost", "p50", "difference"].map(Column::number));
    columns.push(Column::text("verdict"));
    Table { columns, rows: rows.iter().map(row).collect(), ..Table::default() }
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] if names.len() <= 4 => format!("{} and {last}", most.join(", ")),
        [first, second, rest @ ..] => format!("{first}, {second} and {} more", rest.len()),
    }
}
