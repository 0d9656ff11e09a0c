//! `understudy pilot certify`: how much of a task's traffic may the small model answer?

mod family;
mod page;

use crate::commands::Context;
use crate::{
    clock::SystemClock,
    compose::{self, Composer},
    learning::{self, Certification},
    report::ReportArg,
    terminal,
    terminal::{say, table},
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::{path::PathBuf, sync::Arc};
use understudy_core::{Clock, Error, LossKind, Outcome, Per, Result, Seed, hash::sha256_hex};
use understudy_pilot::{
    Grid, Loss, Report, Rule, Scored, Simulation, Terms, Verdict, certify_scored, scored_from_outcomes, simulate::Plan,
    simulate_scored,
};
use understudy_store::{Store, StoreOptions};

#[derive(Debug, Args)]
pub(crate) struct CertifyArgs {
    /// A task of the configuration: its small model on its recorded traffic
    #[arg(long, value_name = "NAME", conflicts_with_all = ["outcomes", "epsilon", "delta", "loss", "per", "by_task"])]
    task: Option<String>,
    /// Recorded outcomes, one JSON object a line; `.zst` is unpacked. Several files are several tasks
    #[arg(long, value_name = "FILE", required_unless_present = "task", requires_all = ["small", "large"])]
    outcomes: Vec<PathBuf>,
    /// The small model's name in the outcomes
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    small: String,
    /// The large model's name in the outcomes
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    large: String,
    /// Largest allowed expected loss
    #[arg(long, default_value_t = 0.02, value_name = "E")]
    epsilon: f64,
    /// Probability with which the certificate, or any of several, may be wrong
    #[arg(long, default_value_t = 0.05, value_name = "D")]
    delta: f64,
    /// What a loss is
    #[arg(long, value_enum, default_value_t = LossArg::Auto)]
    loss: LossArg,
    /// What the loss is an average over
    #[arg(long, value_enum, default_value_t = PerArg::Request)]
    per: PerArg,
    /// Certify each `task` of the outcomes by itself, together wrong with probability at most delta
    #[arg(long)]
    by_task: bool,
    /// Also certify this many sets drawn anew from the outcomes and count wrong certificates
    #[arg(long, value_name = "RUNS")]
    simulate: Option<u64>,
    /// Seed of the simulation, and of the order in which graded losses are looked at
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    report: ReportArg,
}

/// What a loss is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LossArg {
    /// Regret when qualities are known, else disagreement
    Auto,
    /// Shortfall against the large model's quality, never below 0
    Regret,
    /// Large minus small quality: gains make up for losses
    Difference,
    /// The answers differ
    Disagreement,
}

impl From<LossArg> for Loss {
    fn from(loss: LossArg) -> Self {
        match loss {
            LossArg::Auto => Self::Auto,
            LossArg::Regret => Self::Regret,
            LossArg::Difference => Self::Difference,
            LossArg::Disagreement => Self::Disagreement,
        }
    }
}

/// What the loss is an average over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PerArg {
    /// All requests
    Request,
    /// The requests whose answer is kept
    Kept,
}

impl CertifyArgs {
    fn rule(&self) -> Rule {
        let per = match self.per {
            PerArg::Request => Per::Request,
            PerArg::Kept => Per::Kept,
        };
        Rule { per, order: Seed(self.seed) }
    }

    fn terms(&self, task: &str, loss: LossKind) -> Terms {
        Terms {
            task: task.into(),
            small: self.small.as_str().into(),
            // There is no artifact behind a recording; the name stands for the model.
            small_hash: sha256_hex(self.small.as_bytes()),
            large: self.large.as_str().into(),
            epsilon: self.epsilon,
            delta: self.delta,
            loss,
            issued: SystemClock::new().now(),
        }
    }

    fn items(&self, outcomes: &[Outcome]) -> Result<(Vec<Scored>, LossKind)> {
        scored_from_outcomes(outcomes, &self.small, &self.large, self.loss.into())
    }
}

