//! Distilling an encoder into static embeddings: its tokens one by one → PCA and SIF → tuned on the team's texts under
//! its soft labels. Each step is measured on the same test examples.

use super::{Material, Product, TrainOptions, Trained, base_model, base_of, embed, encoder_named, finish, heavy};
use crate::{clock::SystemClock, compose::cores};
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::{Path, PathBuf};
use understudy_adapt::{
    head::{CheckedHeadParams, HeadParams, Labelled},
    matrix::Matrix,
    metrics::{self, Judged},
    table::{self, TableParams},
    words::LabelledTexts,
};
use understudy_core::{Clock, Error, Result};
use understudy_dataset::{Example, Learned};
use understudy_model::{
    artifact::{Artifact, Body, Dtype, Kind, Metric, Pooling},
    encoder::{Encoder, Scratch, Tokens},
    head::{Columns, likeliest, softmax},
    table::{Pairs, TOKENIZER, TokenTable, rows},
    wordpiece::Pieces,
};

/// Tokens that go through the encoder at a time.
const TOKENS: usize = 512;

/// What the table comes from, and how.
#[derive(Debug, Clone)]
pub(crate) struct DistilOptions {
    /// As for training; its base is the teacher when there is no artifact.
    pub(crate) train: TrainOptions,
    /// A fine-tuned artifact that teaches.
    pub(crate) teacher: Option<PathBuf>,
    /// How to make and tune the table.
    pub(crate) table: TableParams,
}

/// What a step is worth.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    /// What was done.
    pub(crate) step: &'static str,
    /// Accuracy on the test examples; `None` when there are none.
    pub(crate) accuracy: Option<Metric>,
    /// More to know about it.
    pub(crate) about: String,
}

/// The trained table, and the way there.
pub(crate) struct Distilled {
    pub(crate) trained: Trained,
    pub(crate) steps: Vec<Step>,
}

/// An encoder's knowledge, as numbers.
struct Taught {
    /// One embedding for each example.
    texts: Matrix,
    /// One vector for each token.
    tokens: Matrix,
    tokenizer: Vec<u8>,
}

