//! What a running gateway knows: the parts that live as long as the process ([`Shared`]) and the picture of the
//! configuration and the store that a reload replaces as a whole ([`Snapshot`]).

use crate::{api::embeddings::EmbeddingModel, metrics::Meters, texts::TextPolicy};
use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::task::TaskTracker;
use understudy_core::{
    Backend, Certificate, Clock, Embedder, ModelName, Price, Result, Seed, TaskSpec, hash::sha256_hex,
};
use understudy_route::{
    Router,
    gate::{FittedGate, served::Tells},
};
use understudy_store::Store;

/// A model that can be asked.
#[derive(Clone)]
pub struct Model {
    /// Answers.
    pub backend: Arc<dyn Backend>,
    /// Price of its tokens; `None` when unknown, which traces and metrics then say.
    pub price: Option<Price>,
    /// Who owns it, for `/v1/models`.
    pub owner: String,
}

/// A task's small model with what was proved about it.
#[derive(Clone)]
pub struct SmallModel {
    /// Answers.
    pub model: Model,
    /// Content hash of its artifact or file. Certificates are bound to it, behind a gate to [`FittedGate::bind`].
    pub hash: String,
    /// What it tells about its own answers.
    pub tells: Tells,
    /// Judges its answers in place of its own confidence.
    pub gate: Option<Arc<FittedGate>>,
    /// The valid certificate for this model, gate and task.
    pub certificate: Option<Arc<Certificate>>,
}

/// A task, ready to serve.
#[derive(Clone)]
pub struct Task {
    /// What the configuration says.
    pub spec: TaskSpec,
    /// The small model, when there is one.
    pub small: Option<SmallModel>,
    /// The large model, when one may be asked.
    pub large: Option<Model>,
    /// Guesses whether the small model is worth asking.
    pub router: Arc<dyn Router>,
    /// Embeds what the router reads, where it reads embeddings.
    pub embedder: Option<Arc<dyn Embedder>>,
}

/// Gives a model for a name that the configuration does not mention: drop-in use, where only the base URL changed.
pub type Fallback = Arc<dyn Fn(&str) -> Result<Model> + Send + Sync>;

/// The same for embedding models.
pub type EmbedderFallback = Arc<dyn Fn(&str) -> Result<EmbeddingModel> + Send + Sync>;

/// Everything a reload replaces, at once.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Tasks in the order of the configuration.
    pub tasks: Vec<Task>,
    /// Models by the name that clients use.
    pub models: BTreeMap<String, Model>,
    /// Embedding models in this process, by the name that clients use.
    pub embedders: BTreeMap<String, EmbeddingModel>,
    /// Embedding models that are not named in the configuration.
    pub embedder_fallback: Option<EmbedderFallback>,
    /// What `auto` means when no task matches.
    pub default_model: Option<ModelName>,
    /// Models that are not named in the configuration.
    pub fallback: Option<Fallback>,
    /// Keys of which a client must present one; empty means no key is needed.
    pub keys: Vec<ClientKey>,
    /// What of texts is stored.
    pub texts: TextPolicy,
}

/// A client's key, kept as a hash: comparing hashes takes the same time wherever two keys differ.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(String);

impl ClientKey {
    /// Hashes a secret.
    #[must_use]
    pub fn new(secret: &SecretString) -> Self {
        Self(sha256_hex(secret.expose_secret().as_bytes()))
    }

    /// Whether `presented` is this key.
    #[must_use]
    pub fn is(&self, presented: &str) -> bool {
        self.0 == sha256_hex(presented.as_bytes())
    }
}

/// Limits of the HTTP surface.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest request body in bytes.
    pub body_bytes: usize,
    /// Longest time for one request, answer included.
    pub request: Duration,
    /// How long a drain waits for open requests.
    pub drain: Duration,
}

/// Parts that live as long as the process.
pub struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) seed: Seed,
    pub(crate) limits: Limits,
    pub(crate) meters: Meters,
    pub(crate) work: TaskTracker,
    draining: AtomicBool,
}

impl Shared {
    /// Puts the parts together. `seed` feeds trace ids and audit draws; it must differ from start to start.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, seed: Seed, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            store,
            clock,
            seed,
            limits,
            meters: Meters::new(),
            work: TaskTracker::new(),
            draining: AtomicBool::new(true),
        })
    }

    /// Replaces the picture; requests under way finish on the old one. The first call makes the gateway ready.
    pub fn install(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.draining.store(false, Ordering::Release);
    }

    /// The picture in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Whether `/ready` says yes: a picture is installed and no drain has begun.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Acquire)
    }

    /// Whether no request and no audit is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.work.is_empty()
    }

    /// Takes the gateway out of rotation; requests are still answered.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}
