//! A running gateway: the server, the reloads and the watch over certificates.
//!
//! Everything that changes what is served goes the same way: a new picture is composed from the configuration and the
//! store, and replaces the old one only when it is complete. A faulty edit of the configuration is reported and the
//! old picture stays.

use crate::{
    clock::{SystemClock, fresh_seed},
    compose::Composer,
    config::Config,
    monitor::Watch,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use understudy_core::{Clock, Result};
use understudy_serve::{Shared, bind};
use understudy_store::{Store, StoreOptions};

/// How often the configuration's file and the store's generation are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// A gateway that runs until it is stopped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) shared: Arc<Shared>,
    pub(crate) composer: Arc<Composer>,
    pub(crate) clock: Arc<dyn Clock>,
    path: PathBuf,
    stop: CancellationToken,
    server: JoinHandle<()>,
    watch: JoinHandle<()>,
    monitor: JoinHandle<()>,
}

impl Gateway {
    /// Starts from a configuration file. Requests are accepted at once; `/ready` says yes when the models are loaded.
    pub(crate) async fn start(path: &Path) -> Result<Self> {
        let config = Config::load(path)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let options = StoreOptions { durability: config.store.durability, ..StoreOptions::default() };
        let store = Store::open(&config.store.path, options)?;
        let shared = Shared::new(store.clone(), clock.clone(), fresh_seed(), config.server.limits);
        let composer = Arc::new(Composer::new(clock.clone(), fresh_seed())?);
        let files = watched(path, &config);
        let seen = Seen::now(&files, &store).await;
        shared.install(composer.compose(&config, &store).await?);
        let server = bind(config.server.listen).await?;
        let address = server.address()?;
        let stop = CancellationToken::new();
        let changed = Arc::new(Notify::new());
        let server = tokio::spawn(server.run(shared.clone(), stop.clone()));
        let watcher = Watcher {
            path: path.to_owned(),
            files,
            store: store.clone(),
            shared: shared.clone(),
            composer: composer.clone(),
            listen: config.server.listen,
            store_path: config.store.path,
            changed: changed.clone(),
        };
        let watch = tokio::spawn(watcher.run(seen, stop.clone()));
        let watch_over = Watch { store: store.clone(), clock: clock.clone(), composer: composer.clone(), changed };
        let monitor = tokio::spawn(watch_over.run(stop.clone()));
        Ok(Self { address, store, shared, composer, clock, path: path.to_owned(), stop, server, watch, monitor })
    }

    /// The configuration as its file says it now.
    pub(crate) fn config(&self) -> Result<Config> {
        Config::load(&self.path)
    }

    /// Takes the configuration and the store in again, now.
    pub(crate) async fn reload(&self) -> Result<()> {
        let config = self.config()?;
        self.shared.install(self.composer.compose(&config, &self.store).await?);
        Ok(())
    }

    /// Drains and stops.
    pub(crate) async fn stop(self) {
        self.shared.begin_drain();
        self.stop.cancel();
        for part in [self.server, self.watch, self.monitor] {
            if let Err(error) = part.await {
                tracing::error!(%error, "a part of the gateway ended badly");
            }
        }
    }
}

/// What the last composition was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    modified: Vec<Option<SystemTime>>,
    generation: u64,
}

impl Seen {
    async fn now(files: &[PathBuf], store: &Store) -> Self {
        let modified = |file: &PathBuf| std::fs::metadata(file).and_then(|m| m.modified()).ok();
        let modified = files.iter().map(modified).collect();
        // A store that cannot be read now is looked at again; requests report the fault.
        let generation = store.generation().await.unwrap_or(0);
        Self { modified, generation }
    }
}

/// The files whose edits are taken in: the configuration, and the routers and gates that it names.
fn watched(path: &Path, config: &Config) -> Vec<PathBuf> {
    let named = config.tasks.iter().flat_map(|task| [&task.router, &task.gate]).flatten();
    std::iter::once(path.to_owned()).chain(named.map(|file| config.base.join(file))).collect()
}

struct Watcher {
    path: PathBuf,
    files: Vec<PathBuf>,
    store: Store,
    shared: Arc<Shared>,
    composer: Arc<Composer>,
    listen: SocketAddr,
    store_path: PathBuf,
    changed: Arc<Notify>,
}

impl Watcher {
    async fn run(mut self, mut seen: Seen, stop: CancellationToken) {
        let mut hangup = Hangup::new();
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = hangup.received() => true,
                () = self.changed.notified() => true,
                () = tokio::time::sleep(WATCH_INTERVAL) => false,
            };
            let now = Seen::now(&self.files, &self.store).await;
            if now == seen && !asked {
                continue;
            }
            let edited = now.modified != seen.modified;
            let files = self.files.clone();
            let taken = self.reload().await;
            // Files that are named for the first time were read just now; an edit since then is seen next time.
            seen = if files == self.files { now } else { Seen::now(&self.files, &self.store).await };
            match taken {
                Ok(()) if edited => tracing::info!("took the configuration in"),
                Ok(()) => tracing::info!("took deployments, certificates and alarms in"),
                Err(error) => tracing::error!(%error, "failed to reload; what was served before goes on"),
            }
        }
    }

    async fn reload(&mut self) -> Result<()> {
        let config = Config::load(&self.path)?;
        // Looked at from now on even where composing fails: the mended file is an edit.
        self.files = watched(&self.path, &config);
        if config.server.listen != self.listen || config.store.path != self.store_path {
            tracing::warn!("[server] listen and [store] path change only with a restart");
        }
        self.shared.install(self.composer.compose(&config, &self.store).await?);
        Ok(())
    }
}

/// SIGHUP, where there is one.
struct Hangup(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangup {
    fn new() -> Self {
        #[cfg(unix)]
        return Self(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok());
        #[cfg(not(unix))]
        Self()
    }

    async fn received(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
