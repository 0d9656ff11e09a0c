//! One HTTP call: admitted by the breaker, tried again while that makes sense, bounded in time and size.

use super::{OpenAiConfig, Retries, Timeouts, endpoint};
use crate::http::{Network, SharedBreaker, describe};
use bytes::{Bytes, BytesMut};
use futures_util::TryFutureExt;
use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use std::{fmt, time::Duration};
use understudy_core::{Error, ErrorKind, Result};
use understudy_wire::openai::error as wire_error;

/// Largest whole answer.
const MAX_BODY_BYTES: usize = 64 << 20;
/// As much of an error answer as is worth reading.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Calls one path on one server.
pub(super) struct Caller {
    network: Network,
    breaker: SharedBreaker,
    url: Url,
    headers: HeaderMap,
    secrets: Vec<SecretString>,
    api_key_from: Option<String>,
    /// "ask NAME at HOST", the start of every message.
    context: String,
    timeouts: Timeouts,
    retries: Retries,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may carry a key in its query.
        f.debug_struct("Caller").field("context", &self.context).finish_non_exhaustive()
    }
}

/// A streamed answer whose headers have arrived.
pub(super) struct OpenStream {
    pub(super) response: Response,
    pub(super) idle: Duration,
    pub(super) report: Report,
    pub(super) is_event_stream: bool,
    pub(super) context: String,
    pub(super) secrets: Vec<SecretString>,
}

/// One admitted call's verdict on its server. Without a verdict it counts as abandoned.
pub(super) struct Report {
    network: Network,
    breaker: SharedBreaker,
    open: bool,
}

impl Report {
    fn succeeded(&mut self) {
        self.breaker.with(|b| b.succeeded());
        self.open = false;
    }

    pub(super) fn failed(&mut self) {
        let now = self.network.clock.monotonic();
        self.breaker.with(|b| b.failed(now));
        self.open = false;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.open {
            let now = self.network.clock.monotonic();
            self.breaker.with(|b| b.abandoned(now));
        }
    }
}

/// A failed try: the error, and whether and when another makes sense.
struct Failure {
    error: Error,
    retry: Retry,
}

enum Retry {
    Never,
    AfterBackoff,
    After(Duration),
}

