//! The `understudy` binary: reads arguments, runs one command, and turns its error into a message and an exit code.

mod chart;
mod claim;
mod clock;
mod commands;
mod compose;
mod config;
mod contenders;
mod demo;
mod deployed;
mod gateway;
mod generative;
mod ladder;
mod learning;
mod monitor;
mod pairs;
mod report;
mod scratch;
mod terminal;
mod training;

use clap::Parser;
use commands::Cli;
use std::process::ExitCode;

// glibc's allocator returns pages too eagerly for batches that come and go; page faults cost a tenth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return terminal::fail(&understudy_core::Error::internal(format!("start threads: {error}"))),
    };
    let result = runtime.block_on(cli.run());
    // Blocking work that nobody waits for any more must not hold up the exit.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => terminal::fail(&error),
    }
}
