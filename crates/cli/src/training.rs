//! Training as a composition: examples → clean → see → fit → measure → artifact. Used by `adapt finetune`, by learning
//! from traffic and by the demo. What is seen of a text depends on the method: an encoder's embedding ([`head`]), that of an
//! encoder trained for it ([`tuned`]), its words ([`words`]), or the sum of its tokens' vectors ([`distil`]). Generative models get
//! adapters ([`generative`]).

mod base;
pub(crate) mod brought;
pub(crate) mod compress;
pub(crate) mod distil;
pub(crate) mod extract;
mod fewshot;
pub(crate) mod generative;
pub(crate) mod head;
pub(crate) mod multilabel;
mod outputs;
pub(crate) mod pruned;
pub(crate) mod regression;
mod run;
pub(crate) mod shrink;
pub(crate) mod taught;
pub(crate) mod tuned;
pub(crate) mod whole;
mod words;

use base::encoder_named;
pub(crate) use base::{base_model, base_of, installed_hash};
use head::embed;
use indicatif::ProgressBar;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_adapt::{
    artifact::{self, Existing, Provenance},
    device::Device,
    head::{FittedHead, HeadParams, PathStep, Unseen},
    metrics::{self, Judged},
    rejection::{self, Rejection},
    split::{self, Split},
};
use understudy_core::{Error, ModelName, Result, Seed, TaskName, Timestamp};
use understudy_dataset::{Cleaned, Conflict, Example, Learned, clean, text_hash};
use understudy_model::{
    artifact::{Artifact, BaseModel, Body, Dtype, Kind as ArtifactKind, Pooling, Unlabelled},
    encoder::EncoderOptions,
    head::likeliest,
};

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// A head on a frozen encoder.
    Head,
    /// A linear model of words; no encoder.
    Words,
    /// Low-rank adapters on an encoder, and a head.
    Lora,
    /// All layers of an encoder, and a head; the table of words stays.
    Full,
    /// All layers of an encoder by contrast, then a head: for few examples.
    Fewshot,
}

/// How to train.
#[derive(Debug, Clone)]
pub(crate) struct TrainOptions {
    /// What to train.
    pub(crate) method: Method,
    /// Catalogue name of the encoder.
    pub(crate) base: String,
    /// Where models are installed.
    pub(crate) models_dir: PathBuf,
    /// Name of the new model.
    pub(crate) name: ModelName,
    /// The task it is for.
    pub(crate) task: Option<TaskName>,
    /// Number type of the encoder.
    pub(crate) dtype: Dtype,
    /// Tokens after which texts are cut, or windows end.
    pub(crate) max_tokens: u32,
    /// Most windows in which a longer text is read; 1 cuts it.
    pub(crate) windows: u32,
    /// Share of the examples that only measure.
    pub(crate) test_share: f64,
    /// What a teacher said beside the labels.
    pub(crate) taught: taught::Taught,
    /// How to fit a head on an encoder.
    pub(crate) params: HeadParams,
    /// How to train an encoder; `None` for what suits the method.
    pub(crate) tuning: Option<tuned::Tuning>,
    /// The label of what belongs to none of the others, and the share of the others that rejecting may cost.
    pub(crate) out_of_scope: Option<(String, f64)>,
    /// Texts without labels ([`Method::Fewshot`]).
    pub(crate) unlabelled: Vec<String>,
    /// Seed of splits and intervals.
    pub(crate) seed: Seed,
    /// Threads of the encoder; 0 uses all.
    pub(crate) threads: usize,
    /// Where an encoder's passes are computed while it is trained.
    pub(crate) device: Device,
    /// What to do with another artifact in the folder.
    pub(crate) existing: Existing,
    /// Hash of the artifact that the new one follows.
    pub(crate) parent: Option<String>,
    /// Now.
    pub(crate) created: Timestamp,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            method: Method::Head,
            base: "minilm".into(),
            models_dir: PathBuf::new(),
            name: "classifier".into(),
            task: None,
            dtype: Dtype::Int8,
            max_tokens: 256,
            windows: 1,
            test_share: 0.1,
            taught: taught::Taught::default(),
            params: HeadParams::default(),
            tuning: None,
            out_of_scope: None,
            unlabelled: Vec::new(),
            seed: Seed(0),
            threads: 0,
            device: Device::Cpu,
            existing: Existing::Keep,
            parent: None,
            created: Timestamp(0),
        }
    }
}

