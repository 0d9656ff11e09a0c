//! The configuration: one TOML file, read once, checked as a whole.
//!
//! [`raw`] is the file as written; this module turns it into values that hold what they promise. An error names the
//! file, the line, the key and the remedy. Nothing here opens a socket, a model or a database.

mod locate;
mod raw;
mod secret;
pub(crate) mod template;

use locate::Located;
use secrecy::SecretString;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use understudy_core::{
    Error, Mode, ModelName, Money, Price, Result, TaskSpec,
    task::{InputRule, MatchRule, OutputForm, Privacy},
};
use understudy_serve::{state::Limits, texts::TextPolicy};
use understudy_store::Durability;

/// Where small models are installed when nobody says otherwise.
pub(crate) fn default_models_dir() -> PathBuf {
    secret::default_models_dir(&secret::environment)
}

/// The file's usual name.
pub(crate) const FILE: &str = "understudy.toml";

/// A checked configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Folder of the file: relative paths start there.
    pub(crate) base: PathBuf,
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) models_dir: PathBuf,
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    pub(crate) models: BTreeMap<String, RemoteModel>,
    pub(crate) locals: BTreeMap<String, Local>,
    pub(crate) tasks: Vec<ConfiguredTask>,
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) api_keys: Vec<SecretString>,
    pub(crate) default_upstream: Option<String>,
    pub(crate) default_model: Option<ModelName>,
    pub(crate) limits: Limits,
    pub(crate) threads: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) texts: TextPolicy,
}

/// Where large models answer.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) source: Source,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) retries: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A server that speaks OpenAI's API.
    OpenAi {
        base_url: String,
        api_key: Option<SecretString>,
        /// `env:NAME` or `file:PATH`, as configured.
        api_key_from: Option<String>,
        headers: BTreeMap<String, SecretString>,
    },
    /// A file of recorded outcomes.
    Recorded { file: PathBuf, model: Option<String>, latency: Latency },
}

/// How long a recorded answer takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Latency {
    None,
    Recorded,
    FixedMs(f64),
}

#[derive(Debug, Clone)]
pub(crate) struct RemoteModel {
    pub(crate) upstream: String,
    pub(crate) name_there: String,
    pub(crate) price: Option<Price>,
    pub(crate) context_tokens: Option<u32>,
    pub(crate) multimodal: bool,
    pub(crate) tools: bool,
}

/// A model of the catalogue that is served under its own name.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) model: String,
    /// File of the prompt that it is asked with, relative to the configuration.
    pub(crate) prompt: Option<PathBuf>,
    pub(crate) threads: usize,
    pub(crate) precision: Precision,
    pub(crate) parallel: u32,
    pub(crate) context_tokens: u32,
}

/// Number format of an encoder's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    Int8,
    F32,
}

#[derive(Debug, Clone)]
pub(crate) struct ConfiguredTask {
    pub(crate) spec: TaskSpec,
    /// Longest input that the small model is tried on.
    pub(crate) max_bytes: Option<usize>,
    /// A trained router's file, relative to the configuration.
    pub(crate) router: Option<PathBuf>,
    /// A fitted gate's file, relative to the configuration.
    pub(crate) gate: Option<PathBuf>,
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to it.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `Invalid` with file, line, key and remedy for everything else.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!(
                "read configuration {}: there is no such file; `understudy init` writes one",
                path.display()
            )),
            _ => Error::invalid(format!("read configuration {}: {e}", path.display())),
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::parse(&path.display().to_string(), &text, &base, &secret::environment)
    }

    /// Checks the text of a file. `environment` looks up variables.
    pub(crate) fn parse(
        name: &str,
        text: &str,
        base: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let located = Located::new(name, text)?;
        let raw: raw::Config = toml::from_str(text).map_err(|e| located.syntax(&e))?;
        Checker { located: &located, base, environment }.config(raw)
    }
}

