//! What a user may write after `pull`: a name from the catalogue, or a reference to any model elsewhere, which becomes
//! a catalogue entry of its own.

use super::{PullOptions, hub, staging::safe_join};
use crate::{
    catalogue::{Catalogue, Entry, FileSpec, Kind, Source},
    installed::{check_name, io_error},
};
use reqwest::Url;
use std::{
    fs,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result};

/// Files of an encoder's repository that are worth having; everything else is other formats of the same weights.
const ENCODER_FILES: [&str; 11] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "README.md",
];

/// A repository's Q8_0 file is taken when it is no larger than this; above, the 4-bit one.
const Q8_LIMIT_BYTES: u64 = 1_200_000_000;

/// The entry that `name` means.
pub(super) async fn resolve(name: &str, options: &PullOptions) -> Result<Entry> {
    let mut entry = if let Some(rest) = name.strip_prefix("hf:") {
        from_hub(rest, options).await?
    } else if let Some(path) = name.strip_prefix("file:") {
        from_path(Path::new(path.strip_prefix("//").unwrap_or(path)))?
    } else if name.starts_with("https://") || name.starts_with("http://") {
        from_url(name)?
    } else {
        Catalogue::embedded().find(name)?.clone()
    };
    if let Some(sha256) = &options.sha256 {
        let [file] = entry.files.as_mut_slice() else {
            let what = format!("check {name} with --sha256: it has {} files, not one", entry.files.len());
            return Err(Error::invalid(what).with_param("sha256"));
        };
        if sha256.len() != 64 || !sha256.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Error::invalid("read --sha256: it has 64 hexadecimal digits").with_param("sha256"));
        }
        file.sha256 = Some(sha256.to_lowercase());
    }
    if let Some(rename) = &options.rename {
        entry.name.clone_from(rename);
    }
    check_name(&entry.name)?;
    Ok(entry)
}

/// `OWNER/REPO[@REVISION][/FILE]`.
async fn from_hub(reference: &str, options: &PullOptions) -> Result<Entry> {
    let (repo, revision, file) = split_hub(reference)?;
    let found = hub::list(&repo, &revision, options).await.map_err(|e| e.context(format!("list hf:{repo}")))?;
    let (kind, files) = choose(&repo, found.files, file.as_deref())?;
    let about = format!("https://huggingface.co/{repo}");
    let stem = match (kind, files.as_slice()) {
        (Kind::Generative, [one]) => one.path.rsplit('/').next().unwrap_or(&repo).trim_end_matches(".gguf"),
        _ => repo.rsplit('/').next().unwrap_or(&repo),
    }
    .to_owned();
    let source = Source::Hub { repo: repo.clone(), revision: found.commit, files: Vec::new() };
    let licence = found.licence.unwrap_or_else(|| "see the model's page".to_owned());
    Ok(Entry { licence, ..entry(&stem, kind, about, files, source) })
}

fn split_hub(reference: &str) -> Result<(String, String, Option<String>)> {
    let bad = || Error::invalid(format!("read `hf:{reference}`: the form is hf:OWNER/REPO[@REVISION][/FILE.gguf]"));
    let (owner, rest) = reference.split_once('/').ok_or_else(bad)?;
    let (repo, rest) = rest.split_at(rest.find(['@', '/']).unwrap_or(rest.len()));
    let (revision, file) = match rest.strip_prefix('@') {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("main", rest),
    };
    let file = file.strip_prefix('/').map(str::to_owned);
    if owner.is_empty() || repo.is_empty() || revision.is_empty() || file.as_deref() == Some("") {
        return Err(bad());
    }
    Ok((format!("{owner}/{repo}"), revision.to_owned(), file))
}

/// Which files of a repository make up the model.
fn choose(repo: &str, files: Vec<FileSpec>, wanted: Option<&str>) -> Result<(Kind, Vec<FileSpec>)> {
    if let Some(wanted) = wanted {
        let file = files.into_iter().find(|f| f.path == wanted);
        let file =
            file.ok_or_else(|| Error::not_found(format!("find {wanted} in hf:{repo}: there is no such file")))?;
        safe_join(Path::new(""), &file.path)?;
        return Ok((kind_of([file.path.as_str()])?, vec![file]));
    }
    let (ggufs, rest): (Vec<_>, Vec<_>) = files.into_iter().partition(|f| f.path.ends_with(".gguf"));
    let encoder: Vec<_> = rest.into_iter().filter(|f| ENCODER_FILES.contains(&f.path.as_str())).collect();
    if encoder.iter().any(|f| f.path == "model.safetensors") && encoder.iter().any(|f| f.path == "tokenizer.json") {
        return Ok((Kind::Encoder, encoder));
    }
    let called = |mark: &str| ggufs.iter().find(|f| f.path.to_lowercase().contains(mark));
    let small_q8 = called("q8_0").filter(|f| f.size.is_none_or(|size| size <= Q8_LIMIT_BYTES));
    let only = || if let [one] = ggufs.as_slice() { Some(one) } else { None };
    if let Some(file) = small_q8.or_else(|| called("q4_k_m")).or_else(only) {
        return Ok((Kind::Generative, vec![file.clone()]));
    }
    let names: Vec<_> = ggufs.iter().map(|f| f.path.as_str()).collect();
    Err(if names.is_empty() {
        Error::invalid(format!("use hf:{repo}: it has neither a GGUF file nor model.safetensors with tokenizer.json"))
    } else {
        Error::invalid(format!("choose a file of hf:{repo}: name one, hf:{repo}/FILE: {}", names.join(", ")))
    })
}

