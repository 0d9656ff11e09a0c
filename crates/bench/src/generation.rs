//! Generation: total tokens per second of the [`Generator`] against llama.cpp's own batching, which is a plain loop
//! over its bindings with the same file, prompts, threads, batch size and greedy choice, in the same run. The rounds
//! alternate; medians are compared. llama.cpp runs with one pool of cells for all sequences and with one pool each,
//! with as many cells as the generator has, and the faster of the two counts. Then adapters that share an engine.

mod adapters;

use futures_util::future::join_all;
use llama_cpp_2::{
    context::{LlamaContext, params::LlamaContextParams},
    llama_backend::LlamaBackend,
    llama_batch::LlamaBatch,
    model::{LlamaChatMessage, LlamaModel, params::LlamaModelParams},
    sampling::LlamaSampler,
    token::LlamaToken,
};
use serde_json::json;
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Instant,
};
use understudy_core::{Backend as _, Error, Message, Request, Result, Role, TraceId};
use understudy_model::generate::{Generator, GeneratorOptions, PrefixReuse, import_gguf};

/// Options of the bench.
#[derive(clap::Args)]
pub(crate) struct GenerationArgs {
    /// A GGUF file [default: SmolLM2-135M-Instruct as `understudy pull smollm2` installs it]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Threads that compute [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Rounds per concurrency
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tokens per answer
    #[arg(long, default_value_t = 64)]
    tokens: u32,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Cells of an answer besides its own tokens; no prompt is longer.
const PROMPT_CELLS: u32 = 448;
const BATCH: u32 = 512;
const SYSTEM: &str = "You are a helpful assistant. Answer in full sentences.";

/// Runs it.
pub(crate) async fn run(args: GenerationArgs) -> Result<()> {
    let path = match &args.model {
        Some(path) => import_gguf(path)?.path,
        None => installed()?,
    };
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    println!("{}, {threads} threads, {} tokens an answer, {} rounds", path.display(), args.tokens, args.rounds);
    println!(
        "{:>11}  {:>10}  {:>10}  {:>10}  {:>6}  tok/s, medians",
        "concurrency", "ours", "one pool", "pool each", "ratio"
    );
    let mut rows = Vec::new();
    for concurrency in [1, 4, 8] {
        let setup = Setup { path: &path, threads, concurrency, tokens: args.tokens };
        let rates = measure(&setup, args.rounds).await?;
        let theirs = rates.one_pool.max(rates.pool_each);
        let ratio = rates.ours / theirs;
        println!(
            "{concurrency:>11}  {:>10.1}  {:>10.1}  {:>10.1}  {ratio:>6.3}",
            rates.ours, rates.one_pool, rates.pool_each
        );
        rows.push(json!({
            "concurrency": concurrency,
            "tokens_per_s": rates.ours,
            "llama_cpp_tokens_per_s": theirs,
            "llama_cpp_one_pool_tokens_per_s": rates.one_pool,
            "llama_cpp_pool_each_tokens_per_s": rates.pool_each,
            "ratio": ratio,
        }));
    }
    println!();
    let adapters = adapters::measure(&path, threads, args.tokens, args.rounds).await?;
    if args.json {
        println!("{}", json!({ "rows": rows, "adapters": adapters }));
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Setup<'a> {
    path: &'a Path,
    threads: usize,
    concurrency: usize,
    tokens: u32,
}

/// Medians, in generated tokens per second over all answers.
struct Rates {
    ours: f64,
    one_pool: f64,
    pool_each: f64,
}

async fn measure(setup: &Setup<'_>, rounds: usize) -> Result<Rates> {
    let mut options = GeneratorOptions::new("bench".into());
    options.threads = setup.threads;
    options.context_tokens = PROMPT_CELLS + setup.tokens;
    options.max_batch = BATCH;
    options.max_sequences = sequences(setup);
    // Both sides compute every prompt in full.
    options.prefix_reuse = PrefixReuse::Off;
    let generator = Generator::load(setup.path, options)?;
    let peer = Peer::load(setup)?;
    let mut one_pool = peer.context(setup, true)?;
    let mut pool_each = peer.context(setup, false)?;

    let mut rates: [Vec<f64>; 3] = Default::default();
    // Round 0 warms up.
    for round in 0..=rounds {
        let prompts: Vec<String> = (0..setup.concurrency).map(|i| prompt(round * setup.concurrency + i)).collect();
        for prompt in &prompts {
            let (ours, theirs) = (generator.count_tokens(&messages(prompt))?, peer.tokens(prompt)?.len());
            if ours != theirs {
                return Err(failed(format!("its prompt has {theirs} tokens, the generator's {ours}")));
            }
        }
        for turn in 0..3 {
            let side = (round + turn) % 3;
            let start = Instant::now();
            let drawn = match side {
                0 => ours(&generator, &prompts, setup.tokens).await?,
                1 => peer.generate(&mut one_pool, &prompts, setup.tokens)?,
                _ => peer.generate(&mut pool_each, &prompts, setup.tokens)?,
            };
            let seconds = start.elapsed().as_secs_f64();
            if round > 0 {
                rates[side].push(drawn as f64 / seconds);
            }
        }
    }
    let [ours, one_pool, pool_each] = rates.map(median);
    Ok(Rates { ours, one_pool, pool_each })
}

async fn ours(generator: &Generator, prompts: &[String], tokens: u32) -> Result<u64> {
    let requests: Vec<Request> = prompts
        .iter()
        .map(|prompt| {
            let mut request = Request::new(TraceId::from_parts(0, 0), "bench".into(), messages(prompt));
            request.sampling.max_tokens = Some(tokens);
            request.sampling.temperature = Some(0.0);
            request
        })
        .collect();
    let mut drawn = 0;
    for answer in join_all(requests.iter().map(|request| generator.answer(request))).await {
        drawn += answer?.usage.output_tokens;
    }
    Ok(drawn)
}

fn messages(prompt: &str) -> Vec<Message> {
    [(Role::System, SYSTEM), (Role::User, prompt)].map(|(role, text)| Message { role, text: text.to_owned() }).into()
}

/// llama.cpp by itself.
struct Peer {
    model: LlamaModel,
}

/// Proof that llama.cpp is initialised, which the generator does. A static is never dropped; dropping it would shut
/// llama.cpp down.
static BACKEND: LlamaBackend = LlamaBackend {};

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("run llama.cpp's loop: {error}"))
}

