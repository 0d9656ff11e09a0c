//! `understudy pilot load`: users against latency, queueing and saturation, for models in this process and for any
//! OpenAI-compatible server. The measuring is in `understudy_pilot::load`; here are targets, tables and charts.

use crate::{
    chart::{Chart, Scale, Series},
    clock::SystemClock,
    commands::Context,
    compose::{Composer, cores},
    terminal::{self, heading, say, table},
};
use clap::Args;
use futures_util::{FutureExt, future::BoxFuture};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use understudy_advise::{cost::dollars, costs::parse_price};
use understudy_core::{
    Backend, Capabilities, Clock, Embedder, Error, ModelName, Money, Place, Price, Result, Seed, request::Sampling,
};
use understudy_model::{
    artifact::Artifact,
    catalogue::Kind,
    encoder::{Dtype, EncoderOptions},
    generate::{Generator, GeneratorOptions},
    installed,
};
use understudy_pilot::load::{
    self, Asked, Budget, Limits, MOST_USERS, Measured, Offered, Plan, Prompt, Report, Target, Texts, read_prompts,
};
use understudy_stats::Bound;
use understudy_upstream::{
    HttpOptions, Network, OpenAi, OpenAiConfig, ProxyUse, Retries, Timeouts, breaker::BreakerPolicy, http_client,
    prices,
};
use understudy_wire::openai::chat::UsageChunk;

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
}

/// Runs `understudy pilot load`.
pub(super) async fn run(args: LoadArgs, context: &Context) -> Result<()> {
    let name = args.data.display().to_string();
    let prompts = read_prompts(&name, understudy_dataset::lines(&args.data)?)?;
    let plan = plan(&args)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (limits, target) = match &args.url {
        Some(url) => remote(url, &args, prompts, clock.clone())?,
        None => (limits(&args, Some(Price::LOCAL))?, local(&args, context, prompts, clock.clone())?),
    };
    let budget = Arc::new(Budget::new(limits));
    let total = plan.users.len() + plan.rates.len();
    let bar = terminal::progress(total as u64, "measuring");
    let report = load::run(&target, &plan, &budget, &clock, |measured| {
        bar.inc(1);
        let p95 = measured.quantile_ms(0.95).map_or_else(|| "-".to_owned(), |b| ms(b.estimate));
        bar.set_message(format!("{}: p95 {p95}", offered(measured)));
    })
    .await;
    bar.finish_and_clear();
    let report = report.map_err(|e| e.context(format!("measure the load of `{}`", args.model)))?;
    show(&args, &report, &budget);
    if context.json { terminal::json(&object(&args, &report, &budget)) } else { Ok(()) }
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

fn remote(
    url: &str,
    args: &LoadArgs,
    prompts: Vec<Prompt>,
    clock: Arc<dyn Clock>,
) -> Result<(Limits, Arc<dyn Target>)> {
    let price = match &args.price {
        Some(text) => Some(parse_price(text)?),
        None => prices::price_of(&args.model),
    };
    let limits = limits(args, price)?;
    if !is_here(url) && limits == Limits::default() {
        return Err(Error::invalid(
            "measure load of a server elsewhere: say what it may cost, with --max-usd USD or --max-requests N",
        ));
    }
    let proxy = if is_here(url) { ProxyUse::Direct } else { HttpOptions::default().proxy };
    let client = http_client(&HttpOptions { idle_per_host: MOST_USERS, proxy, ..HttpOptions::default() })?;
    // A breaker or a retry would hide what is measured.
    let policy = BreakerPolicy { failures: u32::MAX, ..BreakerPolicy::default() };
    let network = Network::new(client, clock, Seed(args.seed), policy);
    let timeout = Duration::try_from_secs_f64(args.timeout)
        .map_err(|_| Error::invalid("measure load: --timeout is no time").with_param("timeout"))?;
    let config = OpenAiConfig {
        name: ModelName::new(args.model.clone()),
        upstream_model: args.model.clone(),
        base_url: url.to_owned(),
        api_key: args.api_key.clone(),
        headers: std::collections::BTreeMap::new(),
        timeouts: Timeouts { total: timeout, idle: timeout },
        retries: Retries { count: 0, ..Retries::default() },
        capabilities: Capabilities {
            place: Place::Remote,
            context_tokens: None,
            multimodal: false,
            tools: false,
            many_choices: false,
            languages: Vec::new(),
        },
        usage: UsageChunk::Ensure,
    };
    let backend: Arc<dyn Backend> = Arc::new(OpenAi::new(config, &network)?);
    Ok((limits, Arc::new(Texts::new(backend, prompts, sampling(args), price))))
}

/// Whether a server runs on this machine.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn sampling(args: &LoadArgs) -> Sampling {
    Sampling { temperature: Some(0.0), max_tokens: Some(args.max_tokens), ..Sampling::default() }
}

