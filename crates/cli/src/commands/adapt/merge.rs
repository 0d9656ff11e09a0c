//! `understudy adapt merge`: an adapter and its base become one.

use crate::{
    clock::SystemClock,
    commands::{Context, pilot::data::understood, shown},
    scratch::{self, Temporary},
    terminal,
    training::whole::{self, Judges, Making, Reading, Whole},
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};
use understudy_adapt::{
    artifact::Existing,
    llama::{Agreement, tokenizer_files},
};
use understudy_core::{Clock, Error, ModelName, Result};
use understudy_dataset::{self as dataset, Fields};
use understudy_model::{
    adapted::{Adapted, Served},
    generate::{FileType, Importance},
};

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Folder of the artifact with the adapter; as safetensors also an installed model's name, or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Conversations, or texts and answers, on which what is written is compared with what was trained; of the data that
    /// the model learned from, only the share that its training kept
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field or column that holds the right answer [default: found by its name, or the last message]
    #[arg(long, value_name = "FIELD")]
    answer: Option<String>,
    /// Instructions for rows that have none [default: those of the training]
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// What to write: an artifact with one GGUF file, or a folder for Hugging Face's libraries (f32)
    #[arg(long, value_enum, default_value_t = Form::Gguf)]
    to: Form,
    /// Type of the GGUF file's numbers: f32, f16, bf16 or q8_0; `adapt quantize` makes all others [default: f16]
    #[arg(long, value_name = "TYPE")]
    numbers: Option<String>,
    /// Folder of the merged model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the merged model (gguf) [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// Rows with more tokens are left out
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=8192))]
    max_tokens: u32,
    /// Threads; 0 uses all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// Replace another artifact in the folder
    #[arg(long)]
    force: bool,
}

impl MergeArgs {
    /// The folder that it writes.
    pub(super) fn out(&self) -> &Path {
        &self.out
    }
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One file for llama.cpp, as an artifact that serves
    Gguf,
    /// config.json, model.safetensors and the tokeniser
    Safetensors,
}

/// Runs `understudy adapt merge`.
pub(super) async fn run(args: MergeArgs, context: &Context) -> Result<()> {
    if args.to == Form::Safetensors
        && let Some((flag, _)) = [("numbers", &args.numbers), ("name", &args.name)].iter().find(|(_, x)| x.is_some())
    {
        let what = format!("merge: --{flag} is for --to gguf; a folder of safetensors has 32-bit floats and no name");
        return Err(Error::invalid(what).with_param(*flag));
    }
    let numbers = args.numbers.as_deref().unwrap_or("f16");
    let wanted = FileType::named(numbers)
        .filter(|to| [FileType::F32, FileType::F16, FileType::BF16, FileType::Q8_0].contains(to))
        .ok_or_else(|| {
            let what = format!("merge: --numbers is f32, f16, bf16 or q8_0, not `{numbers}`; see adapt quantize");
            Error::invalid(what).with_param("numbers")
        })?;
    let fields = Fields { text: args.text.clone(), reference: args.answer.clone(), ..Fields::default() };
    let data = dataset::read(&args.data, &fields)?;
    terminal::note(format_args!("  {}", understood(&data)));
    let name = super::name_of(args.name.as_deref(), &args.out, "merged");
    let (models_dir, out) = (context.models_dir.clone(), args.out.clone());
    let bar = terminal::progress(0, "merging");
    let merged = scratch::work("merge the model", move || {
        let whole = Whole::open(&args.model, &models_dir, args.max_tokens as usize)?;
        // As safetensors, one without an adapter is worth writing too: it is the base that others train on.
        if !whole.is_adapted() && args.to == Form::Gguf {
            let what = format!("merge {}: it has no adapter, it is whole already", args.model.display());
            return Err(Error::invalid(what).with_param("model"));
        }
        let reading = Reading { system: args.system.clone(), max_tokens: args.max_tokens as usize };
        let rows = Judges::read(&data.rows, &whole, &reading)?;
        merge(&whole, &rows, wanted, &name, &args)
    })
    .await;
    bar.finish_and_clear();
    let merged = merged?;
    let Merged { half, written, artifact, megabytes } = &merged;
    let as_written = written.map_or_else(String::new, |written| format!(", {:.1e} as written", written.mean_kl));
    terminal::say(format_args!(
        "  what serves says what was trained: mean KL {:.1e} at 16 bits{as_written}, over {} tokens",
        half.mean_kl, half.n
    ));
    match artifact {
        Some(artifact) => terminal::say(format_args!(
            "  {}   {megabytes:.1} MB   hash {}",
            shown(artifact.dir()),
            &artifact.hash()[..16]
        )),
        None => terminal::say(format_args!("  {}   {megabytes:.1} MB", shown(&out))),
    }
    crate::commands::finish(
        context,
        &json!({
            "artifact": out, "hash": artifact.as_ref().map(Adapted::hash), "mb": megabytes,
            "served": {"f16": half, "written": written},
        }),
    )
}

struct Merged {
    half: Agreement,
    /// `None` for a folder of safetensors, which llama.cpp does not read.
    written: Option<Agreement>,
    /// `None` for a folder of safetensors.
    artifact: Option<Adapted>,
    megabytes: f64,
}

fn merge(whole: &Whole, rows: &Judges, wanted: FileType, name: &str, args: &MergeArgs) -> Result<Merged> {
    let temporary = Temporary::folder()?;
    let file = temporary.path().join("half.gguf");
    let half = whole.write_half(name, &rows.judge, args.threads, &file)?;
    if args.to == Form::Safetensors {
        let full = std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
        if full && !args.force {
            let what =
                format!("write {}: the folder is not empty; choose another one or pass --force", args.out.display());
            return Err(Error::invalid(what).with_param("out"));
        }
        let tokenizer = tokenizer_files(&whole.like).unwrap_or_else(|error| {
            terminal::note(format_args!("  {error}"));
            Default::default()
        });
        scratch::place(|| whole.network.write_folder_with(&args.out, &tokenizer))?;
        let written = args.out.join("model.safetensors");
        let bytes = std::fs::metadata(&written).map_or(0, |found| found.len());
        return Ok(Merged { half, written: None, artifact: None, megabytes: bytes as f64 / 1e6 });
    }
    let (file, written) = if wanted == FileType::F16 {
        (file, half)
    } else {
        let other = temporary.path().join("merged.gguf");
        whole.write_as(name, wanted, &Importance::new(), &other)?;
        let written = whole.agreement(&rows.judge, args.threads, &other)?;
        (other, written)
    };
    let served = Served {
        f16_mean_kl: half.mean_kl,
        installed_mean_kl: written.mean_kl,
        installed_flips: written.flips,
        n: half.n,
    };
    let method = format!("merged, {wanted}");
    let created = SystemClock::new().now();
    let making = Making { name: ModelName::new(name.to_owned()), method: &method, served, rows, created };
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let artifact = whole::write_model(&args.out, whole.manifest(making), (&file, &whole.learned), existing)?;
    let bytes = std::fs::metadata(&file).map_or(0, |found| found.len());
    Ok(Merged { half, written: Some(written), artifact: Some(artifact), megabytes: bytes as f64 / 1e6 })
}
