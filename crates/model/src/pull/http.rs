//! Downloads over HTTP: resumable, hashed while they arrive, redirects followed by hand so that the hub's token goes
//! to the hub alone and the hub's statement of a file's hash is not lost on the way to its storage.

use super::{Failure, OnProgress, Progress, PullOptions, check, staging::Area};
use crate::{
    catalogue::FileSpec,
    installed::{self, InstalledFile, io_error},
};
use futures_util::StreamExt;
use reqwest::{StatusCode, Url, header};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_core::{Error, ErrorKind, Result, hash};

/// How often a download that stops making progress is taken up again.
const ATTEMPTS: u32 = 4;
const REDIRECTS: usize = 10;

/// An HTTP client as pulls need it: five seconds to connect, thirty without a byte, no redirects, the system's proxies
/// and certificates.
///
/// # Errors
/// `Internal` when the machine's TLS roots cannot be read.
pub fn client() -> Result<reqwest::Client> {
    // Fails when the process has chosen a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("understudy/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| Error::internal(format!("set up the HTTP client: {}", reason(&e))))
}

/// Whether the server of a URL says what a file's hash is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stated {
    /// The hub does, for large files, in `x-linked-etag`.
    ByHub,
    /// Any other server does not.
    Nowhere,
}

/// One file to download.
pub(super) struct Job<'a> {
    pub(super) url: Url,
    pub(super) file: &'a FileSpec,
    pub(super) stated: Stated,
}

/// Downloads a file into the area, going on where an earlier run stopped.
pub(super) async fn download(
    job: &Job<'_>,
    options: &PullOptions,
    area: &mut Area,
    on_progress: OnProgress<'_>,
) -> Result<InstalledFile, Failure> {
    let file = job.file;
    if let Some(done) = area.done(&file.path, file.sha256.as_deref()) {
        return Ok(done);
    }
    let target = area.target(&file.path)?;
    let part = part_path(&target);
    let mut attempt = 0;
    let mut fresh = false;
    loop {
        let before = length(&part);
        match transfer(job, options, area, &part, on_progress).await {
            Ok(arrived) => match check(file, arrived.stated.as_deref(), arrived.size, arrived.sha256) {
                Ok(installed) => {
                    fs::rename(&part, &target).map_err(|e| io_error("write", &target, &e))?;
                    area.set_done(&installed)?;
                    return Ok(installed);
                }
                Err(refused) => {
                    fs::remove_file(&part).map_err(|e| io_error("delete", &part, &e))?;
                    // The first half may have come from another version of the file: once more, from the start.
                    if arrived.resumed && !fresh {
                        fresh = true;
                        continue;
                    }
                    return Err(refused);
                }
            },
            Err(Broken::Lost(error)) => {
                attempt = if length(&part) > before { 1 } else { attempt + 1 };
                if attempt >= ATTEMPTS {
                    return Err(Failure::Source(error));
                }
                tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
            }
            Err(Broken::Failed(failure)) => return Err(failure),
        }
    }
}

/// A file that arrived in full.
struct Arrived {
    size: u64,
    sha256: String,
    /// The hash that the hub states.
    stated: Option<String>,
    /// Part of it is from an earlier request.
    resumed: bool,
}

/// Why a transfer ended early.
enum Broken {
    /// The connection or the server gave up: worth another try.
    Lost(Error),
    /// Trying again will not help.
    Failed(Failure),
}

impl<T: Into<Failure>> From<T> for Broken {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

async fn transfer(
    job: &Job<'_>,
    options: &PullOptions,
    area: &mut Area,
    part: &Path,
    on_progress: OnProgress<'_>,
) -> Result<Arrived, Broken> {
    let path = &job.file.path;
    // Without the server's validator only a known hash can tell whether the halves belong together.
    let etag = area.etag(path).map(str::to_owned);
    let have = if etag.is_some() || job.file.sha256.is_some() { length(part) } else { 0 };
    let reply = get(&job.url, Some((have, etag.as_deref())), options).await?;
    let (status, headers) = (reply.response.status(), reply.response.headers());
    let start = match status {
        StatusCode::PARTIAL_CONTENT if range_start(headers) == Some(have) => have,
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            fs::remove_file(part).or_else(missing_is_fine).map_err(|e| io_error("delete", part, &e))?;
            return Err(Broken::Lost(Error::unavailable(format!("resume {path}: the file has changed on the server"))));
        }
        status => return Err(refusal(status, &job.url)),
    };
    if start == 0 {
        area.set_etag(path, strong_etag(headers))?;
    }
    let total = reply.response.content_length().map(|rest| start + rest);
    check_space(part, total.unwrap_or(start).saturating_sub(start))?;

    let mut hasher = Sha256::new();
    let mut done = start;
    let mut out = fs::File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(part)
        .map_err(|e| io_error("write", part, &e))?;
    if start > 0 {
        let hashed = installed::hash_into(&mut hasher, part)?;
        debug_assert_eq!(hashed, start, "the request asked for what follows the file's end");
        std::io::Seek::seek(&mut out, std::io::SeekFrom::Start(start)).map_err(|e| io_error("write", part, &e))?;
    } else {
        out.set_len(0).map_err(|e| io_error("write", part, &e))?;
    }
    let limit = job.file.size.unwrap_or(u64::MAX);
    let mut body = reply.response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|e| Broken::Lost(Error::unavailable(format!("download {path}: {}", reason(&e)))))?;
        out.write_all(&chunk).map_err(|e| io_error("write", part, &e))?;
        hasher.update(&chunk);
        done += chunk.len() as u64;
        if done > limit {
            fs::remove_file(part).or_else(missing_is_fine).map_err(|e| io_error("delete", part, &e))?;
            let what = format!("download {path}: more than the expected {limit} bytes arrived; it was refused");
            return Err(Broken::Failed(Failure::Source(Error::data(what))));
        }
        on_progress(Progress::Bytes { file: path, done, total });
    }
    out.sync_all().map_err(|e| io_error("write", part, &e))?;
    let stated = (job.stated == Stated::ByHub).then_some(reply.linked_hash).flatten();
    Ok(Arrived { size: done, sha256: hash::hex(&hasher.finalize()), stated, resumed: start > 0 })
}

