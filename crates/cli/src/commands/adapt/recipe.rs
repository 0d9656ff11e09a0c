//! `understudy adapt recipe`: a job for a machine with GPUs, as a folder.

use crate::{
    commands::{Context, pilot::data::understood, shown},
    terminal,
    training::{generative::conversation, installed_hash},
};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
};
use understudy_adapt::recipe::{Framework, Method, Settings};
use understudy_core::{Error, Message, Result, Role, Seed, hash::sha256_hex};
use understudy_dataset::{self as dataset, Fields, Part, Row, Shares, part_of, rows_hash};
use understudy_model::{catalogue::Catalogue, generate::ChatTokens, installed, installed::hash_file};

/// File name of what the job was made from.
pub(super) const RECIPE: &str = "recipe.json";
/// Rows that train, and rows that measure what comes back.
pub(super) const TRAIN: &str = "data/train.jsonl";
pub(super) const HELD_OUT: &str = "data/held_out.jsonl";

#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// What runs the job
    #[arg(long, value_enum, default_value_t = FrameworkArg::Trl)]
    framework: FrameworkArg,
    /// What is trained
    #[arg(long, value_enum, default_value_t = MethodArg::Lora)]
    method: MethodArg,
    /// The generative model to build on, as the catalogue names it
    #[arg(long, value_name = "MODEL")]
    base: String,
    /// Its name on the model hub [default: the catalogue's]
    #[arg(long, value_name = "NAME")]
    hub: Option<String>,
    /// Conversations, or texts and answers
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field or column that holds the right answer [default: found by its name, or the last message]
    #[arg(long, value_name = "FIELD")]
    answer: Option<String>,
    /// Instructions for rows that have none
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Folder of the job
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Passes over the data
    #[arg(long, default_value_t = 2, value_name = "N")]
    epochs: usize,
    /// Highest learning rate [default: 2e-4 for lora, 2e-5 for full]
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    /// Conversations of a step, over all GPUs
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
    /// Conversations that a GPU takes at a time
    #[arg(long, default_value_t = 4, value_name = "N")]
    per_device: usize,
    /// GPUs
    #[arg(long, default_value_t = 1, value_name = "N")]
    gpus: usize,
    /// Rank of the adapters
    #[arg(long, default_value_t = 16, value_name = "N")]
    rank: usize,
    /// Rows with more tokens are left out, where the base is installed, or cut
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=131_072))]
    max_tokens: u32,
    /// Share of the rows that train nothing and measure what comes back
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    test_share: f64,
    /// Seed of the division and of the training
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FrameworkArg {
    /// Hugging Face's TRL
    Trl,
    /// Axolotl
    Axolotl,
    /// torchtune (LoRA, one GPU)
    Torchtune,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    /// Low-rank adapters
    Lora,
    /// All weights
    Full,
}

/// What `recipe.json` says: what `adapt import --recipe` reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Recipe {
    /// 1.
    pub(super) format: u32,
    pub(super) settings: Settings,
    /// Hash of the installed base; `None` when it was not installed.
    pub(super) base_hash: Option<String>,
    /// The instructions, when all rows have the same.
    pub(super) system: Option<String>,
    /// Hash over the rows as they were read.
    pub(super) data_hash: String,
    pub(super) n_train: u64,
    pub(super) n_held_out: u64,
    pub(super) too_long: u64,
    pub(super) duplicates: u64,
    /// SHA-256 of the data files.
    pub(super) files: BTreeMap<String, String>,
    /// Packages in the releases that the job was written for.
    pub(super) packages: BTreeMap<String, String>,
}

impl Recipe {
    /// Reads a job's folder, and checks that its data are what was written.
    ///
    /// # Errors
    /// `NotFound` without one; `Data` when it is of a newer release, or data were changed.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(RECIPE);
        let bytes = std::fs::read(&path)
            .map_err(|_| Error::not_found(format!("read {}: there is no such file", path.display())))?;
        let wrong = |what: String| Error::data(format!("read {}: {what}", path.display()));
        let recipe: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if recipe.format != 1 {
            return Err(wrong(format!("format {} is not known here; update understudy", recipe.format)));
        }
        for (file, expected) in &recipe.files {
            if [TRAIN, HELD_OUT].contains(&file.as_str()) && hash_file(&dir.join(file))? != *expected {
                return Err(wrong(format!("{file} is not the file that the recipe was written with")));
            }
        }
        Ok(recipe)
    }
}

