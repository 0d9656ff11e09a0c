//! Routers on RouteLLM's MMLU outcomes: 1,500 labelled rows for training, the rest for test, by RouteLLM's own formula.

mod timing;

use clap::Args;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Outcome, Result, Seed, outcome};
use understudy_model::encoder::{Encoder, EncoderOptions, Scratch};
use understudy_pilot::{
    replay::{self, Stage},
    router::{self, Example, Kind},
};
use understudy_route::router::Prompt;

/// Trains every kind of router on some rows of recorded outcomes and replays the rest.
#[derive(Debug, Args)]
pub(crate) struct RouterArgs {
    /// Folder with the recorded outcomes (*.jsonl.zst)
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Recorded set
    #[arg(long, value_name = "NAME", default_value = "routellm_mmlu_dev")]
    set: String,
    /// The small model's name in the outcomes
    #[arg(long, value_name = "NAME", default_value = "mixtral-8x7b-instruct")]
    small: String,
    /// The large model's name in the outcomes
    #[arg(long, value_name = "NAME", default_value = "gpt-4-1106-preview")]
    large: String,
    /// Rows for training
    #[arg(long, default_value_t = 1500)]
    train: usize,
    /// Random divisions into training and test rows
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Folder with the installed models, for the kinds that read embeddings [default: ~/.understudy/models]
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_MODELS")]
    models: Option<PathBuf>,
    /// Leave out the kinds that read embeddings
    #[arg(long)]
    without_embeddings: bool,
    /// Only time decisions, with routers trained on --train rows
    #[arg(long, conflicts_with = "without_embeddings")]
    decisions_only: bool,
    /// Tokens of a text that are embedded, special ones included
    #[arg(long, default_value_t = 192)]
    max_tokens: usize,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Figures of one kind over the seeds.
#[derive(Debug, Clone, Serialize)]
struct Line {
    kind: String,
    apgr: f64,
    /// Half width of the 95 % interval of the mean over the seeds (Student).
    apgr_half: f64,
    apgr_each: Vec<f64>,
    apgr_full: f64,
    cpt50: f64,
    cpt80: f64,
    kept_at_loss: [f64; 3],
    /// Seeds on which cross-validation chose it.
    chosen: usize,
}

/// Runs the bench; with `--json` the last line is one object.
pub(crate) fn run(args: &RouterArgs) -> Result<()> {
    let mut outcomes = read(args)?;
    if args.decisions_only {
        outcomes.truncate(args.train);
        let embeddings = embed(args, &outcomes)?;
        let examples = router::examples(&outcomes, &embeddings, &args.small, &args.large)?;
        return print_decisions(args, &[], &examples);
    }
    let embeddings = if args.without_embeddings { Vec::new() } else { embed(args, &outcomes)? };
    let examples = router::examples(&outcomes, &embeddings, &args.small, &args.large)?;
    if args.train + 100 > examples.len() {
        return Err(Error::invalid(format!("train on {} of {} rows: leave some for test", args.train, examples.len())));
    }
    println!(
        "{}: {} rows, {} to train, {} to test, {} seeds\n",
        args.set,
        examples.len(),
        args.train,
        examples.len() - args.train,
        args.seeds
    );
    let mut runs: BTreeMap<&'static str, Vec<replay::Figures>> = BTreeMap::new();
    let mut chosen: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..args.seeds {
        one_division(&examples, args.train, Seed(seed), &mut runs, &mut chosen)?;
    }
    let lines = lines(&runs, &chosen);
    print(&lines);
    print_decisions(args, &lines, &examples)
}

fn print_decisions(args: &RouterArgs, lines: &[Line], examples: &[Example<'_>]) -> Result<()> {
    let decisions = timing::decisions(args, examples)?;
    if args.json {
        let object =
            serde_json::json!({ "set": args.set, "train": args.train, "lines": lines, "decisions": decisions });
        println!("{object}");
    }
    Ok(())
}

fn one_division(
    examples: &[Example<'_>],
    train: usize,
    seed: Seed,
    runs: &mut BTreeMap<&'static str, Vec<replay::Figures>>,
    chosen: &mut BTreeMap<&'static str, usize>,
) -> Result<()> {
    let (train, test) = divide(examples, train, seed);
    let mut kinds: Vec<Kind> = Kind::ALL.to_vec();
    if examples[0].prompt.embedding.is_none() {
        kinds.retain(|kind| !kind.wants_embedding());
    }
    let mut add = |name: &'static str, score: &dyn Fn(&Example<'_>) -> f64| -> Result<()> {
        runs.entry(name).or_default().push(figures(&test, score)?);
        Ok(())
    };
    for &kind in &kinds {
        let predictor = router::fit(kind, &train, Example::gain)?;
        add(kind.as_str(), &|example| predictor.predict(&example.prompt))?;
        if kind == Kind::Static {
            // As a gateway sees it, to which nobody says what the group is.
            add("static, no group", &|example| predictor.predict(&Prompt { group: None, ..example.prompt }))?;
        }
    }
    let selection = router::select(&kinds, &train, seed)?;
    println!("seed {}: {}", seed.0, selection.reason());
    if let Some((kind, predictor)) = selection.choice.kind().zip(selection.predictor.as_ref()) {
        *chosen.entry(kind.as_str()).or_default() += 1;
        add("auto", &|example| predictor.predict(&example.prompt))?;
    }
    Ok(())
}

/// Training and test examples at random.
fn divide<'a>(examples: &[Example<'a>], train: usize, seed: Seed) -> (Vec<Example<'a>>, Vec<Example<'a>>) {
    use rand::{SeedableRng, seq::SliceRandom};
    let mut order = examples.to_vec();
    order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed.derive("bench router").0));
    let test = order.split_off(train);
    (order, test)
}

