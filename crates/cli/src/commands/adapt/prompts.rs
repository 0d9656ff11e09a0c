//! `understudy adapt prompts`: which instruction and which examples make a model answer best? Candidates race on a part
//! of the rows; the winner is held against the starting prompt on rows that had no part in the race, and taken only where
//! it is better there.

mod asking;
mod material;
mod show;

use crate::{
    clock::SystemClock,
    commands::{
        Context,
        pilot::{data::FieldArgs, run::TaskArg},
        unless_interrupted,
    },
    compose::Composer,
    contenders::Contenders,
    terminal::{note, progress},
};
use asking::{Asking, Limits};
use clap::Args;
use material::Material;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use understudy_core::{Clock, Error, Money, Result, Seed, hash::sha256_hex};
use understudy_dataset::write::write_file;
use understudy_pilot::{
    compare::models::Standing,
    prompts::{
        Example, FIXED, Prompt, WORDS,
        examples::{Examples, Pool},
        race::{Entrant, Reply, Stop},
        search::{Found, Search},
        verdict::{self, Measured},
        wording::{Wording, variants},
    },
    run::{Journal, Plan, Prompting, journal::Header, numbers},
};

/// Loss that the paired tests call none; it decides nothing here.
const MARGIN: f64 = 0.02;

#[derive(Debug, Args)]
pub(crate) struct PromptsArgs {
    /// Rows that say what is right: examples come from some, candidates race on others, the rest tests the winner. A file
    /// (.jsonl, .csv, .tsv, .parquet, also .zst or .gz), or `task:NAME` for a task's recorded traffic
    #[arg(long, value_name = "FILE")]
    data: String,
    #[command(flatten)]
    fields: FieldArgs,
    /// The model to ask: an installed generative model, a trained one's folder, or a model of the configuration
    #[arg(long, short, value_name = "NAME")]
    model: String,
    /// What is asked of it
    #[arg(long, value_enum, default_value_t = TaskArg::Classify)]
    task: TaskArg,
    /// Rows that test [default: 30 % of --data, by content]
    #[arg(long, value_name = "FILE")]
    test: Option<String>,
    /// An instruction to try; the first one given is the one to beat [default to beat: the task's own]
    #[arg(long = "instruction", value_name = "TEXT")]
    instructions: Vec<String>,
    /// More instructions, separated by empty lines
    #[arg(long = "instructions", value_name = "FILE")]
    instructions_file: Option<PathBuf>,
    /// Try only the instructions given, no variants of our own
    #[arg(long)]
    only_given: bool,
    /// Numbers of examples to try
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_values_t = [0, 2, 4, 8])]
    shots: Vec<usize>,
    /// How examples are picked: `fixed` searches sets that are always shown, `words` picks for each text those that share
    /// words with it, an installed encoder such as minilm those that are close
    #[arg(long, value_name = "HOW,…", value_delimiter = ',', default_values = [FIXED, WORDS])]
    shots_by: Vec<String>,
    /// Fixed sets that are drawn of each size
    #[arg(long, default_value_t = 6, value_name = "N")]
    sets: usize,
    /// Rows that examples are picked from, at most
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pool: usize,
    /// Rows to race on, at most
    #[arg(long, default_value_t = 128, value_name = "N")]
    rows: usize,
    /// Rows that test, at most; each is asked twice
    #[arg(long, default_value_t = 300, value_name = "N")]
    test_rows: usize,
    /// Requests of the race, at most
    #[arg(long, default_value_t = 3000, value_name = "N")]
    calls: usize,
    /// Minutes after which the race ends; with it, the same seed may give another prompt [default: no limit]
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
    /// Never spend more than this; what was answered until then is kept
    #[arg(long, value_name = "USD")]
    max_cost_usd: Option<f64>,
    /// Probability with which a prompt that is no better may be taken
    #[arg(long, default_value_t = 0.05, value_name = "D")]
    delta: f64,
    /// Longest answer in tokens
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_tokens: u32,
    /// Requests at a time [default: 4 for local models, 8 for others]
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Requests a minute at most
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Seed of the division, of sets and of intervals
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder of prompt.json and search.json; a search that broke off goes on there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What the search and the test found.
struct Outcome {
    wordings: Vec<Wording>,
    found: Found,
    /// Of each entrant on the rows of the race.
    raced: Vec<Option<Measured>>,
    /// Of the first prompt and, if another one won, of that, on the rows that test.
    tested: Vec<Option<Measured>>,
    /// Whether the winner is better there.
    better: bool,
    spent: Money,
}

