//! The HTTP client that all upstreams share, and what they share beside it: clock, randomness, breakers.

use crate::breaker::{Breaker, BreakerPolicy};
use reqwest::redirect;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use understudy_core::{Clock, Error, Result, Seed};

/// Which proxy the client goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyUse {
    /// The one in the environment (`HTTPS_PROXY`, `NO_PROXY`) or the system's settings.
    #[default]
    System,
    /// None.
    Direct,
}

/// How connections are made and kept.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Longest time for TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Shorter than the usual server's 60 s, so that we close first.
    pub keep_idle: Duration,
    /// Unused connections kept per host.
    pub idle_per_host: usize,
    /// Which proxy to go through.
    pub proxy: ProxyUse,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keep_idle: Duration::from_secs(45),
            idle_per_host: 128,
            proxy: ProxyUse::System,
        }
    }
}

/// Builds the client. Installs the TLS provider (ring) for the process when there is none yet.
///
/// HTTP/1.1 with a pool of connections, on purpose: over HTTP/2 all requests to a host share one connection, which
/// stalls at the server's stream limit (often 100) and behind one lost packet. Redirects are off: an upstream must not
/// send our key elsewhere.
///
/// # Errors
/// `Unavailable` when the system's certificates cannot be loaded.
pub fn http_client(options: &HttpOptions) -> Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // It fails only when the application has installed one already, and then that one is right.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .redirect(redirect::Policy::none())
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(options.keep_idle)
        .pool_max_idle_per_host(options.idle_per_host)
        .tcp_nodelay(true)
        .user_agent(concat!("understudy/", env!("CARGO_PKG_VERSION")));
    if options.proxy == ProxyUse::Direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| Error::unavailable(format!("set up the HTTP client: {}", describe(&e))))
}

/// An HTTP error with its causes and without its URL, which may hold a key.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_connect() {
        "cannot connect"
    } else if error.is_timeout() {
        "timed out"
    } else if error.is_body() || error.is_decode() {
        "the connection broke while the answer was read"
    } else if error.is_builder() {
        "the request cannot be built"
    } else {
        "the request failed"
    };
    let mut text = what.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        // Causes repeat one another; only what is new is told.
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// What upstreams share: the client, the clock, randomness for waiting times, one breaker per server. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    pub(crate) client: reqwest::Client,
    pub(crate) clock: Arc<dyn Clock>,
    inner: Arc<Inner>,
}

struct Inner {
    seed: Seed,
    draws: AtomicU64,
    policy: BreakerPolicy,
    breakers: Mutex<BTreeMap<String, SharedBreaker>>,
}

impl Network {
    /// Shares `client` among upstreams.
    #[must_use]
    pub fn new(client: reqwest::Client, clock: Arc<dyn Clock>, seed: Seed, policy: BreakerPolicy) -> Self {
        let inner = Inner { seed, draws: AtomicU64::new(0), policy, breakers: Mutex::default() };
        Self { client, clock, inner: Arc::new(inner) }
    }

    /// The breaker of the server at `base_url`: models on one server fail together.
    pub(crate) fn breaker(&self, base_url: &str) -> SharedBreaker {
        let mut breakers = lock(&self.inner.breakers);
        let new = || SharedBreaker(Arc::new(Mutex::new(Breaker::new(self.inner.policy))));
        breakers.entry(base_url.to_owned()).or_insert_with(new).clone()
    }

    /// The next random number in [0, 1).
    pub(crate) fn draw(&self) -> f64 {
        let n = self.inner.draws.fetch_add(1, Ordering::Relaxed);
        let bits = self.inner.seed.derive(&format!("backoff {n}")).0;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// A breaker that several models share.
#[derive(Debug, Clone)]
pub(crate) struct SharedBreaker(Arc<Mutex<Breaker>>);

impl SharedBreaker {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Breaker) -> T) -> T {
        f(&mut lock(&self.0))
    }
}

/// No code panics while it holds one of these locks in a half-made state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
