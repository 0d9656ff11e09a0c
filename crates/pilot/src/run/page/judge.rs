//! What the judge said, and whether it can be believed: the section of a run's report.

use super::range;
use crate::{
    metrics::Metric,
    report::{
        Block, Cell, Column, Figure, KeyFigure, Section, Table,
        charts::{self, Axis, Interval},
        numbers::{count, dollars, percent},
    },
    run::{
        Ended,
        preference::{Judged, Preferred, Verdict},
    },
};

/// The section; a reader first learns whether the judge agrees with itself.
pub(super) fn section(judged: &Judged) -> Section {
    let mut blocks: Vec<Block> =
        judged.pairs.iter().map(|p| Block::Text(p.sentence(&judged.model, &judged.baseline))).collect();
    let rows: Vec<Interval> = judged
        .pairs
        .iter()
        .filter_map(|p| {
            let m = p.report.win_rate?;
            let note = format!("{} won, {} lost, {} tied", p.report.wins, p.report.losses, p.report.ties);
            // BCa gives no interval to a constant.
            let (low, high) =
                if m.low.is_finite() && m.high.is_finite() { (m.low, m.high) } else { (m.estimate, m.estimate) };
            Some(Interval { name: p.name.clone(), estimate: m.estimate, low, high, note })
        })
        .collect();
    if !rows.is_empty() {
        let axis = Axis {
            name: "share of pairs won, ties counting half",
            range: (0.0, 1.05),
            log: false,
            label: &|v| percent(v, 0),
        };
        let fine = judged.pairs.iter().filter(|p| p.verdict == Verdict::Better).count();
        blocks.push(Block::Plots(vec![Figure {
            title: match fine {
                0 => format!("{} prefers no model to {}", judged.model, judged.baseline),
                n => format!("{} prefers {n} of {} models to {}", judged.model, judged.pairs.len(), judged.baseline),
            },
            how: "Right of the dashed line the model is preferred, left of it the baseline. Lines are 95 % intervals."
                .into(),
            svg: charts::intervals("Shares won in the eyes of the judge", axis, &rows, Some((0.5, "even"))),
        }]));
    }
    blocks.push(Block::Table(table(judged)));
    blocks.push(Block::Sheet(facts(judged)));
    Section {
        title: "What the judge says".into(),
        intro: "Each pair of answers was judged twice, the second time in the other order; a verdict that does not \
                survive that is a tie. The figures of agreement are about the judge."
            .into(),
        blocks,
    }
}

fn table(judged: &Judged) -> Table {
    let names = ["pairs", "won", "lost", "tied", "same answer", "agrees with itself", "votes for a place"];
    let mut columns = vec![Column::text("model")];
    columns.extend(names.map(Column::number));
    columns.push(Column::number("agrees with the metric"));
    columns.push(Column::text("verdict"));
    let share = |m: Option<Metric>| m.map_or_else(|| "–".into(), |m| Cell::with(percent(m.estimate, 0), range(&m, 0)));
    let row = |p: &Preferred| {
        let r = &p.report;
        let unread =
            if r.unreadable > 0 { format!("{} without a readable verdict", r.unreadable) } else { String::new() };
        let place = match (p.lean(), r.position_bias) {
            (Some(place), Some(m)) => {
                let place = if place == crate::metrics::judge::Preference::First { "the first" } else { "the second" };
                Cell::with(percent(m.estimate, 0), format!("{}, {place}", range(&m, 0)))
            }
            (_, m) => share(m),
        };
        vec![
            Cell::new(p.name.clone()).strong(),
            Cell::with(count(r.pairs), unread),
            count(r.wins).into(),
            count(r.losses).into(),
            count(r.ties).into(),
            count(p.identical).into(),
            share(r.agreement),
            place,
            share(p.agrees_with_metric),
            match p.verdict {
                Verdict::Better => Cell::new("preferred"),
                Verdict::Worse => Cell::new("baseline preferred"),
                Verdict::Undecided => Cell::new("no preference shown"),
                Verdict::Unreliable => Cell::new("judge not reliable here"),
            },
        ]
    };
    Table {
        columns,
        rows: judged.pairs.iter().map(row).collect(),
        note: "Verdicts: exact sign test over wins and losses at 5 %, corrected for the number of models. Agreement: \
               share of pairs on which both orders give the same verdict, exact 95 % interval. “Agrees with the metric” \
               looks at pairs with a winner and unequal measured quality."
            .into(),
        ..Table::default()
    }
}

fn facts(judged: &Judged) -> Vec<(String, String)> {
    let mut facts = vec![
        ("judge".to_owned(), format!("{} ({})", judged.model, judged.what)),
        ("verdicts given".to_owned(), count(judged.asked as u64)),
        ("they cost".to_owned(), judged.cost_usd.map_or_else(|| "unknown".into(), dollars)),
    ];
    if judged.judges_itself {
        facts.push(("beware".into(), "it is one of the models it judges; judges like their own answers".into()));
    }
    let ended = match &judged.ended {
        Ended::Done | Ended::Decided(_) => None,
        Ended::CostCap => Some("stopped by the cost cap".to_owned()),
        Ended::Failing(why) => Some(format!("failed to {why}")),
    };
    facts.extend(ended.map(|why| ("not asked to the end".to_owned(), why)));
    facts
}

/// The judge on the first screen.
pub(super) fn key_figure(judged: &Judged) -> Option<KeyFigure> {
    let pair = judged.pairs.iter().max_by_key(|p| p.report.pairs)?;
    let agreement = pair.report.agreement?;
    Some(KeyFigure {
        name: "The judge agrees with itself".into(),
        number: percent(agreement.estimate, 0),
        note: format!("when the order is swapped, {} on {} pairs", range(&agreement, 0), count(agreement.n)),
    })
}
