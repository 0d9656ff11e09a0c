//! Samples per second of full fine-tuning and of LoRA, ours and PyTorch's taking turns.

use super::{AdaptArgs, peer::Peer};
use crate::reference::plain;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use understudy_core::Result;

/// Texts of a step.
const BATCH: usize = 16;
/// Classes of the head.
const CLASSES: usize = 8;

/// One method and length.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    method: &'static str,
    tokens: usize,
    samples_per_s: f64,
    pytorch_samples_per_s: f64,
    ratio: f64,
    /// The quickest step of each, which other work on the machine disturbs least.
    ratio_of_best: f64,
    peak_mb: Option<f64>,
    pytorch_peak_mb: Option<f64>,
    steps: usize,
}

/// Ours / PyTorch's samples per second.
#[derive(Debug, Default, Serialize)]
pub(super) struct Ratios {
    full_ratio_32: Option<f64>,
    full_ratio_128: Option<f64>,
    lora_ratio_32: Option<f64>,
    lora_ratio_128: Option<f64>,
}

impl Ratios {
    pub(super) fn of(rows: &[Row]) -> Self {
        let ratio = |method: &str, tokens: usize| {
            rows.iter().find(|row| row.method == method && row.tokens == tokens).map(|row| row.ratio)
        };
        Self {
            full_ratio_32: ratio("full", 32),
            full_ratio_128: ratio("full", 128),
            lora_ratio_32: ratio("lora", 32),
            lora_ratio_128: ratio("lora", 128),
        }
    }
}

/// Measures all methods and lengths.
pub(super) fn measure(args: &AdaptArgs, base: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (method, scope) in [
        ("full", json!({"full": {"words": false, "frozen_layers": 0}})),
        ("lora", json!({"lora": {"rank": 8, "alpha": 16.0, "targets": ["query", "value"]}})),
    ] {
        // Short texts first: the peak belongs to the longer ones, which come last in both processes.
        let mut ours = Peer::ours()?;
        let (mut theirs, version) = Peer::pytorch(args.python.as_deref(), base, method, args.threads)?;
        if rows.is_empty() {
            println!(
                "MiniLM, batch {BATCH}, {} threads, dropout {}, samples/s, {} alternating rounds; PyTorch {version}",
                args.threads, args.dropout, args.rounds
            );
            println!(
                "{:>6} {:>6} {:>9} {:>9} {:>7} {:>10} {:>9} {:>9}",
                "method", "tokens", "ours", "theirs", "ratio", "of best", "peak MB", "theirs"
            );
        }
        for tokens in [32, 128] {
            let row = time(args, [&mut ours, &mut theirs], base, method, &scope, tokens)?;
            let memory = |mb: Option<f64>| mb.map_or("?".to_owned(), |mb| format!("{mb:.0}"));
            println!(
                "{:>6} {:>6} {:>9.1} {:>9.1} {:>7.2} {:>10.2} {:>9} {:>9}",
                row.method,
                row.tokens,
                row.samples_per_s,
                row.pytorch_samples_per_s,
                row.ratio,
                row.ratio_of_best,
                memory(row.peak_mb),
                memory(row.pytorch_peak_mb)
            );
            rows.push(row);
        }
    }
    Ok(rows)
}

fn time(
    args: &AdaptArgs,
    [ours, theirs]: [&mut Peer; 2],
    base: &Path,
    method: &'static str,
    scope: &Value,
    tokens: usize,
) -> Result<Row> {
    // The first step of a round warms caches and buffers up.
    let steps = if tokens <= 32 { 7 } else { 3 };
    let (ids, labels) = texts(tokens);
    let batch: Vec<(&Vec<u32>, &usize)> = ids.iter().zip(&labels).collect();
    let mut params = plain(2e-5);
    (params.dropout, params.head_dropout) = (args.dropout, args.dropout);
    let arguments = json!({
        "folder": base, "scope": scope, "level": "vector", "params": params, "outputs": CLASSES,
        "batches": vec![&batch; steps], "threads": args.threads,
    });
    let question = json!({"function": "training_steps", "arguments": arguments});
    let peers = json!({"ids": ids, "labels": labels, "steps": steps, "dropout": args.dropout});
    let (mut mine, mut other, mut peaks) = (Vec::new(), Vec::new(), [None, None]);
    for _ in 0..args.rounds.max(1) {
        let answer = ours.ask(&question)?;
        mine.extend(times(&answer["value"]));
        peaks[0] = answer["value"]["peak_mb"].as_f64();
        let answer = theirs.ask(&peers)?;
        other.extend(times(&answer));
        peaks[1] = answer["peak_mb"].as_f64();
    }
    let (ms, pytorch_ms) = (median(&mut mine), median(&mut other));
    Ok(Row {
        method,
        tokens,
        samples_per_s: BATCH as f64 * 1e3 / ms,
        pytorch_samples_per_s: BATCH as f64 * 1e3 / pytorch_ms,
        ratio: pytorch_ms / ms,
        ratio_of_best: other[0] / mine[0],
        peak_mb: peaks[0],
        pytorch_peak_mb: peaks[1],
        steps: mine.len(),
    })
}

/// The milliseconds of all steps but the first.
fn times(answer: &Value) -> Vec<f64> {
    answer["ms"].as_array().into_iter().flatten().skip(1).filter_map(Value::as_f64).collect()
}

/// Sorts `times` and returns the middle one.
fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Texts of random words, the same in every run.
fn texts(tokens: usize) -> (Vec<Vec<u32>>, Vec<usize>) {
    let mut state = 12_345u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        2000 + (state >> 8) % 20_000
    };
    let mut text = |_| std::iter::once(101).chain((2..tokens).map(|_| word())).chain(std::iter::once(102)).collect();
    ((0..BATCH).map(&mut text).collect(), (0..BATCH).map(|i| i % CLASSES).collect())
}
