//! `understudy adapt finetune` on rows whose label is a list: a model that gives all labels that apply.

use super::finetune::{FinetuneArgs, options, overridden};
use super::peak_memory_mb;
use crate::{
    clock::SystemClock,
    commands::Context,
    terminal,
    training::{
        multilabel::{self, Trained},
        tuned::Tuning,
    },
};
use serde_json::json;
use understudy_core::{Clock, Error, Result};
use understudy_dataset::Dataset;

/// Runs the training of a labeller on `data`.
pub(super) async fn run(data: Dataset, args: &FinetuneArgs, context: &Context) -> Result<()> {
    let Some(out) = &args.out else {
        return Err(Error::invalid("train on a file: --out names the folder of the new model"));
    };
    terminal::note(format_args!("  rows list labels: the model learns to give all that apply"));
    let mut options = options(args, context, SystemClock::new().now());
    options.tuning = Some(overridden(Tuning::for_labels(options.method), args));
    let bar = terminal::progress(0, "reading");
    let trained = multilabel::train(data.rows, options, out, &bar).await;
    bar.finish_and_clear();
    let Trained { artifact, texts, duplicates, unlearned, took } = trained?;
    let manifest = artifact.manifest();
    if duplicates > 0 {
        terminal::note(format_args!("  {duplicates} repeated texts left out; the first of each says what applies"));
    }
    if !unlearned.is_empty() {
        terminal::note(format_args!(
            "  not learned, no text to learn from has them: {} (more rows, or another --seed)",
            unlearned.join(", ")
        ));
    }
    terminal::say(format_args!(
        "  {} on {} ({}): {} labels, learned from {} of {texts} texts in {:.1} s; thresholds from {}",
        manifest.name,
        manifest.base.name,
        manifest.method,
        manifest.labels.len(),
        manifest.n_train,
        took.as_secs_f64(),
        manifest.n_calibrate,
    ));
    super::show_metrics(&manifest.metrics);
    terminal::say(format_args!("  {}   hash {}", crate::commands::shown(artifact.dir()), &artifact.hash()[..16]));
    let thresholds: serde_json::Map<String, serde_json::Value> =
        manifest.labels.iter().zip(&manifest.thresholds).map(|(label, t)| (label.clone(), json!(t))).collect();
    let result = json!({
        "artifact": artifact.dir(), "hash": artifact.hash(), "seconds": took.as_secs_f64(), "samples": texts, "peak_memory_mb": peak_memory_mb(),
        "samples_per_s": texts as f64 / took.as_secs_f64().max(1e-9), "duplicates": duplicates,
        "unlearned": unlearned, "thresholds": thresholds, "temperature": manifest.temperature,
        "metrics": manifest.metrics,
    });
    crate::commands::finish(context, &result)
}
