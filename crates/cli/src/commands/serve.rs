//! `understudy serve`: runs the gateway until it is told to stop.

use super::Context;
use crate::{gateway::Gateway, terminal};
use clap::Args;
use tracing_subscriber::EnvFilter;
use understudy_core::Result;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Write the log as JSON lines
    #[arg(long)]
    log_json: bool,
}

pub(crate) async fn run(args: ServeArgs, context: &Context) -> Result<()> {
    log(args.log_json);
    // Before anything is said: whoever reads that it listens may already send the signal.
    let stopped = Stop::new();
    let gateway = Gateway::start(&context.config_path).await?;
    terminal::note(format_args!("understudy {} listens on http://{}/v1", env!("CARGO_PKG_VERSION"), gateway.address));
    for task in &gateway.shared.snapshot().tasks {
        let certified = task.small.as_ref().is_some_and(|small| small.certificate.is_some());
        terminal::note(format_args!(
            "  task {} · {} · {}",
            task.spec.name,
            task.spec.mode.as_str(),
            if certified { "certified" } else { "no certificate: the large model answers" }
        ));
    }
    stopped.received().await;
    terminal::note("draining: open requests are finished first");
    gateway.stop().await;
    Ok(())
}

/// Structured logs on standard error, filtered by `RUST_LOG`. llama.cpp writes a hundred lines about each model at `info`.
pub(crate) fn log(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,llama-cpp-2=warn"));
    let colour = terminal::coloured(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr);
    // A second subscriber (the demo starts two gateways) is not an error.
    drop(if json { builder.json().try_init() } else { builder.try_init() });
}

/// SIGTERM, where there is one, and Ctrl-C.
struct Stop {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
}

impl Stop {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok(),
        }
    }

    async fn received(self) {
        let interrupted = async {
            // Without signals the process runs until it is killed, which loses nothing that was acknowledged.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        #[cfg(unix)]
        if let Some(mut terminate) = self.terminate {
            tokio::select! {
                _ = terminate.recv() => {}
                () = interrupted => {}
            }
            return;
        }
        interrupted.await;
    }
}
