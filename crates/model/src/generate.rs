//! Generative models in this process: any GGUF file that llama.cpp runs.
//!
//! Owns chat templates, continuous batching, prefix reuse, sampling, grammars and the import of GGUF files. One thread
//! owns a model's context; requests reach it over the bounded queue of their [`Generator`], of which several may share
//! the model, each with an adapter of its own. It decides nothing about
//! routing and downloads nothing. `serve` calls it as a [`Backend`], `pilot` and the command line as well.
//!
//! *Reproducibility.* The same request with the same seed gives the same text on the same machine and build, as long
//! as it runs alone. In company its prompt is cut elsewhere, and llama.cpp's attention takes another kernel for 64
//! tokens of a prompt or more, which rounds otherwise: with 8-bit activations that moved a log-probability of
//! SmolLM2-135M by up to 0.3, enough to turn a near-tie. With `max_batch` below 64 the answers were equal bit for bit
//! (x86-64, Q8_0, no adapter: its products round by the size of the batch, which moved one by 0.3), at slower prompts; so
//! they are only up to 511 tokens where there are several threads, among which an answer that runs alone splits longer
//! attention. Without a seed, sampling is seeded by the request's id.

mod chat;
mod choices;
mod engine;
mod grammar;
mod import;
mod options;
mod prompt;
mod quantise;
mod running;
mod sample;
mod score;
mod slots;
mod speed;
mod text;
mod turns;
mod writing;

#[cfg(test)]
mod tests;

pub use chat::ChatTokens;
pub use import::{FileType, Importance, Imported, file_type, import_gguf, quantise};
pub use options::{EngineOptions, GeneratorOptions, PrefixReuse};
pub use score::Scorer;
pub use speed::{Speed, speed};

use choices::Choices;
use engine::Job;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use grammar::{Constraint, Forbidden};
use llama_cpp_2::{
    LlamaContextLoadError, LogOptions, context::LlamaContext, llama_backend::LlamaBackend, model::LlamaModel,
    send_logs_to_tracing,
};
use options::context_params;
use prompt::ChatTemplate;
use running::Running;
use sample::Sampler;
use score::load_with_adapters;
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};
use tokio::sync::{
    Semaphore,
    mpsc::{UnboundedReceiver, unbounded_channel},
};
use understudy_core::{
    Answer, AnswerStream, Backend, Capabilities, Error, ErrorKind, Event, Message, ModelName, Place, Request, Result,
    Seed,
    request::{Delivery, OutputFormat, Sampling},
};
use writing::Candidates;

/// What preparing a request needs; shared with the threads that do it.
#[derive(Debug)]
struct Prepare {
    model: Arc<LlamaModel>,
    template: ChatTemplate,
    forbidden: Arc<Forbidden>,
    options: GeneratorOptions,
}

/// A loaded model that answers. Dropping the last one on an engine ends its thread; unfinished answers end with
/// `Unavailable`.
#[derive(Debug)]
pub struct Generator {
    prepare: Arc<Prepare>,
    capabilities: Capabilities,
    queue: Arc<Semaphore>,
    /// Its adapter's place among those of the engine.
    adapter: Option<usize>,
    engine: Arc<Running>,
}

impl Generator {
    /// Loads a GGUF file. Blocks while it reads (the file is memory-mapped) and allocates the cache.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `Data` when llama.cpp cannot read it or its adapter, or it has no template,
    /// `Invalid` when an option is out of range, `Internal` when memory does not suffice.
    pub fn load(path: &Path, options: GeneratorOptions) -> Result<Self> {
        let mut all = Self::load_all(path, vec![options])?;
        Ok(all.pop().expect("one for each of the options"))
    }

