//! `understudy adapt finetune`: a small model from labelled examples, or from a task's recorded traffic.

pub(super) mod fitting;

use super::rows::{self, Material, read};
use super::{DtypeArg, extract, generative, multilabel, peak_memory_mb, positive, regression};
use crate::{
    clock::SystemClock,
    commands::Context,
    learning, terminal,
    training::{self, TrainOptions, Trained, taught::Taught, tuned::Tuning},
};
use clap::{Args, ValueEnum};
pub(super) use fitting::Learns;
use serde_json::json;
use std::path::{Path, PathBuf};
use understudy_adapt::{artifact::Existing, device::Device, rejection};
use understudy_core::{Clock, Error, ModelName, Result, Seed, TaskName, Timestamp};
use understudy_model::artifact::MOST_WINDOWS;
use understudy_store::{Store, StoreOptions};

/// How much reasons count beside labels where the user says nothing.
const REASONS_WEIGHT: f64 = 1.0;

#[derive(Debug, Args)]
pub(crate) struct FinetuneArgs {
    /// What to train [default: head; full for an extractor]
    #[arg(long, value_enum)]
    pub(super) method: Option<Method>,
    /// The model to build on: an encoder, or a generative model (lora)
    #[arg(long, default_value = "minilm", value_name = "MODEL")]
    pub(super) base: String,
    /// Examples: .jsonl, .csv, .tsv or .parquet, also packed with .zst or .gz [default: the task's recorded traffic]
    #[arg(long, value_name = "FILE", required_unless_present = "task")]
    pub(super) data: Option<PathBuf>,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD", requires = "data", conflicts_with = "teacher")]
    pub(super) text: Option<String>,
    /// Field or column that holds the label [default: found by its name]
    #[arg(long, value_name = "FIELD", requires = "data", conflicts_with = "teacher")]
    pub(super) label: Option<String>,
    /// Field that says how likely each label is: an object of labels and shares, as `adapt label --samples` writes, or how
    /// sure the label is (head, words, lora, full); `none` learns labels alone [default: `shares`, where rows have it]
    #[arg(long, value_name = "FIELD", requires = "data")]
    pub(super) soft: Option<String>,
    /// Field with the reasons for the label or answer, which training learns as a second task (lora, full, generative
    /// models); the trained model gives none
    #[arg(long, value_name = "FIELD", requires = "data")]
    pub(super) rationale: Option<String>,
    /// How much the reasons count beside the label or answer
    #[arg(long, value_name = "W", default_value_t = REASONS_WEIGHT, requires = "rationale")]
    pub(super) rationale_weight: f64,
    /// Field or column that holds the right answer (generative models) [default: found by its name, or the last message]
    #[arg(long, value_name = "FIELD", conflicts_with = "label")]
    pub(super) answer: Option<String>,
    /// Instructions for rows that have none (generative models)
    #[arg(long, value_name = "TEXT")]
    pub(super) system: Option<String>,
    /// Take FILE as recorded outcomes and learn from this model's answers; `gold` learns from the gold labels
    #[arg(long, value_name = "MODEL", requires = "data")]
    pub(super) teacher: Option<String>,
    /// Folder of the new model
    #[arg(long, value_name = "DIR", required_unless_present = "task")]
    pub(super) out: Option<PathBuf>,
    /// Name of the new model [default: the task's or folder's name]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The task it is for; without --data it learns from the task's recorded traffic and becomes its small model. With
    /// --data, `extract` trains a model that finds spans: FILE has tokens with BIO tags, texts with spans, or texts with
    /// the object that is to come out; `regress` learns numbers
    #[arg(long)]
    pub(super) task: Option<String>,
    /// Marked texts that only measure (--task extract)
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(super) test: Option<PathBuf>,
    /// Texts without labels, such as recorded traffic, that the examples' labels are spread to (fewshot); labels in it are
    /// not read
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(super) unlabelled: Option<PathBuf>,
    /// Number type of the encoder [default: int8]
    #[arg(long, value_enum)]
    pub(super) dtype: Option<DtypeArg>,
    /// The label of what belongs to none of the others: examples with it teach what is outside, and texts that are like
    /// nothing known get it too
    #[arg(long, value_name = "LABEL")]
    pub(super) out_of_scope: Option<String>,
    /// Share of the texts in scope that may be rejected wrongly; the threshold is chosen on held-out training examples
    #[arg(long, default_value_t = rejection::ALLOWANCE, value_name = "SHARE", requires = "out_of_scope")]
    pub(super) out_of_scope_cost: f64,
    /// Passes over the examples (lora, full) [default: 5; 2 for generative models]
    #[arg(long, value_name = "N")]
    pub(super) epochs: Option<usize>,
    /// Highest learning rate of the encoder (lora, full) [default: 1e-3 for lora, 1.5e-4 for full]
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<f64>,
    /// Examples of one step (lora, full) [default: 32; 16 for generative models]
    #[arg(long, value_name = "N")]
    pub(super) batch: Option<usize>,
    /// Epochs without a better one on held-out examples after which training ends (lora, full, generative models) [default:
    /// never]
    #[arg(long, value_name = "N")]
    pub(super) patience: Option<usize>,
    /// Minutes after which training ends, the learning rate having fallen by then (lora, full) [default: no limit]
    #[arg(long, value_name = "MINUTES", value_parser = positive)]
    pub(super) minutes: Option<f64>,
    /// Rank of the adapters (lora) [default: 8; 16 for generative models]
    #[arg(long, value_name = "N")]
    pub(super) rank: Option<usize>,
    /// Tokens after which texts are cut, or windows end; generative models leave out what is longer
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=8192))]
    pub(super) max_tokens: u32,
    /// Windows of --max-tokens in which longer texts are read, each overlapping the one before it by a quarter; 1 cuts them
    /// (head, lora, full, fewshot)
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_WINDOWS)))]
    pub(super) windows: u32,
    /// Share of the examples that only measure
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub(super) test_share: f64,
    /// Seed of splits and intervals: the same data and seed give the same model
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Threads of the encoder; 0 uses all
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) threads: usize,
    /// Where it is computed, if it is trained in steps: `cpu`, `cuda` or `metal` (with a number: `cuda:1`), `auto` [default:
    /// auto, the GPU that this build is for, else the CPU]
    #[arg(long, value_name = "DEVICE")]
    pub(super) device: Option<Device>,
    /// Replace another artifact in the folder
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Method {
    /// A linear head on the frozen encoder: seconds on a CPU
    Head,
    /// A linear model of words, word pairs and pieces of words: no encoder, microseconds a text
    Words,
    /// Low-rank adapters on the encoder, trained with a head: minutes
    Lora,
    /// All layers of the encoder, trained with a head: minutes
    Full,
    /// All layers, first so that texts of a label lie together, then a head: for 8 to 64 examples a label
    Fewshot,
}

