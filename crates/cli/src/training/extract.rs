//! Training an extractor: an encoder whose head tags every word, from texts in which spans are marked.

use super::run::{checkpoint_path, path, serving, watched};
use super::tuned::Tuning;
use super::{ArtifactKind, Method, TrainOptions, base_model, encoder_named, heavy};
use crate::clock::SystemClock;
use indicatif::ProgressBar;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
    time::Duration,
};
use understudy_adapt::{
    artifact::{self, Provenance},
    encoder::{Example as Ids, HeadShape, Level, Network, NetworkOptions, Objective, Scope, Target},
    entities::{self, Spans},
    finetune::{Data, FinetuneParams, Finetuned, Run},
    head::FittedHead,
    matrix::Matrix,
    split,
};
use understudy_core::{Clock, Error, Result, Seed, hash::sha256_hex};
use understudy_dataset::{
    Learned,
    spans::{self, Marked},
};
use understudy_model::{
    artifact::{Artifact, Body, Metric},
    encoder::{Encoder, Scratch, WordStates},
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
        let what = "train an extractor: take --method head, lora or full; the others learn labels of whole texts";
        return Err(Error::invalid(what).with_param("method"));
    }
    let (dir, bar) = (dir.to_owned(), bar.clone());
    heavy("train the extractor", move || fit(marked, options, &dir, &bar)).await
}

fn fit(marked: Vec<Marked>, options: TrainOptions, dir: &Path, bar: &ProgressBar) -> Result<Trained> {
    let clock = SystemClock::new();
    let (before, missing) = (marked.len(), marked.iter().map(|m| m.missing).sum());
    let material = Divided::new(marked, &options)?;
    let installed = encoder_named(&options)?;
    let base = base_model(&installed);
    let tuning = options.tuning.clone().unwrap_or_else(|| Tuning::for_extraction(options.method));
    let network = network(installed.dir(), &tuning, &material.tags, &options)?;
    let most = network.max_tokens().min(options.max_tokens as usize);
    let options = TrainOptions { max_tokens: u32::try_from(most).unwrap_or(u32::MAX), ..options };
    let told = format!(
        "extract {} {} {tuning:?} {most} {:?} {} {} {}",
        material.data_hash, base.hash, options.method, options.seed.0, options.test_share, options.device
    );
    let checkpoint = checkpoint_path(dir, &told);
    let examples = material.examples(&Tokenizer::load(&installed.dir().join("tokenizer.json"), most)?, most)?;
    let (params, data) = (tuning.params.check()?, Data { train: &examples, held_out: &[] });
    let learn = |run: Run<'_>| params.fit(network, data, options.seed, run);
    let learned = watched(bar, (options.threads, options.device), Some(&checkpoint), learn)?;

    let files = learned.network.encoder_files()?;
    // From here on the encoder is the one that will serve.
    let encoder = serving(&files, &options)?;
    let fitted = material.calibrated(&learned, &encoder)?;
    let mut files = files;
    let of_training = super::learned(material.marked.iter().map(|marked| marked.text.as_str()), &material.test);
    files.insert(Learned::FILE.to_owned(), of_training.to_bytes());
    let provenance = Provenance {
        name: options.name.clone(),
        kind: ArtifactKind::Extractor,
        task: options.task.clone(),
        base,
        body: Body::Encoder,
        method: format!("extract, {}", method(options.method)),
        files,
        out_of_scope: None,
        thresholds: Vec::new(),
        margin: None,
        dtype: options.dtype,
        max_tokens: options.max_tokens,
        windows: 1,
        pooling: encoder.pooling().into(),
        metrics: material.measured(&fitted.head, &encoder, options.seed)?,
        data_hash: material.data_hash,
        seed: options.seed,
        parent: options.parent.clone(),
        compression: None,
        unlabelled: None,
        taught: None,
        device: options.device.noted(),
        created: options.created,
    };
    let artifact = artifact::write(dir, &fitted, provenance, options.existing)?;
    // The model is safe; the state of its training is not needed any more. A file left behind does no harm.
    drop(std::fs::remove_file(checkpoint));
    let texts = material.marked.len();
    Ok(Trained {
        artifact,
        texts,
        duplicates: before - texts,
        missing,
        fields: material.fields,
        took: clock.monotonic(),
    })
}

/// The encoder with a head that scores the tags of each token.
fn network(folder: &Path, tuning: &Tuning, tags: &Tags, options: &TrainOptions) -> Result<Network> {
    let scope = match options.method {
        Method::Lora => Scope::Lora(tuning.lora.clone()),
        Method::Head => Scope::Head,
        _ => Scope::Full { words: false, frozen_layers: 0 },
    };
    let head = HeadShape { outputs: tags.names().len(), hidden: None, level: Level::Tokens };
    Network::load(folder, &NetworkOptions { scope, head, seed: options.seed })
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Lora => "lora",
        Method::Head => "head",
        _ => "full",
    }
}

