//! Turns the demo's tally into what the report draws.

use super::{
    DemoArgs,
    data::Order,
    report::{
        Command, Confusion, CurvePoint, DemoReport, EvidencePoint, Figure, Latency, Named, ReliabilityBin, Saving,
        SpendPoint, Withdrawn, count,
    },
    tally::{Row, Tally, large_usage},
    world::{TASK, World},
};
use crate::{
    clock::SystemClock,
    commands::{Context, shown},
};
use understudy_core::{Clock, Money};
use understudy_operate::audit::{Monitor, Observation, WITHDRAWAL_ODDS};
use understudy_pilot::Verdict;
use understudy_stats::{Bound, calibration};
use understudy_store::Route;

/// Points of a line in a plot: more cannot be told apart.
const POINTS: usize = 300;
/// Bins of the calibration plot.
const BINS: usize = 10;

pub(super) fn report(tally: &Tally, world: &World, args: &DemoArgs, _context: &Context) -> DemoReport {
    let n = tally.rows.len() as u64;
    let comparison = tally.comparison.as_ref();
    let accuracy = comparison.map_or(Vec::new(), |c| {
        let large = if world.has_answer_key() { "large alone (the answer key)" } else { "large alone" };
        [("small alone", c.small), (large, c.large), ("together", c.together)]
            .map(|(name, bound)| Named { name: name.to_owned(), figure: figure(bound, c.n) })
            .into()
    });
    let under = tally.rows.iter().filter(|r| r.trace.certificate.is_some()).count() as u64;
    DemoReport {
        task: TASK.to_owned(),
        corpus: match world.is_mail {
            true => {
                format!("{} real e-mails of 2001–2002 (SpamAssassin public corpus)", count(world.items.len() as u64))
            }
            false => format!("{} texts of your own", count(world.items.len() as u64)),
        },
        order: match args.order {
            Order::Random => {
                "Sent in a fixed random order: tomorrow's traffic is like the calibration traffic, as the \
                              certificate assumes."
                    .to_owned()
            }
            Order::Time => "Sent by date: the traffic drifts, which breaks what the certificate assumes.".to_owned(),
        },
        small: args.base.clone(),
        large: args.large.clone(),
        stand_in: world.has_answer_key().then(|| {
            format!(
                "The large model is not a real LLM: it is the data's answer key behind a real HTTP server, {} ms a \
                 request, at the list prices of {}.",
                args.latency, args.large
            )
        }),
        written: today(),
        observed: world.items.len() - tally.rows.len(),
        live: tally.rows.len(),
        kept: tally.rows.iter().filter(|r| r.kept).count(),
        local_share: figure(tally.local_share(), n),
        loss: tally.loss.map(|loss| figure(loss, under)),
        accuracy,
        epsilon: args.epsilon,
        delta: args.delta,
        saving: tally.priced.then(|| Saving {
            spent_usd: tally.spent.usd(),
            baseline_usd: tally.baseline.usd(),
            audits_usd: tally.audits.usd(),
            basis: format!("List prices of {}; tokens estimated from the length of the texts.", args.large),
        }),
        certificate: tally.certificate().cloned(),
        refusal: match &tally.certification.report.verdict {
            Verdict::NotCertified(refusal) => Some(refusal.reason.clone()),
            Verdict::Certified(_) => None,
        },
        withdrawal: tally.withdrawal.as_ref().map(|(at, w)| Withdrawn { at: *at, reason: w.reason.clone() }),
        curve: curve(tally),
        reliability: reliability(tally),
        latency: [("local", Route::Local), ("escalated", Route::Escalated), ("large", Route::Large)]
            .into_iter()
            .map(|(name, route)| Latency { name: name.to_owned(), ms: latencies(tally, route) })
            .filter(|latency| !latency.ms.is_empty())
            .collect(),
        spending: spending(tally, world),
        evidence: evidence(tally),
        evidence_limit: WITHDRAWAL_ODDS,
        confusion: confusion(&tally.rows, &world.labels),
        commands: commands(world, args),
    }
}

fn figure(bound: Bound, n: u64) -> Figure {
    Figure { estimate: bound.estimate, low: bound.low, high: bound.high, n }
}