impl Peer {
    fn load(setup: &Setup<'_>) -> Result<Self> {
        let model = LlamaModel::load_from_file(&BACKEND, setup.path, &LlamaModelParams::default()).map_err(failed)?;
        Ok(Self { model })
    }

    fn context(&self, setup: &Setup<'_>, unified: bool) -> Result<LlamaContext<'_>> {
        let threads = i32::try_from(setup.threads).unwrap_or(1);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new((PROMPT_CELLS + setup.tokens) * sequences(setup)))
            .with_n_batch(BATCH)
            .with_n_ubatch(BATCH)
            .with_n_seq_max(sequences(setup))
            .with_kv_unified(unified)
            .with_flash_attention_policy(1)
            .with_no_perf(true)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        self.model.new_context(&BACKEND, params).map_err(failed)
    }

    /// The prompt in the model's chat template.
    fn tokens(&self, prompt: &str) -> Result<Vec<LlamaToken>> {
        let template = self.model.chat_template(None).map_err(failed)?;
        let chat = [("system", SYSTEM), ("user", prompt)]
            .map(|(role, text)| LlamaChatMessage::new(role.to_owned(), text.to_owned()).map_err(failed));
        let chat: Vec<LlamaChatMessage> = chat.into_iter().collect::<Result<_>>()?;
        let text = self.model.apply_chat_template(&template, &chat, true).map_err(failed)?;
        Ok(self.model.vocab().tokenize(text.as_bytes(), false, true))
    }