/// Runs `understudy pilot certify`.
pub(super) async fn run(args: CertifyArgs, context: &Context) -> Result<()> {
    args.report.check()?;
    if let Some(task) = &args.task {
        return certify_task(task, &args, context).await;
    }
    match args.outcomes.as_slice() {
        [] => Err(Error::invalid("certify: --task names a task, --outcomes a file of recorded outcomes")),
        [file] if !args.by_task => certify(&compose::read_outcomes(file)?, &args, context.json),
        _ if args.report.is_wanted() => {
            Err(Error::invalid("write the report: it shows one certificate; name one file, without --by-task"))
        }
        _ => family::run(&args, context.json),
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
    let certified = learning::certify_from_traffic(&store, task, &config, &composer, clock.now(), &bar).await;
    bar.finish_and_clear();
    let Certification { report, items, terms, selected, learned } = certified?;
    show(&report, &terms);
    if selected > 0 {
        say(format!(
            "Judged by {} requests. {selected} more were left out: a certificate was in force, so that the large model \
             got them by what the small one said.",
            items.len()
        ));
    }
    if learned > 0 {
        say(format!("Judged by {} requests. {learned} more were left out: the model learned from them.", items.len()));
    }
    let scored: Vec<Scored> = items.iter().map(Scored::from).collect();
    let simulation =
        args.simulate.map(|runs| simulated(&scored, &terms, Rule::default(), args.seed, runs)).transpose()?;
    let object = object(&report, simulation.as_ref());
    args.report.write(|| page::page(&report, &terms, Rule::default().per, simulation.as_ref()), &object)?;
    crate::commands::finish(context, &object)
}

/// Certifies on recorded outcomes and, if asked, simulates certificates over the same outcomes.
fn certify(outcomes: &[Outcome], args: &CertifyArgs, json: bool) -> Result<()> {
    let (items, loss) = args.items(outcomes)?;
    let terms = args.terms(&outcomes[0].task, loss);
    let rule = args.rule();
    let report = certify_scored(&items, &terms, rule, &Grid::default())?;
    show(&report, &terms);
    if let Some(Err(unwatched)) = report.certificate().map(understudy_core::Certificate::monitored) {
        say(format!("For recorded outcomes only; no gateway would {unwatched}."));
    }
    let simulation = args.simulate.map(|runs| simulated(&items, &terms, rule, args.seed, runs)).transpose()?;
    let object = object(&report, simulation.as_ref());
    args.report.write(|| page::page(&report, &terms, rule.per, simulation.as_ref()), &object)?;
    if json { terminal::json(&object) } else { Ok(()) }
}

fn simulated(items: &[Scored], terms: &Terms, rule: Rule, seed: u64, runs: u64) -> Result<Simulation> {
    let plan = Plan { n: items.len() as u64, runs, epsilon: terms.epsilon, delta: terms.delta, seed: Seed(seed) };
    let out = simulate_scored(items, terms.loss, rule.per, &plan, &Grid::default())?;
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
    say(format!(
        "kept on average {} (95 % interval {} to {}), by the best fixed threshold {}",
        percent(out.kept.estimate),
        percent(out.kept.low),
        percent(out.kept.high),
        percent(out.kept_best_fixed)
    ));
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
            let kept = kept_interval(c);
            let rows = [
                (
                    "kept",
                    format!("{} (95 % interval {} to {})", percent(c.kept), percent(kept.low), percent(kept.high)),
                ),
                ("threshold", format!("confidence ≥ {:.6}", c.threshold.get())),
                (
                    "loss",
                    format!(
                        "{}{} of {} items; at most {} of {} at {} confidence",
                        c.loss_sum.map_or_else(String::new, |sum| format!("{sum:.2} in ")),
                        c.losses,
                        c.n,
                        percent(c.bound),
                        if c.per == Per::Kept { "the kept answers" } else { "all requests" },
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

/// The kept share's exact interval. For this threshold; that it was chosen on the same items is not in it.
fn kept_interval(c: &understudy_core::Certificate) -> understudy_stats::Bound {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    let kept = (c.kept * c.n as f64).round() as u64;
    understudy_stats::binomial::interval(kept.min(c.n), c.n.max(1), 0.95)
}

fn object(report: &Report, simulation: Option<&Simulation>) -> serde_json::Value {
    let (examples_needed, reason) = match &report.verdict {
        Verdict::Certified(_) => (None, None),
        Verdict::NotCertified(refusal) => (refusal.examples_needed, Some(refusal.reason.as_str())),
    };
    json!({
        "certificate": report.certificate(),
        "n": report.n,
        "loss": report.certificate().map(|c| c.loss),
        "reason": reason,
        "examples_needed": examples_needed,
        "violations": simulation.map(|s| s.violations),
        "runs": simulation.map(|s| s.plan.runs),
        "kept": simulation.map(|s| s.kept.estimate).or(report.certificate().map(|c| c.kept)),
        "kept_interval": simulation.map(|s| s.kept).or(report.certificate().map(kept_interval))
            .map(|b| json!({ "low": b.low, "high": b.high })),
        "kept_best_fixed": simulation.map(|s| s.kept_best_fixed),
    })
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
