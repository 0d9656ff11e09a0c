//! `understudy pilot`: what a small model would do to a task's traffic, before it does.

mod cascades;
mod certify;
pub(crate) mod data;

use super::Context;
use clap::Subcommand;
use understudy_core::Result;

/// Evaluates and certifies small models.
#[derive(Debug, Subcommand)]
pub(crate) enum PilotCommand {
    /// Show what a data set holds: format, fields, labels, duplicates, leakage
    Data(data::DataArgs),
    /// Find the cheapest cascade of two or three models and certify the choice
    Cascades(cascades::CascadesArgs),
    /// Certify a threshold on recorded outcomes: how much may the small model answer?
    Certify(certify::CertifyArgs),
}

/// Runs `understudy pilot …`.
pub(crate) async fn run(command: PilotCommand, context: &Context) -> Result<()> {
    match command {
        PilotCommand::Data(args) => data::run(args, context).await,
        PilotCommand::Cascades(args) => cascades::run(&args, context),
        PilotCommand::Certify(args) => certify::run(args, context).await,
    }
}
