//! `understudy pilot`: what a small model would do to a task's traffic, before it does.

mod certify;
pub(crate) mod data;
mod stream;

use super::Context;
use clap::Subcommand;
use understudy_core::Result;

/// Evaluates and certifies small models.
#[derive(Debug, Subcommand)]
pub(crate) enum PilotCommand {
    /// Show what a data set holds: format, fields, labels, duplicates, leakage
    Data(data::DataArgs),
    /// Certify a threshold on recorded outcomes: how much may the small model answer?
    Certify(certify::CertifyArgs),
    /// Forecast the learning phase: what if a student started from nothing on this traffic?
    Stream(stream::StreamArgs),
}

/// Runs `understudy pilot …`.
pub(crate) async fn run(command: PilotCommand, context: &Context) -> Result<()> {
    match command {
        PilotCommand::Data(args) => data::run(args, context).await,
        PilotCommand::Certify(args) => certify::run(args, context).await,
        PilotCommand::Stream(args) => stream::run(args, context).await,
    }
}
