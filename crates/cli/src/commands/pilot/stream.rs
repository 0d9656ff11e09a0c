//! `understudy pilot stream`: what would happen if a student started from nothing on this traffic?
//!
//! A forecast of the learning phase from recorded answers of the large model, over several random orders. It carries no
//! certificate; what a certificate would allow on the same stream stands beside it.

mod certified;
mod page;
mod show;

use crate::{commands::Context, compose, report::ReportArg, terminal};
use clap::Args;
use std::{collections::BTreeMap, path::PathBuf};
use understudy_adapt::online::{
    CheckedOnlineParams, OnlineParams,
    forecast::{Policy, Recording, Request, Stream, Tally},
};
use understudy_core::{Embedder, Error, Outcome, Result, Seed};
use understudy_model::{
    catalogue::Kind,
    encoder::{Dtype, Encoder, EncoderOptions},
    installed,
    service::{EncoderService, ServiceOptions},
};

/// Texts that are handed to the encoder together.
const BATCH: usize = 64;
/// Requests between fits of the baseline, and its thresholds.
const BASELINE_EVERY: usize = 150;
const BASELINE_THRESHOLDS: [f64; 2] = [0.5, 0.6];

#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// Recorded outcomes, one JSON object a line; `.zst` is unpacked
    #[arg(long, value_name = "FILE")]
    outcomes: PathBuf,
    /// The large model's name in the outcomes
    #[arg(long, value_name = "NAME")]
    large: String,
    /// The encoder that the student stands on
    #[arg(long, value_name = "NAME", default_value = "minilm")]
    base: String,
    /// Random orders of the requests
    #[arg(long, value_name = "N", default_value_t = 5)]
    orders: u64,
    /// Seed of orders and audits
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Largest share of all requests that may be answered otherwise than the large model would, as estimated
    #[arg(long, value_name = "SHARE", default_value_t = OnlineParams::default().budget)]
    budget: f64,
    /// Least estimated chance of agreement of an answer that is kept
    #[arg(long, value_name = "P", default_value_t = OnlineParams::default().least_agreement)]
    least_agreement: f64,
    /// Share of the requests that would be kept and are asked all the same, to check
    #[arg(long, value_name = "SHARE", default_value_t = OnlineParams::default().audit)]
    audit: f64,
    /// Certified stream beside it: largest allowed disagreement per request
    #[arg(long, value_name = "E", default_value_t = 0.05)]
    epsilon: f64,
    /// Certified stream beside it: probability with which its certificate may be wrong
    #[arg(long, value_name = "D", default_value_t = 0.05)]
    delta: f64,
    /// Tokens after which texts are cut
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    #[command(flatten)]
    report: ReportArg,
}

/// One way to run the stream, in each order.
struct Way {
    name: String,
    streams: Vec<Stream>,
}

impl Way {
    fn tallies(&self) -> Vec<Tally> {
        self.streams.iter().map(|stream| Tally::new(&stream.steps)).collect()
    }
}

/// Everything that was run.
struct Forecast {
    n: usize,
    left_out: usize,
    classes: usize,
    student: Way,
    certified: certified::Certified,
    baselines: Vec<Way>,
}

/// Runs `understudy pilot stream`.
pub(super) async fn run(args: StreamArgs, context: &Context) -> Result<()> {
    args.report.check()?;
    if args.orders == 0 {
        return Err(Error::invalid("run stream: --orders must be at least 1").with_param("orders"));
    }
    let params = OnlineParams {
        budget: args.budget,
        least_agreement: args.least_agreement,
        audit: args.audit,
        ..Default::default()
    }
    .check()?;
    certified::check(args.epsilon, args.delta)?;
    let rows = recorded(&compose::read_outcomes(&args.outcomes)?, &args.large)?;
    let classes = rows.answers().len();
    let recording = embed(&rows, &args, context).await?;
    let (n, left_out) = (recording.requests.len(), rows.left_out);
    let terms = (args.epsilon, args.delta);
    let (orders, seed) = (args.orders, args.seed);
    let ran = tokio::task::spawn_blocking(move || all(&recording, params, orders, seed, terms)).await;
    let (student, certified, baselines) = ran.map_err(|e| Error::internal(format!("run stream: {e}")))??;
    let forecast = Forecast { n, left_out, classes, student, certified, baselines };
    show::show(&forecast, &args);
    let object = show::object(&forecast, &args);
    args.report.write(|| page::page(&forecast, &args), &object)?;
    crate::commands::finish(context, &object)
}

