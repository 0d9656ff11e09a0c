//! Training an extractor: an encoder whose head tags every word, from texts in which spans are marked.

use super::tuned::{CHECKPOINT, Tuning};
use super::{ArtifactKind, Method, TrainOptions, base_model, encoder_named, heavy};
use crate::{clock::SystemClock, compose::cores};
use indicatif::ProgressBar;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_adapt::{
    artifact::{self, Provenance},
    encoder::{Example as Ids, HeadShape, Level, Network, NetworkOptions, Objective, Scope, Target},
    entities::{self, Spans},
    finetune::{Checkpoints, Data, Ended, FinetuneParams, Progress, Run},
    head::{FittedHead, PathStep},
    matrix::Matrix,
    split,
};
use understudy_core::{Clock, Error, Result, hash::sha256_hex};
use understudy_dataset::spans::{self, Marked};
use understudy_model::{
    artifact::{Artifact, Body},
    encoder::{Encoder, EncoderOptions, Scratch, WordStates},
    extractor::Tagger,
    head::Head,
    tags::{Span, Tags},
    tokens::{Tokenizer, Word},
};

/// A trained extractor, written, and how it came about.
#[derive(Debug)]
pub(crate) struct Trained {
    pub(crate) artifact: Artifact,
    /// Texts after cleaning.
    pub(crate) texts: usize,
    /// Texts that repeated another.
    pub(crate) duplicates: usize,
    /// Values that their texts did not contain.
    pub(crate) missing: usize,
    pub(crate) fields: Vec<String>,
    pub(crate) took: Duration,
}

impl Tuning {
    /// What does well on WNUT17 and SNIPS. Nothing is smoothed: most words are outside, and a little certainty taken from
    /// all of them is much taken from the few that are not.
    pub(crate) fn for_extraction(method: Method) -> Self {
        let Self { params, lora } = Self::for_method(method);
        let rate = if method == Method::Lora { 2e-3 } else { 3e-4 };
        let objective = Objective::Classes { smoothing: 0.0, weights: Vec::new() };
        let params = FinetuneParams { objective, epochs: 6, batch: 16, rate, head_rate: 2e-3, ..params };
        Self { params, lora }
    }
}