/// An artifact's folder, or an installed model.
fn local(args: &LoadArgs, context: &Context, prompts: Vec<Prompt>, clock: Arc<dyn Clock>) -> Result<Arc<dyn Target>> {
    let composer = Composer::new(clock, Seed(args.seed))?;
    let folder = PathBuf::from(&args.model);
    let texts = |backend: Arc<dyn Backend>, prompts| -> Arc<dyn Target> {
        Arc::new(Texts::new(backend, prompts, sampling(args), Some(Price::LOCAL)))
    };
    if folder.is_dir() {
        let artifact = Artifact::read(&folder)?;
        let classifier = composer.classifier(&artifact, &context.models_dir, args.threads)?;
        return Ok(texts(Arc::new(classifier), prompts));
    }
    let installed = installed::load(&context.models_dir, &args.model)?;
    match installed.kind {
        Kind::Generative => {
            let options = GeneratorOptions {
                threads: cores(args.threads),
                ..GeneratorOptions::new(ModelName::new(args.model.clone()))
            };
            Ok(texts(Arc::new(Generator::load(&installed.gguf()?, options)?), prompts))
        }
        Kind::Encoder => {
            let most = EncoderOptions::default().max_tokens;
            let embedder = composer.encoder(&installed, Dtype::Int8, most, args.threads)?;
            Ok(Arc::new(Embedding { embedder, prompts }))
        }
        Kind::Dataset => Err(Error::invalid(format!("measure the load of `{}`: it is a data set", args.model))),
    }
}

/// An encoder that embeds texts in turn.
struct Embedding {
    embedder: Arc<dyn Embedder>,
    prompts: Vec<Prompt>,
}

impl Target for Embedding {
    fn ask(&self, n: u64) -> BoxFuture<'_, Result<Asked>> {
        let index = usize::try_from(n % self.prompts.len() as u64).expect("below the number of prompts");
        let text = self.prompts[index].text.clone();
        async move {
            self.embedder.embed(vec![text]).await?;
            Ok(Asked { cost: Some(Money::ZERO), ..Asked::default() })
        }
        .boxed()
    }
}

fn offered(measured: &Measured) -> String {
    match measured.offered {
        Offered::Users(1) => "1 user".to_owned(),
        Offered::Users(users) => format!("{users} users"),
        Offered::Rate(rate) => format!("{rate:.1}/s"),
    }
}

fn show(args: &LoadArgs, report: &Report, budget: &Budget) {
    let highest = report.closed.iter().max_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    let line = match (args.within_ms, report.most_users, highest) {
        (Some(limit), Some(users), _) => format!("{users} users with 95 % of the answers within {limit} ms"),
        (Some(limit), None, _) => format!("not even {} within {limit} ms at the 95th percentile", args.users[0]),
        (None, _, Some(best)) if best.per_second() <= 0.0 => {
            format!("no answer came within a step of {} s; measure longer ones with --seconds", args.seconds)
        }
        (None, _, Some(best)) => format!("at most {:.1} answers a second, with {}", best.per_second(), offered(best)),
        (None, _, None) => "nothing was measured".to_owned(),
    };
    let good = match args.within_ms {
        Some(_) => report.most_users.is_some(),
        None => highest.is_some_and(|best| best.per_second() > 0.0),
    };
    say(terminal::verdict(&line, good));
    heading("Users who ask again as soon as they have their answer");
    say(steps("users", &report.closed, args.within_ms));
    if !report.open.is_empty() {
        heading("Requests that arrive whether or not earlier ones are answered (Poisson)");
        say(steps("rate/s", &report.open, args.within_ms));
    }
    heading("Saturation");
    if let Some(users) = report.saturation_users {
        say(format_args!(
            "  from {users:.1} users on they wait for each other (highest throughput × time of a lone request)"
        ));
    }
    if let Some(fit) = &report.scalability {
        let peak = match fit.peak_users {
            Some(peak) => format!("throughput falls beyond {peak:.0} users"),
            None => "throughput does not fall in this range".to_owned(),
        };
        say(format_args!(
            "  universal scalability law: contention {:.4}, coherence {:.6}, R² {:.3} over {} steps; {peak}",
            fit.sigma, fit.kappa, fit.r_squared, fit.n
        ));
    }
    if let (Some(limit), Some(rate)) = (args.within_ms, report.most_rate) {
        say(format_args!("  highest arrival rate measured within {limit} ms: {rate:.1}/s"));
    }
    say("");
    for line in chart(report).lines() {
        say(line);
    }
    let (money, unknown) = budget.money();
    let unpriced = if unknown > 0 { format!(", {unknown} answers of unknown cost beside it") } else { String::new() };
    say(format_args!("\n  {} requests, {}{unpriced}", budget.requests(), dollars(money)));
    if report.out_of_budget {
        say(terminal::verdict("  ended early: what may be spent was spent", false));
    }
    for measured in report.closed.iter().chain(&report.open) {
        if let Some(error) = &measured.first_error {
            say(format_args!("  {}: {} failed; the first: failed to {error}", offered(measured), measured.failed()));
        }
    }
}