fn from_url(text: &str) -> Result<Entry> {
    let url = Url::parse(text).map_err(|e| Error::invalid(format!("read URL {text}: {e}")))?;
    let file = url.path_segments().and_then(|mut s| s.next_back()).unwrap_or_default().to_owned();
    let kind = kind_of([file.as_str()])?;
    let stem = file.trim_end_matches(".gguf").to_owned();
    let files = vec![FileSpec { path: file, size: None, sha256: None }];
    Ok(entry(&stem, kind, text.to_owned(), files, Source::Url { url: text.to_owned() }))
}

fn from_path(path: &Path) -> Result<Entry> {
    let path = fs::canonicalize(path).map_err(|e| io_error("read", path, &e))?;
    let mut files = Vec::new();
    if path.is_dir() {
        collect(&path, &PathBuf::new(), &mut files)?;
        files.sort();
    } else {
        files.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    let kind = kind_of(files.iter().map(String::as_str))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = files.into_iter().map(|path| FileSpec { path, size: None, sha256: None }).collect();
    let shown = path.display().to_string();
    Ok(entry(name.trim_end_matches(".gguf"), kind, shown.clone(), files, Source::File { path: shown }))
}

/// Regular files below `dir`, hidden ones and our own manifest left out.
fn collect(dir: &Path, below: &Path, files: &mut Vec<String>) -> Result<()> {
    for item in fs::read_dir(dir.join(below)).map_err(|e| io_error("read", dir, &e))? {
        let item = item.map_err(|e| io_error("read", dir, &e))?;
        let name = item.file_name().to_string_lossy().into_owned();
        let kind = item.file_type().map_err(|e| io_error("read", dir, &e))?;
        if name.starts_with('.') || name == crate::installed::MANIFEST {
            continue;
        }
        let path = below.join(&name);
        if kind.is_dir() {
            collect(dir, &path, files)?;
        } else if item.path().is_file() {
            files.push(path.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"));
        }
    }
    Ok(())
}

fn kind_of<'a>(files: impl IntoIterator<Item = &'a str>) -> Result<Kind> {
    let files: Vec<_> = files.into_iter().collect();
    if files.iter().any(|f| f.ends_with(".gguf")) {
        Ok(Kind::Generative)
    } else if files.contains(&"config.json") && files.iter().any(|f| f.ends_with(".safetensors")) {
        Ok(Kind::Encoder)
    } else {
        Err(Error::invalid(format!(
            "use {}: a model is a .gguf file, or a folder with config.json, model.safetensors and tokenizer.json",
            files.first().copied().unwrap_or("an empty folder")
        )))
    }
}

fn entry(name: &str, kind: Kind, about: String, files: Vec<FileSpec>, source: Source) -> Entry {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    Entry {
        name: name.to_lowercase(),
        aliases: Vec::new(),
        kind,
        about,
        parameters: None,
        licence: "not stated".to_owned(),
        context: None,
        languages: Vec::new(),
        files,
        sources: vec![source],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_references_split_into_repository_revision_and_file() {
        let split = |text| split_hub(text).expect("a reference");
        let own = |r: &str, v: &str, f: Option<&str>| (r.to_owned(), v.to_owned(), f.map(str::to_owned));
        assert_eq!(split("a/b"), own("a/b", "main", None));
        assert_eq!(split("a/b/q/c.gguf"), own("a/b", "main", Some("q/c.gguf")));
        assert_eq!(split("a/b@v1/c.gguf"), own("a/b", "v1", Some("c.gguf")));
        for bad in ["a", "/b", "a/", "a/b@", "a/b/"] {
            assert!(split_hub(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_small_repository_gives_q8_and_a_large_one_four_bits() {
        let file = |path: &str, size| FileSpec { path: path.to_owned(), size: Some(size), sha256: None };
        let pick = |files| choose("a/b", files, None).expect("a choice").1[0].path.clone();
        let small = vec![file("m-Q4_K_M.gguf", 400_000_000), file("m-Q8_0.gguf", 600_000_000)];
        let large = vec![file("m-Q4_K_M.gguf", 5_000_000_000), file("m-Q8_0.gguf", 8_000_000_000)];
        assert_eq!((pick(small), pick(large)), ("m-Q8_0.gguf".to_owned(), "m-Q4_K_M.gguf".to_owned()));
        let unclear = choose("a/b", vec![file("x.gguf", 1), file("y.gguf", 1)], None).expect_err("two files");
        assert!(unclear.message().contains("x.gguf, y.gguf"), "{unclear}");
    }
}
