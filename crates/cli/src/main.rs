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
use std::io::Write;
use understudy_core::Error;

// glibc's allocator returns pages too eagerly for batches that come and go; page faults cost a tenth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let code = match run(Cli::parse()) {
        Ok(()) => 0,
        Err(error) => terminal::fail(&error),
    };
    drop(std::io::stdout().flush());
    // Threads of interrupted work may still be in llama.cpp, whose global state an orderly exit would destroy under them.
    signal_hook::low_level::exit(code.into());
}

fn run(cli: Cli) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::internal(format!("start threads: {e}")))?;
    let done = runtime.block_on(cli.run());
    // Blocking work that nobody waits for any more must not hold up the exit.
    runtime.shutdown_background();
    done
}
