//! Models over the network, and recordings that stand for them.

use super::Composer;
use crate::config::{Latency, RemoteModel, Source, Upstream};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use understudy_core::{Backend, Capabilities, ModelName, Outcome, Place, Result, outcome};
use understudy_serve::{
    api::embeddings::EmbeddingModel,
    state::{Model, Snapshot},
};
use understudy_upstream::{OpenAi, OpenAiConfig, OpenAiEmbedder, Recorded, Retries, Timeouts, prices};
use understudy_wire::openai::chat::UsageChunk;

/// Names that clients made up and that are remembered with their upstream.
const REMEMBERED_NAMES: usize = 1024;

impl Composer {
    pub(super) fn remote(
        &self,
        name: &str,
        model: &RemoteModel,
        upstream: &Upstream,
        recordings: &mut Recordings,
    ) -> Result<Model> {
        let name_of = ModelName::new(name.to_owned());
        let backend: Arc<dyn Backend> = match &upstream.source {
            Source::OpenAi { .. } => {
                let config = openai_config(name_of, model, upstream);
                Arc::new(OpenAi::new(config, &self.network)?)
            }
            Source::Recorded { file, model: recorded, latency } => {
                let wanted = recorded.as_deref().unwrap_or(&model.name_there);
                let outcomes = recordings.read(file)?.to_vec();
                Arc::new(Recorded::new(name_of, wanted, outcomes, latency_of(*latency), capabilities_of(model))?)
            }
        };
        Ok(Model { backend, price: model.price, owner: model.upstream.clone() })
    }

    /// Lets clients use every model name of an upstream as if we were not there.
    pub(super) fn fall_back_to(&self, upstream: Upstream, snapshot: &mut Snapshot) {
        let network = self.network.clone();
        let known: Mutex<BTreeMap<String, Model>> = Mutex::default();
        let chat_upstream = upstream.clone();
        snapshot.fallback = Some(Arc::new(move |name| {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(model) = known.get(name) {
                return Ok(model.clone());
            }
            let remote = RemoteModel::drop_in("upstream", name);
            let config = openai_config(ModelName::new(name.to_owned()), &remote, &chat_upstream);
            let backend = Arc::new(OpenAi::new(config, &network)?);
            let model = Model { backend, price: remote.price, owner: remote.upstream };
            if known.len() < REMEMBERED_NAMES {
                known.insert(name.to_owned(), model.clone());
            }
            Ok(model)
        }));
        let network = self.network.clone();
        snapshot.embedder_fallback = Some(Arc::new(move |name| {
            let remote = RemoteModel::drop_in("upstream", name);
            let config = openai_config(ModelName::new(name.to_owned()), &remote, &upstream);
            let embedder = Arc::new(OpenAiEmbedder::new(config, None, &network)?);
            Ok(EmbeddingModel { embedder, place: Place::Remote, price: remote.price })
        }));
    }
}

impl RemoteModel {
    /// A model that is only known by the name a client uses.
    pub(super) fn drop_in(upstream: &str, name: &str) -> Self {
        Self {
            upstream: upstream.to_owned(),
            name_there: name.to_owned(),
            price: prices::price_of(name),
            context_tokens: None,
            multimodal: true,
            tools: true,
        }
    }
}

fn openai_config(name: ModelName, model: &RemoteModel, upstream: &Upstream) -> OpenAiConfig {
    let Source::OpenAi { base_url, api_key, api_key_from, headers } = &upstream.source else {
        unreachable!("callers match on the source first");
    };
    OpenAiConfig {
        name,
        upstream_model: model.name_there.clone(),
        base_url: base_url.clone(),
        api_key: api_key.clone(),
        api_key_from: api_key_from.clone(),
        headers: headers.clone(),
        timeouts: Timeouts { total: upstream.timeout, idle: upstream.idle_timeout },
        retries: Retries { count: upstream.retries, ..Retries::default() },
        capabilities: capabilities_of(model),
        usage: UsageChunk::Ensure,
    }
}

fn capabilities_of(model: &RemoteModel) -> Capabilities {
    Capabilities {
        place: Place::Remote,
        context_tokens: model.context_tokens,
        multimodal: model.multimodal,
        tools: model.tools,
        many_choices: true,
        languages: Vec::new(),
    }
}

fn latency_of(latency: Latency) -> understudy_upstream::Latency {
    match latency {
        Latency::None => understudy_upstream::Latency::None,
        Latency::Recorded => understudy_upstream::Latency::Recorded,
        Latency::FixedMs(ms) => understudy_upstream::Latency::Fixed(std::time::Duration::from_secs_f64(ms / 1000.0)),
    }
}

/// Recordings that were read in this composition: several models share one file.
#[derive(Default)]
pub(super) struct Recordings(HashMap<PathBuf, Arc<Vec<Outcome>>>);

impl Recordings {
    pub(super) fn read(&mut self, file: &Path) -> Result<Arc<Vec<Outcome>>> {
        if let Some(outcomes) = self.0.get(file) {
            return Ok(outcomes.clone());
        }
        let outcomes = Arc::new(read_outcomes(file)?);
        self.0.insert(file.to_owned(), outcomes.clone());
        Ok(outcomes)
    }

    pub(super) fn models(&mut self, upstream: &Upstream) -> Result<Vec<String>> {
        let Source::Recorded { file, .. } = &upstream.source else { return Ok(Vec::new()) };
        let outcomes = self.read(file)?;
        let names: std::collections::BTreeSet<&String> = outcomes.iter().flat_map(|o| o.models.keys()).collect();
        Ok(names.into_iter().cloned().collect())
    }
}

/// Reads recorded outcomes from a plain or packed file.
pub(crate) fn read_outcomes(file: &Path) -> Result<Vec<Outcome>> {
    outcome::read(&file.display().to_string(), understudy_dataset::lines(file)?)
}
