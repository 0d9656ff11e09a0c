//! `understudy adapt finetune --method lora` on a generative base.

use super::finetune::{FinetuneArgs, Learns, Method, fitting};
use super::peak_memory_mb;
use crate::{
    clock::SystemClock,
    commands::{Context, pilot::data::understood, shown},
    terminal,
    training::generative::{self, GenerativeOptions, TrainedGenerative},
};
use serde_json::json;
use understudy_adapt::{
    artifact::Existing,
    llama::{LlamaLora, LlamaParams},
};
use understudy_core::{Clock, Error, ModelName, Result, Seed, TaskName};
use understudy_dataset::{self as dataset, Fields};
use understudy_model::{catalogue::Kind, installed};

/// True when the base is an installed generative model.
pub(super) fn is_meant(args: &FinetuneArgs, context: &Context) -> Result<bool> {
    let found = installed::find(&context.models_dir, &args.base)?;
    Ok(found.is_some_and(|installed| installed.kind == Kind::Generative))
}

pub(super) async fn run(args: &FinetuneArgs, context: &Context) -> Result<()> {
    if args.method.is_some_and(|method| method != Method::Lora) {
        return Err(Error::invalid(format!(
            "train `{}`: a generative model takes --method lora; the other methods need an encoder",
            args.base
        ))
        .with_param("method"));
    }
    fitting::check(args, Learns::Text)?;
    let (Some(file), Some(out)) = (&args.data, &args.out) else {
        return Err(Error::invalid(format!(
            "train `{}`: --data names a file of conversations or of texts and answers, --out the folder of the new model",
            args.base
        )));
    };
    let fields = Fields {
        text: args.text.clone(),
        label: args.label.clone(),
        reference: args.answer.clone(),
        ..Fields::default()
    };
    let data = dataset::read(file, &fields)?;
    terminal::note(format_args!("  {}", understood(&data)));
    let options = options(args, context);
    let bar = terminal::progress(0, "reading");
    let trained = generative::train(data.rows, options, out, &bar).await;
    bar.finish_and_clear();
    let trained = trained?;
    show(&trained);
    crate::commands::finish(context, &summary(&trained))
}

fn options(args: &FinetuneArgs, context: &Context) -> GenerativeOptions {
    let folder =
        args.out.as_deref().and_then(std::path::Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(|| args.task.as_ref().map(|task| format!("{task}-{}", args.base))).or(folder);
    let (mut params, mut lora) = (LlamaParams::default(), LlamaLora::default());
    params.epochs = args.epochs.unwrap_or(params.epochs);
    params.rate = args.rate.unwrap_or(params.rate);
    params.batch = args.batch.unwrap_or(params.batch);
    params.patience = args.patience.unwrap_or(params.patience);
    params.seconds = args.minutes.map_or(params.seconds, |minutes| minutes * 60.0);
    if let Some(rank) = args.rank {
        // The adapters' share of the output stays what it was.
        lora.alpha *= rank as f64 / lora.rank as f64;
        lora.rank = rank;
    }
    GenerativeOptions {
        base: args.base.clone(),
        models_dir: context.models_dir.clone(),
        name: ModelName::new(name.unwrap_or_else(|| "adapted".to_owned())),
        task: args.task.as_deref().map(TaskName::from),
        lora,
        params,
        system: args.system.clone(),
        rationale: args.rationale.clone().map(|field| (field, args.rationale_weight)),
        max_tokens: args.max_tokens as usize,
        test_share: args.test_share,
        seed: Seed(args.seed),
        threads: args.threads,
        device: args.device(),
        existing: if args.force { Existing::Replace } else { Existing::Keep },
        created: SystemClock::new().now(),
    }
}

fn summary(trained: &TrainedGenerative) -> serde_json::Value {
    let [half, installed] = &trained.agreement;
    json!({
        "artifact": trained.artifact.dir(),
        "hash": trained.artifact.hash(),
        "seconds": trained.total.as_secs_f64(),
        "training_s": trained.training.as_secs_f64(),
        "samples": trained.samples,
        "samples_per_s": trained.samples as f64 / trained.training.as_secs_f64().max(1e-9),
        "peak_memory_mb": peak_memory_mb(),
        "duplicates": trained.duplicates,
        "too_long": trained.too_long,
        "explained": trained.explained,
        "losses": trained.losses,
        "served": {"f16": half, "installed": installed},
        "metrics": trained.artifact.manifest().metrics,
    })
}

fn show(trained: &TrainedGenerative) {
    let manifest = trained.artifact.manifest();
    if trained.duplicates + trained.too_long > 0 {
        terminal::note(format_args!(
            "  {} duplicates left out, and {} rows of more than {} tokens",
            trained.duplicates, trained.too_long, manifest.max_tokens
        ));
    }
    terminal::say(format_args!(
        "  {} on {} ({}): learned from {} rows in {:.1} s, {:.1} a second",
        manifest.name,
        manifest.base.name,
        manifest.method,
        manifest.n_train,
        trained.training.as_secs_f64(),
        trained.samples as f64 / trained.training.as_secs_f64().max(1e-9),
    ));
    if trained.explained > 0 {
        terminal::say(format_args!("  and from the reasons of {} of them", trained.explained));
    }
    for record in &trained.history {
        let held = record.held_out.map_or_else(String::new, |held| format!(", {:.4} on held-out rows", held.loss));
        terminal::say(format_args!("  epoch {}: loss {:.4}{held}", record.epoch + 1, record.loss));
    }
    super::show_metrics(&manifest.metrics);
    let [half, installed] = &trained.agreement;
    terminal::say(format_args!(
        "  what serves says what was trained: mean KL {:.1e} at 16 bits, {:.1e} on the installed base, over {} tokens",
        half.mean_kl, installed.mean_kl, half.n
    ));
    terminal::say(format_args!("  {}   hash {}", shown(trained.artifact.dir()), &trained.artifact.hash()[..16]));
}