impl FinetuneArgs {
    /// The folder of the new model, where the user named one.
    pub(super) fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Where training in steps is computed.
    pub(super) fn device(&self) -> Device {
        self.device.unwrap_or_else(Device::best)
    }
}

/// Runs the command.
pub(super) async fn run(args: FinetuneArgs, context: &Context) -> Result<()> {
    if !(args.rationale_weight.is_finite() && args.rationale_weight > 0.0) {
        return Err(Error::invalid("learn from reasons: --rationale-weight is a positive number"));
    }
    args.device().check()?;
    if let (Some(file), Some("extract")) = (&args.data, args.task.as_deref()) {
        fitting::check(&args, Learns::Spans)?;
        return extract::run(file, &args, context).await;
    }
    if let (Some(file), Some("regress")) = (&args.data, args.task.as_deref()) {
        fitting::check(&args, Learns::Number)?;
        return regression::run(file, &args, context).await;
    }
    if generative::is_meant(&args, context)? {
        return generative::run(&args, context).await;
    }
    let now = SystemClock::new().now();
    let (examples, taught) = match &args.data {
        None => (Vec::new(), Taught::default()),
        Some(file) => match read(file, &args)? {
            Material::Single(examples, taught) => (examples, taught),
            Material::Lists(data) => {
                fitting::check(&args, Learns::Labels)?;
                return multilabel::run(*data, &args, context).await;
            }
        },
    };
    fitting::check(&args, Learns::Label)?;
    let mut options = TrainOptions { taught, ..options(&args, context, now) };
    if let Some(file) = &args.unlabelled {
        options.unlabelled = rows::read_texts(file, args.text.as_deref())?;
    }
    let bar = terminal::progress(0, "embedding");
    let trained = match (&args.data, &args.task) {
        (Some(_), _) => {
            let Some(out) = &args.out else {
                return Err(Error::invalid("train on a file: --out names the folder of the new model"));
            };
            training::train(examples, options, out, &bar).await
        }
        (None, Some(task)) => from_traffic(task, &args, options, context, &bar).await,
        (None, None) => Err(Error::invalid("train: --data names a file of examples, --task a task with traffic")),
    };
    bar.finish_and_clear();
    let trained = trained?;
    show(&trained);
    crate::commands::finish(context, &summary(&trained))
}

