//! Generative models as whole files: opened with their adapters, folded together, compared with what llama.cpp makes of
//! the file, written as artifacts.

use super::{
    generative::{COMPARED, F16_LIMIT, conversation},
    installed_hash,
    run::on_threads,
};
use crate::{
    compose::cores,
    scratch::{self, Temporary},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
use understudy_adapt::{
    artifact::Existing,
    llama::{Agreement, Example, LlamaLora, LlamaNetwork, NewAdapted, NewWeights, Numbers, Weights, write},
};
use understudy_core::{Error, ModelName, Result, Seed, Timestamp, hash::sha256_hex};
use understudy_dataset::{Learned, Part, Row, Shares, part_of, rows_hash};
use understudy_model::{
    adapted::{Adapted, AdaptedManifest, Kind, Served, Serves},
    artifact::{BaseModel, FORMAT},
    generate::{ChatTokens, FileType, Importance, Scorer, quantise},
    installed::{self, hash_file},
};

/// A generative model, opened.
pub(crate) struct Whole {
    /// What it says of itself; `None` for an installed model or a file.
    pub(crate) trained: Option<Adapted>,
    /// What it learned from, as far as that is known.
    pub(crate) learned: Learned,
    /// The installed model, or the file.
    pub(crate) base: BaseModel,
    /// The file whose tokeniser and template it has.
    pub(crate) like: PathBuf,
    /// The numbers, with the adapter on them.
    pub(crate) network: LlamaNetwork,
}

/// Adapters that do nothing, where there are none.
pub(crate) fn none() -> LlamaLora {
    LlamaLora { rank: 1, alpha: 1.0, ..LlamaLora::default() }
}

/// True when `model` is one: an artifact's folder, an installed model's name, or a GGUF file.
pub(crate) fn is_generative(model: &Path, models_dir: &Path) -> Result<bool> {
    if Adapted::is_at(model) || is_gguf(model) {
        return Ok(true);
    }
    let name = model.to_str().filter(|name| !name.contains(['/', '\\']) && !model.is_dir());
    let Some(name) = name else { return Ok(false) };
    let found = installed::find(models_dir, name)?;
    Ok(found.is_some_and(|found| found.kind == understudy_model::catalogue::Kind::Generative))
}

fn is_gguf(model: &Path) -> bool {
    model.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

impl Whole {
    /// Opens an artifact's folder, an installed model by its name, or a GGUF file. Texts may have `positions` tokens.
    ///
    /// # Errors
    /// `NotFound` when there is none, or its base is not installed; `Data` when it is damaged, its base is another one now,
    /// or its architecture is not one that is trained here.
    pub(crate) fn open(model: &Path, models_dir: &Path, positions: usize) -> Result<Self> {
        if Adapted::is_at(model) {
            return Self::of_artifact(Adapted::read(model)?, models_dir, positions);
        }
        let (base, like) = if is_gguf(model) {
            let name = model.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            (BaseModel { name: ModelName::new(name), hash: hash_file(model)? }, model.to_owned())
        } else {
            let installed = installed::load(models_dir, &model.to_string_lossy())?;
            let base = BaseModel { name: ModelName::new(installed.name.clone()), hash: installed_hash(&installed)? };
            (base, installed.gguf()?)
        };
        let network = LlamaNetwork::new(Weights::from_gguf(&like)?, none(), Seed(0), positions)?;
        Ok(Self { trained: None, learned: Learned::default(), base, like, network })
    }

    fn of_artifact(adapted: Adapted, models_dir: &Path, positions: usize) -> Result<Self> {
        let base = adapted.manifest().base.clone();
        let (like, network) = match adapted.serves() {
            Serves::Model(file) => {
                let network = LlamaNetwork::new(Weights::from_gguf(&file)?, none(), Seed(0), positions)?;
                (file, network)
            }
            Serves::Adapter(_) => {
                let installed = installed::load(models_dir, base.name.as_str())?;
                if installed_hash(&installed)? != base.hash {
                    return Err(Error::data(format!(
                        "open artifact {}: the installed `{}` is not the one it was trained on; install that one again",
                        adapted.dir().display(),
                        base.name
                    )));
                }
                let like = installed.gguf()?;
                let read = |file: &str| {
                    let path = adapted.dir().join("adapter").join(file);
                    std::fs::read(&path).map_err(|e| Error::data(format!("read {}: {e}", path.display())))
                };
                let (config, tensors) = (read("adapter_config.json")?, read("adapter_model.safetensors")?);
                let weights = Weights::from_gguf(&like)?;
                (like, LlamaNetwork::from_peft(weights, &config, &tensors, positions)?)
            }
        };
        let learned = Learned::of_artifact(adapted.dir())?;
        Ok(Self { trained: Some(adapted), learned, base, like, network })
    }

    /// True when an adapter is on it.
    pub(crate) fn is_adapted(&self) -> bool {
        self.trained.as_ref().is_some_and(|trained| matches!(trained.serves(), Serves::Adapter(_)))
    }

    /// Writes it at 16 bits and compares what llama.cpp makes of the file with the network's own pass over `examples`.
    ///
    /// # Errors
    /// What writing fails with; `Internal` when the two differ by more than a thousandth of a nat a token.
    pub(crate) fn write_half(&self, name: &str, examples: &[Example], threads: usize, to: &Path) -> Result<Agreement> {
        self.network.write_gguf(&self.like, name, Numbers::F16, to)?;
        let agreement = self.agreement(examples, threads, to)?;
        agreement.check(F16_LIMIT, "llama.cpp at 16 bits")?;
        Ok(agreement)
    }

    /// How far what llama.cpp makes of a file is from the network's own pass.
    pub(crate) fn agreement(&self, examples: &[Example], threads: usize, file: &Path) -> Result<Agreement> {
        let mut scorer = Scorer::load(file, None, cores(threads))?;
        let examples = &examples[..examples.len().min(COMPARED)];
        on_threads(threads, || {
            Agreement::measure(&self.network, examples, |example| scorer.logits(&example.tokens, example.answer))
        })
    }

    /// Writes it in any type: floats from the network's own numbers, others by llama.cpp's quantiser from 32 bits.
    ///
    /// # Errors
    /// What writing or quantising fails with.
    pub(crate) fn write_as(&self, name: &str, to: FileType, importance: &Importance, file: &Path) -> Result<()> {
        match to {
            FileType::F16 => self.network.write_gguf(&self.like, name, Numbers::F16, file),
            FileType::F32 => self.network.write_gguf(&self.like, name, Numbers::F32, file),
            other => {
                let temporary = Temporary::folder()?;
                let floats = temporary.path().join("floats.gguf");
                self.network.write_gguf(&self.like, name, Numbers::F32, &floats)?;
                quantise(&floats, file, other, importance)
            }
        }
    }

    /// The manifest of what is made from it.
    pub(crate) fn manifest(&self, making: Making<'_>) -> AdaptedManifest {
        let Making { name, method, served, rows, created } = making;
        let mut manifest = match &self.trained {
            Some(trained) => AdaptedManifest {
                method: format!("{} → {method}", trained.manifest().method),
                parent: Some(trained.hash().to_owned()),
                quantised: None,
                ..trained.manifest().clone()
            },
            None => AdaptedManifest {
                format: FORMAT,
                kind: Kind::Generative,
                name: name.clone(),
                task: None,
                base: self.base.clone(),
                method: method.to_owned(),
                system: None,
                files: Default::default(),
                metrics: Default::default(),
                served,
                data_hash: rows.data_hash.clone(),
                taught: None,
                n_train: 0,
                n_test: rows.judge.len() as u64,
                max_tokens: u32::try_from(rows.max_tokens).unwrap_or(u32::MAX),
                seed: rows.seed,
                parent: None,
                quantised: None,
                device: None,
                created,
            },
        };
        (manifest.name, manifest.served, manifest.created) = (name, served, created);
        manifest
    }
}

/// What a new manifest says.
pub(crate) struct Making<'a> {
    pub(crate) name: ModelName,
    pub(crate) method: &'a str,
    pub(crate) served: Served,
    pub(crate) rows: &'a Judges,
    pub(crate) created: Timestamp,
}

/// Writes the artifact of whole weights.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_model(
    dir: &Path,
    manifest: AdaptedManifest,
    (file, learned): (&Path, &Learned),
    existing: Existing,
) -> Result<Adapted> {
    let new = NewAdapted { manifest, weights: NewWeights::Model(file.to_owned()), learned: learned.clone() };
    scratch::place(|| write(dir, new, existing))
}

