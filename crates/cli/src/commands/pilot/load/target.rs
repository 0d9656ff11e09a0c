//! What is loaded: a model in this process, an artifact, or a server.

use super::LoadArgs;
use crate::{
    commands::Context,
    compose::{Composer, cores},
    generative::Generative,
};
use futures_util::{FutureExt, future::BoxFuture};
use std::{path::PathBuf, sync::Arc, time::Duration};
use understudy_advise::costs::parse_price;
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
use understudy_pilot::load::{Asked, Limits, MOST_USERS, Prompt, Target, Texts};
use understudy_upstream::{
    HttpOptions, Network, OpenAi, OpenAiConfig, ProxyUse, Retries, Timeouts, breaker::BreakerPolicy, http_client,
    prices,
};
use understudy_wire::openai::chat::UsageChunk;

pub(super) fn remote(
    url: &str,
    args: &LoadArgs,
    prompts: Vec<Prompt>,
    clock: Arc<dyn Clock>,
) -> Result<(Limits, Arc<dyn Target>)> {
    let price = match &args.price {
        Some(text) => Some(parse_price(text)?),
        None => prices::price_of(&args.model),
    };
    let limits = super::limits(args, price)?;
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
        api_key_from: Some("OPENAI_API_KEY or --api-key".into()),
        headers: std::collections::BTreeMap::new(),
        timeouts: Timeouts { total: timeout, idle: timeout },
        retries: Retries { count: 0, ..Retries::default() },
        capabilities: Capabilities::of_text(Place::Remote),
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
pub(super) fn local(
    args: &LoadArgs,
    context: &Context,
    prompts: Vec<Prompt>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Target>> {
    let composer = Composer::new(clock, Seed(args.seed))?;
    let folder = PathBuf::from(&args.model);
    let texts = |backend: Arc<dyn Backend>, prompts| -> Arc<dyn Target> {
        Arc::new(Texts::new(backend, prompts, sampling(args), Some(Price::LOCAL)))
    };
    if let Some(adapted) = Generative::of_folder(&folder, &context.models_dir)? {
        let options = GeneratorOptions { threads: cores(args.threads), ..adapted.options(&args.model) };
        return Ok(texts(Arc::new(Generator::load(&adapted.gguf, options)?), prompts));
    }
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
            let embedder = composer.encoder(&installed, EncoderOptions::cut(Dtype::Int8, most), args.threads)?;
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
