//! A student that starts from nothing on recorded streams: calls to the large model, and accuracy against always
//! calling it, over random orders, beside fixed thresholds.

use clap::Args;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};
use understudy_adapt::online::{
    OnlineParams,
    forecast::{Policy, Recording, Request, Tally},
};
use understudy_core::{Error, Result, Seed, outcome};
use understudy_model::encoder::{Dtype, Encoder, EncoderOptions, Scratch};
use understudy_stats::mean::mean;

/// Streams recorded requests past a student that starts from nothing.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// Folder with the data sets (outcomes/recorded)
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Folder with the installed models [default: ~/.understudy/models]
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_MODELS")]
    models: Option<PathBuf>,
    /// Random orders of each stream
    #[arg(long, default_value_t = 5)]
    orders: u64,
    /// Seed of the orders
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Recorded sets and the large model whose answers are learnt.
const SETS: [(&str, &str); 2] = [("ocats_banking77", "gpt-label"), ("complaints_dev", "claude-3-7-sonnet")];
/// Most calls, and most accuracy lost, that `ocats_banking77` is to show.
const MOST_CALLS: f64 = 0.38;
const MOST_LOSS: f64 = 0.01;

#[derive(Debug, Serialize)]
struct Row {
    set: &'static str,
    large: &'static str,
    policy: String,
    n: usize,
    orders: u64,
    calls: f64,
    calls_interval: [f64; 2],
    calls_worst: f64,
    accuracy: f64,
    accuracy_large: f64,
    lost: f64,
    lost_interval: [f64; 2],
    lost_worst: f64,
    agreement_of_kept: f64,
    seconds_per_order: f64,
}

/// Runs the bench; with `--json` the last line is one object.
pub(crate) fn run(args: &StreamArgs) -> Result<()> {
    if args.orders < 2 {
        return Err(Error::invalid("run the stream bench: intervals need at least 2 orders"));
    }
    let data = args
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")));
    let models = args.models.clone().or_else(|| std::env::home_dir().map(|home| home.join(".understudy/models")));
    let minilm = models.unwrap_or_default().join("minilm");
    let encoder = Encoder::load(&minilm, &EncoderOptions::cut(Dtype::F32, 256))?;
    let params = OnlineParams::default();
    println!("{params:?}; mean over {} random orders ± half of the 95 % interval\n", args.orders);
    println!(
        "{:<16} {:<24} {:>18} {:>7} {:>9} {:>18} {:>7} {:>8} {:>6}",
        "set", "policy", "calls %", "worst", "accuracy", "points lost", "worst", "agree %", "s"
    );
    let mut policies = vec![("student".to_owned(), Policy::Online(params.check()?))];
    for threshold in [0.4, 0.5, 0.6] {
        policies.push((format!("threshold {threshold}, every 150"), Policy::Fixed { threshold, every: 150 }));
    }
    let mut rows = Vec::new();
    for (set, large) in SETS {
        let recording = recording(&data.join(format!("outcomes/recorded/{set}.jsonl.zst")), large, &encoder)?;
        for (name, policy) in &policies {
            rows.push(measure(set, large, name, &recording, *policy, args)?);
        }
    }
    let student = &rows[0];
    let holds = student.calls <= MOST_CALLS && student.lost <= MOST_LOSS;
    println!(
        "\n{}: at most {} % of calls at {} point lost: {}",
        student.set,
        100.0 * MOST_CALLS,
        100.0 * MOST_LOSS,
        if holds { "holds" } else { "does not hold" }
    );
    if args.json {
        let text = serde_json::to_string(&serde_json::json!({ "rows": rows, "holds": holds }))
            .map_err(|e| Error::internal(format!("write JSON: {e}")))?;
        println!("{text}");
    }
    if holds { Ok(()) } else { Err(Error::internal("hold the bar of the stream: see the table")) }
}