/// How rows are read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Instructions for rows that have none.
    pub(crate) system: Option<String>,
    /// Tokens of prompt and answer; longer rows are left out.
    pub(crate) max_tokens: usize,
}

/// Rows as tokens: those that judge, and the others.
pub(crate) struct Judges {
    /// They had no part in training.
    pub(crate) judge: Vec<Example>,
    /// Rows that the judging ones leave: their prompts may say what the model reads.
    pub(crate) others: Vec<Example>,
    /// Rows that were too long.
    pub(crate) too_long: usize,
    pub(crate) data_hash: String,
    pub(crate) max_tokens: usize,
    pub(crate) seed: Seed,
}

impl Judges {
    /// Reads rows as the model is asked them. Those that it did not learn from judge; where it learned from none, half.
    ///
    /// # Errors
    /// `Data` when a row has no answer, or none is left to judge.
    pub(crate) fn read(rows: &[Row], whole: &Whole, reading: &Reading) -> Result<Self> {
        let learned = &whole.learned;
        if rows.iter().any(|row| learned.has(&row.content_hash())) {
            return Self::divided(rows, whole, reading, |content, _| !learned.has(content));
        }
        let half = Shares::new(0.0, 0.5)?;
        Self::divided(rows, whole, reading, |content, seed| part_of(content, half, seed) == Part::Test)
    }