pub(super) fn options(args: &FinetuneArgs, context: &Context, created: Timestamp) -> TrainOptions {
    let folder = || args.out.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let kind = if args.method == Some(Method::Words) { "words" } else { &args.base };
    // With a file, these say what is trained, not for whom.
    let kinds = ["classify", "extract", "regress"];
    let task = args.task.as_deref().filter(|task| args.data.is_none() || !kinds.contains(task));
    let name = args.name.clone().or_else(|| task.map(|task| format!("{task}-{kind}")));
    TrainOptions {
        method: match args.method {
            None | Some(Method::Head) => training::Method::Head,
            Some(Method::Words) => training::Method::Words,
            Some(Method::Lora) => training::Method::Lora,
            Some(Method::Full) => training::Method::Full,
            Some(Method::Fewshot) => training::Method::Fewshot,
        },
        tuning: tuning(args),
        base: args.base.clone(),
        models_dir: context.models_dir.clone(),
        name: ModelName::new(name.or_else(folder).unwrap_or_else(|| "classifier".to_owned())),
        task: task.map(TaskName::from),
        dtype: args.dtype.unwrap_or(DtypeArg::Int8).into(),
        max_tokens: args.max_tokens,
        windows: args.windows,
        out_of_scope: args.out_of_scope.clone().map(|label| (label, args.out_of_scope_cost)),
        test_share: args.test_share,
        seed: Seed(args.seed),
        threads: args.threads,
        device: if tuning(args).is_some() { args.device() } else { Device::Cpu },
        existing: if args.force { Existing::Replace } else { Existing::Keep },
        created,
        ..TrainOptions::default()
    }
}

/// How an encoder is trained, where the method trains one.
fn tuning(args: &FinetuneArgs) -> Option<Tuning> {
    let method = match args.method {
        Some(Method::Lora) => training::Method::Lora,
        Some(Method::Full) => training::Method::Full,
        Some(Method::Fewshot) => training::Method::Fewshot,
        None | Some(Method::Head | Method::Words) => return None,
    };
    Some(overridden(Tuning::for_method(method), args))
}

/// With what the user said in place of what would be taken.
pub(super) fn overridden(tuning: Tuning, args: &FinetuneArgs) -> Tuning {
    let Tuning { mut params, mut lora, .. } = tuning;
    params.epochs = args.epochs.unwrap_or(params.epochs);
    params.rate = args.rate.unwrap_or(params.rate);
    params.batch = args.batch.unwrap_or(params.batch);
    params.patience = args.patience.unwrap_or(params.patience);
    params.seconds = args.minutes.map_or(params.seconds, |minutes| minutes * 60.0);
    if let Some(rank) = args.rank {
        // The adapters' share of the output stays what it was.
        lora.alpha *= rank as f64 / lora.rank as f64;
        lora.rank = rank;
    }
    Tuning { params, lora }
}

