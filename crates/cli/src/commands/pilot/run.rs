//! `understudy pilot run`: any number of models on a data set, a verdict and a report.

pub(crate) mod data;
mod show;

use super::data::{FieldArgs, say_learned};
use crate::{
    clock::SystemClock,
    commands::{Context, unless_interrupted},
    compose::Composer,
    contenders::{Contenders, WORDS},
    terminal::{self, note},
};
use clap::{Args, ValueEnum};
use data::Material;
use futures_util::FutureExt;
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};
use understudy_core::{Clock, Error, Money, Result, Seed, hash::sha256_hex};
use understudy_dataset::Row;
use understudy_model::{catalogue::Kind, installed};
use understudy_pilot::{
    prompts::Prompt,
    report,
    run::{
        Candidate, Finding, Journal, Judged, Margin, Matches, Plan, Runner, Source, Task, figures, journal::Header,
        numbers, page, shots::Shots, verdict,
    },
};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The rows to measure on: a file (.jsonl, .csv, .tsv, .parquet, chat transcripts), or `task:NAME` for traffic
    #[arg(long, value_name = "FILE")]
    data: String,
    /// A model: an artifact's folder, an installed model (an encoder also as minilm:f32 or minilm:zero-shot), a model of
    /// the configuration, recorded:FILE#MODEL, or `words`. NAME@N tries it on N rows only. [default: words and what is
    /// installed]
    #[arg(long = "model", short, value_name = "NAME")]
    models: Vec<String>,
    /// What is asked of the models
    #[arg(long, value_enum, default_value_t = TaskArg::Classify)]
    task: TaskArg,
    /// Rows to learn from and to take examples from [default: half of --data, by content, where a model needs some]
    #[arg(long, value_name = "FILE")]
    train: Option<String>,
    #[command(flatten)]
    fields: FieldArgs,
    /// The label of what belongs to none of the others
    #[arg(long, value_name = "LABEL")]
    out_of_scope: Option<String>,
    /// Examples in each prompt of a generative model, picked for each row
    #[arg(long, default_value_t = 0, value_name = "K")]
    shots: usize,
    /// What makes an example similar: `words`, or an installed encoder such as minilm
    #[arg(long, default_value = WORDS, value_name = "words|MODEL", requires = "shots")]
    shots_by: String,
    /// Instructions in place of the task's own
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    /// A prompt that `adapt prompts` found: its instruction and its examples
    #[arg(long, value_name = "FILE", conflicts_with_all = ["instruction", "shots", "shots_by"])]
    prompt: Option<PathBuf>,
    /// Rows of every model at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Longest answer in tokens
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_tokens: u32,
    /// Let this model compare the answers of each model with the baseline's, each pair in both orders
    #[arg(long, value_name = "NAME")]
    judge: Option<String>,
    /// Rows that the judge sees of each model at most; each costs two requests
    #[arg(long, default_value_t = 200, value_name = "N", requires = "judge")]
    judge_rows: usize,
    /// Compare with this model [default: the best]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Largest loss of quality that is accepted
    #[arg(long, default_value_t = 0.02, value_name = "E")]
    epsilon: f64,
    /// Probability with which a certificate or an early stop may be wrong
    #[arg(long, default_value_t = 0.05, value_name = "D")]
    delta: f64,
    /// Stop asking a model as soon as its verdict against the baseline is certain
    #[arg(long)]
    stop_early: bool,
    /// Never spend more than this; what was answered until then is kept
    #[arg(long, value_name = "USD")]
    max_cost_usd: Option<f64>,
    /// Requests at a time [default: 1 for classifiers, 4 for local generative models, 8 for others]
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Requests a minute to each model at most
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Seed of the order, of divisions and of intervals
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder of the results; a run that broke off goes on there [default: pilot-DATA-DATE]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Open the report in a browser
    #[arg(long)]
    open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskArg {
    /// One label of a list; where rows list several labels, all that apply
    Classify,
    /// A number
    Regress,
    /// A JSON object from a text
    Extract,
    /// A shorter text
    Summarise,
    /// An answer to a question
    Answer,
    /// Free text
    Generate,
}