    /// Loads a GGUF file once for several names, in their order, each with an adapter of its own or none. They share
    /// weights, cache, threads and `max_sequences`; llama.cpp computes one adapter at a time, so they take turns of a few
    /// steps.
    ///
    /// # Errors
    /// As [`Generator::load`]; `Invalid` also when there is no name, or two differ in what they would share.
    pub fn load_all(path: &Path, mut all: Vec<GeneratorOptions>) -> Result<Vec<Self>> {
        let what = format!("load model {}", path.display());
        let Some(first) = all.first() else { return Err(Error::invalid(format!("{what}: under at least one name"))) };
        let shared = first.engine();
        for options in &all {
            options.check()?;
            if options.engine() != shared {
                return Err(Error::invalid(format!(
                    "{what}: `{}` and `{}` are to share it and want other threads, contexts or batches",
                    first.name, options.name
                )));
            }
        }
        let mut files: Vec<&Path> = all.iter().filter_map(|options| options.adapter.as_deref()).collect();
        files.sort_unstable();
        files.dedup();
        let (model, adapters) = load_with_adapters(path, &files)?;
        let places: Vec<Option<usize>> =
            all.iter().map(|options| files.binary_search(&options.adapter.as_deref()?).ok()).collect();
        let model = Arc::new(model);
        let forbidden = Arc::new(Forbidden::of(&model));
        for options in &mut all {
            options.context_tokens = options.context_tokens.min(model.n_ctx_train().max(16));
        }
        let templates = all.iter().map(|options| ChatTemplate::of(&model, options.template.as_deref()));
        let templates = templates.collect::<Result<Vec<_>>>().map_err(|e| e.context(&what))?;
        let engine = Arc::new(Running::start(&model, adapters, all[0].clone()).map_err(|e| e.context(&what))?);
        let generators = all.into_iter().zip(places).zip(templates).map(|((options, adapter), template)| {
            let places = options.max_waiting + options.max_sequences as usize;
            Self {
                capabilities: Capabilities {
                    context_tokens: Some(options.context_tokens),
                    ..Capabilities::of_text(Place::Local)
                },
                queue: Arc::new(Semaphore::new(places)),
                prepare: Arc::new(Prepare {
                    model: Arc::clone(&model),
                    template,
                    forbidden: Arc::clone(&forbidden),
                    options,
                }),
                adapter,
                engine: Arc::clone(&engine),
            }
        });
        Ok(generators.collect())
    }

    /// Number of parameters of the model.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.prepare.model.n_params()
    }

    /// Number of tokens of the prompt that `messages` make, by the model's own template and tokeniser.
    ///
    /// # Errors
    /// `Invalid` when the template refuses the messages.
    pub fn count_tokens(&self, messages: &[Message]) -> Result<usize> {
        let prompt = self.prepare.template.render(&self.prepare.model, messages)?;
        Ok(prompt::tokenise(&self.prepare.model, &prompt).len())
    }

    /// Prepares the request and hands it to the engine.
    async fn submit(&self, request: &Request, delivery: Delivery) -> Result<UnboundedReceiver<Result<Event>>> {
        let permit = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| {
            Error::new(
                ErrorKind::Overloaded,
                format!("queue the request: {} already wait for {}", self.prepare.options.max_waiting, self.name()),
            )
            .with_retry_after(1)
        })?;
        refuse_needs(request)?;
        let parts = Parts {
            messages: request.messages.clone(),
            sampling: request.sampling.clone(),
            format: request.format.clone(),
            seed: request.sampling.seed.unwrap_or_else(|| Seed(0).derive(&request.id.to_string()).0),
        };
        let prepare = Arc::clone(&self.prepare);
        // The place goes along: a client that leaves does not stop this work, so it must not make room for more of it.
        let prepare = move || prepare.prepare(&parts).map(|prepared| (prepared, permit));
        // Tokenising a long prompt and compiling a grammar take milliseconds, which the runtime's threads do not have.
        let (prepared, permit) = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(prepare)
                .await
                .map_err(|_| Error::internal("prepare the request: its thread ended"))?,
            Err(_) => prepare(),
        }?;
        let (reply, events) = unbounded_channel();
        let job = Job {
            name: self.name().clone(),
            adapter: self.adapter,
            prompt: prepared.prompt,
            max_tokens: prepared.max_tokens,
            sampler: prepared.sampler,
            choices: prepared.choices,
            stop: request.sampling.stop.clone(),
            delivery,
            reply,
            _permit: permit,
        };
        self.engine.submit(job)?;
        Ok(events)
    }

    async fn whole(&self, request: &Request) -> Result<Answer> {
        let mut events = self.submit(request, Delivery::Whole).await?;
        while let Some(event) = events.recv().await {
            if let Event::End(answer) = event? {
                return Ok(*answer);
            }
        }
        Err(stopped())
    }

    async fn pieces(&self, request: &Request) -> Result<AnswerStream> {
        let events = self.submit(request, Delivery::Stream).await?;
        let stream = stream::unfold(Some(events), |state| async move {
            let mut events = state?;
            match events.recv().await {
                Some(Ok(Event::End(answer))) => Some((Ok(Event::End(answer)), None)),
                Some(Ok(event)) => Some((Ok(event), Some(events))),
                Some(Err(error)) => Some((Err(error), None)),
                None => Some((Err(stopped()), None)),
            }
        });
        Ok(stream.boxed())
    }
}

