//! `understudy adapt label`: a large model labels texts, within a budget. Every answer is kept the moment it comes, so a
//! run that broke off, or a file with more texts, pays only for what is not answered yet. How far the labels can be
//! trusted is measured beside: against labels that are there already, and against the model itself when the list of
//! labels is turned round.

mod found;

use crate::{
    clock::SystemClock,
    commands::{
        Context,
        pilot::data::{FieldArgs, open, understood},
        unless_interrupted,
    },
    compose::Composer,
    contenders::Contenders,
    terminal::{note, progress},
};
use clap::Args;
use found::{Found, show, write};
use futures_util::FutureExt;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};
use understudy_core::{Clock, Error, Money, Result, Seed, hash::sha256_hex};
use understudy_dataset::{Row, rows_hash};
use understudy_pilot::run::{
    Answers, Candidate, Ended, Journal, Plan, Prompting, Runner, Sampled, Task,
    journal::Header,
    votes::{Vote, vote},
};

/// Texts that are asked a second time, at least and at most, where there are as many.
const CHECKED: (usize, usize) = (50, 500);

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// Texts: a file (.jsonl, .csv, .tsv, .parquet, also .zst or .gz), or `task:NAME` for a task's recorded traffic. Labels
    /// that are there are not asked for: they measure the model's
    #[arg(long, value_name = "FILE")]
    data: String,
    #[command(flatten)]
    fields: FieldArgs,
    /// Who labels: a model of the configuration, an installed generative model, or the folder of a trained one
    #[arg(long, value_name = "NAME")]
    model: String,
    /// The labels to choose from [default: those that --data and --examples have]
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    labels: Vec<String>,
    /// The labelled texts, as JSON lines; answers are kept in FILE.answers beside it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Instructions in place of our own
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
    /// Labelled texts of which each prompt shows the most similar
    #[arg(long, value_name = "FILE")]
    examples: Option<String>,
    /// Examples in each prompt
    #[arg(long, value_name = "K", default_value_t = 8, requires = "examples")]
    shots: usize,
    /// Answers that are drawn for each text; with several the label is the one most have, and their shares are written too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    samples: u8,
    /// Temperature of drawn answers
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    temperature: f32,
    /// Share of the texts that are asked once more, with the labels in the opposite order
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    check: f64,
    /// Never spend more than this; what was answered until then is kept
    #[arg(long, value_name = "USD")]
    max_cost_usd: Option<f64>,
    /// Requests at a time
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Requests a minute at most
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: u32,
    /// Seed of the texts that are checked and of drawn answers
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What a model said about the texts.
struct Labelled<'r> {
    /// In the order of the file; `None` where no answer is valid.
    votes: Vec<(&'r Row, Option<Vote>, Option<f64>)>,
    /// What it said where no label could be read.
    invented: Vec<String>,
    failed: usize,
    first_error: Option<String>,
    ended: Ended,
    resumed: usize,
    asked: usize,
}