    /// All prompts in full batches, then all answers step by step.
    fn generate(&self, context: &mut LlamaContext<'_>, prompts: &[String], tokens: u32) -> Result<u64> {
        context.clear_kv_cache();
        let vocab = self.model.vocab();
        let mut sampler = LlamaSampler::greedy();
        let mut batch = LlamaBatch::new(BATCH as usize, 1);
        let mut next: Vec<Option<LlamaToken>> = vec![None; prompts.len()];
        let mut positions: Vec<i32> = Vec::new();
        let mut outputs: Vec<(usize, i32)> = Vec::new();
        let mut drawn = 0;
        for (sequence, prompt) in (0i32..).zip(prompts) {
            let prompt = self.tokens(prompt)?;
            for (at, token) in (0i32..).zip(&prompt) {
                if batch.n_tokens() == BATCH.cast_signed() {
                    context.decode(&mut batch).map_err(failed)?;
                    for (answer, output) in outputs.drain(..) {
                        next[answer] = Some(sampler.sample(context, output));
                    }
                    batch.clear();
                }
                let last = at as usize + 1 == prompt.len();
                if last {
                    outputs.push((positions.len(), batch.n_tokens()));
                    positions.push(at + 1);
                }
                batch.add(*token, at, &[sequence], last).map_err(failed)?;
            }
        }
        let mut left = vec![tokens; prompts.len()];
        loop {
            context.decode(&mut batch).map_err(failed)?;
            for (answer, output) in outputs.drain(..) {
                next[answer] = Some(sampler.sample(context, output));
            }
            batch.clear();
            for answer in 0..prompts.len() {
                let Some(token) = next[answer].take() else { continue };
                drawn += 1;
                left[answer] -= 1;
                if vocab.is_eog(token) || left[answer] == 0 {
                    continue;
                }
                outputs.push((answer, batch.n_tokens()));
                let sequence = i32::try_from(answer).map_err(failed)?;
                batch.add(token, positions[answer], &[sequence], true).map_err(failed)?;
                positions[answer] += 1;
            }
            if batch.n_tokens() == 0 {
                return Ok(drawn);
            }
        }
    }
}

fn sequences(setup: &Setup<'_>) -> u32 {
    u32::try_from(setup.concurrency).unwrap_or(1)
}

/// Distinct prompts of about 120 tokens.
fn prompt(n: usize) -> String {
    const SUBJECTS: [&str; 8] =
        ["rivers", "bridges", "trains", "markets", "gardens", "harbours", "mountains", "libraries"];
    let subject = SUBJECTS[n % SUBJECTS.len()];
    let notes: Vec<String> = (0..6)
        .map(|i| {
            format!(
                "note {} about {subject}: visitor {} came at {} o'clock and stayed {} minutes.",
                i + 1,
                n * 7 + i,
                8 + i,
                10 + n + i
            )
        })
        .collect();
    format!(
        "Here are some notes. {} Write a long report about these notes and about {subject} in general.",
        notes.join(" ")
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The model that `understudy pull smollm2` installs.
fn installed() -> Result<PathBuf> {
    let folder = std::env::var("UNDERSTUDY_MODELS")
        .map(PathBuf::from)
        .or_else(|_| std::env::var("HOME").map(|home| PathBuf::from(home).join(".understudy/models")))
        .map_err(|_| Error::invalid("find the models: set UNDERSTUDY_MODELS or HOME"))?
        .join("smollm2");
    let missing = || {
        Error::not_found(format!(
            "find a GGUF file in {}: run `understudy pull smollm2`, or give --model",
            folder.display()
        ))
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|_| missing())?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
        .collect();
    files.sort();
    Ok(import_gguf(files.first().ok_or_else(missing)?)?.path)
}
