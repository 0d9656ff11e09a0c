//! `understudy adapt quantize`: in how few bits is a model still the same?

mod generative;

use super::rows::read_examples;
use crate::{
    clock::SystemClock,
    commands::Context,
    terminal,
    training::{
        compress::{self, Answers, Compressed, Rows, Subject, Writing},
        whole,
    },
};
use clap::Args;
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use understudy_adapt::{
    artifact::Existing,
    compare::Change,
    quantize::{Bits, Precision, encode},
};
use understudy_core::{Clock, Error, ModelName, Result, Seed};
use understudy_model::{artifact::Dtype, encoder::weights::FILE, head::Head};

/// Points of accuracy that may be lost when nobody says otherwise.
const LOSS: f64 = 0.3;
/// Rows that judge a generative model when nobody says otherwise, those that weigh its columns, and most tokens of one.
const ROWS: usize = 64;
const IMPORTANCE_ROWS: usize = 128;
const MAX_TOKENS: u32 = 512;

#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// Folder of the artifact; of generative models also an installed one's name, or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Labelled rows that judge; those that the model learned from are left out. For a generative model conversations, or
    /// texts and answers; the rows that do not judge weigh the columns
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field or column that holds the label [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    label: Option<String>,
    /// Folder of the smaller model; without it the candidates are only compared
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name of the smaller model [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// Field or column that holds the right answer (generative models) [default: found by its name, or the last message]
    #[arg(long, value_name = "FIELD", conflicts_with = "label")]
    answer: Option<String>,
    /// Instructions for rows that have none (generative models) [default: those of the training]
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// What to try: f32, f16, int8, int8-words4, int4; for generative models llama.cpp's types (q4_k_m, …) or `all`
    /// [default: all five; one or two of llama.cpp's types for each number of bits]
    #[arg(long, value_delimiter = ',', value_name = "TYPES")]
    candidates: Vec<String>,
    /// Weights of at most so many megabytes
    #[arg(long, value_name = "MB")]
    at_most_mb: Option<f64>,
    /// Lose at most so many points of accuracy [default: 0.3, or any loss where --at-most-mb is given]
    #[arg(long, value_name = "POINTS")]
    at_most_loss: Option<f64>,
    /// Change the probabilities by at most so many nats a token (generative models) [default: 0.02, or any where another
    /// limit is given]
    #[arg(long, value_name = "NATS")]
    at_most_kl: Option<f64>,
    /// Rows that judge, at most (generative models) [default: 64]
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Rows whose prompts weigh the columns, at most; 0 weighs all alike (generative models) [default: 128]
    #[arg(long, value_name = "N")]
    importance_rows: Option<usize>,
    /// Rows with more tokens are left out (generative models) [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=8192))]
    max_tokens: Option<u32>,
    /// Threads (generative models; encoders are timed on one) [default: 0, all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Replace another artifact in the folder
    #[arg(long)]
    force: bool,
}

impl QuantizeArgs {
    /// The folder that it writes.
    pub(super) fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }
}

/// Weights and arithmetic of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    /// 32-bit floats: what the others are compared with
    F32,
    /// Weights in half precision, computed in f32
    F16,
    /// Weights and products in 8 bits
    Int8,
    /// As int8, the table of words in 4 bits
    Int8Words4,
    /// Weights in 4 bits, computed in 8
    Int4,
}

impl Candidate {
    const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Int8, Self::Int8Words4, Self::Int4];

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int8Words4 => "int8-words4",
            Self::Int4 => "int4",
        }
    }

    fn precision(self) -> Precision {
        let (layers, words) = match self {
            Self::F32 => (Bits::Kept, Bits::Kept),
            Self::F16 => (Bits::Half, Bits::Half),
            Self::Int8 => (Bits::Eight, Bits::Eight),
            Self::Int8Words4 => (Bits::Eight, Bits::Four),
            Self::Int4 => (Bits::Four, Bits::Four),
        };
        Precision { layers, words }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 | Self::F16 => Dtype::F32,
            Self::Int8 | Self::Int8Words4 | Self::Int4 => Dtype::Int8,
        }
    }
}

