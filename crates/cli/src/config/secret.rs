//! Secrets come from the environment or a file, never from the configuration's own text.

use secrecy::SecretString;
use std::path::{Path, PathBuf};

/// Looks a variable up in the process's environment; the one place that reads it.
#[expect(clippy::disallowed_methods, reason = "the environment's home")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `~/.understudy/models`, or where `UNDERSTUDY_MODELS` points.
pub(crate) fn default_models_dir(environment: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    match environment("UNDERSTUDY_MODELS") {
        Some(dir) => dir.into(),
        None => Path::new(&environment("HOME").unwrap_or_default()).join(".understudy").join("models"),
    }
}

/// Resolves `env:NAME` or `file:PATH`. The error completes "`key` is …" and never repeats the value: it may be a secret
/// that somebody pasted.
pub(super) fn resolve(
    value: &str,
    base: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<SecretString, String> {
    if let Some(name) = value.strip_prefix("env:") {
        return environment(name)
            .map(SecretString::from)
            .ok_or_else(|| format!("taken from the environment variable {name}, which is not set"));
    }
    if let Some(path) = value.strip_prefix("file:") {
        let path = base.join(path);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("taken from the file {}, which cannot be read: {e}", path.display()))?;
        let secret = text.trim();
        return match secret.is_empty() {
            true => Err(format!("taken from the file {}, which is empty", path.display())),
            false => Ok(SecretString::from(secret)),
        };
    }
    Err("written in the file; secrets are taken from elsewhere: write \"env:NAME\" or \"file:PATH\"".to_owned())
}
