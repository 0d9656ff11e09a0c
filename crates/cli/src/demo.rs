//! `understudy demo`: the main job on real input, from the first request to certified local answers.
//!
//! Everything is real but one thing, and the screen says so: the large model is the data's answer key behind a real
//! HTTP server, with a latency and the prices of a named LLM. `--upstream` puts a real one in its place.

mod corpus;
mod data;
mod phases;
mod report;
mod summary;
mod tally;
mod traffic;
mod world;

use crate::{commands::Context, terminal};
use clap::Args;
use data::Order;
use std::path::PathBuf;
use understudy_core::{Result, Seed};

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The order in which the texts are sent
    #[arg(long, value_enum, default_value_t = Order::Random)]
    order: Order,
    /// A JSONL file of your own instead of the e-mails
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Field with the text, in a file of your own
    #[arg(long, default_value = "text", value_name = "FIELD")]
    text: String,
    /// Field with the right label, in a file of your own
    #[arg(long, default_value = "label", value_name = "FIELD")]
    label: String,
    /// A real LLM: base URL of an OpenAI-compatible API; the key is taken from OPENAI_API_KEY
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// The large model: asked at --upstream, else the one whose prices are used
    #[arg(long, default_value = "gpt-4o-mini", value_name = "NAME")]
    large: String,
    /// Latency of the answer key's server in milliseconds
    #[arg(long, default_value_t = 300.0, value_name = "MS")]
    latency: f64,
    /// The encoder of the small model
    #[arg(long, default_value = "minilm", value_name = "NAME")]
    base: String,
    /// Largest allowed loss per request
    #[arg(long, default_value_t = 0.02)]
    epsilon: f64,
    /// Probability with which the certificate may be wrong
    #[arg(long, default_value_t = 0.05)]
    delta: f64,
    /// Share of local answers that the large model checks
    #[arg(long, default_value_t = 0.1)]
    audit: f64,
    /// Share of the texts that are observed before the small model goes live
    #[arg(long, default_value_t = 0.66)]
    observe: f64,
    /// Use only this many texts
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Where the demo's files go
    #[arg(long, default_value = "understudy-demo", value_name = "DIR")]
    out: PathBuf,
    /// Seed of the order and of training
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) async fn run(args: DemoArgs, context: &Context) -> Result<()> {
    let seed = Seed(args.seed);
    let world = world::World::prepare(&args, context, seed).await?;
    world.introduce(&args);
    let servers = world.start(&args).await?;
    let outcome = phases::run(&world, &args, context, &servers.gateway, &servers.url, seed).await;
    // The servers are stopped whether it went well or not.
    servers.gateway.stop().await;
    if let Some(upstream) = servers.upstream {
        upstream.stop().await;
    }
    let tally = outcome?;
    tally.print(&world, &args);
    let files = report::write(&world.dir, &summary::report(&tally, &world, &args, context))?;
    world.leave_configuration(&args)?;
    world.say_goodbye(&args, &files);
    if context.json {
        terminal::json(&tally.summary())?;
    }
    Ok(())
}