/// A candidate as it was measured.
struct Tried {
    candidate: Candidate,
    files: BTreeMap<String, Vec<u8>>,
    answers: Answers,
    change: Change,
}

impl Tried {
    fn bytes(&self) -> usize {
        self.files.get(FILE).map_or(0, Vec::len)
    }

    fn mb(&self) -> f64 {
        self.bytes() as f64 / 1e6
    }

    fn loss(&self) -> f64 {
        100.0 * self.change.loss.estimate
    }
}

/// Runs `understudy adapt quantize`.
pub(super) async fn run(args: QuantizeArgs, context: &Context) -> Result<()> {
    let budgets =
        [("at-most-mb", args.at_most_mb), ("at-most-loss", args.at_most_loss), ("at-most-kl", args.at_most_kl)];
    if let Some((name, _)) = budgets.iter().find(|(_, limit)| limit.is_some_and(|x| !x.is_finite() || x < 0.0)) {
        return Err(Error::invalid(format!("quantise: --{name} is a number from 0 on")).with_param(*name));
    }
    if whole::is_generative(&args.model, &context.models_dir)? {
        return generative::run(args, context).await;
    }
    let for_others = [
        ("at-most-kl", args.at_most_kl.is_some()),
        ("answer", args.answer.is_some()),
        ("system", args.system.is_some()),
        ("rows", args.rows.is_some()),
        ("importance-rows", args.importance_rows.is_some()),
        ("max-tokens", args.max_tokens.is_some()),
        ("threads", args.threads.is_some()),
    ];
    if let Some((flag, _)) = for_others.iter().find(|(_, given)| *given) {
        let what = format!("quantise {}: --{flag} is for generative models", args.model.display());
        return Err(Error::invalid(what).with_param(*flag));
    }
    let candidates = candidates(&args.candidates)?;
    let examples = read_examples(&args.data, args.text.as_deref(), args.label.as_deref())?;
    let subject = Subject::open(&args.model, &context.models_dir, examples, Rows::Judge)?;
    let bar = terminal::progress(0, "measuring");
    let tried = tried(&subject, &candidates);
    bar.finish_and_clear();
    let mut tried = tried?;
    terminal::say(table(&tried));
    terminal::note(format_args!(
        "  {}; loss against f32 in points; texts a second on one core, in turns",
        subject.judges()
    ));
    let rows: Vec<serde_json::Value> = tried.iter().map(figures).collect();
    let picked = pick(&tried, args.at_most_mb, args.at_most_loss);
    let mut result = json!({ "n": subject.test.len(), "candidates": rows });
    match &picked {
        Ok(picked) => {
            result["picked"] = json!(tried[*picked].candidate.name());
            terminal::say(format_args!("  picked: {}", tried[*picked].candidate.name()));
        }
        Err(error) => none_picked(error, &mut result),
    }
    let Some(out) = &args.out else { return crate::commands::finish(context, &result) };
    let candidates = u32::try_from(tried.len()).unwrap_or(u32::MAX);
    let Tried { candidate, files, answers, change } = tried.swap_remove(picked?);
    let compressed = Compressed {
        method: candidate.name().to_owned(),
        files,
        head: None,
        dtype: candidate.dtype(),
        change,
        answers: answers.of,
        bytes_before: Subject::bytes(&subject.folder)?,
        candidates,
    };
    let writing = Writing {
        name: ModelName::new(super::name_of(args.name.as_deref(), out, "quantised")),
        existing: if args.force { Existing::Replace } else { Existing::Keep },
        created: SystemClock::new().now(),
    };
    let artifact = compress::write(subject, compressed, writing, out).await?;
    terminal::say(format_args!("  {}   hash {}", crate::commands::shown(artifact.dir()), &artifact.hash()[..16]));
    result["artifact"] = json!(artifact.dir());
    result["hash"] = json!(artifact.hash());
    result["compression"] = json!(artifact.manifest().compression);
    crate::commands::finish(context, &result)
}

/// Says why no candidate was picked: only to compare them is no failure.
fn none_picked(why: &Error, result: &mut serde_json::Value) {
    terminal::say(format_args!("  {}", terminal::verdict(&why.to_string(), false)));
    result["picked"] = serde_json::Value::Null;
    result["none_picked"] = json!(why.to_string());
}

