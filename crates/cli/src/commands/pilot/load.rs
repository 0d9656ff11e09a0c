//! `understudy pilot load`: users against latency, queueing and saturation, for models in this process and for any
//! OpenAI-compatible server. The measuring is in `understudy_pilot::load`; here are targets, tables and charts.

mod page;
mod show;
mod target;

use crate::{clock::SystemClock, commands::Context, report::ReportArg, terminal};
use clap::Args;
use secrecy::SecretString;
use std::{path::PathBuf, sync::Arc, time::Duration};
use understudy_core::{Clock, Error, Money, Price, Result, Seed};
use understudy_pilot::load::{self, Budget, Limits, MOST_USERS, Plan, read_prompts};

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// An installed model, or the folder of an artifact; with --url the server's name for it
    #[arg(long, value_name = "NAME")]
    model: String,
    /// An OpenAI-compatible server, a gateway or a provider: http://127.0.0.1:8484/v1
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The server's key; better set in the environment, where other users do not see it
    #[arg(long, value_name = "KEY", env = "OPENAI_API_KEY", hide_env_values = true)]
    api_key: Option<SecretString>,
    /// What to ask: a text a line, or JSON lines with `prompt`, `text`, `input`, `question` or `messages`; `.zst` is
    /// unpacked
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Users in each step
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32")]
    users: Vec<usize>,
    /// Arrival rates of the open loop, as shares of the highest throughput; 0 leaves it out
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',', default_value = "0.5,0.7,0.9,1.1")]
    rates: Vec<f64>,
    /// Search for the most users with a 95th percentile within this
    #[arg(long, value_name = "MS")]
    within_ms: Option<f64>,
    /// Length of each step
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// Time before each step that does not count
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    warm_up: f64,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: u32,
    /// Spend at most this; needed for servers elsewhere whose price is known
    #[arg(long, value_name = "USD")]
    max_usd: Option<f64>,
    /// Send at most so many requests; needed for servers elsewhere whose price is not known
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,
    /// Price in USD per million tokens, instead of the table's
    #[arg(long, value_name = "IN/OUT")]
    price: Option<String>,
    /// Longest wait for an answer
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    timeout: f64,
    /// Threads of a model in this process; 0 uses all
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of the arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    report: ReportArg,
}

/// Runs `understudy pilot load`.
pub(super) async fn run(args: LoadArgs, context: &Context) -> Result<()> {
    args.report.check()?;
    let name = args.data.display().to_string();
    let prompts = read_prompts(&name, understudy_dataset::lines(&args.data)?)?;
    let plan = plan(&args)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (limits, target) = match &args.url {
        Some(url) => target::remote(url, &args, prompts, clock.clone())?,
        None => (limits(&args, Some(Price::LOCAL))?, target::local(&args, context, prompts, clock.clone())?),
    };
    let budget = Arc::new(Budget::new(limits));
    let total = plan.users.len() + plan.rates.len();
    let bar = terminal::progress(total as u64, "measuring");
    let report = load::run(&target, &plan, &budget, &clock, |measured| {
        bar.inc(1);
        let p95 = measured.quantile_ms(0.95).map_or_else(|| "-".to_owned(), |b| show::ms(b.estimate));
        bar.set_message(format!("{}: p95 {p95}", show::offered(measured)));
    })
    .await;
    bar.finish_and_clear();
    let report = report.map_err(|e| e.context(format!("measure the load of `{}`", args.model)))?;
    show::show(&args, &report, &budget);
    let object = show::object(&args, &report, &budget);
    args.report.write(|| page::page(&args, &report, &budget), &object)?;
    crate::commands::finish(context, &object)
}

fn plan(args: &LoadArgs) -> Result<Plan> {
    let time = |name: &'static str, seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|d| *d <= Duration::from_secs(86_400))
            .ok_or_else(|| Error::invalid(format!("measure load: --{name} {seconds} is no time")).with_param(name))
    };
    let mut users = args.users.clone();
    users.sort_unstable();
    users.dedup();
    if users.last().is_some_and(|most| *most > MOST_USERS) {
        return Err(Error::invalid(format!("measure load: more than {MOST_USERS} users")).with_param("users"));
    }
    if args.within_ms.is_some_and(|ms| !(ms.is_finite() && ms > 0.0)) {
        return Err(Error::invalid("measure load: --within-ms is a time above 0").with_param("within-ms"));
    }
    Ok(Plan {
        users,
        rates: args.rates.iter().copied().filter(|rate| *rate > 0.0 || rate.is_nan()).collect(),
        warm_up: time("warm-up", args.warm_up)?,
        length: time("seconds", args.seconds)?,
        within_ms: args.within_ms,
        seed: Seed(args.seed),
    })
}

/// What may be spent. `price` is none where it is not known.
fn limits(args: &LoadArgs, price: Option<Price>) -> Result<Limits> {
    let money = args.max_usd.map(Money::from_usd).transpose()?;
    if money.is_some() && price.is_none() {
        return Err(Error::invalid(format!(
            "measure load within --max-usd: the price of `{}` is not known; give it with --price IN/OUT",
            args.model
        )));
    }
    Ok(Limits { requests: args.max_requests, money })
}