/// Trains an extractor on `marked` texts and writes the artifact to `dir`. `bar` counts the steps.
///
/// # Errors
/// `NotFound` when the base model is not installed, `Data` when the texts cannot be learnt from, whatever writing the
/// artifact reports.
pub(crate) async fn train(
    marked: Vec<Marked>,
    options: TrainOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Trained> {
    if !matches!(options.method, Method::Lora | Method::Full | Method::Head) {
        let what = "train an extractor: a model of words sees no order; take --method head, lora or full";
        return Err(Error::invalid(what).with_param("method"));
    }
    let (dir, bar) = (dir.to_owned(), bar.clone());
    heavy("train the extractor", move || fit(marked, options, &dir, &bar)).await
}

fn fit(marked: Vec<Marked>, options: TrainOptions, dir: &Path, bar: &ProgressBar) -> Result<Trained> {
    let clock = SystemClock::new();
    let before = marked.len();
    let missing = marked.iter().map(|m| m.missing).sum();
    let marked = distinct(marked);
    let fields: BTreeSet<&String> = marked.iter().flat_map(|m| m.spans.iter().map(|(field, _)| field)).collect();
    let fields: Vec<String> = fields.into_iter().cloned().collect();
    if fields.is_empty() {
        return Err(Error::data("train an extractor: no text has a marked span; is it the right field?"));
    }
    let tags = Tags::of_fields(&fields);
    let texts: Vec<&str> = marked.iter().map(|m| m.text.as_str()).collect();
    let [learn, calibrate, test] = split::divide(&texts, options.test_share, options.seed);
    if learn.is_empty() {
        return Err(Error::data(format!("train an extractor on {} texts: too few to divide", texts.len())));
    }
    let data_hash = data_hash(&marked);

    let installed = encoder_named(&options)?;
    let folder = installed.dir();
    let tuning = options.tuning.clone().unwrap_or_else(|| Tuning::for_extraction(options.method));
    let params = tuning.params.clone().check()?;
    let scope = match options.method {
        Method::Lora => Scope::Lora(tuning.lora.clone()),
        Method::Head => Scope::Head,
        _ => Scope::Full { words: false, frozen_layers: 0 },
    };
    let head = HeadShape { outputs: tags.names().len(), hidden: None, level: Level::Tokens };
    let network = Network::load(folder, &NetworkOptions { scope, head, seed: options.seed })?;
    let most = network.max_tokens().min(options.max_tokens as usize);
    let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"), most)?;
    let examples = learn.iter().map(|&i| example(&marked[i], &tokenizer, &tags, most));
    let examples: Vec<Ids> = examples.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let base = base_model(&installed);
    let checkpoint = checkpoint_path(dir, &format!("{data_hash} {} {tuning:?} {most}", base.hash), &options);
    let mut progress = |now: &Progress| {
        bar.set_length(now.steps);
        bar.set_position(now.step);
        bar.set_message(format!("epoch {}, loss {:.3}", now.epoch + 1, now.loss));
        ControlFlow::Continue(())
    };
    let checkpoints = Some(Checkpoints { path: &checkpoint, every: CHECKPOINT });
    let run = Run { clock: &clock, threads: cores(options.threads), progress: &mut progress, checkpoints };
    let data = Data { train: &examples, held_out: &[] };
    let fitted = params.fit(network, data, options.seed, run)?;
    if fitted.ended == Ended::Interrupted {
        return Err(Error::internal("train the extractor: it was stopped"));
    }
    let path = fitted.history.iter().map(|r| PathStep { c: (r.epoch + 1) as f64, loss: r.loss }).collect::<Vec<_>>();
    let last = path.len().saturating_sub(1);
    let files = fitted.network.encoder_files()?;
    let (weights, bias) = fitted.network.head();
    let head = (weights.to_vec(), bias.to_vec());

    // From here on the encoder is the one that will serve: read from its files, in its number type.
    let staging = super::compress::staged(&files)?;
    let serving = EncoderOptions { dtype: options.dtype.into(), max_tokens: most, pooling: None };
    let encoder = Encoder::load(staging.path(), &serving)?;
    let mut scratch = Scratch::default();
    let (mut states, mut right) = (Vec::new(), Vec::new());
    for &i in &calibrate {
        let words = encoder.read_words(&marked[i].text, &mut scratch)?;
        right.extend(tags_of(&marked[i], &words.words, &tags));
        states.extend(words.states);
    }
    let states = Matrix::new(encoder.dimensions(), states)?;
    let seen = (learn.len(), 0);
    let (fitted, _) = FittedHead::beside_encoder(tags.names().to_vec(), head, &states, &right, (path, last), seen)?;
    let tagger = Tagger::new(&fitted.head)?;
    let (mut expected, mut given) = (Vec::new(), Vec::new());
    for &i in &test {
        let words = encoder.read_words(&marked[i].text, &mut scratch)?;
        let (e, g) = judged(&marked[i], &words, &tagger);
        expected.push(e);
        given.push(g);
    }
    let method = match options.method {
        Method::Lora => "lora",
        Method::Head => "head",
        _ => "full",
    };
    let provenance = Provenance {
        name: options.name.clone(),
        kind: ArtifactKind::Extractor,
        task: options.task.clone(),
        base,
        body: Body::Encoder,
        method: format!("extract, {method}"),
        files,
        out_of_scope: None,
        dtype: options.dtype,
        max_tokens: u32::try_from(most).unwrap_or(u32::MAX),
        pooling: encoder.pooling().into(),
        metrics: entities::measure(&expected, &given, options.seed),
        data_hash,
        seed: options.seed,
        parent: options.parent.clone(),
        compression: None,
        created: options.created,
    };
    let artifact = artifact::write(dir, &fitted, provenance, options.existing)?;
    // The model is safe; the state of its training is not needed any more. A file left behind does no harm.
    drop(std::fs::remove_file(checkpoint));
    let texts = marked.len();
    Ok(Trained { artifact, texts, duplicates: before - texts, missing, fields, took: clock.monotonic() })
}

/// One row a text: the first.
fn distinct(marked: Vec<Marked>) -> Vec<Marked> {
    let mut seen = BTreeSet::new();
    marked.into_iter().filter(|m| seen.insert(m.text.clone())).collect()
}

/// Of texts and marks, whatever their order.
fn data_hash(marked: &[Marked]) -> String {
    let line = |m: &Marked| {
        format!(
            "{}\n",
            serde_json::json!([m.text, m.spans.iter().map(|(f, r)| (f, r.start, r.end)).collect::<Vec<_>>()])
        )
    };
    let mut lines: Vec<String> = marked.iter().map(line).collect();
    lines.sort_unstable();
    sha256_hex(lines.concat().as_bytes())
}

/// A text as the network sees it: the first token of each word has its tag, the others have none. `None` without words.
fn example(marked: &Marked, tokenizer: &Tokenizer, tags: &Tags, most: usize) -> Result<Option<Ids>> {
    let words = tokenizer.words(&marked.text)?;
    let places: Vec<Range<usize>> = words.words.iter().map(|Word { bytes, .. }| bytes.clone()).collect();
    let mut of_words = tags_of(marked, &places, tags).into_iter();
    let (mut windows, mut target) = (Vec::new(), Vec::new());
    for window in words.windows(most) {
        let mut of_tokens = vec![None; window.ids.len()];
        for first in &window.firsts {
            of_tokens[*first] = of_words.next();
        }
        windows.push(window.ids);
        target.extend(of_tokens);
    }
    Ok((!windows.is_empty()).then_some(Ids { windows, target: Target::Tokens(target) }))
}

/// The tag of each word: a span has the words that begin in it. Fields that the tags do not have are left out.
fn tags_of(marked: &Marked, words: &[Range<usize>], tags: &Tags) -> Vec<usize> {
    let span = |(field, place): &(String, Range<usize>)| {
        let field = tags.fields().iter().position(|known| known == field)?;
        let from = words.iter().position(|word| word.end > place.start)?;
        let to = words.iter().rposition(|word| word.start < place.end)? + 1;
        Some(Span { field, from, to })
    };
    let spans: Vec<Span> = marked.spans.iter().filter_map(span).collect();
    tags.of_spans(&spans, words.len())
}

/// What is expected and what was found. Where the data says what its words are, both are counted in those words, whose
/// tag is that of the first word of ours in them, as is usual in the literature; else in bytes.
pub(crate) fn judged(marked: &Marked, words: &WordStates, tagger: &Tagger) -> (Spans, Spans) {
    let found = tagger.extract(words).spans;
    let Some((places, expected)) = &marked.tokens else { return (marked.spans.clone(), found) };
    let mut before: Option<usize> = None;
    let mut of_tokens = Vec::with_capacity(places.len());
    for place in places {
        let first = words.words.iter().find(|word| word.start >= place.start && word.start < place.end);
        let span = first.and_then(|word| found.iter().position(|(_, r)| r.start <= word.start && word.start < r.end));
        of_tokens.push(match span {
            None => "O".to_owned(),
            Some(i) if before == Some(i) => format!("I-{}", found[i].0),
            Some(i) => format!("B-{}", found[i].0),
        });
        before = span;
    }
    (spans::of_tags(expected), spans::of_tags(&of_tokens))
}

/// Beside the folder of the model: the same data and settings find it again, others have another name.
fn checkpoint_path(dir: &Path, told: &str, options: &TrainOptions) -> PathBuf {
    let told = format!("extract {told} {:?} {} {}", options.method, options.seed.0, options.test_share);
    let name = dir.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
    dir.with_file_name(format!(".{name}-{}.checkpoint", &sha256_hex(told.as_bytes())[..12]))
}

/// The figures of an extractor on other texts.
///
/// # Errors
/// What loading and reading fail with; `Invalid` when the artifact is no extractor.
pub(crate) fn measure(
    artifact: &Artifact,
    marked: &[Marked],
) -> Result<BTreeMap<String, understudy_model::artifact::Metric>> {
    let manifest = artifact.manifest();
    let tagger = Tagger::new(head_of(artifact)?)?;
    let options =
        EncoderOptions { dtype: manifest.dtype.into(), max_tokens: manifest.max_tokens as usize, pooling: None };
    let encoder = Encoder::load(artifact.dir(), &options)?;
    let (mut expected, mut given, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
    for m in marked {
        let (e, g) = judged(m, &encoder.read_words(&m.text, &mut scratch)?, &tagger);
        expected.push(e);
        given.push(g);
    }
    Ok(entities::measure(&expected, &given, manifest.seed))
}

fn head_of(artifact: &Artifact) -> Result<&Head> {
    match artifact.manifest().kind {
        ArtifactKind::Extractor => Ok(artifact.head()),
        ArtifactKind::Classifier => {
            Err(Error::invalid(format!("measure {}: it is no extractor", artifact.dir().display())))
        }
    }
}