impl From<TaskArg> for Task {
    fn from(task: TaskArg) -> Self {
        match task {
            TaskArg::Classify => Self::Classify,
            TaskArg::Regress => Self::Regress,
            TaskArg::Extract => Self::Extract,
            TaskArg::Summarise => Self::Summarise,
            TaskArg::Answer => Self::Answer,
            TaskArg::Generate => Self::Generate,
        }
    }
}

/// Runs `understudy pilot run`.
pub(super) async fn run(args: RunArgs, context: &Context) -> Result<()> {
    let clock = Arc::new(SystemClock::new());
    let seed = Seed(args.seed);
    let material = Material::open(&args, Task::from(args.task), context).await?;
    let task = material.task;
    let prompt = args.prompt.as_deref().map(|file| prompt(file, task)).transpose()?;
    let found = prompt.as_ref();
    let mut plan = Plan {
        task,
        labels: material.labels.clone(),
        range: numbers::range(&material.rows, task),
        out_of_scope: args.out_of_scope.clone(),
        instruction: found.map_or_else(|| args.instruction.clone(), |found| found.told().map(str::to_owned)),
        shots: found.map_or(args.shots, |found| found.shots),
        shots_by: found.map_or_else(|| args.shots_by.clone(), |found| found.shots_by.clone()),
        max_tokens: args.max_tokens,
        max_cost_usd: args.max_cost_usd,
        per_minute: args.rate,
        stop_early: args.stop_early.then_some(Margin { epsilon: args.epsilon, delta: args.delta }),
        sampled: None,
    };
    if !(args.epsilon > 0.0 && args.epsilon < 1.0 && args.delta > 0.0 && args.delta < 1.0) {
        return Err(Error::invalid("run the pilot: --epsilon and --delta lie between 0 and 1"));
    }
    if let Some(outside) = &args.out_of_scope
        && !plan.labels.contains(outside)
    {
        let what = format!("run the pilot: no row has the out-of-scope label `{outside}`");
        return Err(Error::invalid(what).with_param("out-of-scope"));
    }
    let day = show::day(clock.now());
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("pilot-{}-{day}", material.stem)));
    let header = Header { inputs: inputs(&plan, found, &material, seed) };
    let mut journal = Journal::open(&out, &header)?;
    if !journal.is_empty() {
        note(format_args!("  going on in {}: {} answers are there already", out.display(), journal.len()));
    }
    let composer = Composer::new(clock.clone(), seed)?;
    let contenders = Contenders {
        context,
        composer: &composer,
        task,
        labels: &plan.labels,
        train: &material.train,
        // Heads belong to the rows they were fitted on.
        dir: out.join("models").join(&header.inputs[..12]),
        seed,
        created: clock.now(),
        concurrency: args.concurrency,
        limited: args.limit.is_some(),
    };
    let (mut candidates, mut learned) = (Vec::new(), BTreeMap::new());
    for wish in wishes(&args, task, &material, context)? {
        let candidate = contenders.find(&wish).await?;
        match say_learned(Path::new(&wish), &material.rows)? {
            0 => {}
            n => drop(learned.insert(candidate.name.clone(), n)),
        }
        candidates.push(candidate);
    }
    let judge = match &args.judge {
        Some(name) => Some(contenders.judge(name)?),
        None => None,
    };
    plan.check(&candidates)?;
    if let Some(judge) = &judge {
        plan.check(std::slice::from_ref(judge))?;
        if candidates.len() < 2 {
            return Err(Error::invalid("judge the answers: a judge compares; name at least two models with --model"));
        }
    }
    baseline_first(&mut candidates, args.baseline.as_deref())?;
    // The chance of a wrong verdict is shared out over the models, and each stops against the one that they are judged by.
    let others = candidates.len().saturating_sub(1).max(1) as f64;
    plan.stop_early = plan.stop_early.map(|margin| Margin { delta: margin.delta / others, ..margin });
    let first = candidates.first().filter(|_| args.stop_early).map(|first| first.name.clone());
    let baseline = args.baseline.clone().or(first);
    let spent = Money::from_usd(journal.cost_usd())?;
    let rows = material.order(seed, args.limit);
    let examples = found.map(Prompt::rows);
    let shots = match plan.shots {
        0 => None,
        _ => {
            let from = examples.as_deref().unwrap_or(&material.train);
            Some(contenders.shots_of(from, &plan.shots_by, &rows).await?)
        }
    };
    let (tried, spent) = ask(&plan, candidates, &rows, shots.as_ref(), &args, &mut journal, &clock, spent).await?;
    let margin = Margin { epsilon: args.epsilon, delta: args.delta };
    let finding = verdict::judge(&plan, &tried, baseline.as_deref(), margin, clock.now())?;
    let judged = match &judge {
        Some(judge) => {
            let baseline = finding.as_ref().map(|f| f.baseline.as_str()).or(args.baseline.as_deref());
            let baseline = baseline.unwrap_or(&tried[0].candidate.name);
            let matches = Matches { baseline, rows: args.judge_rows, seed };
            let mut runner = runner(&plan, &mut journal, &clock, spent);
            Some(ask_judge(&mut runner, judge, &tried, &matches).await?)
        }
        None => None,
    };
    let outcome = Outcome { tried, finding, judged };
    let setting = show::setting(&args, &material, &out, &plan, outcome.finding.as_ref(), clock.now());
    let mut result = show::result(&plan, &outcome, &setting, &out);
    result["learned_rows"] = json!(learned);
    write(&out, &plan, &outcome, &setting, &result)?;
    show::people(&plan, &outcome, &out);
    if args.open {
        show::open(&out.join("report.html"));
    }
    crate::commands::finish(context, &result)
}