impl TrainOptions {
    /// Where a training with these options keeps its state.
    fn checkpoint(&self, dir: &Path, material: &Material, base: &str) -> PathBuf {
        let Self { method, tuning, seed, max_tokens, windows, test_share, device, .. } = self;
        let (data, taught) = (material.cleaned.data_hash(), self.taught.hash().unwrap_or_default());
        let told = format!(
            "{data} {taught} {base} {method:?} {tuning:?} {} {max_tokens} {windows} {test_share} {device}",
            seed.0
        );
        run::checkpoint_path(dir, &told)
    }

    /// How an encoder reads texts.
    fn reading(&self) -> EncoderOptions {
        EncoderOptions {
            dtype: self.dtype.into(),
            max_tokens: self.max_tokens as usize,
            windows: self.windows as usize,
            pooling: None,
        }
    }
}

/// A trained model, written, and how it came about.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The artifact as it reads back.
    pub(crate) artifact: Artifact,
    /// Examples after cleaning.
    pub(crate) examples: usize,
    /// Examples that repeated another.
    pub(crate) duplicates: usize,
    /// Texts with several labels.
    pub(crate) conflicts: Vec<Conflict>,
    /// The regularisation path.
    pub(crate) path: Vec<PathStep>,
    /// How texts out of scope are told, and how well that worked on what chose it.
    pub(crate) rejection: Option<Rejection>,
    /// Time to embed.
    pub(crate) embedding: Duration,
    /// Time to fit and measure.
    pub(crate) fitting: Duration,
}

/// Trains a model on `examples` and writes the artifact to `dir`. `bar` counts the texts that are embedded.
///
/// # Errors
/// `NotFound` when the base model is not installed, `Data` when the examples cannot be learnt from, whatever writing
/// the artifact reports.
pub(crate) async fn train(
    examples: Vec<Example>,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    match options.method {
        Method::Head => head::train(examples, options, dir, bar).await,
        Method::Words => words::train(examples, options, dir).await,
        Method::Fewshot => fewshot::train(examples, options, dir, bar).await,
        Method::Lora | Method::Full => tuned::train(examples, options, dir, bar).await,
    }
}

/// Examples, cleaned and divided.
struct Material {
    cleaned: Cleaned,
    split: Split,
    /// What the model that it goes on from had learned from.
    before: Learned,
}

impl Material {
    fn new(examples: Vec<Example>, options: &TrainOptions) -> Result<Self> {
        Self::further(examples, Learned::default(), options)
    }

    /// For a model that is made from another one: what that one learned from does not measure.
    fn further(examples: Vec<Example>, before: Learned, options: &TrainOptions) -> Result<Self> {
        let cleaned = clean(examples);
        let split = split::split_further(&cleaned.examples, &before, options.test_share, options.seed)?;
        Ok(Self { cleaned, split, before })
    }

    /// What had a part in the training, with texts that have no label.
    fn learned(&self, unlabelled: &[String]) -> Learned {
        let texts = self.texts(&self.split.learn).into_iter().chain(unlabelled.iter().map(String::as_str));
        Learned::of(texts.map(text_hash)).and(self.before.clone())
    }

    fn texts(&self, of: &[usize]) -> Vec<&str> {
        of.iter().map(|&i| self.cleaned.examples[i].text.as_str()).collect()
    }

    /// Positions of labels in the split's classes.
    fn labels(&self, of: &[usize]) -> Vec<usize> {
        let label = |&i: &usize| {
            let label = &self.cleaned.examples[i].label;
            self.split.classes.binary_search(label).expect("the split lists every label, sorted")
        };
        of.iter().map(label).collect()
    }

