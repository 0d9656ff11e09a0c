//! `understudy adapt prune`: how much of a model can go?

use super::{DtypeArg, positive, rows::read_examples};
use crate::{
    clock::SystemClock,
    commands::Context,
    terminal,
    training::{
        compress::{self, Writing},
        pruned::{self, PruneOptions, Pruned, Stage},
    },
};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use understudy_adapt::{artifact::Existing, encoder::GuideParams, prune::Size};
use understudy_core::{Clock, Error, ModelName, Result, Seed};

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Folder of the artifact
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Labelled rows: they say what matters, bring back what is lost, and those that the model did not learn from
    /// judge. Best the data of its training
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field or column that holds the label [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    label: Option<String>,
    /// Layers that remain
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Attention heads of a layer that remain
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Feed-forward units of a layer that remain
    #[arg(long, value_name = "N")]
    ffn: Option<usize>,
    /// Folder of the smaller model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the smaller model [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// Passes over the rows that recover
    #[arg(long, default_value_t = PruneOptions::recovery().epochs, value_name = "N")]
    epochs: usize,
    /// Highest learning rate of the recovery
    #[arg(long, default_value_t = PruneOptions::recovery().rate, value_name = "RATE")]
    rate: f64,
    /// Minutes after which the recovery ends, the learning rate having fallen by then [default: no limit]
    #[arg(long, value_name = "MINUTES", value_parser = positive)]
    minutes: Option<f64>,
    /// Share of the labels in what is learned; the rest are the unpruned model's answers
    #[arg(long, default_value_t = GuideParams::default().labels, value_name = "SHARE")]
    labels_share: f64,
    /// Weight of the unpruned model's states; 0 follows its answers only
    #[arg(long, default_value_t = GuideParams::default().states, value_name = "WEIGHT")]
    states: f64,
    /// Number type of the encoder [default: the model's]
    #[arg(long, value_enum)]
    dtype: Option<DtypeArg>,
    /// Labelled rows that only judge [default: those of --data that the model did not learn from]
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
    /// Share of the rows that judge where there is no --test and the model learned from none of them; of rows that it knows,
    /// those judge that it did not learn from
    #[arg(long, default_value_t = 0.1, value_name = "SHARE", conflicts_with = "test")]
    test_share: f64,
    /// Seed of the recovery
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; 0 uses all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// Replace another artifact in the folder
    #[arg(long)]
    force: bool,
}

impl PruneArgs {
    /// The folder that it writes.
    pub(super) fn out(&self) -> &Path {
        &self.out
    }
}

/// Runs `understudy adapt prune`.
pub(super) async fn run(args: PruneArgs, context: &Context) -> Result<()> {
    let examples = read_examples(&args.data, args.text.as_deref(), args.label.as_deref())?;
    let test = args.test.as_ref().map(|file| read_examples(file, args.text.as_deref(), args.label.as_deref()));
    let mut params = PruneOptions::recovery();
    params.epochs = args.epochs;
    params.rate = args.rate;
    params.seconds = args.minutes.map_or(params.seconds, |minutes| minutes * 60.0);
    let options = PruneOptions {
        size: Size { layers: args.layers, heads: args.heads, units: args.ffn },
        params,
        guide: GuideParams { labels: args.labels_share, states: args.states, ..GuideParams::default() },
        dtype: args.dtype.map(Into::into),
        test: test.transpose()?,
        test_share: args.test_share,
        seed: Seed(args.seed),
        threads: args.threads,
        models_dir: context.models_dir.clone(),
    };
    let bar = terminal::progress(0, "reading");
    let (model, out, told) = (args.model.clone(), args.out.clone(), bar.clone());
    let pruned = tokio::task::spawn_blocking(move || pruned::prune(&model, examples, &options, &out, &told)).await;
    bar.finish_and_clear();
    let pruned = pruned.map_err(|e| Error::internal(format!("prune: {e}")))??;
    let Pruned { subject, compressed, stages, kept, layer_losses, checkpoint } = pruned;
    terminal::say(table(&stages));
    terminal::note(format_args!("  {}; loss against the model before, in points", subject.judges()));
    let layers: Vec<String> = kept.layers.iter().map(|layer| (layer + 1).to_string()).collect();
    terminal::say(format_args!("  layers kept: {}", layers.join(", ")));
    let writing = Writing {
        name: ModelName::new(super::name_of(args.name.as_deref(), &args.out, "pruned")),
        existing: if args.force { Existing::Replace } else { Existing::Keep },
        created: SystemClock::new().now(),
    };
    let n = subject.test.len();
    let artifact = compress::write(subject, compressed, writing, &args.out).await?;
    // The model is safe; the state of its training is not needed any more. A file left behind does no harm.
    drop(std::fs::remove_file(checkpoint));
    terminal::say(format_args!("  {}   hash {}", crate::commands::shown(artifact.dir()), &artifact.hash()[..16]));
    let result = json!({
        "artifact": artifact.dir(), "hash": artifact.hash(), "n": n, "stages": stages, "layers_kept": kept.layers,
        "layer_losses": layer_losses, "metrics": artifact.manifest().metrics,
        "compression": artifact.manifest().compression,
    });
    crate::commands::finish(context, &result)
}

fn table(stages: &[Stage]) -> impl std::fmt::Display {
    let points = |x: f64| format!("{:.2}", 100.0 * x);
    let rows = stages.iter().map(|stage| {
        let change = &stage.change;
        vec![
            stage.stage.to_owned(),
            format!("{:.1}", stage.mb),
            format!("{:.0}", stage.texts_per_s),
            format!(
                "{} % [{}, {}]",
                points(change.accuracy.estimate),
                points(change.accuracy.low),
                points(change.accuracy.high)
            ),
            format!("{} [{}, {}]", points(change.loss.estimate), points(change.loss.low), points(change.loss.high)),
            format!("{:.4}", change.kl.estimate),
            format!("{} %", points(change.flips.estimate)),
        ]
    });
    terminal::table(&["stage", "MB", "texts/s", "accuracy", "loss", "KL", "flips"], &[1, 2, 3, 4, 5, 6], rows)
}
