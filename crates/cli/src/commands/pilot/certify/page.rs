//! The report of a certification: what may be kept, the curve behind it, what is assumed, and how often certificates
//! like it are wrong.

use understudy_core::Per;
use understudy_pilot::{
    Report as Certification, Simulation, Terms, Verdict,
    report::{
        Block, Figure, KeyFigure, Report, Section, Tone,
        charts::{Tradeoff, TradeoffPoint, tradeoff},
        numbers::{count, percent, sentence},
    },
};

/// Lays the page out.
pub(crate) fn page(found: &Certification, terms: &Terms, per: Per, simulation: Option<&Simulation>) -> Report {
    let (small, large) = (terms.small.to_string(), terms.large.to_string());
    let (verdict, lead, tone) = match &found.verdict {
        Verdict::Certified(c) => (
            format!("{small} may answer {} of the requests.", percent(c.kept, 1)),
            format!(
                "With {} confidence the loss against always asking {large} is at most {} {}; {} were allowed. It speaks \
                 about traffic like these {} rows, and about nothing else.",
                percent(1.0 - c.delta, 0),
                percent(c.bound, 2),
                if c.per == Per::Kept { "of the kept answers" } else { "per request" },
                percent(c.epsilon, 1),
                count(c.n)
            ),
            Tone::Plain,
        ),
        Verdict::NotCertified(refusal) => {
            (format!("{small} is not certified: {large} keeps answering."), sentence(&refusal.reason), Tone::Bad)
        }
    };
    Report {
        title: format!("certificate of {small} before {large}"),
        verdict,
        tone,
        lead,
        figures: key_figures(found, terms, simulation),
        sections: vec![curve(found, terms, per), evidence(found, terms), meaning(terms, simulation)],
        ..Report::default()
    }
}

fn key_figures(found: &Certification, terms: &Terms, simulation: Option<&Simulation>) -> Vec<KeyFigure> {
    let figure = |name: &str, number: String, note: String| KeyFigure { name: name.into(), number, note };
    let mut figures = match &found.verdict {
        Verdict::Certified(c) => vec![
            figure("may be kept", percent(c.kept, 1), format!("on {} rows", count(c.n))),
            figure(
                "loss at most",
                percent(c.bound, 2),
                format!("with {} confidence; allowed {}", percent(1.0 - c.delta, 0), percent(c.epsilon, 1)),
            ),
            figure("losses seen", count(c.losses), format!("of {} rows", count(c.n))),
        ],
        Verdict::NotCertified(refusal) => vec![
            figure("may be kept", "nothing".into(), format!("on {} rows", count(found.n))),
            figure(
                "allowed loss",
                percent(terms.epsilon, 1),
                format!("with {} confidence", percent(1.0 - terms.delta, 0)),
            ),
            figure(
                "rows needed",
                refusal.examples_needed.map_or_else(|| "unknown".into(), count),
                "at the losses seen so far; a plan, not a promise".into(),
            ),
        ],
    };
    if let Some(s) = simulation {
        figures.push(figure(
            "wrong in simulation",
            percent(s.violation_share.estimate, 2),
            format!(
                "{} of {} certificates; allowed {}",
                count(s.violations),
                count(s.plan.runs),
                percent(terms.delta, 0)
            ),
        ));
    }
    figures
}

fn curve(found: &Certification, terms: &Terms, per: Per) -> Section {
    let n = found.n.max(1) as f64;
    let point = |p: &understudy_pilot::Point| TradeoffPoint {
        threshold: p.threshold,
        kept: p.kept as f64 / n,
        loss: p.loss_sum / if per == Per::Kept { p.kept.max(1) as f64 } else { n },
        bound: Some(p.bound),
        cost_usd_per_1k: None,
    };
    let points: Vec<TradeoffPoint> = found.curve.iter().map(point).collect();
    let chosen = found.certificate().map(|c| c.kept);
    let drawn = tradeoff(
        "Loss per request against the share kept",
        &Tradeoff { points: &points, epsilon: Some(terms.epsilon), chosen },
    );
    let title = match &chosen {
        Some(kept) => format!("{} can be kept before the bound meets what is allowed", percent(*kept, 1)),
        None => "The bound lies above what is allowed wherever something is kept".to_owned(),
    };
    let figure = drawn.map(|svg| Figure {
        title,
        how: "The lower line is what was lost on these rows, the upper its bound for one threshold alone. Only the \
              certified threshold carries the guarantee. Move the slider to see others."
            .into(),
        svg,
    });
    Section {
        title: "What each threshold keeps and loses".into(),
        intro: String::new(),
        blocks: vec![
            figure.map_or_else(|| Block::Text("No row has a confidence to keep by.".into()), |f| Block::Plots(vec![f])),
        ],
    }
}

fn evidence(found: &Certification, terms: &Terms) -> Section {
    let mut facts = vec![
        ("small model".to_owned(), terms.small.to_string()),
        ("large model".to_owned(), terms.large.to_string()),
        ("loss".to_owned(), format!("{:?}", terms.loss).to_lowercase()),
        ("rows".to_owned(), count(found.n)),
    ];
    if let Some(c) = found.certificate() {
        facts.push(("threshold".into(), format!("confidence ≥ {:.6}", c.threshold.get())));
        facts.push((
            "upper bound".into(),
            format!("{} (one-sided, exact at {})", percent(c.bound, 3), percent(1.0 - c.delta, 0)),
        ));
        facts.push(("SHA-256 of the rows".into(), c.data_hash.clone()));
        facts.push(("certificate".into(), c.id.clone()));
    }
    Section { title: "The evidence".into(), intro: String::new(), blocks: vec![Block::Sheet(facts)] }
}

fn meaning(terms: &Terms, simulation: Option<&Simulation>) -> Section {
    let mut blocks = vec![Block::Text(
        "Assumed: requests to come are like these rows, in no particular order (exchangeable), and these rows had no part \
         in training. Not promised: anything about a single request, about groups of requests, or about traffic that \
         changes. A running gateway audits and withdraws a certificate that no longer holds."
            .into(),
    )];
    if let Some(s) = simulation {
        let share = &s.violation_share;
        blocks.push(Block::Sheet(vec![
            ("sets drawn anew".into(), format!("{}, of {} rows each", count(s.plan.runs), count(s.plan.n))),
            ("certificates given".into(), count(s.certified)),
            (
                "of them wrong".into(),
                format!(
                    "{}: {} (95 % interval {} to {}); allowed {}",
                    count(s.violations),
                    percent(share.estimate, 2),
                    percent(share.low, 2),
                    percent(share.high, 2),
                    percent(terms.delta, 0)
                ),
            ),
            (
                "kept on average".into(),
                format!(
                    "{} (95 % interval {} to {})",
                    percent(s.kept.estimate, 1),
                    percent(s.kept.low, 1),
                    percent(s.kept.high, 1)
                ),
            ),
            ("best fixed threshold".into(), format!("{} (nobody knows it beforehand)", percent(s.kept_best_fixed, 1))),
        ]));
    }
    Section { title: "What this means".into(), intro: String::new(), blocks }
}
