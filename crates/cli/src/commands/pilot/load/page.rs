//! The report of a load measurement: the most users first, then latency and throughput over users, each point with its
//! n and its interval.

use super::{
    LoadArgs,
    show::{highest, ms, note, offered, verdict},
};
use understudy_advise::cost::dollars;
use understudy_core::Money;
use understudy_pilot::{
    load::{Budget, Measured, Report as Measurements},
    report::{
        Block, Cell, Column, Figure, KeyFigure, Report, Section, Table, Tone,
        charts::{self, Axis, Series, Spread},
        numbers::{count, duration, sentence},
    },
};
use understudy_stats::Bound;

/// Points of the fitted law's line.
const FITTED: u32 = 60;

/// Lays the page out.
pub(super) fn page(args: &LoadArgs, report: &Measurements, budget: &Budget) -> Report {
    let (line, good) = verdict(args, report);
    let steps = report.closed.iter().chain(&report.open);
    let answers: usize = steps.clone().map(Measured::answered).sum();
    let failed: u64 = steps.map(Measured::failed).sum();
    let lead = format!(
        "{} answers were timed and {} requests failed, in steps of {} s after {} s that do not count. A user asks again \
         as soon as there is an answer. The figures hold for this machine, these prompts and answers of at most {} \
         tokens.",
        count(answers as u64),
        count(failed),
        args.seconds,
        args.warm_up,
        args.max_tokens
    );
    let mut sections = vec![users(args, report)];
    if !report.open.is_empty() {
        sections.push(arrivals(args, report));
    }
    sections.push(saturation(report, budget));
    Report {
        title: format!("load of {}", args.model),
        verdict: sentence(&spoken(args, &line, good)),
        tone: if good && !report.out_of_budget { Tone::Plain } else { Tone::Bad },
        lead,
        figures: first_screen(args, report, budget),
        sections,
        ..Report::default()
    }
}

/// The terminal's line as a sentence about the model.
fn spoken(args: &LoadArgs, line: &str, good: bool) -> String {
    match (args.within_ms, good) {
        (Some(_), true) => format!("{line}: that is what {} carries", args.model),
        (None, true) => format!("{line}: that is the most of {}", args.model),
        (_, false) => format!("{}: {line}", args.model),
    }
}

fn first_screen(args: &LoadArgs, report: &Measurements, budget: &Budget) -> Vec<KeyFigure> {
    let figure = |name: String, number: String, note: String| KeyFigure { name, number, note };
    let mut shown = Vec::new();
    if let (Some(limit), Some(users)) = (args.within_ms, report.most_users) {
        // A step may have been measured twice; the goal was judged on the last.
        let at = report.closed.iter().rev().find(|m| m.offered.users() == Some(users));
        let p95 = at.and_then(|m| Some((m.quantile_ms(0.95)?, m.answered())));
        let note = p95.map_or_else(String::new, |(p95, n)| {
            let interval = range(Some(p95), &duration);
            let within = duration(p95.estimate);
            format!("95 % of the answers within {within} there (95 % interval {interval}), n = {}", count(n as u64))
        });
        shown.push(figure(format!("most users within {}", duration(limit)), count(users as u64), note));
    }
    if let Some(first) = report.closed.first()
        && let Some(p50) = first.quantile_ms(0.5)
    {
        let n = count(first.answered() as u64);
        let note = format!("95 % interval {}, n = {n}", range(Some(p50), &duration));
        shown.push(figure(format!("half of the answers, {}", offered(first)), duration(p50.estimate), note));
    }
    if let Some(best) = highest(report) {
        let interval = match best.throughput() {
            Some(bound) => format!("95 % interval {}", range(Some(bound), &rate)),
            None => "too few answers for an interval".to_owned(),
        };
        let note = format!("with {}; {interval}, n = {}", offered(best), count(best.answered() as u64));
        shown.push(figure("most answers a second".into(), rate(best.per_second()), note));
    }
    let (money, unknown) = budget.money();
    if money != Money::ZERO || unknown > 0 {
        let note = if unknown > 0 { format!("and {} answers of unknown cost", count(unknown)) } else { String::new() };
        shown.push(figure("it cost".into(), dollars(money), note));
    }
    shown
}

