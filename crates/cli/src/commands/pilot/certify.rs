//! `understudy pilot certify`: how much of a task's traffic may the small model answer?

use crate::commands::Context;
use crate::{
    clock::SystemClock,
    compose::{self, Composer},
    learning::{self, Certification},
    terminal,
    terminal::{say, table},
};
use clap::Args;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use understudy_core::{Clock, Error, Result, Seed, hash::sha256_hex};
use understudy_pilot::{Grid, Item, Report, Simulation, Terms, Verdict, from_outcomes, simulate, simulate::Plan};
use understudy_store::{Store, StoreOptions};

#[derive(Debug, Args)]
pub(crate) struct CertifyArgs {
    /// A task of the configuration: its small model on its recorded traffic
    #[arg(long, value_name = "NAME", conflicts_with_all = ["outcomes", "epsilon", "delta"])]
    task: Option<String>,
    /// Recorded outcomes, one JSON object a line; `.zst` is unpacked
    #[arg(long, value_name = "FILE", required_unless_present = "task", requires_all = ["small", "large"])]
    outcomes: Option<PathBuf>,
    /// The small model's name in the outcomes
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    small: String,
    /// The large model's name in the outcomes
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    large: String,
    /// Largest allowed expected loss per request
    #[arg(long, default_value_t = 0.02, value_name = "E")]
    epsilon: f64,
    /// Probability with which the certificate may be wrong
    #[arg(long, default_value_t = 0.05, value_name = "D")]
    delta: f64,
    /// Also certify this many sets drawn anew from the outcomes and count wrong certificates
    #[arg(long, value_name = "RUNS")]
    simulate: Option<u64>,
    /// Seed of the simulation
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs `understudy pilot certify`.
pub(super) async fn run(args: CertifyArgs, context: &Context) -> Result<()> {
    match (&args.task, &args.outcomes) {
        (Some(task), _) => certify_task(task, &args, context).await,
        (None, Some(outcomes)) => certify(outcomes, &args, context.json),
        (None, None) => Err(Error::invalid("certify: --task names a task, --outcomes a file of recorded outcomes")),
    }
}

/// Certifies a task's small model on the task's recorded traffic. A running gateway takes the certificate in.
async fn certify_task(name: &str, args: &CertifyArgs, context: &Context) -> Result<()> {
    let config = context.config()?;
    let Some(task) = config.tasks.iter().find(|task| task.spec.name.as_str() == name) else {
        let file = context.config_path.display();
        return Err(Error::not_found(format!("certify task `{name}`: {file} has no [task.{name}]")));
    };
    let options = StoreOptions { durability: config.store.durability, ..StoreOptions::default() };
    let store = Store::open_existing(&config.store.path, options)?;
    let clock = Arc::new(SystemClock::new());
    let composer = Composer::new(clock.clone(), Seed(args.seed))?;
    let bar = terminal::progress(0, "judging held-out requests");
    let certified =
        learning::certify_from_traffic(&store, &task.spec, &composer, &config.models_dir, clock.now(), &bar).await;
    bar.finish_and_clear();
    let Certification { report, items, terms } = certified?;
    show(&report, &terms);
    let simulation = args.simulate.map(|runs| simulated(&items, &terms, args.seed, runs)).transpose()?;
    if context.json { terminal::json(&object(&report, simulation.as_ref())) } else { Ok(()) }
}

/// Certifies on recorded outcomes and, if asked, simulates certificates over the same outcomes.
fn certify(file: &Path, args: &CertifyArgs, json: bool) -> Result<()> {
    let outcomes = compose::read_outcomes(file)?;
    let (items, loss) = from_outcomes(&outcomes, &args.small, &args.large)?;
    let terms = Terms {
        task: outcomes[0].task.as_str().into(),
        small: args.small.as_str().into(),
        // There is no artifact behind a recording; the name stands for the model.
        small_hash: sha256_hex(args.small.as_bytes()),
        large: args.large.as_str().into(),
        epsilon: args.epsilon,
        delta: args.delta,
        loss,
        issued: SystemClock::new().now(),
    };
    let report = understudy_pilot::certify(&items, &terms, &Grid::default())?;
    show(&report, &terms);
    let simulation = args.simulate.map(|runs| simulated(&items, &terms, args.seed, runs)).transpose()?;
    if json { terminal::json(&object(&report, simulation.as_ref())) } else { Ok(()) }
}

fn simulated(items: &[Item], terms: &Terms, seed: u64, runs: u64) -> Result<Simulation> {
    let plan = Plan { n: items.len() as u64, runs, epsilon: terms.epsilon, delta: terms.delta, seed: Seed(seed) };
    let out = simulate(items, &plan, &Grid::default())?;
    terminal::heading("Simulation");
    let share = out.violation_share;
    say(format!(
        "{runs} calibration sets of {} items drawn from these outcomes: {} certificates, {} of them wrong ({}, 95 % \
         interval {} to {}; allowed {})",
        plan.n,
        out.certified,
        out.violations,
        percent(share.estimate),
        percent(share.low),
        percent(share.high),
        percent(terms.delta)
    ));
    say(format!("kept on average {}, by the best fixed threshold {}", percent(out.kept), percent(out.kept_best_fixed)));
    Ok(out)
}

/// Shows a certification to a person.
pub(crate) fn show(report: &Report, terms: &Terms) {
    match &report.verdict {
        Verdict::Certified(c) => {
            say(terminal::verdict(
                &format!("certified: {} may answer {} of the requests", c.small, percent(c.kept)),
                true,
            ));
            let rows = [
                ("threshold", format!("confidence ≥ {:.6}", c.threshold.get())),
                (
                    "loss",
                    format!(
                        "{} of {} items; at most {} at {} confidence",
                        c.losses,
                        c.n,
                        percent(c.bound),
                        percent(1.0 - c.delta)
                    ),
                ),
                ("allowed", percent(c.epsilon)),
                ("against", c.large.to_string()),
                ("data", c.data_hash[..16].to_owned()),
                ("certificate", c.id.clone()),
            ];
            say(table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value])));
            say("It speaks about traffic like these items, and about nothing else.");
        }
        Verdict::NotCertified(refusal) => {
            say(terminal::verdict(&format!("not certified: {}", terms.small), false));
            say(&refusal.reason);
        }
    }
}

fn object(report: &Report, simulation: Option<&Simulation>) -> serde_json::Value {
    let (examples_needed, reason) = match &report.verdict {
        Verdict::Certified(_) => (None, None),
        Verdict::NotCertified(refusal) => (refusal.examples_needed, Some(refusal.reason.as_str())),
    };
    json!({
        "certificate": report.certificate(),
        "n": report.n,
        "reason": reason,
        "examples_needed": examples_needed,
        "violations": simulation.map(|s| s.violations),
        "runs": simulation.map(|s| s.plan.runs),
        "kept": simulation.map(|s| s.kept).or(report.certificate().map(|c| c.kept)),
        "kept_best_fixed": simulation.map(|s| s.kept_best_fixed),
    })
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