/// The final response of a request, and what the hub said before it sent us on.
struct Reply {
    response: reqwest::Response,
    linked_hash: Option<String>,
}

/// GET, following redirects. `range` asks for what follows the given length if the file is still the one with the
/// given validator.
async fn get(url: &Url, range: Option<(u64, Option<&str>)>, options: &PullOptions) -> Result<Reply, Broken> {
    let mut url = url.clone();
    let mut linked_hash = None;
    for _ in 0..REDIRECTS {
        let mut request = options.http.get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = options.token.as_ref().filter(|_| same_origin(&url, &options.hub)) {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some((from @ 1.., etag)) = range {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Some(etag) = etag {
                request = request.header(header::IF_RANGE, etag);
            }
        }
        let response = request.send().await.map_err(|e| unreachable(&url, &e))?;
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(etag) = text("x-linked-etag").map(|etag| etag.trim_matches('"').to_lowercase())
            && etag.len() == 64
        {
            linked_hash.get_or_insert(etag);
        }
        if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Reply { response, linked_hash });
        }
        let next = text("location").and_then(|to| url.join(to).ok()).ok_or_else(|| {
            Failure::Source(Error::data(format!("download {}: the server redirects to nowhere", shown(&url))))
        })?;
        if url.scheme() == "https" && next.scheme() != "https" {
            let what = format!("download {}: the server redirects to an unencrypted address", shown(&url));
            return Err(Broken::Failed(Failure::Source(Error::data(what))));
        }
        url = next;
    }
    Err(Broken::Failed(Failure::Source(Error::data(format!("download {}: too many redirects", shown(&url))))))
}

/// GET of a small JSON document.
pub(super) async fn get_json(url: &Url, options: &PullOptions) -> Result<serde_json::Value> {
    let settle = |broken| match broken {
        Broken::Lost(error) | Broken::Failed(Failure::Source(error) | Failure::Stop(error)) => error,
    };
    let reply = get(url, None, options).await.map_err(settle)?;
    if reply.response.status() != StatusCode::OK {
        return Err(settle(refusal(reply.response.status(), url)));
    }
    let text =
        reply.response.bytes().await.map_err(|e| Error::unavailable(format!("read {}: {}", shown(url), reason(&e))))?;
    serde_json::from_slice(&text).map_err(|e| Error::data(format!("read {}: not JSON: {e}", shown(url))))
}

fn refusal(status: StatusCode, url: &Url) -> Broken {
    let at = shown(url);
    let fail = |kind, what: String| Broken::Failed(Failure::Source(Error::new(kind, what)));
    match status.as_u16() {
        401 | 403 => fail(
            ErrorKind::Denied,
            format!(
                "download {at}: {status}: accept the licence on the model's page and set HF_TOKEN, or ask whoever runs the proxy"
            ),
        ),
        404 | 410 => fail(ErrorKind::NotFound, format!("download {at}: the server has no such file")),
        429 | 500..=599 => Broken::Lost(Error::unavailable(format!("download {at}: the server answers {status}"))),
        _ => fail(ErrorKind::Unavailable, format!("download {at}: the server answers {status}")),
    }
}

/// No answer at all. Retried only when the connection stood: a machine without a way to the hub must not wait.
fn unreachable(url: &Url, error: &reqwest::Error) -> Broken {
    let failure = Error::unavailable(format!("reach {}: {}", url.host_str().unwrap_or("the server"), reason(error)));
    if error.is_connect() || error.is_timeout() || error.is_builder() {
        Broken::Failed(Failure::Source(failure))
    } else {
        Broken::Lost(failure)
    }
}

/// The innermost cause, which is the one that says something. Addresses with their queries (signed links) stay out.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() }
}

/// A URL for messages: no query, no password.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn same_origin(url: &Url, base: &str) -> bool {
    Url::parse(base).is_ok_and(|base| base.origin() == url.origin())
}

fn strong_etag(headers: &header::HeaderMap) -> Option<String> {
    let etag = headers.get(header::ETAG)?.to_str().ok()?;
    etag.starts_with('"').then(|| etag.to_owned())
}

/// `bytes 100-199/200` starts at 100.
fn range_start(headers: &header::HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn check_space(part: &Path, needed: u64) -> Result<()> {
    let Some(folder) = part.parent() else { return Ok(()) };
    match fs4::available_space(folder) {
        Ok(free) if free < needed => Err(Error::unavailable(format!(
            "write {}: it needs {} MB more and the disk has {} MB; free some space or choose another place with UNDERSTUDY_MODELS",
            part.display(),
            needed.div_ceil(1_000_000),
            free / 1_000_000
        ))),
        _ => Ok(()),
    }
}

fn part_path(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

fn missing_is_fine(e: std::io::Error) -> std::io::Result<()> {
    if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}