fn users(args: &LoadArgs, report: &Measurements) -> Section {
    let (steps, x) = (&report.closed, users_axis(&report.closed));
    let blocks = vec![
        Block::Plots(vec![latency(steps, x, &|m| m.offered.users().map(|u| u as f64), args), throughput(report, x)]),
        Block::Table(table("users", steps, args)),
    ];
    let intro = "users who ask again as soon as they have their answer; a whisker is a 95 % interval".into();
    Section { title: "Users".into(), intro, blocks }
}

fn arrivals(args: &LoadArgs, report: &Measurements) -> Section {
    let rates: Vec<f64> = report.open.iter().filter_map(|m| m.offered.rate()).collect();
    let (low, high) = ends(&rates);
    let x = Axis { name: "arrivals a second", range: (low * 0.9, high * 1.05), log: false, label: &rate };
    let blocks = vec![
        Block::Plots(vec![latency(&report.open, x, &|m| m.offered.rate(), args)]),
        Block::Table(table("arrivals a second", &report.open, args)),
    ];
    let intro = "requests that come at random whether or not earlier ones are answered; their time counts from the \
                 moment at which they should have been sent"
        .into();
    Section { title: "Arrivals".into(), intro, blocks }
}

fn saturation(report: &Measurements, budget: &Budget) -> Section {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
    if let Some(users) = report.saturation_users {
        fact("users wait for each other from", format!("{users:.1} on (highest throughput × time of a lone request)"));
    }
    if let Some(fit) = &report.scalability {
        let law = format!(
            "contention {:.4}, coherence {:.6}, R² {:.3} over {} steps",
            fit.sigma, fit.kappa, fit.r_squared, fit.n
        );
        fact("universal scalability law", law);
        let peak =
            fit.peak_users.map_or("it does not fall in this range".to_owned(), |p| format!("beyond {p:.0} users"));
        fact("throughput falls", peak);
    }
    if let Some(most) = report.most_rate {
        fact("highest arrival rate within the goal", format!("{} a second", rate(most)));
    }
    fact("requests sent", count(budget.requests()));
    if report.out_of_budget {
        fact("ended early", "what may be spent was spent".into());
    }
    for measured in report.closed.iter().chain(&report.open) {
        if let Some(error) = &measured.first_error {
            let what = format!("{} failed; the first: failed to {error}", count(measured.failed()));
            fact(&offered(measured), what);
        }
    }
    Section { title: "Saturation".into(), intro: String::new(), blocks: vec![Block::Sheet(facts)] }
}

/// Latency over what was offered: three quantiles, and the goal.
fn latency(steps: &[Measured], x: Axis<'_>, offered: &dyn Fn(&Measured) -> Option<f64>, args: &LoadArgs) -> Figure {
    let line = |name: &str, q: f64| {
        let point = |m: &Measured| {
            let found = m.quantile_ms(q).filter(|b| b.estimate.is_finite())?;
            let spread = Spread { n: m.answered() as u64, interval: Some((found.low, found.high)) };
            Some(((offered(m)?, found.estimate), spread))
        };
        let (points, spread) = steps.iter().filter_map(point).unzip();
        Series { name: name.to_owned(), points, spread }
    };
    let series = [line("p99", 0.99), line("p95", 0.95), line("p50", 0.5)];
    let times: Vec<f64> = series.iter().flat_map(|s| s.points.iter().map(|p| p.1)).chain(args.within_ms).collect();
    let y = charts::latency_axis("time to the answer, logarithmic", &times);
    let goal = args.within_ms.map(|limit| (limit, format!("goal: {}", duration(limit))));
    let rule = goal.as_ref().map(|(limit, name)| (*limit, name.as_str()));
    Figure {
        title: "Time to the answer".into(),
        how: "Half, 95 % and 99 % of the answers came within it.".into(),
        svg: charts::lines("Latency under load", x, y, &series, rule),
    }
}

