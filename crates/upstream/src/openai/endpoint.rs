//! Where requests go and what they carry: the URL and the headers, made from the configuration once.

use reqwest::{
    Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use understudy_core::{Error, Result};

/// The URL of `path` under a base: `/v1` is added unless the base has a version segment (`v1`, `v1beta`, `v4`) or an
/// Azure deployment. A query (Azure's `api-version`) stays.
pub(super) fn url(base: &str, path: &str) -> Result<Url> {
    let bad = |why: &str| Error::invalid(format!("use base_url: {why}")).with_param("base_url");
    let mut url = Url::parse(base).map_err(|e| bad(&format!("it is not a URL ({e}); write https://host/v1")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("it must start with http:// or https:// and name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds credentials; put the key in api_key instead"));
    }
    url.set_fragment(None);
    let own = url.path().trim_end_matches('/');
    let own = own.strip_suffix(&format!("/{path}")).unwrap_or(own);
    let versioned = own.split('/').any(|segment| {
        segment == "deployments"
            || segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let version = if versioned { "" } else { "/v1" };
    let joined = format!("{own}{version}/{path}");
    url.set_path(&joined);
    Ok(url)
}

/// The headers of every request. Values are marked as sensitive: they are never printed.
pub(super) fn headers(api_key: Option<&SecretString>, more: &BTreeMap<String, SecretString>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let secret = |text: &str, param: &str| -> Result<HeaderValue> {
        let bad =
            |_| Error::invalid(format!("use {param}: it has characters that a header cannot hold (a line break?)"));
        let mut value = HeaderValue::from_str(text).map_err(|e| bad(e).with_param(param))?;
        value.set_sensitive(true);
        Ok(value)
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = api_key {
        headers.insert(AUTHORIZATION, secret(&format!("Bearer {}", key.expose_secret()), "api_key")?);
    }
    for (name, value) in more {
        let param = format!("headers.{name}");
        let name: HeaderName = name
            .parse()
            .map_err(|_| Error::invalid(format!("use {param}: it is not a header name")).with_param(&param))?;
        headers.insert(name, secret(value.expose_secret(), &param)?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_added_where_it_is_missing() {
        for (base, expected) in [
            ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
            ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
            ("http://127.0.0.1:8080/v1/chat/completions", "http://127.0.0.1:8080/v1/chat/completions"),
            ("https://openrouter.ai/api", "https://openrouter.ai/api/v1/chat/completions"),
            ("https://g.example/v1beta/openai/", "https://g.example/v1beta/openai/chat/completions"),
            (
                "https://a.example/openai/deployments/d?api-version=1",
                "https://a.example/openai/deployments/d/chat/completions?api-version=1",
            ),
        ] {
            assert_eq!(url(base, "chat/completions").expect("valid").as_str(), expected);
        }
    }

    #[test]
    fn a_base_that_cannot_work_is_refused_without_showing_its_password() {
        for bad in ["api.openai.com", "ftp://x", "https://user:hunter2@x/v1", "", "file:///etc/passwd"] {
            let error = url(bad, "embeddings").expect_err("refused");
            assert_eq!(error.param(), Some("base_url"));
            assert!(!error.message().contains("hunter2"));
        }
        let key = SecretString::from("sk-1\nsecret");
        let error = headers(Some(&key), &BTreeMap::new()).expect_err("a line break");
        assert!(!format!("{error:?}").contains("sk-1"));
    }
}
