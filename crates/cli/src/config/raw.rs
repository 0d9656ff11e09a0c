//! The configuration as written: unchecked, every field optional that has a default. Unknown keys are errors.

use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    pub(super) server: Server,
    pub(super) store: Store,
    pub(super) models: Models,
    pub(super) upstream: BTreeMap<String, Upstream>,
    pub(super) model: BTreeMap<String, Model>,
    pub(super) local: BTreeMap<String, Local>,
    pub(super) task: BTreeMap<String, Task>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) api_keys: Vec<String>,
    pub(super) default_upstream: Option<String>,
    pub(super) default_model: Option<String>,
    pub(super) timeout_s: u64,
    pub(super) drain_s: u64,
    pub(super) body_limit_mb: u64,
    pub(super) threads: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8484".to_owned(),
            api_keys: Vec::new(),
            default_upstream: None,
            default_model: None,
            timeout_s: 600,
            drain_s: 30,
            body_limit_mb: 20,
            threads: 0,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) path: String,
    pub(super) durability: String,
    pub(super) texts: String,
}

impl Default for Store {
    fn default() -> Self {
        Self { path: "understudy.db".to_owned(), durability: "power".to_owned(), texts: "full".to_owned() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Models {
    pub(super) dir: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) base_url: Option<String>,
    pub(super) api_key: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default = "two_minutes")]
    pub(super) timeout_s: u64,
    #[serde(default = "half_a_minute")]
    pub(super) idle_timeout_s: u64,
    #[serde(default = "two")]
    pub(super) retries: u32,
    pub(super) recorded: Option<String>,
    pub(super) recorded_model: Option<String>,
    pub(super) latency_ms: Option<f64>,
    pub(super) latency: Option<String>,
}

fn two_minutes() -> u64 {
    120
}

fn half_a_minute() -> u64 {
    30
}

fn two() -> u32 {
    2
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) upstream: Option<String>,
    pub(super) name_there: Option<String>,
    pub(super) price: Option<Price>,
    pub(super) context_tokens: Option<u32>,
    #[serde(default = "yes")]
    pub(super) multimodal: bool,
    #[serde(default = "yes")]
    pub(super) tools: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) input: f64,
    pub(super) cached_input: Option<f64>,
    pub(super) output: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Local {
    pub(super) model: Option<String>,
    pub(super) prompt: Option<PathBuf>,
    #[serde(default)]
    pub(super) threads: usize,
    #[serde(default = "int8")]
    pub(super) precision: String,
    #[serde(default = "eight")]
    pub(super) parallel: u32,
    #[serde(default = "two_thousand")]
    pub(super) context_tokens: u32,
}

fn int8() -> String {
    "int8".to_owned()
}

fn eight() -> u32 {
    8
}

fn two_thousand() -> u32 {
    2048
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Task {
    #[serde(default, rename = "match")]
    pub(super) rule: Rule,
    #[serde(default = "observe")]
    pub(super) mode: String,
    pub(super) large: Option<String>,
    pub(super) small: Option<String>,
    pub(super) router: Option<PathBuf>,
    pub(super) gate: Option<PathBuf>,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    #[serde(default)]
    pub(super) input: Input,
    #[serde(default)]
    pub(super) output: Output,
    #[serde(default = "any")]
    pub(super) privacy: String,
    #[serde(default = "a_tenth")]
    pub(super) audit: f64,
    #[serde(default = "two_percent")]
    pub(super) epsilon: f64,
    #[serde(default = "five_percent")]
    pub(super) delta: f64,
    #[serde(default)]
    pub(super) languages: Vec<String>,
}

fn observe() -> String {
    "observe".to_owned()
}

fn any() -> String {
    "any".to_owned()
}

fn a_tenth() -> f64 {
    0.1
}

fn two_percent() -> f64 {
    0.02
}

fn five_percent() -> f64 {
    0.05
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rule {
    pub(super) models: Vec<String>,
    pub(super) system_contains: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Input {
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
    pub(super) max_bytes: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Output {
    pub(super) template: Option<String>,
}