struct Checker<'a> {
    located: &'a Located,
    base: &'a Path,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Checker<'_> {
    fn config(&self, raw: raw::Config) -> Result<Config> {
        let upstreams = each(&raw.upstream, |name, u| self.upstream(name, u))?;
        let models = each(&raw.model, |name, m| self.model(name, m, &raw.server, &upstreams))?;
        let locals = each(&raw.local, |name, l| self.local(name, l))?;
        if let Some(name) = locals.keys().find(|name| models.contains_key(*name)) {
            return Err(self.wrong(&["local", name], "also a [model.…]: one name can mean only one model"));
        }
        let server = self.server(&raw.server, &upstreams, &models)?;
        let mut tasks = Vec::new();
        for name in self.located.keys("task") {
            tasks.push(self.task(&name, &raw.task[&name], &server, &models)?);
        }
        let models_dir = match &raw.models.dir {
            Some(dir) => self.path(dir),
            None => secret::default_models_dir(self.environment),
        };
        Ok(Config {
            base: self.base.to_owned(),
            server,
            store: self.store(&raw.store)?,
            models_dir,
            upstreams,
            models,
            locals,
            tasks,
        })
    }

    fn server(
        &self,
        raw: &raw::Server,
        upstreams: &BTreeMap<String, Upstream>,
        models: &BTreeMap<String, RemoteModel>,
    ) -> Result<Server> {
        let listen: SocketAddr = raw.listen.parse().map_err(|_| {
            self.wrong(&["server", "listen"], "not an address and port; write for example \"127.0.0.1:8484\"")
        })?;
        let api_keys: Vec<SecretString> =
            raw.api_keys.iter().map(|key| self.secret(&["server", "api_keys"], key)).collect::<Result<_>>()?;
        if !listen.ip().is_loopback() && api_keys.is_empty() {
            return Err(self.wrong(
                &["server", "listen"],
                "reachable from other machines without a key; set api_keys = [\"env:UNDERSTUDY_API_KEY\"] or listen on \
                 127.0.0.1",
            ));
        }
        if let Some(name) = raw.default_upstream.as_ref().filter(|name| !upstreams.contains_key(*name)) {
            return Err(self.wrong(&["server", "default_upstream"], &unknown("upstream", name, upstreams.keys())));
        }
        if raw.default_upstream.is_none()
            && let Some(name) = raw.default_model.as_ref().filter(|name| !models.contains_key(*name))
        {
            return Err(self.wrong(&["server", "default_model"], &unknown("model", name, models.keys())));
        }
        let positive = |key: &str, value: u64| match value {
            0 => Err(self.wrong(&["server", key], "0; it must be at least 1")),
            value => Ok(value),
        };
        let limits = Limits {
            body_bytes: usize::try_from(positive("body_limit_mb", raw.body_limit_mb)?.min(4096)).unwrap_or(20) << 20,
            request: Duration::from_secs(positive("timeout_s", raw.timeout_s)?),
            drain: Duration::from_secs(raw.drain_s),
        };
        Ok(Server {
            listen,
            api_keys,
            default_upstream: raw.default_upstream.clone(),
            default_model: raw.default_model.as_deref().map(ModelName::from),
            limits,
            threads: raw.threads,
        })
    }

    fn store(&self, raw: &raw::Store) -> Result<Store> {
        let durability = self.choice(
            &["store", "durability"],
            &raw.durability,
            &[("power", Durability::Power), ("process", Durability::Process)],
        )?;
        let texts = self.choice(
            &["store", "texts"],
            &raw.texts,
            &[("full", TextPolicy::Full), ("redacted", TextPolicy::Redacted), ("dropped", TextPolicy::Dropped)],
        )?;
        Ok(Store { path: self.path(&raw.path), durability, texts })
    }

    fn upstream(&self, name: &str, raw: &raw::Upstream) -> Result<Upstream> {
        let at = ["upstream", name];
        let source = match (&raw.base_url, &raw.recorded) {
            (Some(url), None) => {
                let scheme = url.split_once("://").map(|(scheme, rest)| (scheme, !rest.is_empty()));
                if !matches!(scheme, Some(("http" | "https", true))) {
                    return Err(self.wrong(
                        &["upstream", name, "base_url"],
                        "not an http(s) URL; write for example \"https://api.openai.com/v1\"",
                    ));
                }
                let api_key = raw.api_key.as_ref().map(|key| self.secret(&["upstream", name, "api_key"], key));
                let at = ["upstream", name, "headers"];
                // A header such as `api-key` may be a secret, so it may be taken from elsewhere; it need not be.
                let headers = raw.headers.iter().map(|(header, value)| {
                    let elsewhere = value.starts_with("env:") || value.starts_with("file:");
                    let value = if elsewhere { self.secret(&at, value)? } else { SecretString::from(value.clone()) };
                    Ok((header.clone(), value))
                });
                let headers = headers.collect::<Result<_>>()?;
                let (api_key, api_key_from) = (api_key.transpose()?, raw.api_key.clone());
                Source::OpenAi { base_url: url.clone(), api_key, api_key_from, headers }
            }
            (None, Some(file)) => {
                let latency = match (raw.latency.as_deref(), raw.latency_ms) {
                    (None, None) | (Some("none"), None) => Latency::None,
                    (Some("recorded"), None) => Latency::Recorded,
                    (None, Some(ms)) if ms.is_finite() && ms >= 0.0 => Latency::FixedMs(ms),
                    _ => {
                        return Err(self.wrong(&at, "latency is \"none\" or \"recorded\", or set latency_ms alone"));
                    }
                };
                Source::Recorded { file: self.path(file), model: raw.recorded_model.clone(), latency }
            }
            _ => return Err(self.wrong(&at, "either base_url (a server) or recorded (a file) must be set, not both")),
        };
        Ok(Upstream {
            source,
            timeout: Duration::from_secs(raw.timeout_s.max(1)),
            idle_timeout: Duration::from_secs(raw.idle_timeout_s.max(1)),
            retries: raw.retries,
        })
    }

    fn model(
        &self,
        name: &str,
        raw: &raw::Model,
        server: &raw::Server,
        upstreams: &BTreeMap<String, Upstream>,
    ) -> Result<RemoteModel> {
        let Some(upstream) = raw.upstream.clone().or_else(|| server.default_upstream.clone()) else {
            return Err(self.wrong(&["model", name], "no upstream; set upstream = \"…\" or [server] default_upstream"));
        };
        if !upstreams.contains_key(&upstream) {
            return Err(self.wrong(&["model", name, "upstream"], &unknown("upstream", &upstream, upstreams.keys())));
        }
        let name_there = raw.name_there.clone().unwrap_or_else(|| name.to_owned());
        let price = match &raw.price {
            Some(price) => Some(self.price(&["model", name, "price"], price)?),
            None => understudy_upstream::prices::price_of(&name_there),
        };
        Ok(RemoteModel {
            upstream,
            name_there,
            price,
            context_tokens: raw.context_tokens,
            multimodal: raw.multimodal,
            tools: raw.tools,
        })
    }

    fn price(&self, at: &[&str], raw: &raw::Price) -> Result<Price> {
        let usd = |value: f64| match Money::from_usd(value) {
            Ok(money) if value >= 0.0 => Ok(money),
            _ => Err(self.wrong(at, "not an amount of USD per million tokens")),
        };
        Ok(Price {
            input_per_million: usd(raw.input)?,
            cached_input_per_million: usd(raw.cached_input.unwrap_or(raw.input))?,
            output_per_million: usd(raw.output)?,
        })
    }

    fn local(&self, name: &str, raw: &raw::Local) -> Result<Local> {
        let precision = self.choice(
            &["local", name, "precision"],
            &raw.precision,
            &[("int8", Precision::Int8), ("f32", Precision::F32)],
        )?;
        if raw.parallel == 0 || raw.context_tokens == 0 {
            return Err(self.wrong(&["local", name], "parallel and context_tokens must be at least 1"));
        }
        Ok(Local {
            model: raw.model.clone().unwrap_or_else(|| name.to_owned()),
            prompt: raw.prompt.clone(),
            threads: raw.threads,
            precision,
            parallel: raw.parallel,
            context_tokens: raw.context_tokens,
        })
    }

    fn task(
        &self,
        name: &str,
        raw: &raw::Task,
        server: &Server,
        models: &BTreeMap<String, RemoteModel>,
    ) -> Result<ConfiguredTask> {
        let at = |key| ["task", name, key];
        let mode = self.choice(
            &at("mode"),
            &raw.mode,
            &[("observe", Mode::Observe), ("shadow", Mode::Shadow), ("live", Mode::Live)],
        )?;
        let privacy =
            self.choice(&at("privacy"), &raw.privacy, &[("any", Privacy::Any), ("local_only", Privacy::LocalOnly)])?;
        let share = |key, value: f64| match value {
            v if v > 0.0 && v < 1.0 => Ok(v),
            _ => Err(self.wrong(&at(key), "not between 0 and 1; write for example 0.02 for 2 %")),
        };
        if !(0.0..=1.0).contains(&raw.audit) {
            return Err(self.wrong(&at("audit"), "not a probability between 0 and 1"));
        }
        if mode == Mode::Live && raw.audit == 0.0 && privacy == Privacy::Any {
            return Err(self.wrong(&at("audit"), "0 in live mode: without audits nobody notices when the certificate no longer holds; 0.05 to 0.2 is usual"));
        }
        if let Some(twice) = raw.labels.iter().enumerate().find(|(i, l)| raw.labels[..*i].contains(l)) {
            return Err(self.wrong(&at("labels"), &format!("`{}` appears twice", twice.1)));
        }
        if raw.labels.len() == 1 {
            return Err(self.wrong(&at("labels"), "one label; a classification needs at least two"));
        }
        if let Some(template) = &raw.output.template
            && template.matches("{label}").count() != 1
        {
            return Err(self.wrong(&["task", name, "output", "template"], "it must contain {label} exactly once"));
        }
        let large = match (privacy, raw.large.as_deref().or(server.default_model.as_ref().map(ModelName::as_str))) {
            (Privacy::LocalOnly, _) => None,
            (Privacy::Any, Some(large)) => {
                if !models.contains_key(large) && server.default_upstream.is_none() {
                    return Err(self.wrong(&at("large"), &unknown("model", large, models.keys())));
                }
                Some(ModelName::from(large))
            }
            (Privacy::Any, None) => {
                return Err(self.wrong(
                    &["task", name],
                    "no large model; set large = \"…\", [server] default_model, or privacy = \"local_only\"",
                ));
            }
        };
        let spec = TaskSpec {
            name: name.into(),
            rule: MatchRule {
                models: raw.rule.models.clone(),
                system_contains: raw.rule.system_contains.clone(),
                headers: raw.rule.headers.iter().map(|(k, v)| (k.to_lowercase(), v.clone())).collect(),
                metadata: raw.rule.metadata.clone(),
            },
            mode,
            large,
            small: raw.small.as_deref().map(ModelName::from),
            labels: raw.labels.clone(),
            input: InputRule { after: raw.input.after.clone(), before: raw.input.before.clone() },
            output: raw.output.template.clone().map_or(OutputForm::Label, OutputForm::Template),
            privacy,
            audit: raw.audit,
            epsilon: share("epsilon", raw.epsilon)?,
            delta: share("delta", raw.delta)?,
            languages: raw.languages.clone(),
        };
        Ok(ConfiguredTask { spec, max_bytes: raw.input.max_bytes, router: raw.router.clone(), gate: raw.gate.clone() })
    }

    fn choice<T: Copy>(&self, at: &[&str], value: &str, choices: &[(&str, T)]) -> Result<T> {
        choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.wrong(at, &format!("`{value}`; it is one of {}", names.join(", ")))
        })
    }

    fn secret(&self, at: &[&str], value: &str) -> Result<SecretString> {
        secret::resolve(value, self.base, self.environment).map_err(|what| self.wrong(at, &what))
    }

    fn path(&self, path: &str) -> PathBuf {
        match path.strip_prefix("~/").zip((self.environment)("HOME")) {
            Some((rest, home)) => Path::new(&home).join(rest),
            None => self.base.join(path),
        }
    }

    fn wrong(&self, at: &[&str], what: &str) -> Error {
        self.located.wrong(at, what)
    }
}

/// Checks the tables of one kind, by name.
fn each<R, T>(raw: &BTreeMap<String, R>, check: impl Fn(&str, &R) -> Result<T>) -> Result<BTreeMap<String, T>> {
    raw.iter().map(|(name, value)| Ok((name.clone(), check(name, value)?))).collect()
}

fn unknown<'n>(kind: &str, name: &str, known: impl Iterator<Item = &'n String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    match known.is_empty() {
        true => format!("`{name}`, but no [{kind}.…] is configured"),
        false => format!("`{name}`, which is not configured; there is {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests;
