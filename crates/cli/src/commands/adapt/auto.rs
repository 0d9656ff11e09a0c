//! `understudy adapt auto`: which kind of model is enough?

use super::{DtypeArg, rows::read_examples};
use crate::{
    clock::SystemClock,
    commands::Context,
    ladder::{self, Ladder, LadderOptions, Rung},
    terminal::{self, percent},
    training::TrainOptions,
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_core::{Clock, Error, Result, Seed, TaskName};
use understudy_model::{catalogue::Kind, installed};

#[derive(Debug, Args)]
pub(crate) struct AutoArgs {
    /// Labelled examples; a part of them only certifies
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field or column that holds the label [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    label: Option<String>,
    /// Folder of the models; a ladder that was left goes on there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The task the models are for
    #[arg(long)]
    task: Option<String>,
    /// Kinds of models to try
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Step::ALL)]
    rungs: Vec<Step>,
    /// Encoders to build on [default: all that are installed]
    #[arg(long, value_delimiter = ',', value_name = "MODEL")]
    bases: Vec<String>,
    /// Seconds to train each; on fewer examples where there is no time for all
    #[arg(long, default_value_t = 600, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    budget: u64,
    /// Largest allowed share of requests that are answered otherwise than the labels
    #[arg(long, default_value_t = 0.01, value_name = "E")]
    epsilon: f64,
    /// Probability with which any of the certificates may be wrong
    #[arg(long, default_value_t = 0.05, value_name = "D")]
    delta: f64,
    /// Share of the texts that only certify
    #[arg(long, default_value_t = 0.4, value_name = "SHARE")]
    certify_share: f64,
    /// Share of requests that a cheaper model may keep less than the best
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    slack: f64,
    /// Number type of the encoders
    #[arg(long, value_enum, default_value_t = DtypeArg::Int8)]
    dtype: DtypeArg,
    /// Tokens after which texts are cut
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=8192))]
    max_tokens: u32,
    /// Seed of divisions and of training
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads of the encoders; 0 uses all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

impl AutoArgs {
    /// The folder that it writes.
    pub(super) fn out(&self) -> &Path {
        &self.out
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Words and pieces of words
    Words,
    /// Static embeddings of each encoder
    Static,
    /// A head on each frozen encoder
    Head,
    /// Adapters on each encoder
    Lora,
    /// Each encoder trained whole
    Full,
}

impl Step {
    /// From cheap to dear.
    const ALL: [Self; 5] = [Self::Words, Self::Static, Self::Head, Self::Lora, Self::Full];
}

/// Runs `understudy adapt auto`.
pub(super) async fn run(args: AutoArgs, context: &Context) -> Result<()> {
    let share = |name: &str, x: f64| match x > 0.0 && x < 1.0 {
        true => Ok(()),
        false => Err(Error::invalid(format!("climb the ladder: --{name} lies between 0 and 1")).with_param(name)),
    };
    share("epsilon", args.epsilon)?;
    share("delta", args.delta)?;
    share("certify-share", args.certify_share)?;
    let examples = read_examples(&args.data, args.text.as_deref(), args.label.as_deref())?;
    let options = LadderOptions {
        train: TrainOptions {
            models_dir: context.models_dir.clone(),
            task: args.task.as_deref().map(TaskName::from),
            dtype: args.dtype.into(),
            max_tokens: args.max_tokens,
            seed: Seed(args.seed),
            threads: args.threads,
            created: SystemClock::new().now(),
            ..TrainOptions::default()
        },
        rungs: rungs(&args, context)?,
        budget: Duration::from_secs(args.budget),
        certify_share: args.certify_share,
        epsilon: args.epsilon,
        delta: args.delta,
        slack: args.slack,
    };
    let ladder = ladder::climb(examples, &options, &args.out).await?;
    show(&ladder, &options);
    let result = json!({
        "pick": ladder.pick, "artifact": ladder.pick.as_ref().map(|pick| args.out.join(pick)),
        "n_train": ladder.n_train, "n_certify": ladder.n_certify, "epsilon": args.epsilon, "delta": args.delta,
        "rungs": ladder.rungs,
    });
    crate::commands::finish(context, &result)
}

/// From cheap to dear: first by kind, then by the size of the encoder.
fn rungs(args: &AutoArgs, context: &Context) -> Result<Vec<Rung>> {
    let mut bases = args.bases.clone();
    if bases.is_empty() {
        let mut encoders: Vec<(u64, String)> = installed::all(&context.models_dir)?
            .into_iter()
            .filter(|model| model.kind == Kind::Encoder)
            .map(|model| (model.files.iter().map(|file| file.size).sum(), model.name))
            .collect();
        encoders.sort();
        bases = encoders.into_iter().map(|(_, name)| name).collect();
    }
    let mut rungs = Vec::new();
    for step in Step::ALL.into_iter().filter(|step| args.rungs.contains(step)) {
        match step {
            Step::Words => rungs.push(Rung::Words),
            Step::Static => rungs.extend(bases.iter().cloned().map(Rung::Static)),
            Step::Head => rungs.extend(bases.iter().cloned().map(Rung::Head)),
            Step::Lora => rungs.extend(bases.iter().cloned().map(Rung::Lora)),
            Step::Full => rungs.extend(bases.iter().cloned().map(Rung::Full)),
        }
    }
    if rungs.is_empty() {
        return Err(Error::invalid(
            "climb the ladder: no encoder is installed (`understudy pull minilm`), and words are not among --rungs",
        ));
    }
    Ok(rungs)
}

fn show(ladder: &Ladder, options: &LadderOptions) {
    let rows = ladder.rungs.iter().map(|r| {
        let accuracy = r.accuracy.map_or_else(|| "–".to_owned(), |a| percent(a.estimate));
        let verdict = match &r.refusal {
            Some(reason) => reason.clone(),
            None if Some(&r.rung) == ladder.pick.as_ref() => "wins".to_owned(),
            None if r.on_frontier => "on the frontier".to_owned(),
            None => "beaten on all three".to_owned(),
        };
        vec![
            r.rung.clone(),
            percent(r.kept),
            accuracy,
            format!("{:.0}", r.us_per_text),
            format!("{:.1}", r.memory_mb),
            format!("{:.0}", r.seconds),
            r.examples.to_string(),
            verdict,
        ]
    });
    let header = ["model", "kept", "accuracy", "µs/text", "MB", "s", "examples", ""];
    terminal::say(terminal::table(&header, &[1, 2, 3, 4, 5, 6], rows));
    terminal::note(format_args!(
        "  kept: share it may answer with at most {} answered otherwise than the labels; all certificates hold together \
         with probability {}; {} texts trained, {} certified",
        percent(options.epsilon),
        1.0 - options.delta,
        ladder.n_train,
        ladder.n_certify
    ));
    let Some(winner) = ladder.rungs.iter().find(|r| Some(&r.rung) == ladder.pick.as_ref()) else {
        terminal::say("  none may answer anything yet");
        return;
    };
    for other in ladder.rungs.iter().filter(|r| r.rung != winner.rung && r.kept > 0.0) {
        terminal::say(format_args!(
            "  {} keeps {:+.1} points against {} at {:.2}× its time",
            winner.rung,
            100.0 * (winner.kept - other.kept),
            other.rung,
            winner.us_per_text / other.us_per_text.max(1e-9)
        ));
    }
}
