//! The report of a forecast of the learning phase.

use super::{
    Forecast, StreamArgs,
    show::{over, stretches},
};
use understudy_adapt::online::forecast::Tally;
use understudy_pilot::report::{
    Block, Cell, Column, Figure, KeyFigure, Report, Section, Table, Tone,
    charts::{self, Axis, Series, Spread},
    numbers::{count, percent},
};

/// Lays the page out.
pub(super) fn page(forecast: &Forecast, args: &StreamArgs) -> Report {
    let tallies = forecast.student.tallies();
    let figure = |of: &dyn Fn(&Tally) -> Option<f64>| over(&tallies, of);
    let saved = figure(&|t| Some(t.calls)).map_or(0.0, |(calls, ..)| 1.0 - calls.estimate);
    let mut figures = Vec::new();
    let mut show = |name: &str, found: Option<(understudy_stats::Bound, f64, f64)>, points: bool| {
        let Some((bound, least, most)) = found else { return };
        let write = |v: f64| if points { format!("{:+.1} points", v * 100.0) } else { percent(v, 1) };
        let note = format!("mean of {} orders, {} to {}", args.orders, write(least), write(most));
        figures.push(KeyFigure { name: name.into(), number: write(bound.estimate), note });
    };
    show("calls to the large model", figure(&|t| Some(t.calls)), false);
    show("kept answers agree with it", figure(&|t| t.agreement), false);
    show("accuracy lost", figure(&|t| t.loss()), true);
    let row = |name: &str, tallies: &[Tally]| {
        let cell = |of: &dyn Fn(&Tally) -> Option<f64>| {
            over(tallies, of).map_or_else(
                || "–".into(),
                |(bound, least, most)| {
                    Cell::with(percent(bound.estimate, 1), format!("{:.1} – {}", least * 100.0, percent(most, 1)))
                },
            )
        };
        vec![
            Cell::new(name),
            cell(&|t| Some(t.calls)),
            cell(&|t| t.agreement),
            cell(&|t| Some(t.disagreement)),
            cell(&|t| t.accuracy),
            cell(&|t| t.loss()),
        ]
    };
    let mut rows = vec![row("student", &tallies)];
    rows.extend(forecast.baselines.iter().map(|way| row(&way.name, &way.tallies())));
    let certified = format!("certified: disagreement ≤ {}", percent(args.epsilon, 1));
    rows.push(row(&certified, &forecast.certified.tallies));
    let mut columns = vec![Column::text("")];
    columns
        .extend(["calls", "kept answers agree", "answered otherwise", "accuracy", "accuracy lost"].map(Column::number));
    let line = |name: &str, of: &dyn Fn(&Tally) -> Option<f64>| {
        let point = |(from, to, orders): (usize, usize, Vec<Tally>)| {
            let (mean, ..) = over(&orders, of)?;
            let n = ((to - from) * orders.len()) as u64;
            let spread = Spread { n, interval: Some((mean.low.max(0.0), mean.high.min(1.0))) };
            Some((((from + to) as f64 / 2.0, mean.estimate), spread))
        };
        let (points, spread) = stretches(&forecast.student).into_iter().filter_map(point).unzip();
        Series { name: name.to_owned(), points, spread }
    };
    let x = Axis {
        name: "requests since the start",
        range: (0.0, forecast.n as f64),
        log: false,
        label: &|v| format!("{v:.0}"),
    };
    let y = Axis { name: "share", range: (0.0, 1.0), log: false, label: &|v| percent(v, 0) };
    let series = [line("calls to the large model", &|t| Some(t.calls)), line("kept answers agree", &|t| t.agreement)];
    let plot = Figure {
        title: "How it learns".into(),
        how: "Each point is a tenth of the stream, its mean over the orders; whiskers are 95 % intervals over them."
            .into(),
        svg: charts::lines("Calls and agreement over the stream", x, y, &series, None),
    };
    let table = Table {
        columns,
        rows,
        note:
            "Mean over the orders; small print: the least and the most of any order. The orders are of one recording: \
               other data differ by more."
                .into(),
        ..Table::default()
    };
    Report {
        title: format!("learning from {}", args.large),
        verdict: format!("A student would save {} of the calls to {} while it learns.", percent(saved, 0), args.large),
        tone: if saved > 0.5 { Tone::Plain } else { Tone::Bad },
        lead: format!(
            "{} requests, {} different answers, from nothing, in {} random orders; it learns only from what it asks. This \
             forecasts a learning phase and carries no certificate; live traffic needs one.",
            count(forecast.n as u64),
            forecast.classes,
            args.orders
        ),
        figures,
        sections: vec![
            Section { title: "The stream".into(), intro: String::new(), blocks: vec![Block::Plots(vec![plot])] },
            Section { title: "Beside other ways".into(), intro: String::new(), blocks: vec![Block::Table(table)] },
        ],
        ..Report::default()
    }
}
