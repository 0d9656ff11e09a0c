//! Composition: from a checked configuration and the store to the picture that the gateway serves.
//!
//! Loaded encoders and generators are kept between compositions: a reload that changes a task does not load a model
//! again. What is no longer used is dropped with the last picture that holds it.

use crate::config::{Config, ConfiguredTask, Latency, Local, Precision, RemoteModel, Source, Upstream};
use crate::deployed::{Deployed, Origin};
use crate::generative::Generative;
use crate::training::base_model;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use understudy_core::{
    Backend, Capabilities, Clock, Embedder, Error, ModelName, Outcome, Place, Price, Result, Seed, TaskSpec, outcome,
};
use understudy_model::{
    artifact::{Artifact, Body, Kind as ArtifactKind, MANIFEST},
    catalogue::Kind,
    classifier::Classifier,
    encoder::{Dtype, Encoder, EncoderOptions},
    extractor::Extractor,
    generate::{Generator, GeneratorOptions},
    installed::{self, Installed},
    service::{EncoderService, ServiceOptions},
    table::TokenTable,
    words::Words,
};
use understudy_route::{
    AlwaysTry, Router,
    router::{self, Reading, Trained, Unanimous, UpToBytes},
};
use understudy_serve::{
    api::embeddings::EmbeddingModel,
    state::{ClientKey, Model, SmallModel, Snapshot, Task},
};
use understudy_store::Store;
use understudy_upstream::{
    HttpOptions, Network, OpenAi, OpenAiConfig, OpenAiEmbedder, Recorded, Retries, Timeouts, breaker::BreakerPolicy,
    http_client, prices,
};
use understudy_wire::openai::chat::UsageChunk;

/// Tokens that one batch of an encoder holds at most.
const BATCH_TOKENS: usize = 4096;
/// Texts that may wait for an encoder.
const ENCODER_QUEUE: usize = 4096;
/// Names that clients made up and that are remembered with their upstream.
const REMEMBERED_NAMES: usize = 1024;

/// Owner names in `/v1/models`.
const OURS: &str = "understudy";

/// What identifies a loaded encoder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct EncoderKey {
    dir: PathBuf,
    /// Hash of what the folder holds.
    content: String,
    dtype: Dtype,
    max_tokens: usize,
    threads: usize,
}

/// Builds pictures; holds what is loaded.
pub(crate) struct Composer {
    network: Network,
    /// Certificates whose audits have reason to be more frequent than configured, and how frequent.
    audit_floors: Mutex<BTreeMap<String, f64>>,
    encoders: Mutex<HashMap<EncoderKey, Weak<EncoderService>>>,
    generators: Mutex<HashMap<(PathBuf, String), Weak<Generator>>>,
}

impl Composer {
    pub(crate) fn new(clock: Arc<dyn Clock>, seed: Seed) -> Result<Self> {
        let client = http_client(&HttpOptions::default())?;
        let network = Network::new(client, clock, seed, BreakerPolicy::default());
        Ok(Self { network, audit_floors: Mutex::default(), encoders: Mutex::default(), generators: Mutex::default() })
    }

    /// The picture of a configuration and of what the store holds now.
    ///
    /// # Errors
    /// Whatever keeps a part from working: a model that is not installed, a recording that cannot be read. Nothing has
    /// changed then.
    pub(crate) async fn compose(&self, config: &Config, store: &Store) -> Result<Snapshot> {
        let mut snapshot = Snapshot {
            default_model: config.server.default_model.clone(),
            keys: config.server.api_keys.iter().map(ClientKey::new).collect(),
            texts: config.store.texts,
            ..Snapshot::default()
        };
        let mut recordings = Recordings::default();
        for (name, model) in &config.models {
            let upstream = &config.upstreams[&model.upstream];
            let model = self.remote(name, model, upstream, &mut recordings)?;
            snapshot.models.insert(name.clone(), model);
        }
        for (name, local) in &config.locals {
            self.local(name, local, config, &mut snapshot)?;
        }
        if let Some(name) = &config.server.default_upstream {
            let upstream = &config.upstreams[name];
            match &upstream.source {
                Source::OpenAi { .. } => self.fall_back_to(upstream.clone(), &mut snapshot),
                Source::Recorded { .. } => {
                    for model in recordings.models(upstream)? {
                        let remote = RemoteModel::drop_in(name, &model);
                        let built = self.remote(&model, &remote, upstream, &mut recordings)?;
                        snapshot.models.entry(model).or_insert(built);
                    }
                }
            }
        }
        for task in &config.tasks {
            let task = self.task(task, config, store, &snapshot).await?;
            snapshot.tasks.push(task);
        }
        Ok(snapshot)
    }

