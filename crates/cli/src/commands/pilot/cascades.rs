//! `understudy pilot cascades`: the cheapest cascade of two or three models that provably keeps its promise.

mod page;

use crate::{
    commands::Context,
    compose,
    report::ReportArg,
    terminal::{self, percent, say, table},
};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use understudy_core::{Result, Seed};
use understudy_pilot::cascades::{self, Choice, Plan, Population, Rated, Simulation, Terms, Verdict};
use understudy_route::stages::Ladder;
use understudy_stats::Bound;

/// Most lines of the frontier that are shown to a person.
const SHOWN: usize = 12;

#[derive(Debug, Args)]
pub(crate) struct CascadesArgs {
    /// Recorded outcomes with prices, one JSON object a line; `.zst` is unpacked
    #[arg(long, value_name = "FILE")]
    outcomes: PathBuf,
    /// Models that may stand before the large one [default: all that are cheaper and have a confidence]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// The large model's name in the outcomes
    #[arg(long, value_name = "NAME")]
    large: String,
    /// Largest allowed expected loss per request
    #[arg(long, default_value_t = 0.05, value_name = "E")]
    epsilon: f64,
    /// Probability with which the certificate may be wrong
    #[arg(long, default_value_t = 0.05, value_name = "D")]
    delta: f64,
    /// Also choose on this many sets drawn anew from the outcomes and count wrong certificates
    #[arg(long, value_name = "RUNS")]
    simulate: Option<u64>,
    /// Seed of the division and of the simulation
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    report: ReportArg,
}

/// Runs `understudy pilot cascades`.
pub(super) fn run(args: &CascadesArgs, context: &Context) -> Result<()> {
    args.report.check()?;
    let outcomes = compose::read_outcomes(&args.outcomes)?;
    let population = Population::new(&outcomes, args.models.as_deref(), &args.large)?;
    let terms = Terms { epsilon: args.epsilon, delta: args.delta, seed: Seed(args.seed) };
    let (verdict, path) = cascades::choose(&population, terms)?;
    show(&population, &verdict, &path, terms);
    let simulation = match args.simulate {
        Some(runs) => {
            let bar = terminal::progress(0, "choosing on resampled sets");
            let found = cascades::simulate(&population, Plan { n: population.len(), runs, terms });
            bar.finish_and_clear();
            Some(found?)
        }
        None => None,
    };
    if let Some(found) = &simulation {
        show_simulation(found);
    }
    let object = object(&population, &verdict, &path, simulation.as_ref());
    let page = || page::page(&population, &verdict, &path, terms, simulation.as_ref());
    args.report.write(page, &object)?;
    crate::commands::finish(context, &object)
}

fn show(population: &Population, verdict: &Verdict, path: &[Rated], terms: Terms) {
    let certified = match verdict {
        Verdict::Certified(choice) => {
            let ladder = described(population, &choice.ladder);
            say(terminal::verdict(&format!("certified: {ladder} saves {} of the cost", between(&choice.saved)), true));
            let loss = format!(
                "{} of {} requests; at most {} at {} confidence",
                choice.losses,
                choice.n,
                percent(choice.bound),
                percent(1.0 - terms.delta)
            );
            let rows = [
                ("loss", loss),
                ("allowed", percent(terms.epsilon)),
                ("cost", format!("${:.6} a request instead of ${:.6}", choice.cost_usd, choice.cost_large_usd)),
                ("rated on", format!("{} other requests, {} cascades on the path", choice.rated_on, path.len())),
            ];
            say(table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value])));
            Some(choice.place)
        }
        Verdict::NotCertified(refused) => {
            say(terminal::verdict("not certified: always ask the large model", false));
            say(format_args!(
                "{}; {} requests are the least that could be enough",
                refused.reason, refused.fewest_rows
            ));
            None
        }
    };
    terminal::heading("From safe to cheap, as rated before the test");
    // The certified one is always among those shown.
    let every = path.len().div_ceil(SHOWN).max(1);
    let shown = path.iter().enumerate().filter(|(place, _)| place % every == 0 || Some(*place) == certified);
    let cost_large = population.cost_large();
    let rows = shown.map(|(place, rated)| {
        let mark = if Some(place) == certified { "certified" } else { "" };
        vec![
            described(population, &rated.ladder),
            percent(rated.loss),
            percent(1.0 - rated.cost_usd / cost_large),
            mark.to_owned(),
        ]
    });
    say(table(&["cascade", "loss", "saved", ""], &[1, 2], rows));
    say("It speaks about traffic like these requests, and about nothing else. Every model that is asked is paid.");
}

