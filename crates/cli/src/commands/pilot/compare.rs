//! `understudy pilot compare`: several models on the same rows, against a baseline or from the largest down.

mod page;

use crate::commands::Context;
use crate::{
    compose,
    report::ReportArg,
    terminal::{self, percent, say, table},
};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use understudy_core::{Error, Result, Seed};
use understudy_pilot::{
    compare::models::{self, Comparison, Options, Row, Standing},
    metrics::Metric,
    stepdown::{self, Step, StepDown, Trade},
};

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Recorded outcomes or the result of `pilot run`, one JSON object a line; `.zst` is unpacked
    #[arg(long, value_name = "FILE")]
    outcomes: PathBuf,
    /// The models, separated by commas, for --step-down the largest first; all of the file when left out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    models: Vec<String>,
    /// The model the others are held against; the dearest, else the best, when left out
    #[arg(long, value_name = "NAME", conflicts_with = "step_down")]
    baseline: Option<String>,
    /// Loss of quality that would not matter
    #[arg(long, value_name = "M", default_value_t = 0.02)]
    margin: f64,
    /// Largest chance of a wrong claim
    #[arg(long, value_name = "D", default_value_t = 0.05)]
    delta: f64,
    /// Start at the largest model and go smaller until the margin breaks
    #[arg(long)]
    step_down: bool,
    /// With --step-down: accept this loss instead of the margin …
    #[arg(long, value_name = "X", requires = "step_down")]
    accept_loss: Option<f64>,
    /// … where the model is this many times faster than the largest (median latency)
    #[arg(long, value_name = "TIMES", requires = "accept_loss")]
    for_speedup: Option<f64>,
    /// … or this many times cheaper (mean cost)
    #[arg(long, value_name = "TIMES", requires = "accept_loss")]
    for_saving: Option<f64>,
    /// The task is critical (health, safety): trade no quality, whatever is asked above
    #[arg(long)]
    critical: bool,
    /// Seed of resampling
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    report: ReportArg,
}

/// Runs `understudy pilot compare`.
pub(super) fn run(args: &CompareArgs, context: &Context) -> Result<()> {
    args.report.check()?;
    let outcomes = compose::read_outcomes(&args.outcomes)?;
    let options = Options {
        baseline: args.baseline.clone(),
        models: args.models.clone(),
        margin: args.margin,
        delta: args.delta,
        seed: Seed(args.seed),
    };
    if args.step_down {
        let trade = args.accept_loss.map(|accept_loss| Trade {
            accept_loss,
            for_speedup: args.for_speedup,
            for_saving: args.for_saving,
        });
        let found = stepdown::step_down(&outcomes, &options, trade, args.critical)?;
        show_steps(&found, args);
        let object = with_n(&found, outcomes.len())?;
        args.report.write(|| page::step_down(&found, args.delta), &object)?;
        crate::commands::finish(context, &object)
    } else {
        let found = models::against_baseline(&outcomes, &options)?;
        show(&found);
        let object = with_n(&found, outcomes.len())?;
        args.report.write(|| page::comparison(&found), &object)?;
        crate::commands::finish(context, &object)
    }
}

fn with_n(found: &impl serde::Serialize, n: usize) -> Result<serde_json::Value> {
    let mut object = serde_json::to_value(found).map_err(|e| Error::internal(format!("write JSON: {e}")))?;
    object["n"] = json!(n);
    Ok(object)
}

fn show(found: &Comparison) {
    terminal::heading(&format!("Against {}, margin {}", found.baseline, points(found.margin)));
    let rows = found.order.iter().map(|name| {
        let row = &found.models[name];
        let mut cells = vec![name.clone(), interval(&row.quality), cost(row), latency(row)];
        match &row.against {
            Some(a) => cells.extend([
                difference(&a.difference),
                p(a.p_different_holm),
                p(a.p_not_inferior_holm),
                verdict(a.standing),
            ]),
            None => cells.extend(["".into(), "".into(), "".into(), "baseline".into()]),
        }
        cells
    });
    let header = ["model", "quality (95 %)", "USD/1k", "ms p50", "difference (95 %)", "p equal", "p loss", "verdict"];
    say(table(&header, &[1, 2, 3, 4, 5, 6], rows));
    say(format!(
        "p equal: exact McNemar (sign flips for graded qualities); p loss: score test against a loss of {} or more. Both \
         corrected for {} models (Holm); a claim is wrong with probability {} at most.",
        points(found.margin),
        found.order.len() - 1,
        percent(found.delta)
    ));
}

fn show_steps(found: &StepDown, args: &CompareArgs) {
    let largest = found.steps.first().map_or("", |step| step.model.as_str());
    let held = found.recommended != largest;
    let line = match &found.difference {
        Some(d) => format!("recommended: {} ({} against {largest})", found.recommended, difference(d)),
        None => format!("no smaller model is shown to hold: stay with {largest}"),
    };
    say(terminal::verdict(&line, held));
    let rows = found.steps.iter().map(|step| {
        let against = step.against.as_ref();
        vec![
            step.model.clone(),
            interval(&step.row.quality),
            times(step.speedup),
            times(step.saving),
            against.map_or_else(String::new, |a| difference(&a.difference)),
            points(step.allowed_loss),
            against.map_or_else(String::new, |a| p(a.p_not_inferior)),
            held_words(step, largest),
        ]
    });
    let header = ["model", "quality (95 %)", "faster", "cheaper", "difference (95 %)", "allowed", "p loss", ""];
    say(table(&header, &[1, 2, 3, 4, 5, 6], rows));
    if let Some(why) = &found.trade_refused {
        say(why);
    }
    say(format!(
        "Tested in this order, each at {}, until the first that does not hold: no correction is needed.",
        percent(args.delta)
    ));
}

fn held_words(step: &Step, largest: &str) -> String {
    match step.holds {
        _ if step.model == largest => "the largest".into(),
        Some(true) => "holds".into(),
        Some(false) => match step.against.as_ref().map(|a| a.standing) {
            Some(Standing::Undecided { examples_needed: Some(more) }) => format!("not shown; {more} more might decide"),
            Some(Standing::Inferior) => "breaks the margin".into(),
            _ => "not shown".into(),
        },
        None => "not tested".into(),
    }
}

fn verdict(standing: Standing) -> String {
    match standing {
        Standing::Better => "better".into(),
        Standing::NotInferior => "not inferior".into(),
        Standing::Inferior => "inferior".into(),
        Standing::Undecided { examples_needed: Some(more) } => format!("undecided; {more} more might decide"),
        Standing::Undecided { examples_needed: None } => "undecided; too near the margin".into(),
    }
}

fn interval(metric: &Metric) -> String {
    format!("{:.1} ({:.1}…{:.1})", metric.estimate * 100.0, metric.low * 100.0, metric.high * 100.0)
}

fn difference(metric: &Metric) -> String {
    format!("{:+.1} ({:+.1}…{:+.1})", metric.estimate * 100.0, metric.low * 100.0, metric.high * 100.0)
}

fn points(share: f64) -> String {
    format!("{:.1} points", share * 100.0)
}

fn p(value: f64) -> String {
    if value < 0.0001 { "<.0001".into() } else { format!("{value:.4}") }
}

fn cost(row: &Row) -> String {
    row.cost_usd_mean.map_or_else(|| "–".into(), |usd| format!("{:.3}", usd * 1000.0))
}

fn latency(row: &Row) -> String {
    row.latency_ms_p50.map_or_else(|| "–".into(), |ms| format!("{ms:.0}"))
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".into(), |ratio| format!("{ratio:.1}×"))
}