    /// Asks for audits at least this frequent under a certificate; the next composition takes it in.
    pub(crate) fn audit_at_least(&self, certificate: &str, probability: f64) {
        let mut floors = self.audit_floors.lock().unwrap_or_else(PoisonError::into_inner);
        floors.insert(certificate.to_owned(), probability);
    }

    async fn task(
        &self,
        configured: &ConfiguredTask,
        config: &Config,
        store: &Store,
        snapshot: &Snapshot,
    ) -> Result<Task> {
        let mut spec = configured.spec.clone();
        let large = match &spec.large {
            Some(name) => Some(match (snapshot.models.get(name.as_str()), &snapshot.fallback) {
                (Some(model), _) => model.clone(),
                (None, Some(fallback)) => fallback(name.as_str())?,
                (None, None) => {
                    return Err(Error::not_found(format!("serve task `{}`: there is no model `{name}`", spec.name)));
                }
            }),
            None => None,
        };
        let small = match Deployed::of(configured, config, store).await? {
            Some(deployed) => Some(self.small(deployed, config, &spec, store, snapshot).await?),
            None => None,
        };
        if let Some(certificate) = small.as_ref().and_then(|small: &SmallModel| small.certificate.as_ref()) {
            let floors = self.audit_floors.lock().unwrap_or_else(PoisonError::into_inner);
            spec.audit = floors.get(&certificate.id).map_or(spec.audit, |floor| spec.audit.max(*floor));
        }
        let trained = trained_router(configured, config)?;
        let embedder = match trained.as_ref().and_then(|router| Some((router.embedder.as_deref()?, router.reading))) {
            Some((name, reading)) => {
                Some(self.routing_encoder(&config.models_dir, name, reading, config.server.threads)?
                    as Arc<dyn Embedder>)
            }
            None => None,
        };
        Ok(Task { spec, small, large, router: router(configured, trained), embedder })
    }

    async fn small(
        &self,
        deployed: Deployed,
        config: &Config,
        spec: &TaskSpec,
        store: &Store,
        snapshot: &Snapshot,
    ) -> Result<SmallModel> {
        let certificate = deployed.certificate(spec, store).await?;
        let model = match &deployed.origin {
            Origin::Named(name) => snapshot.models.get(name).cloned().ok_or_else(|| {
                let name_of_task = &spec.name;
                Error::invalid(format!("serve task `{name_of_task}`: its small model `{name}` is none that answers"))
            })?,
            Origin::Artifact(artifact) => {
                let extra = artifact.labels().find(|label| !spec.labels.iter().any(|known| known == label));
                if let Some(extra) = extra {
                    return Err(Error::invalid(format!(
                        "serve task `{}` with artifact {}: it knows the label `{extra}`, which the task does not have",
                        spec.name,
                        artifact.dir().display(),
                    )));
                }
                let classifier = self.classifier(artifact, &config.models_dir, config.server.threads)?;
                Model { backend: Arc::new(classifier), price: Some(Price::LOCAL), owner: OURS.to_owned() }
            }
        };
        let tells = deployed.tells();
        Ok(SmallModel { model, hash: deployed.hash, tells, gate: deployed.gate, certificate })
    }

    /// An artifact of any kind, ready to answer.
    pub(crate) fn backend(&self, artifact: &Artifact, models_dir: &Path, threads: usize) -> Result<Arc<dyn Backend>> {
        let manifest = artifact.manifest();
        if manifest.kind == ArtifactKind::Classifier {
            return Ok(Arc::new(self.classifier(artifact, models_dir, threads)?));
        }
        let max_tokens = manifest.max_tokens as usize;
        let encoder = self.encoder_in(artifact.dir(), artifact.hash(), manifest.dtype.into(), max_tokens, threads)?;
        Ok(Arc::new(Extractor::new(manifest.name.clone(), encoder, artifact.head())?))
    }