fn all(
    recording: &Recording,
    params: CheckedOnlineParams,
    orders: u64,
    seed: u64,
    (epsilon, delta): (f64, f64),
) -> Result<(Way, certified::Certified, Vec<Way>)> {
    let n = recording.requests.len() as u64;
    let bar = terminal::progress(n * orders * (2 + BASELINE_THRESHOLDS.len() as u64), "streaming");
    let way = |name: String, policy: Policy| {
        let one = |order: u64| {
            let seed = Seed(seed).derive(&format!("order {order}"));
            recording.run(policy, &recording.order(seed), seed, || bar.inc(1))
        };
        Ok::<_, Error>(Way { name, streams: (0..orders).map(one).collect::<Result<_>>()? })
    };
    let student = way("student".into(), Policy::Online(params))?;
    let certified = certified::run(recording, params, orders, Seed(seed), (epsilon, delta), || bar.inc(1))?;
    let baseline = |threshold: f64| {
        let name = format!("fixed threshold {threshold}, fitted every {BASELINE_EVERY}");
        way(name, Policy::Fixed { threshold, every: BASELINE_EVERY })
    };
    let baselines = BASELINE_THRESHOLDS.into_iter().map(baseline).collect::<Result<_>>()?;
    bar.finish_and_clear();
    Ok((student, certified, baselines))
}

/// A row of the recording: the text, the large model's answer, the right one where it is known.
struct Row {
    text: String,
    large: String,
    gold: Option<String>,
}

struct Rows {
    rows: Vec<Row>,
    /// Rows without an answer of the large model.
    left_out: usize,
}

impl Rows {
    /// The different answers, sorted.
    fn answers(&self) -> Vec<&str> {
        let mut answers: Vec<&str> = self.rows.iter().map(|row| row.large.as_str()).collect();
        answers.sort_unstable();
        answers.dedup();
        answers
    }
}

fn recorded(outcomes: &[Outcome], large: &str) -> Result<Rows> {
    if !outcomes.iter().any(|o| o.models.contains_key(large)) {
        let known: std::collections::BTreeSet<&str> =
            outcomes.iter().flat_map(|o| o.models.keys().map(String::as_str)).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Error::not_found(format!("find model `{large}` in the outcomes: they have {known}")));
    }
    let row = |outcome: &Outcome| {
        let answer = outcome.models.get(large)?.answer.as_deref()?.trim();
        (!answer.is_empty()).then(|| Row {
            text: outcome.prompt.clone(),
            large: answer.to_owned(),
            gold: outcome.label.as_deref().map(|label| label.trim().to_owned()),
        })
    };
    let rows: Vec<Row> = outcomes.iter().filter_map(row).collect();
    let rows = Rows { left_out: outcomes.len() - rows.len(), rows };
    let answers = rows.answers().len();
    if answers < 2 || answers * 2 > rows.rows.len() {
        return Err(Error::data(format!(
            "run stream: `{large}` gave {answers} different answers to {} requests; a student learns labels, which are \
             few and repeat",
            rows.rows.len()
        )));
    }
    Ok(rows)
}

/// Embeds the texts and the names of the answers, `card_arrival` as "card arrival".
async fn embed(rows: &Rows, args: &StreamArgs, context: &Context) -> Result<Recording> {
    let installed = installed::load(&context.models_dir, &args.base)?;
    if installed.kind != Kind::Encoder {
        return Err(Error::invalid(format!("stream on `{}`: it is not an encoder", args.base)).with_param("base"));
    }
    let options = EncoderOptions::cut(Dtype::F32, args.max_tokens);
    let service = EncoderService::start(Encoder::load(installed.dir(), &options)?, ServiceOptions::default());
    let answers = rows.answers();
    let texts: Vec<String> = rows
        .rows
        .iter()
        .map(|row| row.text.clone())
        .chain(answers.iter().map(|answer| answer.replace(['_', '-'], " ")))
        .collect();
    let bar = terminal::progress(texts.len() as u64, "embedding");
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        vectors.extend(service.embed(batch.to_vec()).await?.vectors);
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    let names = vectors.split_off(rows.rows.len());
    let names: BTreeMap<String, Vec<f32>> = answers.into_iter().map(str::to_owned).zip(names).collect();
    let request =
        |(row, embedding): (&Row, Vec<f32>)| Request { embedding, large: row.large.clone(), gold: row.gold.clone() };
    Ok(Recording { requests: rows.rows.iter().zip(vectors).map(request).collect(), names })
}
