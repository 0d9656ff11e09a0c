//! The commands and their arguments.

mod adapt;
mod advise;
mod check;
mod init;
pub(crate) mod models;
mod pilot;
mod ps;
mod run;
mod serve;
mod traces;

use crate::{
    config::{self, Config},
    demo, terminal,
};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use understudy_core::{Error, ErrorKind, Result};

/// Answer LLM traffic with a small model you own, as far as it is proven good enough.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// The configuration file
    #[arg(long, short, global = true, default_value = config::FILE, value_name = "FILE", env = "UNDERSTUDY_CONFIG")]
    config: PathBuf,
    /// Where small models are installed [default: ~/.understudy/models]
    #[arg(long, global = true, value_name = "DIR", env = "UNDERSTUDY_MODELS")]
    models_dir: Option<PathBuf>,
    /// Print one JSON object as the last line of output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented configuration
    Init(init::InitArgs),
    /// Check the configuration and say what would run
    Check,
    /// Run the gateway
    Serve(serve::ServeArgs),
    /// Show what a running gateway serves
    Ps(ps::PsArgs),
    /// Show the requests that passed through the gateway
    Traces(traces::TracesArgs),
    /// Small, large or both? Reasons, costs, forecast
    Advise(Box<advise::AdviseArgs>),
    /// Make a small model good at a task
    #[command(subcommand)]
    Adapt(adapt::AdaptCommand),
    /// Measure and certify
    #[command(subcommand)]
    Pilot(pilot::PilotCommand),
    /// Install a model or a data set
    Pull(models::PullArgs),
    /// List the models of the catalogue and what is installed
    List(models::ListArgs),
    /// Show everything about a model
    Show(models::ShowArgs),
    /// Remove an installed model
    Rm(models::RmArgs),
    /// Ask a small generative model on the terminal
    Run(run::RunArgs),
    /// See it work: real e-mails, a small model, a certificate, live traffic
    Demo(demo::DemoArgs),
}

/// What every command may need.
pub(crate) struct Context {
    pub(crate) config_path: PathBuf,
    pub(crate) models_dir: PathBuf,
    pub(crate) json: bool,
}

impl Context {
    /// The checked configuration, with the models' folder from the command line where it was given.
    pub(crate) fn config(&self) -> Result<Config> {
        Config::load(&self.config_path)
    }

    /// The store's file: the configuration's.
    pub(crate) fn store_path(&self) -> Result<PathBuf> {
        Ok(self.config()?.store.path)
    }
}

impl Cli {
    pub(crate) async fn run(self) -> Result<()> {
        let models_dir = match (&self.models_dir, self.config.exists()) {
            (Some(dir), _) => dir.clone(),
            (None, true) => Config::load(&self.config).map(|c| c.models_dir).unwrap_or_else(|_| default_models_dir()),
            (None, false) => default_models_dir(),
        };
        let context = Context { config_path: self.config, models_dir, json: self.json };
        match self.command {
            Command::Init(args) => init::run(&args, &context),
            Command::Check => check::run(&context).await,
            Command::Serve(args) => serve::run(args, &context).await,
            Command::Ps(args) => ps::run(args, &context).await,
            Command::Traces(args) => traces::run(args, &context.store_path()?, context.json).await,
            Command::Advise(args) => advise::run(*args, &context).await,
            Command::Adapt(command) => adapt::run(command, &context).await,
            Command::Pilot(command) => pilot::run(command, &context).await,
            Command::Pull(args) => models::pull(args, &context.models_dir, context.json).await,
            Command::List(args) => models::list(args, &context.models_dir, context.json),
            Command::Show(args) => models::show(args, &context.models_dir, context.json),
            Command::Rm(args) => models::rm(args, &context.models_dir, context.json),
            Command::Run(args) => run::run(args, &context).await,
            Command::Demo(args) => demo::run(args, &context).await,
        }
    }
}

fn default_models_dir() -> PathBuf {
    config::default_models_dir()
}

/// Says where a file was written, relative to where the user stands if that is shorter.
pub(crate) fn shown(path: &Path) -> String {
    std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path).display().to_string()
}

/// Prints `--json` output or nothing.
pub(crate) fn finish(context: &Context, value: &serde_json::Value) -> Result<()> {
    if context.json { terminal::json(value) } else { Ok(()) }
}

/// Ctrl-C ends work here that keeps what it has as it goes; `what` completes "failed to finish".
pub(crate) async fn unless_interrupted<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Error::new(
            ErrorKind::Cancelled,
            format!("finish {what}: it was interrupted; the same command goes on where it stopped"),
        )),
    }
}