/// Marked texts, each once, and what becomes of each.
struct Divided {
    marked: Vec<Marked>,
    fields: Vec<String>,
    tags: Tags,
    learn: Vec<usize>,
    calibrate: Vec<usize>,
    test: Vec<usize>,
    data_hash: String,
}

impl Divided {
    fn new(marked: Vec<Marked>, options: &TrainOptions) -> Result<Self> {
        let marked = distinct(marked);
        let fields: BTreeSet<&String> = marked.iter().flat_map(|m| m.spans.iter().map(|(field, _)| field)).collect();
        let fields: Vec<String> = fields.into_iter().cloned().collect();
        if fields.is_empty() {
            return Err(Error::data("train an extractor: no text has a marked span; is it the right field?"));
        }
        let texts: Vec<&str> = marked.iter().map(|m| m.text.as_str()).collect();
        let [learn, calibrate, test] = split::divide(&texts, options.test_share, options.seed);
        if learn.is_empty() {
            return Err(Error::data(format!("train an extractor on {} texts: too few to divide", texts.len())));
        }
        let (tags, data_hash) = (Tags::of_fields(&fields), data_hash(&marked));
        Ok(Self { marked, fields, tags, learn, calibrate, test, data_hash })
    }

    /// What the network learns from.
    fn examples(&self, tokenizer: &Tokenizer, most: usize) -> Result<Vec<Ids>> {
        let examples = self.learn.iter().map(|&i| example(&self.marked[i], tokenizer, &self.tags, most));
        Ok(examples.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The head that was learned, with its temperature from words that training has not seen.
    fn calibrated(&self, learned: &Finetuned<Network>, encoder: &Encoder) -> Result<FittedHead> {
        let (mut states, mut right, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
        for &i in &self.calibrate {
            let words = encoder.read_words(&self.marked[i].text, &mut scratch)?;
            right.extend(tags_of(&self.marked[i], &words.words, &self.tags));
            states.extend(words.states);
        }
        let states = Matrix::new(encoder.dimensions(), states)?;
        let (weights, bias) = learned.network.head();
        let head = (weights.to_vec(), bias.to_vec());
        let path = path(&learned.history);
        let last = path.len().saturating_sub(1);
        let (names, seen) = (self.tags.names().to_vec(), (self.learn.len(), 0));
        let (fitted, _) = FittedHead::beside_encoder(names, head, &states, &right, (path, last), seen)?;
        Ok(fitted)
    }

    /// The figures on the texts that only measure.
    fn measured(&self, head: &Head, encoder: &Encoder, seed: Seed) -> Result<BTreeMap<String, Metric>> {
        figures(self.test.iter().map(|&i| &self.marked[i]), &Tagger::new(head)?, encoder, seed)
    }
}

/// What a tagger finds in marked texts, against what is marked.
fn figures<'m>(
    marked: impl Iterator<Item = &'m Marked>,
    tagger: &Tagger,
    encoder: &Encoder,
    seed: Seed,
) -> Result<BTreeMap<String, Metric>> {
    let (mut expected, mut given, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
    for m in marked {
        let (e, g) = judged(m, &encoder.read_words(&m.text, &mut scratch)?, tagger);
        expected.push(e);
        given.push(g);
    }
    Ok(entities::measure(&expected, &given, seed))
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
    Ok((!windows.is_empty()).then_some(Ids::new(windows, Target::Tokens(target))))
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

/// The figures of an extractor on other texts.
///
/// # Errors
/// What loading and reading fail with; `Invalid` when the artifact is no extractor.
pub(crate) fn measure(artifact: &Artifact, marked: &[Marked]) -> Result<BTreeMap<String, Metric>> {
    let manifest = artifact.manifest();
    let tagger = Tagger::new(head_of(artifact)?)?;
    figures(marked.iter(), &tagger, &Encoder::load(artifact.dir(), &manifest.reading())?, manifest.seed)
}

fn head_of(artifact: &Artifact) -> Result<&Head> {
    match artifact.manifest().kind {
        ArtifactKind::Extractor => Ok(artifact.head()),
        ArtifactKind::Classifier | ArtifactKind::Labeller | ArtifactKind::Regressor => {
            Err(Error::invalid(format!("measure {}: it is no extractor", artifact.dir().display())))
        }
    }
}
