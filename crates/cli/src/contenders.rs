//! From the names on the command line to models that a pilot can ask: artifacts, installed models, models of the
//! configuration, recorded answers.

use crate::{
    commands::Context,
    compose::{self, Composer},
    deployed,
    generative::Generative,
    terminal,
    training::{self, TrainOptions},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use understudy_adapt::artifact::Existing;
use understudy_core::{Embedder, Error, ModelName, Price, Result, Seed, Timestamp};
use understudy_dataset::{Example, Row, text_hash};
use understudy_model::{
    artifact::{Artifact, Body, Dtype, Kind as ArtifactKind, MANIFEST},
    catalogue::Kind,
    encoder::{self, EncoderOptions},
    generate::{Generator, GeneratorOptions},
    installed::{self, Installed},
};
use understudy_pilot::{
    prompts::FIXED,
    run::{
        Candidate, Prompting, Source, Task,
        baseline::{LabelNames, Neighbours},
        shots::Shots,
    },
};

/// Rows on which a local generative model is tried when nobody says otherwise: it is slow.
const GENERATIVE_ROWS: usize = 100;
/// Tokens after which encoders cut texts.
const MAX_TOKENS: u32 = 256;

/// The name of the floor: neighbours in words.
pub(crate) const WORDS: &str = "words";

/// What models are built from.
pub(crate) struct Contenders<'a> {
    pub(crate) context: &'a Context,
    pub(crate) composer: &'a Composer,
    pub(crate) task: Task,
    pub(crate) labels: &'a [String],
    pub(crate) train: &'a [Row],
    /// Where heads that are fitted on the way are kept.
    pub(crate) dir: PathBuf,
    pub(crate) seed: Seed,
    pub(crate) created: Timestamp,
    /// Requests at a time, where the user says.
    pub(crate) concurrency: Option<usize>,
    /// Whether the user limited the rows of every model.
    pub(crate) limited: bool,
}

