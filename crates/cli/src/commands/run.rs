//! `understudy run MODEL "…"`: asks a small generative model and streams its answer to the terminal.
#![expect(clippy::print_stdout, reason = "streams an answer to the terminal")]

use super::Context;
use crate::{clock::SystemClock, compose::cores, generative::Generative, terminal};
use clap::Args;
use futures_util::StreamExt;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use understudy_core::{
    Backend, Clock, Error, Event, Message, ModelName, Request, Result, Role, TraceId,
    request::{Delivery, OutputFormat, Sampling},
};
use understudy_model::{
    catalogue::Kind,
    generate::{Generator, GeneratorOptions},
    installed,
};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// An installed generative model, or the folder of one that was fine-tuned
    model: String,
    /// The question; standard input when it is left out
    prompt: Option<String>,
    /// Instructions for the model
    #[arg(long)]
    system: Option<String>,
    /// Most tokens to write
    #[arg(long, default_value_t = 512)]
    max_tokens: u32,
    /// 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Seed of the sampler
    #[arg(long)]
    seed: Option<u64>,
    /// A file with a JSON Schema that the answer must follow
    #[arg(long, value_name = "FILE")]
    schema: Option<std::path::PathBuf>,
    /// Threads; 0 uses all
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

pub(crate) async fn run(args: RunArgs, context: &Context) -> Result<()> {
    let model = match Generative::of_folder(Path::new(&args.model), &context.models_dir)? {
        Some(adapted) => adapted,
        None => {
            let installed = installed::load(&context.models_dir, &args.model)?;
            if installed.kind != Kind::Generative {
                return Err(Error::invalid(format!(
                    "run `{}`: it is not a generative model; `understudy list` shows which are",
                    args.model
                )));
            }
            Generative::of_installed(&installed)?
        }
    };
    let request = request(&args)?;
    let clock = SystemClock::new();
    let options = GeneratorOptions {
        threads: cores(args.threads),
        context_tokens: 8_192,
        max_sequences: 1,
        ..model.options(&args.model)
    };
    let generator = Generator::load(&model.gguf, options)?;
    let began = clock.monotonic();
    let mut stream = generator.stream(&request).await?;
    let mut out = std::io::stdout();
    while let Some(event) = stream.next().await {
        match event? {
            Event::Delta { text, .. } if !context.json => {
                print!("{text}");
                out.flush().map_err(|e| Error::unavailable(format!("write to the terminal: {e}")))?;
            }
            Event::Delta { .. } => {}
            Event::End(answer) => {
                let seconds = clock.monotonic().saturating_sub(began).as_secs_f64();
                let rate = answer.usage.output_tokens as f64 / seconds;
                if context.json {
                    return terminal::json(&serde_json::json!({
                        "model": args.model, "text": answer.text, "finish": answer.finish,
                        "input_tokens": answer.usage.input_tokens, "output_tokens": answer.usage.output_tokens,
                        "seconds": seconds,
                    }));
                }
                println!();
                if std::io::stderr().is_terminal() {
                    terminal::note(format_args!("{} tokens, {rate:.0} tokens/s", answer.usage.output_tokens));
                }
                return Ok(());
            }
        }
    }
    Err(Error::unavailable("answer: the model stopped without an end"))
}

fn request(args: &RunArgs) -> Result<Request> {
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| Error::invalid(format!("read the question: {e}")))?;
            text
        }
    };
    if prompt.trim().is_empty() {
        return Err(Error::invalid("ask: the question is empty; write it behind the model's name or pipe it in"));
    }
    let system = args.system.iter().map(|text| Message { role: Role::System, text: text.clone() });
    let messages = system.chain([Message { role: Role::User, text: prompt }]).collect();
    let mut request = Request::new(TraceId::from_parts(0, 0), ModelName::new(args.model.clone()), messages);
    request.delivery = Delivery::Stream;
    request.sampling = Sampling {
        temperature: Some(args.temperature),
        max_tokens: Some(args.max_tokens),
        seed: args.seed,
        ..Sampling::default()
    };
    if let Some(path) = &args.schema {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::not_found(format!("read schema {}: {e}", path.display())))?;
        let schema =
            serde_json::from_str(&text).map_err(|e| Error::invalid(format!("read schema {}: {e}", path.display())))?;
        request.format = OutputFormat::JsonSchema(schema);
    }
    Ok(request)
}
