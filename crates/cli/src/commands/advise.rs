//! `understudy advise`: should this be small, large or both, why, and what does it cost? The arithmetic is in
//! `understudy_advise`; here are the questions, the evidence and the page.

mod assumptions;
mod cost;
mod evidence;
mod examples;
mod forecast;
mod page;
mod questions;
mod recommend;

use super::Context;
use clap::{Args, Subcommand};
use understudy_core::Result;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AdviseArgs {
    #[command(subcommand)]
    command: Option<AdviseCommand>,
    #[command(flatten)]
    recommend: recommend::RecommendArgs,
}

#[derive(Debug, Subcommand)]
enum AdviseCommand {
    /// What small, hybrid and large cost: a query, a month, a year; and from which volume on a small model pays
    Cost(Box<cost::CostArgs>),
    /// The field's published cost examples, computed again
    Examples,
    /// What a hybrid would cost and how fast it would be, from requests that were recorded
    Forecast(Box<forecast::ForecastArgs>),
}

/// Runs `understudy advise …`.
pub(crate) async fn run(args: AdviseArgs, context: &Context) -> Result<()> {
    match args.command {
        None => recommend::run(args.recommend, context).await,
        Some(AdviseCommand::Cost(args)) => cost::run(&args, context).await,
        Some(AdviseCommand::Examples) => examples::run(context),
        Some(AdviseCommand::Forecast(args)) => forecast::run(&args, context).await,
    }
}