fn ms(x: f64) -> String {
    match x {
        x if !x.is_finite() => "∞".to_owned(),
        x if x < 10.0 => format!("{x:.2}"),
        x if x < 100.0 => format!("{x:.1}"),
        x => format!("{x:.0}"),
    }
}

fn with_interval(bound: Option<Bound>) -> String {
    let end = |x: f64| if x.is_finite() { ms(x) } else { "?".to_owned() };
    bound.map_or_else(|| "-".to_owned(), |b| format!("{} [{}, {}]", ms(b.estimate), end(b.low), end(b.high)))
}

fn steps(first: &str, all: &[Measured], within_ms: Option<f64>) -> impl std::fmt::Display {
    let rows = all.iter().map(|measured| {
        let load = match measured.offered {
            Offered::Users(users) => users.to_string(),
            Offered::Rate(rate) => format!("{rate:.1}"),
        };
        let throughput = measured.throughput().map_or_else(
            || format!("{:.1}", measured.per_second()),
            |b| format!("{:.1} [{:.1}, {:.1}]", b.estimate, b.low, b.high),
        );
        let note = match within_ms {
            _ if measured.is_overloaded() => "overloaded",
            Some(limit) if measured.holds(limit) => "holds",
            _ => "",
        };
        vec![
            load,
            with_interval(measured.quantile_ms(0.5)),
            with_interval(measured.quantile_ms(0.95)),
            with_interval(measured.quantile_ms(0.99)),
            throughput,
            measured.failed().to_string(),
            measured.answered().to_string(),
            note.to_owned(),
        ]
    });
    table(&[first, "p50 ms", "p95 ms", "p99 ms", "answers/s", "failed", "n", ""], &[0, 1, 2, 3, 4, 5, 6], rows)
}

fn chart(report: &Report) -> Chart<'static> {
    let series = |mark, name: &str, q: f64| Series {
        mark,
        name: name.to_owned(),
        points: report
            .closed
            .iter()
            .filter_map(|m| Some((m.offered.users()? as f64, m.quantile_ms(q)?.estimate)))
            .collect(),
    };
    Chart {
        x_title: "users",
        y_title: "ms",
        x: Scale::Log,
        y: Scale::Log,
        x_label: |x| format!("{x:.0}"),
        y_label: ms,
        series: vec![series('.', "p50", 0.5), series('#', "p95", 0.95)],
    }
}

fn object(args: &LoadArgs, report: &Report, budget: &Budget) -> Value {
    let finite = |x: f64| x.is_finite().then_some(x);
    let bound = |b: Option<Bound>| {
        b.map(|b| json!({ "estimate": finite(b.estimate), "low": finite(b.low), "high": finite(b.high) }))
    };
    let step = |m: &Measured| {
        json!({
            "users": m.offered.users(), "rate": m.offered.rate(), "n": m.answered(), "failed": m.failed(),
            "errors": m.errors, "latency_ms_p50": bound(m.quantile_ms(0.5)), "latency_ms_p95": bound(m.quantile_ms(0.95)),
            "latency_ms_p99": bound(m.quantile_ms(0.99)), "per_second": m.per_second(),
            "per_second_interval": bound(m.throughput()), "output_tokens": m.output_tokens, "seconds": m.seconds,
            "overloaded": m.is_overloaded(),
        })
    };
    let (money, unknown) = budget.money();
    json!({
        "model": args.model, "within_ms": args.within_ms, "most_users": report.most_users, "most_rate": report.most_rate,
        "saturation_users": report.saturation_users,
        "scalability": report.scalability.map(|s| json!({
            "lambda": s.lambda, "sigma": s.sigma, "kappa": s.kappa, "peak_users": s.peak_users,
            "r_squared": s.r_squared, "n": s.n,
        })),
        "closed": report.closed.iter().map(step).collect::<Vec<_>>(),
        "open": report.open.iter().map(step).collect::<Vec<_>>(),
        "requests": budget.requests(), "cost_usd": money.usd(), "unknown_cost": unknown,
        "out_of_budget": report.out_of_budget,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_here() {
        for here in ["http://127.0.0.1:8484/v1", "http://localhost/v1", "http://[::1]:80", "http://u@127.0.0.1/"] {
            assert!(is_here(here), "{here}");
        }
        for away in [
            "https://api.openai.com/v1",
            "http://127.0.0.1.evil.com",
            "http://localhost@evil.com",
            "http://10.0.0.1",
            "",
        ] {
            assert!(!is_here(away), "{away}");
        }
    }
}
