//! What the JSON files of a model folder say.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use understudy_core::{Error, Result};
use understudy_kernels::Pooling;

/// What says the model's shape.
pub const FILE: &str = "config.json";
/// What says how much of a text it was trained to read; may be missing.
pub const LIMITS: &str = "sentence_bert_config.json";
/// What says how token vectors become one; may be missing.
pub const POOLING: &str = "1_Pooling/config.json";

/// The architectures that differ in tensor names, positions and the bias of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// BERT, MiniLM, BGE.
    Bert,
    /// MPNet: relative positions bias the attention, no token types.
    Mpnet,
    /// DistilBERT: no token types.
    DistilBert,
}

/// A model's shape, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// How its tensors are called and what embeds a place.
    pub architecture: Architecture,
    /// Length of a token's vector.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Width of the feed-forward part.
    pub inner_width: usize,
    /// Rows of the table of words.
    pub vocabulary: usize,
    /// Rows of the table of positions.
    pub positions: usize,
    /// The row of a text's first token.
    pub first_position: usize,
    /// Rows of the table of token types (BERT).
    pub token_types: usize,
    /// ε of the layer norms.
    pub epsilon: f32,
    /// Rows of the table of relative positions (MPNet).
    pub relative_buckets: usize,
    /// The most tokens of a text, special ones included.
    pub max_tokens: usize,
    /// How token vectors become one vector.
    pub pooling: Pooling,
}

/// `config.json` as it comes; DistilBERT has names of its own.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_epsilon")]
    layer_norm_eps: f32,
    #[serde(alias = "activation")]
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    type_vocab_size: Option<usize>,
    pad_token_id: Option<usize>,
    relative_attention_num_buckets: Option<usize>,
}

fn default_epsilon() -> f32 {
    1e-12
}

/// `sentence_bert_config.json`.
#[derive(Deserialize)]
struct RawLimits {
    max_seq_length: Option<usize>,
}

/// `1_Pooling/config.json`.
#[derive(Deserialize)]
struct RawPooling {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    /// Newer folders say it in a word.
    pooling_mode: Option<String>,
}

impl Config {
    /// Reads and checks `config.json`, `sentence_bert_config.json` and `1_Pooling/config.json`.
    ///
    /// # Errors
    /// `NotFound` when there is no `config.json`, `Data` when a file says what is not supported.
    pub fn load(dir: &Path) -> Result<Self> {
        let file = dir.join(FILE);
        let raw: RawConfig = read_json(&file)?.ok_or_else(|| {
            Error::not_found(format!(
                "load encoder {}: it has no config.json; name a folder in Hugging Face's layout",
                dir.display()
            ))
        })?;
        let fail = |what: String| Error::data(format!("load encoder {}: {what}", file.display()));
        let architecture = match raw.model_type.as_deref() {
            Some("bert") => Architecture::Bert,
            Some("mpnet") => Architecture::Mpnet,
            Some("distilbert") => Architecture::DistilBert,
            other => {
                let other = other.unwrap_or("missing");
                return Err(fail(format!("model_type is {other}; supported are bert, mpnet and distilbert")));
            }
        };
        if let Some(activation) = raw.hidden_act.as_deref().filter(|a| *a != "gelu") {
            return Err(fail(format!("the activation is {activation}; supported is gelu")));
        }
        if let Some(kind) = raw.position_embedding_type.as_deref().filter(|kind| *kind != "absolute") {
            return Err(fail(format!("position_embedding_type is {kind}; supported is absolute")));
        }
        let (heads, width) = (raw.num_attention_heads, raw.hidden_size);
        if heads == 0 || width == 0 || width % heads != 0 {
            return Err(fail(format!("hidden_size {width} is not a multiple of {heads} attention heads")));
        }
        // MPNet counts positions from the one after the padding token's.
        let first_position = match architecture {
            Architecture::Mpnet => raw.pad_token_id.unwrap_or(1).saturating_add(1),
            Architecture::Bert | Architecture::DistilBert => 0,
        };
        let positions = raw.max_position_embeddings;
        if positions < first_position.saturating_add(3) {
            return Err(fail(format!("max_position_embeddings is {positions}: too few to read anything")));
        }
        let relative_buckets = raw.relative_attention_num_buckets.unwrap_or(32);
        if relative_buckets < 4 {
            return Err(fail(format!("relative_attention_num_buckets is {relative_buckets}: four are the fewest")));
        }
        let limits: Option<RawLimits> = read_json(&dir.join(LIMITS))?;
        let trained = limits.and_then(|limits| limits.max_seq_length).unwrap_or(usize::MAX);
        Ok(Self {
            architecture,
            width,
            layers: raw.num_hidden_layers,
            heads,
            inner_width: raw.intermediate_size,
            vocabulary: raw.vocab_size,
            positions,
            first_position,
            token_types: raw.type_vocab_size.unwrap_or(2),
            epsilon: raw.layer_norm_eps,
            relative_buckets,
            max_tokens: trained.max(3).min(positions - first_position),
            pooling: pooling(dir)?,
        })
    }
}

fn pooling(dir: &Path) -> Result<Pooling> {
    let file = dir.join(POOLING);
    let Some(raw) = read_json::<RawPooling>(&file)? else { return Ok(Pooling::Mean) };
    match (raw.pooling_mode_mean_tokens, raw.pooling_mode_cls_token, raw.pooling_mode.as_deref()) {
        (true, false, None) | (false, false, Some("mean")) => Ok(Pooling::Mean),
        (false, true, None) | (false, false, Some("cls")) => Ok(Pooling::Cls),
        _ => {
            Err(Error::data(format!("load encoder {}: supported pooling is mean or cls, one of them", file.display())))
        }
    }
}

/// Reads a JSON file; `None` when there is none.
fn read_json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    match std::fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::data(format!("read {}: {e}", file.display())))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::data(format!("read {}: {e}", file.display()))),
    }
}
