//! The report of an advice: the verdict, the money, the reasons, and what would change it.

use super::{
    assumptions::Costing,
    cost::short,
    forecast,
    recommend::{in_money, next},
};
use understudy_advise::{
    Advice, Choice, Forecast, Ownership,
    cost::{dollars, thousands},
    fit::Candidate,
};
use understudy_core::Money;
use understudy_pilot::report::{
    Block, Cell, Column, Figure, KeyFigure, Report, Section, Table, Tone,
    charts::{self, Axis, Series},
    numbers::sentence,
};

/// What the page is laid out from.
pub(super) struct Advised<'a> {
    pub(super) advice: &'a Advice,
    pub(super) candidates: &'a [Candidate],
    pub(super) costing: &'a Costing,
    pub(super) forecast: Option<&'a Forecast>,
}

/// Lays the page out.
pub(super) fn page(advised: &Advised<'_>) -> Report {
    let Advised { advice, candidates, costing, forecast } = advised;
    let verdict = match advice.verdict {
        Some(Choice::Small) => "Small: a small model of your own answers everything.",
        Some(Choice::Hybrid) => "Hybrid: a small model answers what it is certified for, a large one the rest.",
        Some(Choice::Large) => "Large: a large model answers everything.",
        None if advice.excluded.is_empty() => "Undecided: nothing speaks for small, hybrid or large yet.",
        None => "Nothing fits: the constraints rule out small, hybrid and large alike.",
    };
    let money = advice.verdict.and_then(|verdict| in_money(verdict, costing));
    let mut sections = vec![reasons(advice), costs(costing)];
    sections.extend(forecast.map(measured));
    sections.extend(changes(advice));
    sections.extend(models(advice, candidates));
    sections.push(assumptions(costing));
    Report {
        title: "small, large or both?".into(),
        verdict: verdict.into(),
        tone: if advice.verdict.is_some() { Tone::Plain } else { Tone::Bad },
        lead: money.map_or_else(String::new, |line| sentence(line.trim_start_matches("money: "))),
        figures: key_figures(advice, costing),
        sections,
        commands: next(advice)
            .into_iter()
            .filter(|step| step.starts_with("understudy"))
            .filter_map(|step| step.split_once("  "))
            .map(|(command, why)| (sentence(why), command.trim().to_owned()))
            .collect(),
        ..Report::default()
    }
}

fn key_figures(advice: &Advice, costing: &Costing) -> Vec<KeyFigure> {
    let of = |choice| costing.choices.iter().find(|o| o.choice == choice);
    let volume = thousands(costing.assumptions.requests_per_month);
    let mut figures = Vec::new();
    let shown = advice.verdict.unwrap_or(Choice::Hybrid);
    for choice in [shown, Choice::Large] {
        if figures.len() < 2
            && (choice != shown || figures.is_empty())
            && let Some(o) = of(choice)
        {
            figures.push(KeyFigure {
                name: format!("{} a month", choice.as_str()),
                number: dollars(o.month_spread),
                note: format!("all in, at {volume} requests; {} a request", dollars(o.per_query)),
            });
        }
    }
    if let Some(b) = costing.break_even.iter().find(|b| b.choice == shown) {
        figures.push(KeyFigure {
            name: "it pays from".into(),
            number: b.requests_per_month.map_or_else(|| "no volume".into(), |n| short(n as f64)),
            note: "requests a month, against the large model alone".into(),
        });
    }
    if let Some(margin) = advice.margin {
        let scores = Choice::ALL.map(|c| format!("{} {:+.0}", c.as_str(), advice.scores[c as usize])).join(", ");
        figures.push(KeyFigure { name: "points ahead".into(), number: format!("{margin:.0}"), note: scores });
    }
    figures
}

fn reasons(advice: &Advice) -> Section {
    let row = |r: &understudy_advise::framework::Reason| {
        let mut row = vec![Cell::new(r.question).strong(), Cell::new(r.answer)];
        row.extend(r.points.map(|p| Cell::new(format!("{p:+.0}"))));
        row.push(Cell::new(r.why));
        row
    };
    let mut columns = vec![Column::text("question"), Column::text("answer")];
    columns.extend(["small", "hybrid", "large"].map(Column::number));
    columns.push(Column::text("why"));
    let mut blocks = Vec::new();
    if !advice.excluded.is_empty() {
        let out = |e: &understudy_advise::framework::Exclusion| {
            (format!("{} is out", e.choice.as_str()), format!("{} ({})", e.why, e.question))
        };
        blocks.push(Block::Sheet(advice.excluded.iter().map(out).collect()));
    }
    if !advice.reasons.is_empty() {
        blocks.push(Block::Table(Table {
            columns,
            rows: advice.reasons.iter().map(row).collect(),
            ..Table::default()
        }));
    }
    if !advice.unknown.is_empty() {
        blocks.push(Block::Text(format!(
            "Not known: {}. An unknown answer earns no points and rules out nothing.",
            advice.unknown.join(", ")
        )));
    }
    Section { title: "Reasons".into(), intro: String::new(), blocks }
}

