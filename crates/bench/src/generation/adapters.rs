//! Adapters of one base: on one engine that switches between them, and each on an engine of its own, which is what there is
//! without switching. The same requests in the same run; the rounds alternate.

use super::{BATCH, PROMPT_CELLS, failed, median, ours, prompt};
use serde_json::{Value, json};
use std::{path::Path, time::Instant};
use understudy_adapt::llama::{LlamaLora, LlamaNetwork, Weights};
use understudy_core::{Result, Seed};
use understudy_model::generate::{Generator, GeneratorOptions, PrefixReuse};

/// Requests at a time, and the numbers of adapters over which they are spread.
const REQUESTS: usize = 8;
const ADAPTERS: [usize; 4] = [1, 2, 4, 8];

/// Medians of total tokens per second, and the memory that is the process's own (weights are mapped and not in it).
pub(super) async fn measure(base: &Path, threads: usize, tokens: u32, rounds: usize) -> Result<Vec<Value>> {
    let folder = tempfile::tempdir().map_err(failed)?;
    let file = folder.path().join("adapter.gguf");
    let positions = (PROMPT_CELLS + tokens) as usize;
    // As training begins: what it adds is zero, and costs what any other adapter does.
    let network = LlamaNetwork::new(Weights::from_gguf(base)?, LlamaLora::default(), Seed(1), positions)?;
    std::fs::write(&file, network.gguf_adapter("bench")?).map_err(failed)?;
    drop(network);
    println!("{:>8}  {:>10}  {:>10}  {:>6}  {:>10}  {:>10}", "adapters", "one engine", "own", "ratio", "MB", "MB own");
    let mut rows = Vec::new();
    for adapters in ADAPTERS {
        let options = |i: usize, sequences: usize, threads: usize| {
            // Two names with one file would share an adapter.
            let own = folder.path().join(format!("adapter-{i}.gguf"));
            std::fs::copy(&file, &own).map_err(failed)?;
            let mut options = GeneratorOptions::new(format!("adapter-{i}").as_str().into());
            options.threads = threads;
            options.context_tokens = PROMPT_CELLS + tokens;
            options.max_batch = BATCH;
            options.max_sequences = u32::try_from(sequences).map_err(failed)?;
            options.prefix_reuse = PrefixReuse::Off;
            options.adapter = Some(own);
            Ok(options)
        };
        let before = own_memory();
        let all: Vec<GeneratorOptions> = (0..adapters).map(|i| options(i, REQUESTS, threads)).collect::<Result<_>>()?;
        let shared = Generator::load_all(base, all)?;
        answer(&shared, 0, tokens).await?;
        let memory = own_memory() - before;
        // More threads than cores stand in each other's way for minutes.
        let (sequences, each) = (REQUESTS.div_ceil(adapters), (threads / adapters).max(1));
        let own: Vec<Generator> =
            (0..adapters).map(|i| Generator::load(base, options(i, sequences, each)?)).collect::<Result<_>>()?;
        answer(&own, 0, tokens).await?;
        let memory_own = own_memory() - before - memory;
        let mut rates: [Vec<f64>; 2] = Default::default();
        for round in 1..=rounds {
            for turn in 0..2 {
                let side = (round + turn) % 2;
                let start = Instant::now();
                let drawn = answer(if side == 0 { &shared } else { &own }, round, tokens).await?;
                rates[side].push(drawn as f64 / start.elapsed().as_secs_f64());
            }
        }
        let [one, each] = rates.map(median);
        let ratio = one / each;
        println!("{adapters:>8}  {one:>10.1}  {each:>10.1}  {ratio:>6.3}  {memory:>10.0}  {memory_own:>10.0}");
        rows.push(json!({
            "adapters": adapters, "requests": REQUESTS, "tokens_per_s": one, "own_engines_tokens_per_s": each,
            "ratio": ratio, "memory_mb": memory, "own_engines_memory_mb": memory_own,
        }));
    }
    Ok(rows)
}

/// A round of requests, spread over the generators. Returns the tokens of all answers.
async fn answer(generators: &[Generator], round: usize, tokens: u32) -> Result<u64> {
    let shares = generators.iter().enumerate().map(|(i, generator)| {
        let mine = (0..REQUESTS).filter(|request| request % generators.len() == i);
        let prompts: Vec<String> = mine.map(|request| prompt(round * REQUESTS + request)).collect();
        async move { ours(generator, &prompts, tokens).await }
    });
    futures_util::future::try_join_all(shares).await.map(|drawn| drawn.iter().sum())
}

/// Megabytes that no file backs.
fn own_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1024.0
}