/// What came of a run.
struct Outcome<'r> {
    tried: Vec<verdict::Tried<'r>>,
    finding: Option<Finding>,
    judged: Option<Judged>,
}

/// The models to try: those named, else the floor and what is installed and fits the task.
fn wishes(args: &RunArgs, task: Task, material: &Material, context: &Context) -> Result<Vec<String>> {
    if !args.models.is_empty() {
        return Ok(args.models.clone());
    }
    let mut wishes = Vec::new();
    if task == Task::Classify && !material.train.is_empty() {
        wishes.push(WORDS.to_owned());
    }
    let fits = |kind: Kind| kind == Kind::Generative || (kind == Kind::Encoder && task == Task::Classify);
    wishes.extend(installed::all(&context.models_dir)?.into_iter().filter(|m| fits(m.kind)).map(|m| m.name));
    note(format_args!("  trying {}; --model names others", wishes.join(", ")));
    Ok(wishes)
}

/// The baseline is asked first, so that the others can stop early against it.
fn baseline_first(candidates: &mut [Candidate], baseline: Option<&str>) -> Result<()> {
    let Some(name) = baseline else { return Ok(()) };
    let Some(at) = candidates.iter().position(|c| c.name == name) else {
        let names: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
        let what = format!("compare with `{name}`: it is not among the models tried ({})", names.join(", "));
        return Err(Error::invalid(what).with_param("baseline"));
    };
    candidates[..=at].rotate_right(1);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "what a run is about, each thing of its own kind")]
async fn ask<'m>(
    plan: &Plan,
    candidates: Vec<Candidate>,
    rows: &[&'m Row],
    shots: Option<&Shots<'_>>,
    args: &RunArgs,
    journal: &mut Journal,
    clock: &Arc<SystemClock>,
    mut spent: Money,
) -> Result<(Vec<verdict::Tried<'m>>, Money)> {
    let mut tried: Vec<verdict::Tried<'_>> = Vec::new();
    let mut baseline: Option<BTreeMap<String, f64>> = None;
    for candidate in candidates {
        let total = candidate.limit.unwrap_or(rows.len()).min(rows.len());
        let bar = terminal::progress(total as u64, &candidate.name);
        let mut runner = runner(plan, journal, clock, spent);
        let mut progress = |p: understudy_pilot::run::Progress| {
            bar.set_position(p.done as u64);
            if p.spent_usd > 0.0 {
                bar.set_message(format!("{} ${:.4}", candidate.name, p.spent_usd));
            }
        };
        let asked = runner.ask(&candidate, rows, shots, baseline.as_ref(), &mut progress);
        let answers = unless_interrupted("the pilot", asked).await?;
        spent = runner.spent;
        bar.finish_and_clear();
        if let Some(error) = &answers.first_error {
            note(format_args!(
                "  {}: {} requests failed; the first: failed to {error}",
                candidate.name, answers.failed
            ));
        }
        if answers.asked.is_empty() && matches!(candidate.source, Source::Recorded(_)) {
            return Err(Error::data(format!("try `{}`: the record answers none of these rows", candidate.name)));
        }
        let figures = figures(plan, &answers.asked, Seed(args.seed));
        if baseline.is_none() && plan.stop_early.is_some() {
            let quality = |a: &understudy_pilot::run::Asked<'_>| Some((a.row.id.clone(), a.answer.quality?));
            baseline = Some(answers.asked.iter().filter_map(quality).collect());
        }
        tried.push(verdict::Tried { candidate, answers, figures });
    }
    Ok((tried, spent))
}