fn costs(costing: &Costing) -> Section {
    let line = |choice: Choice| Series {
        name: choice.as_str().to_owned(),
        points: costing
            .curve
            .iter()
            .map(|p| (p.requests_per_month as f64, p.cost(choice).usd()))
            .filter(|p| p.0 > 0.0 && p.1 > 0.0)
            .collect(),
        ..Series::default()
    };
    let series = [Choice::Large, Choice::Hybrid, Choice::Small].map(line);
    let all = || series.iter().flat_map(|s| &s.points);
    let ends = |of: &dyn Fn(&(f64, f64)) -> f64| {
        (all().map(of).fold(f64::INFINITY, f64::min), all().map(of).fold(0.0, f64::max))
    };
    let label: charts::Label<'_> = &short;
    let usd: charts::Label<'_> = &|v| format!("${}", short(v));
    let mut blocks = Vec::new();
    if all().count() > 3 {
        let x = Axis { name: "requests a month, logarithmic", range: ends(&|p| p.0), log: true, label };
        let y = Axis { name: "USD a month, all in, logarithmic", range: ends(&|p| p.1), log: true, label: usd };
        blocks.push(Block::Plots(vec![Figure {
            title: "What each choice costs by volume".into(),
            how: "Where two lines cross, the cheaper one changes.".into(),
            svg: charts::lines("Cost by volume", x, y, &series, None),
        }]));
    }
    let names = ["tokens", "audits", "machines", "energy", "operations", "set-up", "annotation", "training"];
    let cell = |o: &Ownership, name: &str| {
        o.items.iter().find(|item| item.name == name).map_or_else(Cell::default, |item| match item.once > Money::ZERO {
            true => Cell::with(dollars(item.once), "once"),
            false => dollars(item.month).into(),
        })
    };
    let used = |name: &&&str| costing.choices.iter().any(|o| o.items.iter().any(|i| i.name == **name));
    let line = |title: &str, of: &dyn Fn(&Ownership) -> Cell| -> Vec<Cell> {
        std::iter::once(Cell::new(title)).chain(costing.choices.iter().map(of)).collect()
    };
    let mut rows: Vec<Vec<Cell>> = names.iter().filter(used).map(|name| line(name, &|o| cell(o, name))).collect();
    rows.push(line("a month", &|o| Cell::from(dollars(o.month)).strong()));
    rows.push(line("once", &|o| dollars(o.once).into()));
    rows.push(line("first year", &|o| Cell::from(dollars(o.first_year)).strong()));
    rows.push(line("a request, all in", &|o| dollars(o.per_query).into()));
    let mut columns = vec![Column::text("USD")];
    columns.extend(costing.choices.iter().map(|o| Column::number(o.choice.as_str())));
    blocks.push(Block::Table(Table { columns, rows, ..Table::default() }));
    let pays = |b: &understudy_advise::BreakEven| {
        let from = match b.requests_per_month {
            Some(1) => "pays at any volume".to_owned(),
            Some(n) => format!("pays from {} requests a month", thousands(n)),
            None => "pays at no volume: a machine costs more than the tokens that it saves".to_owned(),
        };
        let repaid = match b.months_to_repay {
            Some(months) if months > 0.0 => format!("; set-up is repaid after {months:.1} months"),
            Some(_) => String::new(),
            None => "; at the assumed volume it saves nothing".to_owned(),
        };
        (b.choice.as_str().to_owned(), from + &repaid)
    };
    blocks.push(Block::Sheet(costing.break_even.iter().map(pays).collect()));
    Section { title: "Costs".into(), intro: String::new(), blocks }
}

fn measured(forecast: &Forecast) -> Section {
    Section { title: "Measured".into(), intro: String::new(), blocks: vec![Block::Sheet(forecast::facts(forecast))] }
}

fn changes(advice: &Advice) -> Option<Section> {
    let row = |flip: &understudy_advise::framework::Flip| {
        vec![
            Cell::new(flip.question).strong(),
            Cell::new(flip.from.unwrap_or("not known")),
            Cell::new(flip.to),
            Cell::new(flip.verdict.map_or("nothing fits", Choice::as_str)),
        ]
    };
    (!advice.flips.is_empty()).then(|| Section {
        title: "What would change this".into(),
        intro: "each of these answers alone".into(),
        blocks: vec![Block::Table(Table {
            columns: ["question", "now", "if it were", "verdict then"].map(Column::text).to_vec(),
            rows: advice.flips.iter().map(row).collect(),
            ..Table::default()
        })],
    })
}

fn models(advice: &Advice, candidates: &[Candidate]) -> Option<Section> {
    let row = |c: &Candidate| {
        vec![
            Cell::with(c.name.clone(), c.mind.clone().unwrap_or_else(|| c.about.clone())).strong(),
            Cell::new(format!("{:.0}M", c.parameters as f64 / 1e6)),
            Cell::new(format!("{:.0} ms", c.answer_ms)),
            Cell::new(c.licence.clone()),
        ]
    };
    (!candidates.is_empty() && advice.verdict != Some(Choice::Large)).then(|| Section {
        title: "Small models that satisfy the constraints".into(),
        intro: String::new(),
        blocks: vec![Block::Table(Table {
            columns: vec![
                Column::text("model"),
                Column::number("size"),
                Column::number("an answer"),
                Column::text("licence"),
            ],
            rows: candidates.iter().take(5).map(row).collect(),
            note: "Times are interpolated from measurements on two cores; understudy pilot load measures yours.".into(),
            ..Table::default()
        })],
    })
}

fn assumptions(costing: &Costing) -> Section {
    let row = |(name, value, why): &(&'static str, String, String)| {
        vec![Cell::new(*name), Cell::new(value.clone()), Cell::new(why.clone())]
    };
    Section {
        title: "Assumptions".into(),
        intro: "a measurement replaces an assumption where there is one".into(),
        blocks: vec![Block::Table(Table {
            columns: ["what", "value", "from"].map(Column::text).to_vec(),
            rows: costing.rows().iter().map(row).collect(),
            ..Table::default()
        })],
    }
}