/// Runs `understudy adapt recipe`.
pub(super) async fn run(args: RecipeArgs, context: &Context) -> Result<()> {
    let known = Catalogue::embedded().find(&args.base).ok();
    let hub =
        args.hub.clone().or_else(|| known.and_then(|m| m.aliases.iter().find(|name| name.contains('/')).cloned()));
    let hub = hub.ok_or_else(|| {
        let what = format!("write a job for `{}`: --hub says its name on the model hub", args.base);
        Error::invalid(what).with_param("hub")
    })?;
    let lora = args.method == MethodArg::Lora;
    let settings = Settings {
        framework: match args.framework {
            FrameworkArg::Trl => Framework::Trl,
            FrameworkArg::Axolotl => Framework::Axolotl,
            FrameworkArg::Torchtune => Framework::Torchtune,
        },
        method: if lora { Method::Lora } else { Method::Full },
        base: args.base.clone(),
        hub,
        epochs: args.epochs,
        rate: args.rate.unwrap_or(if lora { 2e-4 } else { 2e-5 }),
        batch: args.batch,
        per_device: args.per_device,
        gpus: args.gpus,
        rank: args.rank,
        max_tokens: args.max_tokens as usize,
        seed: args.seed,
    };
    // Before the data are read: a setting that is wrong is said at once.
    settings.files(1)?;
    if std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some()) {
        let what = format!("write {}: the folder is not empty; choose another one", args.out.display());
        return Err(Error::invalid(what).with_param("out"));
    }
    let fields = Fields { text: args.text.clone(), reference: args.answer.clone(), ..Fields::default() };
    let data = dataset::read(&args.data, &fields)?;
    terminal::note(format_args!("  {}", understood(&data)));
    let recipe = write(&data.rows, settings, &args, context)?;
    let settings = &recipe.settings;
    terminal::say(format_args!(
        "  {} rows to train, {} held out; {} duplicates and {} that are too long left out",
        recipe.n_train, recipe.n_held_out, recipe.duplicates, recipe.too_long
    ));
    terminal::say(format_args!("  {}   data {}", shown(&args.out), &recipe.data_hash[..16]));
    for command in settings.commands() {
        terminal::say(format_args!("    {command}"));
    }
    crate::commands::finish(
        context,
        &json!({
            "job": args.out, "data_hash": recipe.data_hash, "seed": args.seed, "n_train": recipe.n_train,
            "n_held_out": recipe.n_held_out, "too_long": recipe.too_long, "duplicates": recipe.duplicates,
            "files": recipe.files, "packages": recipe.packages, "commands": settings.commands(),
        }),
    )
}

