//! `understudy adapt`: data that is fit to train, and small models from labelled examples or from a task's recorded
//! traffic.

mod auto;
mod bias;
mod data;
mod distil;
mod extract;
mod finetune;
mod generative;
mod import;
mod label;
mod merge;
mod multilabel;
mod prompts;
mod prune;
mod quantize;
mod recipe;
mod regression;
mod rows;

use super::Context;
use crate::{claim::Claim, terminal};
use clap::{Subcommand, ValueEnum};
use std::{collections::BTreeMap, path::Path};
use understudy_adapt::artifact::check_place;
use understudy_core::Result;
use understudy_model::artifact::{Dtype, Metric};

/// What `adapt` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum AdaptCommand {
    /// Make data fit to train: clean, redact, check, divide, and pick what to label next
    Data(data::DataArgs),
    /// Let a large model label texts, within a budget
    Label(label::LabelArgs),
    /// Train a small model on labelled examples, or on a task's recorded traffic
    Finetune(finetune::FinetuneArgs),
    /// Search a better prompt for a generative model: instruction and examples, tested against the one there is
    Prompts(Box<prompts::PromptsArgs>),
    /// Make a smaller model of a model: a token table that classifies in microseconds
    Distil(distil::DistilArgs),
    /// Take layers, heads or units out of a model, and train what remains to follow it
    Prune(prune::PruneArgs),
    /// Fold a generative model's adapter into its base: one GGUF file, or a folder of safetensors
    Merge(merge::MergeArgs),
    /// Compare a model's weights in fewer bits, and write the one that fits a budget
    Quantize(quantize::QuantizeArgs),
    /// Write a job for a machine with GPUs: data, configuration and commands for TRL, Axolotl or torchtune
    Recipe(recipe::RecipeArgs),
    /// Take in a generative model that was trained elsewhere: an adapter, a folder of safetensors or a GGUF file
    Import(import::ImportArgs),
    /// Train from the cheapest kind of model to the dearest, certify each, and pick the cheapest that keeps most
    Auto(auto::AutoArgs),
    /// Find slices in which a model errs more, and answers that depend on who is spoken of
    Bias(bias::BiasArgs),
}

impl AdaptCommand {
    /// The folder that it makes a model in, as far as the user named one.
    fn writes(&self) -> Option<&Path> {
        match self {
            Self::Finetune(args) => args.out(),
            Self::Distil(args) => Some(args.out()),
            Self::Prune(args) => Some(args.out()),
            Self::Quantize(args) => args.out(),
            Self::Auto(args) => Some(args.out()),
            Self::Merge(args) => Some(args.out()),
            Self::Import(args) => Some(args.out()),
            Self::Data(_) | Self::Bias(_) | Self::Label(_) | Self::Prompts(_) | Self::Recipe(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DtypeArg {
    /// 32-bit floating point
    F32,
    /// 8-bit integers: about three times as fast
    Int8,
}

impl From<DtypeArg> for Dtype {
    fn from(dtype: DtypeArg) -> Self {
        match dtype {
            DtypeArg::F32 => Self::F32,
            DtypeArg::Int8 => Self::Int8,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(command: AdaptCommand, context: &Context) -> Result<()> {
    // Held until the command ends.
    let _claim = command.writes().map(Claim::on).transpose()?;
    // Not only after hours of training. `auto` makes a folder of folders, `merge` one that may hold safetensors.
    if !matches!(command, AdaptCommand::Auto(_) | AdaptCommand::Merge(_)) {
        command.writes().map_or(Ok(()), check_place)?;
    }
    match command {
        AdaptCommand::Data(args) => data::run(args, context).await,
        AdaptCommand::Finetune(args) => finetune::run(args, context).await,
        AdaptCommand::Prompts(args) => prompts::run(*args, context).await,
        AdaptCommand::Distil(args) => distil::run(args, context).await,
        AdaptCommand::Prune(args) => prune::run(args, context).await,
        AdaptCommand::Merge(args) => merge::run(args, context).await,
        AdaptCommand::Quantize(args) => quantize::run(args, context).await,
        AdaptCommand::Recipe(args) => recipe::run(args, context).await,
        AdaptCommand::Import(args) => import::run(args, context).await,
        AdaptCommand::Auto(args) => auto::run(args, context).await,
        AdaptCommand::Bias(args) => bias::run(args, context).await,
        AdaptCommand::Label(args) => label::run(args, context).await,
    }
}

/// The name of a new model: as the user says, or its folder's, or its kind's.
fn name_of(told: Option<&str>, out: &Path, kind: &str) -> String {
    let folder = || out.file_name().map(|name| name.to_string_lossy().into_owned());
    told.map(str::to_owned).or_else(folder).unwrap_or_else(|| kind.to_owned())
}

/// Says what was measured, a line each.
fn show_metrics(metrics: &BTreeMap<String, Metric>) {
    for (name, metric) in metrics {
        terminal::say(format_args!(
            "  {name:<19} {:.4}   95 % interval {:.4} – {:.4}, n = {}",
            metric.estimate, metric.low, metric.high, metric.n
        ));
    }
}

/// A number above zero, from the command line.
fn positive(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0).ok_or_else(|| "it is not a number above 0".to_owned())
}

/// The most memory this process ever held, in megabytes, where the system tells.
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<f64>().ok().map(|kb| kb / 1024.0)
}