    /// How likely each class is, where a teacher said so; empty when it said so of none.
    fn shares(&self, of: &[usize], taught: &taught::Taught) -> Vec<Option<Vec<f32>>> {
        let share = |&i: &usize| taught.shares(&self.cleaned.examples[i].text, &self.split.classes);
        let all: Vec<_> = of.iter().map(share).collect();
        if all.iter().any(Option::is_some) { all } else { Vec::new() }
    }
}

/// Texts that had a part in a training: all but those that test.
fn learned<'t>(texts: impl Iterator<Item = &'t str>, test: &[usize]) -> Learned {
    let tests: BTreeSet<usize> = test.iter().copied().collect();
    Learned::of(texts.enumerate().filter(|(i, _)| !tests.contains(i)).map(|(_, text)| text_hash(text)))
}

/// A fitted model of any method, before it is measured and written.
struct Product {
    fitted: FittedHead,
    unseen: Unseen,
    base: BaseModel,
    body: Body,
    method: &'static str,
    unlabelled: Option<Unlabelled>,
    files: BTreeMap<String, Vec<u8>>,
    dtype: Dtype,
    max_tokens: u32,
    windows: u32,
    pooling: Pooling,
}

/// Chooses how to reject, measures on the test examples and writes. `probabilities` are of the test examples, in order.
fn finish(
    material: Material,
    options: TrainOptions,
    product: Product,
    probabilities: &[Vec<f64>],
    dir: &Path,
    took: (Duration, Duration),
) -> Result<Trained> {
    let head = &product.fitted.head;
    let choose = |(label, allowance): &(String, f64)| {
        rejection::choose(&product.unseen, head.temperature(), head.labels(), label, *allowance)
    };
    let rejection = options.out_of_scope.as_ref().map(choose).transpose()?;
    let rule = rejection.as_ref().map(|rejection| rejection.rule.clone());
    // The label for what is out of scope may be none of the head's: then it comes after them.
    let position = |label: &str| head.labels().iter().position(|known| known == label).unwrap_or(head.labels().len());
    let judged = |(p, label): (&Vec<f64>, usize)| match &rule {
        Some(rule) => {
            let (answer, confidence) = rule.apply(head.labels(), p);
            Judged { predicted: position(answer), label, confidence }
        }
        None => Judged { predicted: likeliest(p), label, confidence: p[likeliest(p)] },
    };
    let items: Vec<Judged> = probabilities.iter().zip(material.labels(&material.split.test)).map(judged).collect();
    let outside = rule.as_ref().map(|rule| position(&rule.label));
    let mut files = product.files;
    files.insert(Learned::FILE.to_owned(), material.learned(&options.unlabelled).to_bytes());
    let metrics = metrics::measure_judged(&items, head.labels().len() + 1, outside, options.seed);
    let provenance = Provenance {
        name: options.name,
        kind: ArtifactKind::Classifier,
        task: options.task,
        base: product.base,
        body: product.body,
        method: product.method.into(),
        files,
        out_of_scope: rule,
        thresholds: Vec::new(),
        margin: None,
        dtype: product.dtype,
        max_tokens: product.max_tokens,
        windows: product.windows,
        pooling: product.pooling,
        metrics,
        data_hash: material.cleaned.data_hash(),
        taught: options.taught.hash(),
        device: options.device.noted(),
        seed: options.seed,
        parent: options.parent,
        compression: None,
        unlabelled: product.unlabelled,
        created: options.created,
    };
    let artifact = artifact::write(dir, &product.fitted, provenance, options.existing)?;
    Ok(Trained {
        artifact,
        examples: material.cleaned.examples.len(),
        duplicates: material.cleaned.duplicates,
        conflicts: material.cleaned.conflicts,
        path: product.fitted.path,
        rejection,
        embedding: took.0,
        fitting: took.1,
    })
}

/// Runs heavy work on a thread of its own.
async fn heavy<T: Send + 'static>(what: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::internal(format!("{what}: {e}")))?
}
