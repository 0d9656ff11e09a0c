//! `understudy pilot`: what a small model would do to a task's traffic, before it does.

mod cascades;
mod certify;
mod compare;
pub(crate) mod data;
mod errors;
mod load;
mod replay;
pub(crate) mod run;
mod stream;
mod what_if;

use super::Context;
use clap::Subcommand;
use understudy_core::Result;

/// Evaluates and certifies small models.
#[derive(Debug, Subcommand)]
pub(crate) enum PilotCommand {
    /// Try models on a data set: which is good enough, how fast, at what cost?
    Run(Box<run::RunArgs>),
    /// Show what a data set holds: format, fields, labels, duplicates, leakage
    Data(data::DataArgs),
    /// Find the cheapest cascade of two or three models and certify the choice
    Cascades(cascades::CascadesArgs),
    /// Certify a threshold on recorded outcomes: how much may the small model answer?
    Certify(certify::CertifyArgs),
    /// Users against latency, queueing and saturation, for a model here or a server
    Load(Box<load::LoadArgs>),
    /// Hold models against a baseline, or step down from the largest: who is better, who is good enough?
    Compare(compare::CompareArgs),
    /// Show where a small model goes wrong: confusions, slices, unclear prompts, doubtful labels
    Errors(errors::ErrorsArgs),
    /// What another threshold would have kept and lost, from a task's audited live traffic
    WhatIf(what_if::WhatIfArgs),
    /// Replay recorded outcomes through a router or a gate: quality, cost and latency at every threshold
    Replay(Box<replay::ReplayArgs>),
    /// Forecast the learning phase: what if a student started from nothing on this traffic?
    Stream(stream::StreamArgs),
}

/// Runs `understudy pilot …`.
pub(crate) async fn run(command: PilotCommand, context: &Context) -> Result<()> {
    match command {
        PilotCommand::Run(args) => run::run(*args, context).await,
        PilotCommand::Data(args) => data::run(args, context).await,
        PilotCommand::Cascades(args) => cascades::run(&args, context),
        PilotCommand::Certify(args) => certify::run(args, context).await,
        PilotCommand::Load(args) => load::run(*args, context).await,
        PilotCommand::Compare(args) => compare::run(&args, context),
        PilotCommand::Errors(args) => errors::run(&args, context),
        PilotCommand::WhatIf(args) => what_if::run(args, context).await,
        PilotCommand::Replay(args) => replay::run(*args, context).await,
        PilotCommand::Stream(args) => stream::run(args, context).await,
    }
}
