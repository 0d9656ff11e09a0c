//! What a local generative model is made of: an installed file, and the adapter that was trained on it where the name is
//! that of an artifact's folder; or whole weights in such a folder.

use crate::training::installed_hash;
use std::path::{Path, PathBuf};
use understudy_core::{Error, ModelName, Result};
use understudy_model::{
    adapted::{Adapted, Serves},
    generate::GeneratorOptions,
    installed::{self, Installed},
};

/// A generative model that can be loaded.
#[derive(Debug, Clone)]
pub(crate) struct Generative {
    /// Name of an artifact; `None` for an installed model.
    pub(crate) artifact: Option<ModelName>,
    /// The installed model below.
    pub(crate) base: String,
    /// The file to load.
    pub(crate) gguf: PathBuf,
    /// The adapter on it.
    pub(crate) adapter: Option<PathBuf>,
    /// Identifies what answers: certificates are bound to it.
    pub(crate) hash: String,
    /// The same for journals of answers.
    pub(crate) fingerprint: String,
}

impl Generative {
    /// The artifact in a folder; `None` when the folder holds none of a generative model.
    ///
    /// # Errors
    /// Whatever keeps it from being read; `Data` when the installed base is not the one it was trained on.
    pub(crate) fn of_folder(folder: &Path, models_dir: &Path) -> Result<Option<Self>> {
        if !Adapted::is_at(folder) {
            return Ok(None);
        }
        let adapted = Adapted::read(folder)?;
        let base = &adapted.manifest().base;
        let of = |gguf, adapter| Self {
            artifact: Some(adapted.manifest().name.clone()),
            base: base.name.to_string(),
            gguf,
            adapter,
            hash: adapted.hash().to_owned(),
            fingerprint: format!("generative 1 {}", adapted.hash()),
        };
        let adapter = match adapted.serves() {
            Serves::Model(file) => return Ok(Some(of(file, None))),
            Serves::Adapter(file) => file,
        };
        let installed = installed::load(models_dir, base.name.as_str())?;
        if installed_hash(&installed)? != base.hash {
            return Err(Error::data(format!(
                "load artifact {}: the installed `{}` is not the one it was trained on; install that one again, or train \
                 anew",
                folder.display(),
                base.name
            )));
        }
        Ok(Some(of(installed.gguf()?, Some(adapter))))
    }

    /// An installed model.
    ///
    /// # Errors
    /// `Invalid` when it is not a generative one.
    pub(crate) fn of_installed(installed: &Installed) -> Result<Self> {
        let hashes: Vec<&str> = installed.files.iter().map(|file| file.sha256.as_str()).collect();
        Ok(Self {
            artifact: None,
            base: installed.name.clone(),
            gguf: installed.gguf()?,
            adapter: None,
            hash: installed_hash(installed)?,
            fingerprint: format!("generative 1 {}", hashes.join(" ")),
        })
    }

    /// Options under a name, with everything else at its default.
    pub(crate) fn options(&self, name: &str) -> GeneratorOptions {
        GeneratorOptions { adapter: self.adapter.clone(), ..GeneratorOptions::new(ModelName::new(name.to_owned())) }
    }
}