    /// Reads rows that are said to have had no part in training: all judge but those that are known to have had one.
    ///
    /// # Errors
    /// As [`Judges::read`].
    pub(crate) fn all(rows: &[Row], whole: &Whole, reading: &Reading) -> Result<Self> {
        Self::divided(rows, whole, reading, |content, _| !whole.learned.has(content))
    }

    /// Divides rows by whether they judge, from their content's hash and the seed.
    fn divided(rows: &[Row], whole: &Whole, reading: &Reading, judges: impl Fn(&str, Seed) -> bool) -> Result<Self> {
        let tokens = ChatTokens::load(&whole.like)?;
        let trained = whole.trained.as_ref().map(Adapted::manifest);
        let system = reading.system.as_deref().or(trained.and_then(|trained| trained.system.as_deref()));
        let data_hash = rows_hash(rows);
        let seed = trained.map_or(Seed(0), |trained| trained.seed);
        let (mut judge, mut others, mut too_long, mut seen) = (Vec::new(), Vec::new(), 0, BTreeSet::new());
        for row in rows {
            let answer = row.gold().filter(|answer| !answer.trim().is_empty()).ok_or_else(|| {
                Error::data(format!("judge on line {}: it has no answer; --answer names its field", row.line))
            })?;
            let content = row.content_hash();
            if !seen.insert(format!("{content} {}", sha256_hex(answer.as_bytes()))) {
                continue;
            }
            let prompt = tokens.prompt(&conversation(row, system));
            let prompt = prompt.map_err(|e| e.context(format!("judge on line {}", row.line)))?;
            let start = prompt.len();
            let example = Example::new(prompt.into_iter().chain(tokens.answer(answer)).collect(), start);
            if example.tokens.len() > reading.max_tokens {
                too_long += 1;
                continue;
            }
            if judges(&content, seed) { judge.push(example) } else { others.push(example) }
        }
        if judge.is_empty() {
            return Err(Error::data(format!(
                "judge the model: of {} rows none is left that its training did not see ({too_long} are too long); give \
                 other rows",
                rows.len()
            )));
        }
        Ok(Self { judge, others, too_long, data_hash, max_tokens: reading.max_tokens, seed })
    }
}
