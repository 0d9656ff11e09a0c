//! The demo's surroundings: its folder, the answer key and its server, the gateway and its configuration.

use super::{
    DemoArgs,
    data::{self, Item, Order},
    report::count,
    traffic::{CLOSE, OPEN, message},
};
use crate::{
    commands::{Context, models::ensure, shown},
    gateway::Gateway,
    terminal,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Mode, Outcome, Price, RecordedAnswer, Result, Seed, Usage};
use understudy_upstream::prices;

/// Marks a folder as ours: only such a folder is cleared.
const MARKER: &str = ".understudy-demo";
/// The task's name.
pub(super) const TASK: &str = "triage";
/// The catalogue's name of the e-mail corpus.
const CORPUS: &str = "spamassassin";

/// What runs during the demo.
pub(super) struct Servers {
    pub(super) gateway: Gateway,
    /// The answer key's server.
    pub(super) upstream: Option<Gateway>,
    /// Where the large model answers.
    pub(super) url: String,
}

pub(super) struct World {
    pub(super) dir: PathBuf,
    pub(super) items: Vec<Item>,
    pub(super) labels: Vec<String>,
    pub(super) system: String,
    pub(super) price: Option<Price>,
    pub(super) is_mail: bool,
    /// Base URL of a real LLM.
    upstream: Option<String>,
    models_dir: PathBuf,
}

impl World {
    /// Installs what is missing, reads the data and lays the folder out.
    pub(super) async fn prepare(args: &DemoArgs, context: &Context, seed: Seed) -> Result<Self> {
        ensure(&args.base, &context.models_dir).await?;
        let mut items = match &args.data {
            Some(file) => data::rows(file, &args.text, &args.label)?,
            None => data::mails(ensure(CORPUS, &context.models_dir).await?.dir())?,
        };
        data::arrange(&mut items, args.order, seed)?;
        items.truncate(args.limit.unwrap_or(usize::MAX));
        let labels: BTreeSet<&String> = items.iter().filter_map(|item| item.label.as_ref()).collect();
        let labels: Vec<String> = labels.into_iter().cloned().collect();
        if labels.len() < 2 {
            return Err(Error::invalid(format!(
                "run the demo: the data has {} labels in the field `{}`; a classification needs at least two",
                labels.len(),
                args.label
            )));
        }
        if args.upstream.is_none() && items.iter().any(|item| item.label.is_none()) {
            return Err(Error::invalid(
                "run the demo without --upstream: the data's labels stand in for the large model, and some rows have none",
            ));
        }
        let dir = clear(&args.out)?;
        let world = Self {
            system: format!(
                "You classify texts. Answer with exactly one of these labels and nothing else: {}.",
                labels.join(", ")
            ),
            price: prices::price_of(&args.large),
            is_mail: args.data.is_none(),
            upstream: args.upstream.clone(),
            models_dir: context.models_dir.clone(),
            dir,
            items,
            labels,
        };
        if world.upstream.is_none() {
            world.write_answer_key(args)?;
        }
        Ok(world)
    }

    /// Whether the data's labels stand in for the large model.
    pub(super) fn has_answer_key(&self) -> bool {
        self.upstream.is_none()
    }

