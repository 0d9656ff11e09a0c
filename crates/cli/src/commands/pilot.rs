//! `understudy pilot`: what a small model would do to a task's traffic, before it does.

mod certify;

use super::Context;
use clap::Subcommand;
use understudy_core::Result;

/// Evaluates and certifies small models.
#[derive(Debug, Subcommand)]
pub(crate) enum PilotCommand {
    /// Certify a threshold on recorded outcomes: how much may the small model answer?
    Certify(certify::CertifyArgs),
}

/// Runs `understudy pilot …`.
pub(crate) async fn run(command: PilotCommand, context: &Context) -> Result<()> {
    match command {
        PilotCommand::Certify(args) => certify::run(args, context).await,
    }
}