/// Runs `understudy adapt label`.
pub(super) async fn run(args: LabelArgs, context: &Context) -> Result<()> {
    if !(0.0..=1.0).contains(&args.check) || !args.temperature.is_finite() || args.temperature <= 0.0 {
        return Err(Error::invalid("label texts: --check lies in [0, 1], --temperature is positive"));
    }
    let out = std::fs::canonicalize(&args.out);
    let reads =
        |file: &String| out.as_ref().is_ok_and(|out| std::fs::canonicalize(file).is_ok_and(|file| file == *out));
    if let Some(file) = [&args.data].into_iter().chain(&args.examples).find(|file| reads(file)) {
        let what = format!("label texts: {file} is read, and would be replaced; choose another --out");
        return Err(Error::invalid(what).with_param("out"));
    }
    let clock = Arc::new(SystemClock::new());
    let seed = Seed(args.seed);
    let data = open(&args.data, &args.fields.fields(), context).await?;
    note(format_args!("  {}", understood(&data)));
    let examples = match &args.examples {
        Some(file) => open(file, &args.fields.fields(), context).await?.rows,
        None => Vec::new(),
    };
    let rows = distinct(data.rows);
    let labels = labels(&args, &rows, &examples)?;
    let plan = Plan {
        task: Task::Classify,
        labels: labels.clone(),
        range: None,
        out_of_scope: None,
        instruction: args.instruction.clone(),
        shots: if args.examples.is_some() { args.shots } else { 0 },
        shots_by: crate::contenders::WORDS.to_owned(),
        max_tokens: args.max_tokens,
        max_cost_usd: args.max_cost_usd,
        per_minute: args.rate,
        stop_early: None,
        sampled: None,
    };
    // Nothing of the texts: with more of them, the answers to the others stand.
    let about = json!({ "labels": labels, "instruction": args.instruction, "shots": plan.shots,
        "examples": rows_hash(&examples), "max_tokens": args.max_tokens });
    let kept = answers_of(&args.out);
    let mut journal = Journal::open(&kept, &Header { inputs: sha256_hex(about.to_string().as_bytes()) })?;
    let composer = Composer::new(clock.clone(), seed)?;
    let contenders = Contenders {
        context,
        composer: &composer,
        task: Task::Classify,
        labels: &labels,
        train: &examples,
        dir: kept.join("models"),
        seed,
        created: clock.now(),
        concurrency: args.concurrency,
        limited: true,
    };
    let teacher = contenders.find(&args.model).await?;
    plan.check(std::slice::from_ref(&teacher))?;
    if args.samples > 1 && teacher.prompting != Prompting::Instructed {
        return Err(Error::invalid(format!(
            "draw {} answers of `{}`: it weighs the labels and says the same each time; its probabilities are written as \
             `confidence` without --samples",
            args.samples, args.model
        ))
        .with_param("samples"));
    }
    let refs: Vec<&Row> = rows.iter().collect();
    let shots = match plan.shots {
        0 => None,
        _ => Some(contenders.shots(&plan.shots_by, &refs).await?),
    };
    let mut asking = Asking { clock: &clock, journal: &mut journal, shots: shots.as_ref(), spent: Money::default() };
    asking.spent = Money::from_usd(asking.journal.cost_usd())?;
    let labelled = asking.label(&args, &plan, &teacher, &refs).await?;
    let checked = asking.turned_round(&args, &plan, &teacher, &labelled).await?;
    let spent = asking.spent.usd();
    write(&args.out, &args.model, args.samples, &labelled)?;
    let found = Found::of(&labelled, checked.as_deref());
    show(&args, &labelled, &found, spent);
    crate::commands::finish(context, &found.json(&args, &labelled, spent))?;
    match labelled.ended {
        // What was answered is written; a script must not take it for the whole.
        Ended::Failing(error) => Err(Error::unavailable(format!("label all texts: {error}; the same command goes on"))),
        Ended::Done | Ended::Decided(_) | Ended::CostCap => Ok(()),
    }
}

/// Every text once; a label that is there wins over a copy without one. The content's hash is the id, so that answers are
/// found again in another file.
fn distinct(rows: Vec<Row>) -> Vec<Row> {
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let mut distinct: Vec<Row> = Vec::new();
    for mut row in rows {
        row.id = row.content_hash();
        row.label =
            row.label.take().or_else(|| row.references.first().cloned()).filter(|label| !label.trim().is_empty());
        match place.get(&row.id) {
            Some(&at) if distinct[at].label.is_none() => distinct[at].label = row.label,
            Some(_) => {}
            None => {
                place.insert(row.id.clone(), distinct.len());
                distinct.push(row);
            }
        }
    }
    distinct
}

fn labels(args: &LabelArgs, rows: &[Row], examples: &[Row]) -> Result<Vec<String>> {
    let there = || rows.iter().chain(examples).filter_map(Row::gold).map(str::to_owned);
    let told: BTreeSet<String> = match args.labels.is_empty() {
        true => there().collect(),
        false => args.labels.iter().map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect(),
    };
    if told.len() < 2 {
        return Err(Error::invalid(format!(
            "label texts: {} label(s) to choose from, two are needed; name them with --labels a,b, or give labelled \
             --examples",
            told.len()
        ))
        .with_param("labels"));
    }
    if let Some(other) = there().find(|label| !told.contains(label)) {
        return Err(Error::invalid(format!(
            "label texts: a text has the label `{other}`, which --labels does not name"
        ))
        .with_param("labels"));
    }
    Ok(told.into_iter().collect())
}

/// The label that an answer means, if any, and how sure the model says it is.
type Said = (Option<String>, Option<f64>);

/// Folder of the answers.
fn answers_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".answers");
    out.with_file_name(name)
}

/// What every round of questions shares.
struct Asking<'a> {
    clock: &'a Arc<SystemClock>,
    journal: &'a mut Journal,
    shots: Option<&'a understudy_pilot::run::shots::Shots<'a>>,
    spent: Money,
}

