//! Metrics of `understudy-pilot`, for comparison with scikit-learn, rouge-score, sacrebleu and SQuAD's script.

use super::{Table, read};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_core::{Error, Result};
use understudy_pilot::metrics::{
    calibration,
    classification::{self, Confusion, Operating, Roc},
    text::{self, Stemming, bleu, porter, rouge},
};

pub(super) const TABLE: Table = &[
    ("classification", labels),
    ("ranking", ranking),
    ("distributions", distributions),
    ("stem", |words| Ok(json!(read::<Vec<String>>(words)?.iter().map(|w| porter::stem(w)).collect::<Vec<_>>()))),
    ("rouge", rouges),
    ("bleu", bleus),
    ("bleu_tokens", |texts| Ok(json!(read::<Vec<String>>(texts)?.iter().map(|t| bleu::tokens(t)).collect::<Vec<_>>()))),
    ("squad", squad),
];

fn equal_length(a: usize, b: usize) -> Result<()> {
    if a == b { Ok(()) } else { Err(Error::invalid(format!("read the arguments: {a} values beside {b}"))) }
}

#[derive(Deserialize)]
struct Labels {
    truth: Vec<String>,
    predicted: Vec<String>,
}

fn labels(arguments: Value) -> Result<Value> {
    let Labels { truth, predicted } = read(arguments)?;
    equal_length(truth.len(), predicted.len())?;
    let matrix = Confusion::new(&truth, &predicted);
    Ok(json!({
        "labels": matrix.labels,
        "counts": matrix.counts,
        "classes": matrix.classes(),
        "accuracy": matrix.accuracy(),
        "macro_f1": matrix.macro_f1(),
        "weighted_f1": matrix.weighted_f1(),
        "balanced_accuracy": matrix.balanced_accuracy(),
        "kappa": matrix.kappa(),
    }))
}

#[derive(Deserialize)]
struct Scores {
    scores: Vec<f64>,
    positive: Vec<bool>,
    limits: Vec<f64>,
}

fn ranking(arguments: Value) -> Result<Value> {
    let Scores { scores, positive, limits } = read(arguments)?;
    equal_length(scores.len(), positive.len())?;
    let curve = |points| {
        classification::roc_curve(&scores, &positive, points).map(|curve| {
            let column = |of: fn(&Operating) -> f64| curve.iter().map(of).collect::<Vec<_>>();
            json!({
                "fpr": column(|p| p.false_positive_rate),
                "tpr": column(|p| p.true_positive_rate),
                "thresholds": column(|p| p.threshold),
            })
        })
    };
    let recall = |limit: &f64| classification::recall_at_fpr(&scores, &positive, *limit).map(|(_, m)| m.estimate);
    Ok(json!({
        "all": curve(Roc::All),
        "corners": curve(Roc::Corners),
        "auc": classification::roc_auc(&scores, &positive),
        "average_precision": classification::average_precision(&scores, &positive),
        "recall_at_fpr": limits.iter().map(recall).collect::<Vec<_>>(),
    }))
}

#[derive(Deserialize)]
struct Distributions {
    probabilities: Vec<Vec<f64>>,
    truth: Vec<usize>,
}

fn distributions(arguments: Value) -> Result<Value> {
    let Distributions { probabilities, truth } = read(arguments)?;
    equal_length(probabilities.len(), truth.len())?;
    Ok(json!({
        "log_loss": calibration::log_loss(&probabilities, &truth),
        "brier": calibration::brier(&probabilities, &truth),
    }))
}

#[derive(Deserialize)]
struct Texts {
    targets: Vec<Vec<String>>,
    predictions: Vec<String>,
    #[serde(default)]
    stem: bool,
}

impl Texts {
    fn read(arguments: Value) -> Result<Self> {
        let texts: Self = read(arguments)?;
        equal_length(texts.targets.len(), texts.predictions.len())?;
        if texts.targets.iter().any(Vec::is_empty) {
            return Err(Error::invalid("read the arguments: a prediction has no target"));
        }
        Ok(texts)
    }

    fn targets(&self) -> Vec<Vec<&str>> {
        self.targets.iter().map(|targets| targets.iter().map(String::as_str).collect()).collect()
    }
}

fn rouges(arguments: Value) -> Result<Value> {
    let texts = Texts::read(arguments)?;
    let stemming = if texts.stem { Stemming::Porter } else { Stemming::None };
    let score = |(targets, prediction): (Vec<&str>, &String)| {
        let rouge = rouge::best(&targets, prediction, stemming);
        let scores = [rouge.rouge1, rouge.rouge2, rouge.rouge_l, rouge.rouge_lsum];
        scores.map(|s| [s.precision, s.recall, s.f])
    };
    Ok(json!(texts.targets().into_iter().zip(&texts.predictions).map(score).collect::<Vec<_>>()))
}

fn bleus(arguments: Value) -> Result<Value> {
    let texts = Texts::read(arguments)?;
    let answers: Vec<&str> = texts.predictions.iter().map(String::as_str).collect();
    let sentences = texts.targets().into_iter().zip(&answers).map(|(t, p)| text::sentence_bleu(&t, p).score);
    let corpus = text::corpus_bleu(&texts.targets(), &answers);
    Ok(json!({ "corpus": corpus, "sentences": sentences.collect::<Vec<_>>() }))
}

fn squad(arguments: Value) -> Result<Value> {
    let texts = Texts::read(arguments)?;
    let score = |(targets, prediction): (Vec<&str>, &String)| {
        (text::exact_match(&targets, prediction), text::token_f1(&targets, prediction))
    };
    Ok(json!(texts.targets().into_iter().zip(&texts.predictions).map(score).collect::<Vec<_>>()))
}