fn today() -> String {
    let now = jiff::Timestamp::from_millisecond(SystemClock::new().now().0).unwrap_or_default();
    now.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn curve(tally: &Tally) -> Vec<CurvePoint> {
    let n = tally.certification.report.n.max(1) as f64;
    let points = tally.certification.report.curve.iter();
    points
        .map(|p| CurvePoint {
            threshold: p.threshold,
            kept: p.kept as f64 / n,
            loss: p.losses as f64 / n,
            bound: p.bound,
        })
        .collect()
}

fn reliability(tally: &Tally) -> Vec<ReliabilityBin> {
    let known: Vec<(f64, bool)> =
        tally.certification.items.iter().filter_map(|item| Some((item.confidence?, !item.loss_if_kept))).collect();
    let (confidence, right): (Vec<f64>, Vec<bool>) = known.into_iter().unzip();
    calibration::reliability(&confidence, &right, BINS)
        .into_iter()
        .filter(|bin| bin.count > 0)
        .map(|bin| ReliabilityBin { confidence: bin.confidence, right: bin.accuracy, n: bin.count })
        .collect()
}

fn latencies(tally: &Tally, route: Route) -> Vec<f64> {
    let rows = tally.rows.iter().filter(|r| r.trace.route == route);
    rows.map(|r| r.received.latency.as_secs_f64() * 1e3).collect()
}

/// Every so many rows of a long sequence, and the last.
fn thinned(index: usize, len: usize) -> bool {
    index.is_multiple_of(len.div_ceil(POINTS).max(1)) || index + 1 == len
}

fn spending(tally: &Tally, world: &World) -> Vec<SpendPoint> {
    let Some(price) = world.price else { return Vec::new() };
    let (mut spent, mut baseline) = (Money::ZERO, Money::ZERO);
    let mut points = Vec::new();
    for (index, row) in tally.rows.iter().enumerate() {
        spent = spent + row.trace.cost().unwrap_or(Money::ZERO);
        baseline = baseline + price.cost(&large_usage(row, world));
        if thinned(index, tally.rows.len()) {
            points.push(SpendPoint { request: index + 1, spent_usd: spent.usd(), baseline_usd: baseline.usd() });
        }
    }
    points
}

/// The monitor's evidence along the way, by the very code that judged it live.
fn evidence(tally: &Tally) -> Vec<EvidencePoint> {
    let Some(certificate) = tally.certificate() else { return Vec::new() };
    let mut monitor = Monitor::new(certificate);
    let mut points = Vec::new();
    for (index, row) in tally.evidence.iter().enumerate() {
        monitor.push(&Observation {
            kept: row.kept,
            audited: row.audited,
            audit_probability: row.audit_probability,
            loss: row.loss,
        });
        if thinned(index, tally.evidence.len()) {
            let e = monitor.evidence();
            points.push(EvidencePoint {
                request: index + 1,
                audits: e.audited,
                losses: e.losses,
                loss_odds: e.loss_odds,
                change_odds: e.change_odds,
            });
        }
    }
    points
}

fn confusion(rows: &[Row], labels: &[String]) -> Option<Confusion> {
    let mut counts = vec![vec![0; labels.len()]; labels.len()];
    for row in rows {
        let place = |label: &Option<String>| labels.iter().position(|l| Some(l) == label.as_ref());
        if let (Some(right), Some(answer)) = (place(&row.right), place(&row.small)) {
            counts[right][answer] += 1;
        }
    }
    let any = counts.iter().flatten().any(|&count: &u64| count > 0);
    any.then(|| Confusion { labels: labels.to_vec(), counts })
}

fn commands(world: &World, args: &DemoArgs) -> Vec<Command> {
    let config = shown(&world.configuration());
    let order = match args.order {
        Order::Random => "random",
        Order::Time => "time",
    };
    let data = args.data.as_ref().map_or(String::new(), |file| format!(" --data {}", file.display()));
    let command = |what: &str, command: String| Command { what: what.to_owned(), command };
    vec![
        command("everything on this page", format!("understudy demo --order {order} --seed {}{data}", args.seed)),
        command("every request", format!("understudy -c {config} traces list --task {TASK}")),
        command("answers that the audits contradicted", format!("understudy -c {config} traces list --disagreed")),
        command("the certificate", format!("understudy -c {config} pilot certify --task {TASK}")),
        command("the gateway, for an application of yours", format!("understudy -c {config} serve")),
    ]
}
