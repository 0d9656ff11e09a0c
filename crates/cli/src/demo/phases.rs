//! The demo's four phases: observe, fit, certify, live.

use super::{
    DemoArgs,
    tally::{Records, Tally},
    traffic::{Application, Received},
    world::{TASK, World},
};
use crate::{
    commands::Context,
    gateway::Gateway,
    learning::{self, Certification},
    terminal,
    training::TrainOptions,
};
use std::time::Duration;
use understudy_core::{Error, Mode, Result, Seed, TaskName, TaskSpec};
use understudy_pilot::Verdict;
use understudy_store::{Order, Trace, TraceFilter};
use understudy_upstream::{HttpOptions, ProxyUse, http_client};

/// Requests open at a time while observing: the answer key's server is idle most of the time.
const OBSERVE_USERS: usize = 64;
/// Requests open at a time while live: few enough that latencies are those of an application, not of a queue.
const LIVE_USERS: usize = 4;
/// Longest wait for audits that are still under way when the last answer has come.
const AUDITS_WAIT: Duration = Duration::from_secs(30);

pub(super) async fn run(
    world: &World,
    args: &DemoArgs,
    context: &Context,
    gateway: &Gateway,
    upstream: &str,
    seed: Seed,
) -> Result<Tally> {
    let network = http_client(&HttpOptions { proxy: ProxyUse::Direct, ..HttpOptions::default() })?;
    let application = Application {
        address: gateway.address,
        model: &args.large,
        system: &world.system,
        http: network,
        clock: &*gateway.clock,
    };
    let (observed, live) = world.items.split_at(world.observed(args));

    let began = gateway.clock.monotonic();
    let took = |since: Duration| format!("{:.1} s", gateway.clock.monotonic().saturating_sub(since).as_secs_f64());
    terminal::heading("1 · Observe");
    let bar = terminal::progress(observed.len() as u64, "the large model answers");
    application.send(observed, OBSERVE_USERS, &bar).await?;
    bar.finish_and_clear();
    terminal::say(format_args!(
        "  {} requests answered by {} and recorded, {}",
        observed.len(),
        args.large,
        took(began)
    ));

    let began = gateway.clock.monotonic();
    terminal::heading("2 · Fit");
    let spec = spec(gateway)?;
    let now = gateway.clock.now();
    let bar = terminal::progress(observed.len() as u64 / 2, "embedding and fitting");
    let dir = learning::artifact_dir(&world.dir.join("understudy.db"), &spec.name, seed, now);
    let options = TrainOptions {
        base: args.base.clone(),
        models_dir: context.models_dir.clone(),
        name: format!("{TASK}-{}", args.base).as_str().into(),
        task: Some(spec.name.clone()),
        seed,
        created: now,
        ..TrainOptions::default()
    };
    let trained = learning::train_from_traffic(&gateway.store, &spec, options, &dir, &bar).await?;
    bar.finish_and_clear();
    terminal::say(format_args!(
        "  {} and a head on it learned from {} of the recorded answers, {}   (artifact {})",
        args.base,
        trained.examples,
        took(began),
        &trained.artifact.hash()[..12]
    ));

    let began = gateway.clock.monotonic();
    terminal::heading("3 · Certify");
    let bar = terminal::progress(observed.len() as u64 / 2, "judging held-out requests");
    let config = gateway.config()?;
    let task = config.tasks.first().ok_or_else(|| Error::internal("find the demo's task"))?;
    let certification =
        learning::certify_from_traffic(&gateway.store, task, &config, &gateway.composer, gateway.clock.now(), &bar)
            .await?;
    bar.finish_and_clear();
    announce(&certification, args, &took(began));

    terminal::heading("4 · Live");
    world.configure(upstream, Mode::Live, args)?;
    gateway.reload().await?;
    let began = gateway.clock.monotonic();
    let bar = terminal::progress(live.len() as u64, "the gateway answers");
    let received = application.send(live, LIVE_USERS, &bar).await?;
    bar.finish_and_clear();
    let seconds = gateway.clock.monotonic().saturating_sub(began).as_secs_f64();
    let traces = traces(gateway, &spec.name, &received).await?;
    terminal::say(format_args!("  {} requests in {seconds:.1} s", live.len()));
    let states = gateway.store.certificates(Some(&spec.name)).await?;
    let evidence = match certification.report.certificate() {
        Some(certificate) => gateway.store.audit_sequence(&certificate.id, 0).await?.rows,
        None => Vec::new(),
    };
    let records = Records { received, traces, states, evidence };
    Ok(Tally::new(live, records, certification, world, args))
}

fn spec(gateway: &Gateway) -> Result<TaskSpec> {
    let snapshot = gateway.shared.snapshot();
    let task = snapshot.tasks.first().ok_or_else(|| Error::internal("find the demo's task"))?;
    Ok(task.spec.clone())
}

fn announce(certification: &Certification, args: &DemoArgs, took: &str) {
    match &certification.report.verdict {
        Verdict::Certified(c) => terminal::say(format_args!(
            "  {}   loss ≤ {} per request with {} confidence: keep answers from confidence {:.4}\n  n = {}, {} kept, {} \
             losses, upper bound {:.2} %, {took}   (certificate {})",
            terminal::verdict("certified", true),
            terminal::percent(args.epsilon),
            terminal::percent(1.0 - args.delta),
            c.threshold.get(),
            c.n,
            terminal::percent(c.kept),
            c.losses,
            c.bound * 100.0,
            c.id
        )),
        Verdict::NotCertified(refusal) => {
            let more = refusal.examples_needed.map_or(String::new(), |n| format!("; about {n} more examples"));
            terminal::say(format_args!(
                "  {}   {}{more}\n  no certificate, no traffic: the large model keeps answering",
                terminal::verdict("not certified", false),
                refusal.reason
            ));
        }
    }
}

/// The traces of the live phase, in the order of the items, when the last audits have arrived.
async fn traces(gateway: &Gateway, task: &TaskName, received: &[Received]) -> Result<Vec<Trace>> {
    let deadline = gateway.clock.monotonic() + AUDITS_WAIT;
    while !gateway.shared.is_idle() && gateway.clock.monotonic() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let filter =
        TraceFilter { task: Some(task.clone()), limit: None, order: Order::OldestFirst, ..TraceFilter::default() };
    let mut by_id: std::collections::HashMap<_, _> =
        gateway.store.traces(&filter).await?.into_iter().map(|trace| (trace.id, trace)).collect();
    received
        .iter()
        .map(|r| {
            let wrong = |what: &str| Error::internal(format!("check trace {}: {what}", r.trace));
            let trace = by_id.remove(&r.trace).ok_or_else(|| wrong("an answer has no row"))?;
            // What the application saw and what the gateway recorded must be the same.
            if r.route != trace.route.as_str() {
                return Err(wrong("the response header names another route"));
            }
            if trace.reply().and_then(|call| call.label.as_deref()).is_some_and(|label| label != r.text.trim()) {
                return Err(wrong("the client got another label"));
            }
            Ok(trace)
        })
        .collect()
}