fn measure(
    set: &'static str,
    large: &'static str,
    name: &str,
    recording: &Recording,
    policy: Policy,
    args: &StreamArgs,
) -> Result<Row> {
    let start = Instant::now();
    let one = |order: u64| {
        let seed = Seed(args.seed).derive(&format!("order {order}"));
        Ok(Tally::new(&recording.run(policy, &recording.order(seed), seed, || ())?.steps))
    };
    let tallies = (0..args.orders).map(one).collect::<Result<Vec<Tally>>>()?;
    let seconds_per_order = start.elapsed().as_secs_f64() / args.orders as f64;
    let of = |figure: &dyn Fn(&Tally) -> f64| {
        let values: Vec<f64> = tallies.iter().map(figure).collect();
        (mean(&values, 0.95), values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    };
    let (calls, calls_worst) = of(&|t| t.calls);
    let (lost, lost_worst) = of(&|t| t.loss().unwrap_or(f64::NAN));
    let row = Row {
        set,
        large,
        policy: name.to_owned(),
        n: recording.requests.len(),
        orders: args.orders,
        calls: calls.estimate,
        calls_interval: [calls.low, calls.high],
        calls_worst,
        accuracy: of(&|t| t.accuracy.unwrap_or(f64::NAN)).0.estimate,
        accuracy_large: of(&|t| t.accuracy_large.unwrap_or(f64::NAN)).0.estimate,
        lost: lost.estimate,
        lost_interval: [lost.low, lost.high],
        lost_worst,
        agreement_of_kept: of(&|t| t.agreement.unwrap_or(f64::NAN)).0.estimate,
        seconds_per_order,
    };
    let plus = |bound: understudy_stats::Bound| {
        format!("{:.2} ± {:.2}", 100.0 * bound.estimate, 50.0 * (bound.high - bound.low))
    };
    println!(
        "{set:<16} {name:<24} {:>18} {:>7.2} {:>9.2} {:>18} {:>7.2} {:>8.2} {:>6.1}",
        plus(calls),
        100.0 * calls_worst,
        100.0 * row.accuracy,
        plus(lost),
        100.0 * lost_worst,
        100.0 * row.agreement_of_kept,
        seconds_per_order
    );
    Ok(row)
}

/// Reads a recording and embeds its texts and the names of its answers.
fn recording(file: &Path, large: &str, encoder: &Encoder) -> Result<Recording> {
    let name = file.display().to_string();
    let failed =
        |e: std::io::Error| Error::not_found(format!("read {name}: {e}; give the folder of the data sets with --data"));
    let decoder = zstd::Decoder::new(File::open(file).map_err(failed)?).map_err(failed)?;
    let outcomes = outcome::read(&name, BufReader::new(decoder))?;
    let rows: Vec<(&str, &str, Option<&str>)> = outcomes
        .iter()
        .filter_map(|o| Some((o.prompt.as_str(), o.models.get(large)?.answer.as_deref()?, o.label.as_deref())))
        .collect();
    let texts: Vec<String> = rows.iter().map(|(text, ..)| (*text).to_owned()).collect();
    let answers: std::collections::BTreeSet<&str> = rows.iter().map(|(_, answer, _)| *answer).collect();
    let read: Vec<String> = answers.iter().map(|answer| answer.replace(['_', '-'], " ")).collect();
    let vectors = embed(encoder, &texts)?;
    let names: BTreeMap<String, Vec<f32>> =
        answers.iter().map(|answer| (*answer).to_owned()).zip(embed(encoder, &read)?).collect();
    let request = |((_, large, gold), embedding): (&(&str, &str, Option<&str>), Vec<f32>)| Request {
        embedding,
        large: (*large).to_owned(),
        gold: gold.map(str::to_owned),
    };
    Ok(Recording { requests: rows.iter().zip(vectors).map(request).collect(), names })
}

/// Embeds on all cores, in order.
fn embed(encoder: &Encoder, texts: &[String]) -> Result<Vec<Vec<f32>>> {
    let tokens = texts.iter().map(|text| encoder.tokenize(text)).collect::<Result<Vec<_>>>()?;
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parts = tokens.chunks(tokens.len().div_ceil(threads).max(1));
    Ok(thread::scope(|scope| {
        let workers: Vec<_> = parts.map(|part| scope.spawn(|| encoder.embed(part, &mut Scratch::default()))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("embedding does not panic")).collect()
    }))
}
