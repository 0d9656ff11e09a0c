//! What a training stands on: installed encoders and generative models, known by their content.

use super::TrainOptions;
use std::path::{Path, PathBuf};
use understudy_core::{Error, ModelName, Result, hash::sha256_hex};
use understudy_model::{
    artifact::{Artifact, BaseModel},
    catalogue::Kind,
    installed::{self, Checked, Installed},
};

/// The installed encoder that the options name.
pub(super) fn encoder_named(options: &TrainOptions) -> Result<Installed> {
    let installed = installed::load(&options.models_dir, &options.base)?;
    if installed.kind != Kind::Encoder {
        return Err(Error::invalid(format!("train on `{}`: it is not an encoder", options.base)).with_param("base"));
    }
    Ok(installed)
}

/// Name and content of an installed encoder. Files that were made here from the others do not count.
pub(crate) fn base_model(installed: &Installed) -> BaseModel {
    let files = installed.files.iter().filter(|file| file.checked != Checked::Derived);
    let mut lines: Vec<String> = files.map(|file| format!("{} {}\n", file.sha256, file.path)).collect();
    lines.sort_unstable();
    BaseModel { name: ModelName::new(installed.name.clone()), hash: sha256_hex(lines.concat().as_bytes()) }
}

/// The folder of the installed encoder that an artifact's head was trained on.
///
/// # Errors
/// `NotFound` when it is not installed; `Data` when another one is by now: a certificate is bound to the artifact, and the
/// artifact to its base.
pub(crate) fn base_of(artifact: &Artifact, models_dir: &Path) -> Result<PathBuf> {
    let base = &artifact.manifest().base;
    let installed = installed::load(models_dir, base.name.as_str())?;
    if base_model(&installed).hash != base.hash {
        return Err(Error::data(format!(
            "load artifact {}: the installed `{}` is not the one it was trained on; install that one again, or train and \
             certify anew",
            artifact.dir().display(),
            base.name
        )));
    }
    Ok(installed.dir().to_owned())
}

/// Content hash of an installed generative model: of the file that is run.
pub(crate) fn installed_hash(installed: &Installed) -> Result<String> {
    let path = installed.gguf()?;
    let file = installed.files.iter().find(|file| installed.dir().join(&file.path) == path);
    Ok(file.map(|file| file.sha256.clone()).expect("the file is one of the installed ones"))
}