fn show_simulation(found: &Simulation) {
    terminal::heading("Simulation");
    let (runs, share) = (found.plan.runs, found.violation_share);
    let of_runs = |count: u64| percent(count as f64 / runs as f64);
    say(format!(
        "{runs} sets of {} requests drawn from these outcomes: {} certificates, {} of them wrong ({}, 95 % interval {} to \
         {}; allowed {})",
        found.plan.n,
        found.certified,
        found.violations,
        percent(share.estimate),
        percent(share.low),
        percent(share.high),
        percent(found.plan.terms.delta)
    ));
    say(format!(
        "saved on average {}; by the best cascade, which nobody can know, {}; without a certificate {}, and wrong in {}",
        between(&found.saved),
        percent(found.saved_best),
        between(&found.naive_saved),
        of_runs(found.naive_violations)
    ));
}

/// A share with its interval.
fn between(bound: &Bound) -> String {
    format!("{} ({} to {})", percent(bound.estimate), percent(bound.low), percent(bound.high))
}

/// `small ≥ 0.9312 → mid ≥ 0.5 → large`.
fn described(population: &Population, ladder: &Ladder<usize>) -> String {
    let named = population.named(ladder);
    // Confidences crowd below 1: there the digits that tell thresholds apart come later.
    let digits = |threshold: f64| if threshold > 0.9995 && threshold < 1.0 { 7 } else { 4 };
    let rungs = named.rungs.iter().map(|rung| {
        let digits = digits(rung.threshold);
        format!("{} ≥ {:.digits$} → ", rung.model, rung.threshold)
    });
    format!("{}{}", rungs.collect::<String>(), named.last)
}

fn object(population: &Population, verdict: &Verdict, path: &[Rated], simulation: Option<&Simulation>) -> Value {
    let (choice, reason, fewest) = match verdict {
        Verdict::Certified(choice) => (Some(choice), None, None),
        Verdict::NotCertified(refused) => (None, Some(&refused.reason), Some(refused.fewest_rows)),
    };
    let cost_large = population.cost_large();
    let certificate = |choice: &Choice| {
        json!({
            "cascade": population.named(&choice.ladder),
            "n": choice.n,
            "losses": choice.losses,
            "bound": choice.bound,
            "cost_usd": choice.cost_usd,
            "cost_large_usd": choice.cost_large_usd,
            "saved": choice.saved.estimate,
            "saved_low": choice.saved.low,
            "saved_high": choice.saved.high,
            "rated_on": choice.rated_on,
            "place": choice.place,
            "data_hash": choice.data_hash,
        })
    };
    let rated = |rated: &Rated| {
        json!({
            "cascade": population.named(&rated.ladder),
            "loss": rated.loss,
            "losses": rated.losses,
            "cost_usd": rated.cost_usd,
            "saved": 1.0 - rated.cost_usd / cost_large,
        })
    };
    json!({
        "n": population.len(),
        "models": population.models(),
        "large": population.large(),
        "cost_large_usd": cost_large,
        "certificate": choice.map(certificate),
        "reason": reason,
        "fewest_rows": fewest,
        "frontier": path.iter().map(rated).collect::<Vec<_>>(),
        "runs": simulation.map(|s| s.plan.runs),
        "violations": simulation.map(|s| s.violations),
        "violations_low": simulation.map(|s| s.violation_share.low),
        "violations_high": simulation.map(|s| s.violation_share.high),
        "certified": simulation.map(|s| s.certified),
        "saved": simulation.map(|s| s.saved.estimate),
        "saved_low": simulation.map(|s| s.saved.low),
        "saved_high": simulation.map(|s| s.saved.high),
        "loss": simulation.and_then(|s| s.loss).map(|b| json!({ "estimate": b.estimate, "low": b.low, "high": b.high })),
        "saved_best": simulation.map(|s| s.saved_best),
        "naive_violations": simulation.map(|s| s.naive_violations),
        "naive_saved": simulation.map(|s| s.naive_saved.estimate),
        "naive_saved_low": simulation.map(|s| s.naive_saved.low),
        "naive_saved_high": simulation.map(|s| s.naive_saved.high),
    })
}
