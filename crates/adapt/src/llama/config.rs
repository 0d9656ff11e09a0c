//! The shape of a model.

use crate::llama::gguf::Gguf;
use serde::Deserialize;
use understudy_core::{Error, Result};

/// The shape of a model of the Llama family.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Tokens that it knows.
    pub vocabulary: usize,
    /// Numbers that stand for a token between layers.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Numbers per head.
    pub head_width: usize,
    /// Width of the feed-forward part.
    pub inner: usize,
    /// Added to the mean square in norms.
    pub epsilon: f32,
    /// Base of the rotary angles.
    pub theta: f64,
    /// Most tokens of a text.
    pub positions: usize,
}

/// What `config.json` says.
#[derive(Deserialize)]
struct Json {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    rms_norm_eps: f32,
    rope_theta: Option<f64>,
    rope_parameters: Option<Rope>,
    rope_scaling: Option<serde_json::Value>,
    max_position_embeddings: usize,
    hidden_act: String,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
}

#[derive(Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

/// Model types whose forward pass is Llama's.
const FAMILIES: [&str; 3] = ["llama", "qwen2", "mistral"];

impl LlamaConfig {
    /// From `config.json`.
    ///
    /// # Errors
    /// `Data` when it is not such a model or has a part that is not known here.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let json: Json = serde_json::from_slice(bytes).map_err(|e| Error::data(format!("read config.json: {e}")))?;
        let unknown = |what: String| Err(Error::data(format!("read config.json: {what} is not supported")));
        if !FAMILIES.contains(&json.model_type.as_str()) {
            return unknown(format!("model_type `{}` (supported: {})", json.model_type, FAMILIES.join(", ")));
        }
        if json.hidden_act != "silu" || json.mlp_bias || json.use_sliding_window {
            return unknown(
                "an activation other than silu, a bias in the feed-forward part or a sliding window".into(),
            );
        }
        let kind = json.rope_parameters.as_ref().and_then(|rope| rope.rope_type.as_deref()).unwrap_or("default");
        if json.rope_scaling.is_some_and(|scaling| !scaling.is_null()) || kind != "default" {
            return unknown("rope scaling".into());
        }
        let theta = json.rope_parameters.and_then(|rope| rope.rope_theta).or(json.rope_theta);
        Self {
            vocabulary: json.vocab_size,
            width: json.hidden_size,
            layers: json.num_hidden_layers,
            heads: json.num_attention_heads,
            kv_heads: json.num_key_value_heads.unwrap_or(json.num_attention_heads),
            head_width: json.head_dim.unwrap_or(json.hidden_size / json.num_attention_heads.max(1)),
            inner: json.intermediate_size,
            epsilon: json.rms_norm_eps,
            theta: theta.unwrap_or(10_000.0),
            positions: json.max_position_embeddings,
        }
        .check()
    }

    /// From the head of a GGUF file; `vocabulary` is the number of rows of its table of tokens.
    pub(crate) fn from_gguf(file: &Gguf, vocabulary: usize) -> Result<Self> {
        let family = file.text("general.architecture")?;
        if !FAMILIES.contains(&family) {
            return Err(Error::data(format!(
                "train the GGUF model: its architecture `{family}` is not supported (supported: {})",
                FAMILIES.join(", ")
            )));
        }
        let key = |name: &str| format!("{family}.{name}");
        if file.has(&key("rope.scaling.type")) && file.text(&key("rope.scaling.type"))? != "none" {
            return Err(Error::data("train the GGUF model: rope scaling is not supported"));
        }
        let (width, heads) = (file.number(&key("embedding_length"))?, file.number(&key("attention.head_count"))?);
        let or = |name: &str, default: f64| file.number(&key(name)).unwrap_or(default);
        Self {
            vocabulary,
            width: whole(width),
            layers: whole(file.number(&key("block_count"))?),
            heads: whole(heads),
            kv_heads: whole(or("attention.head_count_kv", heads)),
            head_width: whole(or("attention.key_length", width / heads.max(1.0))),
            inner: whole(file.number(&key("feed_forward_length"))?),
            epsilon: narrow(file.number(&key("attention.layer_norm_rms_epsilon"))?),
            theta: or("rope.freq_base", 10_000.0),
            positions: whole(or("context_length", 2048.0)),
        }
        .check()
    }

    fn check(self) -> Result<Self> {
        let positive =
            [self.vocabulary, self.width, self.layers, self.heads, self.kv_heads, self.inner, self.positions];
        let fits = !positive.contains(&0)
            && self.heads.is_multiple_of(self.kv_heads)
            && self.head_width > 0
            && self.head_width.is_multiple_of(2)
            && self.theta > 0.0;
        if fits { Ok(self) } else { Err(Error::data(format!("read the model's shape: {self:?} fits no model"))) }
    }

    /// Width of the rows of queries, keys and values together.
    pub(crate) fn qkv(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked afterwards; casts saturate")]
fn whole(x: f64) -> usize {
    x as usize
}

#[expect(clippy::cast_possible_truncation, reason = "it was stored as f32")]
fn narrow(x: f64) -> f32 {
    x as f32
}