fn runner<'a>(plan: &'a Plan, journal: &'a mut Journal, clock: &Arc<SystemClock>, spent: Money) -> Runner<'a> {
    Runner { plan, clock: clock.clone(), sleep: &|time| tokio::time::sleep(time).boxed(), journal, spent }
}

async fn ask_judge(
    runner: &mut Runner<'_>,
    judge: &Candidate,
    tried: &[verdict::Tried<'_>],
    matches: &Matches<'_>,
) -> Result<Judged> {
    let bar = terminal::progress(0, &format!("judge {}", judge.name));
    let mut progress = |p: understudy_pilot::run::Progress| {
        bar.set_length(p.total as u64);
        bar.set_position(p.done as u64);
    };
    let judged = unless_interrupted("the pilot", runner.prefer(judge, tried, matches, &mut progress)).await?;
    bar.finish_and_clear();
    if let Some(error) = &judged.first_error {
        note(format_args!("  {}: {} verdicts failed; the first: failed to {error}", judge.name, judged.failed));
    }
    Ok(judged)
}

/// What makes two runs the same: answers of one may be taken into the other.
fn inputs(plan: &Plan, prompt: Option<&Prompt>, material: &Material, seed: Seed) -> String {
    let mut about = json!({
        "data": material.hash, "train": material.train_hash, "task": plan.task, "labels": plan.labels,
        "instruction": plan.instruction, "shots": plan.shots, "max_tokens": plan.max_tokens, "seed": seed, "version": 1,
    });
    // Runs from before there was a choice keep their folders.
    if plan.shots_by != WORDS {
        about["shots_by"] = json!(plan.shots_by);
    }
    if let Some(prompt) = prompt {
        about["prompt"] = json!(prompt.hash());
    }
    sha256_hex(about.to_string().as_bytes())
}

/// A prompt's file, for this task.
fn prompt(file: &Path, task: Task) -> Result<Prompt> {
    let prompt = Prompt::read(file)?;
    if prompt.task != task {
        let (its, ours) = (prompt.task.as_str(), task.as_str());
        let what = format!("use the prompt {}: it is for --task {its}, and this is {ours}", file.display());
        return Err(Error::invalid(what).with_param("prompt"));
    }
    Ok(prompt)
}

fn write(
    out: &Path,
    plan: &Plan,
    outcome: &Outcome<'_>,
    setting: &page::Setting,
    result: &serde_json::Value,
) -> Result<()> {
    let Outcome { tried, finding, judged } = outcome;
    let mut lines = Vec::new();
    for outcome in verdict::outcomes(plan, &tried.iter().collect::<Vec<_>>()) {
        let line = serde_json::to_string(&outcome).map_err(|e| Error::internal(format!("write outcomes: {e}")))?;
        writeln!(lines, "{line}").map_err(|e| Error::internal(format!("write outcomes: {e}")))?;
    }
    report::write_file(&out.join("outcomes.jsonl"), &lines)?;
    let json = serde_json::to_vec_pretty(result).map_err(|e| Error::internal(format!("write the result: {e}")))?;
    report::write_file(&out.join("result.json"), &json)?;
    report::write(
        &out.join("report.html"),
        &page::page(plan, tried, finding.as_ref(), judged.as_ref(), setting),
        result,
    )?;
    Ok(())
}