/// Answers a second over users, and the law fitted to them.
fn throughput(report: &Measurements, x: Axis<'_>) -> Figure {
    let point = |m: &Measured| {
        let interval = m.throughput().map(|b| (b.low, b.high));
        Some(((m.offered.users()? as f64, m.per_second()), Spread { n: m.answered() as u64, interval }))
    };
    let (points, spread) = report.closed.iter().filter_map(point).unzip();
    let mut series = vec![Series { name: "measured".into(), points, spread }];
    let mut how = "Answers a second.".to_owned();
    if let Some(fit) = &report.scalability {
        let (low, high) = x.range;
        let at = |i: u32| low * (high / low).powf(f64::from(i) / f64::from(FITTED));
        let points = (0..=FITTED).map(at).filter(|users| *users >= 1.0).map(|users| (users, fit.per_second(users)));
        series.push(Series { name: "fitted law".into(), points: points.collect(), ..Series::default() });
        how = "Answers a second, and the universal scalability law fitted to them.".to_owned();
    }
    let tops = series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
    let whiskers = series.iter().flat_map(|s| s.spread.iter().filter_map(|s| Some(s.interval?.1)));
    let top = tops.chain(whiskers).fold(0.0, f64::max);
    let y = Axis {
        name: "answers a second",
        range: (0.0, if top > 0.0 { top * 1.12 } else { 1.0 }),
        log: false,
        label: &rate,
    };
    Figure { title: "Throughput".into(), how, svg: charts::lines("Throughput over users", x, y, &series, None) }
}

fn users_axis(steps: &[Measured]) -> Axis<'static> {
    let users: Vec<f64> = steps.iter().filter_map(|m| m.offered.users()).map(|u| u as f64).collect();
    let (low, high) = ends(&users);
    let range = (low.max(1.0) / 1.15, high.max(low + 1.0) * 1.15);
    Axis { name: "users, logarithmic", range, log: true, label: &|v| format!("{v:.0}") }
}

fn ends(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    (if low.is_finite() { low } else { 0.0 }, values.iter().copied().fold(0.0, f64::max))
}

fn table(first: &str, steps: &[Measured], args: &LoadArgs) -> Table {
    let names = [first, "p50", "p95", "p99", "answers a second", "n", "failed"];
    let mut columns: Vec<Column> = names.into_iter().map(Column::number).collect();
    columns.push(Column::text(""));
    let row = |m: &Measured| {
        let load = match (m.offered.users(), m.offered.rate()) {
            (Some(users), _) => count(users as u64),
            (None, found) => rate(found.unwrap_or_default()),
        };
        let time = |q: f64| match m.quantile_ms(q) {
            Some(found) if found.estimate.is_finite() => {
                Cell::with(duration(found.estimate), range(Some(found), &|v| format!("{} ms", ms(v))))
            }
            Some(_) => "no answer".into(),
            None => "–".into(),
        };
        vec![
            load.into(),
            time(0.5),
            time(0.95),
            time(0.99),
            Cell::with(rate(m.per_second()), range(m.throughput(), &rate)),
            count(m.answered() as u64).into(),
            count(m.failed()).into(),
            note(m, args.within_ms).into(),
        ]
    };
    Table {
        columns,
        rows: steps.iter().map(row).collect(),
        note:
            "Small print: 95 % intervals, of times from ranks with allowance for neighbours that resemble each other, \
               of throughput from ten pieces of the step where it has a hundred answers. “?” is an end that the step \
               was too short to bound."
                .into(),
        ..Table::default()
    }
}

/// Both ends of an interval; empty without one.
fn range(bound: Option<Bound>, write: &dyn Fn(f64) -> String) -> String {
    let end = |v: f64| if v.is_finite() { write(v) } else { "?".to_owned() };
    bound.map_or_else(String::new, |b| format!("{} – {}", end(b.low), end(b.high)))
}

fn rate(value: f64) -> String {
    match value {
        v if v <= 0.0 => "0".to_owned(),
        v if v < 10.0 => format!("{v:.2}"),
        v => format!("{v:.0}"),
    }
}
