//! Adaptation: what trained models reach and how fast they are trained. Each part prints a table of its own; with `--json`
//! the last line has the figures of all parts.

mod students;

use clap::Args;
use std::path::PathBuf;
use understudy_core::{Error, Result};

/// Trains small models and measures them.
#[derive(Debug, Args)]
pub(crate) struct AdaptArgs {
    /// Folder with the data sets (classification/…)
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Folder with the installed models [default: ~/.understudy/models]
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_MODELS")]
    models: Option<PathBuf>,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
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
    match students::measure(args.data.as_deref(), &models)? {
        Some(students) => {
            let json = serde_json::to_value(students).map_err(|e| Error::internal(format!("write figures: {e}")))?;
            figures.extend(json.as_object().cloned().unwrap_or_default());
        }
        None => println!("skipped: the data sets are not there; --data names their folder"),
    }
    if args.json {
        println!("{}", serde_json::Value::Object(figures));
    }
    Ok(())
}
