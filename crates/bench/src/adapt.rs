//! Training speed and memory beside PyTorch in the same run, and what fine-tuning reaches on Banking77.

mod peer;
mod quality;
mod speed;

use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use understudy_core::{Error, Result};

/// Trains MiniLM beside PyTorch (full and LoRA), and fine-tunes it on Banking77.
#[derive(Debug, Args)]
pub(crate) struct AdaptArgs {
    /// Folder with the data sets (classification/banking77)
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Folder with the installed models [default: ~/.understudy/models]
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_MODELS")]
    models: Option<PathBuf>,
    /// Python with torch and transformers [default: .venv/bin/python if it exists, else python3]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Rounds of each shape; ours and theirs take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Threads of both
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Dropout of both
    #[arg(long, default_value_t = 0.0)]
    dropout: f32,
    /// Measure speed only
    #[arg(long)]
    speed_only: bool,
    /// Seeds of the fine-tuning on Banking77
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    speed: speed::Ratios,
    rows: Vec<speed::Row>,
    /// Mean accuracy over the seeds, in per cent.
    banking77: Option<f64>,
    banking77_runs: Vec<quality::Outcome>,
}

/// Runs the benchmark.
pub(crate) fn run(args: &AdaptArgs) -> Result<()> {
    let models = match &args.models {
        Some(dir) => dir.clone(),
        None => std::env::home_dir()
            .ok_or_else(|| Error::invalid("find the models: there is no home directory; give --models"))?
            .join(".understudy/models"),
    };
    let base = models.join("minilm");
    let rows = speed::measure(args, &base)?;
    let runs = if args.speed_only { Vec::new() } else { quality::banking77(args, &base)? };
    let mean = runs.iter().map(|run| run.accuracy).sum::<f64>() / runs.len() as f64;
    let banking77 = (!runs.is_empty()).then_some(mean);
    if args.json {
        let report = Report { speed: speed::Ratios::of(&rows), rows, banking77, banking77_runs: runs };
        let line = serde_json::to_string(&report).map_err(|e| Error::internal(format!("write the report: {e}")))?;
        println!("{line}");
    }
    Ok(())
}
