//! Models in this process: shared encoders, artifacts on them, and what a name of the configuration stands for.

use super::{Composer, OURS, cores, generators::Generators, prompted::asked_as};
use crate::config::{Config, Local, Precision};
use crate::training::{base_model, base_of};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, Weak},
};
use understudy_core::{Backend, Embedder, Error, ModelName, Place, Price, Result};
use understudy_model::{
    artifact::{Artifact, Body, Kind as ArtifactKind, MANIFEST},
    catalogue::Kind,
    classifier::Classifier,
    encoder::{Dtype, Encoder, EncoderOptions},
    extractor::Extractor,
    installed::{self, Installed},
    labeller::{Decision, Labeller},
    regressor::Regressor,
    service::{EncoderService, ServiceOptions},
    table::TokenTable,
    words::Words,
};
use understudy_route::router::{self, Reading};
use understudy_serve::{
    api::embeddings::EmbeddingModel,
    state::{Model, Snapshot},
};

/// What identifies a loaded encoder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EncoderKey {
    dir: PathBuf,
    /// Hash of what the folder holds.
    content: String,
    reading: EncoderOptions,
    threads: usize,
}

impl Composer {
    /// An artifact of any kind, ready to answer.
    pub(crate) fn backend(&self, artifact: &Artifact, models_dir: &Path, threads: usize) -> Result<Arc<dyn Backend>> {
        let manifest = artifact.manifest();
        let name = manifest.name.clone();
        let encoder = || match manifest.body {
            Body::Base => {
                let base = base_of(artifact, models_dir)?;
                self.encoder_in(&base, &manifest.base.hash, manifest.reading(), threads)
            }
            _ => self.encoder_in(artifact.dir(), artifact.hash(), manifest.reading(), threads),
        };
        Ok(match manifest.kind {
            ArtifactKind::Classifier => Arc::new(self.classifier(artifact, models_dir, threads)?),
            ArtifactKind::Extractor => Arc::new(Extractor::new(name, encoder()?, artifact.head())?),
            ArtifactKind::Regressor => Arc::new(Regressor::new(name, encoder()?, artifact.head().clone())?),
            ArtifactKind::Labeller => {
                let decision = Decision::new(artifact.head().clone(), manifest.thresholds.clone())?;
                Arc::new(Labeller::new(name, encoder()?, decision)?)
            }
        })
    }

    /// An artifact with its encoder, ready to answer with labels.
    pub(crate) fn classifier(&self, artifact: &Artifact, models_dir: &Path, threads: usize) -> Result<Classifier> {
        let manifest = artifact.manifest();
        let other = match manifest.kind {
            ArtifactKind::Classifier => None,
            ArtifactKind::Extractor => Some("it extracts and has no labels"),
            ArtifactKind::Labeller => Some("it gives lists of labels, not one"),
            ArtifactKind::Regressor => Some("it gives numbers and has no labels"),
        };
        if let Some(what) = other {
            return Err(Error::invalid(format!(
                "load artifact {}: {what}; serve it under a name of its own ([local.NAME] with \
                 model = its folder)",
                artifact.dir().display()
            )));
        }
        let name = manifest.name.clone();
        let max_tokens = manifest.max_tokens as usize;
        // The folder may come to hold another artifact while this one is still loaded.
        let encoded = |dir: &Path, content: &str| {
            let encoder = self.encoder_in(dir, content, manifest.reading(), threads)?;
            Classifier::new(name.clone(), encoder, artifact.head().clone())
        };
        let classifier = match manifest.body {
            Body::Base => encoded(&base_of(artifact, models_dir)?, &manifest.base.hash)?,
            Body::Encoder => encoded(artifact.dir(), artifact.hash())?,
            Body::Words => Classifier::of_words(name, Words::read(artifact.dir())?, artifact.head())?,
            Body::Static => Classifier::of_table(name, TokenTable::read(artifact.dir(), max_tokens)?, artifact.head())?,
        };
        Ok(classifier.with_out_of_scope(manifest.out_of_scope.clone()))
    }

    /// A shared encoder; loaded when nobody has it.
    pub(crate) fn encoder(
        &self,
        installed: &Installed,
        reading: EncoderOptions,
        threads: usize,
    ) -> Result<Arc<EncoderService>> {
        self.encoder_in(installed.dir(), &base_model(installed).hash, reading, threads)
    }

    pub(super) fn encoder_in(
        &self,
        dir: &Path,
        content: &str,
        reading: EncoderOptions,
        threads: usize,
    ) -> Result<Arc<EncoderService>> {
        let threads = cores(threads);
        let key = EncoderKey { dir: dir.to_owned(), content: content.to_owned(), reading, threads };
        let mut loaded = self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = loaded.get(&key).and_then(Weak::upgrade) {
            return Ok(service);
        }
        let encoder = Encoder::load(&key.dir, &reading)?;
        let options = ServiceOptions { threads, ..ServiceOptions::default() };
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
        self.encoder(&installed, EncoderOptions::cut(dtype, reading.tokens as usize), threads)
    }

    /// Puts one name of the configuration into the picture; it is taken from `generators` if it is a generative model.
    pub(super) fn local(
        &self,
        name: &str,
        config: &Config,
        generators: &mut Generators,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        let local = &config.locals[name];
        let threads = if local.threads == 0 { config.server.threads } else { local.threads };
        let folder = config.base.join(&local.model);
        let found: Option<Arc<dyn Backend>> = if let Some(generator) = generators.remove(name) {
            Some(asked_as(generator?, config.prompt_of(local)?)?)
        } else if folder.join(MANIFEST).exists() {
            prompts_are_for_generative_models(name, local)?;
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
                prompts_are_for_generative_models(name, local)?;
                let dtype = match local.precision {
                    Precision::Int8 => Dtype::Int8,
                    Precision::F32 => Dtype::F32,
                };
                let service =
                    self.encoder(&installed, EncoderOptions { dtype, ..EncoderOptions::default() }, threads)?;
                let embedder: Arc<dyn Embedder> = Arc::new(Renamed { name: ModelName::new(name.to_owned()), service });
                let model = EmbeddingModel { embedder, place: Place::Local, price: Some(Price::LOCAL) };
                snapshot.embedders.insert(name.to_owned(), model);
            }
            Kind::Generative => {
                return Err(Error::internal(format!(
                    "serve [local.{name}]: it is not among the models that were loaded"
                )));
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
}

fn prompts_are_for_generative_models(name: &str, local: &Local) -> Result<()> {
    match &local.prompt {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!(
            "serve [local.{name}]: `{}` reads no prompt; only generative models do, remove `prompt`",
            local.model
        ))),
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