impl Outcome {
    /// The entrant to take.
    fn taken(&self) -> &Entrant {
        &self.found.entrants[if self.better { self.found.best } else { 0 }]
    }
}

/// Runs `understudy adapt prompts`.
pub(super) async fn run(args: PromptsArgs, context: &Context) -> Result<()> {
    check(&args)?;
    let clock = Arc::new(SystemClock::new());
    let seed = Seed(args.seed);
    let material = Material::open(&args, context).await?;
    let plan = Plan {
        task: material.task,
        labels: material.labels.clone(),
        range: numbers::range(&material.race, material.task),
        out_of_scope: None,
        instruction: None,
        shots: 0,
        shots_by: WORDS.to_owned(),
        max_tokens: args.max_tokens,
        max_cost_usd: args.max_cost_usd,
        per_minute: args.rate,
        stop_early: None,
        sampled: None,
    };
    let wordings = wordings(&args, &plan, &material)?;
    let about = json!({ "data": material.hash, "task": plan.task, "labels": plan.labels, "max_tokens": plan.max_tokens,
        "seed": seed, "pool": args.pool, "shots_by": args.shots_by });
    let mut journal = Journal::open(&args.out, &Header { inputs: sha256_hex(about.to_string().as_bytes()) })?;
    if !journal.is_empty() {
        note(format_args!("  going on in {}: {} answers are there already", args.out.display(), journal.len()));
    }
    let composer = Composer::new(clock.clone(), seed)?;
    let contenders = Contenders {
        context,
        composer: &composer,
        task: material.task,
        labels: &material.labels,
        train: &material.pool,
        dir: args.out.join("models"),
        seed,
        created: clock.now(),
        concurrency: args.concurrency,
        limited: true,
    };
    let model = contenders.find(&args.model).await?;
    if model.prompting == Prompting::Bare {
        return Err(Error::invalid(format!(
            "search prompts for `{}`: it reads none; name a generative model",
            args.model
        ))
        .with_param("model"));
    }
    plan.check(std::slice::from_ref(&model))?;
    let search = Search {
        instructions: wordings.len(),
        shots: args.shots.clone(),
        shots_by: args.shots_by.clone(),
        sets: args.sets,
        pool: Pool::of(&material.pool, material.task),
        rows: material.race.len(),
        calls: args.calls,
        seed,
    };
    let mut asking = Asking {
        plan,
        model,
        wordings: &wordings,
        pool: &material.pool,
        similar: similar(&args, &contenders, &material).await?,
        clock: clock.clone(),
        spent: Money::from_usd(journal.cost_usd())?,
        journal: &mut journal,
        limits: limits(&args, &material, clock.as_ref()),
        dearest_usd: 0.0,
    };
    let bar = progress(args.calls as u64, &format!("racing prompts for {}", args.model));
    let race = search.run(async |entrant: &Entrant, rows: std::ops::Range<usize>| {
        asking.ask(entrant, &material.race[rows], &bar).await
    });
    let found = unless_interrupted("the search", race).await;
    bar.finish_and_clear();
    let found = found?;
    let (tested, better) = unless_interrupted("the test", test(&args, &mut asking, &found, &material)).await?;
    let raced = verdict::measure(&verdict::scores(&found.entrants), MARGIN, args.delta, seed)?;
    let spent = asking.spent;
    let outcome = Outcome { wordings, found, raced, tested, better, spent };
    let prompt = prompt(&outcome, &material)?;
    let result = show::result(&args, &material, &outcome, &prompt);
    write(&args.out.join("prompt.json"), &prompt.to_json())?;
    write(&args.out.join("search.json"), format!("{result:#}\n").as_bytes())?;
    show::people(&args, &material, &outcome);
    crate::commands::finish(context, &result)
}

fn check(args: &PromptsArgs) -> Result<()> {
    let wrong =
        |what: &str, param: &'static str| Err(Error::invalid(format!("search prompts: {what}")).with_param(param));
    if !(args.delta > 0.0 && args.delta < 1.0) {
        return wrong("--delta lies between 0 and 1", "delta");
    }
    if args.minutes.is_some_and(|minutes| !(minutes > 0.0 && minutes.is_finite())) {
        return wrong("--minutes is a positive number", "minutes");
    }
    if args.shots.iter().any(|k| *k > 64) {
        return wrong("--shots goes up to 64", "shots");
    }
    if args.sets == 0 || args.sets > 100 {
        return wrong("--sets lies between 1 and 100", "sets");
    }
    if args.instructions.iter().any(|text| text.trim().is_empty()) {
        return wrong("an --instruction is empty", "instruction");
    }
    Ok(())
}

