//! Generative models that were trained elsewhere: a PEFT adapter, a merged folder of safetensors or a GGUF file becomes an
//! artifact, after the checks that one trained here passes. Its tokeniser must be the base's; llama.cpp must say what the
//! numbers say; and held-out rows measure it.

use super::{
    generative::{COMPARED, F16_LIMIT, measure},
    installed_hash,
    run::on_threads,
    whole::{Judges, Reading, Whole, none},
};
use crate::{
    compose::cores,
    scratch::{self, Temporary},
};
use std::path::{Path, PathBuf};
use understudy_adapt::{
    artifact::Existing,
    llama::{Agreement, Example, LlamaNetwork, NewAdapted, NewWeights, Weights, same_tokens, same_tokens_as, write},
};
use understudy_core::{Error, ModelName, Result, Seed, TaskName, Timestamp};
use understudy_dataset::{Learned, Row};
use understudy_model::{
    adapted::{Adapted, AdaptedManifest, Kind, Served},
    artifact::{BaseModel, FORMAT},
    generate::{FileType, Importance, Scorer, file_type, quantise},
    installed,
};

/// What is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `adapter_config.json` and `adapter_model.safetensors`.
    Adapter,
    /// `config.json` and `model*.safetensors`.
    Folder,
    /// A GGUF file.
    Gguf,
}

impl Form {
    /// What lies at a path.
    ///
    /// # Errors
    /// `NotFound` when nothing does, `Data` when it is none of these.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        if path.is_file() {
            return Ok(Self::Gguf);
        }
        if !path.is_dir() {
            return Err(Error::not_found(format!("import {}: there is nothing", path.display())));
        }
        if path.join("adapter_config.json").is_file() {
            return Ok(Self::Adapter);
        }
        if path.join("config.json").is_file() {
            return Ok(Self::Folder);
        }
        Err(Error::data(format!(
            "import {}: it holds neither adapter_config.json (a PEFT adapter) nor config.json (a model); name the folder \
             that the training wrote, or a GGUF file",
            path.display()
        )))
    }
}

/// How to bring it in.
#[derive(Debug, Clone)]
pub(crate) struct Bringing {
    pub(crate) from: PathBuf,
    /// The installed base.
    pub(crate) base: String,
    /// Its hash, where the recipe said one.
    pub(crate) base_hash: Option<String>,
    pub(crate) models_dir: PathBuf,
    pub(crate) name: ModelName,
    pub(crate) task: Option<TaskName>,
    /// How it was trained, for people.
    pub(crate) method: String,
    pub(crate) reading: Reading,
    /// Hash and number of the rows that it learned from, where they are known.
    pub(crate) data: Option<(String, u64)>,
    /// Which these are; empty where nobody here knows.
    pub(crate) learned: Learned,
    pub(crate) seed: Seed,
    pub(crate) threads: usize,
    pub(crate) existing: Existing,
    pub(crate) created: Timestamp,
}

/// A model, brought in.
pub(crate) struct Brought {
    pub(crate) artifact: Adapted,
    pub(crate) form: Form,
    /// At 16 bits, and as it serves.
    pub(crate) agreement: [Agreement; 2],
    pub(crate) too_long: usize,
    /// Whether there was a tokeniser to compare.
    pub(crate) tokeniser: bool,
}

