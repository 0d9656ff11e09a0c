//! `understudy pilot`: what a small model would do to a task's traffic, before it does.

mod certify;
pub(crate) mod data;
mod run;

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
    /// Certify a threshold on recorded outcomes: how much may the small model answer?
    Certify(certify::CertifyArgs),
}

/// Runs `understudy pilot …`.
pub(crate) async fn run(command: PilotCommand, context: &Context) -> Result<()> {
    match command {
        PilotCommand::Run(args) => run::run(*args, context).await,
        PilotCommand::Data(args) => data::run(args, context).await,
        PilotCommand::Certify(args) => certify::run(args, context).await,
    }
}