    /// How many items are observed; the rest is live.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    pub(super) fn observed(&self, args: &DemoArgs) -> usize {
        (self.items.len() as f64 * args.observe.clamp(0.05, 0.95)).round() as usize
    }

    /// Says what is about to happen, and what about it is not real.
    pub(super) fn introduce(&self, args: &DemoArgs) {
        let what = match self.is_mail {
            true => "e-mail triage: real e-mails of 2001–2002 from the SpamAssassin corpus, spam or ham".to_owned(),
            false => format!("texts of your own, {} labels", self.labels.len()),
        };
        terminal::heading(&format!("Understudy demo · {what}"));
        let order = match args.order {
            Order::Random => {
                "in a fixed random order: a certificate assumes that tomorrow's traffic is like the traffic it was calibrated on"
            }
            Order::Time => {
                "by date: this traffic drifts, which breaks what a certificate assumes; the audits must notice"
            }
        };
        terminal::say(format_args!("  {} requests over HTTP, {order}.", count(self.items.len() as u64)));
        match &self.upstream {
            Some(url) => terminal::say(format_args!("  Large model: {} at {url}.", args.large)),
            None => terminal::say(format_args!(
                "  Large model: NOT a real LLM but the data's answer key behind a real HTTP server, {} ms a request, at \
                 the prices of {}.",
                args.latency, args.large
            )),
        }
    }

    /// Starts the gateway, and the answer key's server where there is one.
    pub(super) async fn start(&self, args: &DemoArgs) -> Result<Servers> {
        let (url, upstream) = match &self.upstream {
            Some(url) => (url.clone(), None),
            None => {
                let key = Gateway::start(&self.dir.join("answer-key.toml")).await?;
                (format!("http://{}/v1", key.address), Some(key))
            }
        };
        self.configure(&url, Mode::Observe, args)?;
        Ok(Servers { gateway: Gateway::start(&self.configuration()).await?, upstream, url })
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.dir.join("understudy.toml")
    }

    /// Writes the gateway's configuration.
    pub(super) fn configure(&self, url: &str, mode: Mode, args: &DemoArgs) -> Result<()> {
        let text = self.render(url, mode, "127.0.0.1:0", args);
        write(&self.configuration(), &text)
    }

    fn render(&self, url: &str, mode: Mode, listen: &str, args: &DemoArgs) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let key = if self.upstream.is_some() { "api_key = \"env:OPENAI_API_KEY\"\n" } else { "" };
        let labels: Vec<String> = self.labels.iter().map(|label| quoted(label)).collect();
        let DemoArgs { large, epsilon, delta, audit, .. } = args;
        format!(
            "[server]\nlisten = {}\ndefault_upstream = \"llm\"\ndefault_model = {large}\n\n\
             [store]\npath = \"understudy.db\"\n\n\
             [models]\ndir = {}\n\n\
             [upstream.llm]\nbase_url = {}\n{key}\n\
             [task.{TASK}]\nmode = \"{}\"\nlarge = {large}\nlabels = [{}]\nepsilon = {epsilon:?}\ndelta = {delta:?}\n\
             audit = {audit:?}\n\n\
             [task.{TASK}.match]\nsystem_contains = {}\n\n\
             [task.{TASK}.input]\nafter = \"{OPEN}\"\nbefore = \"{CLOSE}\"\n",
            quoted(listen),
            quoted(&self.models_dir.display().to_string()),
            quoted(url),
            mode.as_str(),
            labels.join(", "),
            quoted(&self.system),
            large = quoted(large),
        )
    }

    /// The configuration that stays: on a fixed port, for an application of the user's.
    pub(super) fn leave_configuration(&self, args: &DemoArgs) -> Result<()> {
        let url = self.upstream.clone().unwrap_or_else(|| "http://127.0.0.1:8485/v1".to_owned());
        let text = self.render(&url, Mode::Live, "127.0.0.1:8484", args);
        write(&self.configuration(), &text)?;
        if self.upstream.is_none() {
            self.write_answer_key_server(args, "127.0.0.1:8485")?;
        }
        Ok(())
    }

    pub(super) fn say_goodbye(&self, args: &DemoArgs, files: &[PathBuf]) {
        terminal::heading("What next");
        for file in files {
            terminal::say(format_args!("  report          {}", shown(file)));
        }
        let config = shown(&self.configuration());
        terminal::say(format_args!("  every request   understudy -c {config} traces"));
        if self.upstream.is_none() {
            terminal::say(format_args!(
                "  run it again    understudy -c {} serve &   understudy -c {config} serve",
                shown(&self.dir.join("answer-key.toml"))
            ));
        } else {
            terminal::say(format_args!("  run it again    understudy -c {config} serve"));
        }
        terminal::say("  your app        set its OpenAI base URL to http://127.0.0.1:8484/v1; nothing else changes");
        terminal::say(format_args!(
            "  a real LLM      OPENAI_API_KEY=… understudy demo --upstream https://api.openai.com/v1 --large {}",
            args.large
        ));
        terminal::say("  your own data   understudy demo --data FILE.jsonl --text FIELD --label FIELD");
    }

    /// The labels as recorded outcomes of the large model, and the configuration of the server that answers them.
    fn write_answer_key(&self, args: &DemoArgs) -> Result<()> {
        let mut lines = String::new();
        for item in &self.items {
            let label = item.label.clone().expect("checked by prepare");
            let prompt = message(&item.text);
            // No tokeniser of the named LLM runs here, so tokens are estimated from the text's length.
            let usage = Usage::estimate(prompt.len() + self.system.len(), label.len());
            let answer = RecordedAnswer {
                quality: Some(1.0),
                answer: Some(label.clone()),
                tokens_in: Some(usage.input_tokens),
                tokens_out: Some(usage.output_tokens),
                ..RecordedAnswer::default()
            };
            let outcome = Outcome {
                id: item.id.clone(),
                task: TASK.to_owned(),
                system: Some(self.system.clone()),
                prompt,
                label: Some(label),
                models: [(args.large.clone(), answer)].into(),
                ..Outcome::default()
            };
            lines.push_str(&json!(outcome).to_string());
            lines.push('\n');
        }
        write(&self.dir.join("answer-key.jsonl"), &lines)?;
        self.write_answer_key_server(args, "127.0.0.1:0")
    }

    fn write_answer_key_server(&self, args: &DemoArgs, listen: &str) -> Result<()> {
        let text = format!(
            "# The demo's stand-in for an LLM: answers from a file.\n[server]\nlisten = \"{listen}\"\n\
             default_upstream = \"key\"\n\n[store]\npath = \"answer-key.db\"\ndurability = \"process\"\n\
             texts = \"dropped\"\n\n[upstream.key]\nrecorded = \"answer-key.jsonl\"\nlatency_ms = {:?}\n",
            args.latency
        );
        write(&self.dir.join("answer-key.toml"), &text)
    }
}

/// Makes the demo's folder, or clears it when an earlier demo made it.
fn clear(dir: &Path) -> Result<PathBuf> {
    let failed = |e: std::io::Error| Error::invalid(format!("prepare the folder {}: {e}", dir.display()));
    if dir.exists() {
        let empty = fs::read_dir(dir).map_err(failed)?.next().is_none();
        if !empty && !dir.join(MARKER).exists() {
            return Err(Error::invalid(format!(
                "use the folder {}: it is not empty and no earlier demo made it; --out names another",
                dir.display()
            )));
        }
        fs::remove_dir_all(dir).map_err(failed)?;
    }
    fs::create_dir_all(dir).map_err(failed)?;
    fs::write(dir.join(MARKER), "").map_err(failed)?;
    fs::canonicalize(dir).map_err(failed)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| Error::unavailable(format!("write {}: {e}", path.display())))
}
