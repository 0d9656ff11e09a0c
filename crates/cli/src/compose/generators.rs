//! The configuration's generative models, loaded. Names that stand for one file and want it run alike share an engine,
//! each with an adapter of its own: the file's weights and the cache are there once, however many adapters answer.

use super::{Composer, cores};
use crate::config::{Config, Local};
use crate::generative::Generative;
use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, PoisonError, Weak},
};
use understudy_core::Result;
use understudy_model::{
    artifact::MANIFEST,
    catalogue::Kind,
    generate::{EngineOptions, Generator, GeneratorOptions},
    installed,
};

/// By the configuration's names, those that cannot be read with the reason; what is no generative model is not in it.
pub(super) type Generators = BTreeMap<String, Result<Arc<Generator>>>;

/// What is loaded, by file and by the names that share it: all of them in one engine.
pub(super) type Loaded = HashMap<(PathBuf, String), Vec<Weak<Generator>>>;

/// Names that share an engine, with what each stands for.
type Group = Vec<(String, Generative, GeneratorOptions)>;

impl Composer {
    /// Loads all generative models of a configuration; with `only`, those that share an engine with this name.
    ///
    /// # Errors
    /// Whatever llama.cpp says of a file or an adapter.
    pub(super) fn generators(&self, config: &Config, only: Option<&str>) -> Result<Generators> {
        let mut groups: BTreeMap<(PathBuf, EngineOptions), Group> = BTreeMap::new();
        let mut loaded = Generators::new();
        for (name, local) in &config.locals {
            match generative(local, config) {
                Ok(Some(model)) => {
                    let options = options(name, &model, local, config);
                    let group = groups.entry((model.gguf.clone(), options.engine())).or_default();
                    group.push((name.clone(), model, options));
                }
                Ok(None) => {}
                Err(e) => {
                    loaded.insert(name.clone(), Err(e));
                }
            }
        }
        for ((gguf, _), group) in groups {
            if only.is_none_or(|only| group.iter().any(|(name, ..)| name == only)) {
                loaded.extend(self.group(gguf, group)?.into_iter().map(|(name, generator)| (name, Ok(generator))));
            }
        }
        Ok(loaded)
    }

    /// The generators of a group: those that an earlier composition loaded and somebody still has, else new ones.
    fn group(&self, gguf: PathBuf, group: Group) -> Result<Vec<(String, Arc<Generator>)>> {
        let what = group.iter().map(|(name, model, options)| format!("{name} {} {:?}\n", model.hash, options.engine()));
        let key = (gguf, what.collect::<String>());
        let mut loaded = self.generators.lock().unwrap_or_else(PoisonError::into_inner);
        let names = || group.iter().map(|(name, ..)| name.clone());
        if let Some(held) = loaded.get(&key) {
            let held: Option<Vec<_>> = held.iter().map(Weak::upgrade).collect();
            if let Some(held) = held {
                return Ok(names().zip(held).collect());
            }
        }
        let options = group.iter().map(|(.., options)| options.clone()).collect();
        let new: Vec<Arc<Generator>> = Generator::load_all(&key.0, options)?.into_iter().map(Arc::new).collect();
        loaded.retain(|_, held| held.iter().any(|generator| generator.strong_count() > 0));
        loaded.insert(key, new.iter().map(Arc::downgrade).collect());
        Ok(names().zip(new).collect())
    }
}

/// What a name stands for; `None` when it is no generative model.
fn generative(local: &Local, config: &Config) -> Result<Option<Generative>> {
    let folder = config.base.join(&local.model);
    let of_folder = Generative::of_folder(&folder, &config.models_dir)?;
    // An artifact of another kind is none, and its path is not the name of an installed model.
    if of_folder.is_some() || folder.join(MANIFEST).exists() {
        return Ok(of_folder);
    }
    match installed::find(&config.models_dir, &local.model)? {
        Some(installed) if installed.kind == Kind::Generative => Generative::of_installed(&installed).map(Some),
        _ => Ok(None),
    }
}

fn options(name: &str, model: &Generative, local: &Local, config: &Config) -> GeneratorOptions {
    let threads = if local.threads == 0 { config.server.threads } else { local.threads };
    GeneratorOptions {
        threads: cores(threads),
        context_tokens: local.context_tokens,
        max_sequences: local.parallel,
        ..model.options(name)
    }
}
