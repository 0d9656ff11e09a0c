//! `understudy adapt distil`: from an encoder to a token table, with what each step costs.

use super::finetune::{show, summary};
use super::{DtypeArg, rows::read_examples};
use crate::{
    clock::SystemClock,
    commands::Context,
    terminal,
    training::{
        TrainOptions,
        distil::{self, DistilOptions},
    },
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};
use understudy_adapt::{artifact::Existing, rejection, table::TableParams};
use understudy_core::{Clock, ModelName, Result, Seed};
use understudy_model::artifact::MANIFEST;

#[derive(Debug, Args)]
pub(crate) struct DistilArgs {
    /// What to make
    #[arg(long, value_enum, default_value_t = To::Static)]
    to: To,
    /// Who teaches: an installed encoder, or the folder of a fine-tuned artifact
    #[arg(long, default_value = "minilm", value_name = "MODEL")]
    teacher: String,
    /// Labelled examples
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field or column that holds the label [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    label: Option<String>,
    /// Folder of the new model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the new model [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// Length of the vectors
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    width: u16,
    /// Give pairs of neighbouring tokens that this many texts have rows of their own; 0 gives none
    #[arg(long, default_value_t = 0, value_name = "N")]
    pairs: u32,
    /// The label of what belongs to none of the others
    #[arg(long, value_name = "LABEL")]
    out_of_scope: Option<String>,
    /// Share of the texts in scope that may be rejected wrongly
    #[arg(long, default_value_t = rejection::ALLOWANCE, value_name = "SHARE", requires = "out_of_scope")]
    out_of_scope_cost: f64,
    /// Number type of an installed teacher
    #[arg(long, value_enum, default_value_t = DtypeArg::Int8)]
    dtype: DtypeArg,
    /// Share of the examples that only measure
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    test_share: f64,
    /// Seed of splits, of the training and of intervals
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads of the teacher; 0 uses all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// Replace another artifact in the folder
    #[arg(long)]
    force: bool,
}

impl DistilArgs {
    /// The folder that it writes.
    pub(super) fn out(&self) -> &Path {
        &self.out
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// A vector for each token; Python's model2vec reads it too
    Static,
}

/// Runs `understudy adapt distil`.
pub(super) async fn run(args: DistilArgs, context: &Context) -> Result<()> {
    let To::Static = args.to;
    let examples = read_examples(&args.data, args.text.as_deref(), args.label.as_deref())?;
    let teacher = Path::new(&args.teacher).join(MANIFEST).exists().then(|| PathBuf::from(&args.teacher));
    let options = DistilOptions {
        train: TrainOptions {
            base: args.teacher.clone(),
            models_dir: context.models_dir.clone(),
            name: ModelName::new(super::name_of(args.name.as_deref(), &args.out, "static")),
            dtype: args.dtype.into(),
            out_of_scope: args.out_of_scope.clone().map(|label| (label, args.out_of_scope_cost)),
            test_share: args.test_share,
            seed: Seed(args.seed),
            threads: args.threads,
            existing: if args.force { Existing::Replace } else { Existing::Keep },
            created: SystemClock::new().now(),
            ..TrainOptions::default()
        },
        teacher,
        table: TableParams { width: args.width.into(), pairs_from: args.pairs, ..TableParams::default() },
    };
    let bar = terminal::progress(0, "asking the teacher");
    let distilled = distil::to_static(examples, options, &args.out, &bar).await;
    bar.finish_and_clear();
    let distilled = distilled?;
    let rows = distilled.steps.iter().map(|step| {
        let figure = |of: fn(&understudy_model::artifact::Metric) -> f64| {
            step.accuracy.as_ref().map_or_else(|| "–".to_owned(), |a| format!("{:.2} %", 100.0 * of(a)))
        };
        vec![step.step.to_owned(), figure(|a| a.estimate), figure(|a| a.low), figure(|a| a.high), step.about.clone()]
    });
    terminal::say(terminal::table(&["step", "accuracy", "low", "high", ""], &[1, 2, 3], rows));
    show(&distilled.trained);
    let mut result = summary(&distilled.trained);
    if let Some(fields) = result.as_object_mut() {
        fields.insert("steps".into(), json!(distilled.steps));
    }
    crate::commands::finish(context, &result)
}
