//! Encoder speed beside ONNX Runtime in the same run, and what int8 costs in accuracy.

pub(crate) mod accuracy;
mod peer;

use clap::Args;
use peer::Peer;
use serde::Serialize;
use std::{hint::black_box, path::PathBuf, time::Instant};
use understudy_core::{Error, Result};
use understudy_model::encoder::{Dtype, Encoder, EncoderOptions, Scratch, Tokens, instruction_set};

/// Times MiniLM on one thread beside ONNX Runtime, and measures int8's loss of accuracy on Banking77.
#[derive(Debug, Args)]
pub(crate) struct EncoderArgs {
    /// Folder with the data sets (classification/banking77)
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_DATA")]
    data: Option<PathBuf>,
    /// Folder with the installed models [default: ~/.understudy/models]
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_MODELS")]
    models: Option<PathBuf>,
    /// Python with numpy, onnx and onnxruntime [default: .venv/bin/python if it exists, else python3]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Rounds of each shape; ours and theirs take turns
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Texts × tokens.
const SHAPES: [(usize, usize); 4] = [(1, 16), (1, 128), (32, 16), (32, 128)];
/// Embeddings of both engines must agree this well in f32, or they do not compute the same thing.
const AGREE_F32: f32 = 1e-3;

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    int8_accuracy_loss: Option<f64>,
    int8_accuracy_loss_interval: Option<[f64; 2]>,
    n: usize,
}

#[derive(Serialize)]
struct Row {
    shape: String,
    dtype: &'static str,
    ms: f64,
    onnxruntime_ms: f64,
    ratio: f64,
    ms_min: f64,
    onnxruntime_ms_min: f64,
}

/// Runs the benchmark.
pub(crate) fn run(args: &EncoderArgs) -> Result<()> {
    let models = match &args.models {
        Some(dir) => dir.clone(),
        None => std::env::home_dir()
            .ok_or_else(|| Error::invalid("find the models: there is no home directory; give --models"))?
            .join(".understudy/models"),
    };
    let dir = models.join("minilm");
    let load = |dtype| {
        let options = EncoderOptions::cut(dtype, 256);
        Encoder::load(&dir, &options).map_err(|e| e.context("run `understudy pull minilm` first"))
    };
    let encoders = [load(Dtype::F32)?, load(Dtype::Int8)?];
    let mut peer = Peer::start(args.python.as_deref(), &dir)?;
    println!(
        "MiniLM, one thread, ms per call (batch × tokens), {} alternating rounds; int8 kernel {}; ONNX Runtime {}",
        args.rounds,
        instruction_set(),
        peer.version
    );
    println!("{:>7} {:>5} {:>9} {:>9} {:>9} {:>9} {:>7}", "shape", "dtype", "ours", "theirs", "min", "min", "ratio");
    let mut rows = Vec::new();
    for encoder in &encoders {
        for (texts, tokens) in SHAPES {
            let row = time(encoder, &mut peer, texts, tokens, args.rounds.max(1))?;
            println!(
                "{:>7} {:>5} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>7.2}",
                row.shape, row.dtype, row.ms, row.onnxruntime_ms, row.ms_min, row.onnxruntime_ms_min, row.ratio
            );
            rows.push(row);
        }
    }
    drop(peer);
    let mut report = Report { rows, int8_accuracy_loss: None, int8_accuracy_loss_interval: None, n: 0 };
    match accuracy::int8_loss(args.data.as_deref(), encoders)? {
        Some(loss) => {
            println!(
                "Banking77, frozen embeddings and logistic regression: f32 {:.2} %, int8 {:.2} %; int8 loses {:.2} points \
                 (95 % interval {:.2} … {:.2}, n = {})",
                loss.accuracy_f32 * 100.0,
                loss.accuracy_int8 * 100.0,
                loss.loss.estimate * 100.0,
                loss.loss.low * 100.0,
                loss.loss.high * 100.0,
                loss.n
            );
            report.int8_accuracy_loss = Some(loss.loss.estimate * 100.0);
            report.int8_accuracy_loss_interval = Some([loss.loss.low * 100.0, loss.loss.high * 100.0]);
            report.n = loss.n;
        }
        None => println!("skipped: accuracy of int8; no classification/banking77 in the data folder (give --data)"),
    }
    if args.json {
        let line = serde_json::to_string(&report).map_err(|e| Error::internal(format!("write the report: {e}")))?;
        println!("{line}");
    }
    Ok(())
}

/// Times one shape: rounds of ours and theirs in turn, so that whatever else runs on the machine hits both.
fn time(encoder: &Encoder, peer: &mut Peer, texts: usize, tokens: usize, rounds: usize) -> Result<Row> {
    let ids = ids(texts, tokens);
    let batch: Vec<Tokens> = ids.iter().cloned().map(Tokens::from_ids).collect::<Result<_>>()?;
    let mut scratch = Scratch::default();
    let dtype = encoder.dtype();
    // Short calls are repeated within a round, so that a round of them lasts as long as one of long calls.
    let calls = (2048 / (texts * tokens)).clamp(1, 32);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut difference = 0f32;
    for round in 0..=rounds {
        let mut times = Vec::new();
        let mut vectors = Vec::new();
        for _ in 0..calls {
            let start = Instant::now();
            vectors = black_box(encoder.embed(black_box(&batch), &mut scratch));
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let answer = peer.run(dtype, &ids, calls)?;
        // The first round warms caches and clocks up on both sides.
        if round > 0 {
            ours.extend(times);
            theirs.extend(answer.ms);
        }
        for (a, b) in vectors.iter().flatten().zip(answer.embeddings.iter().flatten()) {
            difference = difference.max((a - b).abs());
        }
    }
    if dtype == Dtype::F32 && difference > AGREE_F32 {
        return Err(Error::internal(format!(
            "compare with ONNX Runtime: the f32 embeddings differ by {difference}; the two do not run the same model"
        )));
    }
    let (ms, onnxruntime_ms) = (median(&mut ours), median(&mut theirs));
    Ok(Row {
        shape: format!("{texts}x{tokens}"),
        dtype: dtype.as_str(),
        ms,
        onnxruntime_ms,
        ratio: onnxruntime_ms / ms,
        ms_min: ours[0],
        onnxruntime_ms_min: theirs[0],
    })
}

/// Texts of random words, the same in every run.
fn ids(texts: usize, tokens: usize) -> Vec<Vec<u32>> {
    let mut state = 12_345u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        2000 + (state >> 8) % 20_000
    };
    let mut text = || {
        let words = (2..tokens).map(|_| word());
        std::iter::once(101).chain(words).chain(std::iter::once(102)).collect()
    };
    (0..texts).map(|_| text()).collect()
}

/// Sorts `times` and returns the middle one.
fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}