fn figures(test: &[Example<'_>], score: &dyn Fn(&Example<'_>) -> f64) -> Result<replay::Figures> {
    let side = |quality: f64| replay::Side { quality, ..replay::Side::default() };
    let row =
        |e: &Example<'_>| replay::Row { small: side(e.small), large: side(e.large), score: score(e), weight: 1.0 };
    replay::figures(&test.iter().map(row).collect::<Vec<_>>(), Stage::Before)
}

fn lines(runs: &BTreeMap<&'static str, Vec<replay::Figures>>, chosen: &BTreeMap<&'static str, usize>) -> Vec<Line> {
    let mut lines: Vec<Line> = runs
        .iter()
        .map(|(&kind, runs)| {
            let n = runs.len() as f64;
            let mean = |value: &dyn Fn(&replay::Figures) -> f64| runs.iter().map(value).sum::<f64>() / n;
            let apgr = |figures: &replay::Figures| figures.apgr.unwrap_or(f64::NAN);
            let centre = mean(&apgr);
            let deviation = (runs.iter().map(|run| (apgr(run) - centre).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
            Line {
                kind: kind.to_owned(),
                apgr: centre,
                apgr_half: student(runs.len()) * deviation / n.sqrt(),
                apgr_each: runs.iter().map(apgr).collect(),
                apgr_full: mean(&|run| run.apgr_full.unwrap_or(f64::NAN)),
                cpt50: mean(&|run| run.cpt50.unwrap_or(f64::NAN)),
                cpt80: mean(&|run| run.cpt80.unwrap_or(f64::NAN)),
                kept_at_loss: [0, 1, 2].map(|place| mean(&|run| run.kept_at_loss[place])),
                chosen: chosen.get(kind).copied().unwrap_or(0),
            }
        })
        .collect();
    lines.sort_by(|a, b| b.apgr.total_cmp(&a.apgr));
    lines
}

/// Quantile of Student's distribution at 97.5 % for n − 1 degrees of freedom.
fn student(n: usize) -> f64 {
    [f64::NAN, f64::NAN, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262].get(n).copied().unwrap_or(1.96)
}

fn print(lines: &[Line]) {
    println!(
        "\n{:<18} {:>6} {:>8} {:>6} {:>6} {:>6} {:>8} {:>8} {:>8} {:>7}",
        "router", "APGR", "± 95 %", "full", "CPT50", "CPT80", "≤0.5 pt", "≤1 pt", "≤2 pt", "chosen"
    );
    for line in lines {
        let [a, b, c] = line.kept_at_loss.map(|kept| format!("{:.1}%", 100.0 * kept));
        println!(
            "{:<18} {:>6.4} {:>8.4} {:>6.4} {:>6.1} {:>6.1} {a:>8} {b:>8} {c:>8} {:>7}",
            line.kind, line.apgr, line.apgr_half, line.apgr_full, line.cpt50, line.cpt80, line.chosen
        );
    }
    println!("(RouteLLM's best published on all of MMLU: 0.603; random 0.500 / 50 / 80)\n");
}

fn read(args: &RouterArgs) -> Result<Vec<Outcome>> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let mut folder = args.data.clone().unwrap_or_else(default);
    if folder.join("outcomes/recorded").is_dir() {
        folder = folder.join("outcomes/recorded");
    }
    let file = folder.join(format!("{}.jsonl.zst", args.set));
    let name = file.display().to_string();
    let failed = |e: std::io::Error| {
        Error::not_found(format!("read {name}: {e}; give the folder of the recorded outcomes with --data"))
    };
    let decoder = zstd::Decoder::new(std::fs::File::open(&file).map_err(failed)?).map_err(failed)?;
    let mut outcomes = outcome::read(&name, std::io::BufReader::new(decoder))?;
    let judged = |outcome: &Outcome, model: &str| outcome.models.get(model).is_some_and(|a| a.quality.is_some());
    outcomes.retain(|outcome| judged(outcome, &args.small) && judged(outcome, &args.large));
    Ok(outcomes)
}

/// The encoder, from the installed models.
fn encoder(args: &RouterArgs) -> Result<Encoder> {
    let dir = match &args.models {
        Some(dir) => dir.clone(),
        None => std::env::home_dir()
            .ok_or_else(|| Error::invalid("find the installed models: give their folder with --models"))?
            .join(".understudy/models"),
    };
    Encoder::load(&dir.join("minilm"), &EncoderOptions { max_tokens: args.max_tokens, ..EncoderOptions::default() })
}

fn embed(args: &RouterArgs, outcomes: &[Outcome]) -> Result<Vec<Vec<f32>>> {
    let encoder = encoder(args)?;
    println!("embedding {} prompts", outcomes.len());
    let mut scratch = Scratch::default();
    outcomes
        .iter()
        .map(|outcome| {
            let tokens = encoder.tokenize(&outcome.prompt)?;
            Ok(encoder.embed(std::slice::from_ref(&tokens), &mut scratch).swap_remove(0))
        })
        .collect()
}
