//! The recorded outcomes of the data folder beside the workspace.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Outcome, Result, outcome};

/// One recorded set.
pub(crate) struct Set {
    /// Its rows.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Set {
    /// Every model's name, in order.
    pub(crate) fn models(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.outcomes.iter().flat_map(|o| o.models.keys()).collect();
        names.into_iter().cloned().collect()
    }
}

/// The folder of recorded sets under `data`, or beside the workspace.
pub(crate) fn folder(data: Option<&Path>) -> PathBuf {
    let folder = data.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let inside = folder.join("outcomes/recorded");
    if inside.is_dir() { inside } else { folder }
}

/// Reads one set.
pub(crate) fn read(folder: &Path, name: &str) -> Result<Set> {
    let file = folder.join(format!("{name}.jsonl.zst"));
    let shown = file.display().to_string();
    let failed = |e: std::io::Error| {
        Error::not_found(format!("read {shown}: {e}; give the folder of the recorded outcomes with --data"))
    };
    let decoder = zstd::Decoder::new(File::open(&file).map_err(failed)?).map_err(failed)?;
    Ok(Set { outcomes: outcome::read(&shown, BufReader::new(decoder))? })
}

/// Reads every set of the folder, by name.
pub(crate) fn all(data: Option<&Path>) -> Result<Vec<Set>> {
    let folder = folder(data);
    let failed = |e: std::io::Error| {
        let shown = folder.display();
        Error::not_found(format!("read {shown}: {e}; give the folder of the recorded outcomes with --data"))
    };
    let mut names: Vec<String> = fs::read_dir(&folder)
        .map_err(failed)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".jsonl.zst").map(str::to_owned))
        .collect();
    names.sort();
    names.iter().map(|name| read(&folder, name)).collect()
}