impl Asking<'_> {
    /// Asks about all texts, as often as wished.
    async fn label<'r>(
        &mut self,
        args: &LabelArgs,
        plan: &Plan,
        teacher: &Candidate,
        rows: &[&'r Row],
    ) -> Result<Labelled<'r>> {
        let mut said: BTreeMap<&str, Vec<Said>> = BTreeMap::new();
        let mut labelled = Labelled {
            votes: Vec::new(),
            invented: Vec::new(),
            failed: 0,
            first_error: None,
            ended: Ended::Done,
            resumed: 0,
            asked: 0,
        };
        for draw in 0..args.samples {
            let mut plan = plan.clone();
            plan.sampled = (args.samples > 1).then(|| Sampled {
                temperature: args.temperature,
                seed: Seed(args.seed).derive(&format!("draw {draw}")).0 >> 12,
            });
            let drawn = match plan.sampled {
                None => String::new(),
                Some(s) => format!(" drawn at {} with seed {}", s.temperature, s.seed),
            };
            let what = match args.samples {
                1 => format!("labelling with {}", teacher.name),
                n => format!("labelling with {}, {} of {n}", teacher.name, draw + 1),
            };
            let answers = self.round(&plan, teacher, &drawn, rows, &what).await?;
            labelled.failed += answers.failed;
            labelled.resumed += answers.resumed;
            labelled.asked += answers.asked.len();
            labelled.first_error = labelled.first_error.take().or(answers.first_error);
            for asked in answers.asked {
                if asked.answer.answer.is_none() {
                    labelled.invented.extend(asked.answer.text);
                }
                said.entry(&asked.row.id).or_default().push((asked.answer.answer, asked.answer.confidence));
            }
            if answers.ended != Ended::Done {
                labelled.ended = answers.ended;
                break;
            }
        }
        labelled.votes = rows
            .iter()
            .filter_map(|row| {
                let said = said.get(row.id.as_str())?;
                let won = vote(said.iter().map(|(label, _)| label.as_deref()));
                let sure = said.iter().find_map(|(_, confidence)| *confidence).filter(|_| args.samples == 1);
                Some((*row, won, sure))
            })
            .collect();
        Ok(labelled)
    }

    /// Asks about some texts again, with the labels in the opposite order. Pairs of labels, first and second; `None` when
    /// nothing is to be checked.
    async fn turned_round(
        &mut self,
        args: &LabelArgs,
        plan: &Plan,
        teacher: &Candidate,
        labelled: &Labelled<'_>,
    ) -> Result<Option<Vec<(String, String)>>> {
        // A classifier has no list of labels, and where money or patience ended nothing more is asked.
        if args.check == 0.0 || teacher.prompting == Prompting::Bare || labelled.ended != Ended::Done {
            return Ok(None);
        }
        let mut rows: Vec<(&Row, &str)> =
            labelled.votes.iter().filter_map(|(row, vote, _)| Some((*row, vote.as_ref()?.label.as_str()))).collect();
        let salt = Seed(args.seed).derive("check").0;
        rows.sort_by_cached_key(|(row, _)| sha256_hex(format!("{salt} {}", row.id).as_bytes()));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows")]
        let wanted = (args.check * rows.len() as f64).ceil() as usize;
        rows.truncate(wanted.clamp(CHECKED.0, CHECKED.1));
        let texts: Vec<&Row> = rows.iter().map(|(row, _)| *row).collect();
        let mut plan = plan.clone();
        plan.labels.reverse();
        let answers = self.round(&plan, teacher, " labels turned round", &texts, "asking again").await;
        let second: BTreeMap<String, String> =
            answers?.asked.into_iter().filter_map(|a| Some((a.row.id.clone(), a.answer.answer?))).collect();
        let pair = |(row, first): &(&Row, &str)| Some(((*first).to_owned(), second.get(&row.id)?.clone()));
        Ok(Some(rows.iter().filter_map(pair).collect()))
    }

    /// One answer to each text; `variant` tells rounds apart in the journal.
    async fn round<'r>(
        &mut self,
        plan: &Plan,
        teacher: &Candidate,
        variant: &str,
        rows: &[&'r Row],
        what: &str,
    ) -> Result<Answers<'r>> {
        let teacher = Candidate { fingerprint: format!("{}{variant}", teacher.fingerprint), ..teacher.clone() };
        let bar = progress(rows.len() as u64, what);
        let mut told = |p: understudy_pilot::run::Progress| {
            bar.set_position(p.done as u64);
            if p.spent_usd > 0.0 {
                bar.set_message(format!("{what}, ${:.4}", p.spent_usd));
            }
        };
        let sleep = |time| tokio::time::sleep(time).boxed();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let mut runner = Runner { plan, clock, sleep: &sleep, journal: &mut *self.journal, spent: self.spent };
        let asked = runner.ask(&teacher, rows, self.shots, None, &mut told);
        let answers = unless_interrupted("labelling", asked).await;
        bar.finish_and_clear();
        let answers = answers?;
        self.spent = runner.spent;
        Ok(answers)
    }
}
