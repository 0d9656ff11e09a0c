//! The model hub's protocol, as far as pulls need it: where a file is, and which files a repository has.

use super::{PullOptions, http};
use crate::catalogue::FileSpec;
use reqwest::Url;
use understudy_core::{Error, Result};

/// Address of a file: `{hub}/{repo}/resolve/{revision}/{path}`.
pub(super) fn file_url(hub: &str, repo: &str, revision: &str, path: &str) -> Result<Url> {
    let mut segments: Vec<&str> = repo.split('/').collect();
    segments.extend(["resolve", revision]);
    segments.extend(path.split('/'));
    address(hub, &segments)
}

/// A repository at one commit.
pub(super) struct Repository {
    /// The commit that the revision means now.
    pub(super) commit: String,
    /// Its files, with hashes where the hub states them.
    pub(super) files: Vec<FileSpec>,
    /// Its licence as the makers tagged it.
    pub(super) licence: Option<String>,
}

/// Asks the hub what a repository holds.
pub(super) async fn list(repo: &str, revision: &str, options: &PullOptions) -> Result<Repository> {
    let mut segments = vec!["api", "models"];
    segments.extend(repo.split('/'));
    segments.extend(["revision", revision]);
    let mut url = address(&options.hub, &segments)?;
    url.set_query(Some("blobs=true"));
    let answer = http::get_json(&url, options).await?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let siblings = answer["siblings"].as_array().map_or(&[][..], Vec::as_slice);
    let files = siblings.iter().filter_map(|file| {
        let sha256 = text(&file["lfs"]["sha256"]).filter(|h| h.len() == 64);
        Some(FileSpec { path: text(&file["rfilename"])?, size: file["size"].as_u64(), sha256 })
    });
    let files: Vec<_> = files.collect();
    if files.is_empty() {
        return Err(Error::data(format!("list hf:{repo}: the hub names no files")));
    }
    let commit = text(&answer["sha"]).unwrap_or_else(|| revision.to_owned());
    Ok(Repository { commit, files, licence: text(&answer["cardData"]["license"]) })
}

fn address(hub: &str, segments: &[&str]) -> Result<Url> {
    let bad = |why: &str| Error::invalid(format!("use hub address `{hub}`: {why}; HF_ENDPOINT sets it"));
    let mut url = Url::parse(hub).map_err(|e| bad(&e.to_string()))?;
    url.path_segments_mut().map_err(|()| bad("it is no web address"))?.pop_if_empty().extend(segments);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrors_path_prefix_survives_and_names_are_escaped() {
        let url = file_url("https://mirror.example/api/hf/", "a/b", "refs/pr/1", "1_Pooling/x y.json").expect("a URL");
        assert_eq!(url.as_str(), "https://mirror.example/api/hf/a/b/resolve/refs%2Fpr%2F1/1_Pooling/x%20y.json");
        assert!(file_url("mirror", "a/b", "main", "c").is_err());
    }
}
