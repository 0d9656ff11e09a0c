//! `understudy adapt finetune --task regress`: a model that answers with a number.

use super::finetune::{FinetuneArgs, options, overridden};
use super::peak_memory_mb;
use crate::{
    clock::SystemClock,
    commands::Context,
    terminal,
    training::{
        regression::{self, Trained},
        tuned::Tuning,
    },
};
use serde_json::json;
use std::path::Path;
use understudy_core::{Clock, Error, Result};
use understudy_dataset::Fields;

/// Runs the training of a regressor on `file`.
pub(super) async fn run(file: &Path, args: &FinetuneArgs, context: &Context) -> Result<()> {
    let Some(out) = &args.out else {
        return Err(Error::invalid("train on a file: --out names the folder of the new model"));
    };
    let fields = Fields { text: args.text.clone(), label: args.label.clone(), ..Fields::default() };
    let data = understudy_dataset::read(file, &fields)?;
    terminal::note(format_args!("  {}", crate::commands::pilot::data::understood(&data)));
    let name = data.mapping.label.clone().or_else(|| data.mapping.reference.clone());
    let mut options = options(args, context, SystemClock::new().now());
    options.task = None;
    options.tuning = Some(overridden(Tuning::for_numbers(options.method), args));
    let bar = terminal::progress(0, "reading");
    let trained = regression::train(data.rows, name.unwrap_or_else(|| "number".to_owned()), options, out, &bar).await;
    bar.finish_and_clear();
    let Trained { artifact, texts, duplicates, scale, took } = trained?;
    let manifest = artifact.manifest();
    if duplicates > 0 {
        terminal::note(format_args!("  {duplicates} repeated texts left out; the first of each gives the number"));
    }
    terminal::say(format_args!(
        "  {} on {} ({}): numbers of mean {:.4} and deviation {:.4}, learned from {} of {texts} texts in {:.1} s",
        manifest.name,
        manifest.base.name,
        manifest.method,
        scale.mean,
        scale.deviation,
        manifest.n_train,
        took.as_secs_f64(),
    ));
    match manifest.margin {
        Some(margin) => terminal::say(format_args!(
            "  its answers ± {margin:.4} hold the right number of nine texts in ten (from {} texts)",
            manifest.n_calibrate
        )),
        None => terminal::note("  too few texts to say how far off it is"),
    }
    super::show_metrics(&manifest.metrics);
    terminal::say(format_args!("  {}   hash {}", crate::commands::shown(artifact.dir()), &artifact.hash()[..16]));
    let result = json!({
        "artifact": artifact.dir(), "hash": artifact.hash(), "seconds": took.as_secs_f64(), "samples": texts,
        "samples_per_s": texts as f64 / took.as_secs_f64().max(1e-9), "peak_memory_mb": peak_memory_mb(),
        "duplicates": duplicates, "mean": scale.mean, "deviation": scale.deviation, "margin": manifest.margin,
        "metrics": manifest.metrics,
    });
    crate::commands::finish(context, &result)
}