fn write(rows: &[Row], settings: Settings, args: &RecipeArgs, context: &Context) -> Result<Recipe> {
    let installed = installed::find(&context.models_dir, &args.base)?;
    let tokens = installed.as_ref().map(|found| ChatTokens::load(&found.gguf()?)).transpose()?;
    if tokens.is_none() {
        terminal::note(format_args!(
            "  `{}` is not installed: tokens are not counted here, and `adapt import` will need it (understudy pull {})",
            args.base, args.base
        ));
    }
    let shares = Shares::new(0.0, args.test_share)?;
    let (mut train, mut held_out, mut too_long, mut duplicates) = (Vec::new(), Vec::new(), 0, 0);
    let (mut seen, mut systems) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let answer = row.gold().filter(|answer| !answer.trim().is_empty()).ok_or_else(|| {
            Error::data(format!("write line {}: it has no answer; --answer names its field", row.line))
        })?;
        let content = row.content_hash();
        if !seen.insert(format!("{content} {}", sha256_hex(answer.as_bytes()))) {
            duplicates += 1;
            continue;
        }
        let messages = conversation(row, args.system.as_deref());
        if let Some(tokens) = &tokens {
            let prompt = tokens.prompt(&messages).map_err(|e| e.context(format!("write line {}", row.line)))?;
            if prompt.len() + tokens.answer(answer).len() > settings.max_tokens {
                too_long += 1;
                continue;
            }
        }
        systems.insert(messages.first().filter(|m| m.role == Role::System).map(|m| m.text.clone()));
        let line = line(&messages, answer, settings.framework == Framework::Axolotl);
        match part_of(&content, shares, Seed(args.seed)) {
            Part::Test => held_out.push(line),
            _ => train.push(line),
        }
    }
    if train.is_empty() {
        return Err(Error::data(format!("write the job: of {} rows none is left to train on", rows.len())));
    }
    let failed = |e: std::io::Error| Error::data(format!("write {}: {e}", args.out.display()));
    std::fs::create_dir_all(args.out.join("data")).map_err(failed)?;
    let mut files = BTreeMap::new();
    for (name, lines) in [(TRAIN, &train), (HELD_OUT, &held_out)] {
        let path = args.out.join(name);
        dataset::write::write_file(&path, |to| lines.iter().try_for_each(|line| writeln!(to, "{line}")))?;
        files.insert(name.to_owned(), hash_file(&path)?);
    }
    let put =
        |name: &str, text: &str| dataset::write::write_file(&args.out.join(name), |to| to.write_all(text.as_bytes()));
    for (name, text) in settings.files(train.len())? {
        put(&name, &text)?;
        files.insert(name, sha256_hex(text.as_bytes()));
    }
    let packages = settings.framework.packages().iter().map(|(name, version)| ((*name).into(), (*version).into()));
    let recipe = Recipe {
        format: 1,
        base_hash: installed.as_ref().map(installed_hash).transpose()?,
        system: if systems.len() == 1 { systems.into_iter().next().flatten() } else { None },
        data_hash: rows_hash(rows),
        n_train: train.len() as u64,
        n_held_out: held_out.len() as u64,
        too_long,
        duplicates,
        files,
        packages: packages.collect(),
        settings,
    };
    put("README.md", &readme(&recipe))?;
    let json = serde_json::to_string_pretty(&recipe).map_err(|e| Error::internal(format!("write the recipe: {e}")))?;
    put(RECIPE, &format!("{json}\n"))?;
    Ok(recipe)
}

/// A line of OpenAI's fine-tuning format; where `marked`, each message says whether it is learned.
fn line(messages: &[Message], answer: &str, marked: bool) -> Value {
    let message = |role: &str, content: &str, learned: bool| {
        if marked {
            json!({"role": role, "content": content, "training": learned})
        } else {
            json!({"role": role, "content": content})
        }
    };
    let before = messages.iter().map(|m| message(m.role.as_str(), &m.text, false));
    let all: Vec<Value> = before.chain([message("assistant", answer, true)]).collect();
    json!({ "messages": all })
}

fn readme(recipe: &Recipe) -> String {
    let settings = &recipe.settings;
    let packages: Vec<String> = recipe.packages.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let base = recipe.base_hash.as_deref().unwrap_or("not installed when this was written");
    let turns = match settings.framework {
        Framework::Torchtune => {
            "Every assistant message of a conversation is learned: torchtune has no way to mark one."
        }
        _ => "Only the last message of each conversation is learned.",
    };
    format!(
        "# Fine-tuning {base_name} with {framework:?}\n\n\
         Written by `understudy adapt recipe`, for {packages}.\n\n\
         | | |\n|---|---|\n\
         | base | `{hub}` (installed here as `{base_name}`, hash `{base}`) |\n\
         | data | {n_train} conversations in `data/train.jsonl`, {n_held} held out (hash `{data}`) |\n\
         | seed | {seed} |\n\n\
         ## Run\n\n```\n{commands}\n```\n\n{turns} A run that was stopped goes on from its last epoch with the same command \
         where the framework does that.\n\n\
         ## Bring it back\n\n```\nunderstudy adapt import --recipe . --from {result} --out ../{base_name}-tuned\n```\n\n\
         It checks shapes, tokeniser and base, compares what llama.cpp serves with the numbers, and measures the model on \
         `data/held_out.jsonl`, which trained nothing. Then certify it as any other model.\n",
        base_name = settings.base,
        framework = settings.framework,
        packages = packages.join(", "),
        hub = settings.hub,
        n_train = recipe.n_train,
        n_held = recipe.n_held_out,
        data = recipe.data_hash,
        seed = settings.seed,
        commands = settings.commands().join("\n"),
        result = settings.result(),
    )
}