async fn from_traffic(
    task: &str,
    args: &FinetuneArgs,
    options: TrainOptions,
    context: &Context,
    bar: &indicatif::ProgressBar,
) -> Result<Trained> {
    let config = context.config()?;
    let Some(configured) = config.tasks.iter().find(|configured| configured.spec.name.as_str() == task) else {
        return Err(Error::not_found(format!(
            "train from task `{task}`: {} has no such task",
            context.config_path.display()
        )));
    };
    let path = context.store_path()?;
    let store = Store::open_existing(&path, StoreOptions::default())?;
    let dir = args
        .out
        .clone()
        .unwrap_or_else(|| learning::artifact_dir(&path, &configured.spec.name, options.seed, options.created));
    learning::train_from_traffic(&store, &configured.spec, options, &dir, bar).await
}

pub(super) fn summary(trained: &Trained) -> serde_json::Value {
    let seconds = (trained.embedding + trained.fitting).as_secs_f64();
    json!({
        "artifact": trained.artifact.dir(),
        "hash": trained.artifact.hash(),
        "seconds": seconds,
        "embedding_s": trained.embedding.as_secs_f64(),
        "fitting_s": trained.fitting.as_secs_f64(),
        "samples": trained.examples,
        "peak_memory_mb": peak_memory_mb(),
        "unlabelled": trained.artifact.manifest().unlabelled.as_ref().map_or(0, |texts| texts.texts),
        "samples_per_s": trained.examples as f64 / seconds.max(1e-9),
        "duplicates": trained.duplicates,
        "conflicts": trained.conflicts.len(),
        "temperature": trained.artifact.head().temperature(),
        "path": trained.path,
        "out_of_scope": trained.rejection.as_ref().map(|r| json!({
            "label": r.rule.label, "threshold": r.rule.threshold, "held_out_inside": r.inside,
            "held_out_inside_right": r.inside_right, "held_out_outside": r.outside,
            "held_out_outside_told": r.outside_told,
        })),
        "metrics": trained.artifact.manifest().metrics,
    })
}

pub(super) fn show(trained: &Trained) {
    let manifest = trained.artifact.manifest();
    if trained.duplicates > 0 || !trained.conflicts.is_empty() {
        terminal::note(format_args!(
            "  {} duplicates left out; {} texts have several labels (the majority was kept, ties left out)",
            trained.duplicates,
            trained.conflicts.len()
        ));
        for conflict in trained.conflicts.iter().take(3) {
            let pairs = conflict.ids.iter().zip(&conflict.labels).map(|(id, label)| format!("{id} says {label}"));
            terminal::note(format_args!("    {}", pairs.collect::<Vec<_>>().join(", ")));
        }
    }
    terminal::say(format_args!(
        "  {} on {} ({}): {} labels, learned from {} of {} examples in {:.1} s (embedding {:.1} s)",
        manifest.name,
        manifest.base.name,
        manifest.method,
        manifest.labels.len(),
        manifest.n_train,
        trained.examples,
        (trained.embedding + trained.fitting).as_secs_f64(),
        trained.embedding.as_secs_f64()
    ));
    if let Some(r) = &trained.rejection {
        terminal::say(format_args!(
            "  `{}` below {:.3}: on held-out examples {} of {} in scope are answered rightly, {} of {} outside are told",
            r.rule.label, r.rule.threshold, r.inside_right, r.inside, r.outside_told, r.outside
        ));
    }
    super::show_metrics(&manifest.metrics);
    terminal::say(format_args!(
        "  {}   hash {}",
        crate::commands::shown(trained.artifact.dir()),
        &trained.artifact.hash()[..16]
    ));
}
