//! A gate before a classifier: confidence, margin and distance to the training texts against texts that belong to none
//! of its labels (CLINC150's out-of-scope queries; Larson et al., 2019).

use super::missing;
use crate::encoder::accuracy::embed;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};
use understudy_adapt::{
    head::{HeadParams, Labelled},
    matrix::Matrix,
    split::split,
};
use understudy_core::{Error, Result, Seed};
use understudy_dataset::Example;
use understudy_model::{
    encoder::{Encoder, EncoderOptions},
    installed,
};
use understudy_pilot::gate::{Judged, Params, fit_judged};
use understudy_route::gate::signals::{Evidence, Said};

/// Label of what belongs to no class.
const OUTSIDE: &str = "oos";

/// One text through the classifier.
struct Classified {
    outside: bool,
    right: bool,
    said: Said<'static>,
}

pub(super) fn run(data: &Path, seed: u64) -> Result<Value> {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let models = std::env::var_os("UNDERSTUDY_MODELS")
        .map_or_else(|| Path::new(&home).join(".understudy/models"), std::path::PathBuf::from);
    let installed = installed::load(&models, "minilm")?;
    let encoder = Encoder::load(installed.dir(), &EncoderOptions::default())?;
    let sets = read(&data.join("classification/clinc150/full.jsonl.zst"))?;
    let of = |names: &[&str]| -> Vec<&Example> {
        sets.iter().filter(|(set, _)| names.contains(&set.as_str())).map(|(_, example)| example).collect()
    };
    let train: Vec<Example> = of(&["train"]).into_iter().cloned().collect();
    let parts = split(&train, 0.0, Seed(seed))?;
    let class = |example: &Example| parts.classes.binary_search(&example.label).ok();
    let vectors = embed(&encoder, parts.learn.iter().map(|&i| &train[i]))?;
    let embeddings = Matrix::from_rows(&vectors)?;
    let labels: Vec<usize> = parts.learn.iter().filter_map(|&i| class(&train[i])).collect();
    let labelled =
        Labelled { embeddings: &embeddings, labels: &labels, places: &parts.places, classes: &parts.classes };
    let head = HeadParams::default().check()?.fit(labelled)?.head;

    let classify = |examples: Vec<&Example>| -> Result<Vec<Classified>> {
        let embedded = embed(&encoder, examples.iter().copied())?;
        let one = |(vector, example): (&Vec<f32>, &&Example)| {
            let predicted = head.predict(vector)?;
            let mut sorted = predicted.probabilities.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let nearest = vectors.iter().map(|other| dot(vector, other)).fold(f32::NEG_INFINITY, f32::max);
            let said = Said {
                confidence: Some(predicted.confidence),
                margin: Some(sorted[0] - sorted[1]),
                distance: Some(f64::from(1.0 - nearest)),
                ..Said::default()
            };
            let outside = example.label == OUTSIDE;
            Ok(Classified { outside, right: Some(predicted.index) == class(example), said })
        };
        embedded.iter().zip(&examples).map(one).collect()
    };
    let calibrate = classify(of(&["val", "oos_val", "oos_train"]))?;
    let test = classify(of(&["test", "oos_test"]))?;

    // The large model stands for whoever would see that a text belongs nowhere.
    let judged: Vec<Judged<'_>> =
        calibrate.iter().map(|c| Judged { said: c.said, small: f64::from(u8::from(c.right)), large: 1.0 }).collect();
    let fit = fit_judged(&judged, "minilm", "oracle", &Params { seed: Seed(seed), ..Params::default() })?;
    let evidence = |said| Evidence { prompt: "", said, helpers: &[] };
    let gate: Vec<f64> = test.iter().map(|c| fit.gate.score(evidence(c.said)).unwrap_or(f64::MIN)).collect();
    let raw = |of: fn(&Said<'_>) -> Option<f64>| test.iter().map(|c| of(&c.said).unwrap_or(f64::MIN)).collect();
    let scores: [(&str, Vec<f64>); 4] = [
        ("confidence", raw(|said| said.confidence)),
        ("margin", raw(|said| said.margin)),
        ("distance", raw(|said| Some(-said.distance?))),
        ("gate", gate),
    ];
    let inside = test.iter().filter(|c| !c.outside).count() as f64;
    let accuracy = test.iter().filter(|c| c.right).count() as f64 / inside;
    println!(
        "\nCLINC150, MiniLM with a linear head: in-scope accuracy {:.1} %; the gate is {}\n",
        100.0 * accuracy,
        fit.reason()
    );
    println!("{:<12} {:>15} {:>22} {:>26}", "score", "AUROC in/out", "AUROC right/wrong", "wrong kept at 80 % kept");
    let mut rows = Vec::new();
    for (name, scores) in &scores {
        let scope = auroc(scores, &test.iter().map(|c| !c.outside).collect::<Vec<_>>());
        let right = auroc(scores, &test.iter().map(|c| c.right).collect::<Vec<_>>());
        let mut order: Vec<usize> = (0..test.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let kept = &order[..test.len() * 4 / 5];
        let wrong = kept.iter().filter(|&&i| !test[i].right).count() as f64 / kept.len() as f64;
        println!("{name:<12} {scope:>15.4} {right:>22.4} {:>24.2} %", 100.0 * wrong);
        rows.push(json!({ "score": name, "auroc_scope": scope, "auroc_right": right, "wrong_kept": wrong }));
    }
    Ok(json!({ "n": test.len(), "in_scope_accuracy": accuracy, "rows": rows }))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Chance that a positive has a higher score than a negative; ties count half.
fn auroc(scores: &[f64], positive: &[bool]) -> f64 {
    let mut sorted: Vec<f64> = scores.iter().zip(positive).filter(|(_, p)| !**p).map(|(s, _)| *s).collect();
    sorted.sort_by(f64::total_cmp);
    let below = |score: f64| {
        let (low, high) = (sorted.partition_point(|s| *s < score), sorted.partition_point(|s| *s <= score));
        f64::midpoint(low as f64, high as f64)
    };
    let above: Vec<f64> = scores.iter().zip(positive).filter(|(_, p)| **p).map(|(s, _)| below(*s)).collect();
    above.iter().sum::<f64>() / (above.len() * sorted.len()) as f64
}

fn read(path: &Path) -> Result<Vec<(String, Example)>> {
    #[derive(serde::Deserialize)]
    struct Line {
        split: String,
        text: String,
        label: String,
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| missing(&name, &e))?;
    let decoder = zstd::Decoder::new(file).map_err(|e| missing(&name, &e))?;
    let mut examples = Vec::new();
    for (index, line) in BufReader::new(decoder).lines().enumerate() {
        let line = line.map_err(|e| missing(&name, &e))?;
        let line: Line = serde_json::from_str(&line).map_err(|e| Error::data(format!("read {name}: {e}")))?;
        examples.push((line.split, Example { id: index.to_string(), text: line.text, label: line.label }));
    }
    Ok(examples)
}
