//! Composition: from a checked configuration and the store to the picture that the gateway serves.
//!
//! Loaded encoders and generators are kept between compositions: a reload that changes a task does not load a model
//! again. What is no longer used is dropped with the last picture that holds it.

mod generators;
mod local;
mod prompted;
mod remote;

pub(crate) use remote::read_outcomes;

use crate::config::{Config, ConfiguredTask, RemoteModel, Source};
use crate::deployed::{Deployed, Origin};
use local::EncoderKey;
use remote::Recordings;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use understudy_core::{Clock, Embedder, Error, Price, Result, Seed, TaskSpec};
use understudy_model::service::EncoderService;
use understudy_route::{
    AlwaysTry, Router,
    router::{Trained, Unanimous, UpToBytes},
};
use understudy_serve::state::{ClientKey, Model, SmallModel, Snapshot, Task};
use understudy_store::Store;
use understudy_upstream::{HttpOptions, Network, breaker::BreakerPolicy, http_client};

/// Owner names in `/v1/models`.
const OURS: &str = "understudy";

/// Builds pictures; holds what is loaded.
pub(crate) struct Composer {
    network: Network,
    /// Certificates whose audits have reason to be more frequent than configured, and how frequent.
    audit_floors: Mutex<BTreeMap<String, f64>>,
    encoders: Mutex<HashMap<EncoderKey, Weak<EncoderService>>>,
    generators: Mutex<generators::Loaded>,
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
        let mut generators = self.generators(config, None)?;
        for name in config.locals.keys() {
            self.local(name, config, &mut generators, &mut snapshot)?;
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
        Ok(SmallModel { model, hash: deployed.hash, tells: deployed.tells, gate: deployed.gate, certificate })
    }

    /// A chat model of the configuration, or one that its default upstream may know by this name.
    pub(crate) fn named(&self, name: &str, config: &Config) -> Result<Option<Model>> {
        let mut recordings = Recordings::default();
        if let Some(model) = config.models.get(name) {
            return self.remote(name, model, &config.upstreams[&model.upstream], &mut recordings).map(Some);
        }
        if config.locals.contains_key(name) {
            let mut snapshot = Snapshot::default();
            self.local(name, config, &mut self.generators(config, Some(name))?, &mut snapshot)?;
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

/// Threads to use: as configured, or all.
pub(crate) fn cores(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}