    /// An artifact with its encoder, ready to answer with labels.
    pub(crate) fn classifier(&self, artifact: &Artifact, models_dir: &Path, threads: usize) -> Result<Classifier> {
        let manifest = artifact.manifest();
        if manifest.kind == ArtifactKind::Extractor {
            return Err(Error::invalid(format!(
                "load artifact {}: it extracts and has no labels; serve it under a name of its own ([local.NAME] with \
                 model = its folder)",
                artifact.dir().display()
            )));
        }
        let name = manifest.name.clone();
        let max_tokens = manifest.max_tokens as usize;
        // The folder may come to hold another artifact while this one is still loaded.
        let encoded = |dir: &Path, content: &str| {
            let encoder = self.encoder_in(dir, content, manifest.dtype.into(), max_tokens, threads)?;
            Classifier::new(name.clone(), encoder, artifact.head().clone())
        };
        let classifier = match manifest.body {
            Body::Base => encoded(&self.base(artifact, models_dir)?, &manifest.base.hash)?,
            Body::Encoder => encoded(artifact.dir(), artifact.hash())?,
            Body::Words => Classifier::of_words(name, Words::read(artifact.dir())?, artifact.head())?,
            Body::Static => Classifier::of_table(name, TokenTable::read(artifact.dir(), max_tokens)?, artifact.head())?,
        };
        Ok(classifier.with_out_of_scope(manifest.out_of_scope.clone()))
    }

    /// The folder of the installed model that an artifact's head was trained on.
    fn base(&self, artifact: &Artifact, models_dir: &Path) -> Result<PathBuf> {
        let manifest = artifact.manifest();
        let installed = installed::load(models_dir, manifest.base.name.as_str())?;
        // A certificate is bound to the artifact, and the artifact to its base: another base is another model.
        if base_model(&installed).hash != manifest.base.hash {
            return Err(Error::data(format!(
                "load artifact {}: the installed `{}` is not the one it was trained on; install that one again, or train \
                 and certify anew",
                artifact.dir().display(),
                manifest.base.name
            )));
        }
        Ok(installed.dir().to_owned())
    }

    /// A shared encoder; loaded when nobody has it.
    pub(crate) fn encoder(
        &self,
        installed: &Installed,
        dtype: Dtype,
        max_tokens: usize,
        threads: usize,
    ) -> Result<Arc<EncoderService>> {
        self.encoder_in(installed.dir(), &base_model(installed).hash, dtype, max_tokens, threads)
    }