/// The instructions to try, the one to beat first.
fn wordings(args: &PromptsArgs, plan: &Plan, material: &Material) -> Result<Vec<Wording>> {
    let mut given = args.instructions.clone();
    if let Some(file) = &args.instructions_file {
        let text = std::fs::read_to_string(file)
            .map_err(|e| Error::not_found(format!("read the instructions {}: {e}", file.display())))?;
        let text = text.replace("\r\n", "\n");
        given.extend(text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()).map(str::to_owned));
    }
    if args.only_given && given.is_empty() {
        let what = "search prompts: --only-given needs an --instruction, or a file of --instructions";
        return Err(Error::invalid(what).with_param("only-given"));
    }
    let given = (1..).zip(given).map(|(n, text): (usize, String)| Wording { name: format!("given {n}"), text });
    let own = if args.only_given { Vec::new() } else { variants(plan, &material.pool) };
    let mut all: Vec<Wording> = Vec::new();
    for wording in given.chain(own) {
        if !all.iter().any(|other| other.text == wording.text) {
            all.push(wording);
        }
    }
    Ok(all)
}

async fn similar<'m>(
    args: &PromptsArgs,
    contenders: &Contenders<'_>,
    material: &'m Material,
) -> Result<Vec<(String, understudy_pilot::run::shots::Shots<'m>)>> {
    let rows: Vec<_> = material.race.iter().chain(&material.test).collect();
    let mut similar = Vec::new();
    for by in args.shots_by.iter().filter(|by| by.as_str() != FIXED) {
        similar.push((by.clone(), contenders.shots_of(&material.pool, by, &rows).await?));
    }
    Ok(similar)
}

/// Those of the race: the money for the test is kept back.
fn limits(args: &PromptsArgs, material: &Material, clock: &dyn Clock) -> Limits {
    Limits {
        until: args.minutes.map(|minutes| clock.monotonic() + Duration::from_secs_f64(60.0 * minutes)),
        max_usd: args.max_cost_usd,
        kept_back: 2 * material.test.len(),
    }
}

/// Asks the first prompt and the winner about the rows that test.
async fn test(
    args: &PromptsArgs,
    asking: &mut Asking<'_>,
    found: &Found,
    material: &Material,
) -> Result<(Vec<Option<Measured>>, bool)> {
    asking.limits = Limits { until: None, kept_back: 0, ..asking.limits };
    let both = if found.best == 0 { vec![0] } else { vec![0, found.best] };
    let bar = progress((both.len() * material.test.len()) as u64, "testing");
    let mut scores = Vec::new();
    for &entrant in &both {
        match asking.ask(&found.entrants[entrant], &material.test, &bar).await? {
            Reply::Scores(answered) => scores.push(answered),
            Reply::Failed(why) => return Err(Error::unavailable(format!("test the prompt that won: {why}"))),
            Reply::Stopped(Stop::Cost) => {
                return Err(Error::invalid(
                    "test the prompt that won: the money is spent; the same command with a higher --max-cost-usd goes on",
                )
                .with_param("max-cost-usd"));
            }
            Reply::Stopped(_) => return Err(Error::internal("test the prompt that won: it was stopped")),
        }
    }
    bar.finish_and_clear();
    let scores: Vec<&[_]> = scores.iter().map(Vec::as_slice).collect();
    let tested = verdict::measure(&scores, MARGIN, args.delta, Seed(args.seed).derive("test"))?;
    let against = tested.get(1).and_then(|m| m.as_ref()?.against.as_ref());
    let better = against.is_some_and(|against| against.standing == Standing::Better);
    Ok((tested, better))
}

/// What was found, as other commands take it.
fn prompt(outcome: &Outcome, material: &Material) -> Result<Prompt> {
    let taken = outcome.taken();
    let example = |at: usize| {
        let row = &material.pool[at];
        Example { text: row.text.clone(), answer: row.gold().unwrap_or_default().to_owned() }
    };
    let (by, examples): (&str, Vec<Example>) = match &taken.examples {
        Examples::None => (FIXED, Vec::new()),
        Examples::Similar { by, .. } => (by, (0..material.pool.len()).map(example).collect()),
        Examples::Set(set) => (FIXED, set.iter().copied().map(example).collect()),
    };
    let instruction = outcome.wordings[taken.instruction].text.clone();
    let shots = taken.examples.count().min(examples.len());
    Prompt::new(material.task, material.labels.clone(), instruction, (shots, by.to_owned()), examples)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_file(path, |file| std::io::Write::write_all(file, bytes))
}