/// Checks it, measures it on `rows`, which had no part in its training, and writes the artifact to `dir`.
///
/// # Errors
/// `NotFound` when something is missing; `Data` when shapes, tokeniser or base differ; `Internal` when llama.cpp says
/// something else than the numbers.
pub(crate) fn bring(rows: &[Row], bringing: &Bringing, dir: &Path) -> Result<Brought> {
    let form = Form::at(&bringing.from)?;
    let installed = installed::load(&bringing.models_dir, &bringing.base)?;
    let base = BaseModel { name: ModelName::new(installed.name.clone()), hash: installed_hash(&installed)? };
    if bringing.base_hash.as_ref().is_some_and(|hash| *hash != base.hash) {
        return Err(Error::data(format!(
            "import {}: the recipe was written for another `{}` than the one that is installed now",
            bringing.from.display(),
            bringing.base
        )));
    }
    let gguf = installed.gguf()?;
    let (tokeniser, network, like) = read(bringing, form, &gguf)?;
    let whole = Whole { trained: None, learned: bringing.learned.clone(), base: base.clone(), like, network };
    let mut judges = Judges::all(rows, &whole, &bringing.reading)?;
    judges.seed = bringing.seed;
    let temporary = Temporary::folder()?;
    let name = bringing.name.as_str();
    let half_file = temporary.path().join("half.gguf");
    let (weights, agreement) = match form {
        Form::Adapter => {
            let adapter = whole.network.gguf_adapter(name)?;
            let file = temporary.path().join("adapter.gguf");
            std::fs::write(&file, &adapter).map_err(|e| Error::data(format!("write {}: {e}", file.display())))?;
            let on = |base: &Path| served(&whole, &judges.judge, base, Some(&file), bringing.threads);
            let as_installed = on(&gguf)?;
            let half = if matches!(file_type(&gguf)?, Some(FileType::F16 | FileType::F32)) {
                as_installed
            } else {
                quantise(&gguf, &half_file, FileType::F16, &Importance::new())?;
                on(&half_file)?
            };
            half.check(F16_LIMIT, "llama.cpp at 16 bits")?;
            let peft = whole.network.peft_files(&bringing.base)?;
            (NewWeights::Adapter { gguf: adapter, peft }, [half, as_installed])
        }
        Form::Folder => {
            let half = whole.write_half(name, &judges.judge, bringing.threads, &half_file)?;
            (NewWeights::Model(half_file.clone()), [half, half])
        }
        Form::Gguf => {
            let half = whole.write_half(name, &judges.judge, bringing.threads, &half_file)?;
            let as_it_is = served(&whole, &judges.judge, &bringing.from, None, bringing.threads)?;
            (NewWeights::Model(bringing.from.clone()), [half, as_it_is])
        }
    };
    let metrics = on_threads(bringing.threads, || measure(&whole.network, &judges.judge, bringing.seed))?;
    let (data_hash, n_train) = bringing.data.clone().unwrap_or_else(|| ("unknown".to_owned(), 0));
    let manifest = AdaptedManifest {
        format: FORMAT,
        kind: Kind::Generative,
        name: bringing.name.clone(),
        task: bringing.task.clone(),
        base,
        method: bringing.method.clone(),
        system: bringing.reading.system.clone(),
        files: Default::default(),
        metrics,
        served: Served {
            f16_mean_kl: agreement[0].mean_kl,
            installed_mean_kl: agreement[1].mean_kl,
            installed_flips: agreement[1].flips,
            n: agreement[1].n,
        },
        data_hash,
        taught: None,
        n_train,
        n_test: judges.judge.len() as u64,
        max_tokens: u32::try_from(bringing.reading.max_tokens).unwrap_or(u32::MAX),
        seed: bringing.seed,
        parent: None,
        quantised: None,
        device: None,
        created: bringing.created,
    };
    let learned = bringing.learned.clone();
    let artifact = scratch::place(|| write(dir, NewAdapted { manifest, weights, learned }, bringing.existing))?;
    Ok(Brought { artifact, form, agreement, too_long: judges.too_long, tokeniser })
}

/// Whether a tokeniser was compared, the numbers, and the file whose tokeniser they have.
fn read(bringing: &Bringing, form: Form, gguf: &Path) -> Result<(bool, LlamaNetwork, PathBuf)> {
    let (from, positions) = (&bringing.from, bringing.reading.max_tokens);
    let file = |name: &str| {
        let path = from.join(name);
        std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!("read {}: there is no such file", path.display())),
            _ => Error::data(format!("read {}: {e}", path.display())),
        })
    };
    let tokeniser = match form {
        Form::Gguf => same_tokens_as(gguf, from).map(|()| true),
        _ if from.join("tokenizer.json").is_file() => same_tokens(gguf, &file("tokenizer.json")?).map(|()| true),
        Form::Adapter => Ok(false),
        Form::Folder => Err(Error::not_found(
            "it has no tokenizer.json, which says that it is a model of this base; copy it there from where it was trained",
        )),
    };
    let tokeniser = tokeniser.map_err(|e| e.context(format!("import {}", from.display())))?;
    let network = match form {
        Form::Adapter => {
            let (config, tensors) = (file("adapter_config.json")?, file("adapter_model.safetensors")?);
            LlamaNetwork::from_peft(Weights::from_gguf(gguf)?, &config, &tensors, positions)
        }
        Form::Folder => LlamaNetwork::new(Weights::from_folder(from)?, none(), Seed(0), positions),
        Form::Gguf => LlamaNetwork::new(Weights::from_gguf(from)?, none(), Seed(0), positions),
    };
    let network = network.map_err(|e| e.context(format!("import {}", from.display())))?;
    let like = if form == Form::Gguf { from.clone() } else { gguf.to_owned() };
    Ok((tokeniser, network, like))
}

fn served(
    whole: &Whole,
    examples: &[Example],
    base: &Path,
    adapter: Option<&Path>,
    threads: usize,
) -> Result<Agreement> {
    let mut scorer = Scorer::load(base, adapter, cores(threads))?;
    let examples = &examples[..examples.len().min(COMPARED)];
    on_threads(threads, || {
        Agreement::measure(&whole.network, examples, |example| scorer.logits(&example.tokens, example.answer))
    })
}
