//! Adaptation: how fast models are trained beside PyTorch in the same run, what the cheap students reach, and what
//! fine-tuning reaches. Each part prints a table of its own; with `--json` the last line has the figures of all parts.

mod compress;
mod extract;
mod fewshot;
mod generative;
mod kept;
mod peer;
mod quality;
mod rationales;
mod speed;
mod students;

use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};
use understudy_core::{Error, Result};

/// Trains small models and measures them: speed and memory beside PyTorch, cheap students, fine-tuning.
#[derive(Debug, Args)]
pub(crate) struct AdaptArgs {
    /// Folder with the data sets (classification/…)
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
    /// Seeds of the fine-tuning, of what is compressed, and of the draws of few examples
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// The first of these seeds: a long measurement in parts
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    first_seed: u64,
    /// Fine-tune on these sets only (quality, compress, rationales)
    #[arg(long, value_delimiter = ',', value_name = "SET", value_parser = clap::builder::PossibleValuesParser::new(sets()))]
    sets: Vec<String>,
    /// Write each fine-tuning's figures here, and take those that are there already instead of training again
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Passes of the fine-tuning before compression
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// Training rows of the generative model; most of a student with reasons
    #[arg(long, default_value_t = 1200)]
    rows: usize,
    /// Students with and without reasons that are compared, of six ways to train one
    #[arg(long, default_value_t = 6)]
    arms: usize,
    /// Measure these parts only
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    only: Vec<Part>,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

impl AdaptArgs {
    /// The seeds of each measurement.
    fn seeds(&self) -> std::ops::Range<u64> {
        self.first_seed..self.first_seed.saturating_add(self.seeds)
    }
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Samples per second and memory beside PyTorch.
    Speed,
    /// Linear n-grams, static embeddings, a head on frozen embeddings.
    Students,
    /// Full fine-tuning on eight sets.
    Quality,
    /// 8 bits, and half the layers, on three sets.
    Compress,
    /// Entities and slots.
    Extract,
    /// Eight texts a label on Banking77.
    Fewshot,
    /// A generative model's adapter on SNIPS, through the gateway.
    Generative,
    /// A teacher's reasons as a second task, on five sets.
    Rationales,
}

/// What `--sets` may name.
fn sets() -> Vec<&'static str> {
    [&quality::SETS[..], &rationales::SETS].concat()
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Speed,
        Self::Students,
        Self::Quality,
        Self::Compress,
        Self::Extract,
        Self::Fewshot,
        Self::Generative,
        Self::Rationales,
    ];
}

#[derive(Serialize)]
struct Speed {
    #[serde(flatten)]
    ratios: speed::Ratios,
    rows: Vec<speed::Row>,
}

/// Runs the benchmark.
pub(crate) fn run(args: &AdaptArgs) -> Result<()> {
    let models = match &args.models {
        Some(dir) => dir.clone(),
        None => std::env::home_dir()
            .ok_or_else(|| Error::invalid("find the models: there is no home directory; give --models"))?
            .join(".understudy/models"),
    };
    let mut figures = serde_json::Map::new();
    for part in Part::ALL.into_iter().filter(|part| args.only.contains(part)) {
        figures.extend(measure(part, args, &models)?);
    }
    if args.json {
        println!("{}", serde_json::Value::Object(figures));
    }
    Ok(())
}

fn measure(part: Part, args: &AdaptArgs, models: &Path) -> Result<serde_json::Map<String, serde_json::Value>> {
    let base = models.join("minilm");
    let data = args
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")));
    let value = match part {
        Part::Speed => {
            let rows = speed::measure(args, &base)?;
            serde_json::to_value(Speed { ratios: speed::Ratios::of(&rows), rows })
        }
        Part::Students => {
            let students = students::measure(args.data.as_deref(), models)?;
            serde_json::to_value(there(students))
        }
        Part::Quality => serde_json::to_value(there(quality::measure(args, &data, models)?)),
        Part::Compress => serde_json::to_value(there(compress::measure(args, &data, models)?)),
        Part::Extract => serde_json::to_value(there(extract::measure(&data, models)?)),
        Part::Fewshot => serde_json::to_value(there(fewshot::measure(args, &data, models)?)),
        Part::Generative => serde_json::to_value(there(generative::measure(args, &data, models)?)),
        Part::Rationales => serde_json::to_value(there(rationales::measure(args, &data, models)?)),
    };
    let value = value.map_err(|e| Error::internal(format!("write figures: {e}")))?;
    Ok(value.as_object().cloned().unwrap_or_default())
}

fn there<T>(measured: Option<T>) -> Option<T> {
    if measured.is_none() {
        println!("skipped: the data sets are not there; --data names their folder");
    }
    measured
}