/// Distils to static embeddings and writes the artifact to `dir`. `bar` counts texts and tokens.
///
/// # Errors
/// As [`super::train`]; `Invalid` when the teacher has no encoder.
pub(crate) async fn to_static(
    examples: Vec<Example>,
    mut options: DistilOptions,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Distilled> {
    let clock = SystemClock::new();
    let params = options.table.clone().check()?;
    let artifact = options.teacher.as_deref().map(Artifact::read).transpose()?;
    let before = options.teacher.as_deref().map_or_else(|| Ok(Learned::default()), Learned::of_artifact)?;
    let material = Material::further(examples, before, &options.train)?;
    let (encoder_dir, base) = match &artifact {
        None => {
            let installed = encoder_named(&options.train)?;
            (installed.dir().to_owned(), base_model(&installed))
        }
        Some(artifact) => {
            let manifest = artifact.manifest();
            if manifest.kind != Kind::Classifier {
                let what =
                    format!("distil {}: only models that give one label are distilled", artifact.dir().display());
                return Err(Error::invalid(what).with_param("teacher"));
            }
            options.train.dtype = manifest.dtype;
            options.train.max_tokens = manifest.max_tokens;
            options.train.windows = manifest.windows;
            options.train.parent = Some(artifact.hash().to_owned());
            let dir = match manifest.body {
                Body::Encoder => artifact.dir().to_owned(),
                Body::Base => base_of(artifact, &options.train.models_dir)?,
                Body::Words | Body::Static => {
                    return Err(Error::invalid(format!(
                        "distil {}: it has no encoder to make a table from",
                        artifact.dir().display()
                    )));
                }
            };
            (dir, manifest.base.clone())
        }
    };
    let teacher = artifact.as_ref().map_or(options.train.base.clone(), |a| a.manifest().name.to_string());
    let taught = teach(&encoder_dir, &material, &options, bar).await?;
    let embedding = clock.monotonic();
    let dir = dir.to_owned();
    heavy("distil", move || {
        let pieces = Pieces::from_bytes(&taught.tokenizer)?;
        let split = &material.split;
        let (texts, labels) = (material.texts(&split.learn), material.labels(&split.learn));
        let mut steps = Vec::new();
        let (soft, figure) = soft_labels(&material, &taught, artifact.as_ref(), &options)?;
        steps.push(Step { step: "teacher", accuracy: figure, about: format!("{teacher}, a head on its embeddings") });
        let heads = heads(vec![64.0])?;
        let plain = Matrix::from_rows(&sums(&material, &pieces, &taught.tokens, &options.table)?)?;
        let about = format!("{} tokens through the encoder one by one", taught.tokens.rows());
        steps.push(Step { step: "table", accuracy: on_test(&heads, &plain, &material, &options)?, about });
        let compressed = params.compress(&taught.tokens)?;
        let weighted = Matrix::from_rows(&sums(&material, &pieces, &compressed.vectors, &options.table)?)?;
        let about = format!(
            "{} of {} dimensions hold {:.1} % of the variance; frequent tokens weigh less",
            compressed.vectors.columns(),
            taught.tokens.columns(),
            100.0 * compressed.variance_kept
        );
        steps.push(Step { step: "pca", accuracy: on_test(&heads, &weighted, &material, &options)?, about });
        let data = LabelledTexts { texts: &texts, labels: &labels, places: &split.places, classes: &split.classes };
        let model = params.fit(data, Some(&soft), &compressed.vectors, &pieces, options.train.seed)?;
        let about = format!("rows and head trained on {} texts, {} pairs", texts.len(), model.pairs.keys().len());
        let max_tokens = options.table.max_tokens;
        let served = TokenTable::new(pieces, model.pairs.clone(), model.vectors.clone(), model.width, max_tokens)?;
        let columns = Columns::new(&model.fitted.head);
        let probabilities = |text: &str| Ok(columns.dense(&served.embed(text)?.vector));
        let probabilities = material.texts(&split.test).into_iter().map(probabilities).collect::<Result<Vec<_>>>()?;
        let figure = accuracy(&probabilities, &material, &options);
        steps.push(Step { step: "tuned", accuracy: figure, about });
        let files = table::encode(&model, taught.tokenizer, &teacher)?;
        let product = Product {
            base,
            body: Body::Static,
            method: "static",
            unlabelled: None,
            windows: 1,
            files,
            dtype: Dtype::F32,
            max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
            pooling: Pooling::Mean,
            fitted: model.fitted,
            unseen: model.unseen,
        };
        let fitting = clock.monotonic().saturating_sub(embedding);
        let trained = finish(material, options.train, product, &probabilities, &dir, (embedding, fitting))?;
        Ok(Distilled { trained, steps })
    })
    .await
}

/// Runs the encoder over its vocabulary and the texts.
async fn teach(dir: &Path, material: &Material, options: &DistilOptions, bar: &ProgressBar) -> Result<Taught> {
    let train = &options.train;
    let encoder = Encoder::load(dir, &train.reading())?;
    let file = dir.join(TOKENIZER);
    let tokenizer = std::fs::read(&file).map_err(|e| Error::data(format!("read {}: {e}", file.display())))?;
    let vocabulary = Pieces::from_bytes(&tokenizer)?.vocabulary();
    bar.set_length((vocabulary + material.cleaned.examples.len()) as u64);
    // A single token stands where a text would: between what the tokeniser puts at both ends.
    let around = encoder.tokenize("")?.ids().to_vec();
    let (before, after) = around.split_at(around.len() / 2);
    let alone = |id: usize| -> Result<Tokens> {
        let id = u32::try_from(id).map_err(|e| Error::data(format!("read {}: {e}", file.display())))?;
        Tokens::from_ids([before, &[id], after].concat())
    };
    let all = (0..vocabulary).map(alone).collect::<Result<Vec<_>>>()?;
    let threads = cores(train.threads);
    let parts: Vec<Vec<Vec<f32>>> = std::thread::scope(|scope| {
        let part = |tokens| {
            let encoder = &encoder;
            scope.spawn(move || {
                let mut scratch = Scratch::default();
                let chunk = |chunk: &[Tokens]| {
                    bar.inc(chunk.len() as u64);
                    encoder.embed(chunk, &mut scratch)
                };
                <[Tokens]>::chunks(tokens, TOKENS).flat_map(chunk).collect::<Vec<Vec<f32>>>()
            })
        };
        let running: Vec<_> = all.chunks(all.len().div_ceil(threads)).map(part).collect();
        running.into_iter().map(|thread| thread.join().expect("the encoder does not panic on its own tokens")).collect()
    });
    let tokens = Matrix::from_rows(&parts.concat())?;
    let texts = embed(encoder, &material.cleaned, train.threads, bar).await?;
    Ok(Taught { texts, tokens, tokenizer })
}

fn heads(c: Vec<f64>) -> Result<CheckedHeadParams> {
    HeadParams { c, ..HeadParams::default() }.check()
}

/// The teacher's probabilities of each learning example, and its accuracy on the test examples. An artifact says them
/// itself; on an encoder alone heads are fitted that have not seen the example.
fn soft_labels(
    material: &Material,
    taught: &Taught,
    artifact: Option<&Artifact>,
    options: &DistilOptions,
) -> Result<(Matrix, Option<Metric>)> {
    let split = &material.split;
    let classes = &split.classes;
    if let Some(artifact) = artifact {
        let head = artifact.head();
        let place: Vec<Option<usize>> =
            classes.iter().map(|class| head.labels().iter().position(|label| label == class)).collect();
        let says = |&i: &usize| -> Result<Vec<f64>> {
            let all = head.predict(taught.texts.row(i))?.probabilities;
            let known: Vec<f64> = place.iter().map(|at| at.map_or(0.0, |at| all[at])).collect();
            let sum: f64 = known.iter().sum();
            Ok(known.into_iter().map(|p| if sum > 0.0 { p / sum } else { 1.0 / classes.len() as f64 }).collect())
        };
        let soft = split.learn.iter().map(says).collect::<Result<Vec<_>>>()?;
        let test = split.test.iter().map(says).collect::<Result<Vec<_>>>()?;
        return Ok((narrow(&soft)?, accuracy(&test, material, options)));
    }
    // Every example is held out once, so that its soft label is not what the teacher learnt by heart.
    let params = HeadParams { c: vec![16.0, 64.0], cross_fit_below: usize::MAX, ..HeadParams::default() }.check()?;
    let labels = material.labels(&split.learn);
    let (fitted, unseen) = params.fit_and_keep(Labelled {
        embeddings: &taught.texts.select(&split.learn),
        labels: &labels,
        places: &split.places,
        classes,
    })?;
    let mut soft = vec![vec![1.0 / classes.len() as f64; classes.len()]; split.learn.len()];
    for (item, logits) in unseen.items.iter().zip(&unseen.logits) {
        soft[*item].clone_from(logits);
        softmax(&mut soft[*item], fitted.head.temperature());
    }
    let says = |&i: &usize| Ok(fitted.head.predict(taught.texts.row(i))?.probabilities);
    let test = split.test.iter().map(says).collect::<Result<Vec<_>>>()?;
    Ok((narrow(&soft)?, accuracy(&test, material, options)))
}

/// The sum of each example's token vectors, brought to length 1.
fn sums(material: &Material, pieces: &Pieces, tokens: &Matrix, params: &TableParams) -> Result<Vec<Vec<f32>>> {
    let sum = |example: &Example| -> Result<Vec<f32>> {
        let (ids, ..) = rows(pieces, &Pairs::default(), &example.text, params.max_tokens)?;
        let mut sum = vec![0.0_f32; tokens.columns()];
        for id in ids {
            sum.iter_mut().zip(tokens.row(id as usize)).for_each(|(sum, x)| *sum += x);
        }
        let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().for_each(|x| *x /= length);
        Ok(sum)
    };
    material.cleaned.examples.iter().map(sum).collect()
}

/// Accuracy of a head on vectors of all examples.
fn on_test(
    params: &CheckedHeadParams,
    vectors: &Matrix,
    material: &Material,
    options: &DistilOptions,
) -> Result<Option<Metric>> {
    let split = &material.split;
    if split.test.is_empty() {
        return Ok(None);
    }
    let fitted = params.fit(Labelled {
        embeddings: &vectors.select(&split.learn),
        labels: &material.labels(&split.learn),
        places: &split.places,
        classes: &split.classes,
    })?;
    let says = |&i: &usize| Ok(fitted.head.predict(vectors.row(i))?.probabilities);
    let test = split.test.iter().map(says).collect::<Result<Vec<_>>>()?;
    Ok(accuracy(&test, material, options))
}

fn accuracy(probabilities: &[Vec<f64>], material: &Material, options: &DistilOptions) -> Option<Metric> {
    let labels = material.labels(&material.split.test);
    let judged =
        |(p, label): (&Vec<f64>, usize)| Judged { predicted: likeliest(p), label, confidence: p[likeliest(p)] };
    let items: Vec<Judged> = probabilities.iter().zip(labels).map(judged).collect();
    let classes = material.split.classes.len();
    metrics::measure_judged(&items, classes, None, options.train.seed).get("accuracy").copied()
}

#[expect(clippy::cast_possible_truncation, reason = "probabilities of seven digits are enough")]
fn narrow(rows: &[Vec<f64>]) -> Result<Matrix> {
    Matrix::from_rows(&rows.iter().map(|row| row.iter().map(|p| *p as f32).collect()).collect::<Vec<Vec<f32>>>())
}