fn candidates(named: &[String]) -> Result<Vec<Candidate>> {
    if named.is_empty() {
        return Ok(Candidate::ALL.to_vec());
    }
    let find = |name: &String| {
        Candidate::ALL.into_iter().find(|candidate| candidate.name() == name.as_str()).ok_or_else(|| {
            let known = Candidate::ALL.map(Candidate::name).join(", ");
            Error::invalid(format!("try `{name}`: an encoder's types are {known}")).with_param("candidates")
        })
    };
    named.iter().map(find).collect()
}

/// Makes and measures the candidates; f32 comes first, whether it was asked for or not.
fn tried(subject: &Subject, candidates: &[Candidate]) -> Result<Vec<Tried>> {
    let wanted: Vec<Candidate> = Candidate::ALL
        .into_iter()
        .filter(|candidate| *candidate == Candidate::F32 || candidates.contains(candidate))
        .collect();
    let files = wanted.iter().map(|candidate| encode(&subject.folder, candidate.precision()));
    let files = files.collect::<Result<Vec<_>>>()?;
    let staged = files.iter().map(compress::staged).collect::<Result<Vec<_>>>()?;
    let head = subject.artifact.head();
    let models: Vec<(&Path, Dtype, &Head)> =
        staged.iter().zip(&wanted).map(|(folder, candidate)| (folder.path(), candidate.dtype(), head)).collect();
    let answers = subject.answers(&models)?;
    let first = answers[0].clone();
    let seed = Seed(0);
    let tried = wanted.into_iter().zip(files).zip(answers).map(|((candidate, files), answers)| {
        let change = subject.change(&first, &answers, seed);
        Tried { candidate, files, answers, change }
    });
    Ok(tried.collect())
}

/// The smallest that keeps within both limits; with a limit of size alone, the one that is most like f32.
fn pick(tried: &[Tried], at_most_mb: Option<f64>, at_most_loss: Option<f64>) -> Result<usize> {
    let most = at_most_loss.or_else(|| at_most_mb.is_none().then_some(LOSS));
    let fits = |t: &Tried| at_most_mb.is_none_or(|mb| t.mb() <= mb) && most.is_none_or(|loss| t.loss() <= loss);
    let fitting = tried.iter().enumerate().filter(|(_, t)| fits(t));
    let best = match most {
        Some(_) => fitting.min_by_key(|(_, t)| t.bytes()),
        None => fitting.min_by(|(_, a), (_, b)| a.change.kl.estimate.total_cmp(&b.change.kl.estimate)),
    };
    best.map(|(index, _)| index).ok_or_else(|| {
        let limits = [at_most_mb.map(|mb| format!("{mb} MB")), most.map(|loss| format!("{loss} points lost"))];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        Error::invalid(format!(
            "pick a candidate: none keeps within {}; allow more, or prune first (adapt prune)",
            limits.join(" and ")
        ))
    })
}

fn table(tried: &[Tried]) -> impl std::fmt::Display {
    let points = |x: f64| format!("{:.2}", 100.0 * x);
    let rows = tried.iter().map(|t| {
        let Change { accuracy, loss, kl, flips, .. } = &t.change;
        vec![
            t.candidate.name().to_owned(),
            format!("{:.1}", t.mb()),
            format!("{:.0}", t.answers.per_second()),
            format!("{} % [{}, {}]", points(accuracy.estimate), points(accuracy.low), points(accuracy.high)),
            format!("{} [{}, {}]", points(loss.estimate), points(loss.low), points(loss.high)),
            format!("{:.5}", kl.estimate),
            format!("{} %", points(flips.estimate)),
        ]
    });
    let header = ["weights", "MB", "texts/s", "accuracy", "loss", "KL", "flips"];
    terminal::table(&header, &[1, 2, 3, 4, 5, 6], rows)
}

fn figures(tried: &Tried) -> serde_json::Value {
    json!({
        "candidate": tried.candidate.name(), "mb": tried.mb(), "texts_per_s": tried.answers.per_second(),
        "accuracy": tried.change.accuracy, "loss": tried.change.loss, "kl": tried.change.kl,
        "flips": tried.change.flips,
    })
}
