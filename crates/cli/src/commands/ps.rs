//! `understudy ps`: what a running gateway serves.

use super::Context;
use crate::terminal;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::time::Duration;
use understudy_core::{Error, Result};
use understudy_upstream::{HttpOptions, ProxyUse, http_client};

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Address of the gateway [default: the configuration's]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A client key of the gateway
    #[arg(long, env = "UNDERSTUDY_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

pub(crate) async fn run(args: PsArgs, context: &Context) -> Result<()> {
    let base = match (&args.url, context.config_path.exists()) {
        (Some(url), _) => url.trim_end_matches('/').trim_end_matches("/v1").to_owned(),
        (None, true) => format!("http://{}", context.config()?.server.listen),
        (None, false) => "http://127.0.0.1:8484".to_owned(),
    };
    let key = args.api_key.map(SecretString::from);
    let status = fetch(&base, key.as_ref()).await?;
    if context.json {
        return terminal::json(&status);
    }
    let text = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    terminal::say(format_args!("{base}/v1   {}", if status["ready"] == true { "ready" } else { "not ready" }));
    let models = status["models"].as_array().cloned().unwrap_or_default();
    terminal::say(terminal::table(
        &["MODEL", "KIND", "RUNS"],
        &[],
        models.iter().map(|m| vec![text(&m["name"]), text(&m["kind"]), text(&m["place"])]),
    ));
    let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
    if !tasks.is_empty() {
        terminal::say("");
        let rows = tasks.iter().map(|t| {
            let threshold = t["threshold"].as_f64().map_or("–".to_owned(), |x| format!("{x:.4}"));
            vec![
                text(&t["name"]),
                text(&t["mode"]),
                text(&t["small"]),
                text(&t["large"]),
                text(&t["certificate"]),
                threshold,
            ]
        });
        terminal::say(terminal::table(&["TASK", "MODE", "SMALL", "LARGE", "CERTIFICATE", "THRESHOLD"], &[5], rows));
    }
    Ok(())
}

async fn fetch(base: &str, key: Option<&SecretString>) -> Result<Value> {
    // A gateway is on this machine or in this house: no proxy stands between.
    let client = http_client(&HttpOptions { proxy: ProxyUse::Direct, ..HttpOptions::default() })?;
    let mut request = client.get(format!("{base}/v1/understudy/status")).timeout(Duration::from_secs(5));
    if let Some(key) = key {
        request = request.bearer_auth(key.expose_secret());
    }
    let response = request.send().await.map_err(|_| {
        Error::unavailable(format!("reach a gateway at {base}: nothing answers; `understudy serve` starts one"))
    })?;
    let status = response.status();
    let body = response.bytes().await.map_err(|e| Error::unavailable(format!("read the gateway's answer: {e}")))?;
    if !status.is_success() {
        return Err(Error::unavailable(format!(
            "ask the gateway at {base}: it says {status}; --api-key presents a key"
        )));
    }
    serde_json::from_slice(&body)
        .map_err(|_| Error::data(format!("read the answer of {base}: it is not an Understudy gateway")))
}
