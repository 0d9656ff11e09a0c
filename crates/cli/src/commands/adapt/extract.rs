//! `understudy adapt finetune --task extract`: texts in which spans are marked in, an extractor out.

use super::finetune::{FinetuneArgs, Method, options, overridden};
use super::peak_memory_mb;
use crate::{
    clock::SystemClock,
    commands::Context,
    terminal,
    training::{
        self,
        extract::{self, Trained},
        tuned::Tuning,
    },
};
use serde_json::json;
use std::path::Path;
use understudy_core::{Clock, Error, ModelName, Result};
use understudy_dataset::{Fields, Learned, spans::Marked, text_hash};

/// Runs the training of an extractor on `file`.
pub(super) async fn run(file: &Path, args: &FinetuneArgs, context: &Context) -> Result<()> {
    let Some(out) = &args.out else {
        return Err(Error::invalid("train on a file: --out names the folder of the new model"));
    };
    let mut marked = read(file, args)?;
    let test = args.test.as_deref().map(|file| read(file, args)).transpose()?;
    if let Some(test) = &test {
        let judging = Learned::of(test.iter().map(|marked| text_hash(&marked.text)));
        let before = marked.len();
        marked.retain(|marked| !judging.has(&text_hash(&marked.text)));
        if marked.len() < before {
            terminal::note(format_args!("  {} texts of --test are left out of --data", before - marked.len()));
        }
    }
    let mut options = options(args, context, SystemClock::new().now());
    // `extract` says what is trained, not for whom.
    options.task = None;
    options.method = match args.method {
        None | Some(Method::Full) => training::Method::Full,
        Some(Method::Lora) => training::Method::Lora,
        Some(Method::Head) => training::Method::Head,
        Some(Method::Words | Method::Fewshot) => training::Method::Words,
    };
    options.device = args.device();
    options.tuning = Some(overridden(Tuning::for_extraction(options.method), args));
    options.name = ModelName::new(super::name_of(args.name.as_deref(), out, "extractor"));
    let bar = terminal::progress(0, "reading");
    let trained = extract::train(marked, options, out, &bar).await;
    bar.finish_and_clear();
    let Trained { artifact, texts, duplicates, missing, fields, took } = trained?;
    let manifest = artifact.manifest();
    if duplicates > 0 || missing > 0 {
        terminal::note(format_args!("  {duplicates} repeated texts left out; {missing} values are not in their texts"));
    }
    terminal::say(format_args!(
        "  {} on {} ({}): {} fields, learned from {} of {texts} texts in {:.1} s",
        manifest.name,
        manifest.base.name,
        manifest.method,
        fields.len(),
        manifest.n_train,
        took.as_secs_f64()
    ));
    let on_test = test.as_ref().map(|test| extract::measure(&artifact, test)).transpose()?;
    super::show_metrics(on_test.as_ref().unwrap_or(&manifest.metrics));
    terminal::say(format_args!("  {}   hash {}", crate::commands::shown(artifact.dir()), &artifact.hash()[..16]));
    let result = json!({
        "artifact": artifact.dir(), "hash": artifact.hash(), "seconds": took.as_secs_f64(), "samples": texts, "peak_memory_mb": peak_memory_mb(),
        "duplicates": duplicates, "missing": missing, "fields": fields, "metrics": manifest.metrics, "test": on_test,
    });
    crate::commands::finish(context, &result)
}

fn read(file: &Path, args: &FinetuneArgs) -> Result<Vec<Marked>> {
    let fields = Fields { text: args.text.clone(), reference: args.label.clone(), ..Fields::default() };
    let data = understudy_dataset::read(file, &fields)?;
    terminal::note(format_args!("  {}: {} rows", file.display(), data.rows.len()));
    data.rows.iter().map(Marked::of).collect()
}
