//! `understudy check`: whether the configuration is right, and what it means.

use super::{Context, finish};
use crate::{
    clock::{SystemClock, fresh_seed},
    compose::Composer,
    config::{Config, Source},
    terminal,
};
use serde_json::json;
use std::sync::Arc;
use understudy_core::{Capabilities, Message, Mode, Request, Result, Role, TraceId, task::Privacy};
use understudy_route::{Large, Plan, Small, plan};
use understudy_serve::state::Task;
use understudy_store::{Store, StoreOptions};

pub(crate) async fn run(context: &Context) -> Result<()> {
    let config = context.config()?;
    let composer = Composer::new(Arc::new(SystemClock::new()), fresh_seed())?;
    // A store that is not there yet is not made by a check: it looks at an empty one elsewhere.
    let scratch =
        tempfile::tempdir().map_err(|e| understudy_core::Error::unavailable(format!("make a folder: {e}")))?;
    let path = if config.store.path.exists() { config.store.path.clone() } else { scratch.path().join("empty.db") };
    let store = Store::open(&path, StoreOptions::default())?;
    let snapshot = composer.compose(&config, &store).await?;

    terminal::say(format_args!("{} is valid", super::shown(&context.config_path)));
    terminal::heading("Gateway");
    let keys = match config.server.api_keys.len() {
        0 => "no key needed".to_owned(),
        n => format!("{n} client key{}", if n == 1 { "" } else { "s" }),
    };
    terminal::say(format_args!("  base URL   http://{}/v1   ({keys})", config.server.listen));
    terminal::say(format_args!("  store      {}", super::shown(&config.store.path)));
    upstreams(&config);
    models(&config);
    terminal::heading("Tasks");
    if snapshot.tasks.is_empty() {
        terminal::say("  none: every request goes to the model it names, and is recorded");
    }
    let mut told = Vec::new();
    for task in &snapshot.tasks {
        let (what, why) = explain(task);
        let spec = &task.spec;
        terminal::say(format_args!("  {}   {} · model `auto:{}`", spec.name, spec.mode.as_str(), spec.name));
        terminal::say(format_args!("    {what}"));
        terminal::say(format_args!("    {why}"));
        told.push(json!({
            "task": spec.name, "mode": spec.mode, "what": what, "certificate": why,
            "small": task.small.as_ref().map(|s| s.model.backend.name().clone()), "large": spec.large,
        }));
    }
    finish(context, &json!({ "valid": true, "listen": config.server.listen.to_string(), "tasks": told }))
}

fn upstreams(config: &Config) {
    terminal::heading("Upstreams");
    if config.upstreams.is_empty() {
        terminal::say("  none: only models in this process answer");
    }
    for (name, upstream) in &config.upstreams {
        let default = if config.server.default_upstream.as_ref() == Some(name) { "  (default)" } else { "" };
        let what = match &upstream.source {
            Source::OpenAi { base_url, api_key, .. } => {
                format!("{base_url}   {}", if api_key.is_some() { "key set" } else { "no key" })
            }
            Source::Recorded { file, .. } => format!("recorded answers of {}", super::shown(file)),
        };
        terminal::say(format_args!("  {name:<10} {what}{default}"));
    }
}

fn models(config: &Config) {
    if config.models.is_empty() && config.locals.is_empty() {
        return;
    }
    terminal::heading("Models");
    for (name, model) in &config.models {
        let price = model.price.map_or("price unknown: costs will say so".to_owned(), |p| {
            format!("{} in, {} out per million tokens", p.input_per_million, p.output_per_million)
        });
        terminal::say(format_args!("  {name:<24} at {:<10} {price}", model.upstream));
    }
    for (name, local) in &config.locals {
        terminal::say(format_args!("  {name:<24} in this process ({})", local.model));
    }
}

/// What would happen to a plain request of the task, by the very plan that serves it.
fn explain(task: &Task) -> (String, String) {
    let spec = &task.spec;
    let text = "text".to_owned();
    let mut request =
        Request::new(TraceId::from_parts(0, 0), "auto".into(), vec![Message { role: Role::User, text: text.clone() }]);
    request.input = Some(text);
    let capabilities = |c: &Capabilities| c.clone();
    let (small, large) = (
        task.small.as_ref().map(|s| (capabilities(s.model.backend.capabilities()), s.certificate.as_ref())),
        task.large.as_ref().map(|l| capabilities(l.backend.capabilities())),
    );
    let small = small.as_ref().map(|(capabilities, certificate)| Small { capabilities, certificate: *certificate });
    let large = large.as_ref().map(|capabilities| Large { capabilities });
    let planned = plan(spec, small, large, &understudy_route::AlwaysTry, &request);
    let large_name = spec.large.as_ref().map_or("nobody", |l| l.as_str());
    let what = match planned {
        Ok(Plan::SmallFirst { gate, audit_probability, large_obstacle }) => {
            let threshold = gate.certificate().map_or(0.0, |certificate| certificate.threshold.get());
            let rest = if large_obstacle.is_some() {
                "refuses the rest".to_owned()
            } else {
                format!("sends the rest to {large_name}")
            };
            format!(
                "answers locally from confidence {threshold:.4}, audits {} of those, {rest}",
                terminal::percent(audit_probability)
            )
        }
        Ok(Plan::Large { reason, .. }) => match spec.mode {
            Mode::Observe => format!("sends everything to {large_name} and records it"),
            Mode::Shadow => format!("sends everything to {large_name}; the small model runs along, unseen"),
            Mode::Live => format!("sends everything to {large_name} ({})", reason.as_str().replace('_', " ")),
        },
        Err(error) => format!("refuses every request: failed to {error}"),
    };
    let certificate = match task.small.as_ref().map(|s| (&s.model, &s.certificate)) {
        Some((_, Some(c))) => format!(
            "certificate {}: loss ≤ {} with confidence {}, n = {}, {} kept",
            c.id,
            terminal::percent(c.epsilon),
            terminal::percent(1.0 - c.delta),
            c.n,
            terminal::percent(c.kept)
        ),
        Some((model, None)) => {
            format!(
                "no valid certificate for {}: it only shadows; `understudy pilot certify --task {}`",
                model.backend.name(),
                spec.name
            )
        }
        None if spec.privacy == Privacy::LocalOnly => "no small model yet, and texts must stay here".to_owned(),
        None => format!(
            "no small model yet; `understudy adapt finetune --task {}` makes one from recorded traffic",
            spec.name
        ),
    };
    (what, certificate)
}