impl Backend for Generator {
    fn name(&self) -> &ModelName {
        &self.prepare.options.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        self.whole(request).boxed()
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<AnswerStream>> {
        self.pieces(request).boxed()
    }
}

/// The parts of a request that preparing it reads.
#[derive(Debug)]
struct Parts {
    messages: Vec<Message>,
    sampling: Sampling,
    format: OutputFormat,
    seed: u64,
}

/// A request that nothing is wrong with.
#[derive(Debug)]
struct Prepared {
    prompt: Vec<llama_cpp_2::token::LlamaToken>,
    max_tokens: usize,
    sampler: Sampler,
    choices: Option<Candidates>,
}

impl Prepare {
    fn prepare(&self, parts: &Parts) -> Result<Prepared> {
        let text = self.template.render(&self.model, &parts.messages)?;
        let prompt = prompt::tokenise(&self.model, &text);
        let choices = match &parts.format {
            OutputFormat::OneOf(texts) => Some(self.candidates(texts)?),
            _ => None,
        };
        let asked = match &choices {
            // The texts say how long an answer is.
            Some(candidates) => Some(u32::try_from(candidates.choices.longest().max(1)).unwrap_or(u32::MAX)),
            None => parts.sampling.max_tokens,
        };
        let max_tokens = self.answer_length(prompt.len(), asked)?;
        let constraint = Constraint::compile(&self.model, &self.forbidden, &parts.format)?;
        let sampler = Sampler::new(&parts.sampling, self.options.temperature, parts.seed, constraint)?;
        Ok(Prepared { prompt, max_tokens, sampler, choices })
    }

    /// The texts that the answer is one of, as tokens.
    fn candidates(&self, texts: &[String]) -> Result<Candidates> {
        let tokens: Vec<_> =
            texts.iter().map(|text| self.model.vocab().tokenize(text.as_bytes(), false, false)).collect();
        if texts.is_empty() || tokens.iter().any(Vec::is_empty) {
            return Err(Error::invalid("choose a text: give at least one, and none that is empty"));
        }
        Ok(Candidates { texts: texts.to_vec(), choices: Choices::new(&tokens) })
    }

    /// Most tokens to draw: what the request asks for, else the default as far as it fits.
    fn answer_length(&self, prompt: usize, asked: Option<u32>) -> Result<usize> {
        let room = (self.options.context_tokens as usize).saturating_sub(prompt);
        let wanted = asked.map(|n| n as usize);
        if prompt == 0 || wanted == Some(0) {
            return Err(Error::invalid("answer: the prompt or max_tokens is empty").with_param("max_tokens"));
        }
        if room == 0 || wanted.is_some_and(|n| n > room) {
            let asked = wanted.map_or_else(String::new, |n| format!(" and {n} are asked for"));
            return Err(Error::invalid(format!(
                "fit the request into the context: prompt has {prompt} tokens{asked}, the model takes {}",
                self.options.context_tokens
            ))
            .with_param(if room == 0 { "messages" } else { "max_tokens" }));
        }
        Ok(wanted.unwrap_or_else(|| room.min(self.options.answer_tokens as usize).max(1)))
    }
}

fn refuse_needs(request: &Request) -> Result<()> {
    let what = if request.needs.multimodal {
        "images, audio or files"
    } else if request.needs.tools {
        "tools"
    } else if request.needs.many_choices {
        "several choices"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("answer with a local model: it takes no {what}; ask a large model")))
}

fn stopped() -> Error {
    Error::unavailable("answer: the model's thread has ended; load the model again")
}

/// With flash attention a token's logits do not depend on how its prompt was cut into batches (below 64 tokens);
/// llama.cpp's other path rounds through f16. A model that cannot have it gets the other path.
fn new_context<'m>(
    model: &'m LlamaModel,
    options: &GeneratorOptions,
) -> Result<LlamaContext<'m>, LlamaContextLoadError> {
    let params = |flash| context_params(options).with_flash_attention_policy(flash);
    model
        .new_context(backend(), params(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED))
        .or_else(|_| model.new_context(backend(), params(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO)))
}

/// llama.cpp's process-wide state.
fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    silence();
    // Somebody else in the process may have initialised it already, which is as good. (Not `unwrap_or`: dropping the
    // spare would shut the backend down.)
    BACKEND.get_or_init(|| LlamaBackend::init().unwrap_or_else(|_| LlamaBackend {}))
}

/// Sends llama.cpp's messages to `tracing`; by itself it writes pages to standard error.
fn silence() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| send_logs_to_tracing(LogOptions::default()));
}
