//! `understudy adapt import`: a model that was trained elsewhere becomes an artifact.

use super::recipe::{HELD_OUT, Recipe, TRAIN};
use crate::{
    clock::SystemClock,
    commands::{Context, pilot::data::understood, shown},
    scratch, terminal,
    training::{
        brought::{Bringing, Brought, Form, bring},
        whole::Reading,
    },
};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use understudy_adapt::artifact::Existing;
use understudy_core::{Clock, Error, ModelName, Result, Seed, TaskName};
use understudy_dataset::{self as dataset, Fields, Learned, Row};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What was trained: a folder with a PEFT adapter, a folder with config.json and safetensors, or a GGUF file
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
    /// The job's folder, from `adapt recipe`: it says base, data, seed, and has the rows that were held out; --from is then
    /// below it
    #[arg(long, value_name = "DIR")]
    recipe: Option<PathBuf>,
    /// The installed model that it was trained on [default: the recipe's]
    #[arg(long, value_name = "MODEL", required_unless_present = "recipe")]
    base: Option<String>,
    /// Rows that had no part in its training, which measure it: conversations, or texts and answers [default: the recipe's]
    #[arg(long, value_name = "FILE", required_unless_present = "recipe")]
    data: Option<PathBuf>,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field or column that holds the right answer [default: found by its name, or the last message]
    #[arg(long, value_name = "FIELD")]
    answer: Option<String>,
    /// Instructions for rows that have none [default: the recipe's]
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Folder of the artifact
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the model [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// The task it is for
    #[arg(long)]
    task: Option<String>,
    /// How it was trained, for its card [default: the recipe's]
    #[arg(long, value_name = "TEXT")]
    method: Option<String>,
    /// Rows with more tokens are left out [default: the recipe's, or 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=8192))]
    max_tokens: Option<u32>,
    /// Threads; 0 uses all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// Replace another artifact in the folder
    #[arg(long)]
    force: bool,
}

impl ImportArgs {
    /// The folder that it writes.
    pub(super) fn out(&self) -> &Path {
        &self.out
    }
}

/// Runs `understudy adapt import`.
pub(super) async fn run(args: ImportArgs, context: &Context) -> Result<()> {
    let recipe = args.recipe.as_deref().map(Recipe::read).transpose()?;
    let held_out = args.recipe.as_ref().map(|dir| dir.join(HELD_OUT));
    let base = args.base.clone().or_else(|| recipe.as_ref().map(|recipe| recipe.settings.base.clone()));
    let (Some(base), Some(file)) = (base, args.data.clone().or(held_out)) else {
        return Err(Error::invalid(
            "import a model: --base and --data, or --recipe, say what it is of and what measures it",
        ));
    };
    let from = match &args.recipe {
        Some(dir) if dir.join(&args.from).exists() => dir.join(&args.from),
        _ => args.from.clone(),
    };
    let fields = Fields { text: args.text.clone(), reference: args.answer.clone(), ..Fields::default() };
    let data = dataset::read(&file, &fields)?;
    terminal::note(format_args!("  {}", understood(&data)));
    let learned = match &args.recipe {
        Some(dir) => dataset::read(&dir.join(TRAIN), &Fields::default())?.rows,
        None => Vec::new(),
    };
    let settings = recipe.as_ref().map(|recipe| &recipe.settings);
    let written = |recipe: &Recipe| {
        let packages = recipe.packages.iter().map(|(name, version)| format!("{name} {version}"));
        let settings = &recipe.settings;
        format!("{:?}, {} epochs, {}", settings.method, settings.epochs, packages.collect::<Vec<_>>().join(", "))
            .to_lowercase()
    };
    let max_tokens = args.max_tokens.map(|n| n as usize).or(settings.map(|s| s.max_tokens)).unwrap_or(512);
    let bringing = Bringing {
        from,
        base,
        base_hash: recipe.as_ref().and_then(|recipe| recipe.base_hash.clone()),
        models_dir: context.models_dir.clone(),
        name: ModelName::new(super::name_of(args.name.as_deref(), &args.out, "imported")),
        task: args.task.as_deref().map(TaskName::from),
        method: args.method.clone().or(recipe.as_ref().map(written)).unwrap_or_else(|| "imported".to_owned()),
        reading: Reading {
            system: args.system.clone().or(recipe.as_ref().and_then(|recipe| recipe.system.clone())),
            max_tokens: max_tokens.min(8192),
        },
        data: recipe.as_ref().map(|recipe| (recipe.data_hash.clone(), recipe.n_train)),
        learned: Learned::of(learned.iter().flat_map(Row::hashes)),
        seed: Seed(settings.map_or(0, |s| s.seed)),
        threads: args.threads,
        existing: if args.force { Existing::Replace } else { Existing::Keep },
        created: SystemClock::new().now(),
    };
    let bar = terminal::progress(0, "checking and measuring");
    let out = args.out.clone();
    let brought = scratch::work("import the model", move || bring(&data.rows, &bringing, &out)).await;
    bar.finish_and_clear();
    let brought = brought?;
    show(&brought);
    let [half, served] = &brought.agreement;
    let manifest = brought.artifact.manifest();
    crate::commands::finish(
        context,
        &json!({
            "artifact": brought.artifact.dir(), "hash": brought.artifact.hash(), "base": manifest.base,
            "served": {"f16": half, "as_served": served}, "tokeniser_compared": brought.tokeniser,
            "too_long": brought.too_long, "n": manifest.n_test, "metrics": manifest.metrics,
        }),
    )
}

fn show(brought: &Brought) {
    let manifest = brought.artifact.manifest();
    let what = match brought.form {
        Form::Adapter => "an adapter",
        Form::Folder => "whole weights from safetensors, now GGUF at 16 bits",
        Form::Gguf => "a GGUF file",
    };
    terminal::say(format_args!("  {} on {}: {what}", manifest.name, manifest.base.name));
    if !brought.tokeniser {
        terminal::note(format_args!("  no tokenizer.json beside it: that its tokens are the base's was not compared"));
    }
    super::show_metrics(&manifest.metrics);
    let [half, served] = &brought.agreement;
    terminal::say(format_args!(
        "  what serves says what the numbers say: mean KL {:.1e} at 16 bits, {:.1e} as it serves, over {} tokens",
        half.mean_kl, served.mean_kl, served.n
    ));
    terminal::say(format_args!("  {}   hash {}", shown(brought.artifact.dir()), &brought.artifact.hash()[..16]));
}
