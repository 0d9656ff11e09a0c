//! A task's small model as configuration and store name it: what it is, its content hash, the gate in front of its
//! answers, and the identity to which certificates are bound. Loads no model: `compose` does, and the commands that only
//! look at recorded answers need none.

use crate::{
    config::{Config, ConfiguredTask, Local, Source},
    generative::Generative,
    training::installed_hash,
};
use std::{path::Path, sync::Arc};
use understudy_core::{Certificate, Error, ModelName, Result, TaskSpec, hash::sha256_hex};
use understudy_dataset::Learned;
use understudy_model::{
    adapted::Adapted,
    artifact::{Artifact, MANIFEST},
    installed,
};
use understudy_route::gate::{FittedGate, served::Tells};
use understudy_store::Store;

/// Where a small model comes from.
pub(crate) enum Origin {
    /// A folder that `adapt` wrote.
    Artifact(Box<Artifact>),
    /// A `[local.…]` or `[model.…]`, or a name that the recorded default upstream knows.
    Named(String),
}

/// A task's small model.
pub(crate) struct Deployed {
    pub(crate) origin: Origin,
    /// Content hash of the artifact or of the model's file; of the name, for a model elsewhere.
    pub(crate) hash: String,
    /// What the model tells about its answers.
    pub(crate) tells: Tells,
    pub(crate) gate: Option<Arc<FittedGate>>,
}

impl Deployed {
    /// The small model that a task has now; `None` where none is configured and none was deployed.
    ///
    /// # Errors
    /// Whatever keeps the artifact, the model or the gate from being read; `Invalid` for a gate that reads what a running
    /// gateway does not have.
    pub(crate) async fn of(task: &ConfiguredTask, config: &Config, store: &Store) -> Result<Option<Self>> {
        let (origin, hash) = match &task.spec.small {
            Some(small) => match named(small.as_str(), config)? {
                Some(hash) => (Origin::Named(small.to_string()), hash),
                None => artifact(&config.base.join(small.as_str()))?,
            },
            None => match store.deployment(&task.spec.name).await? {
                Some(deployment) => artifact(&store.artifact(&deployment.artifact).await?.path)?,
                None => return Ok(None),
            },
        };
        let tells = tells(&origin, &task.spec, config);
        let gate = task.gate.as_ref().map(|file| gate(&config.base.join(file), &task.spec, tells)).transpose()?;
        Ok(Some(Self { origin, hash, tells, gate: gate.map(Arc::new) }))
    }

    pub(crate) fn name(&self) -> ModelName {
        match &self.origin {
            Origin::Artifact(artifact) => artifact.manifest().name.clone(),
            Origin::Named(name) => ModelName::new(name.clone()),
        }
    }

    /// The texts that taught the model, as far as it says: nothing is known of one that was made elsewhere.
    ///
    /// # Errors
    /// `Data` when it was trained by this product and does not say.
    pub(crate) fn learned(&self, config: &Config) -> Result<Learned> {
        let folder = match &self.origin {
            Origin::Artifact(artifact) => Some(artifact.dir().to_owned()),
            Origin::Named(name) => config.locals.get(name).map(|local| config.base.join(&local.model)),
        };
        match folder.filter(|folder| folder.join(MANIFEST).exists()) {
            Some(folder) => Learned::of_artifact(&folder),
            None => Ok(Learned::default()),
        }
    }

    /// What a certificate is bound to: the model, with its gate where it has one.
    pub(crate) fn identity(&self) -> String {
        self.gate.as_ref().map_or_else(|| self.hash.clone(), |gate| gate.bind(&self.hash))
    }

    /// The certificate in force for exactly this model, gate, task and large model.
    pub(crate) async fn certificate(&self, spec: &TaskSpec, store: &Store) -> Result<Option<Arc<Certificate>>> {
        let found = store
            .certificate(&spec.name, &self.identity())
            .await?
            // No answer under a promise that no audit could take back.
            .filter(|c| c.monitored().is_ok())
            // A certificate speaks about one large model and one bound; asking for less than it promises is fine.
            .filter(|c| c.epsilon <= spec.epsilon && c.delta <= spec.delta)
            .filter(|c| spec.large.is_none() || spec.large.as_ref() == Some(&c.large));
        Ok(found.map(Arc::new))
    }
}

fn artifact(dir: &Path) -> Result<(Origin, String)> {
    let artifact = Artifact::read(dir)?;
    let hash = artifact.hash().to_owned();
    Ok((Origin::Artifact(Box::new(artifact)), hash))
}

fn tells(origin: &Origin, spec: &TaskSpec, config: &Config) -> Tells {
    let Origin::Named(name) = origin else { return Tells::Confidence };
    let Some(local) = config.locals.get(name) else { return Tells::Tokens };
    let folder = config.base.join(&local.model);
    if folder.join(MANIFEST).exists() && !Adapted::is_at(&folder) {
        return Tells::Confidence;
    }
    if spec.labels.is_empty() { Tells::Tokens } else { Tells::Choice }
}

/// The content hash of a model of the configuration; `None` where `name` is none.
fn named(name: &str, config: &Config) -> Result<Option<String>> {
    if let Some(local) = config.locals.get(name) {
        let hash = content(local, config)?;
        // Another prompt, another model.
        return Ok(Some(match config.prompt_of(local)? {
            Some(prompt) => sha256_hex(format!("{hash}\n{}", prompt.hash()).as_bytes()),
            None => hash,
        }));
    }
    if let Some(model) = config.models.get(name) {
        return Ok(Some(elsewhere(&model.upstream, &model.name_there, config)));
    }
    let Some(default) = &config.server.default_upstream else { return Ok(None) };
    let recorded = matches!(config.upstreams[default].source, Source::Recorded { .. });
    Ok((recorded && !config.base.join(name).is_dir()).then(|| elsewhere(default, name, config)))
}

/// What tells who answers under a name from whoever did so before: as [`named`], and for any other name as the default
/// upstream's.
pub(crate) fn behind(name: &str, config: &Config) -> Result<String> {
    let default = || config.server.default_upstream.as_ref().map(|upstream| elsewhere(upstream, name, config));
    Ok(named(name, config)?.or_else(default).unwrap_or_default())
}

/// Another server or another name there is another model. What answers there may change unseen; audits notice.
fn elsewhere(upstream: &str, there: &str, config: &Config) -> String {
    let place = match &config.upstreams[upstream].source {
        Source::OpenAi { base_url, .. } => base_url.clone(),
        Source::Recorded { file, model, .. } => format!("{} {model:?}", file.display()),
    };
    sha256_hex(format!("{place}\n{there}").as_bytes())
}

/// The content hash of a model's files.
fn content(local: &Local, config: &Config) -> Result<String> {
    let folder = config.base.join(&local.model);
    if let Some(adapted) = Generative::of_folder(&folder, &config.models_dir)? {
        return Ok(adapted.hash);
    }
    if folder.join(MANIFEST).exists() {
        return Ok(Artifact::read(&folder)?.hash().to_owned());
    }
    installed_hash(&installed::load(&config.models_dir, &local.model)?)
}

fn gate(path: &Path, spec: &TaskSpec, tells: Tells) -> Result<FittedGate> {
    let json = std::fs::read_to_string(path)
        .map_err(|e| Error::not_found(format!("read the gate of task `{}`, {}: {e}", spec.name, path.display())))?;
    let of = |e: Error| e.context(format!("serve task `{}` with gate {}", spec.name, path.display()));
    let gate = FittedGate::from_json(&json).map_err(of)?;
    gate.check_served(tells).map_err(of)?;
    Ok(gate)
}