impl Contenders<'_> {
    /// The model behind `NAME`, `NAME:VARIANT`, either with `@ROWS` at the end.
    ///
    /// # Errors
    /// `NotFound` with everything that could have been meant; whatever keeps a model from loading.
    pub(crate) async fn find(&self, wish: &str) -> Result<Candidate> {
        let (name, rows) = match wish.rsplit_once('@') {
            Some((name, rows)) if !rows.is_empty() && rows.bytes().all(|b| b.is_ascii_digit()) => {
                let rows = rows.parse().map_err(|e| Error::invalid(format!("read --model {wish}: {e}")))?;
                (name, Some(rows))
            }
            _ => (wish, None),
        };
        let mut candidate = self.unlimited(name).await?;
        if rows.is_some() {
            candidate.limit = rows;
        } else if self.limited {
            candidate.limit = None;
        }
        Ok(candidate)
    }

    /// Examples for prompts out of the training rows, similar by words or by an installed encoder's embeddings.
    ///
    /// # Errors
    /// `NotFound` when the encoder is not installed, `Invalid` when it is no encoder.
    pub(crate) async fn shots(&self, by: &str, rows: &[&Row]) -> Result<Shots<'_>> {
        self.shots_of(self.train, by, rows).await
    }

    /// The same out of other rows, or `fixed`: always the first ones.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn shots_of<'r>(&self, train: &'r [Row], by: &str, rows: &[&Row]) -> Result<Shots<'r>> {
        match by {
            WORDS => return Ok(Shots::of(train)),
            FIXED => return Ok(Shots::fixed(train.iter().collect())),
            _ => {}
        }
        let installed = installed::find(&self.context.models_dir, by)?;
        let Some(installed) = installed.filter(|model| model.kind == Kind::Encoder) else {
            let what =
                format!("pick examples by `{by}`: write {WORDS}, or an encoder that `understudy pull` installed");
            return Err(Error::not_found(what).with_param("shots-by"));
        };
        let service =
            self.composer.encoder(&installed, EncoderOptions::cut(encoder::Dtype::Int8, MAX_TOKENS as usize), 0)?;
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let bar = terminal::progress((train.len() + texts.len()) as u64, &format!("embedding with {by}"));
        let shots = Shots::embedded(train, &texts, service.as_ref(), &mut |done| bar.set_position(done as u64)).await;
        bar.finish_and_clear();
        shots
    }

    /// The judge behind a name: a generative model here, or one of the configuration.
    ///
    /// # Errors
    /// `NotFound` with everything that could have been meant; `Invalid` for what cannot judge.
    pub(crate) fn judge(&self, name: &str) -> Result<Candidate> {
        let no = |what: &str| Err(Error::invalid(format!("judge with `{name}`: {what} (a generative model can)")));
        if name == WORDS || name.starts_with("recorded:") {
            return no("it cannot judge");
        }
        if let Some(adapted) = Generative::of_folder(Path::new(name), &self.context.models_dir)? {
            return self.generator(name, &adapted);
        }
        if Path::new(name).join(MANIFEST).exists() {
            return no("it is a classifier");
        }
        let judge = match installed::find(&self.context.models_dir, name)? {
            Some(installed) if installed.kind == Kind::Generative => {
                Some(self.generator(name, &Generative::of_installed(&installed)?)?)
            }
            Some(_) => return no("it writes no text"),
            None => self.configured(name)?,
        };
        let mut judge =
            judge.map_or_else(|| Err(Error::not_found(format!("find judge `{name}`: {}", self.known()?))), Ok)?;
        judge.prompting = Prompting::Instructed;
        judge.limit = None;
        Ok(judge)
    }

    async fn unlimited(&self, name: &str) -> Result<Candidate> {
        if name == WORDS {
            return self.words();
        }
        if let Some(recorded) = name.strip_prefix("recorded:") {
            return recorded_answers(recorded);
        }
        if let Some(generative) = Generative::of_folder(Path::new(name), &self.context.models_dir)? {
            return self.generator(name, &generative);
        }
        if Path::new(name).join(MANIFEST).exists() {
            return self.artifact(name, &Artifact::read(Path::new(name))?);
        }
        let (base, variant) = name.split_once(':').map_or((name, None), |(base, variant)| (base, Some(variant)));
        if let Some(installed) = installed::find(&self.context.models_dir, base)? {
            return match installed.kind {
                Kind::Encoder => self.encoder(name, &installed, variant).await,
                Kind::Generative => self.generator(name, &Generative::of_installed(&installed)?),
                Kind::Dataset => Err(Error::invalid(format!("try `{name}`: it is a data set, not a model"))),
            };
        }
        if let Some(candidate) = self.configured(name)? {
            return Ok(candidate);
        }
        Err(Error::not_found(format!("find model `{name}`: {}", self.known()?)))
    }

    /// Everything that can be named here.
    pub(crate) fn known(&self) -> Result<String> {
        let installed: Vec<String> = installed::all(&self.context.models_dir)?
            .into_iter()
            .filter(|model| model.kind != Kind::Dataset)
            .map(|model| model.name)
            .collect();
        let mut known = vec![format!("`{WORDS}` is the simplest there is")];
        known.push(match installed.is_empty() {
            true => "nothing is installed (`understudy pull minilm` installs an encoder)".to_owned(),
            false => format!("installed are {}", installed.join(", ")),
        });
        if let Ok(config) = self.context.config() {
            let names: Vec<&String> = config.models.keys().chain(config.locals.keys()).collect();
            if !names.is_empty() {
                known.push(format!(
                    "the configuration has {}",
                    names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")
                ));
            }
        }
        known.push("an artifact is named by its folder, recorded answers by recorded:FILE#MODEL".to_owned());
        Ok(known.join("; "))
    }

    fn words(&self) -> Result<Candidate> {
        self.needs_labels(WORDS)?;
        self.needs_train(WORDS)?;
        let backend = Neighbours::new(ModelName::new(WORDS), self.train)?;
        Ok(Candidate {
            name: WORDS.to_owned(),
            what: format!("most similar of {} training rows by their words (TF-IDF): the floor", self.train.len()),
            fingerprint: "words 1".to_owned(),
            source: Source::Live(Arc::new(backend)),
            price: Some(Price::LOCAL),
            prompting: Prompting::Bare,
            concurrency: self.concurrency.unwrap_or(1),
            limit: None,
        })
    }

    fn artifact(&self, name: &str, artifact: &Artifact) -> Result<Candidate> {
        let manifest = artifact.manifest();
        match (manifest.kind, self.task) {
            (ArtifactKind::Extractor, Task::Extract) => {}
            (ArtifactKind::Extractor, _) => {
                return Err(Error::invalid(format!("try `{name}`: it only extracts (--task extract)")));
            }
            (ArtifactKind::Labeller, Task::Labels) | (ArtifactKind::Regressor, Task::Regress) => {}
            (ArtifactKind::Regressor, _) => {
                return Err(Error::invalid(format!("try `{name}`: it gives numbers (--task regress)")));
            }
            (ArtifactKind::Labeller, _) => {
                let what =
                    format!("try `{name}`: it gives lists of labels; --task classify on rows whose label is a list");
                return Err(Error::invalid(what));
            }
            (ArtifactKind::Classifier, _) => self.needs_labels(name)?,
        }
        let backend = self.composer.backend(artifact, &self.context.models_dir, 0)?;
        let dtype = format!("{:?}", manifest.dtype).to_lowercase();
        Ok(Candidate {
            name: manifest.name.to_string(),
            what: match manifest.body {
                Body::Base => format!("head on frozen {}, {dtype}, an artifact", manifest.base.name),
                Body::Encoder => format!("{}, {}, {dtype}, an artifact", manifest.base.name, manifest.method),
                Body::Words => "linear model of words, an artifact".to_owned(),
                Body::Static => format!("static embeddings of {}, an artifact", manifest.base.name),
            },
            fingerprint: artifact.hash().to_owned(),
            source: Source::Live(backend),
            price: Some(Price::LOCAL),
            prompting: Prompting::Bare,
            concurrency: self.concurrency.unwrap_or(1),
            limit: None,
        })
    }

    async fn encoder(&self, name: &str, installed: &Installed, variant: Option<&str>) -> Result<Candidate> {
        self.needs_labels(name)?;
        let variant = variant.unwrap_or(if self.train.is_empty() { "zero-shot" } else { "int8" });
        match variant {
            "zero-shot" => self.label_names(name, installed).await,
            "int8" => self.fitted(name, installed, Dtype::Int8).await,
            "f32" => self.fitted(name, installed, Dtype::F32).await,
            other => Err(Error::invalid(format!(
                "try `{name}`: there is no variant `{other}`; write {0}:int8 or {0}:f32 for a head fitted on the training \
                 rows, {0}:zero-shot for the names of the labels alone",
                installed.name
            ))),
        }
    }

    async fn label_names(&self, name: &str, installed: &Installed) -> Result<Candidate> {
        let service =
            self.composer.encoder(installed, EncoderOptions::cut(encoder::Dtype::Int8, MAX_TOKENS as usize), 0)?;
        let embedder: Arc<dyn Embedder> = service;
        let backend = LabelNames::new(ModelName::new(name.to_owned()), embedder, self.labels.to_vec()).await?;
        Ok(Candidate {
            name: name.to_owned(),
            what: format!("{}, int8, zero-shot: the closest label name, no training", installed.name),
            fingerprint: format!("zero-shot {}", training::base_model(installed).hash),
            source: Source::Live(Arc::new(backend)),
            price: Some(Price::LOCAL),
            prompting: Prompting::Bare,
            concurrency: self.concurrency.unwrap_or(1),
            limit: None,
        })
    }

    /// A head fitted on the training rows; one that is already there is taken as it is.
    async fn fitted(&self, name: &str, installed: &Installed, dtype: Dtype) -> Result<Candidate> {
        self.needs_train(name)?;
        let dir = self.dir.join(name.replace([':', '/'], "-"));
        if !dir.join(MANIFEST).exists() {
            let example =
                |row: &Row| Some(Example { id: row.id.clone(), text: row.text.clone(), label: row.gold()?.to_owned() });
            let options = TrainOptions {
                base: installed.name.clone(),
                models_dir: self.context.models_dir.clone(),
                name: ModelName::new(name.to_owned()),
                dtype,
                max_tokens: MAX_TOKENS,
                test_share: 0.0,
                seed: self.seed,
                existing: Existing::Replace,
                created: self.created,
                ..TrainOptions::default()
            };
            let bar = terminal::progress(0, &format!("fitting {name}"));
            let trained =
                training::head::train(self.train.iter().filter_map(example).collect(), options, &dir, &bar).await;
            bar.finish_and_clear();
            trained?;
        }
        let mut candidate = self.artifact(name, &Artifact::read(&dir)?)?;
        let dtype = if dtype == Dtype::F32 { "f32" } else { "int8" };
        candidate.name = name.to_owned();
        candidate.what =
            format!("{}, {dtype}, frozen, with a head fitted on {} training rows", installed.name, self.train.len());
        Ok(candidate)
    }

    fn generator(&self, name: &str, model: &Generative) -> Result<Candidate> {
        let concurrency = self.concurrency.unwrap_or(4);
        let options = GeneratorOptions {
            threads: compose::cores(0),
            context_tokens: 4_096,
            max_sequences: u32::try_from(concurrency).unwrap_or(4).clamp(1, 64),
            ..model.options(name)
        };
        let generator = Generator::load(&model.gguf, options)?;
        let millions = generator.parameters() / 1_000_000;
        let fine_tuned = match (&model.artifact, &model.adapter) {
            (None, _) => String::new(),
            (Some(_), Some(_)) => format!(", {} with an adapter", model.base),
            (Some(_), None) => format!(", made from {}", model.base),
        };
        let how = match self.task {
            Task::Classify => "can write nothing but a label",
            Task::Extract => "can write nothing but JSON",
            _ => "instructed",
        };
        Ok(Candidate {
            name: model.artifact.as_ref().map_or_else(|| name.to_owned(), ToString::to_string),
            what: format!(
                "{millions} million parameters, generative{fine_tuned}, {how}; {concurrency} requests at a time"
            ),
            fingerprint: model.fingerprint.clone(),
            source: Source::Live(Arc::new(generator)),
            price: Some(Price::LOCAL),
            prompting: match self.task {
                Task::Classify | Task::Extract => Prompting::Constrained,
                _ => Prompting::Instructed,
            },
            concurrency,
            limit: Some(GENERATIVE_ROWS),
        })
    }

    /// A model that the configuration names, or any name that its default upstream may know.
    fn configured(&self, name: &str) -> Result<Option<Candidate>> {
        if !self.context.config_path.exists() {
            return Ok(None);
        }
        let config = self.context.config()?;
        let Some(model) = self.composer.named(name, &config)? else { return Ok(None) };
        let concurrency = self.concurrency.unwrap_or(8);
        Ok(Some(Candidate {
            name: name.to_owned(),
            what: format!("{}, {concurrency} requests at a time", model.owner),
            fingerprint: format!("configured {name}: {}", deployed::behind(name, &config)?),
            source: Source::Live(model.backend),
            price: model.price,
            prompting: Prompting::Instructed,
            concurrency,
            limit: None,
        }))
    }

    fn needs_labels(&self, name: &str) -> Result<()> {
        match self.task {
            Task::Classify => Ok(()),
            _ => Err(Error::invalid(format!("try `{name}`: it only classifies (--task classify)"))),
        }
    }

    fn needs_train(&self, name: &str) -> Result<()> {
        match self.train.iter().any(|row| row.gold().is_some()) {
            true => Ok(()),
            false => {
                Err(Error::invalid(format!("try `{name}`: it learns from examples; --train names a file of them")))
            }
        }
    }
}

/// `FILE#MODEL`: what a model answered before.
fn recorded_answers(wish: &str) -> Result<Candidate> {
    let Some((file, model)) = wish.rsplit_once('#') else {
        return Err(Error::invalid(format!("try recorded:{wish}: write recorded:FILE#MODEL")));
    };
    let outcomes = compose::read_outcomes(Path::new(file))?;
    let mut known: Vec<&String> = outcomes.iter().flat_map(|o| o.models.keys()).collect();
    known.sort_unstable();
    known.dedup();
    if !known.iter().any(|name| *name == model) {
        let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
        return Err(Error::not_found(format!("find `{model}` in {file}: it has answers of {}", known.join(", "))));
    }
    let answers: BTreeMap<String, _> =
        outcomes.iter().filter_map(|o| Some((text_hash(&o.prompt), o.models.get(model)?.clone()))).collect();
    Ok(Candidate {
        name: model.to_owned(),
        what: format!("recorded answers to {} texts", answers.len()),
        fingerprint: format!("recorded {wish}"),
        source: Source::Recorded(Arc::new(answers)),
        price: None,
        prompting: Prompting::Instructed,
        concurrency: 1,
        limit: None,
    })
}