impl Caller {
    pub(super) fn new(config: &OpenAiConfig, path: &str, network: &Network) -> Result<Self> {
        let context = |e: Error| e.context(format_args!("set up model `{}`", config.name));
        let url = endpoint::url(&config.base_url, path).map_err(context)?;
        let headers = endpoint::headers(config.api_key.as_ref(), &config.headers).map_err(context)?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self {
            network: network.clone(),
            breaker: network.breaker(&config.base_url),
            headers,
            secrets: config.api_key.iter().chain(config.headers.values()).cloned().collect(),
            api_key_from: config.api_key.as_ref().and(config.api_key_from.clone()),
            context: format!("ask `{}` at {host}{port}", config.name),
            timeouts: config.timeouts,
            retries: config.retries,
            url,
        })
    }

    /// Sends `body` and reads the whole answer with `parse`.
    pub(super) async fn whole<T>(&self, body: Bytes, parse: impl FnOnce(Bytes) -> Result<T>) -> Result<T> {
        let call = async {
            let (mut response, mut report) = self.post(body).await?;
            let kind = media_type(&response);
            let body = match read(&mut response, MAX_BODY_BYTES).await {
                Ok(body) => body,
                Err(error) => {
                    report.failed();
                    return Err(error);
                }
            };
            parse(body).map_err(|e| match e.kind() {
                ErrorKind::Data => Error::data(format!("{} (content type {kind}); check base_url", e.message())),
                _ => e,
            })
        };
        self.within_total(call).await
    }

    /// Sends `body` and returns as soon as the answer begins.
    pub(super) async fn stream(&self, body: Bytes) -> Result<OpenStream> {
        let (response, report) = self.within_total(self.post(body)).await?;
        let kind = media_type(&response);
        // Some servers name no type, or a plain one.
        let is_event_stream = matches!(kind.as_str(), "text/event-stream" | "text/plain" | "none");
        if !is_event_stream && kind != "application/json" {
            let message = format!("it answered with {kind} instead of an event stream; check base_url");
            return Err(Error::data(message).context(&self.context));
        }
        Ok(OpenStream {
            response,
            idle: self.timeouts.idle,
            report,
            is_event_stream,
            context: self.context.clone(),
            secrets: self.secrets.clone(),
        })
    }

    /// Bounds a call in time, and names it in its error.
    async fn within_total<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let total = self.timeouts.total;
        let late = |_| {
            // The call was dropped without a verdict; a server that does not answer in time has failed.
            let now = self.network.clock.monotonic();
            self.breaker.with(|b| b.failed(now));
            Error::new(ErrorKind::Deadline, format!("no answer within {total:?}; raise this upstream's total timeout"))
        };
        let outcome = tokio::time::timeout(total, call).map_err(late).await.and_then(|outcome| outcome);
        outcome.map_err(|e| scrub(e, &self.secrets).context(&self.context))
    }

    /// Posts until an answer with a success status begins.
    async fn post(&self, body: Bytes) -> Result<(Response, Report)> {
        let mut wait = self.retries.base;
        for left in (0..=self.retries.count).rev() {
            let Failure { error, retry } = match self.post_once(body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let pause = match retry {
                Retry::Never => return Err(error),
                Retry::After(pause) => pause,
                // Between half and all of it, so that clients that failed together do not return together.
                Retry::AfterBackoff => wait.mul_f64(0.5 + 0.5 * self.network.draw()),
            };
            if left == 0 || pause > self.retries.max_wait {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(self.retries.max_wait);
        }
        Err(Error::internal("send a request: the loop above returns on its last round"))
    }

    async fn post_once(&self, body: Bytes) -> Result<(Response, Report), Failure> {
        let mut report = self.admit()?;
        let request = self.network.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(e) => {
                report.failed();
                let kind = if e.is_timeout() && !e.is_connect() { ErrorKind::Deadline } else { ErrorKind::Unavailable };
                let retry = if e.is_builder() { Retry::Never } else { Retry::AfterBackoff };
                return Err(Failure { error: Error::new(kind, describe(&e)), retry });
            }
        };
        let status = response.status();
        if status.is_success() {
            report.succeeded();
            return Ok((response, report));
        }
        if status.is_server_error() {
            report.failed();
        }
        let asked = self.retry_after(response.headers());
        let forbids = response.headers().get("x-should-retry").is_some_and(|value| value == "false");
        let body = read(&mut response, MAX_ERROR_BYTES).await.unwrap_or_default();
        // Waiting does not fill an empty account.
        let broke = body.windows(18).any(|window| window == b"insufficient_quota");
        let seconds = asked.map(|pause| pause.as_secs() + u64::from(pause.subsec_nanos() > 0));
        let error = self.about_the_key(status, wire_error::parse(status.as_u16(), &body, seconds));
        let again =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let retry = match asked {
            _ if !again || forbids || broke => Retry::Never,
            Some(pause) => Retry::After(pause),
            None => Retry::AfterBackoff,
        };
        Err(Failure { error, retry })
    }

    /// Says of a refusal which key to check.
    fn about_the_key(&self, status: StatusCode, error: Error) -> Error {
        match &self.api_key_from {
            _ if error.kind() != ErrorKind::Refused => error,
            Some(from) => {
                let key = match from.split_once(':') {
                    Some(("env", name)) => format!("the key in {name}"),
                    Some(("file", path)) => format!("the key in the file {path}"),
                    _ => format!("the key from {from}"),
                };
                let host = self.url.host_str().unwrap_or_default();
                let message = format!("{key} was refused by {host} ({status}): check it and what it is allowed to do");
                Error::new(ErrorKind::Refused, message)
            }
            None if self.secrets.is_empty() => {
                let host = self.url.host_str().unwrap_or_default();
                let message =
                    format!("{host} wants a key ({status}) and none is configured: set this upstream's api_key");
                Error::new(ErrorKind::Refused, message)
            }
            None => error,
        }
    }

    fn admit(&self) -> Result<Report, Failure> {
        let now = self.network.clock.monotonic();
        match self.breaker.with(|b| b.admit(now)) {
            Ok(()) => Ok(Report { network: self.network.clone(), breaker: self.breaker.clone(), open: true }),
            Err(wait) => {
                let seconds = wait.as_secs().max(1);
                let error = Error::unavailable(format!("it failed repeatedly and is left alone for {seconds} s"));
                Err(Failure { error: error.with_retry_after(seconds), retry: Retry::Never })
            }
        }
    }

    /// The wait that the upstream asks for: milliseconds, seconds, or a date.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let finite = |x: f64| Duration::try_from_secs_f64(x).ok();
        if let Some(ms) = text("retry-after-ms").and_then(|ms| ms.trim().parse::<f64>().ok()) {
            return finite(ms / 1000.0);
        }
        let value = text(RETRY_AFTER.as_str())?.trim();
        if let Ok(seconds) = value.parse::<f64>() {
            return finite(seconds);
        }
        let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_millisecond();
        let ms = date.saturating_sub(self.network.clock.now().0);
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}

fn media_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
    value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase()
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(response: &mut Response, limit: usize) -> Result<Bytes> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                return Err(Error::data(format!("its answer is larger than {limit} bytes")));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(e) => return Err(Error::unavailable(describe(&e))),
        }
    }
}

/// Takes secrets out of an error: an upstream may quote our key back at us.
pub(super) fn scrub(error: Error, secrets: &[SecretString]) -> Error {
    let secrets = || secrets.iter().map(|s| s.expose_secret()).filter(|s| !s.is_empty());
    let holds = |bytes: &[u8]| secrets().any(|s| bytes.windows(s.len()).any(|window| window == s.as_bytes()));
    let leaks = holds(error.message().as_bytes())
        || error.param().is_some_and(|param| holds(param.as_bytes()))
        || error.wire().is_some_and(|wire| holds(wire));
    if !leaks {
        return error;
    }
    let message = secrets().fold(error.message().to_owned(), |text, secret| text.replace(secret, "[secret]"));
    let clean = Error::new(error.kind(), message);
    match error.retry_after_s() {
        Some(seconds) => clean.with_retry_after(seconds),
        None => clean,
    }
}