    fn encoder_in(
        &self,
        dir: &Path,
        content: &str,
        dtype: Dtype,
        max_tokens: usize,
        threads: usize,
    ) -> Result<Arc<EncoderService>> {
        let threads = cores(threads);
        let key = EncoderKey { dir: dir.to_owned(), content: content.to_owned(), dtype, max_tokens, threads };
        let mut loaded = self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = loaded.get(&key).and_then(Weak::upgrade) {
            return Ok(service);
        }
        let encoder = Encoder::load(&key.dir, &EncoderOptions { dtype, max_tokens, pooling: None })?;
        let options = ServiceOptions { threads, max_batch_tokens: BATCH_TOKENS, queue_capacity: ENCODER_QUEUE };
        let service = Arc::new(EncoderService::start(encoder, options));
        loaded.retain(|_, service| service.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&service));
        Ok(service)
    }

    /// The encoder of a router, as routers are trained with it.
    pub(crate) fn routing_encoder(
        &self,
        models_dir: &Path,
        name: &str,
        reading: Reading,
        threads: usize,
    ) -> Result<Arc<EncoderService>> {
        let installed = installed::load(models_dir, name)?;
        let dtype = match reading.precision {
            router::Precision::Int8 => Dtype::Int8,
            router::Precision::F32 => Dtype::F32,
        };
        self.encoder(&installed, dtype, reading.tokens as usize, threads)
    }

    fn local(&self, name: &str, local: &Local, config: &Config, snapshot: &mut Snapshot) -> Result<()> {
        let threads = if local.threads == 0 { config.server.threads } else { local.threads };
        let folder = config.base.join(&local.model);
        let found: Option<Arc<dyn Backend>> = if let Some(adapted) = Generative::of_folder(&folder, &config.models_dir)?
        {
            Some(self.generator(name, &adapted, local, threads)?)
        } else if folder.join(MANIFEST).exists() {
            Some(self.backend(&Artifact::read(&folder)?, &config.models_dir, threads)?)
        } else {
            None
        };
        if let Some(backend) = found {
            let model = Model { backend, price: Some(Price::LOCAL), owner: OURS.to_owned() };
            snapshot.models.insert(name.to_owned(), model);
            return Ok(());
        }
        let installed = installed::load(&config.models_dir, &local.model)?;
        match installed.kind {
            Kind::Encoder => {
                let dtype = match local.precision {
                    Precision::Int8 => Dtype::Int8,
                    Precision::F32 => Dtype::F32,
                };
                let service = self.encoder(&installed, dtype, EncoderOptions::default().max_tokens, threads)?;
                let embedder: Arc<dyn Embedder> = Arc::new(Renamed { name: ModelName::new(name.to_owned()), service });
                let model = EmbeddingModel { embedder, place: Place::Local, price: Some(Price::LOCAL) };
                snapshot.embedders.insert(name.to_owned(), model);
            }
            Kind::Generative => {
                let backend: Arc<dyn Backend> =
                    self.generator(name, &Generative::of_installed(&installed)?, local, threads)?;
                let model = Model { backend, price: Some(Price::LOCAL), owner: OURS.to_owned() };
                snapshot.models.insert(name.to_owned(), model);
            }
            Kind::Dataset => {
                return Err(Error::invalid(format!(
                    "serve [local.{name}]: `{}` is a data set, not a model",
                    local.model
                )));
            }
        }
        Ok(())
    }

    fn generator(&self, name: &str, model: &Generative, local: &Local, threads: usize) -> Result<Arc<Generator>> {
        let key = (model.gguf.clone(), format!("{name} {} {local:?} {threads}", model.hash));
        let mut loaded = self.generators.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(generator) = loaded.get(&key).and_then(Weak::upgrade) {
            return Ok(generator);
        }
        let options = GeneratorOptions {
            threads: cores(threads),
            context_tokens: local.context_tokens,
            max_sequences: local.parallel,
            ..model.options(name)
        };
        let generator = Arc::new(Generator::load(&key.0, options)?);
        loaded.retain(|_, generator| generator.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&generator));
        Ok(generator)
    }

    /// A chat model of the configuration, or one that its default upstream may know by this name.
    pub(crate) fn named(&self, name: &str, config: &Config) -> Result<Option<Model>> {
        let mut recordings = Recordings::default();
        if let Some(model) = config.models.get(name) {
            return self.remote(name, model, &config.upstreams[&model.upstream], &mut recordings).map(Some);
        }
        if let Some(local) = config.locals.get(name) {
            let mut snapshot = Snapshot::default();
            self.local(name, local, config, &mut snapshot)?;
            return Ok(snapshot.models.remove(name));
        }
        let Some(default) = &config.server.default_upstream else { return Ok(None) };
        let upstream = &config.upstreams[default];
        if let Source::Recorded { .. } = &upstream.source
            && !recordings.models(upstream)?.iter().any(|known| known == name)
        {
            return Ok(None);
        }
        self.remote(name, &RemoteModel::drop_in(default, name), upstream, &mut recordings).map(Some)
    }

    fn remote(
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
    fn fall_back_to(&self, upstream: Upstream, snapshot: &mut Snapshot) {
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
    fn drop_in(upstream: &str, name: &str) -> Self {
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

/// A task's trained router, from the file that the configuration names.
fn trained_router(configured: &ConfiguredTask, config: &Config) -> Result<Option<Trained>> {
    let Some(file) = &configured.router else { return Ok(None) };
    let path = config.base.join(file);
    let json = std::fs::read(&path).map_err(|e| {
        Error::not_found(format!("read the router of task `{}`, {}: {e}", configured.spec.name, path.display()))
    })?;
    Trained::from_json(&path.display().to_string(), &json).map(Some)
}

/// What decides, before anything is generated, whether a task's small model is worth asking.
fn router(configured: &ConfiguredTask, trained: Option<Trained>) -> Arc<dyn Router> {
    let mut all: Vec<Box<dyn Router>> = Vec::new();
    all.extend(configured.max_bytes.map(|bytes| Box::new(UpToBytes(bytes)) as Box<dyn Router>));
    all.extend(trained.map(|trained| Box::new(trained) as Box<dyn Router>));
    if all.is_empty() { Arc::new(AlwaysTry) } else { Arc::new(Unanimous(all)) }
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
struct Recordings(HashMap<PathBuf, Arc<Vec<Outcome>>>);

impl Recordings {
    fn read(&mut self, file: &Path) -> Result<Arc<Vec<Outcome>>> {
        if let Some(outcomes) = self.0.get(file) {
            return Ok(outcomes.clone());
        }
        let outcomes = Arc::new(read_outcomes(file)?);
        self.0.insert(file.to_owned(), outcomes.clone());
        Ok(outcomes)
    }

    fn models(&mut self, upstream: &Upstream) -> Result<Vec<String>> {
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

/// Threads to use: as configured, or all.
pub(crate) fn cores(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// A shared encoder under the name that the configuration gives it.
struct Renamed {
    name: ModelName,
    service: Arc<EncoderService>,
}

impl Embedder for Renamed {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn dimensions(&self) -> usize {
        self.service.dimensions()
    }

    fn embed(
        &self,
        texts: Vec<String>,
    ) -> futures_util::future::BoxFuture<'_, Result<understudy_core::backend::Embeddings>> {
        self.service.embed(texts)
    }
}
