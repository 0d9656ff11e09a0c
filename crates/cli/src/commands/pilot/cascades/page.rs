//! The report of the search for the cheapest cascade.

use super::{Terms, described};
use understudy_pilot::{
    cascades::{Population, Rated, Simulation, Verdict},
    report::{
        Block, Cell, Column, Figure, KeyFigure, Report, Section, Table, Tone,
        charts::{self, Axis, Series, Spread},
        numbers::{count, percent, sentence},
    },
};

use understudy_stats::binomial;

/// Cascades that are listed.
const LISTED: usize = 20;

/// Lays the page out.
pub(super) fn page(
    population: &Population,
    verdict: &Verdict,
    path: &[Rated],
    terms: Terms,
    simulation: Option<&Simulation>,
) -> Report {
    let figure = |name: &str, number: String, note: String| KeyFigure { name: name.into(), number, note };
    let confidence = percent(1.0 - terms.delta, 0);
    let (line, lead, mut figures, certified) = match verdict {
        Verdict::Certified(choice) => (
            format!("A cascade saves {} of the cost.", percent(choice.saved.estimate, 0)),
            format!(
                "{}. With {confidence} confidence it loses at most {} per request against always asking {}; {} were \
                 allowed. The certificate covers the search.",
                described(population, &choice.ladder),
                percent(choice.bound, 2),
                population.large(),
                percent(terms.epsilon, 1)
            ),
            vec![
                figure(
                    "saved",
                    percent(choice.saved.estimate, 1),
                    format!(
                        "95 % interval {} to {}, n = {}: ${:.6} a request instead of ${:.6}",
                        percent(choice.saved.low, 1),
                        percent(choice.saved.high, 1),
                        count(choice.n),
                        choice.cost_usd,
                        choice.cost_large_usd
                    ),
                ),
                figure("loss at most", percent(choice.bound, 2), format!("with {confidence} confidence")),
                figure("losses seen", choice.losses.to_string(), format!("of {} requests", count(choice.n))),
            ],
            Some(choice.place),
        ),
        Verdict::NotCertified(refused) => (
            format!("No cascade is certified: always ask {}.", population.large()),
            sentence(&refused.reason),
            vec![figure("rows that could be enough", refused.fewest_rows.to_string(), "at the very least".into())],
            None,
        ),
    };
    if let Some(s) = simulation {
        let note = format!(
            "{} of {} sets, 95 % interval {} to {}; allowed {}",
            s.violations,
            s.plan.runs,
            percent(s.violation_share.low, 1),
            percent(s.violation_share.high, 1),
            percent(terms.delta, 0)
        );
        figures.push(figure("wrong in simulation", percent(s.violation_share.estimate, 2), note));
    }
    let cost_large = population.cost_large();
    let saved = |rated: &Rated| 1.0 - rated.cost_usd / cost_large;
    let points: Vec<(f64, f64)> = path.iter().map(|rated| (saved(rated), rated.loss)).collect();
    let most = points.iter().map(|p| p.1).fold(terms.epsilon * 1.5, f64::max);
    let x = Axis { name: "share of the cost saved", range: (0.0, 1.0), log: false, label: &|v| percent(v, 0) };
    let y = Axis { name: "loss per request, as rated", range: (0.0, most), log: false, label: &|v| percent(v, 1) };
    let allowed = format!("allowed: ε = {}", percent(terms.epsilon, 1));
    let mut series = vec![Series { name: "cascades on the path".into(), points, ..Series::default() }];
    if let Verdict::Certified(choice) = verdict {
        let seen = binomial::interval(choice.losses, choice.n, 0.95);
        series.push(Series {
            name: "certified".into(),
            points: vec![(choice.saved.estimate, seen.estimate)],
            spread: vec![Spread { n: choice.n, interval: Some((seen.low, seen.high)) }],
        });
    }
    let plot = Figure {
        title: "From safe to cheap".into(),
        how: "The cascades in the order in which they were tested; the order was fixed on other requests.".into(),
        svg: charts::lines("Loss against cost saved", x, y, &series, Some((terms.epsilon, &allowed))),
    };
    let every = path.len().div_ceil(LISTED).max(1);
    let shown = path.iter().enumerate().filter(|(place, _)| place % every == 0 || Some(*place) == certified);
    let row = |(place, rated): (usize, &Rated)| {
        let mark = if Some(place) == certified { Cell::new("certified").strong() } else { Cell::default() };
        let ladder = described(population, &rated.ladder);
        vec![Cell::new(ladder), percent(rated.loss, 2).into(), percent(saved(rated), 1).into(), mark]
    };
    let table = Table {
        columns: vec![Column::text("cascade"), Column::number("loss"), Column::number("saved"), Column::text("")],
        rows: shown.map(row).collect(),
        note:
            "As rated on the rows that laid the path; the certificate rests on others. A loss is regret: the large model would have been right and the answer handed over is wrong. Every model \
               that is asked is paid. It speaks about traffic like these requests, and about nothing else."
                .into(),
        ..Table::default()
    };
    Report {
        title: format!("cascades in front of {}", population.large()),
        verdict: line,
        tone: if certified.is_some() { Tone::Plain } else { Tone::Bad },
        lead,
        figures,
        sections: vec![Section {
            title: "The search".into(),
            intro: String::new(),
            blocks: vec![Block::Plots(vec![plot]), Block::Table(table)],
        }],
        ..Report::default()
    }
}
